"""Rules for the conclusions of notebook B: with regularisation and without."""

import numpy as np

from mnistlab.claims.measures import CLOSE, difference, values_of
from mnistlab.judging import POINT, Part, Runs, gap
from mnistlab.models.controls import LONGER
from mnistlab.runs import Run

ONSET = (9.5, 15.5)  # B-1: "after 10 to 15 epochs"
RISE = 1.10  # B-1: overfitting is a rise of the test loss by a tenth
CAUGHT_UP = -0.05 * POINT  # B-3: at 75 epochs no longer lower, but for noise
FAIR_PAIRS = (
    ("conv2_b21", "conv2_b23"),
    ("conv2_b22", "conv2_b24"),
    ("conv3_b31", "conv3_b33"),
    ("conv5_b51", "conv5_b53"),
    ("conv5_b52", "conv5_b54"),
)


def b1(runs: Runs) -> list[Part]:
    """The epoch of the lowest test loss, and the rise from there to the end."""

    def lowest(run: Run) -> float:
        losses = [entry["val_cross_entropy"] for entry in run.history]
        return float(np.argmin(losses) + 1)

    def rise(run: Run) -> float:
        losses = [entry["val_cross_entropy"] for entry in run.history]
        return losses[-1] / min(losses)

    parts = []
    for name in ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32"):
        parts += [
            Part(
                "the test loss rises by a tenth or more after its lowest epoch",
                name,
                "last test loss over lowest",
                **values_of(runs, [name], rise),
                low=RISE,
                margin=0.1,
            ),
            Part(
                "its lowest epoch is the 10th to the 15th",
                name,
                "epoch of the lowest test loss",
                **values_of(runs, [name], lowest),
                low=ONSET[0],
                high=ONSET[1],
                margin=2,
            ),
        ]
    return parts


def b2(runs: Runs) -> list[Part]:
    """The gap of cross-entropies, without dropout and penalty, at the last epoch."""
    return [
        Part(
            "test and training cross-entropy end within 0.02 of each other",
            name,
            "test minus training cross-entropy",
            **values_of(runs, [name], gap),
            low=-CLOSE,
            high=CLOSE,
            margin=0.005,
        )
        for name in (
            "conv2_b23", "conv2_b24", "conv3_b33", "conv5_b34",
            "conv5_b53", "conv5_b54", "conv7_b71", "conv7_b72",
        )
    ]  # fmt: skip


def b3(runs: Runs) -> list[Part]:
    """Fair pairs: the same convolutions, pooling and dense units.

    They differ in dropout, L2 and start values, and those of B2x and B3x in batch
    normalisation too.
    """
    lower = "the regularised model of a pair scores lower after 25 epochs"
    parts = [difference(runs, lower, plain, other) for plain, other in FAIR_PAIRS]
    b21, b23, b31, b33 = (experiment.name for experiment in LONGER)
    caught_up = "after 75 epochs it no longer does, within 0.05 points"
    return parts + [
        difference(runs, caught_up, other, plain, low=CAUGHT_UP)
        for plain, other in ((b21, b23), (b31, b33))
    ]


def b4(runs: Runs) -> list[Part]:
    """By how much more the gap shrinks in the deep pair of a kernel size."""

    def interaction(deep: Run, deep_reg: Run, shallow: Run, shallow_reg: Run) -> float:
        return gap(deep) - gap(deep_reg) - (gap(shallow) - gap(shallow_reg))

    return [
        Part(
            "regularisation closes more of the gap with 5 convolutions than with 2",
            f"{kernel} kernels",
            "gap closed, five minus two convolutions",
            **values_of(runs, names, interaction),
            low=0,
            margin=0.01,
        )
        for kernel, names in (
            ("3x3", ("conv5_b51", "conv5_b53", "conv2_b21", "conv2_b23")),
            ("5x5", ("conv5_b52", "conv5_b54", "conv2_b22", "conv2_b24")),
        )
    ]
