"""Draw scores: accuracies with intervals, prices, gaps, and what pairs differ by."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab import comparison, judging, reported
from mnistlab.claims import FAIR_PAIRS
from mnistlab.judging import accuracy
from mnistlab.plots import look
from mnistlab.runs import Run

QUANTITIES = {
    "params": "parameters",
    "macs": "multiply-adds per image",
    "cpu_seconds": "CPU seconds of training",
}
MOST_ERRORS, LEAST_ERRORS = 25, 0.2  # percent: the ends of the headline figure


def accuracies(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw each model's test accuracy, the best on top, with the intervals there are.

    A point is a run. From three seeds on, a bar is the 95 % interval of their mean, cut
    off at 0 and 100 %; models with fewer stand below the others. A cross is 2019's
    figure, only where every run compares with it; one that is far from all of ours is a
    number at the edge.
    """
    scores = comparison.scores(runs)
    if not scores:
        return look.nothing(ax)
    names, finals = list(scores)[::-1], reported.finals()
    ax = look.panel(ax, 8, 1.4 + 0.34 * len(names))
    reported_at: dict[int, float] = {}
    for y, (name, score) in enumerate(reversed(scores.items())):
        values = [100 * accuracy(run) for run in score.runs]
        ends = score.seeds and [100 * min(max(end, 0), 1) for end in score.seeds]
        look.row(ax, y, values, ends, look.colour(name), marker=look.marker(name), s=26)
        if name in finals and all(run.compares_with_2019 for run in score.runs):
            reported_at[y] = 100 * finals[name].test_accuracy
    left, right = ax.get_xlim()  # of our runs: what is far from them would squeeze them
    width = right - left
    for said in reported_at.values():
        if abs(said - (left + right) / 2) < max(0.7 * width, 1):
            left, right = min(left, said - 0.02 * width), max(right, said)
    for y, said in reported_at.items():
        if left <= said <= right:
            ax.plot(said, y, "kx", markersize=7, markeredgewidth=1.5, zorder=4)
        else:
            edge, side = (left, "left") if said < left else (right, "right")
            arrow = f"← 2019: {said:.2f}" if said < left else f"2019: {said:.2f} →"
            ax.text(edge, y, f" {arrow} ", ha=side, va="center", fontsize=9)
    look.name_rows(ax, [reported.title(name) for name in names])
    best, title = names[-1], f"Test accuracy of {len(names)} models"
    several = sum(score.seeds is not None for score in scores.values())
    if several > 1:
        title = f"{best} has the highest mean of {several} models with several seeds"
    ax.set(
        xlim=(left, right),
        xlabel="test accuracy (%); bar: 95 % interval of the mean over seeds",
        title=title,
    )
    handles = look.family_handles(names)
    if reported_at:
        handles.append(plt.Line2D([], [], color="k", marker="x", ls="", label="2019"))
    ax.legend(handles=handles, fontsize=8)
    lowest = min(scores, key=lambda name: scores[name].mean)
    return look.describe(
        ax,
        f"Test accuracy of {len(names)} models. On top is {best} with "
        f"{100 * scores[best].mean:.2f} %; the lowest mean is {lowest}'s, "
        f"{100 * scores[lowest].mean:.2f} %.",
    )


