"""Notebooks that end badly: each says how, and leaves no process behind."""

import os
import resource
import signal
import threading
import time

import nbformat
import psutil
import pytest
from conftest import DECLARE, notebook_of

from mnistlab.result import RESULT_MIME
from reports.execute import declared_result, execute

# What the second of three cells does, and limits; then the status and the message.
ENDINGS = {
    "error": ("1 / 0", {}, "failed", "ZeroDivisionError"),
    "exit 0": ("import sys; sys.exit(0)", {}, "failed", "SystemExit"),
    "out of memory": ("bytearray(2**60)", {}, "failed", "MemoryError"),
    "killed": (
        "os.kill(os.getpid(), 9)",
        {},
        "killed",
        "SIGKILL in code cell 2 (out of memory?)",
    ),
    "segfault": (
        "import ctypes; ctypes.string_at(0)",
        {},
        "killed",
        "ended by SIGSEGV in code cell 2",
    ),
    "abort": ("os.abort()", {}, "killed", "ended by SIGABRT in code cell 2"),
    "exit 3": ("os._exit(3)", {}, "killed", "with exit code 3"),
    "interrupted": (
        "import signal; os.kill(os.getpid(), signal.SIGINT)",
        {},
        "interrupted",
        "The kernel was interrupted",
    ),
    "cell too long": (
        "import time; time.sleep(60)",
        {"cell_timeout": 2},
        "timeout",
        "timed out while it was being executed, after 2",
    ),
    "notebook too long": (
        "import time; time.sleep(60)",
        {"timeout": 8},
        "timeout",
        "took longer than 8 s, and was in code cell 2",
    ),
    "deaf": (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        {"timeout": 8},
        "timeout",
        "took longer than 8 s",
    ),
    "papermill killed": (
        "os.kill(os.getppid(), 9); import time; time.sleep(60)",
        {},
        "killed",
        "papermill was ended by SIGKILL",
    ),
}
# A process that a cell starts and forgets, with the test's folder as its name.
FORGET = """import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", {name!r}])"""


def processes_of(name):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if name in (process.info["cmdline"] or ()):
            found.append(process)
    return found


