"""Execute one notebook with papermill, in a process of its own, and tell the truth.

papermill calls a notebook completed after its kernel was killed, timed out or never
started. Here the kernel manager is ours, so that the kernel's exit code can be read
afterwards; the cell that failed is marked, with the reason, and those after it stay
pending. A notebook counts only if every code cell has run, in order, without error,
and it has declared its result. A variable in the environment marks every process that
a notebook starts; none outlives it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from mnistlab import RESULT_MIME
from mnistlab.environment import package_digest
from mnistlab.store import write_atomically

ROOT = Path(__file__).parents[1]
GRACE = 15  # seconds that a notebook past its limit gets to save itself
FAREWELL = 3  # seconds that one gets that the build is stopped for
SET_CHILD_SUBREAPER = 36  # as <linux/prctl.h> numbers it
MARK = "MNISTLAB_NOTEBOOK"  # in the environment of all that a notebook starts
PATHS = ("source", "target")
# Characters of a line of an error, of a cell's text, and of a notebook.
MOST_LINE, MOST_TEXT, MOST_OUTPUT = 5_000, 500_000, 20_000_000
MOST_SHOWN = 1_000  # outputs of a cell, such as figures
TEXT = "text/plain"
# What a user has set for programs at the terminal, and not for this page.
OF_THE_USER = ("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONINSPECT", "COLUMNS", "LINES")
SOCKET_PATH = 90  # bytes; the system's limit is 103 to 107


@dataclass(frozen=True)
class Execution:
    """How an execution ended: `published` if it may be published, else why not."""

    status: str
    seconds: float
    message: str = ""
    result: dict[str, Any] | None = None


def _kernel_manager(folder: Path, source: str) -> Any:
    """A kernel of this Python, that papermill neither chooses nor cleans up after."""
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.channels import AsyncZMQSocketChannel
    from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
    from jupyter_client.manager import AsyncKernelManager

    metadata = nbformat.read(source, as_version=4).metadata
    spec = metadata.get("kernelspec", {})
    name = metadata.get("language_info", spec).get("name", "python")
    language = spec.get("language", name)

    class Bounded(AsyncZMQSocketChannel):
        """Passes on what a cell puts out, as far as its limit."""

        passed: Counter[tuple[str, str]] = Counter()

        async def get_msg(self, timeout=None):  # type: ignore[override]
            while True:
                message = await super().get_msg(timeout)
                if message := cut(message, self.passed):
                    return message

    class Client(AsyncKernelClient):
        iopub_channel_class = Bounded

    class Kernel(AsyncKernelManager):
        kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        )

        async def start_kernel(self, **options):  # type: ignore[override]
            if "python" not in language.lower():
                raise NoSuchKernel(language)
            with open(folder / "words", "wb") as words:
                await super().start_kernel(stderr=words, **options)

    kernel = Kernel(client_factory=Client, connection_file=str(folder / "kernel.json"))
    if os.name == "posix" and len(os.fsencode(folder)) < SOCKET_PATH:
        # Ports may be taken between being chosen and being bound; sockets may not.
        kernel.transport = "ipc"
    return kernel


def cut(message: dict[str, Any], passed: Counter[tuple[str, str]]) -> dict[str, Any]:
    """The message as far as its cell's limit goes; an empty one is to be dropped.

    Raises:
        KeyboardInterrupt: it is too much for a whole notebook; any other exception
            would stay in its task, while the cell goes on.
    """
    kind, content = message["msg_type"], message["content"]
    cell = message["parent_header"].get("msg_id", "")
    if kind == "clear_output":
        del passed[cell, "all"], passed[cell, "text"], passed[cell, "outputs"]
    if kind == "error":
        last = [line[:MOST_LINE] for line in content["traceback"][-100:]]
        content |= {"evalue": content["evalue"][:MOST_LINE], "traceback": last}
    if kind not in ("stream", "display_data", "execute_result"):
        return message
    passed[cell, "all"] += len(str(content))
    if sum(n for (_, what), n in passed.items() if what == "all") > MOST_OUTPUT:
        raise KeyboardInterrupt(f"printed more than {MOST_OUTPUT:,} characters")
    of, name = (content, "text") if "text" in content else (content["data"], TEXT)
    text, left = of.get(name, ""), MOST_TEXT - passed[cell, "text"]
    passed[cell, "text"] += len(text)
    if len(text) > left:
        said = f"\n[cut: this cell printed more than {MOST_TEXT:,} characters]\n"
        of[name] = text[: max(left, 0)] + said
    if of is content:
        return message if left >= 0 else {}
    passed[cell, "outputs"] += 1
    if passed[cell, "outputs"] == MOST_SHOWN:
        content["data"] = {TEXT: f"[cut: this cell shows more than {MOST_SHOWN:,}]"}
    return message if passed[cell, "outputs"] <= MOST_SHOWN else {}


def _run_job(job: Mapping[str, Any], kernel: Any) -> tuple[str, str, str]:
    """In the child process: run papermill; the status, a sentence, and where it was."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    begun, where = 0, ""

    def begin(cell, cell_index):
        nonlocal begun, where
        begun += "injected-parameters" not in cell.metadata.get("tags", [])
        where = f" in code cell {begun}" if begun else " in the injected parameters"

    def end(cell, cell_index, execute_reply):
        for payload in execute_reply["content"].get("payload", ()):
            if payload.get("source") == "ask_exit":
                raise RuntimeError("quit")

    try:
        papermill.execute_notebook(
            # papermill takes paths for templates
            *(job[path].replace("{", "{{").replace("}", "}}") for path in PATHS),
            parameters=job["parameters"],
            cwd=job["cwd"],
            kernel_name="python3",
            language="python",
            progress_bar=False,
            autosave_cell_every=0,
            iopub_timeout=60,
            execution_timeout=job["cell_timeout"],
            km=kernel,
            on_cell_execute=begin,
            on_cell_executed=end,
        )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            return "interrupted", f"The kernel was interrupted{where}.", where
        notebook = nbformat.read(job["target"], as_version=4)
        if any(cell.metadata.papermill.exception for cell in _code_cells(notebook)):
            return "failed", f"{error.ename}: {error.evalue[:MOST_LINE]}", where
        # The cells that failed are tagged raises-exception.
        notebook = papermill.execute.remove_error_markers(notebook)
        write_atomically(Path(job["target"]), nbformat.writes(notebook).encode())
    except KeyboardInterrupt as error:
        if str(error):
            return "failed", f"The notebook {error}{where}; cut there.", where
        return "interrupted", f"Interrupted{where}.", where
    except NoSuchKernel as error:
        message = f"expected a notebook for Python; its kernel is {error.name!r}"
        return "no-kernel", message, where
    except BaseException as error:
        process = getattr(kernel.provisioner, "process", None)
        code = process.poll() if process is not None else None
        if str(error) == "quit":
            return "killed", f"The kernel was ended by quit() or exit(){where}.", where
        if code is not None:
            words = _text(job["folder"], "words").splitlines()[-1:] * (not where)
            said = " ".join([_ended("The kernel", code, where), *words])
            return "killed", said, where
        if isinstance(error, CellTimeoutError):
            return "timeout", str(error).partition("\n")[0], where
        return "failed", f"{type(error).__name__}: {error}", where
    return "published", "", where


