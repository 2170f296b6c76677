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
from conftest import DECLARE, notebook_of, until

from mnistlab import RESULT_MIME
from mnistlab.environment import package_digest
from reports.execute import declared_result, execute
from reports.papermill_process import MOST_OUTPUT, MOST_SHOWN, MOST_TEXT, cut

# What the second of three cells does, and limits; then the status and the message.
# The first one has imported os, signal, sys and time.
ENDINGS = {
    "error": ("1 / 0", {}, "failed", "ZeroDivisionError"),
    "exit 0": ("sys.exit(0)", {}, "failed", "SystemExit"),
    "out of memory": ("bytearray(2**60)", {}, "failed", "MemoryError"),
    "prints without end": (
        "while True: print('x' * 10**5)", {},
        "failed", "printed more than 20,000,000 characters in code cell 2; cut there",
    ),
    "killed": (
        "os.kill(os.getpid(), 9)", {},
        "killed", "SIGKILL in code cell 2 (out of memory?)",
    ),
    "segfault": (
        "import ctypes; ctypes.string_at(0)", {},
        "killed", "ended by SIGSEGV in code cell 2",
    ),
    "abort": ("os.abort()", {}, "killed", "ended by SIGABRT in code cell 2"),
    "quit": ("quit()", {}, "killed", "ended by quit() or exit() in code cell 2"),
    "exit 3": ("os._exit(3)", {}, "killed", "with exit code 3"),
    "interrupted": (
        "os.kill(os.getpid(), signal.SIGINT)", {},
        "interrupted", "The kernel was interrupted",
    ),
    "cell too long": (
        "time.sleep(300)", {"cell_timeout": 2},
        "timeout", "timed out while it was being executed, after 2",
    ),
    "notebook too long": (
        "open('begun', 'w').close(); time.sleep(300)", {"timeout": 300},
        "timeout", "took longer than 300 s, and was in code cell 2",
    ),
    "deaf": (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        {"timeout": 45}, "timeout", "took longer than 45 s",
    ),
    "papermill killed": (
        "os.kill(os.getppid(), 9); time.sleep(300)", {},
        "killed", "papermill was ended by SIGKILL",
    ),
}  # fmt: skip
# A process that a cell starts and forgets, with the test's folder as its name, in a
# session of its own and by a parent that has ended.
FORGET = """import os, signal, subprocess, sys, time
code = [sys.executable, "-c", "import time; time.sleep(300)", {name!r}]
subprocess.Popen(code)
if not os.fork():
    subprocess.Popen(code, start_new_session=True)
    os._exit(0)"""


def processes_of(name):
    running = psutil.process_iter(["cmdline"])
    return [p for p in running if name in (p.info["cmdline"] or ())]


def wait_for_the_end_of(name):
    """A process that was killed takes a moment to go."""
    until(lambda: not processes_of(name), seconds=2)


