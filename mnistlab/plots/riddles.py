"""Draw what looked strange in 2019's logs beside the runs that may explain it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab import reported
from mnistlab.models.controls import D2_DROPOUTS
from mnistlab.plots.look import PALETTE, describe, figure_of, nothing
from mnistlab.runs import Run

WITH_BATCHNORM = ("conv3_a3", "conv3_a4", "conv2_a5")
PLAIN, DEBIASED = PALETTE[0], PALETTE[1]


def first_epochs(runs: Sequence[Run]) -> Figure:
    """Draw A3, A4 and A5's test accuracy over epochs, beside 2019's, a panel each.

    A line is a seed: batch normalisation as today's Keras evaluates it, and debiased,
    as Keras 2.2.4 did, where a run was scored both ways (`batchnorm.json`).
    """
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    debiased = 0
    for ax, name in zip(axes, WITH_BATCHNORM, strict=True):
        own = [r for r in runs if r.name == name and r.compares_with_2019]
        for run in own:
            plain = [entry["val_accuracy"] for entry in run.history]
            _line(ax, plain, PLAIN, "ours, today's Keras")
        for run in own:
            if run.batchnorm:
                debiased += 1
                scores = [entry["debiased"]["accuracy"] for entry in run.batchnorm]
                _line(ax, scores, DEBIASED, "ours, debiased")
        _log(ax, name, "val_accuracy")
        ax.set_title(reported.title(name), fontsize=10)
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes[0].set_ylabel("test accuracy (%)")
    named = [ax.get_legend_handles_labels() for ax in axes]
    lines = {name: line for own in named for line, name in zip(*own, strict=True)}
    axes[0].legend(lines.values(), lines, fontsize=8)
    return describe(
        figure,
        "Test accuracy of A3, A4 and A5 over five epochs: 2019's log, today's runs, "
        f"and {debiased} of these with debiased batch normalisation.",
    )


def beginnings_of_d2(runs: Sequence[Run]) -> Figure:
    """Draw D2's training loss over epochs: 2019's, ours, and with other dropouts."""
    labels = {"conv5_d2": (PALETTE[0], "ours, as 2019 printed D2")}
    for shade, (rate, control) in zip(PALETTE[1:], D2_DROPOUTS.items(), strict=False):
        labels[control.name] = shade, f"ours, all dropouts {rate}"
    found = [run for run in runs if run.name in labels]
    found = [run for run in found if run.name != "conv5_d2" or run.compares_with_2019]
    if not found:
        return figure_of(nothing(None))
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for run in found:
        losses = [entry["loss"] for entry in run.history]
        _line(ax, losses, *labels[run.name])
    _log(ax, "conv5_d2", "loss")
    ax.set_yscale("log")
    ax.set_ylabel("training loss, log scale")
    ax.legend()
    described = ", ".join(
        f"{run.name} seed {run.seed} {run.history[0]['loss']:.2f}" for run in found
    )
    first = reported.history("conv5_d2")[0]["loss"]
    return describe(figure, f"Loss after one epoch: 2019 {first}, {described}.")


def _line(ax: Axes, values: Sequence[float], colour: object, label: str) -> None:
    """A run's line; a label that the legend has is not repeated."""
    known = ax.get_legend_handles_labels()[1]
    epochs = range(1, len(values) + 1)
    own = "" if label in known else label
    ax.plot(epochs, values, ".-", color=colour, alpha=0.7, label=own)


def _log(ax: Axes, name: str, quantity: str) -> None:
    """The epochs that 2019 printed."""
    printed = pd.DataFrame(reported.history(name)).dropna(subset=quantity)
    ax.plot(printed["epoch"], printed[quantity], "kx--", linewidth=1, label="2019")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.4)