def _ended(what: str, code: int, where: str = "") -> str:
    """A sentence for a process that ended by itself, with its exit code."""
    if code >= 0:
        where = where or " before the first cell"
        return f"{what} ended{where}, with exit code {code}."
    name = signal.Signals(-code).name
    return f"{what} was ended by {name}{where}{' (out of memory?)' * (code == -9)}."


def _follow_parent() -> None:
    """End this notebook's processes when the one that started it is gone."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        _end(os.getpid(), os.environ[MARK])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _end(pid: int, mark: str) -> None:
    """Kill what a process has started, and all others whose environment has a mark."""
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    left, deadline = True, time.monotonic() + GRACE  # one may not be killed, in a read
    while left and time.monotonic() < deadline:  # or may just have started another
        left = False
        for process in psutil.process_iter(["environ"]):
            marked = (process.info["environ"] or {}).get(MARK) == mark
            if marked and process.pid not in (pid, os.getpid()):
                with suppress(psutil.Error):
                    process.kill()
                    process.wait(0.1)
                left = True


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
        "cell_timeout": cell_timeout,
    }
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(
        prefix="mnistlab-", ignore_cleanup_errors=True
    ) as folder:
        # Its own folder: for the kernel's sockets, and for what it has to say, as
        # pipes would stay open until the last process of the notebook has ended.
        with open(Path(folder, "errors"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "reports.execute", json.dumps(job)],
                cwd=ROOT,  # -m takes modules from there first
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(folder) | {MARK: folder} | dict(environment),
                start_new_session=True,
            )
        try:
            told = _wait(process, timeout, stop)
        finally:
            _end(process.pid, folder)
            process.kill()  # does nothing to one that has ended
            process.wait()
        answer, errors = _text(folder, "answer"), _text(folder, "errors")
    seconds = time.perf_counter() - started
    try:
        status, message, where = json.loads(answer)
    except ValueError:
        status, where = "killed", ""
        message = _ended("papermill", process.returncode, " early")
        if process.returncode >= 0:
            status, message = "failed", " ".join([message, *errors.splitlines()[-1:]])
    if told == "timeout":
        killed = not answer and process.returncode == -signal.SIGKILL
        late = "did not stop" if killed else "had no cell begun"
        late = f"was{where}" if where else late
        message = f"The notebook took longer than {timeout} s, and {late}."
    elif told:
        message = f"Interrupted{where}."
    status = told or status
    notebook = _written(target)
    if status != "published":
        if notebook is not None:
            _mark_failed_cell(notebook, status, message)
            write_atomically(target, nbformat.writes(notebook).encode())
        return Execution(status, seconds, message)
    if notebook is None:
        return Execution("failed", seconds, f"{target} could not be written")
    try:
        result = declared_result(notebook)
    except ValueError as error:
        return Execution("failed", seconds, str(error))
    return Execution("published", seconds, result=result)


def _environment(folder: str) -> dict[str, str]:
    """This Python and this checkout first, and none of the user's settings."""

    def first(path: Path, variable: str) -> str:
        return os.pathsep.join(filter(None, (str(path), os.environ.get(variable))))

    kept = {k: v for k, v in os.environ.items() if k not in OF_THE_USER}
    return kept | {
        "PYTHONPATH": first(ROOT, "PYTHONPATH"),
        "PATH": first(Path(sys.executable).parent, "PATH"),
        "MATPLOTLIBRC": os.devnull,
        "IPYTHONDIR": folder,
        "JUPYTER_CONFIG_DIR": folder,
        "JUPYTER_RUNTIME_DIR": folder,
    }


