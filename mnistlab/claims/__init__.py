"""2019's thirteen conclusions, judged by rules with thresholds.

The sentences are in `reported/conclusions.csv`, a rule for each part is a row of
`rules`, what it measures a function of `measures`, and how parts decide a statement,
and statements a conclusion, is in `judging`.
"""

from collections.abc import Sequence

from mnistlab import judging, reported
from mnistlab.claims.inputs_of_b import VARIANTS, inputs_of_b
from mnistlab.claims.rules import FAIR_PAIRS, REGULARISED, RULES
from mnistlab.judging import VERDICTS, Rule, Verdict
from mnistlab.runs import Run


def judge(conclusion: str, runs: Sequence[Run]) -> Verdict:
    """Put a conclusion to the test on runs; those that do not compare are left out.

    Args:
        conclusion: its id, such as `A-1`.
        runs: any runs; only whole recipes on all of MNIST decide.
    """
    rules = [rule for rule in RULES if rule.conclusion == conclusion]
    return judging.judge(rules, judging.comparable(runs))


def judge_all(runs: Sequence[Run]) -> dict[str, Verdict]:
    """The verdict on every conclusion, by its id."""
    return {said.id: judge(said.id, runs) for said in reported.conclusions()}


def with_unit(rule: Rule) -> str:
    """A rule's quantity as it is shown: accuracies in percent, differences in points.

    >>> with_unit(RULES[0]), with_unit(next(r for r in RULES if r.conclusion == "A-3"))
    ('epochs saved', 'difference of test accuracy (percentage points)')
    """
    if "accuracy" not in rule.quantity:
        return rule.quantity
    unit = "%" if rule.quantity == "test accuracy" else "percentage points"
    return f"{rule.quantity} ({unit})"


def headline(runs: Sequence[Run]) -> str:
    """The verdicts, counted.

    >>> count = len(reported.conclusions())
    >>> headline([]) == f"{count} conclusions of 2019: {count} not tested"
    True
    """
    verdicts = [judged.verdict for judged in judge_all(runs).values()]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in VERDICTS
        if verdict in verdicts
    )
    return f"{len(verdicts)} conclusions of 2019: {counts}"
