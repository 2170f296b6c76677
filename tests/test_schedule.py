"""Runs on Dask: the same bits whoever trains them, and failures that stay alone."""

import os
import signal
import time
from dataclasses import replace

import dask
import psutil
import pytest
from conftest import TINY, make_spec

from mnistlab import models, schedule, store, study, train
from mnistlab.models.experiment import Experiment
from mnistlab.models.layers import adam, dense

EXPLODES = Experiment(
    "explodes", (dense(8),), replace(TINY.recipe, optimizer=adam(1e30))
)


def shas(run):
    return [entry["weights_sha256"] for entry in run.record["history"]]


@pytest.fixture(scope="module")
def by_one_worker(digits, tmp_path_factory):
    """Four runs, one after another in one process, one of which fails."""
    out = tmp_path_factory.mktemp("one")
    specs = [make_spec(digits, seed=seed) for seed in (0, 1, 2)]
    specs.append(make_spec(digits, EXPLODES))
    seen = []
    results = schedule.train_runs(specs, digits, out, workers=1, report=seen.append)
    return out, specs, results, seen


def test_two_workers_train_the_same_bits_as_one(by_one_worker, digits, tmp_path):
    _, specs, results, _ = by_one_worker
    again = schedule.train_runs(specs[:3][::-1], digits, tmp_path, workers=2)
    for one, two in zip(results[:3], again[::-1], strict=True):
        assert shas(one.run) == shas(two.run)
        assert one.run.record["test"] == two.run.record["test"]


def test_a_worker_trains_the_same_bits_as_this_process(by_one_worker, keras, arrays):
    _, specs, results, _ = by_one_worker
    state = train.initial_state(specs[1].task)
    epoch = train.train_epoch(specs[1].task, arrays, state)
    assert epoch.history[0]["weights_sha256"] == shas(results[1].run)[0]


def test_a_run_that_fails_is_named_and_the_others_are_trained(by_one_worker):
    out, specs, results, _ = by_one_worker
    assert [result.status for result in results] == ["trained"] * 3 + ["failed"]
    assert "explodes, seed 0: the loss of epoch 1" in results[3].message
    assert len(store.stored_runs(out)) == 3


def test_progress_tells_every_epoch(by_one_worker):
    _, specs, _, seen = by_one_worker
    kinds = [event.kind for event in seen if event.spec == specs[0]]
    assert kinds == ["started", "epoch", "epoch", "epoch", "trained"]


def test_a_run_goes_on_from_its_checkpoint(
    by_one_worker, digits, tmp_path, keras, arrays
):
    _, specs, results, _ = by_one_worker
    state = train.initial_state(specs[0].task)
    half = train.train_epoch(specs[0].task, arrays, state).state
    store.write_checkpoint(tmp_path, specs[0], half)
    seen = []
    again = schedule.train_runs(specs[:1], digits, tmp_path, report=seen.append)
    assert shas(again[0].run) == shas(results[0].run)
    assert len(seen[0].history) == 1
    assert [event.kind for event in seen] == ["started", "epoch", "epoch", "trained"]


@pytest.mark.faults
def test_workers_that_were_suspended_go_on_and_are_not_replaced(digits, tmp_path):
    """As after Ctrl-Z, or in a laptop whose lid was shut: for 10 s instead of 5 min."""
    workers = []

    def report(progress):
        if progress.kind == "epoch" and len(progress.history) in (1, 20):
            children = psutil.Process().children()
            workers.append(
                {p.pid for p in children if "spawn_main" in str(p.cmdline())}
            )
        if progress.kind == "epoch" and len(progress.history) == 1:
            for pid in workers[0]:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(10)
            for pid in workers[0]:
                os.kill(pid, signal.SIGCONT)

    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        spec = make_spec(digits, epochs=20)
        (result,) = schedule.train_runs([spec], digits, tmp_path, report=report)
    assert result.status == "trained"
    assert len(workers) == 2
    assert workers[0] == workers[1] != set()


