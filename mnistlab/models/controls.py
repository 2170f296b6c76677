"""The extra experiments that 2019's conclusions and logs ask for, outside the 28.

Each is one of the 28 with one thing changed, so that a difference has one cause.
"""

from dataclasses import replace
from typing import Any

from mnistlab.models import conv2, conv3, conv5
from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import adadelta, divide_by_255, dropout, l2_normalize


def _variant(
    experiment: Experiment, suffix: str, layers: Any = None, **recipe: Any
) -> Experiment:
    """An experiment with other layers or another recipe, and a suffix to its name."""
    return replace(
        experiment,
        name=f"{experiment.name}_{suffix}",
        layers=layers or experiment.layers,
        recipe=replace(experiment.recipe, **recipe),
    )


# A5, which 2019 compared with A4, also lacks A4's third convolution.
_a4 = conv3.conv3_a4.layers
conv3_a4_no_first_dropout = _variant(
    conv3.conv3_a4, "no_first_dropout", (*_a4[:3], *_a4[4:])
)

# 2019's code of A3 has Adam, its table Adadelta, as the other models of A have.
conv3_a3_adadelta = _variant(conv3.conv3_a3, "adadelta", optimizer=adadelta(1.0))


def _d2_with(rate: float, word: str) -> Experiment:
    layers = conv5.conv5_d2.layers
    others = [dropout(rate) if layer.kind == "Dropout" else layer for layer in layers]
    return _variant(conv5.conv5_d2, f"dropout_{word}", tuple(others))


# 2019's log of D2 begins like a guess; its summary prints no dropout rates. Other ones:
D2_DROPOUTS = {0.5: _d2_with(0.5, "half"), 0.75: _d2_with(0.75, "three_quarters")}

# Are 25 epochs too few for regularised models? The two cheapest fair pairs.
SHALLOW = (conv2.conv2_b21, conv2.conv2_b23, conv3.conv3_b31, conv3.conv3_b33)
LONGER = tuple(_variant(e, "75_epochs", epochs=75) for e in SHALLOW)

# What B's images would have been with rows or columns of unit length instead.
ROWS = tuple(
    _variant(experiment, "rows", normalization=l2_normalize(2))
    for experiment in (
        conv2.conv2_b21, conv2.conv2_b22, conv2.conv2_b23, conv2.conv2_b24,
        conv3.conv3_b31, conv3.conv3_b32, conv3.conv3_b33, conv5.conv5_b34,
        conv5.conv5_b51, conv5.conv5_b52, conv5.conv5_b53, conv5.conv5_b54,
    )
)  # fmt: skip
COLUMNS = tuple(_variant(e, "columns", normalization=l2_normalize(1)) for e in SHALLOW)

# What two traps of porting 2019's code cost: docs/porting.md.
PORTING = (
    _variant(conv2.conv2_a2, "default_adadelta", optimizer=adadelta(0.001)),
    _variant(conv2.conv2_b21, "divided_by_255", normalization=divide_by_255),
)

CONTROLS = (
    conv3_a3_adadelta, conv3_a4_no_first_dropout, *LONGER, *ROWS, *COLUMNS, *PORTING,
    *D2_DROPOUTS.values(),
)  # fmt: skip
