"""Execute one notebook with papermill, in a process of its own, and tell the truth.

papermill calls a notebook completed after its kernel was killed, timed out or never
started. The engine here marks the cell that failed, with the reason, and leaves those
after it pending. A notebook counts only if every code cell has run, in order, without
error, and it has declared its result.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from mnistlab.result import RESULT_MIME
from mnistlab.store import write_atomically

ROOT = Path(__file__).parents[1]
GRACE = 15  # seconds that a notebook past its limit gets to save itself
FAREWELL = 3  # seconds that one gets that the build is stopped for
MOST_OUTPUT = 20_000_000  # characters that one notebook may print and show
SOCKET_PATH = 90  # bytes; the system's limit is 104 to 108, with the file's name
ENDS = ("source", "target")
MARK = "MNISTLAB_NOTEBOOK"  # in the environment of all that a notebook starts


@dataclass(frozen=True)
class Execution:
    """How an execution ended: `published` if it may be published, else why not."""

    status: str
    seconds: float
    message: str = ""
    result: dict[str, Any] | None = None


class NotebookTimeout(Exception):
    """A notebook has used up its time."""


class NotebookEnded(Exception):
    """A notebook ended for another reason than an error in a cell."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


def _engine() -> type:
    """Papermill's engine, made honest."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellExecutionError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine
    from papermill.utils import merge_kwargs, remove_args

    class ThisPython(AsyncKernelManager):
        """Kernels of the Python that runs the build, whatever is installed."""

        @property
        def kernel_spec(self):
            if not self.ipykernel:
                return super().kernel_spec
            command = [sys.executable, "-m", "ipykernel_launcher"]
            return KernelSpec(argv=[*command, "-f", "{connection_file}"])

    class HonestClient(PapermillNotebookClient):
        """papermill's client, which also records what is not an error of a cell."""

        printed = 0

        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] in ("stream", "display_data", "execute_result"):
                content = msg["content"]
                self.printed += len(content.get("text") or str(content.get("data")))
                if self.printed > MOST_OUTPUT:
                    self.task_poll_for_reply.cancel()  # taken for a dead kernel
                    return None
            return super().process_message(msg, cell, cell_index)

        def papermill_execute_cells(self):
            for index, cell in enumerate(self.nb.cells):
                try:
                    self.nb_man.cell_start(cell, index)
                    self.execute_cell(cell, index)
                except CellExecutionError as error:
                    self.nb_man.cell_exception(cell, index, exception=error)
                    break
                except BaseException as error:
                    before = self.nb.cells[: index + 1]
                    number = sum(cell.cell_type == "code" for cell in before)
                    status, message = explain(error, self.km, number)
                    if self.printed > MOST_OUTPUT:
                        limit = f"{MOST_OUTPUT:,} characters in code cell {number}"
                        message = f"The notebook printed more than {limit}; cut there."
                        status = "failed"
                    cell.setdefault("outputs", []).append(_error(status, message))
                    self.nb_man.cell_exception(cell, index, exception=error)
                    raise NotebookEnded(status, message) from error
                finally:
                    self.nb_man.cell_complete(cell, index)

    class HonestEngine(NBClientEngine):
        """Runs a notebook with the client above."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            start_timeout = options.pop("start_timeout", 60)
            execution_timeout = options.pop("execution_timeout", None)
            for name in ("log_output", "stdout_file", "stderr_file"):
                options.pop(name, None)
            options = remove_args(
                ["input_path", "timeout", "startup_timeout"], **options
            )
            options = merge_kwargs(
                options,
                timeout=execution_timeout,
                startup_timeout=start_timeout,
                kernel_name=kernel_name,
                kernel_manager_class=ThisPython,
            )
            client = HonestClient(nb_man, **options)
            try:
                return client.execute()
            except BaseException as error:
                cells = [cell for cell in nb_man.nb.cells if cell.cell_type == "code"]
                states = [cell.metadata.papermill["status"] for cell in cells]
                if cells and nb_man.FAILED not in states:
                    # No kernel, for instance, or one that ended after a cell.
                    done = [c for c in cells if c.execution_count]
                    cell = (done or cells)[-1 if done else 0]
                    status, message = explain(error, client.km)
                    cell.outputs.append(_error(status, message))
                    nb_man.cell_exception(cell, exception=error)
                    raise NotebookEnded(status, message) from error
                raise

    return HonestEngine


def explain(
    error: BaseException, kernel: Any = None, number: int | None = None
) -> tuple[str, str]:
    """The status and a sentence for what ended a notebook, in which code cell."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    where = f" in code cell {number}" if number else ""
    if isinstance(error, NotebookEnded):
        return error.status, str(error)
    if isinstance(error, DeadKernelError):
        process = getattr(getattr(kernel, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            cause = " (out of memory?)" if name == "SIGKILL" else ""
            return "killed", f"The kernel was ended by {name}{where}{cause}."
        if not code:
            return "killed", f"The kernel ended{where}; by quit() or exit() before?"
        return "killed", f"The kernel ended{where}, with exit code {code}."
    if isinstance(error, CellTimeoutError):
        return "timeout", str(error).partition("\n")[0]
    if isinstance(error, NotebookTimeout):
        was = f", and was{where}" if where else ""
        return "timeout", f"The notebook took longer than {error} s{was}."
    if isinstance(error, NoSuchKernel):
        return "no-kernel", f"There is no kernel named {error.name!r} on this machine."
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", f"Interrupted{where}."
    if isinstance(error, PapermillExecutionError):
        if error.ename == "KeyboardInterrupt":
            return "interrupted", f"The kernel was interrupted{where}."
        return "failed", f"{error.ename}: {error.evalue}"
    return "failed", f"{type(error).__name__}: {error}"


def _tolerate_expected_errors() -> None:
    """Let a cell tagged `raises-exception` fail; papermill does not."""
    from papermill import execute

    refuse = execute.raise_for_execution_errors

    def refuse_unexpected(notebook, path):
        failed = [c for c in notebook.cells if c.metadata.papermill["exception"]]
        if failed or any(map(_unexpected, notebook.cells)):
            refuse(notebook, path)

    execute.raise_for_execution_errors = refuse_unexpected


def _unexpected(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The errors that a cell shows and has no tag for."""
    if "raises-exception" in cell.metadata.get("tags", ()):
        return []
    return [o for o in cell.get("outputs", ()) if o.output_type == "error"]


def _run_job(job: Mapping[str, Any]) -> tuple[str, str]:
    """In the child process: run papermill, return status and message."""
    import papermill
    from papermill.engines import papermill_engines
    from traitlets.config import Config

    _tolerate_expected_errors()
    folder = Path(job["folder"])
    papermill_engines.register("honest", _engine())
    config = Config()
    if sys.platform != "win32" and len(os.fsencode(folder)) < SOCKET_PATH:
        # Ports may be taken between being chosen and being bound; sockets may not.
        # Their default place is the working folder, which notebooks share.
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = str(folder / "kernel")
    if sys.platform != "win32":

        def out_of_time(*_):
            raise NotebookTimeout(job["timeout"])

        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(job["timeout"])
    try:
        papermill.execute_notebook(
            # papermill takes a path for a template.
            *(job[end].replace("{", "{{").replace("}", "}}") for end in ENDS),
            parameters=job["parameters"],
            cwd=job["cwd"],
            engine_name="honest",
            kernel_name=job["kernel"],
            language="python" if job["kernel"] else None,
            progress_bar=False,
            autosave_cell_every=0,
            iopub_timeout=60,
            execution_timeout=job["cell_timeout"],
            config=config,
        )
    except BaseException as error:
        return explain(error)
    finally:
        if sys.platform != "win32":
            signal.alarm(0)
    return "published", ""


def _follow_parent() -> None:
    """End this process, and so its kernel, when the one that started it is gone."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        _end_marked(os.environ[MARK])
        end_process_tree(os.getpid())

    threading.Thread(target=watch, daemon=True).start()


def end_process_tree(pid: int, *, itself: bool = True) -> None:
    """Kill a process and everything it has started, or only what it has started."""
    try:
        parent = psutil.Process(pid)
        processes = parent.children(recursive=True) + [parent] * itself
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def execute(
    source: Path,
    target: Path,
    parameters: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    timeout: int,
    cell_timeout: int | None = None,
    stop: threading.Event | None = None,
) -> Execution:
    """Execute a notebook in a child process and judge what came of it.

    Args:
        source: the notebook.
        target: where the executed one is written, complete or not.
        parameters: what papermill injects.
        environment: variables for the kernel, added to this process's.
        timeout: seconds for the whole notebook.
        cell_timeout: seconds for each cell; None is no limit of its own.
        stop: when it is set, the notebook is interrupted.
    """
    job = {
        "source": str(source),
        "target": str(target),
        "parameters": dict(parameters),
        "cwd": str(source.parent),
        "kernel": _kernel_of(source),
        "timeout": timeout,
        "cell_timeout": cell_timeout,
    }
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mnistlab-") as name:
        # Its own folder: for the kernel's sockets, and for what it has to say, as
        # pipes would stay open until the last process of the notebook has ended.
        folder = Path(name)
        job["folder"] = name
        with open(folder / "errors", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "reports.execute", json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_surroundings(folder), **environment},
                start_new_session=True,
            )
        try:
            _wait(process, timeout + GRACE, stop)
        finally:
            if process.poll() is None:  # else its number may be another's by now
                end_process_tree(process.pid)
                process.wait()
            _end_marked(name)
        answer = _text(folder / "answer")
        errors = _text(folder / "errors")
    seconds = time.perf_counter() - started
    stopped = stop is not None and stop.is_set()
    notebook = _written(target)
    try:
        status, message = json.loads(answer)
    except ValueError:
        status, message = _silent(process.returncode, errors, timeout, stopped, seconds)
        if notebook is not None:
            _mark_running_cell(notebook, status, message)
            write_atomically(target, nbformat.writes(notebook).encode())
    if status != "published":
        return Execution(status, seconds, message)
    if notebook is None:
        return Execution("failed", seconds, f"{target} could not be written")
    try:
        result = declared_result(notebook)
    except ValueError as error:
        return Execution("failed", seconds, str(error))
    return Execution("published", seconds, result=result)


def _surroundings(folder: Path) -> dict[str, str]:
    """This checkout and this Python before all else, and none of a user's settings."""

    def first(path: Path, variable: str) -> str:
        return os.pathsep.join(filter(None, (str(path), os.environ.get(variable))))

    (folder / "matplotlibrc").touch()
    return {
        "PYTHONPATH": first(ROOT, "PYTHONPATH"),
        "PATH": first(Path(sys.executable).parent, "PATH"),
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "IPYTHONDIR": str(folder / "ipython"),
        MARK: str(folder),
    }


def _kernel_of(source: Path) -> str | None:
    """The kernel to name where a notebook names none: this Python's."""
    named = nbformat.read(source, as_version=4).metadata.get("kernelspec", {})
    return None if named.get("name") else "python3"


def _written(target: Path) -> nbformat.NotebookNode | None:
    """The executed notebook; none, and no file, if its writing was cut off."""
    try:
        return nbformat.read(target, as_version=4)
    except (OSError, ValueError):
        target.unlink(missing_ok=True)
        return None


def _wait(
    process: subprocess.Popen, limit: float, stop: threading.Event | None
) -> None:
    """Wait for the child, until its limit; it is interrupted on `stop`."""
    deadline, told = time.monotonic() + limit, False
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return
        if not told and stop is not None and stop.is_set():
            process.send_signal(signal.SIGINT)
            deadline, told = time.monotonic() + FAREWELL, True


def _end_marked(mark: str) -> None:
    """Kill what the notebook of this mark has left, whatever session it is in."""
    for process in psutil.process_iter(["environ"]):
        marked = (process.info["environ"] or {}).get(MARK) == mark
        if marked and process.pid != os.getpid():  # a child ends itself last
            with suppress(psutil.Error):
                process.kill()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _silent(
    code: int, errors: str, timeout: int, stopped: bool, seconds: float
) -> tuple[str, str]:
    """Status and message of a child that has ended without an answer."""
    if stopped:
        return "interrupted", "Interrupted."
    if seconds > timeout:
        message = f"The notebook took longer than {timeout} s and did not stop."
        return "timeout", message
    if code < 0:
        name = signal.Signals(-code).name
        return "killed", f"papermill was ended by {name} (out of memory?)."
    lines = errors.strip().splitlines() or [f"exit code {code}"]
    return "failed", f"papermill ended early: {lines[-1]}"


def _mark_running_cell(
    notebook: nbformat.NotebookNode, status: str, message: str
) -> None:
    """Say in the notebook itself what its end was, as the child could not."""
    for cell in notebook.cells:
        if cell.metadata.get("papermill", {}).get("status") == "running":
            cell.metadata.papermill["status"] = "failed"
            cell.outputs.append(_error(status, message))


def _error(status: str, message: str) -> nbformat.NotebookNode:
    """An output that shows why a notebook ended, where a traceback would stand."""
    return nbformat.v4.new_output(
        "error", ename=status, evalue=message, traceback=[message]
    )


def declared_result(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What a completely executed notebook has declared.

    Raises:
        ValueError: a cell did not run, ran out of order or failed, or nothing was
            declared.
    """
    # An empty cell is not executed, and has no number.
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "skip-execution" not in cell.metadata.get("tags", ())
    ]
    for number, cell in enumerate(cells, start=1):
        for output in _unexpected(cell):
            raise ValueError(f"cell {number}: {output.ename}: {output.evalue}")
        if cell.execution_count != number:
            raise ValueError(f"code cell {number} of {len(cells)} was not executed")
    for cell in reversed(cells):
        for output in cell.outputs:
            if RESULT_MIME in output.get("data", {}):
                return dict(output.data[RESULT_MIME])
    raise ValueError("the notebook declares no result; end it with declare(...)")


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    _follow_parent()
    (Path(task["folder"]) / "answer").write_text(json.dumps(_run_job(task)))
