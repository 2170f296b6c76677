"""Experiments that differ from another one in a single respect."""

from dataclasses import replace

from mnistlab.models.experiment import Experiment


def with_kernels(size: int, experiment: Experiment, name: str) -> Experiment:
    """An experiment whose convolutions have kernels of `size` x `size` instead."""
    kernel = {"kernel_size": (size, size)}
    layers = tuple(
        replace(layer, config=tuple((layer.settings | kernel).items()))
        if layer.kind == "Conv2D"
        else layer
        for layer in experiment.layers
    )
    return replace(experiment, name=name, layers=layers)
