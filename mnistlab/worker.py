"""What runs in a Dask worker: the arrays it holds and one epoch of one run.

A worker imports this module and what it needs to train, and nothing that shows,
stores or schedules, so that none of those can change a number.
"""

import ctypes
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from distributed import WorkerPlugin

from mnistlab import train
from mnistlab.environment import differences, environment, identity

# Backends read these when they are imported, and most decide bits; but for where
# memory and messages go.
DROPPED = ("DNNL_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "TF_")
KEPT = ("TF_CPP_", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_")

_held: dict[str, train.Arrays] = {}
# One model is kept traced, so one task at a time, however many threads a worker has.
_training = threading.Lock()


# The state after the last epoch that was trained here: it need not travel twice.
_kept: dict[tuple[train.Task, str, int], bytes] = {}


class StateNeeded(RuntimeError):
    """The state to go on from is not kept here; the client has it and must send it."""


class ForeignWorker(RuntimeError):
    """A worker has other code or versions than the build that it is to work for."""


class HoldArrays(WorkerPlugin):
    """Bring a data set to every worker, those included that start later.

    Of several GPUs, each worker sees the one of its own number.
    """

    def __init__(
        self, fingerprint: str, arrays: train.Arrays, gpus: Sequence[str] = ()
    ):
        self.fingerprint = fingerprint
        self.arrays = arrays
        self.gpus = tuple(gpus)
        self.name = f"mnistlab-{fingerprint}"

    def setup(self, worker: Any) -> None:
        """Keep the arrays in the worker's process."""
        _held[self.fingerprint] = self.arrays
        if self.gpus:
            gpu = self.gpus[int(worker.name) % len(self.gpus)]
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _keep_freed_memory() -> None:
    """Let glibc keep what TensorFlow frees, to be used again in the next step.

    Dask asks it to give everything back at once; new pages then cost an MLP a third
    of its time. Elsewhere than on glibc nothing is done.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # old glibc


def _drop_variables() -> None:
    for name in list(os.environ):
        if name.startswith(DROPPED) and not name.startswith(KEPT):
            del os.environ[name]


@contextmanager
def _mute_native_stderr():
    """TensorFlow's C++ greets on standard error, whatever its log level is."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@cache
def prepare_backend() -> None:
    """Make this process train as every other does, and without chatter."""
    _keep_freed_memory()
    warnings.filterwarnings("ignore", "going on without a GPU")  # the client has told
    # A new model is traced anew; TensorFlow warns of that as if it were a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _mute_native_stderr():
        _drop_variables()
        train.prepare_backend()
        import keras

        keras.ops.zeros(1)  # the device is looked for, and greeted, on first use
    # Keras collects garbage for each model; TensorFlow's own 400,000 objects are none.
    gc.freeze()


def train_epoch(
    task: train.Task,
    fingerprint: str,
    epoch: int,
    state: bytes | None,
    expected: dict[str, str],
) -> tuple[train.Epoch, dict]:
    """Train one epoch, counted from 1; also say what it was trained on.

    Without a state, the first epoch begins the run, and a later one goes on from the
    state that this worker has kept.

    Raises:
        ForeignWorker: this process's identity is not the expected one.
        StateNeeded: it has kept no such state.
    """
    foreign = differences(expected, identity())
    if foreign:
        raise ForeignWorker(foreign)
    with _training:
        if state is None and epoch > 1:
            state = _kept.get((task, fingerprint, epoch - 1))
            if state is None:
                raise StateNeeded(f"epoch {epoch} of {task.experiment.name}")
        prepare_backend()
        if state is None:
            state = train.initial_state(task)
        result = train.train_epoch(task, _held[fingerprint], state)
        _kept.clear()
        _kept[task, fingerprint, epoch] = result.state
        return result, environment()
