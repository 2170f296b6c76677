"""Multilayer perceptrons: no convolution, images as rows of 784 numbers (2019: E)."""

from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import batchnorm, dense, dropout
from mnistlab.models.recipes import recipe_e

mlp_e1 = Experiment(
    name="mlp_e1",
    layers=(dense(512), dropout(0.4), dense(128)),
    recipe=recipe_e,
)

mlp_e2 = Experiment(
    name="mlp_e2",
    layers=(
        dense(500), dropout(0.4),
        dense(300), batchnorm(), dropout(0.4),
        dense(100), batchnorm(),
    ),
    recipe=recipe_e,
)  # fmt: skip

# The dropout rates after the first are illegible in 2019's page: 0.3 is assumed.
mlp_e3 = Experiment(
    name="mlp_e3",
    layers=(
        dense(500), dropout(0.3),
        dense(400), dropout(0.3),
        dense(300), dropout(0.3),
        dense(200), batchnorm(), dropout(0.3),
        dense(50), batchnorm(),
    ),
    recipe=recipe_e,
)  # fmt: skip

FAMILY = (mlp_e1, mlp_e2, mlp_e3)
