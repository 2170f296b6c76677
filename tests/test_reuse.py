"""What is trained and executed again after one thing was touched: exactly that."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import PAGES, PICTURES, command_of

RUNS = {"mlp_e1", "mlp_e2", "mlp_e3"}
ONLY = [part for page in PAGES for part in ("--only", page)]
TEMPLATES = "reports/templates/mnistlab"


def replace_in(name, old, new):
    def touch(copy):
        path = copy / name
        text = path.read_text()
        assert text.count(old) >= 1, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))

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


def spoil_records(copy):
    """One is cut off, another of a later schema."""
    (cut_off,) = copy.glob("out/runs/mlp_e1/*/run.json")
    cut_off.write_text(cut_off.read_text()[:-100])
    (later,) = copy.glob("out/runs/mlp_e2/*/run.json")
    later.write_text(json.dumps(json.loads(later.read_text()) | {"schema": 99}))


SHOWN = '[{"output_type": "stream", "name": "stdout", "text": "x"}]'
GATHERED = PAGES - {"data"}
# How it is touched; which runs are trained and which pages executed; the reason.
TOUCHED = {
    "nothing": ([], set(), set(), ""),
    "what explains the code": (
        [replace_in("mnistlab/train.py", "THREADS = 1", "THREADS = 1  # one"),
         replace_in("mnistlab/train.py", '"""The state before', '"""A state before')],
        set(), PAGES, r"notebook +data +execute \(changed: package\)",
    ),
    "a plot": (
        [replace_in("mnistlab/plots/curves.py", "alpha=", "alpha=0.5 * ")],
        set(), PAGES, r"notebook +compare +execute \(changed: package\)",
    ),
    "the text of a cell, a tag, and code": (
        [replace_in("notebooks/mlp.ipynb", '"# ', '"# On '),
         replace_in("notebooks/data.ipynb", '"metadata": {}',
                    '"metadata": {"tags": ["new"]}'),
         replace_in("notebooks/compare.ipynb", "gathered = ", "gathered = found = ")],
        set(), PAGES, r"notebook +mlp +execute \(changed: cells\)",
    ),
    "the id and the outputs of a cell": (
        [replace_in("notebooks/mlp.ipynb", '"id": "', '"id": "another-'),
         replace_in("notebooks/mlp.ipynb", '"outputs": []', f'"outputs": {SHOWN}')],
        set(), set(), "",
    ),
    "an experiment": (
        [replace_in("mnistlab/models/mlp.py", "dense(128)", "dense(127)")],
        {"mlp_e1"}, GATHERED, r"mlp_e1, seed 0 +train \(changed: layers\)",
    ),
    "how an experiment is written": (
        [replace_in("mnistlab/models/mlp.py", "layers=(\n", "layers=(  # E1\n")],
        set(), {"mlp"}, r"notebook +mlp +execute \(changed: models\)",
    ),
    "a recipe": (
        [replace_in("mnistlab/models/recipes.py", "recipe_e = Recipe(adam()",
                    "recipe_e = Recipe(adam(0.002)")],
        RUNS, GATHERED, r"mlp_e2, seed 0 +train \(changed: optimizer\)",
    ),
    "scripts and styles": (
        [replace_in(f"{TEMPLATES}/touch.css", "{", "{ /* */"),
         replace_in(f"{TEMPLATES}/network.js", '"use strict"', "'use strict'")],
        set(), set(), "",
    ),
    "code that trains": (
        [replace_in("mnistlab/train.py", "PREDICT_BATCH = 500", "PREDICT_BATCH = 9"),
         replace_in("mnistlab/models/layers.py", "rate=rate", "rate=rate * 1.0")],
        RUNS, PAGES, r"mlp_e3, seed 0 +train \(changed: models/layers.py, train.py\)",
    ),
    "the data": (
        [another_pixel],
        RUNS, PAGES, r"mlp_e3, seed 0 +train \(changed: data\)",
    ),
    "the version of Keras": (
        [another_version("keras")],
        RUNS, PAGES, r"mlp_e3, seed 0 +train \(changed: keras\)",
    ),
    "the version of seaborn": (
        [another_version("seaborn")],
        set(), PAGES, r"notebook +data +execute \(changed: versions\)",
    ),
    "records that cannot be used": (
        [spoil_records],
        {"mlp_e1", "mlp_e2"}, GATHERED,  # with the times of the new training
        r"mlp_e1, seed 0 +train \(its record cannot be used\)",
    ),
}  # fmt: skip
# Of these the build itself is made by make test; of the others by make test-faults.
BUILT = ("an experiment", "scripts and styles")


def command(copy, *arguments):
    return command_of(
        copy, *PICTURES, *ONLY, "--workers", 1, "--out", "out", *arguments
    )


@pytest.fixture
def copy(checkout, checkout_built, tmp_path):
    """A checkout of its own with a finished build."""
    copy = shutil.copytree(checkout, tmp_path / "mnistlab")
    shutil.copytree(checkout_built, copy / "out")
    return copy


@pytest.mark.parametrize("name", TOUCHED)
def test_a_dry_run_names_what_was_touched_and_nothing_else(name, copy):
    touches, trained, executed, reason = TOUCHED[name]
    for touch in touches:
        touch(copy)
    before = {p: p.stat().st_mtime_ns for p in (copy / "out").rglob("*")}
    done = command(copy, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = {line.split()[1].strip(","): line for line in lines[1:]}
    assert {n for n in said if n in RUNS and " train " in said[n]} == trained
    assert {n for n in said if n in PAGES and " execute " in said[n]} == executed
    reused = (RUNS | PAGES) - trained - executed
    assert {n for n in said if " reuse" in said[n]} == reused
    assert re.search(reason, done.stdout), done.stdout
    assert ("WARNING: " in done.stderr) == ("record" in name), done.stderr
    assert {p: p.stat().st_mtime_ns for p in (copy / "out").rglob("*")} == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in BUILT else [pytest.mark.faults])
        for name in TOUCHED
        # Files that say another version do not make another version.
        if not name.startswith("the version")
    ],
)
def test_a_build_does_what_its_dry_run_says(name, copy):
    touches, trained, executed, _ = TOUCHED[name]
    for touch in touches:
        touch(copy)
    done = command(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((copy / "out" / "summary.json").read_text())
    runs = {run["model"]: run["status"] for run in summary["runs"]}
    pages = {name: page["status"] for name, page in summary["notebooks"].items()}
    assert runs == {n: "trained" if n in trained else "reused" for n in RUNS}
    assert pages == {n: "published" if n in executed else "reused" for n in PAGES}
    for source in (copy / TEMPLATES).glob("*.*s"):
        assert (copy / "out" / "site" / source.name).read_bytes() == source.read_bytes()
