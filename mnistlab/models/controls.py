"""The extra experiments that 2019's conclusions and logs ask for, outside the 28.

Each is one of the 28 with one thing changed, so that a difference has one cause.
"""

from dataclasses import replace

from mnistlab.models import conv2, conv3, conv5
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


def _dropout_half(experiment: Experiment) -> Experiment:
    layers = (
        dropout(0.5) if layer.kind == "Dropout" else layer
        for layer in experiment.layers
    )
    name = f"{experiment.name}_dropout_half"
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
conv3_a4_no_first_dropout = _without_first_dropout(conv3.conv3_a4)

# 2019's log of D2 begins like a guess; its summary prints no dropout rates.
conv5_d2_dropout_half = _dropout_half(conv5.conv5_d2)

# Are 25 epochs too few for regularised models? The two cheapest fair pairs.
SHALLOW = (conv2.conv2_b21, conv2.conv2_b23, conv3.conv3_b31, conv3.conv3_b33)
LONGER = tuple(_longer(experiment, 75) for experiment in SHALLOW)

# What B's images would have been with rows or columns of unit length instead.
ROWS = tuple(
    _normalized(experiment, "rows", 2)
    for experiment in (
        conv2.conv2_b21, conv2.conv2_b22, conv2.conv2_b23, conv2.conv2_b24,
        conv3.conv3_b31, conv3.conv3_b32, conv3.conv3_b33, conv5.conv5_b34,
        conv5.conv5_b51, conv5.conv5_b52, conv5.conv5_b53, conv5.conv5_b54,
    )
)  # fmt: skip
COLUMNS = tuple(_normalized(experiment, "columns", 1) for experiment in SHALLOW)

# What two traps of porting 2019's code cost: docs/porting.md.
PORTING = (
    replace(
        conv2.conv2_a2,
        name="conv2_a2_default_adadelta",
        recipe=replace(conv2.conv2_a2.recipe, optimizer=adadelta(0.001)),
    ),
    replace(
        conv2.conv2_b21,
        name="conv2_b21_divided_by_255",
        recipe=replace(conv2.conv2_b21.recipe, normalization=divide_by_255),
    ),
)

CONTROLS = (
    conv3_a4_no_first_dropout,
    conv5_d2_dropout_half,
    *LONGER,
    *ROWS,
    *COLUMNS,
    *PORTING,
)
