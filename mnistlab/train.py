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
# Steps that TensorFlow takes without returning to Python; the bits are the same.
STEPS_PER_CALL = 32


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

    `train` and `test` hold loss, cross_entropy and accuracy with dropout off. The
    `loss` is the cross-entropy plus the L2 penalty.
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
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the model is fed; the last answer is kept, for a run asks every epoch."""
    shape = (IMAGE_SIDE * IMAGE_SIDE,)
    if spatial:
        shape = (IMAGE_SIDE, IMAGE_SIDE, 1)
        if image_data_format == "channels_first":
            shape = (1, IMAGE_SIDE, IMAGE_SIDE)
    images = [
        normalized(x[:n], normalization).reshape(-1, *shape)
        for x, n in zip((arrays.x_train, arrays.x_test), sizes, strict=True)
    ]
    labels = [
        y[:n].astype(np.int32)
        for y, n in zip((arrays.y_train, arrays.y_test), sizes, strict=True)
    ]
    return images[0], labels[0], images[1], labels[1]


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
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model.compile(
        optimizer=_optimizer(experiment.recipe.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=metrics,
        steps_per_execution=STEPS_PER_CALL if on_tensorflow else 1,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _optimizer(optimizer: Optimizer):
    import keras

    return keras.optimizers.deserialize(serialized("keras.optimizers", optimizer))


@lru_cache(maxsize=1)
def _traced(experiment: Experiment, image_data_format: str):
    """A compiled model of the experiment; weights and seeds are set by every epoch."""
    import keras

    keras.utils.clear_session()
    return _compiled(Task(experiment, 0, 1, "replicate", 0, 0, image_data_format))


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


def evaluate(model, images: np.ndarray, labels: np.ndarray):
    """Loss, cross-entropy and accuracy with dropout off, and the probabilities.

    The cross-entropy is the mean of -log(probability of the label), not clipped, the
    same on every backend; the loss adds the model's L2 penalty.
    """
    probabilities = model.predict(images, batch_size=PREDICT_BATCH, verbose=0)
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    tiny = np.finfo(np.float32).tiny
    cross_entropy = float(-np.log(np.maximum(of_label, tiny)).mean())
    penalty = float(sum(_values(model.losses), start=np.float64(0)))
    scores = {
        "loss": cross_entropy + penalty,
        "cross_entropy": cross_entropy,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }
    return scores, probabilities


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
    experiment, recipe = task.experiment, task.experiment.recipe
    x, y, x_test, y_test = _inputs(
        arrays,
        (task.train_size, task.test_size),
        recipe.normalization,
        experiment.spatial,
        task.image_data_format,
    )
    kept = len(x) - validation_size(len(x), task.protocol)
    x_train, y_train = x[:kept], y[:kept]
    x_val, y_val = (x[kept:], y[kept:]) if kept < len(x) else (x_test, y_test)

    model = _traced(experiment, task.image_data_format)
    if model.train_function is None:
        # Tracing changes the model, but not the state that is loaded below; done
        # here, it is not counted among the first epoch's seconds.
        few = slice(recipe.batch_size)
        model.fit(x_train[few], y_train[few], recipe.batch_size, verbose=0)
    history = _unpack(model, state)
    epoch = len(history) + 1
    _seed_dropout(model, task.seed, epoch)
    order = epoch_order(task.seed, epoch, kept)

    wall, cpu = time.perf_counter(), time.process_time()
    running = model.fit(
        x_train[order], y_train[order], recipe.batch_size, shuffle=False, verbose=0
    ).history
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    entry = {name: float(values[-1]) for name, values in running.items()}
    entry.setdefault("cross_entropy", entry["loss"])
    scores, probabilities = evaluate(model, x_val, y_val)
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
            scores, probabilities = evaluate(model, x_test, y_test)
        predicted = probabilities.argmax(axis=1)
        names = [weight.path.partition("/")[2] for weight in model.weights]
        outcome = Outcome(
            train=evaluate(model, x_train, y_train)[0],
            test=scores,
            predicted=predicted.astype(np.uint8),
            confidence=probabilities.max(axis=1),
            weights=dict(zip(names, weights, strict=True)),
        )
    return Epoch(_pack(model, history), history, outcome)
