"""Draw what a network has learned: weights as violins, filters, feature maps."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.figure import Figure

from mnistlab.forward import activations
from mnistlab.models.experiment import IMAGE_SIDE, Experiment
from mnistlab.plots.curves import awaited, has_runs, runs_of
from mnistlab.plots.look import describe, figure_of, mosaic, nothing
from mnistlab.runs import Run

VIOLINS = ("#3b6fd1", "#d1493b", "#e8c233")  # 2019's blue, red, yellow


def weight_violins(experiment: Experiment, runs: Sequence[Run]) -> Figure:
    """Draw the trained weights of every kernel, each named by its layer.

    2019 drew three and called the third "Output Layer", which it was for E1 only.
    The violins are drawn from the 1,001 quantiles in the run's record.
    """
    if not has_runs(experiment, runs):
        return figure_of(nothing(None, awaited(experiment)))
    run = runs_of(experiment, runs)[0]
    kernels = run.record["kernels"]
    figure, ax = plt.subplots(figsize=(1.1 * len(kernels) + 1.5, 3.6))
    colours = [VIOLINS[i % len(VIOLINS)] for i in range(len(kernels))]
    seaborn.violinplot(
        data=[kernel["quantiles"] for kernel in kernels],
        palette=colours,
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
    figure.tight_layout()
    spread = ", ".join(f"{k['name']} {k['sd']:.3f}" for k in kernels)
    describe(
        figure,
        f"Violins of the trained weights of {experiment.name}, one for each of "
        f"{len(kernels)} kernels. Standard deviations: {spread}.",
    )
    return figure


def filters(experiments: Sequence[Experiment], runs: Sequence[Run]) -> Figure:
    """Draw the first kernel of each model, from its record: at most 32 filters.

    Blue is negative, red is positive, on the model's own scale. Of a dense layer each
    unit's weights are laid out as the image they look at.
    """
    columns = 16
    experiments = [e for e in experiments if has_runs(e, runs)]
    if not experiments:
        return figure_of(nothing(None))
    firsts = [runs_of(experiment, runs)[0] for experiment in experiments]
    counts = [run.record["first_kernel"]["shape"][-1] for run in firsts]
    heights = [0.35 + 0.7 * min(-(-count // columns), 2) for count in counts]
    figure, axes = plt.subplots(
        len(experiments),
        figsize=(11, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for ax, experiment, run in zip(axes.flat, experiments, firsts, strict=True):
        first = run.record["first_kernel"]
        kernel = np.reshape(first["values"], first["shape"])
        if kernel.ndim == 2:
            kernel = kernel.reshape(IMAGE_SIDE, IMAGE_SIDE, -1)
        else:
            kernel = kernel[:, :, 0, :]
        height, width, total = kernel.shape
        shown = kernel[..., : 2 * columns]
        limit = np.abs(kernel).max() or 1.0
        ax.imshow(mosaic(shown, columns), cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_axis_off()
        all_of = math.prod(_kernel_shape(run)) // (height * width)
        kept = f"{shown.shape[2]} of {all_of}" if all_of > shown.shape[2] else all_of
        ax.set_title(
            f"{experiment.name}, {first['name']}: {kept} filters, {height} × {width}; "
            f"weights from -{limit:.2f} (blue) to {limit:.2f} (red)",
            fontsize=9,
        )
    describe(
        figure,
        "The first layer's filters of "
        + ", ".join(experiment.name for experiment in experiments)
        + ": small patches of negative weights in blue and positive ones in red.",
    )
    return figure


def _kernel_shape(run: Run) -> list[int]:
    """The whole shape of the first kernel; of a dense one not all is in the record."""
    return run.record["kernels"][0]["shape"]


def feature_maps(
    experiments: Sequence[Experiment],
    runs: Sequence[Run],
    image: np.ndarray,
    *,
    columns: int = 12,
) -> Figure:
    """Draw what the convolutions of each model make of one digit, the strongest maps.

    Of a deep model the first, the middle and the last convolution are drawn.

    Args:
        experiments: models with convolutions; others are left out.
        runs: their runs, of which the lowest seed with weights is drawn (of committed
            runs one of each model keeps them). Models without are said to be left out.
        image: uint8 (28, 28).
        columns: how many maps of a layer.
    """
    found, without = [], []
    for experiment in experiments:
        if not experiment.spatial:
            continue
        own = runs_of(experiment, runs) if has_runs(experiment, runs) else []
        kept = [run for run in own if run.has_weights]
        if kept:
            weights = kept[0].weights()
            found.append((experiment, activations(experiment, weights, image)))
        else:
            without.append(experiment.name)
    if not found:
        why = (
            f"No weights are kept of {', '.join(without)}."
            if without
            else "Feature maps are those of convolutions; these models have none."
        )
        return figure_of(nothing(None, why))
    layers = []
    for experiment, made in found:
        convs = [name for name in made if name.startswith("conv_")]
        if len(convs) > 3:
            convs = [convs[0], convs[len(convs) // 2], convs[-1]]
        layers += [(experiment.name, name, made[name]) for name in convs]
    figure, axes = plt.subplots(
        len(layers) + 1,
        figsize=(11, 0.85 * (len(layers) + 1)),
        squeeze=False,
    )
    rows = [("the image", image[..., np.newaxis], "gray_r")] + [
        (f"{model}\n{name}: {maps.shape[2]} maps\nof {maps.shape[0]} × "
         f"{maps.shape[1]}", maps, "magma")
        for model, name, maps in layers
    ]  # fmt: skip
    for ax, (text, maps, colours) in zip(axes.flat, rows, strict=True):
        strongest = np.argsort(maps.sum(axis=(0, 1)))[::-1][:columns]
        shown = np.full((*maps.shape[:2], columns), np.nan)
        shown[..., : len(strongest)] = maps[..., strongest]
        ax.imshow(mosaic(shown, columns), cmap=colours, vmin=0, vmax=maps.max() or 1)
        ax.set_axis_off()
        ax.text(
            -0.01, 0.5, text, ha="right", va="center", fontsize=7,
            transform=ax.transAxes,
        )  # fmt: skip
    note = f" (no weights are kept of {', '.join(without)})" if without else ""
    figure.suptitle(
        f"What each convolution sees in one digit: its strongest maps{note}",
        fontsize=11,
    )
    top = 1 - 0.45 / (0.85 * len(rows))
    figure.subplots_adjust(left=0.14, right=0.99, bottom=0.01, top=top, hspace=0.08)
    describe(
        figure,
        f"One digit, and below it the strongest feature maps of {len(layers)} "
        "convolutions, the strongest to the left; deeper ones are coarser.",
    )
    return figure
