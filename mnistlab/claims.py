"""2019's thirteen conclusions, each a rule over runs with thresholds fixed beforehand.

The rules were committed before a full run was looked at. One edit came after (712425f):
times of two machines no longer compare, a model that never gets to an accuracy has no
time to it, and runs of other definitions of a model do not count. It changed no
threshold, no statement and no verdict.

How parts decide a statement, and statements a conclusion, is in `judging`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from mnistlab import reported, stats
from mnistlab.judging import (
    CONTRADICTED,
    LEAST_SEEDS,
    POINT,
    SUPPORTED,
    UNDECIDED,
    Part,
    Runs,
    Verdict,
    accuracy,
    comparable,
    gap,
    judge_parts,
)
from mnistlab.models.controls import LONGER, conv3_a4_no_first_dropout
from mnistlab.runs import Run

# Thresholds. Accuracies are fractions, losses natural logarithms.
FAST_ACCURACY = 0.985  # what is to be reached
A4_ORDINARY = 0.9714  # A-2: between 2019's 0.9625 and its epoch before, 0.9803
A3_ORDINARY = 0.9803  # what A4 had one epoch earlier
ONSET = (9.5, 15.5)  # B-1: "after 10 to 15 epochs"
RISE = 1.10  # B-1: overfitting is a rise of the test loss by a tenth
CLOSE = 0.02  # B-2, E-1, E-2: losses closer than a third of unregularised B's of 2019
CLOSE_RATIO = 1.5  # E-1, E-2
CAUGHT_UP = -0.05 * POINT  # B-3: at 75 epochs no longer lower, but for noise
CONVERGED = 0.1  # C-1: the training loss to be reached
NEAR = 0.5 * POINT  # D-1: "close"
# E-3: skewness within 0.5 is usually called symmetric. A uniform distribution, which
# the weights start from, has an excess kurtosis of -1.2, a logistic one of +1.2.
SYMMETRIC, MESOKURTIC = 0.5, 1.0


def _values(
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


def _epochs_to_fast(run: Run) -> int | None:
    return epochs_to(run, "val_accuracy", lambda value: value >= FAST_ACCURACY)


def _seconds_to_fast(run: Run) -> float:
    """Processor time to the accuracy; all of it, a lower bound, where not reached."""
    epochs = _epochs_to_fast(run) or run.record["epochs"]
    return sum(entry["cpu_seconds"] for entry in run.history[:epochs])


def _same_machine(one: Run, other: Run) -> bool:
    """Whether the times of two runs compare."""
    processors = {r.record["environment"].get("processor") for r in (one, other)}
    backends = {r.record["backend"] for r in (one, other)}
    return len(processors) == len(backends) == 1


def _difference(
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
        **_values(runs, (better, worse), lambda a, b: accuracy(a) - accuracy(b)),
        **({"low": 0.0, "margin": 0.5 * POINT} | bounds),
    )


def _a1(runs: Runs) -> list[Part]:
    """Epochs and processor time to 98.5 % test accuracy.

    A model that does not reach it counts as one epoch more than there were, and its
    processor time as all that there was; A3's as infinite. A seed in which neither
    reaches it has no value. Times are compared on one processor and backend only.
    """

    def fewer(other: Run, own: Run) -> float | None:
        a, b = _epochs_to_fast(other), _epochs_to_fast(own)
        if a is None and b is None:
            return None
        after = own.record["epochs"] + 1
        return float((a or after) - (b or after))

    def cheaper(other: Run, own: Run) -> float | None:
        if _epochs_to_fast(other) is None and _epochs_to_fast(own) is None:
            return None
        if not _same_machine(other, own):
            return None
        if _epochs_to_fast(own) is None:
            return 0.0
        return _seconds_to_fast(other) / _seconds_to_fast(own)

    parts = []
    for other in ("conv3_a1", "conv2_a2"):
        names = (other, "conv3_a3")
        parts += [
            Part(
                "A3 reaches 98.5 % test accuracy in fewer epochs",
                f"{other} minus conv3_a3",
                "epochs",
                **_values(runs, names, fewer),
                low=0,
                margin=1.5,
            ),
            Part(
                "A3 reaches it in less processor time",
                f"{other} over conv3_a3",
                "ratio of CPU seconds",
                **_values(runs, names, cheaper),
                low=1,
                margin=0.25,
            ),
        ]
    return parts


def _a2(runs: Runs) -> list[Part]:
    """That the score is low again, and that one of the two causes is seen."""

    def blamed(a4: Run, control: Run, a3: Run) -> float:
        by_dropout = accuracy(control) - accuracy(a4) - 0.5 * POINT
        return max(by_dropout, A3_ORDINARY - accuracy(a3))

    names = ("conv3_a4", conv3_a4_no_first_dropout.name, "conv3_a3")
    return [
        Part(
            "A4 ends below 97.14 % again",
            "conv3_a4",
            "test accuracy",
            **_values(runs, names[:1], accuracy),
            high=A4_ORDINARY,
            margin=0.5 * POINT,
            reported=reported.finals()["conv3_a4"].test_accuracy,
        ),
        Part(
            "without that dropout A4 gains half a point, or A3, which also has 3x3 "
            "after 5x5, stays below 98.03 %",
            "conv3_a4",
            "accuracy beyond the larger of the two limits",
            **_values(runs, names, blamed),
            low=0,
            margin=0.5 * POINT,
        ),
    ]


def _a3(runs: Runs) -> list[Part]:
    """A4 with and without its first dropout; nothing else differs."""
    statement = "A4 scores higher without its first dropout"
    return [_difference(runs, statement, conv3_a4_no_first_dropout.name, "conv3_a4")]


def _b1(runs: Runs) -> list[Part]:
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
                **_values(runs, [name], rise),
                low=RISE,
                margin=0.1,
            ),
            Part(
                "its lowest epoch is the 10th to the 15th",
                name,
                "epoch of the lowest test loss",
                **_values(runs, [name], lowest),
                low=ONSET[0],
                high=ONSET[1],
                margin=2,
            ),
        ]
    return parts


def _b2(runs: Runs) -> list[Part]:
    """The gap of cross-entropies, without dropout and penalty, at the last epoch."""
    return [
        Part(
            "test and training cross-entropy end within 0.02 of each other",
            name,
            "test minus training cross-entropy",
            **_values(runs, [name], gap),
            low=-CLOSE,
            high=CLOSE,
            margin=0.005,
        )
        for name in (
            "conv2_b23", "conv2_b24", "conv3_b33", "conv5_b34",
            "conv5_b53", "conv5_b54", "conv7_b71", "conv7_b72",
        )
    ]  # fmt: skip


FAIR_PAIRS = (
    ("conv2_b21", "conv2_b23"),
    ("conv2_b22", "conv2_b24"),
    ("conv3_b31", "conv3_b33"),
    ("conv5_b51", "conv5_b53"),
    ("conv5_b52", "conv5_b54"),
)


def _b3(runs: Runs) -> list[Part]:
    """Fair pairs: the same convolutions, pooling and dense units.

    They differ in dropout, L2 and start values, and those of B2x and B3x in batch
    normalisation too.
    """
    lower = "the regularised model of a pair scores lower after 25 epochs"
    parts = [_difference(runs, lower, plain, other) for plain, other in FAIR_PAIRS]
    b21, b23, b31, b33 = (experiment.name for experiment in LONGER)
    caught_up = "after 75 epochs it no longer does, within 0.05 points"
    return parts + [
        _difference(runs, caught_up, other, plain, low=CAUGHT_UP)
        for plain, other in ((b21, b23), (b31, b33))
    ]


def _b4(runs: Runs) -> list[Part]:
    """By how much more the gap shrinks in the deep pair of a kernel size."""

    def interaction(deep: Run, deep_reg: Run, shallow: Run, shallow_reg: Run) -> float:
        return gap(deep) - gap(deep_reg) - (gap(shallow) - gap(shallow_reg))

    return [
        Part(
            "regularisation closes more of the gap with 5 convolutions than with 2",
            f"{kernel} kernels",
            "gap closed, five minus two convolutions",
            **_values(runs, names, interaction),
            low=0,
            margin=0.01,
        )
        for kernel, names in (
            ("3x3", ("conv5_b51", "conv5_b53", "conv2_b21", "conv2_b23")),
            ("5x5", ("conv5_b52", "conv5_b54", "conv2_b22", "conv2_b24")),
        )
    ]


def _c1(runs: Runs) -> list[Part]:
    """Epochs to a training loss of 0.1; not reached counts as one more than all."""

    def fewer(shallow: Run, deep: Run) -> float:
        a, b = (
            epochs_to(run, "loss", lambda value: value <= CONVERGED)
            or run.record["epochs"] + 1
            for run in (shallow, deep)
        )
        return float(a - b)

    return [
        Part(
            f"{deep} reaches a training loss of 0.1 in fewer epochs than {shallow}",
            f"{shallow} minus {deep}",
            "epochs",
            **_values(runs, (shallow, deep), fewer),
            low=0,
            margin=1.5,
        )
        for shallow, deep in (("conv2_c1", "conv5_c2"), ("conv5_c2", "conv7_c3"))
    ]


def _c2(runs: Runs) -> list[Part]:
    """Which is more accurate, and whether the deeper ones overfit more than C1."""

    def excess(deep: Run, c1: Run) -> float:
        own, other = (
            run.record["train"]["accuracy"] - accuracy(run) for run in (deep, c1)
        )
        return own - other

    higher = "C1, with the fewest convolutions, is the more accurate"
    overfit = "the deeper one overfits more than C1"
    deeper = ("conv5_c2", "conv7_c3")
    return [_difference(runs, higher, "conv2_c1", name) for name in deeper] + [
        Part(
            overfit,
            name,
            "training minus test accuracy, less that of conv2_c1",
            **_values(runs, (name, "conv2_c1"), excess),
            low=0,
            margin=0.2 * POINT,
        )
        for name in deeper
    ]


def _answers(run: Run, labels: np.ndarray) -> np.ndarray:
    predicted, _ = run.predictions()
    return predicted == labels[: len(predicted)]


def _d1(runs: Runs, labels: np.ndarray | None) -> list[Part]:
    """Accuracies, and the processor time of all epochs.

    Where seeds are few, McNemar's exact test on the lowest shared one decides who is
    more accurate, adjusted after Holm for the two pairs.
    """
    most = "D1 is the most accurate"
    pairs = [_difference(runs, most, "conv3_d1", n) for n in ("conv5_d2", "conv7_d3")]
    if labels is not None and all(
        pair.values and len(pair.values) < LEAST_SEEDS for pair in pairs
    ):
        tests = []
        for pair, other in zip(pairs, ("conv5_d2", "conv7_d3"), strict=True):
            seed = min(pair.values)
            one, two = runs["conv3_d1"][seed], runs[other][seed]
            tests.append(stats.mcnemar(_answers(one, labels), _answers(two, labels)))
        adjusted = stats.holm([test.p_value for test in tests])
        pairs = [
            _decided_by(pair, test, p)
            for pair, test, p in zip(pairs, tests, adjusted, strict=True)
        ]
    near = _difference(
        runs,
        "D3 is within half a point of it",
        "conv3_d1",
        "conv7_d3",
        low=-inf,
        high=NEAR,
        margin=0.1 * POINT,
    )
    cheap = Part(
        "D3 takes under a third of its processor time",
        "conv7_d3 over conv3_d1",
        "ratio of CPU seconds",
        **_values(
            runs,
            ("conv7_d3", "conv3_d1"),
            lambda d3, d1: (
                d3.record["cpu_seconds"] / d1.record["cpu_seconds"]
                if _same_machine(d3, d1)
                else None
            ),
        ),
        high=1 / 3,
        margin=0.05,
        reported=_seconds_2019("conv7_d3") / _seconds_2019("conv3_d1"),
    )
    return [*pairs, near, cheap]


def _decided_by(pair: Part, test: stats.Paired, p_value: float) -> Part:
    verdict = UNDECIDED
    if p_value < 1 - stats.CONFIDENCE:
        verdict = SUPPORTED if test.only_a > test.only_b else CONTRADICTED
    note = (
        f"McNemar: {test.only_a} images only the first has right, {test.only_b} only "
        f"the second, p = {p_value:.2g} after Holm"
    )
    return Part(**vars(pair) | {"decided": verdict, "note": note})


def _seconds_2019(name: str) -> int:
    hours, minutes, seconds = map(int, reported.finals()[name].time.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _curve_gap(run: Run) -> float:
    last = run.history[-1]
    return last["val_loss"] - last["loss"]


def _curve_ratio(run: Run) -> float:
    last = run.history[-1]
    return last["val_loss"] / last["loss"]


def _curves(runs: Runs, name: str, wide: bool) -> list[Part]:
    """The two curves that 2019 looked at, at the last epoch.

    They are the validation loss, and the training loss with dropout on.
    """
    last: dict[str, Any] = reported.history(name)[-1]
    loss, validation = last["loss"], last["val_loss"]
    printed = loss is not None and validation is not None
    bounds: tuple[dict[str, Any], dict[str, Any]] = (
        ({"low": CLOSE}, {"low": CLOSE_RATIO})
        if wide
        else ({"high": CLOSE}, {"high": CLOSE_RATIO})
    )
    verb = "is more than" if wide else "is less than"
    return [
        Part(
            f"the gap between the curves {verb} {CLOSE}",
            name,
            "validation minus training loss",
            **_values(runs, [name], _curve_gap),
            **bounds[0],
            margin=0.005,
            reported=validation - loss if printed else None,
        ),
        Part(
            f"the validation loss {verb} {CLOSE_RATIO} times the training loss",
            name,
            "validation over training loss",
            **_values(runs, [name], _curve_ratio),
            **bounds[1],
            margin=0.25,
            reported=validation / loss if printed else None,
        ),
    ]


def _e1(runs: Runs) -> list[Part]:
    """The gap between E1's two curves at the last epoch, and their ratio."""
    return _curves(runs, "mlp_e1", wide=True)