def nothing_is_left_of(name):
    deadline = time.monotonic() + 2  # a process that was killed takes a moment to go
    while processes_of(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes_of(name)


def states_of(path):
    """What became of the cells; papermill adds some of its own around an error."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.source]
    cells = [c for c in cells if "papermill" in c.metadata]
    return cells, [cell.metadata.papermill["status"] for cell in cells]


LONG = ("abort", "deaf", "exit 3", "out of memory")  # like others, or long


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.faults] * (n in LONG)) for n in ENDINGS],
)
def test_a_notebook_that_ends_badly_says_so_and_leaves_no_process(name, tmp_path):
    source, limits, status, message = ENDINGS[name]
    path, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    nbformat.write(
        notebook_of(FORGET.format(name=str(tmp_path)), source, DECLARE), path
    )
    limits = {"timeout": 60} | limits
    done = execute(path, target, {}, environment={}, **limits)
    assert done.status == status
    assert message in done.message
    assert done.result is None
    cells, states = states_of(target)
    assert states == ["completed", "failed", "pending"]
    errors = [o for o in cells[1].outputs if o.output_type == "error"]
    shown = " ".join(" ".join([e.ename, e.evalue, *e.traceback]) for e in errors)
    assert message in shown or (name == "interrupted" and "KeyboardInt" in shown)
    assert cells[2].execution_count is None
    assert nothing_is_left_of(str(tmp_path))


def test_a_build_that_is_stopped_interrupts_its_notebook(tmp_path):
    path, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    sleeping = tmp_path / "sleeping"
    cells = (
        FORGET.format(name=str(tmp_path)),
        f"import time; open({str(sleeping)!r}, 'w').close(); time.sleep(60)",
        DECLARE,
    )
    nbformat.write(notebook_of(*cells), path)
    stop, told = threading.Event(), []

    def tell():
        while not sleeping.exists():
            time.sleep(0.05)
        told.append(time.monotonic())
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    done = execute(path, target, {}, environment={}, timeout=60, stop=stop)
    assert time.monotonic() - told[0] < 5
    assert done.status == "interrupted"
    assert states_of(target)[1] == ["completed", "failed", "pending"]
    assert nothing_is_left_of(str(tmp_path))


def test_what_a_good_notebook_forgets_is_ended_too(tmp_path):
    path = tmp_path / "source.ipynb"
    nbformat.write(notebook_of(FORGET.format(name=str(tmp_path)), DECLARE), path)
    done = execute(path, tmp_path / "t.ipynb", {}, environment={}, timeout=60)
    assert done.status == "published"
    assert nothing_is_left_of(str(tmp_path))


def test_a_notebook_without_a_result_is_no_success(tmp_path):
    path = tmp_path / "source.ipynb"
    nbformat.write(notebook_of("1 + 1"), path)
    done = execute(path, tmp_path / "t.ipynb", {}, environment={}, timeout=60)
    assert (done.status, done.result) == ("failed", None)
    assert "declares no result" in done.message


@pytest.mark.parametrize("counts", [(1, None), (2, 1), (None, 1)])
def test_a_cell_that_did_not_run_in_its_turn_is_no_success(counts):
    notebook = notebook_of("1", DECLARE)
    for cell, count in zip(notebook.cells, counts, strict=True):
        cell.execution_count = count
    result = {RESULT_MIME: {"headline": "fine", "runs": [], "thumbnail": ""}}
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", data=result)]
    with pytest.raises(ValueError, match="was not executed"):
        declared_result(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.execution_count = number
    assert declared_result(notebook)["headline"] == "fine"
    notebook.cells.insert(1, nbformat.v4.new_code_cell("  \n"))
    assert declared_result(notebook)["headline"] == "fine", "an empty cell has no turn"


def test_a_notebook_that_the_disk_has_no_room_for_leaves_no_half_of_one(tmp_path):
    path, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    nbformat.write(notebook_of("# " + "x" * 10**6, DECLARE), path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        done = execute(path, target, {}, environment={}, timeout=60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.status == "failed"
    assert "File too large" in done.message
    assert not target.exists()


def test_a_missing_kernel_is_named(tmp_path):
    notebook = notebook_of("1", "2")
    notebook.metadata["kernelspec"] = {"name": "fortran", "display_name": "Fortran"}
    nbformat.write(notebook, tmp_path / "source.ipynb")
    target = tmp_path / "target.ipynb"
    done = execute(tmp_path / "source.ipynb", target, {}, environment={}, timeout=60)
    assert done.status == "no-kernel"
    assert "fortran" in done.message
    assert states_of(target)[1] == ["failed", "pending"]


def test_a_child_of_a_killed_build_ends_itself(tmp_path):
    """As after kill -9 of run_all.py: nobody is left to end its notebooks."""
    path = tmp_path / "source.ipynb"
    cells = (FORGET.format(name=str(tmp_path)), "import time; time.sleep(60)")
    nbformat.write(notebook_of(*cells), path)
    build = os.fork()
    if build == 0:
        execute(path, tmp_path / "t.ipynb", {}, environment={}, timeout=60)
        os._exit(0)
    deadline = time.monotonic() + 30
    while not processes_of(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(str(tmp_path))
    os.kill(build, signal.SIGKILL)
    os.waitpid(build, 0)
    time.sleep(3)
    assert nothing_is_left_of(str(tmp_path))


# What a notebook does besides what it should; status and message.
SURROUNDINGS = {
    "a session of its own": (
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(300)', {name!r}], start_new_session=True)",
        None, "published", "",
    ),
    "too much output": (
        "while True: print('x' * 10**5)", None, "failed", "printed more than",
    ),
    "an expected error": ("1 / 0", "raises-exception", "published", ""),
    "a skipped cell": ("1 / 0", "skip-execution", "published", ""),
    "quit()": ("quit()", None, "killed", "quit() or exit()"),
    "the Python of the build": (
        "import os, shutil, sys\n"
        "assert shutil.which('python') == os.path.dirname(sys.executable) + '/python'",
        None, "published", "",
    ),
    "a user's settings": (
        "import matplotlib, os\nassert 'nobody' not in matplotlib.matplotlib_fname()\n"
        "assert 'nobody' not in os.environ['IPYTHONDIR']",
        None, "published", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_surrounds_a_notebook_neither_leaks_nor_stays(name, tmp_path, monkeypatch):
    source, tag, status, message = SURROUNDINGS[name]
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "matplotlibrc").touch()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    notebook = notebook_of(source.replace("{name!r}", repr(str(tmp_path))), DECLARE)
    notebook.metadata.pop("kernelspec", None)  # then it is this Python's
    if tag:
        notebook.cells[0].metadata["tags"] = [tag]
    folder = tmp_path / "{course}"  # papermill would take it for a template
    folder.mkdir()
    nbformat.write(notebook, folder / "source.ipynb")
    target = folder / "target.ipynb"
    done = execute(folder / "source.ipynb", target, {}, environment={}, timeout=60)
    assert done.status == status, done.message
    assert message in done.message
    assert nothing_is_left_of(str(tmp_path))
    assert target.stat().st_size < 30_000_000
