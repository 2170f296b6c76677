"""Train one run, one epoch at a time: a function from state to state.

The state is bytes: weights, optimizer variables, history. Everything random in an
epoch (its order, its dropout) derives from the run's seed and the epoch's number, so
a run may stop after any epoch and go on in another process with the same bits.
This file decides numbers: every edit of its code retrains every run. Progress,
records and checkpoint files live elsewhere.
"""

import hashlib
import io
import json
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mnistlab.models.experiment import (
    CLASSES,
    IMAGE_SIDE,
    Experiment,
    Normalization,
    Optimizer,
    build,
    derive_seed,
    serialized,
)

THREADS = 1
PROTOCOLS = ("replicate", "holdout")
# Results do not depend on it, but memory and speed do: a few MB of activations.
PREDICT_BATCH = 500


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images uint8 (n, 28, 28), 0-255, and labels uint8 (n,), 0-9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Task:
    """What decides the numbers of one run, besides data, code and versions.

    `train_size` images are taken from the beginning of the training set, `test_size`
    from that of the test set. Under `holdout` the last twelfth of the training images
    (5,000 of 60,000) is kept for validation.
    """

    experiment: Experiment
    seed: int
    epochs: int
    protocol: str
    train_size: int
    test_size: int
    image_data_format: str


@dataclass(frozen=True)
class Outcome:
    """What a finished run has: scores, test predictions, weights by name.

    `train` and `test` hold loss, cross_entropy and accuracy with dropout off, `train`
    on as many of the first training images as there are test images: enough for the
    same precision, at a sixth of the cost. The `loss` is the cross-entropy plus the
    L2 penalty.
    """

    train: dict[str, float]
    test: dict[str, float]
    predicted: np.ndarray  # uint8 (test_size,)
    confidence: np.ndarray  # float32 (test_size,), probability of the class predicted
    weights: dict[str, np.ndarray]  # "conv_1/kernel": float32, in the model's order


@dataclass(frozen=True)
class Epoch:
    """One epoch's result: the state after it, and the outcome if it was the last."""

    state: bytes
    history: list[dict[str, Any]]
    outcome: Outcome | None


class TrainingDiverged(ArithmeticError):
    """The loss of a run is not a finite number."""


