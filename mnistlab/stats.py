"""The statistics that decide: intervals, ranks, calibration.

Numbers in, numbers out; knows neither runs nor Keras. Shares and accuracies are
fractions from 0 to 1, confidence levels too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
BINS = 15


class Interval(NamedTuple):
    """Both ends of an interval, in the unit of what it is about."""

    low: float
    high: float


def all_equal(values: Sequence[float]) -> bool:
    """Whether values differ by no more than rounding: their interval has no width.

    >>> all_equal([0.3, 0.1 + 0.2]), all_equal([0.3, 0.3001])
    (True, False)
    """
    return math.isclose(min(values), max(values), rel_tol=1e-9, abs_tol=1e-12)


def _around_mean(
    values: Sequence[float], confidence: float, new_values: int
) -> Interval:
    """Mean ± t·s·sqrt(new_values + 1/n), with n - 1 degrees of freedom."""
    n = len(values)
    if n < 2:
        raise ValueError(f"expected at least 2 values, got {n}; one run has no spread")
    if all_equal(values):
        return Interval(values[0], values[0])
    scale = np.std(values, ddof=1) * math.sqrt(new_values + 1 / n)
    low, high = stats.t.interval(confidence, n - 1, np.mean(values), scale)
    return Interval(float(low), float(high))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean over seeds: mean ± t·s/sqrt(n), n - 1 degrees.

    Source: Student (1908), Biometrika 6, 1-25. Worked number, with t = 4.3027 for
    three values: 2 ± 4.3027·1/sqrt(3).

    Raises:
        ValueError: fewer than two values.

    >>> [round(end, 4) for end in mean_interval([1, 2, 3])]
    [-0.4841, 4.4841]
    """
    return _around_mean(values, confidence, new_values=0)


def prediction_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """Where one more value of the same kind lies: mean ± t·s·sqrt(1 + 1/n).

    2019's figures are one run each, so this is what they are compared with.

    Source: G. J. Hahn and W. Q. Meeker (1991), Statistical Intervals, section 4.7.
    Worked number: 2 ± 4.3027·1·sqrt(4/3).

    Raises:
        ValueError: fewer than two values.

    >>> [round(end, 4) for end in prediction_interval([1, 2, 3])]
    [-2.9683, 6.9683]
    """
    return _around_mean(values, confidence, new_values=1)


@dataclass(frozen=True)
class Rank:
    """Where a model may stand: 95 % of its ranks, 1 the best, and how often first."""

    low: int
    high: int
    first: float


def bootstrap_ranks(
    right: Mapping[str, np.ndarray], *, draws: int = 2_000
) -> dict[str, Rank]:
    """Ranks by mean accuracy, with the chance of both seeds and test images in them.

    Each draw takes seeds with replacement within each model, and test images with
    replacement, the same ones for all models. A rank is one more than the number of
    models with a higher mean accuracy in that draw. Shown are the 2.5 % and 97.5 %
    quantiles of the ranks, and the share of draws in which nobody is better.

    Source: the two-way ("pigeonhole") bootstrap of A. B. Owen (2007), Ann. Appl. Stat.
    1, 386-411.

    Args:
        right: whether each run was right, bool (seeds, images), by model; all models
            on the same images.
        draws: how many.

    >>> right = {"a": np.ones((3, 50), bool), "b": np.zeros((3, 50), bool)}
    >>> bootstrap_ranks(right, draws=20)["b"]
    Rank(low=2, high=2, first=0.0)
    """
    if not right:
        return {}
    generator = np.random.default_rng(0)
    count = next(iter(right.values())).shape[1]
    # How often each draw has each image, and each seed: (draws, images or seeds).
    images = _times_drawn(generator, draws, count)
    scores = np.empty((len(right), draws))
    for row, answers in zip(scores, right.values(), strict=True):
        seeds = _times_drawn(generator, draws, len(answers))
        right_of_seed = images @ answers.T.astype(np.float32)
        row[:] = (seeds * right_of_seed).sum(axis=1) / (count * len(answers))
    ranks = stats.rankdata(-scores, method="min", axis=0)
    low, high = np.quantile(ranks, (0.025, 0.975), axis=1, method="inverted_cdf")
    return {
        name: Rank(int(low[i]), int(high[i]), float((ranks[i] == 1).mean()))
        for i, name in enumerate(right)
    }


def _times_drawn(generator: np.random.Generator, draws: int, count: int) -> np.ndarray:
    """How often each of `count` things is in each of so many draws with replacement."""
    return np.stack(
        [
            np.bincount(generator.integers(count, size=count), minlength=count)
            for _ in range(draws)
        ]
    ).astype(np.float32)


def calibration(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """How often a model is right where it says it is that sure, by 15 equal bins.

    A confidence on the edge of two bins belongs to the lower one.

    Args:
        confidence: the probability of the predicted class, (n,), 0 to 1.
        right: whether the prediction was right, bool (n,).

    Returns:
        A row for each bin that is not empty: the means `confidence` and `accuracy`,
        0 to 1, and `count`, how many answers it has.
    """
    answers = pd.DataFrame({"confidence": confidence, "accuracy": right}, dtype=float)
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    found = answers.groupby(np.digitize(confidence, edges, right=True))
    return found.mean().assign(count=found.size())


def calibration_error(found: pd.DataFrame) -> float:
    """The expected calibration error of what `calibration` found, 0 to 1.

    It is the sum over bins of n_b/n·|acc_b - conf_b|.

    Source: C. Guo et al. (2017), On calibration of modern neural networks, ICML,
    equation 3, with 15 bins. Worked number: two answers at 0.9, one of them right, and
    two at 0.6, both right: 0.5·|0.5 - 0.9| + 0.5·|1 - 0.6| = 0.4.

    >>> found = calibration(np.array([0.9, 0.9, 0.6, 0.6]), np.array([1, 0, 1, 1]))
    >>> round(calibration_error(found), 6)
    0.4
    """
    gaps = np.abs(found["accuracy"] - found["confidence"])
    return float(np.average(gaps, weights=found["count"]))
