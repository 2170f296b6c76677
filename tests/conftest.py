"""What tests share: small real data, a small experiment, one thread for Keras."""

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from mnistlab import clusters, data, models, store, train
from mnistlab.data import MNIST_FINGERPRINT
from mnistlab.files import IDX_FILES
from mnistlab.models.experiment import Experiment, Recipe, layer_names
from mnistlab.models.layers import adam, batchnorm, conv, dense, dropout, flatten, pool
from mnistlab.runs import Run, RunSpec

matplotlib.use("agg")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import run_all  # noqa: E402

IN_GIT = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="a source archive has no git"
)
ALL = [experiment for family in models.FAMILIES.values() for experiment in family]

EXPERIMENTS = {experiment.name: experiment for experiment in (*ALL, *models.CONTROLS)}

# Everything that may go wrong with bits is in it: convolution, pooling, L2, batch
# normalization, and two dropouts.
TINY = Experiment(
    name="tiny",
    layers=(
        conv(4, 3, l2=1e-4), pool(), dropout(0.3), batchnorm(),
        flatten(), dense(8, initializer="he_normal"), dropout(0.2),
    ),
    recipe=Recipe(adam(), batch_size=32, epochs=3),
)  # fmt: skip

# Its loss is no finite number.
EXPLODES = Experiment(
    "explodes", (dense(8),), replace(TINY.recipe, optimizer=adam(1e30))
)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("MNISTLAB_TRAIN", "MNISTLAB_PAGE_FOLDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _workers():
    """Workers that train for all tests: a new one imports Keras for six seconds."""
    kept = ExitStack()
    clients = []

    @contextmanager
    def shared(count):
        if not clients:
            clients.append(kept.enter_context(local_cluster(count)))
        if len(clients[0].nthreads()) < count:
            clients[0].cluster.scale(count)
            clients[0].wait_for_workers(count)
        try:
            yield clients[0]
        except BaseException:  # what it has begun is not to go on in the next test
            clients.clear()
            with suppress(BaseException):
                kept.__exit__(*sys.exc_info())
            raise

    local_cluster = clusters.local_cluster
    yield shared
    kept.close()


@pytest.fixture(autouse=True)
def _shared_workers(request, monkeypatch, _workers):
    if "faults" not in request.keywords:
        monkeypatch.setattr(clusters, "local_cluster", _workers)


@pytest.fixture
def no_evidence(monkeypatch, tmp_path):
    """As in a checkout without committed runs, whose index is made in a moment."""
    monkeypatch.setattr(store, "EVIDENCE", tmp_path / "none")
    store.committed_runs.cache_clear()
    yield
    store.committed_runs.cache_clear()


@pytest.fixture
def run(monkeypatch, capfd):
    """Call the command in this process: its exit code, output and errors."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["run_all.py", *map(str, arguments)])
        capfd.readouterr()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                with pytest.raises(SystemExit) as ended:
                    run_all.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        said = capfd.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture(scope="session")
def digits():
    return data.load()


@pytest.fixture(scope="session")
def arrays(digits):
    return train.Arrays(digits.x_train, digits.y_train, digits.x_test, digits.y_test)


@pytest.fixture(scope="session")
def keras():
    train.prepare_backend()
    import keras

    return keras


@pytest.fixture(scope="session")
def finished(arrays, keras):
    """What three epochs of the tiny experiment came to."""
    return run_through(make_task(), arrays)


def run_through(task, arrays, epochs=None):
    state = train.initial_state(task)
    for _ in range(epochs or task.epochs):
        result = train.train_epoch(task, arrays, state)
        state = result.state
    return result


def make_task(experiment=TINY, **changes):
    task = train.Task(experiment, 0, 3, "replicate", 256, 128, "channels_last")
    return replace(task, **changes)


def make_spec(digits, experiment=TINY, **changes):
    task = make_task(experiment, **changes)
    return RunSpec(task, digits.name, digits.fingerprint, "smoke", "tensorflow")


def stored_runs(out):
    """All finished runs below an output folder, by name and key."""
    paths = sorted(Path(out).glob("runs/*/*/run.json"))
    return [run for path in paths if (run := store.read_run(path.parent))]


# What a notebook of a small checkout keeps: parameters, data, runs, and its result.
KEPT = (
    "from mnistlab.notebook", "= data.load(", "= study(", "= load_runs(",
    "= gathered.everything", "tables.missing(", "declare(",
)  # fmt: skip


def small_part_of(digits, folder):
    """Write a data set of a few of MNIST's pictures into a new folder."""
    folder.mkdir()
    arrays = {
        "x_train": digits.x_train[:999], "y_train": digits.y_train[:999],
        "x_test": digits.x_test[:300], "y_test": digits.y_test[:300],
    }  # fmt: skip
    np.savez(folder / "mnist.npz", **arrays)
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory, digits):
    """The library, the tool, notebooks without figures, `pictures`; no committed runs.

    Its builds do all that builds do, and most of them in a quarter of the time.
    """
    folder = tmp_path_factory.mktemp("checkout")
    small_part_of(digits, folder / "pictures")
    for part in ("mnistlab", "reports"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "run_all.py", folder)
    (folder / "notebooks").mkdir()
    for name in ("data", "mlp", "conv2", "compare", "claims"):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        title, *cells = notebook.cells
        kept = [c for c in cells if any(text in c.source for text in KEPT)
                or "parameters" in c.metadata.get("tags", ())]  # fmt: skip
        kept[-1].source = re.sub(r", figure=\w+", "", kept[-1].source)
        notebook.cells = [title, *(c for c in kept if c.cell_type == "code")]
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="session")
def checkout_built(checkout, tmp_path_factory):
    """The output of a build of that checkout; one for all processes of the tests."""
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if parallel else base) / "checkout-built"
    with open(f"{out}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.getsize(lock.name):
            pages = [part for page in sorted(PAGES) for part in ("--only", page)]
            done = command_of(checkout, *PICTURES, *pages, "--workers", 1, "--out", out)
            assert done.returncode == 0, done.stdout + done.stderr
            lock.write("built")
    return out


# An epoch takes a few hundredths of a second.
PICTURES = ("--profile", "smoke", "--dataset", "pictures", "-p", "epochs=30")
PAGES = {"data", "mlp", "compare"}


def until(condition, seconds=240):
    """Wait until something is so; it is an error if that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def command_of(checkout, *arguments, **options):
    """Run the command of a copy of the repository, on the copy's own code."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    script = checkout / "run_all.py"
    return run_command(*arguments, script=script, env=environment, **options)


def run_command(*arguments, script=ROOT / "run_all.py", **options):
    """Run run_all.py as a user would; returns the finished process."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=script.parent,
        timeout=500,
        **options,
    )


def printed_by(*command):
    """What another program prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(imports):
    """The modules that a new Python has loaded after an import statement."""
    script = f"import sys, {imports}\nprint(*sys.modules)"
    return set(printed_by(sys.executable, "-c", script).split())


def idx_bytes(array, magic=None, shape=None):
    """The bytes of an array in IDX format, made here and not by the package."""
    magic = 0x0800 + array.ndim if magic is None else magic
    shape = array.shape if shape is None else shape
    header = struct.pack(f">{len(shape) + 1}I", magic, *shape)
    return header + array.astype(np.uint8).tobytes()


def small_pictures():
    """Twelve training and five test images of noise with labels, by file name."""
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 256, (size, 28, 28), np.uint8)
        if "images" in name
        else random.integers(0, 10, size, np.uint8)
        for name, size in zip(IDX_FILES, (12, 12, 5, 5), strict=True)
    }


