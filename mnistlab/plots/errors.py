"""Draw errors: which digits are taken for which, by whom, and how surely."""

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnistlab import comparison, stats
from mnistlab.comparison import answers, by_model
from mnistlab.plots.look import colour, describe, marker, nothing, panel, short
from mnistlab.runs import Run


def _heatmap(values: object, legend: str, ax: Axes, **options: object) -> None:
    """Seaborn's heat map, with small numbers in its cells and rows named upright."""
    seaborn.heatmap(
        np.asarray(values),
        ax=ax,
        annot_kws={"fontsize": 8},
        cbar_kws={"label": legend},
        **({"annot": True, "fmt": ".1f"} | options),
    )
    ax.tick_params(axis="y", labelrotation=0)


def confusion(runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draw which digits are taken for which, over all models given; errors only.

    A cell counts test images (given digit, predicted digit), the mean over a model's
    seeds, summed over models; the diagonal, the right answers, is left empty.
    """
    models = by_model(runs)
    if not models:
        return nothing(ax)
    counts = np.zeros((10, 10))
    for own in models.values():
        for run in own:
            predicted, _ = run.predictions()
            where = y_test[: len(predicted)], predicted
            np.add.at(counts, where, 1 / len(own))
    ax = panel(ax, 6, 5)
    diagonal = np.eye(10, dtype=bool)
    _heatmap(counts, "test images", ax, cmap="Blues", fmt=".0f", mask=diagonal)
    ax.set_xlabel("predicted digit")
    ax.set_ylabel("given digit")
    np.fill_diagonal(counts, 0)
    given, taken = np.unravel_index(counts.argmax(), counts.shape)
    total = counts.sum()
    of = f"{len(models)} models, {len(runs)} runs"
    if total:
        ax.set_title(f"Most often a {given} is taken for a {taken}; {of}")
    else:
        ax.set_title(f"No errors; {of}")
    describe(
        ax,
        f"Wrong answers of {of}, by the image's digit and the digit that was answered: "
        f"the mean of each model's seeds, summed over models, {total:.0f} in all. The "
        f"most frequent, {counts.max():.0f} times: a {given} taken for a {taken}.",
    )
    return ax


def errors_by_digit(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw the share of each digit that each model gets wrong, in percent.

    A model's share is the mean over its seeds.
    """
    models = by_model(runs)
    if not models:
        return nothing(ax)
    shares = []
    for own in models.values():
        rows = []
        for run in own:
            right = answers(run, y_test)
            labels = y_test[: len(right)]
            count = np.bincount(labels, minlength=10)
            wrong = np.bincount(labels[~right], minlength=10)
            # A digit that is not among few images has no share.
            rows.append(100 * wrong / np.where(count, count, np.nan))
        shares.append(np.mean(rows, axis=0))
    ax = panel(ax, 9, 1.6 + 0.3 * len(models))
    _heatmap(shares, "images wrong (%)", ax, cmap="Oranges", yticklabels=list(models))
    ax.set_xlabel("given digit")
    # All models are tested on the same images; a digit that is not there has no share.
    means = np.mean(shares, axis=0)
    found = "no errors"
    if np.nansum(means):
        found = f"{int(np.nanargmax(means))} is the hardest"
    ax.set_title(f"Errors by digit: {found}")
    describe(
        ax,
        f"Share of each digit that each of {len(models)} models gets wrong; on "
        f"average {found}.",
    )
    return ax


def agreement(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw how often two models give the same answer, in percent of the images."""
    if len(by_model(runs)) < 2:
        return nothing(ax, "Agreement needs at least two models.")
    names, shares = comparison.agreement(runs)
    between = shares[~np.eye(len(names), dtype=bool)]
    ax = panel(ax, 5 + 0.32 * len(names), 2.4 + 0.27 * len(names))
    _heatmap(
        100 * shares,
        "same answer (% of test images)",
        ax,
        cmap="viridis",
        mask=np.eye(len(names), dtype=bool),
        annot=len(names) <= 10,
        xticklabels=[short(name) for name in names],
        yticklabels=names,
    )
    ax.tick_params(axis="x", labelrotation=90)
    ax.set_xlabel("model")
    low, high = 100 * between.min(), 100 * between.max()
    ax.set_title(f"Two models agree on {low:.1f} to {high:.1f} % of the images")
    describe(
        ax,
        f"How often each pair of {len(names)} models gives the same answer: between "
        f"{low:.1f} and {high:.1f} % of the test images.",
    )
    return ax


def reliability(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how often models are right where they say they are that sure.

    One line a model, over all its seeds; on the diagonal they would be calibrated. The
    legend has the expected calibration error in points.
    """
    models = by_model(runs)
    if not models:
        return nothing(ax)
    ax = panel(ax, 6.5, 6)
    ax.plot([0, 100], [0, 100], color="0.5", linestyle=":", label="perfect")
    errors = {}
    for name, own in models.items():
        confidence = np.concatenate([run.predictions()[1] for run in own])
        right = np.concatenate([answers(run, y_test) for run in own])
        found = stats.calibration(confidence, right)
        errors[name] = 100 * found.error
        ax.plot(
            100 * found.confidence,
            100 * found.accuracy,
            color=colour(name),
            marker=marker(name),
            markersize=5,
            label=f"{short(name)}: {errors[name]:.2f}",
        )
    ax.set_xlabel("confidence in the answer (%), mean of a bin")
    ax.set_ylabel("right answers (%)")
    ax.set_title("Below the diagonal: surer than right")
    ax.legend(
        title="calibration error (points)",
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
    )
    ax.grid(alpha=0.4)
    best = min(errors, key=errors.__getitem__)
    worst = max(errors, key=errors.__getitem__)
    describe(
        ax,
        f"Reliability diagram of {len(models)} models. Expected calibration error from "
        f"{errors[best]:.2f} points ({best}) to {errors[worst]:.2f} points ({worst}).",
    )
    return ax


def share_wrong(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how many test images are wrong in how many models: are errors shared?

    Each model is represented by its lowest seed.
    """
    first = [own[0] for own in by_model(runs).values()]
    if len(first) < 2:
        return nothing(ax, "Shared errors need at least two models.")
    wrong = np.sum([~answers(run, y_test) for run in first], axis=0)
    counts = np.bincount(wrong, minlength=len(first) + 1)
    ax = panel(ax, 9, 3.6)
    ax.bar(range(1, len(counts)), counts[1:], color="#0173b2")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(f"models that get an image wrong, of {len(first)}")
    ax.set_ylabel("test images")
    ax.set_title(
        f"{counts[0]:,} images are right in every model, {counts[-1]} wrong in all"
    )
    describe(
        ax,
        f"How many test images are wrong in 1 to {len(first)} models; {counts[0]} are "
        f"right in all, {counts[-1]} wrong in all.",
    )
    return ax