def test_the_longest_run_is_first(by_one_worker, digits):
    _, specs, _, seen = by_one_worker
    assert seen[0].spec.task.experiment == TINY
    assert schedule.cost(specs[0]) > schedule.cost(specs[3])


def test_study_trains_what_is_missing_once(digits, tmp_path, capsys):
    how = dict(dataset="digits", profile="smoke", train_size=64, out=tmp_path)
    first = study.study([TINY], **how)
    assert [run.status for run in first] == ["trained"]
    assert "tiny, seed 0: trained" in capsys.readouterr().out
    again = study.study([TINY], seeds=[0, 1], **how)
    assert [run.status for run in again] == ["reused", "trained"]
    assert shas(first[0]) == shas(again[0])


def test_study_names_the_runs_that_failed(tmp_path, capsys):
    how = dict(dataset="digits", profile="smoke", out=tmp_path)
    with pytest.raises(study.StudyError, match="1 of 1 runs failed: explodes, seed 0"):
        study.study([EXPLODES], **how)


def test_where_training_is_not_allowed_a_missing_run_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTLAB_TRAIN", "never")
    with pytest.raises(study.StudyError, match="tiny, seed 0"):
        study.study([TINY], dataset="digits", profile="smoke", out=tmp_path)


WRONG = {
    "family": (dict(family="conv4"), "family: expected one of mlp"),
    "near": (dict(family="conv22"), "did you mean 'conv2'"),
    "twice": (dict(family=[TINY, TINY]), "the name 'tiny' is there twice"),
    "profile": (dict(profile="qiuck"), "did you mean 'quick'"),
    "protocol": (dict(protocol="test"), "protocol: expected one of replicate, holdout"),
    "no seeds": (dict(seeds=()), "seeds: expected numbers"),
    "one seed": (dict(seeds=3), "seeds: expected numbers"),
    "negative seed": (dict(seeds=[-1]), "seeds: expected a whole number of at least 0"),
    "epochs": (dict(epochs=0), "epochs: expected a whole number of at least 1, got 0"),
    "half an epoch": (dict(epochs=0.5), "epochs: expected a whole number"),
    "train_size": (dict(train_size=10**6), "digits has 1,437 training images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_parameter_gets_a_sentence(name, tmp_path):
    arguments, message = WRONG[name]
    arguments = {"family": "mlp", "dataset": "digits", "out": tmp_path} | arguments
    with pytest.raises(study.StudyError, match=message):
        study.study(**arguments)


def test_a_wrong_backend_gets_a_sentence(digits, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(study.StudyError, match="KERAS_BACKEND: expected one of"):
        study.specify("mlp", digits)


def test_a_backend_that_is_not_installed_gets_a_sentence(digits, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(study, "package_versions", lambda n: {"jax": "not installed"})
    with pytest.raises(study.StudyError, match=r"jax is not installed; pip install"):
        study.specify("mlp", digits)


def test_profiles_resolve_to_numbers(digits, mnist):
    def sizes(dataset, **how):
        task = study.specify("conv2", dataset, **how)[0].task
        return task.train_size, task.test_size, task.epochs

    assert sizes(mnist, profile="smoke") == (512, 256, 1)
    assert sizes(mnist, profile="quick") == (4_096, 1_000, 2)
    assert sizes(mnist, profile="full") == (60_000, 10_000, 5)
    assert sizes(digits, profile="quick") == (1_437, 360, 2)
    assert sizes(mnist, profile="quick", epochs=7, train_size=99) == (99, 1_000, 7)


def test_load_runs_gathers_and_names_the_gaps(digits, tmp_path):
    gathered = study.load_runs(dataset="digits", profile="smoke", out=tmp_path)
    assert gathered.runs == []
    assert len(gathered.missing) == sum(map(len, models.FAMILIES.values()))


def test_two_builds_do_not_share_an_output_folder(tmp_path):
    with (
        study.lock_output(tmp_path),
        pytest.raises(study.StudyError, match="in use by process"),
        study.lock_output(tmp_path),
    ):
        pass
    with study.lock_output(tmp_path):
        pass
