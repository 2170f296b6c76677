"""How runs decide: which of them compare, what settles a statement, what reproduces.

The rules are those of 25 November 2026 (docs/findings.md). A conclusion of 2019 is one
or more statements; a statement is tested on one or more parts (models, pairs, kernels).
A part is a quantity, one value for each seed, and the range in which it must lie.

* The number of seeds n is fixed beforehand: exactly the seeds 0 to n - 1 count. With
  fewer, a part is not tested; more are shown, not counted.
* With k parts in its statement, a part's interval is Student's of the mean, at level
  1 - 0.05/k. Whole numbers that are all equal, as epochs may be, count as that value
  ± 0.5.
* Processor times of an epoch are medians over all runs of a model on the processor,
  also those of other seeds: a ratio of times is one number, without a spread.
* A part is supported if the interval is within the range, contradicted if it is wholly
  outside or, where an equivalence range is given, within that; else undecided.
* A statement is contradicted if any of its parts is, supported if all are, else
  undecided. A conclusion is contradicted if any of its statements is, supported if all
  are, else undecided; it is not tested if fewer than three quarters of its parts have
  their seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from mnistlab import reported, stats
from mnistlab.runs import KNOWN, Run

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTED = "not tested"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED)
LEAST_SEEDS = 3
POINT = 0.01  # of accuracy

Runs = Mapping[str, Mapping[int, Run]]


def seeds_interval(values: Sequence[float]) -> stats.Interval | None:
    """Student's 95 % interval of the mean; None below three values, or all equal."""
    if len(values) < LEAST_SEEDS or stats.all_equal(values):
        return None
    return stats.mean_interval(values)


@dataclass(frozen=True)
class Rule:
    """One part of a conclusion: a quantity, of which models, and where it must lie.

    `measure` takes one run of each of `models`, of the same seed, and returns the
    quantity or None if these runs do not have it; if `timed`, also the processor
    seconds of an epoch by model name. `low` and `high` bound the range, `equivalent`
    is the half-width of the range around 0 that counts as no difference, `seeds` the
    planned number, and `reported` the quantity from 2019's own figures.
    """

    conclusion: str
    statement: str
    quantity: str
    models: tuple[str, ...]
    measure: Callable[..., float | None]
    low: float = -inf
    high: float = inf
    seeds: int = LEAST_SEEDS
    equivalent: float = 0.0
    about: str = ""
    reported: float | None = None
    timed: bool = False


@dataclass(frozen=True)
class Part:
    """A rule with its values by seed; of those, the planned ones decide at `level`."""

    rule: Rule
    values: Mapping[int, float]
    level: float = stats.CONFIDENCE
    missing: tuple[str, ...] = ()  # models without a run

    @property
    def about(self) -> str:
        """Of what the quantity is."""
        return self.rule.about or " against ".join(self.rule.models)

    @property
    def planned(self) -> list[float]:
        """The values that count: of the seeds 0 to n - 1."""
        return [v for seed, v in self.values.items() if seed < self.rule.seeds]

    @property
    def is_tested(self) -> bool:
        """Whether each of the planned seeds has a value."""
        return len(self.planned) == self.rule.seeds

    @property
    def interval(self) -> stats.Interval | None:
        """The interval of the mean over the planned seeds, or None without them."""
        values = self.planned
        if not self.is_tested:
            return None
        if stats.all_equal(values) and float(values[0]).is_integer():
            return stats.Interval(values[0] - 0.5, values[0] + 0.5)
        return stats.mean_interval(values, self.level)

    @property
    def verdict(self) -> str:
        """Supported, contradicted, undecided or not tested, by the rules above."""
        interval, rule = self.interval, self.rule
        if interval is None:
            return NOT_TESTED
        if rule.equivalent and within(interval, -rule.equivalent, rule.equivalent):
            return CONTRADICTED
        # Equal to a bound is not inside it: nothing has been shown.
        if within(interval, rule.low, rule.high):
            return SUPPORTED
        if interval.low > rule.high or interval.high < rule.low:
            return CONTRADICTED
        return UNDECIDED