def prepare_backend() -> None:
    """Make this process's backend give the same bits as any other of the same machine.

    One thread, because their number changes the bits; float32 that is float32, also
    where a GPU would round it to fewer digits; and nothing left over from elsewhere.
    Must be called before Keras is first imported in the process.
    """
    count = str(THREADS)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = count
    os.environ["NPROC"] = count  # JAX sizes its pool by it
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.pop("TF_XLA_FLAGS", None)
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        os.environ["XLA_FLAGS"] = flags
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(THREADS)
        tensorflow.config.threading.set_inter_op_parallelism_threads(THREADS)
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    elif backend == "torch":
        import torch

        torch.set_num_threads(THREADS)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def normalized(images: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Turn uint8 images (n, 28, 28), 0-255, into float32 (n, 28, 28, 1), 0-1."""
    images = images[..., np.newaxis]
    if normalization.kind == "divide_by_255":
        return images.astype(np.float32) / np.float32(255)
    if normalization.kind != "l2_normalize":
        raise ValueError(
            f"unknown normalization {normalization.kind!r}; "
            "expected divide_by_255 or l2_normalize"
        )
    # As keras.utils.normalize: in float64, and lines of zeros stay zeros.
    squares = np.square(images, dtype=np.float64)
    lengths = np.sqrt(squares.sum(axis=normalization.axis, keepdims=True))
    lengths[lengths == 0] = 1
    return (images / lengths).astype(np.float32)


def validation_size(train_size: int, protocol: str) -> int:
    """How many of the training images are kept for validation."""
    return train_size // 12 if protocol == "holdout" else 0


@lru_cache(maxsize=1)
def _inputs(
    arrays: Arrays,
    sizes: tuple[int, int],
    normalization: Normalization,
    spatial: bool,
    image_data_format: str,
) -> list[Any]:
    """Training images, their labels, test images; kept, for a run asks every epoch."""
    import keras

    shape = (IMAGE_SIDE * IMAGE_SIDE,)
    if spatial:
        shape = (IMAGE_SIDE, IMAGE_SIDE, 1)
        if image_data_format == "channels_first":
            shape = (1, IMAGE_SIDE, IMAGE_SIDE)
    x_train, x_test = (
        normalized(x[:n], normalization).reshape(-1, *shape)
        for x, n in zip((arrays.x_train, arrays.x_test), sizes, strict=True)
    )
    inputs = [x_train, arrays.y_train[: sizes[0]].astype(np.int32), x_test]
    if keras.backend.backend() == "tensorflow":  # else an epoch begins with a copy
        inputs = [keras.ops.convert_to_tensor(part) for part in inputs]
    return inputs


def _compiled(task: Task):
    import keras

    experiment = task.experiment
    model = build(experiment, seed=task.seed, image_data_format=task.image_data_format)
    # The running loss includes the penalty: where there is one, watch both.
    metrics: list[Any] = ["accuracy"]
    if model.losses:
        metrics.append(
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy")
        )
    model.compile(
        optimizer=_optimizer(experiment.recipe.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=metrics,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _optimizer(optimizer: Optimizer):
    import keras

    return keras.optimizers.deserialize(serialized("keras.optimizers", optimizer))


@lru_cache(maxsize=1)
def _traced(experiment: Experiment, image_data_format: str):
    """A compiled model, its `fit` and its `predict`; every epoch sets the weights."""
    import keras

    keras.utils.clear_session()
    model = _compiled(Task(experiment, 0, 1, "replicate", 0, 0, image_data_format))
    if keras.backend.backend() == "tensorflow":
        return model, *_on_tensorflow(model, experiment.recipe.batch_size)

    def fit(x, y, order):
        x, y, batch_size = x[order], y[order], experiment.recipe.batch_size
        model.fit(x, y, batch_size, shuffle=False, verbose=0)

    def predict(x):
        return model.predict(x, batch_size=PREDICT_BATCH, verbose=0)

    return model, fit, predict


def _on_tensorflow(model, batch_size: int):
    """Keras's own train step, an epoch of them in one call of TensorFlow.

    The weights are those of Keras's `fit`, which returns to Python after every step
    and makes a data pipeline for every epoch: half of the time of a small model.
    """
    import tensorflow as tf

    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    labels = tf.TensorSpec((None,), tf.int32)

    @tf.function(input_signature=(images, labels, tf.TensorSpec((None,), tf.int64)))
    def train(x, y, order):
        for first in tf.range(0, tf.size(order), batch_size):
            batch = order[first : first + batch_size]
            model.train_step((tf.gather(x, batch), tf.gather(y, batch)))

    @tf.function(input_signature=(images,))
    def predict(x):
        size = tf.shape(x)[0]
        parts = tf.TensorArray(
            tf.float32, -(-size // PREDICT_BATCH), element_shape=(None, CLASSES),
            infer_shape=False,
        )  # fmt: skip
        for part in tf.range(-(-size // PREDICT_BATCH)):
            first = part * PREDICT_BATCH
            parts = parts.write(
                part, model(x[first : first + PREDICT_BATCH], training=False)
            )
        return parts.concat()

    def fit(x, y, order):
        model.reset_metrics()
        train(x, y, order)

    train.get_concrete_function()  # traced now, not within the first epoch's seconds
    return fit, lambda x: predict(x).numpy()


def initial_state(task: Task) -> bytes:
    """The state before the first epoch."""
    model = _compiled(task)
    return _pack(model, [])


def _pack(model, history: list[dict[str, Any]]) -> bytes:
    arrays = {f"w{i:03d}": w for i, w in enumerate(_values(model.weights))}
    slots = _values(model.optimizer.variables)
    arrays |= {f"o{i:03d}": v for i, v in enumerate(slots)}
    text = json.dumps(history).encode()
    arrays["history"] = np.frombuffer(text, dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _values(variables) -> list[np.ndarray]:
    import keras

    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def read_history(state: bytes) -> list[dict[str, Any]]:
    """The history in a state, one entry per finished epoch.

    Raises:
        ValueError: the bytes are not a state.
    """
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
            return json.loads(arrays["history"].tobytes())
    except Exception as error:  # zipfile, numpy and json each have their own
        raise ValueError(f"not a training state: {error}") from error


def _unpack(model, state: bytes) -> list[dict[str, Any]]:
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
        for i, variable in enumerate(model.weights):
            variable.assign(arrays[f"w{i:03d}"])
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(arrays[f"o{i:03d}"])
        return json.loads(arrays["history"].tobytes())


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which an epoch sees the training images, as indices (size,)."""
    generator = np.random.default_rng(derive_seed(seed, "order", "epoch", epoch))
    return generator.permutation(size)


def _seed_dropout(model, seed: int, epoch: int) -> None:
    ordinal = 0
    for layer in model.layers:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            ordinal += 1
            value = [derive_seed(seed, "Dropout", ordinal, "epoch", epoch), 0]
            generator.state.assign(np.array(value, dtype=generator.state.dtype))


def evaluate(
    probabilities: np.ndarray, labels: np.ndarray, penalty: float
) -> dict[str, float]:
    """Loss, cross-entropy and accuracy of probabilities (n, 10) for labels (n,).

    The cross-entropy is the mean of -log(probability of the label), not clipped, the
    same on every backend; the loss adds the model's L2 penalty.

    >>> scores = evaluate(np.eye(10), np.arange(10), penalty=0.5)
    >>> scores["accuracy"], scores["loss"]
    (1.0, 0.5)
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    tiny = np.finfo(np.float32).tiny
    cross_entropy = float(-np.log(np.maximum(of_label, tiny)).mean())
    return {
        "loss": cross_entropy + penalty,
        "cross_entropy": cross_entropy,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }


def weights_sha256(weights: list[np.ndarray]) -> str:
    """SHA-256 of the weights in order, float32 little-endian, with their shapes."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(json.dumps(list(weight.shape)).encode())
        digest.update(np.ascontiguousarray(weight, dtype="<f4").tobytes())
    return digest.hexdigest()


def train_epoch(task: Task, arrays: Arrays, state: bytes) -> Epoch:
    """Train one epoch from `state`, evaluate, and return the state after it.

    Args:
        task: what to train.
        arrays: the whole data set; the task says how much of it is used.
        state: from `initial_state` or the epoch before.

    Returns:
        The new state, the history so far, and the outcome after the last epoch. A
        history entry has epoch, loss, cross_entropy and accuracy (running means of
        training, dropout on), val_loss, val_cross_entropy and val_accuracy (on the
        test set under `replicate`, on the held-out images under `holdout`), seconds
        and cpu_seconds (of training alone) and weights_sha256.

    Raises:
        TrainingDiverged: the loss is not finite.
    """
    experiment = task.experiment
    x_train, y_train, x_test = _inputs(
        arrays,
        (task.train_size, task.test_size),
        experiment.recipe.normalization,
        experiment.spatial,
        task.image_data_format,
    )
    kept = task.train_size - validation_size(task.train_size, task.protocol)
    y_test = arrays.y_test[: task.test_size]
    x_val, y_val = x_test, y_test
    if kept < task.train_size:
        x_val, y_val = x_train[kept:], arrays.y_train[kept : task.train_size]

    model, fit, predict = _traced(experiment, task.image_data_format)
    history = _unpack(model, state)
    epoch = len(history) + 1
    _seed_dropout(model, task.seed, epoch)
    order = epoch_order(task.seed, epoch, kept)

    wall, cpu = time.perf_counter(), time.process_time()
    fit(x_train, y_train, order)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    entry = {name: float(value) for name, value in model.get_metrics_result().items()}
    entry.setdefault("cross_entropy", entry["loss"])
    penalty = float(sum(_values(model.losses), start=np.float64(0)))
    probabilities = predict(x_val)
    scores = evaluate(probabilities, y_val, penalty)
    entry |= {f"val_{name}": value for name, value in scores.items()}
    if not all(np.isfinite(value) for value in entry.values()):
        raise TrainingDiverged(
            f"{experiment.name}, seed {task.seed}: the loss of epoch {epoch} is not a "
            "finite number; try a smaller learning rate"
        )
    weights = _values(model.weights)
    entry = {
        "epoch": epoch,
        **entry,
        "seconds": wall,
        "cpu_seconds": cpu,
        "weights_sha256": weights_sha256(weights),
    }
    history = [*history, entry]
    outcome = None
    if epoch >= task.epochs:
        if x_val is not x_test:
            probabilities = predict(x_test)
            scores = evaluate(probabilities, y_test, penalty)
        predicted = probabilities.argmax(axis=1)
        seen = min(kept, task.test_size)
        names = [weight.path.partition("/")[2] for weight in model.weights]
        outcome = Outcome(
            train=evaluate(predict(x_train[:seen]), arrays.y_train[:seen], penalty),
            test=scores,
            predicted=predicted.astype(np.uint8),
            confidence=probabilities.max(axis=1),
            weights=dict(zip(names, weights, strict=True)),
        )
    return Epoch(_pack(model, history), history, outcome)
