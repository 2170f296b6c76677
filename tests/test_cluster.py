"""Runs on a cluster of real `dask` processes that share no files with the build."""

import errno
import json
import multiprocessing.synchronize
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest
from conftest import ROOT, TINY, command_of, make_spec, run_through, until
from distributed import Client

from mnistlab import clusters, schedule, store
from mnistlab.clusters import ScheduleError, SchedulerGone, local_cluster
from mnistlab.environment import differences, identity, nvidia_smi
from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import conv, flatten
from mnistlab.worker import HoldArrays

# Seconds an epoch, so that there is time to kill a worker.
SLOW = Experiment(
    "slow", (conv(32, 5), conv(48, 5), flatten()), replace(TINY.recipe, epochs=2)
)


@contextmanager
def dask(*arguments, **environment):
    """A `dask` process of its own group, in a folder where nothing else is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, arguments)],
        env=os.environ | environment,
        cwd=Path(arguments[-1]).parent,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def workers(scheduler, **packages):
    """More workers of a scheduler, by name and where their package is."""
    address, file = scheduler
    with ExitStack() as stack:
        with Client(address) as client:
            known = len(client.nthreads())
            for name, package in packages.items():
                worker = dask(
                    "worker", "--name", name, "--nthreads", 1, "--no-dashboard",
                    "--memory-limit", 0, "--scheduler-file", file,
                    PYTHONPATH=str(package),
                )  # fmt: skip
                stack.enter_context(worker)
            client.wait_for_workers(known + len(packages), timeout=60)
        yield


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler without workers: its address, and the file that has it."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    with dask(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", file,
        DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0",
    ):  # fmt: skip
        until(file.exists, seconds=30)
        yield json.loads(file.read_text())["address"], file


@pytest.fixture(scope="module")
def own_workers(scheduler):
    """The address of that scheduler, with two workers of this code."""
    with workers(scheduler, own0=ROOT, own1=ROOT):
        yield scheduler[0]


@pytest.fixture
def two_workers(own_workers):
    """That address, when workers that another test has killed are back."""
    with Client(own_workers) as client:
        client.wait_for_workers(2, timeout=60)
    return own_workers


def foreign_package(folder, change):
    shutil.copytree(ROOT / "mnistlab", folder / "mnistlab")
    change(folder / "mnistlab")
    return folder


def edit_train(package):
    path = package / "train.py"
    path.write_text(path.read_text().replace("PREDICT_BATCH = 500", "PREDICT_BATCH=9"))


def uninstall(package):
    # An editable installation is found behind an empty folder, so say it aloud.
    text = "raise ModuleNotFoundError(\"No module named 'mnistlab'\")"
    (package / "__init__.py").write_text(text)


def test_workers_of_other_code_are_refused_and_nothing_is_trained_by_them(
    scheduler, digits, run, tmp_path, request
):
    """The first test here: at its beginning the cluster has no others."""
    foreign = {
        "edited": foreign_package(tmp_path / "edited", edit_train),
        "without": foreign_package(tmp_path / "without", uninstall),
    }
    address, _ = scheduler
    with workers(scheduler, **foreign):
        code, _, errors = run(
            "--profile", "smoke", "--only", "mlp",
            "--scheduler", address, "--out", tmp_path / "none",
        )  # fmt: skip
        request.getfixturevalue("two_workers")
        with pytest.warns(UserWarning, match="is not used") as caught:
            (result,) = schedule.train_runs(
                [make_spec(digits, epochs=1)], digits, tmp_path, scheduler=address
            )
    told = {str(w.message).split()[1]: str(w.message) for w in caught}
    assert result.kind == "trained"
    assert set(told) == {"edited", "without"}
    assert "other code in mnistlab/train.py" in told["edited"]
    assert "it has no such mnistlab" in told["without"]
    assert code == 2
    assert "worker edited at tcp://" in errors
    assert "none of the cluster's workers may be used" in errors
    assert "Traceback" not in errors


def shas(history):
    return [entry["weights_sha256"] for entry in history]


def test_two_workers_of_a_cluster_give_the_records_of_this_process(
    two_workers, digits, keras, arrays, tmp_path
):
    """Which are those of a local worker (test_schedule.py)."""
    specs = [make_spec(digits, seed=seed) for seed in (0, 1, 2)]
    remote = schedule.train_runs(
        specs, digits, tmp_path / "remote", scheduler=two_workers
    )
    for spec, two in zip(specs, remote, strict=True):
        one = store.write_run(tmp_path, spec, run_through(spec.task, arrays), {})
        assert shas(one.history) == shas(two.history)
        for name in ("test", "train", "weights_sha256", "kernels", "key"):
            assert one.record[name] == two.run.record[name], name


def kill_the_worker_of(address, name, times, when=None):
    """Kill the worker process that trains a run, as often as that, once `when` is set.

    Returns the thread that does so, and the list of processes it has killed.
    """
    killed = []

    def work():
        if when is not None:
            when.wait(60)
        with Client(address) as client:
            while len(killed) < times:
                for worker, keys in client.processing().items():
                    if not any(str(key).startswith(name) for key in keys):
                        continue
                    try:
                        pid = client.run(os.getpid, workers=[worker])[worker]
                    except OSError:  # it was just killed, and Dask does not know yet
                        continue
                    if pid not in killed:
                        time.sleep(0.5)
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                time.sleep(0.1)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, killed


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.faults), 2])
def test_a_killed_worker_costs_an_epoch_and_no_bits(
    two_workers, digits, keras, arrays, tmp_path, epoch
):
    spec = make_spec(digits, SLOW, epochs=2, train_size=1437)
    undisturbed = run_through(spec.task, arrays)
    seen, reached = [], threading.Event()

    def report(progress):
        seen.append(progress.kind)
        if len(progress.history) >= epoch - 1:
            reached.set()

    thread, killed = kill_the_worker_of(two_workers, "slow", times=1, when=reached)
    (disturbed,) = schedule.train_runs(
        [spec], digits, tmp_path, scheduler=two_workers, report=report
    )
    thread.join(10)
    assert len(killed) == 1
    assert shas(disturbed.history) == shas(undisturbed.history)
    assert seen == ["started", "epoch", "epoch", "trained"]


def test_a_result_that_is_lost_before_it_was_fetched_is_made_again(
    two_workers, digits, keras, arrays, tmp_path, monkeypatch
):
    spec = make_spec(digits, epochs=2)
    undisturbed = run_through(spec.task, arrays)
    wait, lost = distributed.wait, []

    def while_the_worker_dies(futures, **options):
        found = wait(futures, **options)
        if not lost:
            lost.extend(found.done)
            (future,) = lost
            (holder,) = future.client.who_has([future])[future.key]
            os.kill(future.client.run(os.getpid, workers=[holder])[holder], 9)
            until(lambda: future.status == "lost")
        return found

    monkeypatch.setattr(distributed, "wait", while_the_worker_dies)
    (result,) = schedule.train_runs([spec], digits, tmp_path, scheduler=two_workers)
    assert len(lost) == 1
    assert shas(result.history) == shas(undisturbed.history)


def test_a_run_that_kills_its_worker_twice_has_failed_and_the_others_go_on(
    two_workers, digits, tmp_path
):
    specs = [make_spec(digits, SLOW, epochs=2, train_size=1437), make_spec(digits)]
    thread, killed = kill_the_worker_of(two_workers, "slow", times=2)
    results = schedule.train_runs(specs, digits, tmp_path, scheduler=two_workers)
    thread.join(10)
    assert len(killed) == 2
    assert [result.kind for result in results] == ["failed", "trained"]
    assert "its worker process died twice" in results[0].message


def test_workers_that_are_starting_again_are_waited_for_though_others_are_refused(
    two_workers, digits, tmp_path, monkeypatch
):
    accepted, asked = clusters.accepted_workers, []

    def none_for_a_moment(client, expected, known):
        found = accepted(client, expected, known)
        known["tcp://refused:1"] = "other code"
        asked.append(found)
        return [] if len(asked) == 2 else found

    monkeypatch.setattr(clusters, "accepted_workers", none_for_a_moment)
    with pytest.warns(UserWarning, match="no worker yet; waiting"):
        (result,) = schedule.train_runs(
            [make_spec(digits)], digits, tmp_path, scheduler=two_workers
        )
    assert result.kind == "trained"


def test_a_cluster_that_another_user_restarts_is_told_and_nothing_is_lost(
    two_workers, digits, tmp_path
):
    spec = make_spec(digits, SLOW, epochs=2, train_size=1437)

    def restart(progress):
        if progress.kind == "epoch":
            with Client(two_workers) as other:
                other.restart()

    with pytest.raises(SchedulerGone, match="the same command goes on"):
        schedule.train_runs(
            [spec], digits, tmp_path, scheduler=two_workers, report=restart
        )
    assert store.read_checkpoint(tmp_path, spec)


def test_a_full_disk_is_not_taken_for_a_lost_scheduler(
    two_workers, digits, tmp_path, monkeypatch
):
    def full(*_):
        raise store.StoreError("cannot write: No space left on device")

    monkeypatch.setattr(store, "write_checkpoint", full)
    spec = make_spec(digits)
    with pytest.raises(store.StoreError):
        schedule.train_runs([spec], digits, tmp_path, scheduler=two_workers)


def test_a_worker_with_another_backend_is_foreign(monkeypatch):
    mine = identity()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "KERAS_BACKEND jax instead of tensorflow" in differences(mine, identity())
    assert differences(mine, mine) == ""


def test_each_gpu_gets_the_worker_of_its_number(monkeypatch, arrays):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    plugin = HoldArrays("some data", arrays, gpus=["2", "5"])
    for name, gpu in ((0, "2"), (1, "5")):
        plugin.setup(SimpleNamespace(name=name))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu


@pytest.fixture
def fake_tool(tmp_path, monkeypatch):
    """Puts an `nvidia-smi` of ours first on PATH, which runs a script."""

    def put(script):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        nvidia_smi.cache_clear()

    yield put
    nvidia_smi.cache_clear()


def test_a_driver_that_hangs_is_waited_for_ten_seconds(monkeypatch, fake_tool):
    fake_tool("exec sleep 300")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="going on without a GPU.*timed out"):
        assert schedule.gpus() == []
    assert time.monotonic() - began < 30


def test_a_backend_that_hangs_on_its_gpu_is_not_waited_for(monkeypatch, fake_tool):
    def late(*_, timeout, **__):
        raise subprocess.TimeoutExpired("python", timeout)

    fake_tool("echo 0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(subprocess, "run", late)
    with pytest.warns(UserWarning, match="going on without a GPU"):
        assert schedule.gpus() == []


def test_a_gpu_that_the_backend_cannot_use_takes_no_cores_away(monkeypatch, fake_tool):
    assert schedule.gpus() == [] or shutil.which("nvidia-smi")
    fake_tool("echo 0; echo 1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # hides what there may be
    assert schedule.gpus() == []


def test_a_scheduler_that_dies_is_one_line_and_what_was_trained_is_kept(
    two_workers, checkout, tmp_path
):
    """The last test here: afterwards there is no cluster."""
    with Client(two_workers) as client:
        scheduler = client.run_on_scheduler(os.getpid)

    def kill_it():
        until(lambda: any(tmp_path.glob("runs/*/*/state.npz")))
        os.kill(scheduler, signal.SIGKILL)

    threading.Thread(target=kill_it, daemon=True).start()
    done = command_of(
        checkout, "--profile", "smoke", "--only", "mlp",
        "-p", "epochs=300", "--scheduler", two_workers, "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "the scheduler is gone; the same command goes on" in done.stderr
    assert list(tmp_path.glob("runs/*/*/state.npz"))
    assert json.loads((tmp_path / "summary.json").read_text())["exit_code"] == 1
    assert "interrupted" in (tmp_path / "site" / "index.html").read_text()


def test_a_machine_without_shared_memory_is_told_in_one_line(monkeypatch):
    """As where /dev/shm cannot be written: processes get no semaphores."""

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refused)
    expected = r"no worker can be started here \(OSError: .*Read-only file system\)"
    with pytest.raises(ScheduleError, match=expected), local_cluster(1):
        pass


def test_what_fails_as_workers_are_killed_is_not_told_with_tracebacks(caplog):
    lost = threading.Event()

    def lose():
        future = client.loop.asyncio_loop.create_future()
        future.set_exception(OSError("the stream is closed"))
        del future  # as a broadcast does that was under way
        lost.set()

    with local_cluster(1) as client:
        client.loop.add_callback(lose)
        assert lost.wait(30)
    assert "never retrieved" not in caplog.text
