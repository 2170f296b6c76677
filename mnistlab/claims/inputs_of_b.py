"""What B trained on: black-and-white images, or rows of unit length?

The acceptance test of 25 November 2026, amended the same day before the runs of B24,
B34, B53 and B54: over the regularised models with three seeds on black-and-white images
the mean squared log ratio of training losses (2019's over ours) must be smaller than
with rows, and B23, B24 and B33 must be the same training. Unregularised models are
shown and decide nothing: their last losses are near 0.005, and the logarithms of those
differ by 20 % between the seeds of one model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab import judging, reported
from mnistlab.claims.rules import REGULARISED
from mnistlab.models.controls import ROWS
from mnistlab.runs import Run

MUST_BE_SAME = ("conv2_b23", "conv2_b24", "conv3_b33")
MODELS = tuple(experiment.name.removesuffix("_rows") for experiment in ROWS)
DECIDING = tuple(name for name in MODELS if name in REGULARISED)
VARIANTS = {"black-and-white": "", "rows": "_rows", "columns": "_columns"}


@dataclass(frozen=True)
class Inputs:
    """Log ratios of losses by variant, model and seed, and what they decide.

    `tested` are the models that decide, `mean_squares` their mean squared log ratio by
    variant, `same` the verdict on the training of each model that must be the same.
    """

    logs: Mapping[str, Mapping[str, tuple[float, ...]]]
    tested: tuple[str, ...]
    mean_squares: Mapping[str, float]
    same: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """Whether black-and-white is accepted: supported, contradicted, not tested."""
        if not set(MUST_BE_SAME) <= set(self.tested):
            return judging.NOT_TESTED
        closer = self.mean_squares["black-and-white"] < self.mean_squares["rows"]
        same = all(verdict == judging.SAME for verdict in self.same.values())
        return judging.SUPPORTED if closer and same else judging.CONTRADICTED


def inputs_of_b(runs: Sequence[Run]) -> Inputs:
    """The acceptance test on runs; those that do not compare are left out."""
    found = judging.comparable(runs)
    logs: dict[str, dict[str, tuple[float, ...]]] = {}
    for variant, suffix in VARIANTS.items():
        for name in MODELS:
            own = list(found.get(name + suffix, {}).values())[: judging.LEAST_SEEDS]
            values = [judging.log_ratio(run, reported.history(name)) for run in own]
            logs.setdefault(variant, {})[name] = tuple(
                v for v in values if v is not None
            )
    tested = tuple(
        name
        for name in DECIDING
        if len(logs["black-and-white"][name]) == judging.LEAST_SEEDS
        and logs["rows"][name]
    )
    mean_squares = {
        variant: float(np.mean([np.mean(np.square(own[name])) for name in tested]))
        for variant, own in logs.items()
        if tested and all(own[name] for name in tested)
    }
    same = {name: judging.trajectory(name, runs).verdict for name in MUST_BE_SAME}
    return Inputs(logs, tested, mean_squares, same)
