"""Networks of seven and more convolutions (2019: B71, B72, C3, D3)."""

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

conv7_b71 = Experiment(
    name="conv7_b71",
    layers=(
        same_l2_conv(32, 3), dropout(0.5),
        same_l2_conv(64, 3), dropout(0.5),
        same_l2_conv(64, 3), same_pool, dropout(0.5),
        same_l2_conv(64, 3), dropout(0.5),
        same_l2_conv(64, 3), dropout(0.5),
        same_l2_conv(32, 3), dropout(0.5), same_pool,
        same_l2_conv(32, 3), dropout(0.5),
        *l2_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv7_b72 = with_kernels(5, conv7_b71, "conv7_b72")

conv7_c3 = Experiment(
    name="conv7_c3",
    layers=(
        conv(100, 2), pool(4), conv(80, 4), pool(), dropout(0.25), batchnorm(),
        conv(70, 1), conv(50, 1), conv(60, 1), dropout(0.5),
        conv(100, 1), dropout(0.6), conv(100, 1), conv(250, 1), dropout(0.55),
        batchnorm(), flatten(),
    ),
    recipe=recipe_c,
)  # fmt: skip

conv7_d3 = Experiment(
    name="conv7_d3",
    layers=(
        same_conv(16, 2), same_conv(32, 2, stride=2), same_conv(64, 2), dropout(0.15),
        same_conv(96, 2), pool(), dropout(0.39),
        same_conv(128, 2), pool(), dropout(0.3),
        same_conv(164, 2), same_conv(164, 2), pool(), dropout(0.4),
        flatten(),
        dense(256, initializer="he_normal"), batchnorm(), dropout(0.5),
        dense(148, initializer="he_normal"), batchnorm(), dropout(0.5),
        dense(128, initializer="he_normal"), batchnorm(), dropout(0.5),
    ),
    recipe=recipe_d,
)  # fmt: skip

FAMILY = (conv7_b71, conv7_b72, conv7_c3, conv7_d3)
