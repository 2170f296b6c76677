"""Tables of architectures, computed from their values: layers, sizes, source."""

import ast
import inspect
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import groupby

import pandas as pd
from IPython.display import HTML, Markdown

from mnistlab.models import FAMILIES
from mnistlab.models.experiment import Experiment
from mnistlab.models.sizes import layer_sizes
from mnistlab.tables.base import Table


def settings(experiment: Experiment, kind: str) -> list[dict]:
    """The settings of an experiment's layers of a kind, such as `Conv2D`."""
    return [layer.settings for layer in experiment.layers if layer.kind == kind]


def filters(experiment: Experiment) -> str:
    """Filters and kernels, as `32, 64 (3x3)`; kernels are named where they change."""
    convs = settings(experiment, "Conv2D")
    return ", ".join(
        f"{', '.join(str(conv['filters']) for conv in alike)} ({crossed(size)})"
        for size, alike in groupby(convs, key=lambda conv: conv["kernel_size"])
    )


def crossed(size: Iterable[int]) -> str:
    """A size, as `3x3`."""
    return "x".join(map(str, size))


def distinct(values: Iterable[object]) -> str:
    """Each value once, in order, or `-`."""
    return ", ".join(dict.fromkeys(map(str, values))) or "-"


def regularization(experiment: Experiment) -> str:
    """The kernel penalties of an experiment, such as `L2(1e-05)`, or `-`."""
    found = (x.settings.get("kernel_regularizer") for x in experiment.layers)
    return distinct(f"{x[0]}({dict(x[1])['l2']:g})" for x in found if x is not None)


def sizes(experiments: Sequence[Experiment]) -> Table:
    """Layers, parameters and multiply-adds of each experiment."""
    rows = []
    for experiment in experiments:
        layers = layer_sizes(experiment)
        rows.append(
            {
                "model": experiment.name,
                "convolutions": len(settings(experiment, "Conv2D")),
                "layers": len(layers),
                "parameters": f"{sum(x.params for x in layers):,}",
                "trained": f"{sum(x.trainable_params for x in layers):,}",
                "multiply-adds": f"{sum(x.macs for x in layers):,}",
                "optimizer": experiment.recipe.optimizer.kind,
                "batch size": experiment.recipe.batch_size,
                "epochs": experiment.recipe.epochs,
            }
        )
    return Table(
        pd.DataFrame(rows),
        "Multiply-adds are those of one image's way through the network.",
    )


def summary(experiment: Experiment) -> Table:
    """A model's layers, output shapes and parameters, as `model.summary()` has them."""
    layers = layer_sizes(experiment)
    rows = [
        (layer.name, layer.kind, str((None, *layer.output_shape)), f"{layer.params:,}")
        for layer in layers
    ]
    frame = pd.DataFrame(rows, columns=["layer", "type", "output shape", "parameters"])
    total = sum(layer.params for layer in layers)
    trained = sum(layer.trainable_params for layer in layers)
    return Table(
        frame,
        f"{experiment.name}: {total:,} parameters, {trained:,} of them trained. None "
        "stands for the number of images.",
    )


def diagram(experiment: Experiment) -> HTML:
    """A model as a row of boxes: each layer with the shape that it puts out."""
    style = "border:1px solid #8888;border-radius:4px;padding:0.2em 0.5em;"
    boxes = [
        f'<span style="{style}">{layer.kind}<br><small>'
        f"{' × '.join(map(str, layer.output_shape))}</small></span>"
        for layer in layer_sizes(experiment)
    ]
    row = "display:flex;flex-wrap:wrap;gap:0.3em;font-size:0.8em;line-height:1.3;"
    row += "align-items:center;margin:0.5em 0"
    return HTML(f'<div style="{row}">{" → ".join(boxes)}</div>')


def definition(experiment: Experiment) -> Markdown:
    """The source of an experiment, as it stands in its family's module."""
    for family in FAMILIES:
        module = import_module(f"mnistlab.models.{family}")
        source = inspect.getsource(module)
        for node in ast.parse(source).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if vars(module).get(ast.unparse(target)) == experiment:
                code = ast.get_source_segment(source, node)
                return Markdown(f"**{experiment.name}**\n\n```python\n{code}\n```")
    return Markdown(f"**{experiment.name}**, which has no name in its module.")
