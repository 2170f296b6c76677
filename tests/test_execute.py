"""Notebooks that end badly: each says how, and leaves no process behind."""

import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import DECLARE, notebook_of

from mnistlab import RESULT_MIME
from mnistlab.environment import package_digest
from reports.execute import (
    MOST_OUTPUT,
    MOST_SHOWN,
    MOST_TEXT,
    cut,
    declared_result,
    execute,
)

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
    "quit": ("quit()", {}, "killed", "ended by quit() or exit() in code cell 2"),
    "exit 3": ("os._exit(3)", {}, "killed", "with exit code 3"),
    "interrupted": (
        "import signal; os.kill(os.getpid(), signal.SIGINT)",
        {},
        "interrupted",
        "The kernel was interrupted",
    ),
    "cell too long": (
        "import time; time.sleep(300)",
        {"cell_timeout": 2},
        "timeout",
        "timed out while it was being executed, after 2",
    ),
    "notebook too long": (
        "open('begun', 'w').close(); import time; time.sleep(300)",
        {"timeout": 300},
        "timeout",
        "took longer than 300 s, and was in code cell 2",
    ),
    "deaf": (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        {"timeout": 45},
        "timeout",
        "took longer than 45 s",
    ),
    "papermill killed": (
        "os.kill(os.getppid(), 9); import time; time.sleep(300)",
        {},
        "killed",
        "papermill was ended by SIGKILL",
    ),
}
# A process that a cell starts and forgets, with the test's folder as its name, in a
# session of its own and by a parent that has ended.
FORGET = """import os, subprocess, sys
code = [sys.executable, "-c", "import time; time.sleep(300)", {name!r}]
subprocess.Popen(code)
if not os.fork():
    subprocess.Popen(code, start_new_session=True)
    os._exit(0)"""


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


# Like others, or long: make test-faults has them.
LONG = ("abort", "deaf", "exit 0", "exit 3", "out of memory", "segfault")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.faults] * (n in LONG)) for n in ENDINGS],
)
def test_a_notebook_that_ends_badly_says_so_and_leaves_no_process(
    name, tmp_path, monkeypatch
):
    source, limits, status, message = ENDINGS[name]
    # A cell that leaves such a file has begun before its limit and is late now.
    late, clock = tmp_path / "begun", time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000 * late.exists())
    path, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    nbformat.write(
        notebook_of(FORGET.format(name=str(tmp_path)), source, DECLARE), path
    )
    limits = {"timeout": 300} | limits  # a busy machine takes a minute to begin
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
        f"import time; open({str(sleeping)!r}, 'w').close(); time.sleep(300)",
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
    done = execute(path, target, {}, environment={}, timeout=300, stop=stop)
    assert time.monotonic() - told[0] < 5
    assert done.status == "interrupted"
    assert states_of(target)[1] == ["completed", "failed", "pending"]
    assert nothing_is_left_of(str(tmp_path))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A notebook that ends well among a user's settings: its cells before and after.

    Its folder has braces, its sockets' path is long, it names no kernel; it forgets
    processes, one of a session of its own, and fails where it may.
    """
    folder = tmp_path_factory.mktemp("good")
    home, kernel = folder / "home", folder / "home" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (home / "profile_default").mkdir()
    (home / "matplotlibrc").write_text("lines.linewidth: 77")
    (home / "profile_default" / "ipython_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'all'"
    )
    (home / "start.py").write_text("started = True")
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "x"}')
    temporary = home / ("long" * 25)
    temporary.mkdir()
    asks = f"""import shutil, sys, matplotlib