def then_and_now(runs: Sequence[Run]) -> Figure:
    """Draw 2019's test accuracy of each of its 28 models, and today's beside it.

    A filled marker is the mean of the planned seeds, of all there are if one is
    missing; small ones are runs. A bar is where one more run would lie with 95 %, with
    an arrow where it goes beyond the figure. A hollow diamond is 2019's figure: outside
    of the bar it is not reproduced.
    """
    finals = reported.finals()
    names = list(finals)[::-1]
    found = judging.comparable(runs)
    figure, ax = plt.subplots(figsize=(8, 7.4), layout="constrained")
    for y, name in enumerate(names):
        said = judging.reproduction(name, runs)
        is_off = said.verdict == judging.NOT_REPRODUCED
        shade = look.BAD if is_off else look.GOOD
        errors = [_error(accuracy(run)) for run in found.get(name, {}).values()]
        ends = said.interval and [_error(end) for end in said.interval]
        look.row(ax, y, errors, ends, shade, s=9)
        for edge, arrow in ((MOST_ERRORS, "<"), (LEAST_ERRORS, ">")):
            if ends and ends[1] <= edge <= ends[0]:
                ax.plot(edge, y, arrow, color=shade, markersize=7, clip_on=False)
        if errors:
            planned = [_error(value) for value in said.values] or errors
            ax.plot(np.mean(planned), y, "o", color=shade, markersize=6, zorder=4)
        ax.plot(_error(finals[name].test_accuracy), y, "kD", mfc="none", zorder=5)
    ax.set(xscale="log", xlim=(MOST_ERRORS, LEAST_ERRORS))
    ticks = (80, 90, 95, 98, 99, 99.5)
    ax.set_xticks([100 - tick for tick in ticks], [f"{tick:g} %" for tick in ticks])
    ax.minorticks_off()
    look.name_rows(ax, [reported.title(name) for name in names], fontsize=8)
    ax.grid(alpha=0.3)
    ax.set_xlabel("test accuracy after the last epoch (scale: share of errors)")
    line = partial(plt.Line2D, [], [], linestyle="")
    ax.legend(
        handles=[
            line(marker="D", color="k", mfc="none", label="2019, one run"),
            line(marker="o", color=look.GOOD, label="today, mean (small: each run)"),
            line(marker="s", color=look.GOOD, alpha=0.3, label="one more run, 95 %"),
            line(marker="o", color=look.BAD, label="2019 is not reproduced"),
        ],
        fontsize=8,
        loc="lower left",
    )
    return look.describe(
        figure,
        f"Test accuracy of {len(names)} models: 2019's beside today's, of "
        f"{sum(name in found for name in names)} models with the 95 % interval for one "
        "more run where there are enough seeds. The same numbers are in the tables.",
    )


def _error(accuracy: float) -> float:
    """Percent of test images that are wrong; never 0, which a log scale lacks."""
    return max(100 * (1 - accuracy), 0.1)


def accuracy_against(
    quantity: str, runs: Sequence[Run], ax: Axes | None = None
) -> Axes:
    """Draw accuracy against one of `QUANTITIES`, with the Pareto front.

    A point is a model, at the mean of its seeds; the line joins the models that no
    other beats in both. CPU seconds are the mean of its runs on like machines.

    Raises:
        ValueError: an unknown quantity.
    """
    if quantity not in QUANTITIES:
        known = ", ".join(QUANTITIES)
        raise ValueError(f"quantity: expected one of {known}, got {quantity!r}")
    if not runs:
        return look.nothing(ax)
    label = QUANTITIES[quantity]
    title, priced = f"Accuracy for its price in {label}", runs
    if quantity == "cpu_seconds":
        priced = comparison.timed_alike(runs)
        if len(priced) < len(runs):
            title += f": of {len(priced)} runs on like machines"
        if not priced:
            why = "No run here says on which processor it was trained."
            return look.nothing(ax, why)
    ax = look.panel(ax, 9, 6)
    scores = comparison.scores(runs)
    points = {
        name: (
            float(np.mean([run.record[quantity] for run in own])),
            100 * scores[name].mean,
        )
        for name, own in comparison.by_model(priced).items()
    }
    for name, point in points.items():
        ax.scatter(*point, color=[look.colour(name)], marker=look.marker(name), s=42)
    front = comparison.pareto(points)
    ax.plot(*zip(*(points[name] for name in front), strict=True), "k--", lw=1, zorder=0)
    ax.set(
        xscale="log",
        xlabel=f"{label}, log scale",
        ylabel="test accuracy (%)",
        title=title,
    )
    ax.xaxis.set_major_formatter("{x:,.9g}")
    prices = [price for price, _ in points.values()]
    if max(prices) < 10 * min(prices):  # else a power of ten is always among them
        ax.xaxis.set_minor_formatter("{x:,.9g}")
        ax.tick_params(axis="x", which="minor", labelsize=8, labelrotation=30)
    _name_points(ax, points)
    ax.grid(alpha=0.4)
    handles = [*look.family_handles(list(points)), plt.Line2D([], [], color="k",
               ls="--", label="no model is both\ncheaper and better")]  # fmt: skip
    ax.legend(handles=handles, fontsize=8)
    return look.describe(
        ax,
        f"Test accuracy against {label} of {len(points)} models. On the Pareto front, "
        f"cheapest first: {', '.join(front)}.",
    )


