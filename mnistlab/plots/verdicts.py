"""Draw what decided a conclusion: each quantity, and the range it must lie in."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mnistlab import claims, reported
from mnistlab.judging import Part, judge_statement
from mnistlab.plots.look import describe, figure_of, nothing
from mnistlab.runs import Run

COLOURS = {
    "supported": "#0173b2",
    "contradicted": "#d55e00",
    "undecided": "0.45",
    "not tested": "0.8",
}
TEXT = COLOURS | {"not tested": "0.45"}  # which can be read on white


def conclusion(said: reported.Conclusion, runs: Sequence[Run]) -> Figure:
    """Draw the parts of a conclusion, a panel for each statement.

    A point is a seed, hollow if it is beyond the planned ones; a bar is the interval of
    the mean over the planned seeds, a cross 2019's own figure. Green is where the
    statement says that they lie; blue parts are supported, orange ones contradicted,
    dark grey ones undecided, light grey ones not tested.
    """
    judged = claims.judge(said.id, runs)
    statements = {
        statement: [part for part in parts if part.values]
        for statement, parts in judged.statements.items()
    }
    statements = {name: parts for name, parts in statements.items() if parts}
    if not statements:
        why = f"{said.id}: there is nothing to judge by yet."
        figure = figure_of(nothing(None, why))
        plt.close(figure)
        return figure
    heights = [1.1 + 0.3 * len(parts) for parts in statements.values()]
    figure, axes = plt.subplots(
        len(statements),
        figsize=(8.5, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for ax, (statement, parts) in zip(axes.flat, statements.items(), strict=True):
        _statement(ax, statement, parts, judge_statement(judged.statements[statement]))
    told = "; ".join(f"{s}: {judge_statement(p)}" for s, p in judged.statements.items())
    describe(figure, f"What decides {said.id}, {judged.verdict}. {told}.")
    plt.close(figure)  # it is displayed where its conclusion is, not at the cell's end
    return figure


def _statement(ax: Axes, statement: str, parts: Sequence[Part], verdict: str) -> None:
    labels = []
    for y, part in enumerate(reversed(parts)):
        fill = COLOURS[part.verdict]
        for seed, value in part.values.items():
            face = fill if seed < part.rule.seeds else "none"
            ax.scatter(value, y, color=face, edgecolor=fill, s=24, zorder=3)
        if part.interval is not None:
            ax.hlines(y, *part.interval, color=fill, linewidth=6, alpha=0.35)
        if part.rule.reported is not None:
            ax.plot(part.rule.reported, y, "kx", zorder=4)
        labels.append(part.about)
    ax.set_yticks(range(len(parts)), labels, fontsize=8)
    ax.set_ylim(-0.6, len(parts) - 0.4)
    # Both bounds are to be seen, also where all values lie far away from them.
    rule = parts[0].rule
    bounds = [end for end in (rule.low, rule.high) if np.isfinite(end)]
    low, high = ax.get_xlim()
    low, high = min(low, *bounds), max(high, *bounds)
    space = 0.05 * (high - low)
    ax.set_xlim(low - space, high + space)
    ax.axvspan(
        max(rule.low, low - space),
        min(rule.high, high + space),
        color="#029e73",
        alpha=0.15,
        zorder=0,
    )
    ax.set_xlabel(claims.with_unit(rule), fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", alpha=0.4)
    title = statement[0].upper() + statement[1:]
    ax.set_title(f"{title}: {verdict}", fontsize=9, loc="left")
    if "accuracy" in parts[0].rule.quantity:
        ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))


def conclusions(runs: Sequence[Run]) -> Figure:
    """Draw the verdict on each conclusion: what share of its parts is decided how."""
    judged = claims.judge_all(runs)
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for y, verdict in enumerate(reversed(judged.values())):
        left = 0.0
        for kind, fill in COLOURS.items():
            share = 100 * float(np.mean([p.verdict == kind for p in verdict.parts]))
            ax.barh(y, share, left=left, color=fill, height=0.7)
            left += share
        ax.text(
            102, y, verdict.verdict, va="center", fontsize=9,
            color=TEXT[verdict.verdict], fontweight="bold",
        )  # fmt: skip
    ax.set_yticks(range(len(judged)), list(judged)[::-1])
    ax.set_xlim(0, 130)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("share of a conclusion's parts (%)")
    handles = [plt.Rectangle((0, 0), 1, 1, color=fill) for fill in COLOURS.values()]
    ax.legend(
        handles, COLOURS, ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.14)
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(claims.headline(runs))
    said = ", ".join(f"{name} {verdict.verdict}" for name, verdict in judged.items())
    describe(figure, f"The verdicts on 2019's conclusions: {said}.")
    return figure
