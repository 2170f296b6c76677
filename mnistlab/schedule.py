"""Train runs on Dask: one task is one epoch of one run, on a laptop or a cluster.

The client sends a state and receives the next, stores it, and sends it back to the
same worker, which has the traced model. So progress, resuming and a lost worker need
no shared file system: at most one epoch is lost.
"""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from mnistlab import store
from mnistlab.data import Dataset
from mnistlab.models.sizes import macs
from mnistlab.runs import Run, RunSpec
from mnistlab.train import Arrays, read_history


@dataclass(frozen=True)
class Progress:
    """One thing that happened: a run started, finished an epoch, ended or failed."""

    kind: str  # "started", "epoch", "trained", "failed"
    spec: RunSpec
    history: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""


@dataclass(frozen=True)
class Result:
    """How a run ended: `trained` with its run, or `failed` with a message."""

    spec: RunSpec
    status: str
    run: Run | None = None
    message: str = ""


def cost(spec: RunSpec) -> int:
    """Multiply-adds of a whole training, to begin with the longest."""
    task = spec.task
    return macs(task.experiment) * task.train_size * task.epochs


@contextmanager
def _children_ignore_interrupts():
    """Ctrl-C goes to the whole process group; only this process is to answer it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _client(workers: int | None, scheduler: str | None, wanted: int):
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        with Client(scheduler, timeout="10s") as client:
            yield client
        return
    count = min(workers or dask.system.cpu_count(), wanted)
    settings = {
        # A task that has taken its worker down twice will do so again.
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        # What happens to a task comes back with it; a worker's log, such as that a
        # connection was closed when all was done, only frightens.
        "distributed.nanny.pre-spawn-environ.DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": (
            "critical"
        ),
    }
    with dask.config.set(settings):
        with _children_ignore_interrupts():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # any free port, not 8787 for all
                host="127.0.0.1",
                silence_logs=logging.ERROR,
            )
        with cluster, Client(cluster) as client:
            yield client


def train_runs(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    fresh: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Result]:
    """Train runs, longest first, each from its checkpoint if it has one.

    Args:
        specs: what to train.
        dataset: the data that all of them use.
        out: the output folder; a run is stored there as soon as it has finished.
        workers: processes of one thread each; None is one per usable core.
        scheduler: the address of a running Dask cluster, instead of local workers.
        fresh: begin at the first epoch, whatever checkpoint there is.
        report: called with every step of progress.

    Returns:
        One result for each specification, in the same order.

    Raises:
        KeyboardInterrupt: finished epochs are stored; the same call goes on from them.
    """
    if not specs:
        return []
    from distributed import as_completed

    from mnistlab.worker import HoldArrays, train_epoch

    waiting = sorted(specs, key=cost, reverse=True)
    results: dict[RunSpec, Result] = {}
    arrays = Arrays(dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    with _client(workers, scheduler, len(specs)) as client, warnings.catch_warnings():
        # States and arrays are large on purpose; dask warns of that once each.
        warnings.filterwarnings("ignore", message="Sending large graph")
        client.register_plugin(HoldArrays(dataset.fingerprint, arrays))
        running: dict[Any, RunSpec] = {}
        completed = as_completed()

        def submit(spec: RunSpec, state: bytes | None, worker: str | None = None):
            future = client.submit(
                train_epoch,
                spec.task,
                dataset.fingerprint,
                state,
                key=f"{spec.task.experiment.name}-{spec.task.seed}-{uuid4().hex}",
                workers=[worker] if worker else None,
                allow_other_workers=bool(worker),
                pure=False,
            )
            running[future] = spec
            completed.add(future)

        def fail(spec: RunSpec, message: str):
            results[spec] = Result(spec, "failed", message=message)
            report(Progress("failed", spec, message=message))

        while waiting or running:
            # No more runs at a time than workers: one run, one traced model, one core.
            while waiting and len(running) < max(1, len(client.nthreads())):
                spec = waiting.pop(0)
                state = None if fresh else store.read_checkpoint(out, spec)
                history = read_history(state) if state else []
                report(Progress("started", spec, history))
                submit(spec, state)
            future = next(completed)
            spec = running.pop(future)
            if future.status != "finished":
                fail(spec, _reason(future))
                continue
            epoch, environment = future.result()
            if epoch.outcome is None:
                store.write_checkpoint(out, spec, epoch.state)
                report(Progress("epoch", spec, epoch.history))
                worker = next(iter(client.who_has([future]).values()), [None])
                submit(spec, epoch.state, *worker[:1])
            else:
                run = store.write_run(out, spec, epoch, environment)
                results[spec] = Result(spec, "trained", run)
                report(Progress("epoch", spec, epoch.history))
                report(Progress("trained", spec, epoch.history))
            future.release()
    return [results[spec] for spec in specs]


def _reason(future) -> str:
    from distributed.scheduler import KilledWorker

    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):
        return "its worker process died twice; is there enough memory?"
    if error is None:
        return f"its task was {future.status}"
    return str(error) or type(error).__name__
