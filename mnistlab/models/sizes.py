"""Count shapes, parameters and multiply-adds from the value, without a framework."""

from dataclasses import dataclass
from math import ceil, prod

from mnistlab.models.experiment import (
    IMAGE_SIDE,
    Experiment,
    Layer,
    layer_names,
    with_output,
)


@dataclass(frozen=True)
class LayerSize:
    """A layer's name, output shape without the batch, parameters, multiply-adds."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    trainable_params: int
    macs: int


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(layer: Layer, name: str) -> None:
    """Refuse settings that no such layer can have, in Keras's names."""
    for setting, value in layer.config:
        if setting in ("filters", "units"):
            good, expected = _is_count(value), "a whole number of at least 1"
        elif setting in ("kernel_size", "pool_size", "strides"):
            good, expected = all(map(_is_count, value)), "whole numbers of at least 1"
        elif setting == "padding":
            good, expected = value in ("valid", "same"), "'valid' or 'same'"
        elif setting == "rate":
            good = isinstance(value, int | float) and 0 <= value < 1
            expected = "a fraction from 0 to below 1"
        else:
            continue
        if not good:
            raise ValueError(f"{name}: {setting} must be {expected}, got {value!r}")


def _window(shape, size, settings, name):
    """Height and width after a window has moved over an image."""
    sides = []
    for side, window, stride in zip(shape[:2], size, settings["strides"], strict=True):
        if settings["padding"] == "same":
            sides.append(ceil(side / stride))
        elif window <= side:
            sides.append((side - window) // stride + 1)
        else:
            raise ValueError(
                f"{name}: a window of {window} does not fit an image of {side}; "
                "use a smaller window, less pooling before it, or padding='same'"
            )
    return tuple(sides)


def layer_sizes(experiment: Experiment) -> tuple[LayerSize, ...]:
    """The sizes of every layer, the output included.

    Multiply-adds are those of one image's forward pass through convolutions and
    dense layers: k * k * channels in * channels out * height * width, and in * out.

    Raises:
        ValueError: a layer that does not fit what comes before it, is unknown, or has
            settings that none can have.

    >>> from mnistlab.models.mlp import mlp_e1
    >>> layer_sizes(mlp_e1)[0].params
    401920
    """
    side = IMAGE_SIDE
    shape: tuple[int, ...] = (side, side, 1) if experiment.spatial else (side * side,)
    sizes = []
    for layer, short in zip(
        with_output(experiment), layer_names(experiment), strict=True
    ):
        name = f"{experiment.name}: {short}"
        _check(layer, name)
        settings = layer.settings
        params = trainable = macs = 0
        if layer.kind in ("Conv2D", "MaxPooling2D") and len(shape) != 3:
            raise ValueError(f"{name}: needs an image, but comes after a flatten")
        if layer.kind == "Conv2D":
            size, filters = settings["kernel_size"], settings["filters"]
            per_filter = prod(size) * shape[2]
            shape = (*_window(shape, size, settings, name), filters)
            params = trainable = (per_filter + 1) * filters
            macs = per_filter * prod(shape)
        elif layer.kind == "MaxPooling2D":
            sides = _window(shape, settings["pool_size"], settings, name)
            shape = (*sides, shape[2])
        elif layer.kind == "Flatten":
            shape = (prod(shape),)
        elif layer.kind == "Dense":
            if len(shape) != 1:
                raise ValueError(f"{name}: needs a row; put a flatten() before it")
            units = settings["units"]
            params = trainable = (shape[0] + 1) * units
            macs = shape[0] * units
            shape = (units,)
        elif layer.kind == "BatchNormalization":
            params, trainable = 4 * shape[-1], 2 * shape[-1]
        elif layer.kind != "Dropout":
            raise ValueError(
                f"{name}: cannot count the parameters of a {layer.kind}; known are "
                "Conv2D, MaxPooling2D, Dropout, BatchNormalization, Flatten, Dense"
            )
        sizes.append(LayerSize(short, layer.kind, shape, params, trainable, macs))
    return tuple(sizes)


def params(experiment: Experiment) -> int:
    """All parameters, trained or not."""
    return sum(size.params for size in layer_sizes(experiment))


def trainable_params(experiment: Experiment) -> int:
    """The parameters that training changes."""
    return sum(size.trainable_params for size in layer_sizes(experiment))


def macs(experiment: Experiment) -> int:
    """Multiply-adds of one image's forward pass."""
    return sum(size.macs for size in layer_sizes(experiment))
