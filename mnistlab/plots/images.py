"""Draw digits: the data, what normalisation makes of it, and errors."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.comparison import mistakes
from mnistlab.models.layers import divide_by_255, l2_normalize
from mnistlab.plots import look
from mnistlab.runs import Run
from mnistlab.train import normalized


def digit(image: np.ndarray, label: int, ax: Axes | None = None) -> Axes:
    """Draw one digit, uint8 (28, 28), titled with its label, as 2019's B did."""
    ax = look.panel(ax, 3, 3)
    ax.imshow(image, cmap="gray")
    ax.set_title(f"Label: {label}")
    ax.set_axis_off()
    return look.describe(ax, f"A handwritten {label}, white on black.")


def digit_grid(
    images: np.ndarray, labels: np.ndarray, *, rows: int = 4, columns: int = 10
) -> Figure:
    """Draw the first images (n, 28, 28) with their labels (n,) above them."""
    count = rows * columns
    titles = [str(label) for label in labels[:count]]
    figure = look.titled_mosaic(images[:count], titles, columns, margin=9, size=0.9)
    figure.suptitle(f"The first {len(titles)} images and their labels")
    return look.describe(
        figure,
        f"{len(titles)} handwritten digits, each with its label above it; the first "
        f"are {', '.join(titles[:10])}.",
    )


def label_counts(
    y_train: np.ndarray, y_test: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw how often each digit occurs, in percent of its part."""
    parts = {"training images": y_train, "test images": y_test}
    shares = pd.DataFrame(
        {name: 100 * np.bincount(y, minlength=10) / len(y) for name, y in parts.items()}
    )
    ax = look.panel(ax, 7, 3.5)
    shares.plot.bar(ax=ax, color=look.PALETTE[:2], width=0.8, rot=0)
    low, high = shares.min(axis=None), shares.max(axis=None)
    ax.set(
        xlabel="digit",
        ylabel="share of images (%)",
        title=f"Each digit is {low:.1f} to {high:.1f} % of the images",
    )
    ax.legend(ncols=2, loc="lower center")
    return look.describe(
        ax,
        f"Bars for the digits 0 to 9: each is between {low:.1f} and {high:.1f} % of "
        "the training images and of the test images.",
    )


def normalizations(image: np.ndarray) -> Figure:
    """Draw one image, uint8 (28, 28), as each normalization hands it to a model."""
    ways = {
        "divide_by_255": divide_by_255,
        "rows of unit length": l2_normalize(axis=2),
        "columns of unit length": l2_normalize(axis=1),
        "single pixels": l2_normalize(axis=3),
    }
    figure, axes = plt.subplots(1, len(ways), figsize=(11, 3.2), layout="constrained")
    for ax, (name, normalization) in zip(axes, ways.items(), strict=True):
        ax.imshow(normalized(image[np.newaxis], normalization)[0, ..., 0], cmap="gray")
        ax.set_title(name, fontsize=10)
        ax.set_axis_off()
    figure.suptitle("The same image after each normalization")
    return look.describe(
        figure,
        "One digit four times: with its grey levels; with rows of unit length, where "
        "thin strokes are as bright as thick ones; with columns of unit length; and "
        "with single pixels of unit length, which is black and white.",
    )


def error_gallery(
    runs: Sequence[Run], x_test: np.ndarray, y_test: np.ndarray
) -> Figure:
    """Draw up to 32 test images that some run got wrong, the surest mistake first.

    Each says what it was given as and taken for, how sure the surest wrong run was,
    and in how many of the runs it was wrong. A star marks a doubtful label.

    Args:
        runs: any runs on these test images.
        x_test: the test images, uint8 (n, 28, 28).
        y_test: their labels, uint8 (n,).
    """
    if not runs:
        return look.figure_of(look.nothing(None))
    found = mistakes(runs, y_test)
    if found.empty:
        return look.figure_of(look.nothing(None, "No run got any test image wrong."))
    shown = found[:32]
    titles = [
        f"{mistake.given}{'*' * mistake.doubtful} → {mistake.predicted}\n"
        f"{100 * mistake.confidence:.1f} % sure\n"
        f"wrong in {mistake.wrong} of {len(runs)}"
        for mistake in shown.itertuples()
    ]
    figure = look.titled_mosaic(
        x_test[shown.index],
        titles,
        columns=8,
        margin=13,
        size=1.35,
        colours=shown["doubtful"].map({True: "#a03000", False: "black"}).tolist(),
    )
    doubtful = shown["doubtful"].sum()
    note = f"; * marks a doubtful label ({doubtful} of them)" if doubtful else ""
    figure.suptitle(
        f"The surest mistakes: {len(shown)} of {len(found)} images that some run got "
        f"wrong{note}",
        fontsize=11,
    )
    first = shown.iloc[0]
    return look.describe(
        figure,
        f"{len(shown)} of {len(found)} misread test images, the surest mistake first: "
        f"a {first.given} taken for a {first.predicted} with "
        f"{100 * first.confidence:.0f} % confidence. {doubtful} of those "
        "shown have a doubtful label.",
    )
