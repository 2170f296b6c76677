"""Draw digits, learning curves, weights and comparisons; knows nothing about Keras.

A function that draws one panel takes `ax=None`, draws only there and returns it. One
that needs several panels returns its figure. None of them shows or saves.
"""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mnistlab import reported
from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import divide_by_255, l2_normalize
from mnistlab.runs import Run
from mnistlab.train import normalized

# 2019's colours: curves blue and red, violins blue, red, yellow.
VALIDATION, TRAIN = "b", "r"
VIOLINS = ("#3b6fd1", "#d1493b", "#e8c233")
QUANTITIES = {
    "params": "parameters",
    "macs": "multiply-adds per image",
    "cpu_seconds": "CPU seconds of training",
}


def _axes(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def _nothing(ax: Axes | None) -> Axes:
    """An empty panel that says why it is empty."""
    ax = _axes(ax, 6, 1)
    ax.set_axis_off()
    ax.text(0.5, 0.5, "There are no runs to show yet.", ha="center", va="center")
    return ax


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
    ax = _axes(ax)
    ax.set_xlabel("epoch")
    ax.set_ylabel("Categorical Crossentropy Loss")
    # One epoch is a point, which a line alone would not show.
    marker = "o" if len(x) == 1 else None
    ax.plot(x, vy, VALIDATION, marker=marker, label="Validation Loss")
    ax.plot(x, ty, TRAIN, marker=marker, label="Train Loss")
    if len(x) == 1:
        ax.set_xticks(list(x))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=True)
    ax.legend()
    return ax


def digit(image: np.ndarray, label: int, ax: Axes | None = None) -> Axes:
    """Draw one digit, uint8 (28, 28), titled with its label, as 2019's B did."""
    ax = _axes(ax, 3, 3)
    ax.imshow(image, cmap="gray")
    ax.set_title(f"Label: {label}")
    ax.set_axis_off()
    return ax


def digit_grid(
    images: np.ndarray, labels: np.ndarray, *, rows: int = 4, columns: int = 10
) -> Figure:
    """Draw the first images (n, 28, 28) with their labels (n,) above them."""
    figure, axes = plt.subplots(rows, columns, figsize=(columns, rows * 1.25))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, label in zip(axes.flat, images, labels, strict=False):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(int(label), fontsize=9)
    figure.suptitle("The first training images and their labels")
    figure.tight_layout()
    return figure


