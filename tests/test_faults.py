"""Builds that are killed, interrupted or cannot write: nothing is lost, nothing stays.

`make test` takes a few of these; `make test-faults` takes all.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import PICTURES, ROOT, command_of, stored_runs, until

from mnistlab import study, train

BUILD = ("--only", "mlp", *PICTURES)  # all three have dropout
LENGTHS = random.Random(2019)
MOMENTS = [
    pytest.param(
        ("alone", "group")[number % 2],
        LENGTHS.uniform(0, 4),
        id=f"{number}",
        marks=[pytest.mark.faults] if number else [],
    )
    for number in range(20)
]


def start(checkout, *arguments):
    command = [sys.executable, "run_all.py", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
        start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes):
    return [p for p in processes if p.is_running() and p.status() != "zombie"]


def records(out):
    return {run.name: run.record for run in stored_runs(out)}


def epochs_kept(out):
    """How many epochs each run has finished, by model."""
    kept = {name: record["epochs"] for name, record in records(out).items()}
    for path in out.glob("runs/*/*/state.npz"):
        history = train.read_history(path.read_bytes())
        kept.setdefault(path.parent.parent.name, len(history))
    return kept


def weights(out):
    return {name: record["weights_sha256"] for name, record in records(out).items()}


@pytest.mark.parametrize(("what", "seconds"), MOMENTS)
def test_a_killed_build_goes_on_and_ends_with_the_same_bits(
    what, seconds, checkout, checkout_built, tmp_path
):
    build = start(checkout, *BUILD, "--out", tmp_path)
    until(lambda: any(tmp_path.glob("runs/*/*/state.npz")))
    time.sleep(seconds)
    family = descendants(build)
    if what == "alone":
        os.kill(build.pid, signal.SIGKILL)
    else:
        os.killpg(build.pid, signal.SIGKILL)
    build.communicate()
    until(lambda: not alive(family), seconds=5)
    with study.lock_output(tmp_path):
        pass  # nobody holds it any more

    kept, finished = epochs_kept(tmp_path), records(tmp_path)
    assert kept
    done = command_of(checkout, *BUILD, "--workers", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    now = records(tmp_path)
    assert weights(tmp_path) == weights(checkout_built)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for run in summary["runs"]:
        name = run["model"]
        assert run["status"] == ("reused" if name in finished else "trained")
        if name not in finished:
            title, epoch = f"{name}, seed 0", kept.get(name, 0)
            assert f"{title:20} started, epoch {epoch} of 30" in done.stdout
    for name, record in finished.items():
        assert now[name] == record, "what was finished is as it was"


def interrupt(build, within, number=signal.SIGINT):
    """Ctrl-C to a build and its children; it ends politely in so many seconds."""
    os.killpg(build.pid, number)
    said, _ = build.communicate(timeout=within)
    assert build.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.faults
def test_an_interrupted_build_ends_in_ten_seconds_and_goes_on(
    checkout, checkout_built, tmp_path
):
    """Ctrl-C while one page is being executed and other runs are being trained."""
    both = (*BUILD, "--only", "conv2", "--out", tmp_path)
    build = start(checkout, *both)
    attempt = tmp_path / "failed" / "conv2.ipynb"
    until(lambda: attempt.exists(), seconds=240)
    family = descendants(build)
    # It sees by a closed pipe that the build is gone.
    trackers = [p for p in family if "resource_tracker" in " ".join(p.cmdline())]
    interrupt(build, within=10)
    assert not set(alive(family)) - set(trackers)
    until(lambda: not alive(trackers), seconds=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["exit_code"] == 130
    runs = {run["model"]: run["status"] for run in summary["runs"]}
    assert {runs[name] for name in runs if name.startswith("conv2")} == {"trained"}
    assert "interrupted" in runs.values()
    states = {name: page["status"] for name, page in summary["notebooks"].items()}
    assert states["mlp"] == "interrupted"
    assert states["conv2"] in ("published", "interrupted")
    site = tmp_path / "site"
    shown = site / ("" if states["conv2"] == "published" else "failed") / "conv2.html"
    assert shown.exists()
    assert (site / "index.html").exists()

    done = command_of(checkout, *both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(checkout_built).items() <= weights(tmp_path).items()
    again = json.loads((tmp_path / "summary.json").read_text())
    for run in again["runs"]:
        reused = runs[run["model"]] == "trained"
        assert run["status"] == ("reused" if reused else "trained")


# A build that is asked to end by SIGTERM is tried below, too, at another moment.
BY_SIGTERM = pytest.param(signal.SIGTERM, marks=pytest.mark.faults)


@pytest.mark.parametrize("number", [signal.SIGINT, BY_SIGTERM])
def test_an_interrupt_while_the_workers_start_is_not_lost(number, checkout, tmp_path):
    """Their processes must not see Ctrl-C; this one, which starts them, must."""
    build = start(checkout, *BUILD[:-1], "epochs=3000", "--out", tmp_path)
    until(
        lambda: any("spawn_main" in " ".join(p.cmdline()) for p in descendants(build))
    )
    family = descendants(build)
    interrupt(build, within=30, number=number)
    until(lambda: not alive(family), seconds=5)


DROPPED = """
import signal, sys, time, weakref, run_all
run_all._answer_interrupts()
kept = set()
ref = weakref.ref(kept, lambda _: signal.raise_signal(signal.SIGINT))
try:
    del kept
    time.sleep(9)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_that_python_drops_comes_again():
    command = [sys.executable, "-c", DROPPED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_second_interrupt_stops_at_once(checkout, checkout_built, tmp_path):
    """The first would have given the page that is being executed a few seconds."""
    out = shutil.copytree(checkout_built, tmp_path / "out")
    (out / "notebooks" / "mlp.ipynb").unlink()
    build = start(checkout, *BUILD, "--out", out)
    until(lambda: (out / "failed" / "mlp.ipynb").exists())
    family = descendants(build)
    os.killpg(build.pid, signal.SIGINT)
    time.sleep(0.5)
    assert build.poll() is None
    interrupt(build, within=1)
    until(lambda: not alive(family), seconds=5)


def test_a_second_build_says_who_holds_the_folder(checkout, run, tmp_path, monkeypatch):
    monkeypatch.chdir(checkout)
    build = start(checkout, *BUILD, "--out", tmp_path)
    until(lambda: (tmp_path / ".holder").exists())
    code, _, errors = run(*BUILD, "--out", tmp_path)
    build.terminate()
    build.communicate(timeout=20)
    assert code == 2
    assert f"in use by process {build.pid}" in errors
    assert build.returncode == 130, "a polite end is an interrupt"


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


def test_a_disk_that_is_full_is_one_line_and_spoils_nothing(
    checkout, checkout_built, tmp_path
):
    out = shutil.copytree(checkout_built, tmp_path / "out")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.suffix != ".holder"
              and p.is_file() and p.parent != out}  # fmt: skip
    few = (*BUILD[:-1], "epochs=2", "--workers", 1)
    done = command_of(checkout, *few, "--out", out, preexec_fn=limit_files)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stdout
    # The index is small enough to be written: it says how it ended.
    told = {out / "site" / name for name in ("index.html", "environment.html")}
    assert "interrupted" in (out / "site" / "index.html").read_text()
    for path, content in before.items():
        assert path in told or path.read_bytes() == content, path
    for path in out.glob("runs/*/*/*"):
        assert path in before, f"{path} is half of something"
