"""Draw learning curves: 2019's, and bands over seeds."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from mnistlab import reported
from mnistlab.comparison import by_model
from mnistlab.models.experiment import Experiment
from mnistlab.plots import look
from mnistlab.runs import Run

# 2019's colours.
VALIDATION, TRAIN = "b", "r"


def plt_dynamic(
    x: Sequence[float],
    vy: Sequence[float],
    ty: Sequence[float],
    ax: Axes | None = None,
) -> Axes:
    """Draw 2019's loss curve: validation blue, training red, over epochs.

    Args:
        x: epochs, from 1.
        vy: validation loss of each epoch.
        ty: training loss of each epoch.
        ax: where to draw; None makes a figure.

    Returns:
        The axes drawn on.

    >>> ax = plt_dynamic([1, 2], [0.3, 0.2], [0.5, 0.3])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['Validation Loss', 'Train Loss']
    >>> plt.close(ax.figure)
    """
    ax = look.panel(ax)
    ax.set(xlabel="epoch", ylabel="Categorical Crossentropy Loss")
    # One epoch is a point, which a line alone would not show.
    point = "o" if len(x) == 1 else None
    ax.plot(x, vy, VALIDATION, marker=point, label="Validation Loss")
    ax.plot(x, ty, TRAIN, marker=point, label="Train Loss")
    if len(x) == 1:
        ax.set_xticks(list(x))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=True)
    ax.legend()
    return ax


def runs_of(experiment: Experiment, runs: Sequence[Run]) -> list[Run]:
    """The runs of one experiment, by seed."""
    return by_model(runs).get(experiment.name, [])


def learning_curve(
    experiment: Experiment,
    runs: Sequence[Run],
    ax: Axes | None = None,
    *,
    full: Sequence[Run] = (),
) -> Axes:
    """Draw an experiment's loss curve as 2019 did, with 2019's where it compares.

    The lowest seed is drawn in full, other seeds thin. The loss is the one that was
    minimised, so it includes an L2 penalty. 2019's epochs are dashed, the line broken
    where its log has gaps, and only beside runs of the whole recipe. Shorter runs have
    those among `full` in a panel beside them.
    """
    own = runs_of(experiment, runs)
    if not own:
        return look.nothing(ax, f"There is no run of {experiment.name} here.")
    first, *others = own
    whole = runs_of(experiment, [run for run in full if run.compares_with_2019])
    told = ""
    if whole and not first.compares_with_2019:
        figure, (ax, beside) = plt.subplots(1, 2, figsize=(12, 4))
        learning_curve(experiment, whole, beside)
        beside.set_title(f"{experiment.name}: the committed full runs, and 2019")
        told = f" Beside it the committed full runs: {figure.get_label()}"
    ax = look.panel(ax)
    for run in others:
        for name, line in (("val_loss", VALIDATION), ("loss", TRAIN)):
            ax.plot(*_series(run, name), line, alpha=0.3, linewidth=1)
    epochs, validation = _series(first, "val_loss")
    training = _series(first, "loss")[1]
    plt_dynamic(epochs, validation, training, ax)
    if first.compares_with_2019:
        _add_2019(first, ax)
    final = reported.finals().get(experiment.name)
    if final is not None and final.letter == "D":
        ax.figure.set_facecolor("yellow")  # as D did
    where = "validation" if first.record["protocol"] == "holdout" else "test"
    seeds = f", {len(others) + 1} seeds" if others else f", seed {first.seed}"
    ax.set_title(f"{experiment.name}: loss per epoch on training and {where}{seeds}")
    return look.describe(
        ax,
        f"Loss of {experiment.name} over {len(epochs)} epochs: on {where} images from "
        f"{validation[0]:.3f} to {validation[-1]:.3f}, in training from "
        f"{training[0]:.3f} to {training[-1]:.3f}.{told}",
    )


def _add_2019(run: Run, ax: Axes) -> None:
    for name, line, label in (
        ("val_loss", VALIDATION, "2019, validation"),
        ("loss", TRAIN, "2019, train"),
    ):
        printed = {row["epoch"]: row[name] for row in reported.history(run.name)}
        # The line is broken where a log has gaps: nothing stands in for them.
        epochs = range(1, run.record["epochs"] + 1)
        values = np.array([printed.get(epoch) for epoch in epochs], float)
        if not np.isnan(values).all():
            ax.plot(epochs, values, f"{line}x--", label=label, alpha=0.6)
    ax.legend()


def _series(run: Run, name: str) -> tuple[list[int], list[float]]:
    return [e["epoch"] for e in run.history], [e[name] for e in run.history]


def learning_curves(runs: Sequence[Run]) -> Figure:
    """Draw each model's error on validation images over epochs, a panel a family.

    A line is the median over seeds, a band reaches from the lowest to the highest; a
    model with one seed has no band.
    """
    models = by_model(runs)
    if not models:
        return look.figure_of(look.nothing(None))
    families = list(dict.fromkeys(name.partition("_")[0] for name in models))
    figure, axes = look.stacked([3.4] * len(families), 9)
    for ax, family in zip(axes, families, strict=True):
        members = [name for name in models if name.partition("_")[0] == family]
        for name in members:
            _error_band(name, models[name], ax)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))  # 8, 9, 10 would touch
        ax.yaxis.set_minor_formatter("{x:g}")
        ax.tick_params(axis="y", which="minor", labelsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(
            xlabel="epoch",
            ylabel="error (%), log scale",
            title=f"{family}: how the error falls",
        )
        ax.grid(alpha=0.4, which="both")
        ax.legend(ncols=2, fontsize=8)
    alone = sum(len(own) == 1 for own in models.values())
    return look.describe(
        figure,
        f"Error on validation images over epochs of {len(models)} models in "
        f"{len(families)} families, lower is better; of one seed, and without a band: "
        f"{alone}.",
    )


def _error_band(name: str, runs: Sequence[Run], ax: Axes) -> None:
    """Draw one model's line, and its band if there are several seeds."""
    epochs = [entry["epoch"] for entry in runs[0].history]
    errors = 100 * np.array([[1 - e["val_accuracy"] for e in r.history] for r in runs])
    errors = np.maximum(errors, 1e-3)  # no error at all has no logarithm
    label = f"{reported.short(name)}, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
    shade, point = look.colour(name), look.marker(name)
    middle = np.median(errors, axis=0)
    ax.plot(epochs, middle, label=label, color=shade, marker=point, markersize=4)
    if len(runs) > 1:
        bounds = errors.min(axis=0), errors.max(axis=0)
        ax.fill_between(epochs, *bounds, color=shade, alpha=0.2, linewidth=0)
