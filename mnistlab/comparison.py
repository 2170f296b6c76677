"""What runs of several models say together: scores, ranks, prices, shared errors.

Runs in, plain numbers out; tables and plots show them. Knows nothing about Keras.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mnistlab import stats
from mnistlab.data import MNIST_FINGERPRINT
from mnistlab.environment import same_machine
from mnistlab.judging import LEAST_SEEDS, accuracy, comparable, seeds_interval
from mnistlab.models import COLLECTION
from mnistlab.runs import Run, RunSpec

# Of MNIST's test images these labels are doubtful: fewer than three of five people
# agreed with them. Given -> likelier digit, by index; from cleanlab's check of
# benchmark test sets (Northcutt, Athalye and Mueller 2021, arXiv:2103.14749).
DOUBTFUL = {
    947: (8, 9), 1621: (0, 6), 1901: (9, 4), 2130: (4, 9), 2462: (2, 0),
    2597: (5, 3), 2654: (6, 1), 3520: (6, 4), 3558: (5, 0), 5937: (5, 3),
    6651: (0, 6), 6783: (1, 6), 8527: (4, 9), 9679: (6, 3), 9729: (5, 6),
}  # fmt: skip


@dataclass(frozen=True)
class Gathered:
    """All runs there are for a question: this build's, the evidence's, the gaps.

    `labels` are those of MNIST's test images, uint8 (10000,), on which full runs are
    judged.
    """

    runs: list[Run]
    evidence: list[Run]
    missing: list[RunSpec]
    labels: np.ndarray

    @property
    def full(self) -> list[Run]:
        """One run of each seed of each model, of its whole recipe on all of MNIST.

        This build's and the evidence's, of the models of the collection as they are
        defined now, in their order; no model with runs of two backends.
        """
        found = comparable([run for run in self.everything if run.compares_with_2019])
        return [run for name in COLLECTION for run in found.get(name, {}).values()]

    @property
    def short(self) -> list[Run]:
        """This build's other runs, which do not compare with 2019."""
        return [run for run in self.runs if not run.compares_with_2019]

    @property
    def everything(self) -> list[Run]:
        """Every run there is, one of each key: this build's, where it has it."""
        keys = {run.record["key"] for run in self.runs}
        kept = [run for run in self.evidence if run.record["key"] not in keys]
        return [*kept, *self.runs]

    def _repr_html_(self) -> str:
        own = sum(run.status != "evidence" for run in self.runs)
        kept = f"{len(self.evidence)} committed runs"
        return f"<p>{own} runs of this build; {kept}.</p>"


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by model, in the order in which models come, each model's by seed."""
    ordered = sorted(runs, key=lambda run: (run.seed, run.key16))
    names = dict.fromkeys(run.name for run in runs)
    return {name: [run for run in ordered if run.name == name] for name in names}


def answers(run: Run, labels: np.ndarray) -> np.ndarray:
    """Whether each test image was recognised, bool (test_size,)."""
    predicted, _ = run.predictions()
    return predicted == labels[: len(predicted)]


def timed_alike(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs whose times compare; of several such groups the largest.

    Times compare that were taken with one backend, on like machines.
    """
    alike = [[run for run in runs if _ran_alike(one, run)] for one in runs]
    return max(alike, key=len, default=[])


def _ran_alike(one: Run, other: Run) -> bool:
    a, b = one.record, other.record
    same = same_machine(a["environment"], b["environment"])
    return same and a["backend"] == b["backend"]


@dataclass(frozen=True)
class Score:
    """A model's test accuracy over its seeds, 0 to 1.

    `seeds` is Student's 95 % interval of the mean, None below three seeds or where all
    are equal.
    """

    mean: float
    runs: list[Run]
    seeds: stats.Interval | None


def scores(runs: Sequence[Run]) -> dict[str, Score]:
    """The score of each model by its mean; after the others those with few seeds."""
    found = {}
    for name, own in by_model(runs).items():
        values = [accuracy(run) for run in own]
        found[name] = Score(float(np.mean(values)), own, seeds_interval(values))

    def place(name: str) -> tuple[bool, float]:
        return len(found[name].runs) < LEAST_SEEDS, -found[name].mean

    return {name: found[name] for name in sorted(found, key=place)}


def ranks(runs: Sequence[Run], labels: np.ndarray) -> dict[str, stats.Rank]:
    """Where models stand by the two-way bootstrap; only those with three seeds."""
    return stats.bootstrap_ranks(
        {
            name: np.stack([answers(run, labels) for run in own])
            for name, own in by_model(runs).items()
            if len(own) >= LEAST_SEEDS
        }
    )


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points that no other beats.

    One beats another that is no cheaper and no more accurate, and not equal to it.

    Args:
        points: (price, accuracy) by name.

    Returns:
        Names by rising price; of two with equal price and accuracy, both.

    >>> pareto({"a": (1, 0.90), "b": (2, 0.95), "c": (3, 0.94)})
    ['a', 'b']
    """

    def is_beaten(name: str) -> bool:
        price, value = points[name]
        rivals = [point for point in points.values() if point != points[name]]
        return any(cost <= price and other >= value for cost, other in rivals)

    front = (name for name in points if not is_beaten(name))
    return sorted(front, key=points.__getitem__)


def agreement(runs: Sequence[Run]) -> tuple[list[str], np.ndarray]:
    """How often two models give the same answer, right or wrong.

    Each model is represented by its lowest seed.

    Returns:
        The models' names, and the share of images of each pair, float (n, n).
    """
    first = {name: own[0] for name, own in by_model(runs).items()}
    predicted = np.stack([run.predictions()[0] for run in first.values()])
    shares = np.stack([(predicted == row).mean(axis=1) for row in predicted])
    return list(first), shares


def mistakes(runs: Sequence[Run], labels: np.ndarray) -> pd.DataFrame:
    """The images that any of the runs got wrong, the surest mistake first.

    Args:
        runs: one or more, on the same test images.
        labels: of these images, uint8 (n,).

    Returns:
        A row for each image, its index that of the image. `predicted` and
        `confidence` (0 to 1) are those of the run that was surest of its mistake,
        `wrong` is how many runs were wrong, `doubtful` whether the label that it was
        `given` is one of MNIST's doubtful ones.
    """
    parts = []
    for run in runs:
        predicted, confidence = run.predictions()
        wrong = np.flatnonzero(predicted != labels[: len(predicted)])
        answers = {"predicted": predicted[wrong], "confidence": confidence[wrong]}
        parts.append(pd.DataFrame({"given": labels[wrong], **answers}, index=wrong))
    every = pd.concat(parts).sort_values("confidence", ascending=False, kind="stable")
    surest = every[~every.index.duplicated()]
    on_mnist = all(
        run.record["dataset"]["fingerprint"] == MNIST_FINGERPRINT for run in runs
    )
    return surest.assign(
        wrong=every.index.value_counts(),
        doubtful=on_mnist & surest.index.isin(list(DOUBTFUL)),
    )
