"""What the rules of several notebooks measure of runs."""

from collections.abc import Callable, Sequence
from typing import Any

from mnistlab import reported
from mnistlab.judging import POINT, Part, Runs, accuracy
from mnistlab.runs import Run

# Losses (natural logarithms) closer than a third of unregularised B's of 2019.
CLOSE = 0.02  # B-2, E-1, E-2


def values_of(
    runs: Runs, names: Sequence[str], quantity: Callable[..., float | None]
) -> dict[str, Any]:
    """A part's values by seed, from those seeds that all of some models have."""
    missing = tuple(name for name in names if not runs.get(name))
    if missing:
        return {"models": tuple(names), "values": {}, "missing": missing}
    shared = set.intersection(*(set(runs[name]) for name in names))
    values = {
        seed: quantity(*(runs[name][seed] for name in names)) for seed in sorted(shared)
    }
    known = {seed: value for seed, value in values.items() if value is not None}
    return {"models": tuple(names), "values": known}


def epochs_to(run: Run, name: str, reached: Callable[[float], bool]) -> int | None:
    """The first epoch whose entry `name` of the history satisfies a test, or None."""
    return next((e["epoch"] for e in run.history if reached(e[name])), None)


def difference(
    runs: Runs, statement: str, better: str, worse: str, **bounds: Any
) -> Part:
    """A part: accuracy of one model minus that of another, over shared seeds."""
    known = reported.finals()
    if better in known and worse in known:
        said = known[better].test_accuracy - known[worse].test_accuracy
        bounds["reported"] = said
    return Part(
        statement,
        f"{better} against {worse}",
        "difference of test accuracy",
        **values_of(runs, (better, worse), lambda a, b: accuracy(a) - accuracy(b)),
        **({"low": 0.0, "margin": 0.5 * POINT} | bounds),
    )
