"""Where workers come from: processes of this machine, or a running Dask cluster.

And which of them may be used: those that train the same numbers as this checkout.
"""

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

from mnistlab import MnistlabError
from mnistlab.environment import differences


class ScheduleError(MnistlabError, ValueError):
    """Training cannot be scheduled: no scheduler, or no worker of the same code."""


class SchedulerGone(MnistlabError, ConnectionError):
    """The scheduler ended while it was used; the same call goes on."""


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Answer an interrupt when what is begun has ended, and let it not reach children.

    Ctrl-C goes to the whole process group, but only this process is to answer it.
    Threads and processes inherit that SIGINT is blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # later it would unblock SIGINT
    noted: list[int] = []
    # An alarm is an interrupt that comes again, after Python has dropped it.
    handlers = {
        number: signal.signal(number, lambda number, _: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
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
def _muted(name: str) -> Iterator[None]:
    """Mute a logger that tells of a lost connection with tracebacks."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def running_cluster(address: str) -> Iterator[Any]:
    """A client of a running cluster."""
    from distributed import Client
    from distributed.comm import CommClosedError

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, MemoryError, TypeError, RuntimeError) as error:
        # Dask takes what another program answers for the length of a message, and
        # says of TLS that it is not set up.
        raise ScheduleError(
            f"--scheduler {address}: expected a Dask scheduler to answer there within "
            f"10 seconds, and none did ({error}); start one as docs/cluster.md says"
        ) from error
    with _muted("distributed.client"), _muted("distributed.batched"), client:
        try:
            yield client
        except (OSError, CancelledError) as error:
            # Epochs are cancelled by nobody but a scheduler that starts again.
            gone = isinstance(error, (CommClosedError, CancelledError))
            if not gone and client.status == "running":
                raise  # the disk is full, for instance
            raise SchedulerGone(
                f"--scheduler {address}: the scheduler is gone; the same command goes "
                "on from the epochs that have finished"
            ) from error


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
def local_cluster(count: int) -> Iterator[Any]:
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
    with (
        dask.config.set(settings),
        # Of what was under way when workers are killed.
        _muted("asyncio"),
        _muted("distributed.batched"),
        _hidden_script(),
        ExitStack() as stack,
    ):
        try:
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname(), timeout=10).close()
            with interrupts_wait():
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
            cause: BaseException = error
            while deeper := cause.__cause__ or cause.__context__:
                cause = deeper
            raise ScheduleError(
                f"no worker can be started here ({type(cause).__name__}: {cause}); it "
                "needs sockets on 127.0.0.1, shared memory and a temporary folder"
            ) from error
        try:
            yield client
        except BaseException:
            # Left to itself, Dask waits for epochs that nobody will see.
            for nanny in cluster.workers.values():
                with suppress(OSError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
            raise


def accepted_workers(
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
