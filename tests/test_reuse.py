"""What is trained and executed again after one thing was touched: exactly that."""

import json
import os
import re
import shutil

import nbformat
import numpy as np
import pytest
from conftest import ROOT, run_command

RUNS = {"mlp_e1", "mlp_e2", "mlp_e3"}
PAGES = {"data", "mlp", "compare", "claims"}
ONLY = [part for page in sorted(PAGES) for part in ("--only", page)]


def replace_in(name, old, new):
    def touch(copy):
        path = copy / name
        text = path.read_text()
        assert text.count(old) >= 1, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))

    return touch


def edit_notebook(name, kind):
    def touch(copy):
        path = copy / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        if kind == "tag":
            notebook.cells[3].metadata["tags"] = ["new"]
        else:
            next(c for c in notebook.cells if c.cell_type == kind).source += " "
        nbformat.write(notebook, path)

    return touch


def another_version(package):
    """As an upgrade leaves it: the files that say which version is installed."""

    def touch(copy):
        folder = copy / f"{package}-99.0.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n"
        (folder / "METADATA").write_text(text)

    return touch


def another_pixel(copy):
    path = copy / "pictures" / "mnist.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["x_train"][0, 0, 0] ^= 1
    np.savez(path, **arrays)


def damage_record(copy):
    (record,) = copy.glob("out/runs/mlp_e1/*/run.json")
    record.write_text(record.read_text()[:-100])


def foreign_record(copy):
    (record,) = copy.glob("out/runs/mlp_e1/*/run.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"schema": 99}))


GATHERED = PAGES - {"data"}
# What is touched; which runs are trained and which pages executed; the reason.
TOUCHED = {
    "nothing": (lambda copy: None, set(), set(), ""),
    "a comment in train.py": (
        replace_in("mnistlab/train.py", "THREADS = 1", "THREADS = 1  # one"),
        set(),
        PAGES,
        r"notebook +data +execute \(changed: package\)",
    ),
    "a docstring in train.py": (
        replace_in("mnistlab/train.py", '"""The state before', '"""A state before'),
        set(),
        PAGES,
        r"notebook +mlp +execute \(changed: package\)",
    ),
    "markdown": (
        edit_notebook("mlp", "markdown"),
        set(),
        {"mlp"},
        r"notebook +mlp +execute \(changed: cells\)",
    ),
    "a tag": (
        edit_notebook("data", "tag"),
        set(),
        {"data"},
        r"notebook +data +execute \(changed: cells\)",
    ),
    "an experiment": (
        replace_in("mnistlab/models/mlp.py", "dense(128)", "dense(127)"),
        {"mlp_e1"},
        GATHERED,
        r"mlp_e1, seed 0 +train \(changed: layers\)",
    ),
    "how an experiment is written": (
        replace_in("mnistlab/models/mlp.py", "layers=(\n", "layers=(  # E1\n"),
        set(),
        {"mlp"},
        r"notebook +mlp +execute \(changed: models\)",
    ),
    "a recipe": (
        replace_in("mnistlab/models/recipes.py", "recipe_e = Recipe(adam()",
                   "recipe_e = Recipe(adam(0.002)"),
        RUNS,
        GATHERED,
        r"mlp_e2, seed 0 +train \(changed: optimizer\)",
    ),
    "code in train.py": (
        replace_in("mnistlab/train.py", "PREDICT_BATCH = 500", "PREDICT_BATCH = 400"),
        RUNS,
        PAGES,
        r"mlp_e3, seed 0 +train \(changed: train.py\)",
    ),
    "code in layers.py": (
        replace_in("mnistlab/models/layers.py", "rate=rate", "rate=rate * 1.0"),
        RUNS,
        PAGES,
        r"mlp_e3, seed 0 +train \(changed: models/layers.py\)",
    ),
    "wording in data.py": (
        replace_in("mnistlab/data.py", "training and", "training images and"),
        set(),
        PAGES,
        r"notebook +data +execute \(changed: package\)",
    ),
    "the data": (
        another_pixel,
        RUNS,
        PAGES,
        r"mlp_e3, seed 0 +train \(changed: data\)",
    ),
    "a plot": (
        replace_in("mnistlab/plots/curves.py", "alpha=", "alpha=0.5 * "),
        set(),
        PAGES,
        r"notebook +compare +execute \(changed: package\)",
    ),
    "the version of Keras": (
        another_version("keras"),
        RUNS,
        PAGES,
        r"mlp_e3, seed 0 +train \(changed: keras\)",
    ),
    "the version of seaborn": (
        another_version("seaborn"),
        set(),
        PAGES,
        r"notebook +data +execute \(changed: versions\)",
    ),
    "a damaged record": (
        damage_record,
        {"mlp_e1"},
        GATHERED,  # with the times of the new training
        r"mlp_e1, seed 0 +train \(its record cannot be used\)",
    ),
    "a record of another time": (
        foreign_record,
        {"mlp_e1"},
        GATHERED,
        r"mlp_e1, seed 0 +train \(its record cannot be used\)",
    ),
}  # fmt: skip
# Of this the build itself is made by make test; of the others by make test-faults.
BUILT = "an experiment"


def command(copy, *arguments):
    return run_command(
        "--profile", "smoke", "--dataset", "pictures", "--out", "out",
        *ONLY, *arguments,
        script=copy / "run_all.py", env=os.environ | {"PYTHONPATH": str(copy)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory, digits):
    """A copy of this repository with a finished build."""
    copy = tmp_path_factory.mktemp("original") / "mnistlab"
    copy.mkdir()
    for name in ("mnistlab", "reports", "notebooks", "results"):
        if (ROOT / name).exists():
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
            )
    shutil.copy(ROOT / "run_all.py", copy)
    (copy / "pictures").mkdir()
    np.savez(
        copy / "pictures" / "mnist.npz",
        x_train=digits.x_train[:999], y_train=digits.y_train[:999],
        x_test=digits.x_test[:300], y_test=digits.y_test[:300],
    )  # fmt: skip
    done = command(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "mnistlab")


@pytest.mark.parametrize("name", TOUCHED)
def test_a_dry_run_names_what_was_touched_and_nothing_else(name, copy):
    touch, trained, executed, reason = TOUCHED[name]
    touch(copy)
    before = {p: p.stat().st_mtime_ns for p in (copy / "out").rglob("*")}
    done = command(copy, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = {line.split()[1].strip(","): line for line in lines[1:]}
    assert {n for n in said if n in RUNS and " train " in said[n]} == trained
    assert {n for n in said if n in PAGES and " execute " in said[n]} == executed
    assert {n for n in said if " reuse" in said[n]} == (
        RUNS | PAGES
    ) - trained - executed
    assert re.search(reason, done.stdout), done.stdout
    damaged = "record" in name
    assert ("WARNING: " in done.stderr) == damaged, done.stderr
    assert {p: p.stat().st_mtime_ns for p in (copy / "out").rglob("*")} == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == BUILT else [pytest.mark.faults])
        for name in TOUCHED
        # Files that say another version do not make another version.
        if not name.startswith("the version")
    ],
)
def test_a_build_does_what_its_dry_run_says(name, copy):
    touch, trained, executed, _ = TOUCHED[name]
    touch(copy)
    done = command(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((copy / "out" / "summary.json").read_text())
    runs = {run["model"]: run["status"] for run in summary["runs"]}
    pages = {name: page["status"] for name, page in summary["notebooks"].items()}
    assert runs == {n: "trained" if n in trained else "reused" for n in RUNS}
    assert pages == {n: "published" if n in executed else "reused" for n in PAGES}