def _written(target: Path) -> nbformat.NotebookNode | None:
    """The executed notebook; none, and no file, if its writing was cut off."""
    try:
        return nbformat.read(target, as_version=4)
    except (OSError, ValueError):
        target.unlink(missing_ok=True)
        return None


def _wait(
    process: subprocess.Popen, timeout: float, stop: threading.Event | None
) -> str:
    """Wait for the child; it is interrupted at its limit, and on `stop`: say which."""
    deadline, told = time.monotonic() + timeout, ""
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return told
        late = time.monotonic() > deadline
        if told and late:
            return told
        if not told and (late or (stop is not None and stop.is_set())):
            told, more = ("timeout", GRACE) if late else ("interrupted", FAREWELL)
            process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + more


def _text(folder: str, name: str) -> str:
    path = Path(folder, name)
    return path.read_text(errors="replace").strip() if path.exists() else ""


def _code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that are to be executed."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "skip-execution" not in cell.metadata.get("tags", [])
    ]


def _mark_failed_cell(
    notebook: nbformat.NotebookNode, status: str, message: str
) -> None:
    """Mark where the notebook ended and why, if papermill has not."""
    cells = [cell for cell in _code_cells(notebook) if "papermill" in cell.metadata]
    states = [cell.metadata.papermill for cell in cells]
    if not cells or "failed" in [state["status"] for state in states]:
        return
    begun = [number for number, state in enumerate(states) if state["start_time"]]
    last = begun[-1] if begun else 0
    states[last] |= {"status": "failed", "exception": True}
    for state in states[last + 1 :]:
        state["status"] = "pending"
    cells[last].outputs.append(
        # It shows why the notebook ended, where a traceback would stand.
        nbformat.v4.new_output(
            "error", ename=status, evalue=message, traceback=[message]
        )
    )


def declared_result(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What a completely executed notebook has declared.

    Raises:
        ValueError: a cell did not run, ran out of order or failed, nothing was
            declared, or with another mnistlab.
    """
    cells = _code_cells(notebook)
    for number, cell in enumerate(cells, start=1):
        may_fail = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            if output.output_type == "error" and not may_fail:
                raise ValueError(f"cell {number}: {output.ename}: {output.evalue}")
        if cell.execution_count != number:
            raise ValueError(f"code cell {number} of {len(cells)} was not executed")
    for cell in reversed(cells):
        for output in cell.outputs:
            if RESULT_MIME in output.get("data", {}):
                result = dict(output.data[RESULT_MIME])
                place, digest = result.pop("mnistlab", ("a place unknown", ""))
                if digest != package_digest():
                    raise ValueError(
                        f"expected this build's mnistlab, got other code of {place}; "
                        "use run_all.py of that checkout, or edit nothing meanwhile"
                    )
                return result
    raise ValueError("the notebook declares no result; end it with declare(...)")


def _main() -> None:
    from jupyter_core.utils import run_sync

    _follow_parent()
    if sys.platform == "linux":  # orphans become children of this process
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)
    # A build in the background of a shell ignores interrupts, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = json.loads(sys.argv[1])
    job["folder"] = folder = os.environ["JUPYTER_RUNTIME_DIR"]
    kernel = _kernel_manager(Path(folder), job["source"])
    answer = _run_job(job, kernel)
    Path(folder, "answer").write_text(json.dumps(answer))
    if answer[0] == "published":  # else it is killed, whatever it does
        with suppress(Exception):
            run_sync(kernel.shutdown_kernel)()
    _end(os.getpid(), os.environ[MARK])
    os._exit(0)


if __name__ == "__main__":
    _main()
