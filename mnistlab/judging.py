"""How runs decide: which of them compare, what settles a statement, what reproduces.

The rules were committed before a full run was looked at. What was mended after, and
changed no verdict, is told in `claims`.

A conclusion is one or more statements, which must all hold. A statement is tested on
one or more parts (models, pairs, kernels); a part is a quantity, one value for each
seed, and the range in which it must lie:

* Three seeds or more: supported if Student's 95 % interval of the mean is within the
  range, contradicted if it is wholly outside, else undecided.
* One or two, or all of them equal, as counts of epochs may be: they have no interval.
  Supported if every value is within the range by
  the part's margin, contradicted if every one is outside by it on the same side, else
  undecided. The margins are several times the spread that seeds usually have.

A statement is supported if at least three quarters of its parts are and none is
contradicted; contradicted if at least half are; else undecided. A conclusion is
contradicted if any of its statements is, supported if all are, else undecided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from mnistlab import reported, stats
from mnistlab.runs import KNOWN, Run

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
LEAST_SEEDS = 3
POINT = 0.01  # of accuracy

Runs = Mapping[str, Mapping[int, Run]]


def seeds_interval(values: Sequence[float]) -> stats.Interval | None:
    """Student's 95 % interval of the mean; None below three values, or all equal."""
    if len(values) < LEAST_SEEDS or stats.all_equal(values):
        return None
    return stats.mean_interval(values)


@dataclass(frozen=True)
class Part:
    """One quantity that bears on a statement: its values by seed, and where to lie.

    `low` and `high` bound the range that the statement says; `margin` is asked of one
    or two runs. `models` are those it is computed from, `missing` those of them
    without a run. `decided` overrides the rule of
    seeds where a paired test on predictions has decided. `reported` is the same
    quantity from 2019's own figures, if they have it.
    """

    statement: str
    about: str
    quantity: str
    values: Mapping[int, float]
    low: float = -inf
    high: float = inf
    margin: float = 0.0
    models: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    decided: str | None = None
    note: str = ""
    reported: float | None = None

    @property
    def interval(self) -> stats.Interval | None:
        """The 95 % interval of the mean over seeds, if there is one."""
        return seeds_interval(list(self.values.values()))

    @property
    def verdict(self) -> str:
        """Supported, contradicted or undecided, by the rule at the top of this file."""
        if self.decided is not None:
            return self.decided
        if not self.values:
            return UNDECIDED
        if self.interval is not None:
            (smallest, largest), margin = self.interval, 0.0
        else:
            values = self.values.values()
            smallest, largest, margin = min(values), max(values), self.margin
        # Equal to a bound is not inside it: nothing has been shown.
        if smallest - margin > self.low and largest + margin < self.high:
            return SUPPORTED
        if smallest - margin > self.high or largest + margin < self.low:
            return CONTRADICTED
        return UNDECIDED


def judge_statement(parts: Sequence[Part]) -> str:
    """The verdict on a statement from those on its parts."""
    verdicts = [part.verdict for part in parts]
    supported, contradicted = verdicts.count(SUPPORTED), verdicts.count(CONTRADICTED)
    if 2 * contradicted >= len(verdicts):
        return CONTRADICTED
    if 4 * supported >= 3 * len(verdicts) and not contradicted:
        return SUPPORTED
    return UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """What became of a conclusion: the verdict, and all parts that decided it."""

    verdict: str
    parts: tuple[Part, ...]

    @property
    def statements(self) -> dict[str, str]:
        """The verdict on each statement."""
        return {
            statement: judge_statement(
                [part for part in self.parts if part.statement == statement]
            )
            for statement in dict.fromkeys(part.statement for part in self.parts)
        }


def judge_parts(parts: Sequence[Part]) -> Verdict:
    """Put the parts of a conclusion together: all its statements must hold."""
    verdicts = list(Verdict(UNDECIDED, tuple(parts)).statements.values())
    if CONTRADICTED in verdicts:
        return Verdict(CONTRADICTED, tuple(parts))
    all_hold = all(verdict == SUPPORTED for verdict in verdicts)
    return Verdict(SUPPORTED if all_hold else UNDECIDED, tuple(parts))


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

    def preference(item: tuple[str, dict[int, Run]]) -> tuple[int, bool]:
        backend, seeds = item
        return len(seeds), backend == "tensorflow"

    return {
        name: dict(sorted(max(backends.items(), key=preference)[1].items()))
        for name, backends in by_backend.items()
    }


def accuracy(run: Run) -> float:
    """Test accuracy after the last epoch, 0 to 1."""
    return run.record["test"]["accuracy"]


def gap(run: Run) -> float:
    """Test minus training cross-entropy, dropout off and no penalty, after the end."""
    return run.record["test"]["cross_entropy"] - run.record["train"]["cross_entropy"]


REPRODUCED, NOT_REPRODUCED, SINGLE = "reproduced", "not reproduced", "single run"
WIDEST = 0.5 * POINT


@dataclass(frozen=True)
class Reproduction:
    """Whether 2019's accuracy is one that this model has today.

    `interval` is the 95 % prediction interval for one more run, or for a single run
    the binomial one of the difference, ours minus 2019's. None: nothing to compare.
    """

    verdict: str
    accuracies: tuple[float, ...]
    reported: float
    interval: stats.Interval | None


def reproduction(name: str, runs: Sequence[Run]) -> Reproduction:
    """Compare 2019's accuracy with ours: reproduced if one more run may be like it.

    With three seeds or more it is undecided if the 95 % prediction interval is wider
    than half a point to each side, wherever the figure lies, or has no width; else
    reproduced if it lies in the interval, not reproduced if outside. With fewer, it
    is a single run, and judged by nobody.
    Of 28 true reproductions one or two fall outside by chance.
    """
    own = comparable([run for run in runs if run.compares_with_2019]).get(name, {})
    found = tuple(accuracy(run) for run in own.values())
    said = reported.finals()[name].test_accuracy
    if not found:
        return Reproduction("no full run", (), said, None)
    if len(found) < LEAST_SEEDS:
        first = next(iter(own.values()))
        n = first.record["test_size"]
        right, right_2019 = round(found[0] * n), round(said * n)
        difference = stats.difference_interval(right, n, right_2019, n)
        return Reproduction(SINGLE, found, said, difference)
    interval = stats.prediction_interval(found)
    if not 0 < interval.half_width <= WIDEST:
        verdict = UNDECIDED
    else:
        within = interval.low <= said <= interval.high
        verdict = REPRODUCED if within else NOT_REPRODUCED
    return Reproduction(verdict, found, said, interval)