def _e2(runs: Runs) -> list[Part]:
    """The same measure for E2 and E3."""
    return [
        part
        for name in ("mlp_e2", "mlp_e3")
        for part in _curves(runs, name, wide=False)
    ]


def _e3(runs: Runs) -> list[Part]:
    """Skewness and excess kurtosis of every kernel; both are 0 for a Gaussian."""
    parts = []
    for name in ("mlp_e2", "mlp_e3"):
        first = next(iter(runs.get(name, {}).values()), None)
        kernels = [k["name"] for k in first.record["kernels"]] if first else ["-"]
        for i, kernel in enumerate(kernels):
            for quantity, limit, statement in (
                ("skewness", SYMMETRIC, "a kernel's weights are symmetric"),
                ("excess_kurtosis", MESOKURTIC, "their tails are those of a Gaussian"),
            ):
                parts.append(
                    Part(
                        f"{statement}: {quantity.replace('_', ' ')} within {limit}",
                        f"{name} {kernel}",
                        quantity.replace("_", " "),
                        **_values(
                            runs,
                            [name],
                            lambda run, i=i, q=quantity: run.record["kernels"][i][q],
                        ),
                        low=-limit,
                        high=limit,
                        margin=limit / 4,
                    )
                )
    return parts


@dataclass(frozen=True)
class Claim:
    """A conclusion of 2019 as a rule: `parts` makes its parts from runs."""

    id: str
    parts: Callable[..., list[Part]]
    undecidable: str  # what 2019's design could not decide
    needs_labels: bool = field(default=False)

    @property
    def reported(self) -> reported.Conclusion:
        """The conclusion as 2019 had it."""
        return next(c for c in reported.conclusions() if c.id == self.id)


