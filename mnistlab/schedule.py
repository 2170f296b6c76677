"""Train runs on Dask: one task is one epoch of one run, on a laptop or a cluster.

A worker keeps the traced model and the state after its last epoch, and goes on from it;
the client receives each state and stores it, and sends one only to a worker that has
not kept it. So progress, resuming and a lost worker need no shared file system: at most
one epoch is lost.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from mnistlab import clusters, store
from mnistlab.data import Dataset
from mnistlab.environment import gpus, identity
from mnistlab.models.sizes import macs
from mnistlab.runs import Run, RunSpec
from mnistlab.train import Arrays, read_history


@dataclass(frozen=True)
class Progress:
    """One thing that happened: a run started, finished an epoch, ended or failed.

    A failure has a message, a run that was trained to its end is there as `run`.
    """

    kind: str  # "started", "epoch", "trained", "failed"
    spec: RunSpec
    history: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    run: Run | None = None


def cost(spec: RunSpec) -> int:
    """Multiply-adds of all forward passes of a training: enough to order runs."""
    task = spec.task
    return macs(task.experiment) * task.train_size * task.epochs


def longest_first(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Specifications by cost: a long run that began last would keep all waiting."""
    return sorted(specs, key=cost, reverse=True)


def train_runs(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    fresh: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Progress]:
    """Train runs in their order, each from its checkpoint if it has one.

    Args:
        specs: what to train; `longest_first` keeps all workers busy to the end.
        dataset: the data that all of them use.
        out: the output folder; a run is stored there as soon as it has finished.
        workers: processes of one thread each; None is one per GPU, if the backend can
            use any, else one per usable core.
        scheduler: the address of a running Dask cluster, instead of local workers.
        fresh: begin at the first epoch, whatever checkpoint there is.
        report: called with every step of progress.

    Returns:
        How each specification ended, in the same order.

    Raises:
        KeyboardInterrupt: finished epochs are stored; the same call goes on from them.
        ScheduleError: there is no scheduler, or none of its workers may be used.
        SchedulerGone: it ended meanwhile; the same call goes on.
        OSError: the output folder cannot be written to; what was there is whole.
    """
    if not specs:
        return []
    devices: list[str] = []
    if scheduler:
        cluster = clusters.running_cluster(scheduler)
    else:
        import dask

        devices = gpus()
        count = workers or len(devices) or dask.system.cpu_count()
        cluster = clusters.local_cluster(min(count, len(specs)))
    with cluster as client, warnings.catch_warnings():
        # States and arrays are large on purpose; dask warns of that once each.
        warnings.filterwarnings("ignore", message="Sending large graph")
        results = _train(client, specs, dataset, devices, out, fresh, report)
    return [results[spec] for spec in specs]


def _train(
    client: Any,
    specs: Sequence[RunSpec],
    dataset: Dataset,
    devices: Sequence[str],
    out: Path,
    fresh: bool,
    report: Callable[[Progress], None],
) -> dict[RunSpec, Progress]:
    """One run per worker at a time, until it is known of each how it ended.

    One run, one traced model, one core. The next epoch begins, from the state that the
    worker keeps, before that state has come here; it is sent only where it is needed.
    """
    from distributed import wait
    from distributed.scheduler import KilledWorker

    from mnistlab.worker import ForeignWorker, HoldArrays, StateNeeded, train_epoch

    expected = identity()
    known: dict[str, str] = {}
    clusters.accepted_workers(client, expected, known)
    arrays = Arrays(dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    try:
        client.register_plugin(HoldArrays(dataset.fingerprint, arrays, devices))
    except Exception:
        if not any(known.values()):
            raise  # else it is a refused worker that cannot take them

    results: dict[RunSpec, Progress] = {}
    waiting = list(specs)
    states: dict[RunSpec, bytes] = {}  # the last one that came, of unfinished runs
    deaths: Counter[RunSpec] = Counter()  # of workers, while they trained the run
    running: dict[Any, tuple[RunSpec, int, str]] = {}

    def submit(spec: RunSpec, epoch: int, state: bytes | None, worker: str) -> Any:
        future = client.submit(
            train_epoch,
            spec.task,
            dataset.fingerprint,
            epoch,
            state,
            expected,
            key=f"{spec.task.experiment.name}-{spec.task.seed}-{uuid4().hex}",
            workers=[worker],
            allow_other_workers=True,  # should this one die
            pure=False,
        )
        running[future] = spec, epoch, worker
        return future

    def fail(spec: RunSpec, message: str) -> None:
        results[spec] = Progress("failed", spec, message=message)
        report(results[spec])

    def go_back(spec: RunSpec, worker: str, error: Exception) -> None:
        """Try an epoch again that was lost, but not the run's own failures."""
        if isinstance(error, KilledWorker):
            deaths[spec] += error.allowed_failures + 1
        elif isinstance(error, StateNeeded):
            deaths[spec] += worker not in client.nthreads()
        elif not isinstance(error, ForeignWorker):  # one that came meanwhile
            return fail(spec, str(error) or type(error).__name__)
        if deaths[spec] > 1:
            return fail(spec, "its worker process died twice; is there enough memory?")
        waiting.insert(0, spec)

    def finish(future: Any) -> None:
        spec, epoch, worker = running.pop(future)
        next_one = None
        if future.status == "finished" and epoch < spec.task.epochs:
            holders = next(iter(client.who_has([future]).values()), ())
            next_one = submit(spec, epoch + 1, None, *(holders[:1] or [worker]))
        try:
            result, environment = future.result()
        except CancelledError:
            raise  # by us never: the scheduler has forgotten it
        except Exception as error:
            if next_one is not None:  # the worker died with the result in its hands
                del running[next_one]
                next_one.cancel()
            return go_back(spec, worker, error)
        run = None
        if result.outcome is None:
            states[spec] = result.state
            store.write_checkpoint(out, spec, result.state)
        else:
            states.pop(spec, None)
            run = store.write_run(out, spec, result, environment)
        report(Progress("epoch", spec, result.history))
        if run is not None:
            results[spec] = Progress("trained", spec, result.history, run=run)
            report(results[spec])

    def begin(spec: RunSpec, worker: str) -> None:
        again = spec in states or deaths[spec]
        if not again and not fresh:
            if checkpoint := store.read_checkpoint(out, spec):
                states[spec] = checkpoint
        state = states.get(spec)
        history = read_history(state) if state else []
        if not again:
            report(Progress("started", spec, history))
        submit(spec, len(history) + 1, state, worker)

    told = False
    while waiting or running:
        accepted = clusters.accepted_workers(client, expected, known)
        busy = {worker for _, _, worker in running.values()}
        for worker in [address for address in accepted if address not in busy]:
            if waiting:
                begin(waiting.pop(0), worker)
        if not running:
            refused = [reason for reason in known.values() if reason]
            if refused and "" not in known.values():  # else it may come back
                raise clusters.ScheduleError(
                    f"none of the cluster's workers may be used: {'; '.join(refused)}"
                )
            if not told:
                warnings.warn("the cluster has no worker yet; waiting", stacklevel=2)
                told = True
            time.sleep(1)
            continue
        try:  # and look now and then for workers that have come
            done = wait(list(running), timeout=5, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        for future in done:
            if future.status == "lost":  # with its worker; Dask computes it again
                continue
            finish(future)
            future.release()
    return results
