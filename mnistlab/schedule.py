"""Train runs on Dask: one task is one epoch of one run, on a laptop or a cluster.

The client sends a state and receives the next, stores it, and sends it back to the
same worker, which has the traced model. So progress, resuming and a lost worker need
no shared file system: at most one epoch is lost.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from uuid import uuid4

from mnistlab import MnistlabError, store
from mnistlab.data import Dataset
from mnistlab.environment import differences, gpus, identity
from mnistlab.models.sizes import macs
from mnistlab.runs import Run, RunSpec
from mnistlab.train import Arrays, read_history


class ScheduleError(MnistlabError, ValueError):
    """Training cannot be scheduled: no scheduler, or no worker of the same code."""


class SchedulerGone(MnistlabError, ConnectionError):
    """The scheduler ended while it was used; the same call goes on."""


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
    """Multiply-adds of a whole training."""
    task = spec.task
    return macs(task.experiment) * task.train_size * task.epochs


def longest_first(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Specifications by cost: a long run that began last would keep all waiting."""
    return sorted(specs, key=cost, reverse=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Answer an interrupt when what is begun has ended, and let it not reach children.

    Ctrl-C goes to the whole process group, but only this process is to answer it.
    Threads and processes inherit that SIGINT is blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # later it would unblock SIGINT
    noted: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A client of a running cluster."""
    from distributed import Client
    from distributed.comm import CommClosedError

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, MemoryError) as error:
        # Dask takes what another program answers for the length of a message.
        raise ScheduleError(
            f"--scheduler {address}: expected a Dask scheduler to answer there within "
            "10 seconds, and none did; start one with `dask scheduler` (README.md)"
        ) from error
    # A connection that is lost would be logged with its tracebacks, again and again.
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with client:
            try:
                yield client
            except (OSError, CancelledError) as error:
                gone = isinstance(error, CommClosedError) or client.status != "running"
                if not gone:
                    raise  # the disk is full, for instance
                raise SchedulerGone(
                    f"--scheduler {address}: the scheduler is gone; the same command "
                    "goes on from the epochs that have finished"
                ) from error
    finally:
        log.setLevel(level)


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Let worker processes not import the script that called this.

    They need nothing of it, and it may train without asking whether it is `__main__`.
    """
    main: Any = sys.modules["__main__"]
    kept = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    vars(main).update(dict.fromkeys(kept))
    try:
        yield
    finally:
        vars(main).update(kept)


@contextmanager
def _local_cluster(count: int) -> Iterator[Any]:
    """Worker processes of one thread on this machine, and their client."""
    import dask
    from distributed import Client, LocalCluster

    distributed = dask.config.merge(*dask.config.defaults)["distributed"]
    settings = {
        "distributed": distributed,  # not as a user has set it for other work
        # Said to us at once; an epoch is tried again with the state that it needs.
        "distributed.scheduler.allowed-failures": 0,
        # Nannies see their worker die; one that was only suspended has not died.
        "distributed.scheduler.worker-ttl": None,
        "distributed.comm.timeouts.connect": "60s",
        # What happens to a task comes back with it; a worker's log, such as that a
        # connection was closed when all was done, only frightens.
        "distributed.nanny.pre-spawn-environ.DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": (
            "critical"
        ),
    }
    with dask.config.set(settings), _hidden_script(), ExitStack() as stack:
        try:
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname(), timeout=10).close()
            with _interrupts_wait():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=count,
                        threads_per_worker=1,
                        processes=True,
                        memory_limit=0,
                        dashboard_address="127.0.0.1:0",  # any free port
                        host="127.0.0.1",
                        silence_logs=logging.CRITICAL,  # what matters is reported here
                    )
                )
            client = stack.enter_context(Client(cluster, direct_to_workers=True))
        except Exception as error:
            first: BaseException = error
            while first.__cause__ or first.__context__:
                first = first.__cause__ or first.__context__ or first
            raise ScheduleError(
                f"workers cannot be started here ({type(first).__name__}: {first}); "
                "they need sockets on 127.0.0.1, shared memory and room for temporary "
                "files, or use --scheduler"
            ) from error
        try:
            yield client
        except BaseException:
            # Left to itself, Dask waits for epochs that nobody will see.
            for nanny in cluster.workers.values():
                with suppress(OSError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
            raise


def _accepted(
    client: Any, expected: dict[str, str], known: dict[str, str]
) -> list[str]:
    """The addresses of workers that train the same numbers as this checkout.

    `known` keeps what was found wrong with each address, and is added to; a worker
    that is refused is named once, in a warning.
    """

    def ask():  # travels to the worker as code: it may have no mnistlab
        from mnistlab.environment import identity

        return identity()

    addresses = list(client.nthreads())
    new = [address for address in addresses if address not in known]
    if new:
        answers = client.run(ask, workers=new, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, OSError):
                continue  # it has just died
            if isinstance(answer, ImportError):
                known[address] = f"it has no such mnistlab ({answer})"
            elif isinstance(answer, Exception):
                known[address] = f"{type(answer).__name__}: {answer}"
            else:
                known[address] = differences(expected, answer)
            if known[address]:
                info = client.scheduler_info(n_workers=-1)["workers"]
                name = info.get(address, {}).get("name", address)
                warnings.warn(
                    f"worker {name} at {address} is not used: {known[address]}",
                    stacklevel=3,
                )
    return [address for address in addresses if known.get(address) == ""]


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
        cluster = _cluster(scheduler)
    else:
        import dask

        devices = gpus()
        count = workers or len(devices) or dask.system.cpu_count()
        cluster = _local_cluster(min(count, len(specs)))
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
    _accepted(client, expected, known)
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
        if future.status == "cancelled":
            raise CancelledError  # by us never: the scheduler has forgotten it
        if future.status not in ("finished", "error"):
            return fail(spec, f"its task was {future.status}")
        next_one = None
        if future.status == "finished" and epoch < spec.task.epochs:
            holders = next(iter(client.who_has([future]).values()), ())
            next_one = submit(spec, epoch + 1, None, *(holders[:1] or [worker]))
        try:
            result, environment = future.result()
        except CancelledError:
            raise
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
            checkpoint = store.read_checkpoint(out, spec)
            if checkpoint:
                states[spec] = checkpoint
        state = states.get(spec)
        history = read_history(state) if state else []
        if not again:
            report(Progress("started", spec, history))
        submit(spec, len(history) + 1, state, worker)

    told = False
    while waiting or running:
        accepted = _accepted(client, expected, known)
        busy = {worker for _, _, worker in running.values()}
        for worker in [address for address in accepted if address not in busy]:
            if waiting:
                begin(waiting.pop(0), worker)
        if not running:
            refused = [reason for reason in known.values() if reason]
            if refused and not accepted:
                raise ScheduleError(
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
            finish(future)
            future.release()
    return results
