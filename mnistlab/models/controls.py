"""The extra experiments that 2019's conclusions ask for, outside the 28.

Each is one of the 28 with one thing changed, so that a difference has one cause.
"""

from dataclasses import replace

from mnistlab.models.conv2 import conv2_a2, conv2_b21, conv2_b23
from mnistlab.models.conv3 import conv3_a4, conv3_b31, conv3_b33
from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import (
    adadelta,
    divide_by_255,
    dropout,
    l2_normalize,
)


def _without_first_dropout(experiment: Experiment) -> Experiment:
    layers = list(experiment.layers)
    layers.remove(dropout(0.25))
    name = f"{experiment.name}_no_first_dropout"
    return replace(experiment, name=name, layers=tuple(layers))


def _longer(experiment: Experiment, epochs: int) -> Experiment:
    return replace(
        experiment,
        name=f"{experiment.name}_{epochs}_epochs",
        recipe=replace(experiment.recipe, epochs=epochs),
    )


def _normalized(experiment: Experiment, name: str, axis: int) -> Experiment:
    return replace(
        experiment,
        name=f"{experiment.name}_{name}",
        recipe=replace(experiment.recipe, normalization=l2_normalize(axis)),
    )


# A5, which 2019 compared with A4, also lacks A4's third convolution.
conv3_a4_no_first_dropout = _without_first_dropout(conv3_a4)

# Are 25 epochs too few for regularised models? The two cheapest fair pairs.
LONGER = tuple(_longer(e, 75) for e in (conv2_b21, conv2_b23, conv3_b31, conv3_b33))

# What B's images were is lost. Rows, the default, are the 28's own.
NORMALIZATIONS = tuple(
    _normalized(experiment, name, axis)
    for experiment in (conv2_b21, conv2_b23, conv3_b31, conv3_b33)
    for name, axis in (("columns", 1), ("black_and_white", 3))
)

# What two traps of porting 2019's code cost: docs/porting.md.
PORTING = (
    replace(
        conv2_a2,
        name="conv2_a2_default_adadelta",
        recipe=replace(conv2_a2.recipe, optimizer=adadelta(0.001)),
    ),
    replace(
        conv2_b21,
        name="conv2_b21_divided_by_255",
        recipe=replace(conv2_b21.recipe, normalization=divide_by_255),
    ),
)

CONTROLS = (conv3_a4_no_first_dropout, *LONGER, *NORMALIZATIONS, *PORTING)
