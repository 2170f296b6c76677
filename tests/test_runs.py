"""Keys, records and the store: what decides a run, what is kept of it, and how."""

import ast
import errno
import json
import os
import pickle
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, fake, loaded_by, make_spec, printed_by, stored_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from mnistlab import environment, record, runs, store, train, worker
from mnistlab.models.experiment import Experiment, Recipe
from mnistlab.models.layers import (
    adadelta,
    adam,
    batchnorm,
    dense,
    divide_by_255,
    dropout,
    l2_normalize,
)
from mnistlab.models.sizes import macs, params

# What a training process may import of mnistlab besides the keyed modules: values
# that are keyed themselves, and what brings arrays and says what it runs on.
UNKEYED = {
    "mnistlab",
    "mnistlab.environment",
    "mnistlab.models",
    "mnistlab.models.mlp",
    "mnistlab.models.conv2",
    "mnistlab.models.conv3",
    "mnistlab.models.conv5",
    "mnistlab.models.conv7",
    "mnistlab.models.controls",
    "mnistlab.models.recipes",
    "mnistlab.worker",
}


@pytest.fixture
def written(digits, finished, tmp_path):
    spec = make_spec(digits)
    return spec, store.write_run(tmp_path, spec, finished, environment.environment())


def test_the_keyed_modules_are_all_that_a_training_process_imports():
    imported = {
        name for name in loaded_by("mnistlab.worker") if name.startswith("mnistlab")
    }
    keyed = {
        "mnistlab." + name.removesuffix(".py").replace("/", ".")
        for name in environment.KEYED_MODULES
    }
    assert keyed <= imported
    assert imported - keyed == UNKEYED


def test_no_keyed_module_imports_anything_later():
    """An import inside a function would escape the test above."""
    for name in environment.KEYED_MODULES:
        tree = ast.parse((environment.PACKAGE / name).read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom):
                        assert not str(node.module).startswith("mnistlab"), name


