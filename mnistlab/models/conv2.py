"""Networks of two convolutions (2019: A2, A5, B21 to B24, C1)."""

from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import batchnorm, conv, dense, dropout, flatten, pool
from mnistlab.models.recipes import (
    l2_conv,
    l2_head,
    recipe_a,
    recipe_b,
    recipe_c,
    with_kernels,
)

conv2_a2 = Experiment(
    name="conv2_a2",
    layers=(
        conv(32, 3), conv(64, 3), pool(), dropout(0.25),
        flatten(), dense(128), dropout(0.5),
    ),
    recipe=recipe_a,
)  # fmt: skip

conv2_a5 = Experiment(
    name="conv2_a5",
    layers=(
        conv(64, 3), pool(), conv(32, 5), pool(), dropout(0.4), batchnorm(),
        flatten(), dense(64),
    ),
    recipe=recipe_a,
)  # fmt: skip

conv2_b21 = Experiment(
    name="conv2_b21",
    layers=(
        conv(32, 3), pool(), conv(64, 3), pool(),
        flatten(), dense(128), dense(64),
    ),
    recipe=recipe_b,
)  # fmt: skip

conv2_b22 = with_kernels(5, conv2_b21, "conv2_b22")

conv2_b23 = Experiment(
    name="conv2_b23",
    layers=(
        l2_conv(32, 3), pool(), dropout(0.5),
        l2_conv(64, 3), pool(), dropout(0.5),
        *l2_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv2_b24 = with_kernels(5, conv2_b23, "conv2_b24")

conv2_c1 = Experiment(
    name="conv2_c1",
    layers=(
        conv(100, 3), pool(), conv(250, 5), dropout(0.25), batchnorm(), flatten(),
    ),
    recipe=recipe_c,
)  # fmt: skip

FAMILY = (
    conv2_a2, conv2_a5, conv2_b21, conv2_b22, conv2_b23, conv2_b24, conv2_c1,
)  # fmt: skip