def _name_points(ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each model's name beside its point, where most room is."""
    spots = ((13, 8), (-13, 8), (13, -8), (-13, -8))
    places = ax.transData.transform(list(points.values())) * 72 / ax.figure.dpi
    drawn = list(places)
    for name, place in zip(points, places, strict=True):
        room = [
            min(np.abs((place + spot - other) / (18, 9)).max() for other in drawn)
            for spot in spots
        ]
        spot = spots[int(np.argmax(np.round(room, 3)))]
        drawn.append(place + spot)
        ax.annotate(reported.short(name), points[name], spot, fontsize=8, ha="center",
                    va="center", textcoords="offset points")  # fmt: skip


def costs(runs: Sequence[Run]) -> Figure:
    """Draw test accuracy against each of parameters, multiply-adds, CPU seconds."""
    if not runs:
        return look.figure_of(look.nothing(None))
    figure, axes = look.stacked([5.3] * len(QUANTITIES), 9)
    texts = []
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        accuracy_against(quantity, runs, ax)
        texts.append(str(figure.get_label()))
    return look.describe(figure, " ".join(texts))


def gaps(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw training and test cross-entropy of each model, the widest gap on top.

    Both with dropout off and without the L2 penalty, mean over seeds, after the end of
    training; that of training is on as many training images as there are test images.
    """
    if not runs:
        return look.nothing(ax)
    means = {
        name: [
            float(np.mean([run.record[part]["cross_entropy"] for run in own]))
            for part in ("train", "test")
        ]
        for name, own in comparison.by_model(runs).items()
    }
    names = sorted(means, key=lambda name: means[name][1] - means[name][0])
    ax = look.panel(ax, 8, 1.4 + 0.32 * len(names))
    train, test = ([means[name][part] for name in names] for part in (0, 1))
    ys = range(len(names))
    ax.hlines(ys, train, test, colors=[look.colour(n) for n in names], linewidth=2)
    dots = partial(ax.scatter, edgecolor="0.15", zorder=3, s=26)
    dots(train, ys, color="white", label="training images, a sample")
    dots(test, ys, color="0.15", label="test images")
    look.name_rows(ax, [reported.title(name) for name in names])
    ax.legend(fontsize=8, loc="lower right")
    widest, width = names[-1], test[-1] - train[-1]
    ax.set(
        xlabel="cross-entropy (nats), dropout off, no penalty",
        title=f"From training to test: {widest} loses most ({width:.3f})",
    )
    return look.describe(
        ax,
        f"Cross-entropy on training and test images of {len(names)} models. The widest "
        f"gap, {width:.3f}, is that of {widest}; the lowest that of {names[0]}.",
    )


def pair_differences(runs: Sequence[Run]) -> Figure:
    """Draw what the second of each fair pair changes: accuracy, and the gap of losses.

    A point is a seed that both have. From three seeds on a bar is the 95 % interval of
    the mean difference; with fewer, or where all are equal, there is none.
    """
    models = {
        name: {run.seed: run for run in own}
        for name, own in comparison.by_model(runs).items()
    }
    shown = {}
    for plain, other in reversed(FAIR_PAIRS):
        one, two = models.get(plain, {}), models.get(other, {})
        if seeds := sorted(one.keys() & two.keys()):
            shown[plain, other] = [(one[seed], two[seed]) for seed in seeds]
    if not shown:
        why = "No pair of models has runs of the same seed here."
        return look.figure_of(look.nothing(None, why))
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.6 + 0.5 * len(shown)), sharey=True)
    measures = (
        ("test accuracy (points)", lambda run: 100 * accuracy(run), "more accurate"),
        ("gap, test minus training (nats)", judging.gap, "wider gap"),
    )
    texts = []
    for ax, (label, measure, meaning) in zip(axes, measures, strict=True):
        ax.axvline(0, color="0.4", linewidth=1)
        for y, ((_, other), both) in enumerate(shown.items()):
            values = [measure(second) - measure(first) for first, second in both]
            ends = judging.seeds_interval(values)
            look.row(ax, y, values, ends, look.colour(other))
            texts.append(f"{other} {np.mean(values):+.3f} in {label}")
        ax.set_xlabel(f"change of {label}; right: {meaning}")
        look.name_rows(ax, [f"{other} against {plain}" for plain, other in shown])
    figure.suptitle("What regularisation changes within the pairs of 2019")
    figure.tight_layout()
    text = "Changes within pairs, mean over seeds: " + "; ".join(texts) + "."
    return look.describe(figure, text)
