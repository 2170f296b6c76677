"""Networks of three convolutions (2019: A1, A3, A4, B31 to B33, D1)."""

from dataclasses import replace

from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import adam, batchnorm, conv, dense, dropout, flatten, pool
from mnistlab.models.recipes import l2_conv, l2_head, recipe_a, recipe_b, recipe_d

conv3_a1 = Experiment(
    name="conv3_a1",
    layers=(
        conv(32, 3), conv(64, 3), pool(), dropout(0.25),
        conv(128, 3), pool(), flatten(), dense(128), dropout(0.5),
    ),
    recipe=recipe_a,
)  # fmt: skip

# 2019's table says Adadelta and dropout for A3; its code has Adam and none.
conv3_a3 = Experiment(
    name="conv3_a3",
    layers=(
        conv(128, 3), conv(64, 5), pool(),
        conv(32, 3), batchnorm(), pool(),
        flatten(), dense(128), dense(32), batchnorm(),
    ),
    recipe=replace(recipe_a, optimizer=adam()),
)  # fmt: skip

conv3_a4 = Experiment(
    name="conv3_a4",
    layers=(
        conv(64, 3), pool(), conv(32, 5), dropout(0.25),
        conv(16, 3), pool(), dropout(0.4), batchnorm(),
        flatten(), dense(64),
    ),
    recipe=recipe_a,
)  # fmt: skip

conv3_b31 = Experiment(
    name="conv3_b31",
    layers=(
        conv(32, 3), pool(), conv(64, 3), pool(), conv(32, 3), pool(),
        flatten(), dense(128), dense(64),
    ),
    recipe=recipe_b,
)  # fmt: skip

conv3_b32 = Experiment(
    name="conv3_b32",
    layers=(
        conv(32, 5, padding="same"), pool(),
        conv(64, 5, padding="same"), pool(),
        conv(32, 5, padding="same"), pool(),
        flatten(), dense(128), dense(64),
    ),
    recipe=recipe_b,
)  # fmt: skip

conv3_b33 = Experiment(
    name="conv3_b33",
    layers=(
        l2_conv(32, 3), pool(), dropout(0.5),
        l2_conv(64, 3), pool(), dropout(0.5),
        l2_conv(32, 3), pool(), dropout(0.5),
        *l2_head,
    ),
    recipe=recipe_b,
)  # fmt: skip

conv3_d1 = Experiment(
    name="conv3_d1",
    layers=(
        conv(32, 3), conv(64, 3), dropout(0.25),
        conv(128, 3), pool(), dropout(0.25),
        flatten(), dense(256, initializer="he_normal"), dropout(0.5),
    ),
    recipe=recipe_d,
)  # fmt: skip

FAMILY = (
    conv3_a1, conv3_a3, conv3_a4, conv3_b31, conv3_b32, conv3_b33, conv3_d1,
)  # fmt: skip