def test_the_digest_is_the_same_on_every_python():
    """ast.unparse writes strings within f-strings differently before 3.12."""
    for name in environment.KEYED_MODULES:
        for node in ast.walk(ast.parse((environment.PACKAGE / name).read_text())):
            if isinstance(node, ast.FormattedValue):
                inner = [n for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
                assert not any(isinstance(n.value, str) for n in inner), name


def test_comments_docstrings_and_formatting_are_not_code():
    a = '"""Doc."""\ndef f(x):\n    """Doc."""\n    # why\n    return (x+1)\n'
    b = "def f(x): return x + 1"
    assert environment.bare_code(a) == environment.bare_code(b)
    assert environment.bare_code(b) != environment.bare_code(b.replace("1", "2"))
    nothing = environment.bare_code("def f(): pass")
    assert environment.bare_code('def f():\n    """Doc."""') == nothing


@pytest.mark.parametrize("package", ["keras", "numpy", "tensorflow"])
def test_each_library_version_changes_the_key(digits, monkeypatch, package):
    spec = make_spec(digits)
    before = runs.run_key(spec)
    real = environment._version
    monkeypatch.setattr(
        environment, "_version", lambda n: "0" if n == package else real(n)
    )
    assert runs.run_key(spec) != before


@pytest.mark.parametrize("module", environment.KEYED_MODULES)
def test_the_code_of_each_keyed_module_changes_the_key(digits, monkeypatch, module):
    spec = make_spec(digits)
    before = runs.run_key(spec)
    digest = environment.code_digest() | {module: "0"}
    monkeypatch.setattr(runs, "code_digest", lambda: digest)
    assert runs.run_key(spec) != before


def test_threads_change_the_key(digits, monkeypatch):
    before = runs.run_key(make_spec(digits))
    monkeypatch.setattr(train, "THREADS", 2)
    assert runs.run_key(make_spec(digits)) != before


def test_every_field_of_a_task_is_in_the_key(digits):
    """A field that is added later must not be forgotten."""
    task = set(train.Task.__dataclass_fields__) - {"experiment"}
    assert task <= set(runs.key_parts(make_spec(digits)))
    recipe = set(Recipe.__dataclass_fields__) - {"epochs"}
    assert recipe == set(runs.key_parts(make_spec(digits))["recipe"])
    assert set(Experiment.__dataclass_fields__) == {"name", "layers", "recipe"}


def test_names_and_the_recipes_own_epochs_decide_nothing(digits):
    spec = make_spec(digits)
    renamed = make_spec(digits, replace(TINY, name="renamed"))
    longer = make_spec(digits, replace(TINY, recipe=replace(TINY.recipe, epochs=9)))
    others = [renamed, longer, replace(spec, profile="quick", dataset="other")]
    assert {runs.run_key(s) for s in [spec, *others]} == {runs.run_key(spec)}


LAYERS = st.one_of(
    st.builds(dense, st.integers(1, 3), l2=st.sampled_from([0.0, 1e-5])),
    st.builds(dropout, st.sampled_from([0.25, 0.5])),
    st.builds(batchnorm),
)
OPTIMIZERS = st.one_of(
    st.builds(adam, st.sampled_from([0.001, 0.01])),
    st.builds(adadelta, st.sampled_from([0.001, 1.0])),
)
PARTS = {
    "layers": st.lists(LAYERS, max_size=2).map(tuple),
    "optimizer": OPTIMIZERS,
    "batch_size": st.integers(1, 2),
    "normalization": st.sampled_from([divide_by_255, l2_normalize(1), l2_normalize(2)]),
    "seed": st.integers(0, 1),
    "epochs": st.integers(1, 3),
    "protocol": st.sampled_from(train.PROTOCOLS),
    "train_size": st.integers(12, 13),
    "test_size": st.integers(9, 10),
    "image_data_format": st.sampled_from(["channels_last", "channels_first"]),
    "fingerprint": st.sampled_from(["f", "g"]),
    "backend": st.sampled_from(["tensorflow", "jax"]),
}
SPECS = st.fixed_dictionaries(PARTS)


def spec_of(
    layers, optimizer, batch_size, normalization, fingerprint, backend, **of_task
):
    recipe = Recipe(optimizer, batch_size, epochs=3, normalization=normalization)
    task = train.Task(Experiment("any", layers, recipe), **of_task)
    return runs.RunSpec(task, "d", fingerprint, "p", backend)


@pytest.mark.parametrize("part", PARTS)
@settings(deadline=None, max_examples=50)  # so that the part differs in many
@given(SPECS, SPECS)
def test_equal_values_have_equal_keys_and_others_have_others(part, one, two):
    """Also where one part alone is another."""
    spec, other = spec_of(**one), spec_of(**two)
    mixed = spec_of(**one | {part: two[part]})
    assert runs.run_key(pickle.loads(pickle.dumps(spec))) == runs.run_key(spec)
    assert (runs.run_key(other) == runs.run_key(spec)) is (other == spec)
    assert (runs.run_key(mixed) == runs.run_key(spec)) is (mixed == spec)


STEPS = ("open", "fsync", "replace")


@settings(deadline=None)  # a disk may be busy
@given(st.binary(max_size=50), st.binary(max_size=50), st.sampled_from((*STEPS, "")))
def test_what_is_read_after_a_crash_is_the_old_file_or_the_new_one(old, new, crash):
    """A write that ends at any step leaves a whole file, and nothing beside it."""

    class Crash(BaseException):
        pass

    def crashing(*_, **__):
        raise Crash

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "a" / "file"
        store.write_atomically(path, old)
        if crash:
            module = store if crash == "open" else store.os
            patch.setattr(module, crash, crashing, raising=False)
            with pytest.raises(Crash):
                store.write_atomically(path, new)
        else:
            store.write_atomically(path, new)
        assert path.read_bytes() == (old if crash else new)
        assert list(path.parent.iterdir()) == [path]


CONTRACT = {
    "schema", "model", "dataset", "profile", "protocol", "seed", "train_size",
    "test_size", "epochs", "threads", "image_data_format", "backend", "history", "test",
    "params", "macs", "kernels", "first_kernel", "environment", "commit", "key",
    "weights_sha256",
}  # fmt: skip


def test_a_record_holds_what_the_contract_lists(written, finished):
    spec, run = written
    saved = json.loads((run.folder / "run.json").read_text())
    assert saved == run.record
    assert set(saved) >= CONTRACT
    assert saved["key"] == runs.run_key(spec)
    assert saved["dataset"] == {"name": "mnist", "fingerprint": spec.fingerprint}
    assert saved["history"] == finished.history
    assert set(saved["history"][0]) == {
        "epoch", "loss", "cross_entropy", "accuracy", "val_loss", "val_cross_entropy",
        "val_accuracy", "seconds", "cpu_seconds", "weights_sha256",
    }  # fmt: skip
    assert saved["weights_sha256"] == saved["history"][-1]["weights_sha256"]
    assert saved["params"] == params(TINY)
    assert saved["macs"] == macs(TINY)
    assert [k["name"] for k in saved["kernels"]] == ["conv_1", "dense_1", "output"]
    assert saved["environment"]["packages"]["keras"]


def test_quantiles_and_moments_are_those_of_the_weights(written):
    _, run = written
    weights = run.weights()["dense_1/kernel"].astype(float).ravel()
    kernel = run.record["kernels"][1]
    quantiles = np.quantile(weights, np.linspace(0, 1, 1001))
    np.testing.assert_allclose(kernel["quantiles"], quantiles, rtol=1e-4)
    z = (weights - weights.mean()) / weights.std()
    assert kernel["mean"] == pytest.approx(weights.mean())
    assert kernel["sd"] == pytest.approx(weights.std())
    assert kernel["skewness"] == pytest.approx((z**3).mean())
    assert kernel["excess_kurtosis"] == pytest.approx((z**4).mean() - 3)


def test_weights_that_are_all_alike_have_a_record_too():
    described = record.describe_kernel("dead", np.zeros((3, 3), np.float32))
    assert described["skewness"] == 0
    json.dumps(described, allow_nan=False)


def test_the_stored_weights_have_the_hash_of_the_record(written):
    _, run = written
    weights = list(run.weights().values())
    assert train.weights_sha256(weights) == run.record["weights_sha256"]


def test_a_stored_run_is_found_with_its_predictions(written, finished, tmp_path):
    spec, _ = written
    found = store.stored_run(tmp_path, spec)
    assert found.experiment == TINY
    predicted, confidence = found.predictions()
    np.testing.assert_array_equal(predicted, finished.outcome.predicted)
    np.testing.assert_array_equal(confidence, finished.outcome.confidence)
    assert store.stored_run(tmp_path, replace(spec, backend="jax")) is None
    assert [run.key16 for run in stored_runs(tmp_path)] == [found.key16]


def test_only_the_whole_recipe_on_all_of_mnist_compares_with_2019(written):
    _, tiny = written
    assert not tiny.compares_with_2019
    whole = fake("conv2_a2").record
    assert runs.Run(whole, None).compares_with_2019
    layers = fake("conv2_a5").record["experiment"]["layers"]
    experiment = whole["experiment"] | {"layers": layers}
    edited = runs.Run(whole | {"experiment": experiment}, None)
    assert edited.is_whole
    assert not edited.compares_with_2019
    for name, value in {
        "protocol": "holdout",
        "train_size": 4_096,
        "test_size": 1_000,
        "epochs": 2,
        "dataset": {"name": "mnist", "fingerprint": "0"},
    }.items():
        assert not runs.Run(whole | {name: value}, None).compares_with_2019


def test_a_checkpoint_is_read_back_and_dropped_when_the_run_ends(
    digits, finished, tmp_path
):
    spec = make_spec(digits)
    assert store.read_checkpoint(tmp_path, spec) is None
    state = train.initial_state(spec.task)
    store.write_checkpoint(tmp_path, spec, state)
    assert store.read_checkpoint(tmp_path, spec) == state
    run = store.write_run(tmp_path, spec, finished, {})
    assert not (run.folder / "state.npz").exists()


def test_a_damaged_checkpoint_is_a_miss_with_a_warning(digits, keras, tmp_path):
    spec = make_spec(digits)
    state = bytearray(train.initial_state(spec.task))
    state[len(state) // 2] ^= 1  # in an array, not in its directory
    for damaged in (b"half a state", bytes(state)):
        store.write_checkpoint(tmp_path, spec, damaged)
        with pytest.warns(UserWarning, match="is not used"):
            assert store.read_checkpoint(tmp_path, spec) is None


def test_a_run_that_is_made_again_is_never_half_old_and_half_new(
    finished, written, tmp_path, monkeypatch
):
    """Under --fresh: cut off between its arrays and its record, or after an epoch."""
    spec, run = written
    real = store.write_atomically

    def cut_off(path, content):
        if path.name == "run.json":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(store, "write_atomically", cut_off)
    with pytest.raises(KeyboardInterrupt):
        store.write_run(tmp_path, spec, finished, {})
    assert store.stored_run(tmp_path, spec) is None
    monkeypatch.undo()
    store.write_run(tmp_path, spec, finished, {})
    state = train.initial_state(spec.task)
    store.write_checkpoint(tmp_path, spec, state)
    assert store.stored_run(tmp_path, spec) is None
    assert store.read_checkpoint(tmp_path, spec) == state, "the next build goes on"


@pytest.mark.parametrize("refused", ["EINVAL", "ENOSYS", "ENOTSUP"])
def test_a_mount_without_fsync_and_chmod_is_written_to(tmp_path, monkeypatch, refused):
    def refuse(*_, **__):
        raise OSError(getattr(errno, refused), "refused")

    for name in ("fsync", "chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    store.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_disk_that_is_found_to_be_full_last_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(store.StoreError, match="No space left"):
        store.write_atomically(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def git(folder, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    return printed_by("git", "-C", folder, *name, *arguments).strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository in which there is a package, and the commit of it that is asked."""
    home = tmp_path / "home"
    (home / "mnistlab").mkdir(parents=True)
    (home / "mnistlab" / "a.py").write_text("")
    git(tmp_path, "init", "-q", "home")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "x")
    monkeypatch.setattr(record, "PACKAGE", home / "mnistlab")
    return home


def test_the_commit_is_that_of_this_checkout(checkout, tmp_path, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    git(tmp_path, "init", "-q", "other")
    for name, path in (("GIT_DIR", "other/.git"), ("GIT_WORK_TREE", "other")):
        monkeypatch.setenv(name, str(tmp_path / path))
    assert record.commit.__wrapped__() == head
    (checkout / "mnistlab" / "a.py").write_text("1")
    assert record.commit.__wrapped__() == f"{head}-dirty"


def test_a_copy_within_another_repository_has_no_commit(checkout, monkeypatch):
    copy = checkout / "below" / "mnistlab"
    copy.mkdir(parents=True)
    monkeypatch.setattr(record, "PACKAGE", copy)
    assert record.commit.__wrapped__() == "unknown"


def test_git_that_does_not_answer_is_not_waited_for(checkout, monkeypatch):
    def late(*_, timeout, **__):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", late)
    assert record.commit.__wrapped__() == "unknown"


@pytest.mark.parametrize("length", [40, 64], ids=["SHA-1", "SHA-256"])
def test_a_record_of_either_kind_of_git_is_read_back(
    written, finished, tmp_path, monkeypatch, length
):
    spec, _ = written
    monkeypatch.setattr("mnistlab.record.commit", lambda: "a" * length + "-dirty")
    store.write_run(tmp_path, spec, finished, environment.environment())
    assert store.stored_run(tmp_path, spec) is not None


def test_variables_that_decide_numbers_are_dropped_or_recorded(monkeypatch):
    dropped = (
        "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_DETERMINISTIC_OPS",
        "KMP_AFFINITY", "MKL_CBWR", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS",
    )  # fmt: skip
    others = ("NPY_DISABLE_CPU_FEATURES", "XLA_FLAGS", "JAX_ENABLE_X64")
    for name in (*dropped, *others, "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")
    worker._drop_variables()
    assert not set(dropped) & set(os.environ)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
    assert set(others) <= set(environment.environment()["variables"])


def test_nothing_but_training_imports_a_backend():
    """Not the package, the command, the plots or the notebooks' one import."""
    imports = (
        "run_all, mnistlab.notebook, reports.build, reports.pages, mnistlab.schedule"
    )
    assert not loaded_by(imports) & {"keras", "tensorflow", "jax", "torch"}
