"""One image's way through a trained network, in NumPy: what each layer hands on.

A page needs no framework for it, and a test holds it against Keras's own answers: an
independent check of what `build` makes.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from mnistlab.models.experiment import Experiment, Layer, layer_names, with_output
from mnistlab.train import normalized


def activations(
    experiment: Experiment, weights: Mapping[str, np.ndarray], image: np.ndarray
) -> dict[str, np.ndarray]:
    """What every layer makes of an image, as at prediction: dropout does nothing.

    Args:
        experiment: the architecture, whose recipe says how pixels are scaled.
        weights: its weights by name, such as `conv_1/kernel`, as `Run.weights` has.
        image: uint8 (28, 28), 0 to 255.

    Returns:
        By the layer's name, float64: maps (height, width, channels), rows (units,),
        and at last `output`, ten probabilities.

    Raises:
        ValueError: a layer of another kind than the collection uses.
    """
    x = normalized(image[np.newaxis], experiment.recipe.normalization)[0].astype(float)
    if not experiment.spatial:
        x = x.ravel()
    made = {}
    for name, layer, own in layers_with_weights(experiment, weights):
        x = made[name] = _apply(layer, own, x)
    return made


def layers_with_weights(
    experiment: Experiment, weights: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Layer, dict[str, np.ndarray]]]:
    """Each layer's name, itself, and its own weights, float64, as `kernel`."""
    layers = zip(layer_names(experiment), with_output(experiment), strict=True)
    parts = [(key.split("/"), value.astype(float)) for key, value in weights.items()]
    for name, layer in layers:
        yield name, layer, {part: value for (of, part), value in parts if of == name}


def _apply(layer: Layer, own: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    settings = layer.settings
    if layer.kind == "Conv2D":
        windows = _windows(x, settings["kernel_size"], settings, fill=0.0)
        maps = np.einsum("hwcij,ijco->hwo", windows, own["kernel"], optimize=True)
        return np.maximum(maps + own["bias"], 0)
    if layer.kind == "MaxPooling2D":
        windows = _windows(x, settings["pool_size"], settings, fill=-np.inf)
        return windows.max(axis=(-2, -1))
    if layer.kind == "Dense":
        x = x @ own["kernel"] + own["bias"]
        if settings["activation"] == "relu":
            return np.maximum(x, 0)
        powers = np.exp(x - x.max())
        return powers / powers.sum()
    if layer.kind == "BatchNormalization":
        sd = np.sqrt(own["moving_variance"] + settings["epsilon"])
        return (x - own["moving_mean"]) / sd * own["gamma"] + own["beta"]
    if layer.kind == "Flatten":
        return x.ravel()
    if layer.kind == "Dropout":
        return x
    raise ValueError(f"no forward pass is written for a layer of kind {layer.kind!r}")


def _windows(x, size, settings, fill):
    """Every window of maps (h, w, c): (rows, columns, c, height, width)."""
    strides = settings["strides"]
    if settings["padding"] == "same":
        pads = []
        for side, window, stride in zip(x.shape[:2], size, strides, strict=True):
            missing = max((-(-side // stride) - 1) * stride + window - side, 0)
            pads.append((missing // 2, missing - missing // 2))
        x = np.pad(x, (*pads, (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(0, 1))
    return windows[:: strides[0], :: strides[1]]
