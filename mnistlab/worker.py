"""What runs in a Dask worker: the arrays it holds and one epoch of one run.

A worker imports this module and what it needs to train, and nothing that shows,
stores or schedules, so that none of those can change a number.
"""

import logging
import os
from contextlib import contextmanager
from functools import cache

from distributed import WorkerPlugin

from mnistlab import train
from mnistlab.environment import environment

_held: dict[str, train.Arrays] = {}


class HoldArrays(WorkerPlugin):
    """Bring a data set to every worker, those included that start later."""

    def __init__(self, fingerprint: str, arrays: train.Arrays):
        self.fingerprint = fingerprint
        self.arrays = arrays
        self.name = f"mnistlab-{fingerprint}"

    def setup(self, worker) -> None:
        """Keep the arrays in the worker's process."""
        _held[self.fingerprint] = self.arrays


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
def _prepare_backend() -> None:
    # A new model is traced anew; TensorFlow warns of that as if it were a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _mute_native_stderr():
        train.prepare_backend()
        import keras

        keras.ops.zeros(1)  # the device is looked for, and greeted, on first use


def train_epoch(
    task: train.Task, fingerprint: str, state: bytes | None
) -> tuple[train.Epoch, dict]:
    """Train one epoch; a state of None begins the run. Also says what it ran on."""
    _prepare_backend()
    if state is None:
        state = train.initial_state(task)
    return train.train_epoch(task, _held[fingerprint], state), environment()
