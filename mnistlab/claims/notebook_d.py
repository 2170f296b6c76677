"""Rules for the conclusion of notebook D: which is best, and what it costs."""

from math import inf

import numpy as np

from mnistlab import reported, stats
from mnistlab.claims.measures import difference, values_of
from mnistlab.comparison import answers, ran_alike
from mnistlab.judging import (
    CONTRADICTED,
    LEAST_SEEDS,
    POINT,
    SUPPORTED,
    UNDECIDED,
    Part,
    Runs,
)

NEAR = 0.5 * POINT  # D-1: "close"


def d1(runs: Runs, labels: np.ndarray | None) -> list[Part]:
    """Accuracies, and the processor time of all epochs.

    Where seeds are few, McNemar's exact test on the lowest shared one decides who is
    more accurate, adjusted after Holm for the two pairs.
    """
    most = "D1 is the most accurate"
    pairs = [difference(runs, most, "conv3_d1", n) for n in ("conv5_d2", "conv7_d3")]
    if labels is not None and all(
        pair.values and len(pair.values) < LEAST_SEEDS for pair in pairs
    ):
        tests = []
        for pair, other in zip(pairs, ("conv5_d2", "conv7_d3"), strict=True):
            seed = min(pair.values)
            one, two = runs["conv3_d1"][seed], runs[other][seed]
            tests.append(stats.mcnemar(answers(one, labels), answers(two, labels)))
        adjusted = stats.holm([test.p_value for test in tests])
        pairs = [
            _decided_by(pair, test, p)
            for pair, test, p in zip(pairs, tests, adjusted, strict=True)
        ]
    near = difference(
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
        **values_of(
            runs,
            ("conv7_d3", "conv3_d1"),
            lambda d3, d1: (
                d3.record["cpu_seconds"] / d1.record["cpu_seconds"]
                if ran_alike(d3, d1)
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