def states_of(path):
    """What became of the cells; papermill adds some of its own around an error."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.source]
    cells = [c for c in cells if "papermill" in c.metadata]
    return cells, [cell.metadata.papermill["status"] for cell in cells]


@pytest.fixture
def run_cells(tmp_path):
    """Execute a notebook of these cells: how it ended, and the path of what is left."""
    source, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"

    def call(*cells, kernel="python3", timeout=300, **limits):
        notebook = notebook_of(*cells)
        notebook.metadata.kernelspec["name"] = kernel
        nbformat.write(notebook, source)
        done = execute(source, target, {}, environment={}, timeout=timeout, **limits)
        return done, target

    return call


# Like others, or long: make test-faults has them.
LONG = ("abort", "deaf", "exit 0", "exit 3", "out of memory", "segfault")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.faults] * (n in LONG)) for n in ENDINGS],
)
def test_a_notebook_that_ends_badly_says_so_and_leaves_no_process(
    name, run_cells, tmp_path, monkeypatch
):
    source, limits, status, message = ENDINGS[name]
    # A cell that leaves such a file has begun before its limit and is late now.
    late, clock = tmp_path / "begun", time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000 * late.exists())
    forget = FORGET.format(name=str(tmp_path))
    done, target = run_cells(forget, source, DECLARE, **limits)
    assert done.status == status
    assert message in done.message
    assert done.result is None
    cells, states = states_of(target)
    assert states == ["completed", "failed", "pending"]
    errors = [o for o in cells[1].outputs if o.output_type == "error"]
    shown = " ".join(" ".join([e.ename, e.evalue, *e.traceback]) for e in errors)
    assert message in shown or (name == "interrupted" and "KeyboardInt" in shown)
    assert cells[2].execution_count is None
    assert target.stat().st_size < 30_000_000
    wait_for_the_end_of(str(tmp_path))


def test_a_build_that_is_stopped_interrupts_its_notebook(run_cells, tmp_path):
    sleeping = tmp_path / "sleeping"
    stop, told = threading.Event(), []

    def tell():
        until(sleeping.exists)
        told.append(time.monotonic())
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    forget = FORGET.format(name=str(tmp_path))
    sleep = "open('sleeping', 'w').close(); time.sleep(300)"
    done, target = run_cells(forget, sleep, DECLARE, stop=stop)
    assert time.monotonic() - told[0] < 5
    assert done.status == "interrupted"
    assert states_of(target)[1] == ["completed", "failed", "pending"]
    wait_for_the_end_of(str(tmp_path))


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
        for name in ("JUPYTER_PATH", "MPLCONFIGDIR", "MATPLOTLIBRC", "IPYTHONDIR"):
            patch.setenv(name, str(home))
        patch.setenv("PYTHONSTARTUP", str(home / "start.py"))
        patch.setenv("PATH", "/usr/bin:/bin")
        done = execute(here / "source.ipynb", target, {}, environment={}, timeout=300)
    assert (done.status, done.message) == ("published", "")
    wait_for_the_end_of(str(folder))  # what a good one forgets is ended too
    return notebook.cells, nbformat.read(target, as_version=4).cells


def test_a_page_is_of_this_python_and_of_no_settings_of_the_user(good):
    """Its first cell asserts the other ones."""
    assert len(good[1][0].outputs) == 1


def test_tags_say_which_cells_may_fail_and_which_are_not_executed(good):
    written, executed = good
    assert [cell.source for cell in executed] == [cell.source for cell in written]
    assert [cell.execution_count for cell in executed] == [1, 2, 3, 4, None, 5]


def message(kind, cell="1", **content):
    return {"msg_type": kind, "parent_header": {"msg_id": cell}, "content": content}


def test_text_is_cut_at_the_limit_of_its_cell_and_says_so_once():
    passed, half = Counter(), "x" * (MOST_TEXT // 2 + 1)
    assert cut(message("stream", text=half), passed) == message("stream", text=half)
    text = cut(message("stream", text=half), passed)["content"]["text"]
    assert text.startswith("x" * (MOST_TEXT // 2 - 1) + "\n[cut: ")
    assert cut(message("stream", text="short"), passed) == {}
    other = cut(message("stream", cell="2", text="short"), passed)
    assert other == message("stream", cell="2", text="short")
    assert cut(message("clear_output"), passed)
    assert cut(message("stream", text=half), passed) == message("stream", text=half)
    with pytest.raises(KeyboardInterrupt, match="printed more than 20,000,000"):
        cut(message("stream", text="x" * MOST_OUTPUT), passed)


def test_figures_and_errors_have_limits_too():
    passed = Counter()
    shown = [
        cut(message("display_data", data={"image/png": "x"}), passed)
        for _ in range(MOST_SHOWN + 5)
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


def test_a_notebook_without_a_result_is_no_success(run_cells):
    done, _ = run_cells("1 + 1")
    assert (done.status, done.result) == ("failed", None)
    assert "declares no result" in done.message


@pytest.mark.parametrize("counts", [(1, None), (2, 1), (None, 1)])
def test_a_cell_that_did_not_run_in_its_turn_is_no_success(counts):
    made = {"headline": "fine", "mnistlab": ["../mnistlab", package_digest()]}
    notebook = notebook_of("1", DECLARE)
    first, second = notebook.cells
    second.outputs = [nbformat.v4.new_output("display_data", {RESULT_MIME: made})]
    first.execution_count, second.execution_count = counts
    with pytest.raises(ValueError, match="was not executed"):
        declared_result(notebook)
    first.execution_count, second.execution_count = 1, 2
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


def test_a_missing_kernel_is_named(run_cells):
    done, target = run_cells("1", "2", kernel="fortran")
    assert done.status == "no-kernel"
    assert done.message == "expected a notebook for Python; its kernel is 'fortran'"
    assert states_of(target)[1] == ["failed", "pending"]


def test_a_child_of_a_killed_build_ends_itself(run_cells, tmp_path):
    """As after kill -9 of run_all.py: nobody is left to end its notebooks."""
    build = os.fork()
    if build == 0:
        run_cells(FORGET.format(name=str(tmp_path)), "time.sleep(300)")
        os._exit(0)
    until(lambda: processes_of(str(tmp_path)), seconds=200)
    os.kill(build, signal.SIGKILL)
    os.waitpid(build, 0)
    time.sleep(3)
    wait_for_the_end_of(str(tmp_path))
