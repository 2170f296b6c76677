"""Draw errors: which digits are taken for which, by whom, and how surely."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnistlab import comparison, reported, stats
from mnistlab.comparison import answers, by_model
from mnistlab.plots import look
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
        return look.nothing(ax)
    counts = np.zeros((10, 10))
    for own in models.values():
        for run in own:
            predicted, _ = run.predictions()
            np.add.at(counts, (y_test[: len(predicted)], predicted), 1 / len(own))
    ax = look.panel(ax, 6, 5)
    diagonal = np.eye(10, dtype=bool)
    _heatmap(counts, "test images", ax, cmap="Blues", fmt=".0f", mask=diagonal)
    np.fill_diagonal(counts, 0)
    given, taken = np.unravel_index(counts.argmax(), counts.shape)
    found = f"Most often a {given} is taken for a {taken}"
    if not counts.any():
        found = "No errors"
    of = f"{len(models)} models, {len(runs)} runs"
    ax.set(xlabel="predicted digit", ylabel="given digit", title=f"{found}; {of}")
    return look.describe(
        ax,
        f"Wrong answers of {of}, by the image's digit and the digit that was answered: "
        f"the mean of a model's seeds, summed over models, {counts.sum():.0f} in all. "
        f"{found}, {counts.max():.0f} times.",
    )


def errors_by_digit(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw the share of each digit that each model gets wrong, in percent.

    A model's share is the mean over its seeds. All runs are of the same test images; a
    digit that is not among them has no share.
    """
    models = by_model(runs)
    if not models:
        return look.nothing(ax)
    wrong = {
        name: np.mean([~answers(run, y_test) for run in own], axis=0)
        for name, own in models.items()
    }
    frame = pd.DataFrame(wrong)
    shares = 100 * frame.groupby(y_test[: len(frame)]).mean().reindex(range(10)).T
    ax = look.panel(ax, 9, 1.6 + 0.3 * len(models))
    _heatmap(shares, "images wrong (%)", ax, cmap="Oranges", yticklabels=list(models))
    means = shares.mean()
    found = f"{means.idxmax()} is the hardest" if means.any() else "no errors"
    ax.set(xlabel="given digit", title=f"Errors by digit: {found}")
    return look.describe(
        ax,
        f"Share of each digit that each of {len(models)} models gets wrong; on "
        f"average {found}.",
    )


def lost_digits(record: str | Path, ax: Axes | None = None) -> Axes:
    """Draw how the networks of `studies/c2_tails.py` end, from its record, by digit.

    A row is a network, the most accurate on top: the share of each digit that it gets
    right, in percent.
    """
    study = json.loads(Path(record).read_text("utf-8"))
    tails = sorted(study["tails"], key=lambda tail: -tail["accuracy"])
    rows = [f"seed {t['seed']}: {100 * t['accuracy']:.2f} %" for t in tails]
    shares = 100 * np.array([tail["recall"] for tail in tails])
    ax = look.panel(ax, 8, 1.6 + 0.3 * len(rows))
    options = {"cmap": "Blues", "fmt": ".0f", "yticklabels": rows}
    _heatmap(shares, "images right (%)", ax, **options)
    said = 100 * reported.finals()["conv5_c2"].test_accuracy
    found = f"{study['below_90']} of {len(rows)} networks end below 90 %"
    ax.set(xlabel="given digit", title=f"{found}; C2 in 2019: {said:.2f} %")
    text = f"Share of each digit that each of them gets right: {'; '.join(rows)}."
    return look.describe(ax, f"{found}. {text}")


def agreement(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw how often two models give the same answer, in percent of the images."""
    if len(by_model(runs)) < 2:
        return look.nothing(ax, "Agreement needs at least two models.")
    names, shares = comparison.agreement(runs)
    diagonal = np.eye(len(names), dtype=bool)
    ax = look.panel(ax, 5 + 0.32 * len(names), 2.4 + 0.27 * len(names))
    _heatmap(
        100 * shares,
        "same answer (% of test images)",
        ax,
        cmap="viridis",
        mask=diagonal,
        annot=len(names) <= 10,
        xticklabels=[reported.short(name) for name in names],
        yticklabels=names,
    )
    ax.tick_params(axis="x", labelrotation=90)
    between = 100 * shares[~diagonal]
    found = f"{between.min():.1f} to {between.max():.1f} %"
    ax.set(xlabel="model", title=f"Two models agree on {found} of the images")
    return look.describe(
        ax,
        f"How often each pair of {len(names)} models gives the same answer: {found} "
        "of the test images.",
    )


def reliability(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how often models are right where they say they are that sure.

    One line a model, over all its seeds; on the diagonal they would be calibrated. The
    legend has the expected calibration error in points.
    """
    models = by_model(runs)
    if not models:
        return look.nothing(ax)
    ax = look.panel(ax, 6.5, 6)
    ax.plot([0, 100], [0, 100], color="0.5", linestyle=":", label="perfect")
    errors = {}
    for name, own in models.items():
        confidence = np.concatenate([run.predictions()[1] for run in own])
        is_right = np.concatenate([answers(run, y_test) for run in own])
        found = stats.calibration(confidence, is_right)
        errors[name] = 100 * stats.calibration_error(found)
        sure, right = 100 * found["confidence"], 100 * found["accuracy"]
        label = f"{reported.short(name)}: {errors[name]:.2f}"
        shade, point = look.colour(name), look.marker(name)
        ax.plot(sure, right, color=shade, marker=point, markersize=5, label=label)
    ax.set(
        xlabel="confidence in the answer (%), mean of a bin",
        ylabel="right answers (%)",
        title="Below the diagonal: surer than right",
    )
    title, beside = "calibration error (points)", (1.02, 0.5)
    ax.legend(title=title, fontsize=8, loc="center left", bbox_to_anchor=beside)
    ax.grid(alpha=0.4)
    order = sorted(errors, key=errors.__getitem__)
    return look.describe(
        ax,
        f"Reliability diagram of {len(models)} models. Expected calibration error from "
        f"{errors[order[0]]:.2f} points ({order[0]}) to "
        f"{errors[order[-1]]:.2f} points ({order[-1]}).",
    )


def share_wrong(
    runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how many test images are wrong in how many models: are errors shared?

    Each model is represented by its lowest seed.
    """
    first = [own[0] for own in by_model(runs).values()]
    if len(first) < 2:
        return look.nothing(ax, "Shared errors need at least two models.")
    wrong = np.sum([~answers(run, y_test) for run in first], axis=0)
    counts = np.bincount(wrong, minlength=len(first) + 1)
    ax = look.panel(ax, 9, 3.6)
    ax.bar(range(1, len(counts)), counts[1:], color=look.PALETTE[0])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    found = f"{counts[0]:,} images are right in every model, {counts[-1]} wrong in all"
    ax.set(
        xlabel=f"models that get an image wrong, of {len(first)}",
        ylabel="test images",
        title=found,
    )
    text = f"How many test images are wrong in 1 to {len(first)} models; {found}."
    return look.describe(ax, text)
