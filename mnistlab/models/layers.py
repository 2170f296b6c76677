"""The words an architecture is written with: conv, pool, dense, adam and so on.

Each returns a value in Keras's own names. This file decides numbers: every edit of
its code retrains every run.
"""

from mnistlab.models.experiment import Layer, Normalization, Optimizer

divide_by_255 = Normalization("divide_by_255")


def _layer(kind: str, **config) -> Layer:
    return Layer(kind, tuple(sorted(config.items())))


def _l2(factor: float):
    return ("L2", (("l2", factor),)) if factor else None


def conv(
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: str = "valid",
    initializer: str = "glorot_uniform",
    l2: float = 0.0,
) -> Layer:
    """A ReLU convolution of `filters` square kernels.

    >>> conv(32, 3).settings["kernel_size"]
    (3, 3)
    """
    return _layer(
        "Conv2D",
        filters=filters,
        kernel_size=(kernel, kernel),
        strides=(stride, stride),
        padding=padding,
        activation="relu",
        kernel_initializer=initializer,
        kernel_regularizer=_l2(l2),
    )


def pool(size: int = 2, *, padding: str = "valid") -> Layer:
    """A maximum over squares of `size`, with a stride of the same size."""
    return _layer(
        "MaxPooling2D", pool_size=(size, size), strides=(size, size), padding=padding
    )


def dropout(rate: float) -> Layer:
    """Dropout of a fraction `rate` (0 to 1) of the activations in training."""
    return _layer("Dropout", rate=rate)


def batchnorm() -> Layer:
    """Batch normalization of the channels, momentum 0.99 and epsilon 0.001."""
    return _layer("BatchNormalization", momentum=0.99, epsilon=0.001)


def flatten() -> Layer:
    """Images to rows."""
    return _layer("Flatten")


def dense(units: int, *, initializer: str = "glorot_uniform", l2: float = 0.0) -> Layer:
    """A fully connected ReLU layer."""
    return _layer(
        "Dense",
        units=units,
        activation="relu",
        kernel_initializer=initializer,
        kernel_regularizer=_l2(l2),
    )


def adam(learning_rate: float = 0.001) -> Optimizer:
    """Adam as Keras has always had it: betas 0.9 and 0.999, epsilon 1e-7."""
    return Optimizer(
        "Adam",
        (
            ("beta_1", 0.9),
            ("beta_2", 0.999),
            ("epsilon", 1e-7),
            ("learning_rate", learning_rate),
        ),
    )


def adadelta(learning_rate: float) -> Optimizer:
    """Adadelta with rho 0.95 and epsilon 1e-7.

    The learning rate has no default on purpose: it was 1.0 in the Keras of 2019 and
    is 0.001 in Keras 3, which costs about 15 points of accuracy.
    """
    return Optimizer(
        "Adadelta",
        (("epsilon", 1e-7), ("learning_rate", learning_rate), ("rho", 0.95)),
    )


def l2_normalize(axis: int = 2) -> Normalization:
    """Lines of unit length along an axis of (n, 28, 28, 1): `keras.utils.normalize`.

    The default, rows, is what Keras's default does to images of shape (n, 28, 28);
    1 gives columns; 3, Keras's default on (n, 28, 28, 1), a black-and-white picture.
    """
    if axis not in (1, 2, 3):
        raise ValueError(
            f"l2_normalize: axis must be 1 (columns), 2 (rows) or 3 (pixels), "
            f"got {axis!r}"
        )
    return Normalization("l2_normalize", axis)
