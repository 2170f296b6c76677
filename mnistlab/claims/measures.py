"""What the rules measure of runs: each takes one run of each model, of one seed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mnistlab.judging import POINT, accuracy, gap
from mnistlab.runs import Run

FAST_ACCURACY = 0.985  # what is to be reached
A3_ORDINARY = 0.9803  # what A4 had in 2019 one epoch before its end
CONVERGED = 0.97  # C-1: the test accuracy to be reached


def first_epoch(values: list[float], level: float) -> int | None:
    """The first epoch, from 1, whose value reaches a level; None if none does.

    >>> first_epoch([0.97, 0.98, 0.99], 0.98), first_epoch([0.97], 0.98)
    (2, None)
    """
    return next((i for i, value in enumerate(values, 1) if value >= level), None)


def accuracy_difference(one: Run, other: Run) -> float:
    """Test accuracy of the first less that of the second."""
    return accuracy(one) - accuracy(other)


def _epochs(values: list[float], level: float) -> int:
    """The epoch that reaches a level; one more than there are if none does."""
    return first_epoch(values, level) or len(values) + 1


def _test_accuracies(run: Run) -> list[float]:
    return [entry["val_accuracy"] for entry in run.history]


def _debiased_accuracies(run: Run) -> list[float]:
    """With batch normalisation as the Keras of 2019 evaluated it; empty if unknown."""
    return [entry["debiased"]["accuracy"] for entry in run.batchnorm or ()]


def fewer_epochs_than(other: Run, a3: Run) -> float | None:
    """By how many epochs A3 reaches 98.5 % before another model."""
    own, its = _debiased_accuracies(a3), _test_accuracies(other)
    if not own:
        return None
    return float(_epochs(its, FAST_ACCURACY) - _epochs(own, FAST_ACCURACY))


def dearer_than(other: Run, a3: Run, seconds: Mapping[str, float]) -> float | None:
    """Processor time of another model to 98.5 %, over A3's; None if it never does.

    Epochs times the median processor seconds of an epoch of that model.
    """
    own, its = _debiased_accuracies(a3), _test_accuracies(other)
    epochs = first_epoch(its, FAST_ACCURACY)
    if not own or not seconds or epochs is None:
        return None
    a3_seconds = _epochs(own, FAST_ACCURACY) * seconds[a3.name]
    return epochs * seconds[other.name] / a3_seconds


def blamed(a4: Run, control: Run, a3: Run) -> float:
    """How far the larger of A-2's two causes is beyond its limit.

    Without its dropout A4 gains half a point; or A3, which also has a 3x3 kernel after
    a 5x5 one, stays below 98.03 %.
    """
    by_dropout = accuracy_difference(control, a4) - 0.5 * POINT
    return max(by_dropout, A3_ORDINARY - accuracy(a3))


def _test_losses(run: Run) -> list[float]:
    return [entry["val_cross_entropy"] for entry in run.history]


def lowest_epoch(run: Run) -> float:
    """The epoch of the lowest test cross-entropy."""
    return float(np.argmin(_test_losses(run)) + 1)


def rise(run: Run) -> float:
    """The last test cross-entropy over the lowest."""
    losses = _test_losses(run)
    return losses[-1] / min(losses)


def gap_closed(plain: Run, regularised: Run) -> float:
    """By how much the second's gap of cross-entropies is narrower."""
    return gap(plain) - gap(regularised)


def sooner(shallow: Run, deep: Run) -> float:
    """By how many epochs the deep one reaches 97 % first; never is all and one."""
    a, b = (_epochs(_test_accuracies(run), CONVERGED) for run in (shallow, deep))
    return float(a - b)


def overfit_more(deep: Run, shallow: Run) -> float:
    """Training minus test accuracy of the first, less that of the second."""
    own, other = (
        run.record["train"]["accuracy"] - accuracy(run) for run in (deep, shallow)
    )
    return own - other


def time_share(one: Run, other: Run, seconds: Mapping[str, float]) -> float | None:
    """Processor time of the first over that of the second, all epochs of each."""
    if not seconds:
        return None
    a, b = (len(run.history) * seconds[run.name] for run in (one, other))
    return a / b


def curve_gap(run: Run) -> float:
    """Validation minus training loss, as printed after the last epoch."""
    return run.history[-1]["val_loss"] - run.history[-1]["loss"]


def curve_ratio(run: Run) -> float:
    """Validation over training loss, as printed after the last epoch."""
    return run.history[-1]["val_loss"] / run.history[-1]["loss"]


def kernel(name: str, quantity: str) -> Callable[[Run], float]:
    """A measure: skewness or excess kurtosis of one kernel, 0 for a Gaussian."""

    def measure(run: Run) -> float:
        found: dict[str, Any] = next(
            entry for entry in run.record["kernels"] if entry["name"] == name
        )
        return found[quantity]

    return measure
