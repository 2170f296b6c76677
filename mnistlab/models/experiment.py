"""What an experiment is: layers and a recipe as plain values, and the way to Keras.

Nothing here imports Keras until `build` is called, so an experiment can be hashed,
compared, varied with `dataclasses.replace` and measured without a framework.
This file decides numbers: every edit of its code retrains every run.
"""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

IMAGE_SIDE = 28
CLASSES = 10
SHORT_NAMES = {
    "Conv2D": "conv",
    "MaxPooling2D": "pool",
    "BatchNormalization": "batchnorm",
}

Config = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Layer:
    """A Keras layer as a value: its class name and its arguments, in Keras's names.

    `config` is a tuple of (name, value) pairs, sorted by name. A value that is
    itself a Keras object (a regularizer) is a `(class name, config)` pair.

    >>> Layer("Dropout", (("rate", 0.25),)).settings
    {'rate': 0.25}
    """

    kind: str
    config: Config = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments as a dictionary."""
        return dict(self.config)


@dataclass(frozen=True)
class Optimizer:
    """A Keras optimizer as a value, in the same form as a `Layer`."""

    kind: str
    config: Config = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments as a dictionary."""
        return dict(self.config)


@dataclass(frozen=True)
class Normalization:
    """How pixels 0-255 become float32: `divide_by_255` or `l2_normalize` on an axis.

    The axis is one of images of shape (n, 28, 28, 1): 2 gives rows of unit length,
    1 columns, 3 a black-and-white picture.
    """

    kind: str
    axis: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How an experiment is trained: optimizer, batch size, epochs, normalization."""

    optimizer: Optimizer
    batch_size: int
    epochs: int
    normalization: Normalization = Normalization("divide_by_255")

    def __post_init__(self):
        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"recipe: {name} must be a whole number of at least 1, "
                    f"got {value!r}"
                )


@dataclass(frozen=True)
class Experiment:
    """An architecture and its recipe.

    `layers` is the stack between the input and the 10-way softmax, which `build`
    adds. An experiment without a convolution or pooling layer takes (784,).
    """

    name: str
    layers: tuple[Layer, ...]
    recipe: Recipe

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                f"experiment name {self.name!r}: use lower-case letters, digits and "
                "underscores, beginning with a letter"
            )

    @property
    def spatial(self) -> bool:
        """Whether the input is an image (28, 28, 1) rather than a row of (784,)."""
        return any(layer.kind in ("Conv2D", "MaxPooling2D") for layer in self.layers)


def with_output(experiment: Experiment) -> tuple[Layer, ...]:
    """The layers of an experiment and the softmax that ends every model."""
    output = (
        ("activation", "softmax"),
        ("kernel_initializer", "glorot_uniform"),
        ("units", CLASSES),
    )
    return (*experiment.layers, Layer("Dense", output))


def layer_names(experiment: Experiment) -> tuple[str, ...]:
    """Names such as `conv_1`, `dropout_2`, `flatten_1`, `output`, one per layer."""
    counts: Counter[str] = Counter()
    names = []
    for layer in experiment.layers:
        short = SHORT_NAMES.get(layer.kind, layer.kind.lower())
        counts[short] += 1
        names.append(f"{short}_{counts[short]}")
    return (*names, "output")


def derive_seed(*parts: int | str) -> int:
    """A 31-bit seed from a run's seed and what it is for; the same on any machine.

    >>> derive_seed(0, "Conv2D", 1) == derive_seed(0, "Conv2D", 1)
    True
    >>> derive_seed(0, "Conv2D", 1) == derive_seed(0, "Conv2D", 2)
    False
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) & 0x7FFFFFFF


def serialized(module: str, part: Layer | Optimizer) -> dict[str, Any]:
    """A value in the form that Keras's own `deserialize` reads."""
    config = {
        name: serialized("keras.regularizers", Layer(*value))
        if name.endswith("regularizer") and value is not None
        else value
        for name, value in part.config
    }
    return {"module": module, "class_name": part.kind, "config": config}


def build(
    experiment: Experiment, *, seed: int = 0, image_data_format: str | None = None
):
    """Make the Keras model of an experiment, with explicit seeds, not compiled.

    Each initializer and each dropout gets a seed from (seed, layer kind, ordinal of
    that kind), so variants of an architecture share the initial weights of what
    they share.

    Args:
        experiment: the architecture.
        seed: the run's seed.
        image_data_format: `channels_last` or `channels_first`; None asks Keras.

    Returns:
        A `keras.Sequential` from (batch, 28, 28, 1), (batch, 1, 28, 28) or
        (batch, 784) to class probabilities (batch, 10).

    Raises:
        ValueError: an unknown layer, or settings that Keras refuses.
    """
    # TensorFlow hides its start-up chatter only if asked before the import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    data_format = image_data_format or keras.config.image_data_format()
    channels_first = data_format == "channels_first"
    if not experiment.spatial:
        shape = (IMAGE_SIDE * IMAGE_SIDE,)
    elif channels_first:
        shape = (1, IMAGE_SIDE, IMAGE_SIDE)
    else:
        shape = (IMAGE_SIDE, IMAGE_SIDE, 1)

    parts = [keras.Input(shape)]
    ordinals: Counter[str] = Counter()
    on_images = experiment.spatial
    for layer, name in zip(
        with_output(experiment), layer_names(experiment), strict=True
    ):
        # The output is a kind of its own: one hidden layer more must not change it.
        kind = "output" if name == "output" else layer.kind
        ordinals[kind] += 1
        layer_seed = derive_seed(seed, kind, ordinals[kind])
        form = serialized("keras.layers", layer)
        config = form["config"]
        config["name"] = name
        if layer.kind in ("Conv2D", "MaxPooling2D", "Flatten"):
            config["data_format"] = data_format
        if layer.kind == "BatchNormalization" and on_images and channels_first:
            config["axis"] = 1
        if layer.kind == "Dropout":
            config["seed"] = layer_seed
        if "kernel_initializer" in config:
            config["kernel_initializer"] = {
                "class_name": config["kernel_initializer"],
                "config": {"seed": layer_seed},
            }
        on_images = on_images and layer.kind != "Flatten"
        try:
            parts.append(keras.layers.deserialize(form))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{experiment.name}: Keras cannot make layer {name} "
                f"({layer.kind}): {error}"
            ) from error
    return keras.Sequential(parts, name=experiment.name)
