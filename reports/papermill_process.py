"""The process of one notebook: papermill, with a kernel manager of ours.

papermill calls a notebook completed after its kernel was killed, timed out or never
started. Our kernel manager survives that, so that the kernel's exit code can be read.
`execute.py` starts this process, and reads its answer: how the notebook ended. A
variable in the environment marks every process that a notebook starts; none outlives
it.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil

from mnistlab.store import write_atomically

SET_CHILD_SUBREAPER = 36  # as <linux/prctl.h> numbers it
PATHS = ("source", "target")  # which papermill takes for templates
MARK = "MNISTLAB_NOTEBOOK"  # in the environment of all that a notebook starts
WAIT = 15  # seconds that the end of killed processes is waited for
# Characters of a line of an error, of a cell's text, and of a notebook.
MOST_LINE, MOST_TEXT, MOST_OUTPUT = 5_000, 500_000, 20_000_000
MOST_SHOWN = 1_000  # outputs of a cell, such as figures
TEXT = "text/plain"
SOCKET_PATH = 90  # bytes; the system's limit is 103 to 107


def kernel_manager(folder: Path, source: str) -> Any:
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


def run_job(job: Mapping[str, Any], kernel: Any) -> tuple[str, str, str]:
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
        if any(cell.metadata.papermill.exception for cell in code_cells(notebook)):
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
            words = text_of(job["folder"], "words").splitlines()[-1:] * (not where)
            said = " ".join([ended("The kernel", code, where), *words])
            return "killed", said, where
        if isinstance(error, CellTimeoutError):
            return "timeout", str(error).partition("\n")[0], where
        return "failed", f"{type(error).__name__}: {error}", where
    return "published", "", where


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that are to be executed."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "skip-execution" not in cell.metadata.get("tags", [])
    ]


def text_of(folder: str, name: str) -> str:
    """What the notebook's processes wrote into a file of its folder, if anything."""
    path = Path(folder, name)
    return path.read_text(errors="replace").strip() if path.exists() else ""


def ended(what: str, code: int, where: str = "") -> str:
    """A sentence for a process that ended by itself, with its exit code."""
    if code >= 0:
        where = where or " before the first cell"
        return f"{what} ended{where}, with exit code {code}."
    name = signal.Signals(-code).name
    return f"{what} was ended by {name}{where}{' (out of memory?)' * (code == -9)}."


def follow_parent() -> None:
    """End this notebook's processes when the one that started it is gone."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        end_processes(os.getpid(), os.environ[MARK])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def end_processes(pid: int, mark: str) -> None:
    """Kill what a process has started, and all others whose environment has a mark."""
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    left, deadline = True, time.monotonic() + WAIT  # one may not be killed, in a read
    while left and time.monotonic() < deadline:  # or may just have started another
        left = False
        for process in psutil.process_iter(["environ"]):
            marked = (process.info["environ"] or {}).get(MARK) == mark
            if marked and process.pid not in (pid, os.getpid()):
                with suppress(psutil.Error):
                    process.kill()
                    process.wait(0.1)
                left = True


def main() -> None:
    """Execute the notebook of the job in the arguments; write down how it ended."""
    from jupyter_core.utils import run_sync

    follow_parent()
    if sys.platform == "linux":  # orphans become children of this process
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)
    # A build in the background of a shell ignores interrupts, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = json.loads(sys.argv[1])
    job["folder"] = folder = os.environ["JUPYTER_RUNTIME_DIR"]
    kernel = kernel_manager(Path(folder), job["source"])
    answer = run_job(job, kernel)
    Path(folder, "answer").write_text(json.dumps(answer))
    if answer[0] == "published":  # else it is killed, whatever it does
        with suppress(Exception):
            run_sync(kernel.shutdown_kernel)()
    end_processes(os.getpid(), os.environ[MARK])
    os._exit(0)


if __name__ == "__main__":
    main()
