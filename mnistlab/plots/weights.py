"""Draw what a network has learned: weights as violins, filters, feature maps."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.figure import Figure

from mnistlab.forward import activations
from mnistlab.models.experiment import Experiment
from mnistlab.plots import look
from mnistlab.plots.curves import runs_of
from mnistlab.runs import Run

VIOLINS = ("#3b6fd1", "#d1493b", "#e8c233")  # 2019's blue, red, yellow


def weight_violins(experiment: Experiment, runs: Sequence[Run]) -> Figure:
    """Draw the trained weights of every kernel, each named by its layer.

    2019 drew three and called the third "Output Layer", which it was for E1 only.
    The violins are drawn from the 1,001 quantiles in the run's record.
    """
    own = runs_of(experiment, runs)
    if not own:
        why = f"There is no run of {experiment.name} here."
        return look.figure_of(look.nothing(None, why))
    run = own[0]
    kernels = run.record["kernels"]
    width = 1.1 * len(kernels) + 1.5
    figure, ax = plt.subplots(figsize=(width, 3.6))
    seaborn.violinplot(
        data=[kernel["quantiles"] for kernel in kernels],
        palette=[VIOLINS[i % len(VIOLINS)] for i in range(len(kernels))],
        cut=0,
        density_norm="width",
        gridsize=60,
        linewidth=1,
        ax=ax,
    )
    names = [f"{k['name']}\n{math.prod(k['shape']):,}" for k in kernels]
    ax.set_xticks(range(len(kernels)), names, fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel("kernel, and how many weights it has", fontsize=9)
    ax.set_ylabel("weight")
    ax.grid(axis="y", alpha=0.4)
    ax.set_title(f"{experiment.name}: trained weights, seed {run.seed}", fontsize=10)
    spread = ", ".join(f"{k['name']} {k['sd']:.3f}" for k in kernels)
    return look.describe(
        figure,
        f"Violins of the trained weights of {experiment.name}, one for each of "
        f"{len(kernels)} kernels. Standard deviations: {spread}.",
    )


def filters(experiments: Sequence[Experiment], runs: Sequence[Run]) -> Figure:
    """Draw the first kernel of each model, from its record: at most 32 filters.

    Blue is negative, red is positive, on the model's own scale. Of a dense layer each
    unit's weights are laid out as the image they look at; one whose inputs are no
    square image is left out.
    """
    columns = 16
    shown = [own[0] for own in (runs_of(e, runs) for e in experiments) if own]
    shown = [run for run in shown if _sees_image(run)]
    if not shown:
        return look.figure_of(look.nothing(None))
    counts = [run.record["first_kernel"]["shape"][-1] for run in shown]
    heights = [0.35 + 0.7 * min(-(-count // columns), 2) for count in counts]
    figure, axes = look.stacked(heights, 11)
    for ax, run in zip(axes, shown, strict=True):
        first = run.record["first_kernel"]
        height, width = first["shape"][:2]
        if len(first["shape"]) == 2:
            height = width = math.isqrt(height)
        kernel = np.reshape(first["values"], (height, width, -1))
        limit = np.abs(kernel).max() or 1.0
        kernel = kernel[..., : 2 * columns]
        picture = look.mosaic(kernel, columns)
        ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_axis_off()
        # Of a dense kernel not all is in the record.
        count, total = kernel.shape[2], run.record["kernels"][0]["shape"][-1]
        kept = f"{count} of {total}" if total > count else total
        ax.set_title(
            f"{run.name}, {first['name']}: {kept} filters, {height} × {width}; "
            f"weights from -{limit:.2f} (blue) to {limit:.2f} (red)",
            fontsize=9,
        )
    names = ", ".join(run.name for run in shown)
    return look.describe(
        figure,
        f"The first layer's filters of {names}: small patches of negative weights in "
        "blue and positive ones in red.",
    )


def _sees_image(run: Run) -> bool:
    """Whether the first layer with weights sees an image, or one's pixels in a row."""
    size, *others = run.record["first_kernel"]["shape"]
    return len(others) > 1 or math.isqrt(size) ** 2 == size


def feature_maps(
    experiments: Sequence[Experiment], runs: Sequence[Run], image: np.ndarray
) -> Figure:
    """Draw what the convolutions of each model make of one digit, the strongest maps.

    Of a deep model the first, the middle and the last convolution are drawn.

    Args:
        experiments: models with convolutions; others are left out.
        runs: their runs, of which the lowest seed with weights is drawn (of committed
            runs one of each model keeps them). Models without are said to be left out.
        image: uint8 (28, 28).
    """
    columns = 12
    rows, without = [("the image", image[..., np.newaxis], "gray_r")], []
    for experiment in experiments:
        kept = [run for run in runs_of(experiment, runs) if run.has_weights]
        if not kept:
            without.append(experiment.name)
            continue
        made = activations(experiment, kept[0].weights(), image)
        convs = [name for name in made if name.startswith("conv_")]
        if len(convs) > 3:
            convs = [convs[0], convs[len(convs) // 2], convs[-1]]
        for name in convs:
            height, width, count = made[name].shape
            size = f"{count} maps\nof {height} × {width}"
            rows.append((f"{experiment.name}\n{name}: {size}", made[name], "magma"))
    note = f" (no weights are kept of {', '.join(without)})" if without else ""
    if len(rows) == 1:
        why = f"There are no feature maps of convolutions to show here{note}."
        return look.figure_of(look.nothing(None, why))
    figure, axes = look.stacked([0.85] * len(rows), 11)
    for ax, (text, maps, colours) in zip(axes, rows, strict=True):
        strongest = np.argsort(maps.sum(axis=(0, 1)))[::-1][:columns]
        picture = look.mosaic(maps[..., strongest], columns)
        ax.imshow(picture, cmap=colours, vmin=0, vmax=maps.max() or 1)
        ax.set(anchor="W", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7)
    title = f"What each convolution sees in one digit: its strongest maps{note}"
    figure.suptitle(title, fontsize=11)
    return look.describe(
        figure,
        f"One digit, and below it the strongest feature maps of {len(rows) - 1} "
        "convolutions, the strongest to the left; deeper ones are coarser.",
    )