def label_counts(
    y_train: np.ndarray, y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how often each digit occurs, in percent of its part."""
    ax = _axes(ax, 7, 3.5)
    for labels, name, shift in ((y_train, "training", -0.2), (y_test, "test", 0.2)):
        share = 100 * np.bincount(labels, minlength=10) / len(labels)
        ax.bar(np.arange(10) + shift, share, width=0.4, label=f"{name} images")
    ax.set_xticks(range(10))
    ax.set_xlabel("digit")
    ax.set_ylabel("share of images (%)")
    ax.set_title("Each digit is about a tenth of the images")
    ax.legend(ncols=2, loc="lower center")
    return ax


def normalizations(image: np.ndarray) -> Figure:
    """Draw one image, uint8 (28, 28), as each normalization hands it to a model."""
    ways = {
        "divide_by_255": divide_by_255,
        "rows of unit length": l2_normalize(axis=2),
        "columns of unit length": l2_normalize(axis=1),
        "single pixels": l2_normalize(axis=3),
    }
    figure, axes = plt.subplots(1, len(ways), figsize=(11, 3.2))
    for ax, (name, normalization) in zip(axes, ways.items(), strict=True):
        ax.imshow(normalized(image[np.newaxis], normalization)[0, ..., 0], cmap="gray")
        ax.set_title(name, fontsize=10)
        ax.set_axis_off()
    figure.suptitle("The same image after each normalization")
    figure.tight_layout()
    return figure


def runs_of(experiment: Experiment, runs: Sequence[Run]) -> list[Run]:
    """The runs of one experiment, by seed.

    Raises:
        ValueError: there is none.
    """
    own = sorted((r for r in runs if r.name == experiment.name), key=lambda r: r.seed)
    if not own:
        raise ValueError(f"no run of {experiment.name} among the {len(runs)} given")
    return own


def learning_curve(
    experiment: Experiment, runs: Sequence[Run], ax: Axes | None = None
) -> Axes:
    """Draw an experiment's loss curve as 2019 did, with 2019's where it compares.

    The lowest seed is drawn in full, other seeds thin. The loss is the one that was
    minimised, so it includes an L2 penalty. 2019's epochs are dashed, with markers
    where they are too sparse for a line, and only beside runs of the whole recipe.
    """
    ax = _axes(ax)
    first, *others = runs_of(experiment, runs)
    for run in others:
        for name, colour in (("val_loss", VALIDATION), ("loss", TRAIN)):
            ax.plot(*_series(run, name), colour, alpha=0.3, linewidth=1)
    epochs, validation = _series(first, "val_loss")
    plt_dynamic(epochs, validation, _series(first, "loss")[1], ax)
    if first.compares_with_2019:
        for name, colour, label in (
            ("val_loss", VALIDATION, "2019, validation"),
            ("loss", TRAIN, "2019, train"),
        ):
            known = [
                (row["epoch"], row[name])
                for row in reported.history(experiment.name)
                if row[name] is not None
            ]
            if known:
                style = dict(linestyle="--", marker="x", alpha=0.6)
                if len(known) < first.record["epochs"]:
                    style["linestyle"] = ""
                ax.plot(*zip(*known, strict=True), color=colour, label=label, **style)
        ax.legend()
    final = reported.finals().get(experiment.name)
    if final is not None and final.letter == "D":
        ax.figure.set_facecolor("yellow")  # as D did
    where = "validation" if first.record["protocol"] == "holdout" else "test"
    seeds = f", {len(others) + 1} seeds" if others else f", seed {first.seed}"
    ax.set_title(f"{experiment.name}: loss per epoch on training and {where}{seeds}")
    return ax


def _series(run: Run, name: str) -> tuple[list[int], list[float]]:
    return [e["epoch"] for e in run.history], [e[name] for e in run.history]


def weight_violins(experiment: Experiment, runs: Sequence[Run]) -> Figure:
    """Draw the trained weights of every kernel, each named by its layer.

    2019 drew three and called the third "Output Layer", which it was for E1 only.
    The violins are drawn from the 1,001 quantiles in the run's record.
    """
    run = runs_of(experiment, runs)[0]
    kernels = run.record["kernels"]
    columns = min(6, len(kernels))
    rows = math.ceil(len(kernels) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns + 0.6, 3 * rows + 0.4), squeeze=False
    )
    for ax in axes.flat[len(kernels) :]:
        ax.set_axis_off()
    for i, (ax, kernel) in enumerate(zip(axes.flat, kernels, strict=False)):
        seaborn.violinplot(
            y=kernel["quantiles"],
            color=VIOLINS[i % len(VIOLINS)],
            cut=0,
            linewidth=1,
            ax=ax,
        )
        ax.set_title(kernel["name"], fontsize=10)
        ax.set_xlabel(f"{math.prod(kernel['shape']):,} weights", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.set_ylabel("weight" if i % columns == 0 else "")
    figure.suptitle(f"{experiment.name}: trained weights, seed {run.seed}")
    figure.tight_layout()
    return figure


def accuracies(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw the test accuracy of every run, one line a model, best model on top."""
    if not runs:
        return _nothing(ax)
    names = sorted(
        {run.name for run in runs},
        key=lambda name: np.mean([_accuracy(r) for r in runs if r.name == name]),
    )
    ax = _axes(ax, 7, 1 + 0.32 * len(names))
    points = [(_accuracy(run), names.index(run.name)) for run in runs]
    ax.scatter(*zip(*points, strict=True), color="#1f5fa8", zorder=2)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.set_xlabel("test accuracy (%)")
    ax.grid(axis="both", alpha=0.4)
    ax.set_title("Test accuracy of each run")
    return ax


def _accuracy(run: Run) -> float:
    return 100 * run.record["test"]["accuracy"]


def accuracy_against(
    quantity: str, runs: Sequence[Run], ax: Axes | None = None
) -> Axes:
    """Draw test accuracy against `params`, `macs` or `cpu_seconds`, on a log axis.

    A point is one run; its colour is the number of convolutions, and the best run of
    each model carries its name.

    Raises:
        ValueError: an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(
            f"quantity: expected one of {', '.join(QUANTITIES)}, got {quantity!r}"
        )
    ax = _axes(ax, 9, 6)
    families = sorted({run.name.partition("_")[0] for run in runs})
    colours = dict(zip(families, seaborn.color_palette("colorblind"), strict=False))
    best: dict[str, Run] = {}
    for run in runs:
        family = run.name.partition("_")[0]
        ax.scatter(run.record[quantity], _accuracy(run), color=colours[family], s=28)
        if run.name not in best or _accuracy(run) > _accuracy(best[run.name]):
            best[run.name] = run
    for name, run in best.items():
        ax.annotate(
            name.partition("_")[2].upper() or name,
            (run.record[quantity], _accuracy(run)),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=8,
        )
    handles = [
        plt.Line2D([], [], color=colour, marker="o", linestyle="", label=family)
        for family, colour in colours.items()
    ]
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    )
    ax.set_xlabel(QUANTITIES[quantity])
    ax.set_ylabel("test accuracy (%)")
    ax.grid(alpha=0.4)
    ax.legend(handles=handles, title="family")
    ax.set_title(f"Test accuracy against {QUANTITIES[quantity]}")
    return ax


def costs(runs: Sequence[Run]) -> Figure:
    """Draw test accuracy against each of parameters, multiply-adds, CPU seconds."""
    if not runs:
        return _nothing(None).figure
    figure, axes = plt.subplots(len(QUANTITIES), figsize=(9, 16))
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        accuracy_against(quantity, runs, ax)
    figure.tight_layout()
    return figure


def confusion(runs: Sequence[Run], y_test: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draw which digits are taken for which, over all runs given; errors only.

    A cell counts test images (given digit, predicted digit); the diagonal, the right
    answers, is left empty.
    """
    if not runs:
        return _nothing(ax)
    counts = np.zeros((10, 10), dtype=int)
    for run in runs:
        predicted, _ = run.predictions()
        np.add.at(counts, (y_test[: len(predicted)], predicted), 1)
    ax = _axes(ax, 6, 5)
    seaborn.heatmap(
        counts,
        mask=np.eye(10, dtype=bool),
        annot=True,
        fmt="d",
        cmap="Blues",
        annot_kws={"fontsize": 8},
        cbar_kws={"label": "test images"},
        ax=ax,
    )
    ax.set_xlabel("predicted digit")
    ax.set_ylabel("given digit")
    ax.set_title(f"Errors of {len(runs)} runs together")
    return ax