CLAIMS = (
    Claim(
        "A-1",
        _a1,
        "One run each, and the time per epoch was left out: A3 costs 4 to 9 times as "
        "much as the others.",
    ),
    Claim(
        "A-2",
        _a2,
        "One run, whose epoch before had 0.9803; nothing was varied to find a cause.",
    ),
    Claim(
        "A-3",
        _a3,
        "A5 lacks not only that dropout but A4's third convolution too, so no "
        "comparison of the two can name the cause. The control lacks the dropout only.",
    ),
    Claim(
        "B-1",
        _b1,
        "One run each; the test loss that showed it is also what was reported, and "
        "most of its epochs cannot be read any more.",
    ),
    Claim(
        "B-2",
        _b2,
        "Its training loss was measured with dropout on and both with the penalty, so "
        "that its two curves would differ even without overfitting.",
    ),
    Claim(
        "B-3",
        _b3,
        "One run each, differences of a few seeds' spread, and no longer training was "
        "tried. Its own table has B24 above B22.",
    ),
    Claim(
        "B-4",
        _b4,
        "There is no unregularised model of seven convolutions, and depth, padding and "
        "head change together between B2x and B5x.",
    ),
    Claim(
        "C-1",
        _c1,
        "It printed no epochs. C1 to C3 differ in filters, kernels, pooling, dropout "
        "and batch normalisation as well as in depth.",
    ),
    Claim(
        "C-2",
        _c2,
        "It printed no training scores, and called the training loss the test loss; "
        "without them overfitting cannot be told from underfitting.",
    ),
    Claim(
        "D-1",
        _d1,
        "One run each, whose figures are of two different runs for D1; 0.2 points are "
        "within what another seed may do.",
        needs_labels=True,
    ),
    Claim(
        "E-1",
        _e1,
        "One run; the training curve is measured with dropout on and during the epoch, "
        "the validation curve with dropout off and after it.",
    ),
    Claim(
        "E-2",
        _e2,
        "E2 and E3 add layers, dropouts and batch normalisation all at once; E3's own "
        "gap (0.032) is nearly E1's (0.037).",
    ),
    Claim(
        "E-3",
        _e3,
        "Three violins of each model were looked at, one of them of another layer than "
        "it said; a violin smooths what it shows.",
    ),
)


def judge(
    claim: Claim, runs: Sequence[Run], labels: np.ndarray | None = None
) -> Verdict:
    """Put a conclusion to the test on runs; those that do not compare are left out.

    Args:
        claim: one of `CLAIMS`.
        runs: any runs; only whole recipes on all of MNIST decide.
        labels: MNIST's test labels, uint8 (10000,), for tests on predictions.
    """
    found = comparable(runs)
    parts = claim.parts(found, labels) if claim.needs_labels else claim.parts(found)
    return judge_parts(parts)


def headline(runs: Sequence[Run], labels: np.ndarray | None = None) -> str:
    """The verdicts, counted.

    >>> headline([])
    '13 conclusions of 2019: 13 undecided'
    """
    verdicts = [judge(claim, runs, labels).verdict for claim in CLAIMS]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED)
        if verdict in verdicts
    )
    return f"{len(CLAIMS)} conclusions of 2019: {counts}"
