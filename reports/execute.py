"""Execute one notebook with papermill, in a process of its own, and tell the truth.

A notebook counts only if every code cell has run, in order, without error, and it has
declared its result. Else the cell that failed is marked, with the reason, and those
after it stay pending. Its process is `papermill_process.py`; here it is started,
interrupted at its limit, and ended with all that it has started.
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

from mnistlab import RESULT_MIME
from mnistlab.environment import package_digest
from mnistlab.store import write_atomically
from reports.papermill_process import MARK, code_cells, end_processes, ended, text_of

ROOT = Path(__file__).parents[1]
GRACE = 15  # seconds that a notebook past its limit gets to save itself
FAREWELL = 3  # seconds that one gets that the build is stopped for
# What a user has set for programs at the terminal, and not for this page.
OF_THE_USER = ("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONINSPECT", "COLUMNS", "LINES")


@dataclass(frozen=True)
class Execution:
    """How an execution ended: `published` if it may be published, else why not."""

    status: str
    seconds: float
    message: str = ""
    result: dict[str, Any] | None = None


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
                [sys.executable, "-m", "reports.papermill_process", json.dumps(job)],
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
            end_processes(process.pid, folder)
            process.kill()  # does nothing to one that has ended
            process.wait()
        answer, errors = text_of(folder, "answer"), text_of(folder, "errors")
    seconds = time.perf_counter() - started
    try:
        status, message, where = json.loads(answer)
    except ValueError:
        status, where = "killed", ""
        message = ended("papermill", process.returncode, " early")
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


def _mark_failed_cell(
    notebook: nbformat.NotebookNode, status: str, message: str
) -> None:
    """Mark where the notebook ended and why, if papermill has not."""
    cells = [cell for cell in code_cells(notebook) if "papermill" in cell.metadata]
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
    cells = code_cells(notebook)
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