DECLARE = "from mnistlab.result import declare\ndeclare('fine')"


def notebook_of(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def fake(
    name,
    seed=0,
    *,
    accuracy=0.99,
    train_accuracy=0.995,
    test_loss=0.04,
    train_loss=0.03,
    history=None,
    cpu_seconds=100.0,
    kernel=(0.0, 0.0),
    backend="tensorflow",
    finished="2026-11-21T00:00:00",
    debiased=None,
):
    """A whole run with these results; `history` overrides entries of its epochs.

    `debiased` are test accuracies by the other way of batch normalisation.

    Its losses and kernels are a little off, by seed: values that are all equal have no
    interval.
    """
    off = 1 + (seed % 3) * 1e-4
    test_loss, kernel = test_loss * off, [k * off for k in kernel]
    experiment = EXPERIMENTS[name]
    epochs = experiment.recipe.epochs
    entries = [
        {
            "epoch": epoch,
            "loss": 0.5 / epoch,
            "val_loss": test_loss,
            "val_cross_entropy": test_loss,
            "val_accuracy": accuracy,
            "cpu_seconds": cpu_seconds / epochs,
        }
        for epoch in range(1, epochs + 1)
    ]
    for key, values in (history or {}).items():
        for entry, value in zip(entries, values, strict=True):
            entry[key] = value
        if key.startswith("val_") and key != "val_accuracy":
            entries[-1][key] *= off
    record = {
        "model": name,
        "experiment": asdict(experiment),
        "dataset": {"name": "mnist", "fingerprint": MNIST_FINGERPRINT},
        "profile": "full",
        "protocol": "replicate",
        "image_data_format": "channels_last",
        "train_size": 60_000,
        "validation_size": 0,
        "test_size": 10_000,
        "epochs": epochs,
        "seed": seed,
        "backend": backend,
        "finished": finished,
        "commit": 40 * "0",
        "environment": {"processor": "P", "processor_model": "1", "gpus": []},
        "params": 1000 * (1 + list(EXPERIMENTS).index(name)),
        "macs": 10**6,
        "history": entries,
        "test": {"accuracy": accuracy, "loss": test_loss, "cross_entropy": test_loss},
        "train": {"accuracy": train_accuracy, "cross_entropy": train_loss},
        "cpu_seconds": cpu_seconds,
        "kernels": [
            {"name": layer, "skewness": kernel[0], "excess_kurtosis": kernel[1]}
            for layer in layer_names(experiment)
            if layer.startswith(("conv", "dense", "output"))
        ],
        "key": f"{name}{seed}{backend}",
        "key_parts": {"versions": {}},
        "weights_sha256": 64 * "0",
    }
    folder = Path("runs") / name / record["key"][:16]
    run = Run(json.loads(json.dumps(record)), folder, "evidence")
    if debiased is not None:
        scores = [{"debiased": {"accuracy": value}} for value in debiased]
        vars(run)["batchnorm"] = scores
    return run


def seeds(name, seeds=3, spread=0.0005, accuracy=0.99, **results):
    """Runs of several seeds, whose accuracies differ a little."""
    return [
        fake(name, seed, accuracy=accuracy + (seed % 3 - 1) * spread, **results)
        for seed in range(seeds)
    ]


def each(names, *count, **results):
    """Runs of several seeds of each of these models."""
    return [run for name in names for run in seeds(name, *count, **results)]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    assert path, "there is no Chromium: on Debian and Ubuntu, apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
