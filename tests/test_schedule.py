"""Runs on Dask: the same bits whoever trains them, and failures that stay alone."""

import time
from dataclasses import replace

import dask
import numpy as np
import psutil
import pytest
from conftest import EXPERIMENTS, EXPLODES, TINY, make_spec, run_through, stored_runs

from mnistlab import (
    environment,
    models,
    progress,
    runs,
    schedule,
    store,
    study,
    tables,
)
from mnistlab.models.layers import dense


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


def test_a_worker_gives_the_record_of_this_process(
    by_one_worker, keras, arrays, tmp_path
):
    _, specs, results, _ = by_one_worker
    here = store.write_run(tmp_path, specs[1], run_through(specs[1].task, arrays), {})
    assert shas(here) == shas(results[1].run)
    for name in ("test", "train", "weights_sha256", "kernels", "key"):
        assert here.record[name] == results[1].run.record[name], name


def test_a_run_that_fails_is_named_and_the_others_are_trained(by_one_worker):
    out, specs, results, _ = by_one_worker
    assert [result.kind for result in results] == ["trained"] * 3 + ["failed"]
    said = "explodes, seed 0: the loss of epoch 1 is not a finite number; try a smaller"
    assert said in results[3].message
    assert len(stored_runs(out)) == 3
    assert not list(out.glob("runs/explodes/*/*")), "nothing half-written"


def test_progress_tells_every_epoch(by_one_worker):
    _, specs, _, seen = by_one_worker
    kinds = [event.kind for event in seen if event.spec == specs[0]]
    assert kinds == ["started", "epoch", "epoch", "epoch", "trained"]


def test_a_run_goes_on_from_its_checkpoint(
    by_one_worker, digits, tmp_path, keras, arrays
):
    _, specs, results, _ = by_one_worker
    first = run_through(specs[0].task, arrays, epochs=1)
    store.write_checkpoint(tmp_path, specs[0], first.state)
    seen = []
    again = schedule.train_runs(specs[:1], digits, tmp_path, report=seen.append)
    assert shas(again[0].run) == shas(results[0].run)
    assert len(seen[0].history) == 1
    assert [event.kind for event in seen] == ["started", "epoch", "epoch", "trained"]


@pytest.mark.faults
def test_workers_that_were_suspended_go_on_and_are_not_replaced(digits, tmp_path):
    """As after Ctrl-Z, or in a laptop whose lid was shut: for 10 s instead of 5 min."""
    seen = []

    def report(progress):
        if progress.kind == "epoch" and len(progress.history) in (1, 20):
            children = psutil.Process().children()
            workers = [p for p in children if "spawn_main" in str(p.cmdline())]
            seen.append({worker.pid for worker in workers})
            if len(seen) == 1:
                for worker in workers:
                    worker.suspend()
                time.sleep(10)
                for worker in workers:
                    worker.resume()

    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        spec = make_spec(digits, epochs=20)
        (result,) = schedule.train_runs([spec], digits, tmp_path, report=report)
    assert result.kind == "trained"
    first, last = seen
    assert first == last != set()


def test_the_longest_run_is_first(by_one_worker):
    _, specs, _, seen = by_one_worker
    assert seen[0].spec == specs[0], "in the order that is given"
    assert schedule.longest_first(specs[::-1])[-1] == specs[3]


def test_study_trains_what_is_missing_once(digits, tmp_path, capsys):
    how = dict(profile="smoke", train_size=64, out=tmp_path)
    first = study.study([TINY], **how)
    assert [run.status for run in first] == ["trained"]
    assert "tiny, seed 0: trained" in capsys.readouterr().out
    again = study.study([TINY], seeds=[0, 1], **how)
    assert [run.status for run in again] == ["reused", "trained"]
    assert shas(first[0]) == shas(again[0])


def test_study_names_the_runs_that_failed(tmp_path):
    with pytest.raises(study.StudyError, match="1 of 1 runs failed: explodes, seed 0"):
        study.study([EXPLODES], profile="smoke", out=tmp_path)


def test_where_training_is_not_allowed_a_missing_run_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTLAB_TRAIN", "own")
    with pytest.raises(study.StudyError, match="parameter `family`.*: mlp_e1, seed"):
        study.study("mlp", profile="smoke", out=tmp_path)


