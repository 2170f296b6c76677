"""Networks of five convolutions (2019: B34, B51 to B54, C2, D2)."""

from functools import partial

from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import batchnorm, conv, dense, dropout, flatten, pool
from mnistlab.models.recipes import (
    l2_conv,
    l2_head,
    recipe_b,
    recipe_c,
    recipe_d,
    with_kernels,
)

same_conv = partial(conv, padding="same")
same_pool = pool(padding="same")
same_l2_conv = partial(l2_conv, padding="same")
plain_head = (
    flatten(),
    dense(128), batchnorm(), dropout(0.5),
    dense(64), batchnorm(), dropout(0.5),
)  # fmt: skip

# 2019 filed B34 under "3 ConvNets"; it has five convolutions.
conv5_b34 = Experiment(
    name="conv5_b34",
    layers=(
        same_l2_conv(32, 5), same_pool, dropout(0.5),
        same_l2_conv(64, 5), same_pool, dropout(0.5),
        same_l2_conv(32, 5), same_pool, dropout(0.5),
        same_l2_conv(32, 5), pool(), dropout(0.5),
        same_l2_conv(32, 5), same_pool, dropout(0.5),
        *l2_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv5_b51 = Experiment(
    name="conv5_b51",
    layers=(
        same_conv(32, 3), same_pool,
        same_conv(64, 3), same_pool,
        same_conv(64, 3), same_pool,
        same_conv(64, 3), same_pool,
        same_conv(32, 3), same_pool,
        *plain_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv5_b52 = with_kernels(5, conv5_b51, "conv5_b52")

conv5_b53 = Experiment(
    name="conv5_b53",
    layers=(
        same_l2_conv(32, 3), same_pool, dropout(0.5),
        same_l2_conv(64, 3), same_pool, dropout(0.5),
        same_l2_conv(64, 3), same_pool, dropout(0.5),
        same_l2_conv(64, 3), same_pool, dropout(0.5),
        same_l2_conv(32, 3), same_pool, dropout(0.5),
        *l2_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv5_b54 = with_kernels(5, conv5_b53, "conv5_b54")

conv5_c2 = Experiment(
    name="conv5_c2",
    layers=(
        conv(350, 5), pool(), conv(100, 4), dropout(0.5), pool(3),
        conv(75, 3), dropout(0.3), conv(40, 1), dropout(0.5),
        conv(25, 1), dropout(0.7), flatten(),
    ),
    recipe=recipe_c,
)  # fmt: skip

conv5_d2 = Experiment(
    name="conv5_d2",
    layers=(
        same_conv(32, 5), same_conv(64, 5), pool(), dropout(0.25),
        same_conv(96, 5), pool(), dropout(0.25),
        same_conv(128, 5), pool(), dropout(0.25),
        same_conv(164, 5), pool(), dropout(0.25),
        flatten(), dense(256, initializer="he_normal"), batchnorm(), dropout(0.5),
    ),
    recipe=recipe_d,
)  # fmt: skip

FAMILY = (
    conv5_b34, conv5_b51, conv5_b52, conv5_b53, conv5_b54, conv5_c2, conv5_d2,
)  # fmt: skip
