"""Draw what decided a conclusion: each quantity, and the range it must lie in."""

from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mnistlab import claims, reported
from mnistlab.judging import Part, judge_statement
from mnistlab.plots import look
from mnistlab.runs import Run

COLOURS = {
    "supported": look.PALETTE[0],
    "contradicted": look.PALETTE[3],
    "undecided": "0.45",
    "not tested": "0.8",
}


def conclusion(said: reported.Conclusion, runs: Sequence[Run]) -> Figure:
    """Draw the parts of a conclusion, a panel for each statement.

    A point is a seed, hollow if it is beyond the planned ones; a bar is the interval of
    the mean over the planned seeds, a cross 2019's own figure. Green is where the
    statement says that they lie; blue parts are supported, orange ones contradicted,
    dark grey ones undecided, light grey ones not tested.
    """
    judged = claims.judge(said.id, runs)
    shown = {
        statement: known
        for statement, parts in judged.statements.items()
        if (known := [part for part in parts if part.values])
    }
    heights = [1.1 + 0.3 * len(parts) for parts in shown.values()]
    if not shown:
        why = f"{said.id}: there are no runs to judge by yet."
        figure = look.figure_of(look.nothing(None, why))
    else:
        figure, axes = look.stacked(heights, 8.5)
        told = {s: judge_statement(parts) for s, parts in judged.statements.items()}
        for ax, (statement, parts) in zip(axes, shown.items(), strict=True):
            _statement(ax, statement, parts, told[statement])
        text = ". ".join(f"{_sentence(s)}: {verdict}" for s, verdict in told.items())
        look.describe(figure, f"{said.id} is {judged.verdict}. {text}.")
    plt.close(figure)  # it is displayed where its conclusion is, not at the cell's end
    return figure


def _statement(ax: Axes, statement: str, parts: Sequence[Part], verdict: str) -> None:
    for y, part in enumerate(reversed(parts)):
        fill = COLOURS[part.verdict]
        for seed, value in part.values.items():
            face = fill if seed < part.rule.seeds else "none"
            ax.scatter(value, y, color=face, edgecolor=fill, s=24, zorder=3)
        if part.interval is not None:
            ax.hlines(y, *part.interval, color=fill, linewidth=6, alpha=0.35)
        if part.rule.reported is not None:
            ax.plot(part.rule.reported, y, "kx", zorder=4)
    look.name_rows(ax, [part.about for part in reversed(parts)], fontsize=8)
    # Both bounds are to be seen, also where all values lie far away from them.
    rule = parts[0].rule
    ends = [*ax.get_xlim(), *filter(np.isfinite, (rule.low, rule.high))]
    space = 0.05 * (max(ends) - min(ends))
    left, right = min(ends) - space, max(ends) + space
    holds = max(rule.low, left), min(rule.high, right)
    ax.axvspan(*holds, color=look.PALETTE[2], alpha=0.15, zorder=0)
    ax.set_xlim(left, right)
    ax.set_xlabel(claims.with_unit(rule), fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_title(f"{_sentence(statement)}: {verdict}", fontsize=9, loc="left")
    if "accuracy" in rule.quantity:
        ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))


def _sentence(statement: str) -> str:
    """With a capital; `str.capitalize` would make small letters of all others."""
    return statement[0].upper() + statement[1:]


def conclusions(runs: Sequence[Run]) -> Figure:
    """Draw the verdict on each conclusion: what share of its parts is decided how."""
    judged = dict(reversed(claims.judge_all(runs).items()))
    counts = pd.DataFrame(
        {name: Counter(part.verdict for part in verdict.parts)
         for name, verdict in judged.items()},
        index=list(COLOURS),
    )  # fmt: skip
    shares = 100 * counts / counts.sum()
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    shares.T.plot.barh(stacked=True, color=COLOURS, width=0.7, ax=ax)
    for y, verdict in enumerate(said.verdict for said in judged.values()):
        colour = COLOURS["undecided" if verdict == "not tested" else verdict]
        ax.text(102, y, verdict, va="center", color=colour, fontweight="bold")
    ax.set(
        xlim=(0, 130),
        xticks=range(0, 101, 20),
        xlabel="share of a conclusion's parts (%)",
        title=claims.headline(runs),
    )
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.14))
    ax.spines[["top", "right"]].set_visible(False)
    said = ", ".join(f"{n} {judged[n].verdict}" for n in reversed(judged))
    return look.describe(figure, f"The verdicts on 2019's conclusions: {said}.")