def test_a_model_of_the_collection_beside_one_of_ones_own_is_trained_in_a_build(
    tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setenv("MNISTLAB_TRAIN", "own")
    monkeypatch.setenv("MNISTLAB_PAGE_FOLDER", str(tmp_path / "notebooks"))
    monkeypatch.setattr(
        study, "train_runs", lambda specs, *_, **__: asked.extend(specs) or []
    )
    study.study([EXPERIMENTS["mlp_e1"], TINY], profile="smoke", out=tmp_path)
    assert {spec.task.experiment.name for spec in asked} == {"mlp_e1", "tiny"}


# What cannot come from the command; its mistakes are in test_bad_input.py.
WRONG = {
    "near": (dict(family="conv22"), "did you mean 'conv2'"),
    "no family": (dict(family=None), "family: expected one of mlp, .* got None"),
    "names": (dict(family=("mlp", "conv2")), r"a tuple of experiments, got \('mlp'"),
    "a model": (dict(family=TINY), "family: expected one of mlp, .*a tuple of exp"),
    "one seed": (dict(seeds=3), "seeds: expected numbers"),
    "half a seed": (dict(seeds=1.5), "seeds: expected numbers"),
    "half an epoch": (dict(epochs=0.5), "epochs: expected a whole number"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_parameter_gets_a_sentence(wrong, message, tmp_path):
    with pytest.raises(study.StudyError, match=message):
        study.study(**{"family": "mlp", "out": tmp_path} | wrong)


def test_a_wrong_backend_gets_a_sentence(digits, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(study.StudyError, match="KERAS_BACKEND: expected one of"):
        study.specify("mlp", digits)


def test_a_backend_that_is_not_installed_gets_a_sentence(digits, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(study, "package_versions", lambda n: {"jax": "not installed"})
    with pytest.raises(study.StudyError, match=r"jax is not installed; pip install"):
        study.specify("mlp", digits)


def test_profiles_resolve_to_numbers(digits):
    def sizes(images, **how):
        task = study.specify("conv2", images, **how)[0].task
        return task.train_size, task.test_size, task.epochs

    assert sizes(digits, profile="smoke") == (512, 256, 1)
    assert sizes(digits, profile="quick") == (4_096, 1_000, 2)
    assert sizes(digits) == sizes(digits, profile="full") == (60_000, 10_000, 5)
    few = replace(digits, x_train=digits.x_train[:999], x_test=digits.x_test[:99])
    assert sizes(few, profile="quick") == (999, 99, 2)
    assert sizes(digits, profile="quick", epochs=7, train_size=99) == (99, 1_000, 7)


def test_by_default_the_committed_seeds_are_wanted_and_found(digits, tmp_path):
    specs = study.specify("mlp", digits)
    assert {spec.task.seed for spec in specs} >= set(range(5))
    assert all(store.find_run(tmp_path, spec).status == "evidence" for spec in specs)
    assert [s.task.seed for s in study.specify("mlp", digits, seeds=[7])] == [7] * 3
    for seeds in (iter((0, 1)), np.arange(2), (0, 1, 1)):
        specs = study.specify("mlp", digits, seeds=seeds)
        assert [spec.task.seed for spec in specs] == [0, 1] * 3
    short = study.specify("mlp", digits, profile="quick")
    assert [spec.task.seed for spec in short] == [0] * 3
    mine = replace(models.mlp.mlp_e1, name="mine", layers=(dense(8),))
    assert [spec.task.seed for spec in study.specify([mine], digits)] == [0]


def test_a_committed_run_counts_whatever_the_versions_and_is_said_to(
    digits, tmp_path, monkeypatch
):
    (spec,) = study.specify([models.mlp.mlp_e1], digits, seeds=[0])
    kept = store.find_run(tmp_path, spec)
    assert runs.other_versions([kept]) == ""
    nines = lambda names: dict.fromkeys(names, "9")  # noqa: E731
    monkeypatch.setattr(runs, "package_versions", nines)
    assert store.stored_run(store.EVIDENCE, spec) is None, "its key is another one now"
    assert store.find_run(tmp_path, spec).record["key"] == kept.record["key"]
    keras = kept.record["key_parts"]["versions"]["keras"]
    said = runs.other_versions([kept])
    assert f"mlp_e1: trained with keras {keras}; 9 is installed" in said
    assert f"keras {keras}; 9 is installed" in tables.scores([kept]).caption
    edited = dict.fromkeys(environment.KEYED_MODULES, "0")
    monkeypatch.setattr(runs, "code_digest", lambda: edited)
    assert store.find_run(tmp_path, spec) is None, "other training code is another run"


def test_a_model_without_committed_runs_is_trained_with_seed_0(digits):
    mine = replace(EXPERIMENTS["conv7_b71"], name="conv7_mine")
    assert [spec.task.seed for spec in study.specify([mine], digits)] == [0]


def test_what_a_training_may_take_is_told_from_the_committed_times(digits):
    specs = study.specify("mlp", digits, seeds=[50])
    seconds = sum(progress.expected_seconds(specs).values())
    by_hand = sum(
        np.mean([run.record["cpu_seconds"] for run in store.committed_runs(model.name)])
        for model in models.mlp.FAMILY
    )
    assert seconds == pytest.approx(by_hand, rel=0.5)
    quick = study.specify("mlp", digits, profile="quick")
    assert sum(progress.expected_seconds(quick).values()) < seconds / 50


def test_load_runs_gathers_and_names_the_gaps(digits, tmp_path):
    gathered = study.load_runs(profile="smoke", out=tmp_path)
    assert gathered.runs == []
    assert len(gathered.missing) == sum(map(len, models.FAMILIES.values()))