1
assert sys.executable == {sys.executable!r}
assert shutil.which("python") == {str(Path(sys.executable).parent / "python")!r}
assert matplotlib.rcParams["lines.linewidth"] == 1.5
assert "started" not in globals()
2"""
    forget = FORGET.format(name=str(folder))
    alone = forget.replace("])", "], start_new_session=True, env={})")
    notebook = notebook_of(asks, forget, alone, "1 / 0", "print('off')", DECLARE)
    notebook.cells[3].metadata["tags"] = ["raises-exception"]
    notebook.cells[4].metadata["tags"] = ["skip-execution"]
    notebook.metadata.pop("kernelspec", None)
    here = folder / "{course} {}"
    here.mkdir()
    nbformat.write(notebook, here / "source.ipynb")
    target = here / "target.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        for name, value in {
            "JUPYTER_PATH": home,
            "MPLCONFIGDIR": home,
            "MATPLOTLIBRC": home,
            "IPYTHONDIR": home,
            "PYTHONSTARTUP": home / "start.py",
            "PATH": "/usr/bin:/bin",
        }.items():
            patch.setenv(name, str(value))
        done = execute(here / "source.ipynb", target, {}, environment={}, timeout=300)
    assert (done.status, done.message) == ("published", "")
    assert nothing_is_left_of(str(folder)), "what a good one forgets is ended too"
    return notebook.cells, nbformat.read(target, as_version=4).cells


def test_a_page_is_of_this_python_and_of_no_settings_of_the_user(good):
    """Its first cell asserts the other ones."""
    assert len(good[1][0].outputs) == 1


def test_tags_say_which_cells_may_fail_and_which_are_not_executed(good):
    written, executed = good
    assert [cell.source for cell in executed] == [cell.source for cell in written]
    assert [cell.execution_count for cell in executed] == [1, 2, 3, 4, None, 5]


def test_text_is_cut_at_the_limit_of_its_cell_and_says_so_once():
    def message(cell, text):
        header = {"msg_type": "stream", "parent_header": {"msg_id": cell}}
        return {**header, "content": {"name": "stdout", "text": text}}

    passed, half = Counter(), "x" * (MOST_TEXT // 2 + 1)
    assert cut(message("1", half), passed) == message("1", half)
    text = cut(message("1", half), passed)["content"]["text"]
    assert text.startswith("x" * (MOST_TEXT // 2 - 1) + "\n[cut: ")
    assert cut(message("1", "short"), passed) == {}
    assert cut(message("2", "short"), passed) == message("2", "short")
    clear = {"msg_type": "clear_output", "parent_header": {"msg_id": "1"}}
    assert cut({**clear, "content": {}}, passed)
    assert cut(message("1", half), passed) == message("1", half)
    with pytest.raises(KeyboardInterrupt, match="printed more than 20,000,000"):
        cut(message("2", "x" * MOST_OUTPUT), passed)


def test_figures_and_errors_have_limits_too():
    def message(kind, **content):
        return {"msg_type": kind, "parent_header": {"msg_id": "1"}, "content": content}

    passed, many = Counter(), MOST_SHOWN + 5
    shown = [
        cut(message("display_data", data={"image/png": "x"}), passed)
        for _ in range(many)
    ]
    assert "image/png" in shown[MOST_SHOWN - 2]["content"]["data"]
    assert "more than 1,000" in shown[MOST_SHOWN - 1]["content"]["data"]["text/plain"]
    assert shown[MOST_SHOWN:] == [{}] * 5
    large = {"text/plain": "x" * 2 * MOST_TEXT, "text/html": "<p>"}
    data = cut(message("execute_result", data=large), Counter())["content"]["data"]
    assert len(data["text/plain"]) < MOST_TEXT + 100
    assert data["text/html"] == "<p>"
    error = {"ename": "E", "evalue": "x" * 10**6, "traceback": ["x" * 10**6] * 10**3}
    assert len(str(cut(message("error", **error), passed))) < 10**6


def test_a_notebook_without_a_result_is_no_success(tmp_path):
    path = tmp_path / "source.ipynb"
    nbformat.write(notebook_of("1 + 1"), path)
    done = execute(path, tmp_path / "t.ipynb", {}, environment={}, timeout=300)
    assert (done.status, done.result) == ("failed", None)
    assert "declares no result" in done.message


@pytest.mark.parametrize("counts", [(1, None), (2, 1), (None, 1)])
def test_a_cell_that_did_not_run_in_its_turn_is_no_success(counts):
    notebook = notebook_of("1", DECLARE)
    for cell, count in zip(notebook.cells, counts, strict=True):
        cell.execution_count = count
    made = {"headline": "fine", "mnistlab": ["../mnistlab", package_digest()]}
    result = {RESULT_MIME: made}
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
        done = execute(path, target, {}, environment={}, timeout=300)
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
    done = execute(tmp_path / "source.ipynb", target, {}, environment={}, timeout=300)
    assert done.status == "no-kernel"
    assert done.message == "expected a notebook for Python; its kernel is 'fortran'"
    assert states_of(target)[1] == ["failed", "pending"]


def test_a_child_of_a_killed_build_ends_itself(tmp_path):
    """As after kill -9 of run_all.py: nobody is left to end its notebooks."""
    path = tmp_path / "source.ipynb"
    cells = (FORGET.format(name=str(tmp_path)), "import time; time.sleep(300)")
    nbformat.write(notebook_of(*cells), path)
    build = os.fork()
    if build == 0:
        execute(path, tmp_path / "t.ipynb", {}, environment={}, timeout=300)
        os._exit(0)
    deadline = time.monotonic() + 200
    while not processes_of(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(str(tmp_path))
    os.kill(build, signal.SIGKILL)
    os.waitpid(build, 0)
    time.sleep(3)
    assert nothing_is_left_of(str(tmp_path))


def test_a_notebook_that_prints_without_end_is_cut_there(tmp_path):
    path, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    nbformat.write(notebook_of("while True: print('x' * 10**5)", DECLARE), path)
    done = execute(path, target, {}, environment={}, timeout=300)
    assert done.status == "failed", done.message
    assert "printed more than" in done.message
    assert target.stat().st_size < 30_000_000
