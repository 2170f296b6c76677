"""2019's thirteen conclusions, each a rule over runs with thresholds fixed beforehand.

The rules were committed before a full run was looked at. Faults that reviews found were
mended after; no threshold, no statement and no verdict changed:

* 712425f: times of two machines do not compare, and runs of other definitions of a
  model do not count.
* With the split into a file for each notebook of 2019: a model that never gets to an
  accuracy has no time to it (A-1 took all of its time, a lower bound, for it), and
  values that are all equal are judged by the margin, as fewer than three are, for
  their interval would have no width.

How parts decide a statement, and statements a conclusion, is in `judging`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mnistlab import reported
from mnistlab.claims import notebook_a, notebook_b, notebook_c, notebook_d, notebook_e
from mnistlab.claims.notebook_b import FAIR_PAIRS
from mnistlab.judging import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Part,
    Verdict,
    comparable,
    judge_parts,
)
from mnistlab.runs import Run

__all__ = ["CLAIMS", "FAIR_PAIRS", "Claim", "headline", "judge"]


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
        notebook_a.a1,
        "One run each, and the time per epoch was left out: A3 costs 4 to 9 times as "
        "much as the others.",
    ),
    Claim(
        "A-2",
        notebook_a.a2,
        "One run, whose epoch before had 0.9803; nothing was varied to find a cause.",
    ),
    Claim(
        "A-3",
        notebook_a.a3,
        "A5 lacks not only that dropout but A4's third convolution too, so no "
        "comparison of the two can name the cause. The control lacks the dropout only.",
    ),
    Claim(
        "B-1",
        notebook_b.b1,
        "One run each; the test loss that showed it is also what was reported, and "
        "most of its epochs cannot be read any more.",
    ),
    Claim(
        "B-2",
        notebook_b.b2,
        "Its training loss was measured with dropout on and both with the penalty, so "
        "that its two curves would differ even without overfitting.",
    ),
    Claim(
        "B-3",
        notebook_b.b3,
        "One run each, differences of a few seeds' spread, and no longer training was "
        "tried. Its own table has B24 above B22.",
    ),
    Claim(
        "B-4",
        notebook_b.b4,
        "There is no unregularised model of seven convolutions, and depth, padding and "
        "head change together between B2x and B5x.",
    ),
    Claim(
        "C-1",
        notebook_c.c1,
        "It printed no epochs. C1 to C3 differ in filters, kernels, pooling, dropout "
        "and batch normalisation as well as in depth.",
    ),
    Claim(
        "C-2",
        notebook_c.c2,
        "It printed no training scores, and called the training loss the test loss; "
        "without them overfitting cannot be told from underfitting.",
    ),
    Claim(
        "D-1",
        notebook_d.d1,
        "One run each, whose figures are of two different runs for D1; 0.2 points are "
        "within what another seed may do.",
        needs_labels=True,
    ),
    Claim(
        "E-1",
        notebook_e.e1,
        "One run; the training curve is measured with dropout on and during the epoch, "
        "the validation curve with dropout off and after it.",
    ),
    Claim(
        "E-2",
        notebook_e.e2,
        "E2 and E3 add layers, dropouts and batch normalisation all at once; E3's own "
        "gap (0.032) is nearly E1's (0.037).",
    ),
    Claim(
        "E-3",
        notebook_e.e3,
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
