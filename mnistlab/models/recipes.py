"""What 2019 repeats: a recipe per notebook letter, B's regularization, B's 5x5 twins.

The families import these, so that a recipe is written once.
"""

from dataclasses import replace
from functools import partial

from mnistlab.models.experiment import Experiment, Recipe
from mnistlab.models.layers import (
    adadelta,
    adam,
    batchnorm,
    conv,
    dense,
    dropout,
    flatten,
    l2_normalize,
)

recipe_a = Recipe(adadelta(1.0), batch_size=512, epochs=5)
# B reshaped its images to (n, 28, 28, 1) and then called keras.utils.normalize, whose
# default is the last axis: single pixels. Each becomes 0 or 1 (docs/findings.md).
recipe_b = Recipe(adam(), batch_size=128, epochs=25, normalization=l2_normalize(axis=3))
# C sets a batch size of 128 and trains with 100.
recipe_c = Recipe(adam(), batch_size=100, epochs=20)
recipe_d = Recipe(adam(), batch_size=128, epochs=12)
recipe_e = Recipe(adam(), batch_size=128, epochs=20)

l2_conv = partial(conv, initializer="he_normal", l2=1e-5)
l2_dense = partial(dense, initializer="he_normal", l2=1e-5)
l2_head = (
    flatten(),
    l2_dense(128), batchnorm(), dropout(0.5),
    l2_dense(64), batchnorm(), dropout(0.5),
)  # fmt: skip


def with_kernels(size: int, experiment: Experiment, name: str) -> Experiment:
    """An experiment whose convolutions have kernels of `size` x `size` instead."""
    kernel = {"kernel_size": (size, size)}
    layers = tuple(
        replace(layer, config=tuple((layer.settings | kernel).items()))
        if layer.kind == "Conv2D"
        else layer
        for layer in experiment.layers
    )
    return replace(experiment, name=name, layers=layers)