def within(interval: stats.Interval, low: float, high: float) -> bool:
    """Whether an interval lies between two bounds and touches neither."""
    return low < interval.low and interval.high < high


def all_of(verdicts: Sequence[str]) -> str:
    """One verdict for several that must all hold.

    >>> all_of(["supported", "contradicted"]), all_of(["supported", "not tested"])
    ('contradicted', 'undecided')
    """
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    kinds = set(verdicts)
    return kinds.pop() if len(kinds) == 1 else UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """What became of a conclusion: all parts that decide it."""

    parts: tuple[Part, ...]

    @property
    def statements(self) -> dict[str, tuple[Part, ...]]:
        """The parts of each statement."""
        names = dict.fromkeys(part.rule.statement for part in self.parts)
        return {
            name: tuple(part for part in self.parts if part.rule.statement == name)
            for name in names
        }

    @property
    def verdict(self) -> str:
        """The verdict on the conclusion."""
        tested = sum(part.is_tested for part in self.parts)
        if 4 * tested < 3 * len(self.parts):
            return NOT_TESTED
        return all_of([judge_statement(own) for own in self.statements.values()])


def judge_statement(parts: Sequence[Part]) -> str:
    """The verdict on a statement from those on its parts."""
    return all_of([part.verdict for part in parts])


def judge(rules: Sequence[Rule], runs: Runs) -> Verdict:
    """Put a conclusion to the test on runs that compare."""
    parts = []
    for rule in rules:
        k = sum(other.statement == rule.statement for other in rules)
        level = 1 - (1 - stats.CONFIDENCE) / k
        missing = tuple(name for name in rule.models if not runs.get(name))
        own = [runs.get(name, {}) for name in rule.models]
        extra = [epoch_seconds(runs, rule.models)] if rule.timed else []
        values = {
            seed: rule.measure(*(seeds[seed] for seeds in own), *extra)
            for seed in sorted(set.intersection(*map(set, own)))
        }
        known = {seed: value for seed, value in values.items() if value is not None}
        parts.append(Part(rule, known, level, missing))
    return Verdict(tuple(parts))


def comparable(runs: Sequence[Run]) -> Runs:
    """The runs of whole recipes on all of MNIST, by model and seed, one of each.

    Only of models and controls as this checkout defines them.

    Backends are not mixed within a model: it has the runs of the backend with most of
    them, TensorFlow first. Of two runs of one seed the one that finished last counts.
    """
    by_backend: dict[str, dict[str, dict[int, Run]]] = {}
    for run in sorted(runs, key=lambda run: run.record["finished"]):
        if run.is_whole and run.experiment in KNOWN:
            backends = by_backend.setdefault(run.name, {})
            backends.setdefault(run.record["backend"], {})[run.seed] = run

    found = {}
    for name, backends in by_backend.items():
        first = sorted(backends, key=lambda backend: backend != "tensorflow")
        most = max((backends[backend] for backend in first), key=len)
        found[name] = dict(sorted(most.items()))
    return found


def accuracy(run: Run) -> float:
    """Test accuracy after the last epoch, 0 to 1."""
    return run.record["test"]["accuracy"]


def gap(run: Run) -> float:
    """Test minus training cross-entropy, dropout off and no penalty, after the end."""
    return run.record["test"]["cross_entropy"] - run.record["train"]["cross_entropy"]


def epoch_seconds(runs: Runs, names: Sequence[str]) -> dict[str, float]:
    """Median processor seconds of an epoch by model, all on one identified processor.

    Of several processors on which each of the models has run, the one with most of
    their runs; empty if there is none.
    """
    found: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for name in names:
        for run in runs.get(name, {}).values():
            machine = run.record["environment"]
            if machine.get("processor_model") and not machine.get("gpus"):
                processor = (machine["processor"], machine["processor_model"])
                found.setdefault(processor, {}).setdefault(name, []).append(run)
    shared = [own for own in found.values() if len(own) == len(set(names))]
    if not shared:
        return {}
    most = max(shared, key=lambda own: sum(map(len, own.values())))
    return {
        name: float(np.median([e["cpu_seconds"] for run in own for e in run.history]))
        for name, own in most.items()
    }


REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
WIDEST = 0.5 * POINT


def planned_seeds(name: str) -> int:
    """How many seeds judge whether a model of 2019 is reproduced."""
    return 5 if name.startswith("mlp_") else LEAST_SEEDS


def _planned(name: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of exactly the planned seeds of a model or control, or none."""
    own = comparable(runs).get(name, {})
    found = [run for seed, run in own.items() if seed < planned_seeds(name)]
    return found if len(found) == planned_seeds(name) else []


@dataclass(frozen=True)
class Reproduction:
    """Whether a figure of 2019 is one that this model has today.

    `values` are ours by seed, `reported` is 2019's. `interval` is the 95 % prediction
    interval for one more run, None where the planned seeds are not there.
    """

    verdict: str
    values: tuple[float, ...]
    reported: float
    interval: stats.Interval | None


def reproduction(name: str, runs: Sequence[Run]) -> Reproduction:
    """Compare 2019's accuracy with ours: reproduced if one more run may be like it.

    Not reproduced if it lies outside the 95 % prediction interval of the planned seeds,
    however wide that is; inside, reproduced if the interval reaches at most half a
    point to each side, else undecided.
    Of 28 true reproductions one or two fall outside by chance.
    """
    values = tuple(accuracy(run) for run in _planned(name, runs))
    said = reported.finals()[name].test_accuracy
    if not values:
        return Reproduction(NOT_TESTED, (), said, None)
    interval = stats.prediction_interval(values)
    if not interval.low <= said <= interval.high:
        verdict = NOT_REPRODUCED
    else:
        is_narrow = (interval.high - interval.low) / 2 <= WIDEST
        verdict = REPRODUCED if is_narrow else UNDECIDED
    return Reproduction(verdict, values, said, interval)


SAME, OTHER = "same training", "other training"
NEAR_ONE = (0.90, 1.10)


def log_ratio(run: Run, printed: Sequence[Mapping[str, float | None]]) -> float | None:
    """Mean over printed epochs of ln(2019's training loss / ours); None if none is."""
    logs = [
        np.log(entry["loss"] / run.history[int(entry["epoch"] or 0) - 1]["loss"])
        for entry in printed
        if entry["loss"] is not None and int(entry["epoch"] or 0) <= len(run.history)
    ]
    return float(np.mean(logs)) if logs else None


def trajectory(
    name: str, runs: Sequence[Run], control: str | None = None
) -> Reproduction:
    """Compare 2019's training losses with ours, epoch by epoch: a ratio of 1 is alike.

    A seed's value is exp of the mean of ln(2019's loss / ours) over all epochs that
    2019 printed. The same training if 1 lies in the 95 % prediction interval (of the
    logarithms) and the mean ratio is within 0.90 to 1.10; another training if 1 lies
    outside; else undecided. Not tested without the planned seeds, or a printed loss.
    With `control` the runs are those of that control and not of the model itself.
    """
    printed = reported.history(name)
    found = [log_ratio(run, printed) for run in _planned(control or name, runs)]
    logs = [value for value in found if value is not None]
    if not logs:
        return Reproduction(NOT_TESTED, (), 1.0, None)
    low, high = stats.prediction_interval(logs)
    if not low <= 0 <= high:
        verdict = OTHER
    else:
        ratio = np.exp(np.mean(logs))
        verdict = SAME if NEAR_ONE[0] <= ratio <= NEAR_ONE[1] else UNDECIDED
    interval = stats.Interval(float(np.exp(low)), float(np.exp(high)))
    return Reproduction(verdict, tuple(map(float, np.exp(logs))), 1.0, interval)
