"""What all figures share: a model's colour, a family's marker, alternative texts."""

from collections.abc import Sequence
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mnistlab.models import FAMILIES

Drawn = TypeVar("Drawn", Axes, Figure)

# Okabe and Ito's colours as seaborn has them can be told apart by colour-blind eyes.
# Within a family each model has its own; families differ in their marker.
PALETTE = seaborn.color_palette("colorblind")
GOOD, BAD = "#00598c", "#a23c00"  # as in the site's style sheet
MARKERS = dict(zip(FAMILIES, "oDs^vP*", strict=False))  # a further family has one too
_ORDER = {
    experiment.name: i
    for family in FAMILIES.values()
    for i, experiment in enumerate(family)
}


def colour(name: str) -> tuple[float, float, float]:
    """A model's colour, the same in every figure of every page."""
    return PALETTE[_ORDER.get(name, len(PALETTE) - 3) % len(PALETTE)]


def marker(name: str) -> str:
    """The marker of a model's family."""
    return MARKERS.get(name.partition("_")[0], "X")


def family_handles(names: list[str]) -> list[Line2D]:
    """A legend's entries for the families of some models."""
    families = {name.partition("_")[0] for name in names}
    return [
        Line2D([], [], color="0.3", linestyle="", marker=marker(family), label=family)
        for family in sorted(families, key=[*MARKERS, *families].index)
    ]


EMPTY = "empty"  # the id of a figure that shows nothing but a sentence


def panel(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def stacked(heights: Sequence[float], width: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels one below the other, each of its height, in inches."""
    figure, axes = plt.subplots(
        len(heights),
        figsize=(width, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    return figure, list(axes.flat)


def figure_of(ax: Axes) -> Figure:
    """The whole figure that a panel is in."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # only a removed panel is in none
    return figure


def nothing(ax: Axes | None, why: str = "There are no runs to show here.") -> Axes:
    """An empty panel that says why it is empty."""
    if ax is None:
        ax = panel(None, 7, 0.8)
        ax.figure.set_gid(EMPTY)
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return describe(ax, why)


def name_rows(ax: Axes, names: Sequence[str], **options: Any) -> None:
    """Name the rows of a panel, the first at the bottom."""
    ax.set_yticks(range(len(names)), names, **options)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.grid(axis="x", alpha=0.4)


def row(
    ax: Axes,
    y: float,
    values: Sequence[float],
    interval: Sequence[float] | None,
    color: Any,
    **options: Any,
) -> None:
    """Draw a row: a point for each value, and a bar where there is an interval."""
    ax.scatter(values, [y] * len(values), color=[color], zorder=3, **options)
    if interval is not None:
        ax.hlines(y, interval[0], interval[1], color=color, linewidth=6, alpha=0.35)


def describe(drawn: Drawn, text: str) -> Drawn:
    """Give a figure its alternative text: what someone who cannot see it must know."""
    drawn.figure.set_label(text)
    return drawn


def alt_text(figure: Figure) -> str:
    """A figure's alternative text; without one, its titles and labels."""
    if figure.get_label():
        return str(figure.get_label())
    parts = [figure.get_suptitle()]
    for ax in figure.axes:
        parts += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    return "; ".join(dict.fromkeys(part for part in parts if part)) or "A figure"


def describe_figures() -> None:
    """Have this notebook's figures carry their alternative text, and be sharp.

    Does nothing outside of a notebook.
    """
    from IPython import get_ipython
    from IPython.core.pylabtools import retina_figure

    shell = get_ipython()
    formatters = getattr(shell, "display_formatter", None)
    if formatters is None or "inline" not in plt.get_backend():
        return
    plt.switch_backend(plt.get_backend())  # it would set its own formatter later
    plt.uninstall_repl_displayhook()  # it draws what will be drawn when it is shown

    def png(figure: Figure) -> tuple[Any, dict[str, Any]] | None:
        drawn = retina_figure(figure, base64=True)
        if drawn is None:  # an empty figure, which an interruption may leave
            return None
        image, size = drawn
        empty = figure.get_gid() == EMPTY
        return image, {**size, "alt": alt_text(figure), "empty": empty}

    formatters.formatters["image/png"].for_type(Figure, png)


def mosaic(images: np.ndarray, columns: int, margin: int = 0) -> np.ndarray:
    """Images (height, width, n) side by side in one, with gaps of not-a-number.

    One picture of many is drawn far sooner than many axes with one each. `margin` is
    room above each image, in pixels, for its title.
    """
    _, width, count = images.shape
    gap = max(1, width // 8)
    pads = (0, -count % columns), (margin, gap), (0, gap)  # the last row is filled up
    tiles = images.transpose(2, 0, 1).astype(float)
    tiles = np.pad(tiles, pads, constant_values=np.nan)
    rows = tiles.reshape(-1, columns, *tiles.shape[1:])
    joined = np.vstack([np.hstack(row) for row in rows])
    return joined[:-gap, :-gap]


def titled_mosaic(
    images: np.ndarray,
    titles: Sequence[str],
    columns: int,
    *,
    margin: int,
    size: float,
    colours: Sequence[str] = (),
) -> Figure:
    """Draw images uint8 (n, height, width) in rows, each under its title.

    Args:
        images: black on white where they are high.
        titles: one for each.
        columns: how many in a row.
        margin: room for a title, in pixels of the images.
        size: inches of an image's width.
        colours: of the titles; black by default.
    """
    count, height, width = images.shape
    gap, rows = max(1, width // 8), -(-count // columns)
    across, down = width + gap, margin + height + gap  # from one image to the next
    inches = size * columns, size * rows * down / across + 0.5
    figure, ax = plt.subplots(figsize=inches, layout="constrained")
    joined = mosaic(images.transpose(1, 2, 0), columns, margin)
    ax.imshow(joined, cmap="gray_r", vmin=0, vmax=255)
    ax.set_axis_off()
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        x, y = column * across + width / 2, row * down + margin - 1
        shade = colours[i] if colours else "black"
        ax.text(x, y, title, ha="center", va="bottom", fontsize=8, color=shade)
    return figure
