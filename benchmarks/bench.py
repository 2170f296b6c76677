"""Time this package against the plain port of 2019's notebooks, in turns.

The plain port is what the notebooks' author would write today: `Sequential`, the
default `compile` and `fit`, one notebook after another under plain papermill. Plain
trains two seeds in sequence, with all cores; ours trains the same two side by side,
with one core each. Only plain's calls of `fit` are counted; of ours, everything from
the first task to the last record on disk. `make bench` takes less than an hour,
`BENCH=short make bench` ten minutes.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import nbformat
import numpy as np
from dask.system import cpu_count

from mnistlab import data, models
from mnistlab.environment import environment
from mnistlab.models.experiment import Experiment, Layer, with_output
from mnistlab.models.sizes import layer_sizes, macs

ROOT = Path(__file__).parents[1]
SEEDS, EPOCHS, TEST_IMAGES = (0, 1), 3, 1_000
SECONDS_AN_EPOCH = 0.5
ALL = [experiment for family in models.FAMILIES.values() for experiment in family]
# One of each kind: dense, narrow, wide, regularized, large batch, deep.
SHORT = ("mlp_e1", "conv2_b21", "conv2_b23", "conv2_a2", "conv3_d1", "conv7_c3")


def layer_text(layer: Layer) -> str:
    """A layer as its author would write it.

    >>> layer_text(Layer("Dropout", (("rate", 0.25),)))
    'layers.Dropout(rate=0.25)'
    """
    parts = []
    for name, value in layer.config:
        if name.endswith("regularizer"):
            if value is None:
                continue
            value = f"regularizers.L2({dict(value[1])['l2']})"
        elif value in ("glorot_uniform", "valid") or (name, value) == (
            "strides",
            (1, 1),
        ):
            continue
        else:
            value = repr(value)
        parts.append(f"{name}={value}")
    return f"layers.{layer.kind}({', '.join(parts)})"


def plain_notebook(
    experiment: Experiment,
    path: Path,
    train_size: int,
    epochs: int,
    seeds: Sequence[int],
) -> nbformat.NotebookNode:
    """The plain port of a model as a notebook that prints the seconds of its fits."""
    shape = (28, 28, 1) if experiment.spatial else (784,)
    recipe = experiment.recipe
    if recipe.normalization.kind == "divide_by_255":
        normalize = "x.astype('float32') / 255"
    else:
        axis = recipe.normalization.axis
        normalize = f"keras.utils.normalize(x.reshape(-1, 28, 28, 1), axis={axis})"
    rows = "\n".join(f"        {layer_text(x)}," for x in with_output(experiment))
    settings = ", ".join(f"{k}={v}" for k, v in recipe.optimizer.config)
    cells = [
        "import time\n\nimport keras\nimport numpy as np\n"
        "from keras import layers, regularizers",
        f"file = np.load({str(path)!r})\n\n\ndef prepared(x):\n"
        f"    return ({normalize}).reshape(-1, *{shape})\n\n\n"
        f"x_train = prepared(file['x_train'][:{train_size}])\n"
        f"y_train = file['y_train'][:{train_size}]\n"
        f"x_test = prepared(file['x_test'][:{TEST_IMAGES}])\n"
        f"y_test = file['y_test'][:{TEST_IMAGES}]",
        f"def make_model():\n    return keras.Sequential([\n"
        f"        keras.Input({shape}),\n{rows}\n    ])",
        "seconds = []",
        f"for seed in {tuple(seeds)}:\n"
        "    keras.utils.set_random_seed(seed)\n"
        "    model = make_model()\n"
        "    model.compile(\n"
        f"        optimizer=keras.optimizers.{recipe.optimizer.kind}({settings}),\n"
        "        loss='sparse_categorical_crossentropy', metrics=['accuracy'],\n"
        "    )\n"
        "    started = time.perf_counter()\n"
        "    model.fit(\n"
        f"        x_train, y_train, batch_size={recipe.batch_size}, epochs={epochs},\n"
        "        validation_data=(x_test, y_test),\n"
        "    )\n"
        "    seconds.append(time.perf_counter() - started)",
        "print(sum(seconds))",
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [nbformat.v4.new_code_cell(text) for text in cells]
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def run_plain(notebook: nbformat.NotebookNode, folder: Path) -> tuple[float, float]:
    """Seconds of the fits of a plain notebook, and of papermill as a whole."""
    source, target = folder / "plain.ipynb", folder / "executed.ipynb"
    nbformat.write(notebook, source)
    started = time.perf_counter()
    command = [sys.executable, "-m", "papermill", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    whole = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    cells = nbformat.read(target, as_version=4).cells
    return float(cells[-1].outputs[0].text), whole


def run_ours(
    experiment: Experiment,
    dataset: data.Dataset,
    train_size: int,
    address: str,
    out: Path,
) -> tuple[float, float]:
    """Seconds from the first task to the last record, and of an epoch of training."""
    from mnistlab.schedule import train_runs
    from mnistlab.study import specify

    specs = specify(
        [experiment], dataset, profile="quick", seeds=SEEDS, epochs=EPOCHS,
        train_size=train_size,
    )  # fmt: skip
    times = []
    results = train_runs(
        specs, dataset, out, scheduler=address,
        report=lambda progress: times.append(time.perf_counter()),
    )  # fmt: skip
    records = []
    for result in results:
        if result.run is None:
            sys.exit(f"{result.spec.title}: {result.message}")
        records.append(result.run.record)
    epoch = np.mean([record["history"][-1]["seconds"] for record in records])
    shutil.rmtree(out)
    return times[-1] - times[0], float(epoch)


def matrix_product_speed() -> float:
    """GFLOP/s of a product of float32 matrices with one thread.

    The best of many, by the faster of NumPy's and TensorFlow's libraries.
    """
    script = (
        "import time, numpy as np, tensorflow as tf\n"
        "a = np.ones((2048, 2048), np.float32)\n"
        "b = tf.constant(a)\n"
        "best = 1e9\n"
        "for product in [lambda: a @ a, lambda: tf.matmul(b, b).numpy()] * 15:\n"
        "    start = time.perf_counter()\n"
        "    product()\n"
        "    best = min(best, time.perf_counter() - start)\n"
        "print(2 * 2048**3 / best / 1e9)\n"
    )
    names = "OPENBLAS_NUM_THREADS OMP_NUM_THREADS TF_NUM_INTRAOP_THREADS"
    one_thread = os.environ | dict.fromkeys(names.split(), "1")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=one_thread
    )
    return float(done.stdout)


def flops(experiment: Experiment) -> int:
    """Operations to train on an image: forward, and backward to kernels and inputs.

    The first layer has no gradient to its input.
    """
    first = next(size.macs for size in layer_sizes(experiment) if size.macs)
    return 2 * (3 * macs(experiment) - first)


def images_for(experiment: Experiment, speed: float) -> int:
    """Training images for an epoch of half a second or so, in whole batches."""
    batch = experiment.recipe.batch_size
    images = SECONDS_AN_EPOCH * 0.3 * speed * 1e9 / flops(experiment)
    return max(2, min(round(images / batch), 20_000 // batch)) * batch


def spread(values: Sequence[float]) -> str:
    """Minimum, median and maximum."""
    return f"{min(values):.2f} | {np.median(values):.2f} | {max(values):.2f}"


def throughput(chosen: Sequence[Experiment], turns: int, folder: Path) -> None:
    """Print the ratio and the share of the matrix-product speed of each model."""
    from mnistlab.clusters import local_cluster
    from mnistlab.schedule import train_runs
    from mnistlab.study import specify

    dataset = data.load("mnist")
    archive = folder / "mnist.npz"
    np.savez(
        archive, x_train=dataset.x_train, y_train=dataset.y_train,
        x_test=dataset.x_test, y_test=dataset.y_test,
    )  # fmt: skip
    speed = matrix_product_speed()
    size = {e.name: min(images_for(e, speed), len(dataset.x_train)) for e in chosen}
    click.echo(f"Matrix products with one thread: {speed:.0f} GFLOP/s")
    click.echo(f"{dataset.sentence}; {EPOCHS} epochs, seeds 0 and 1, {turns} turns.\n")
    ratios: dict[str, list[float]] = {e.name: [] for e in chosen}
    shares: dict[str, list[float]] = {e.name: [] for e in chosen}
    with local_cluster(len(SEEDS)) as client:
        address = client.scheduler.address
        warm = specify(chosen[:1], dataset, profile="smoke", seeds=SEEDS)
        train_runs(warm, dataset, folder / "warm", scheduler=address)
        for turn in range(turns):
            for experiment in chosen:
                name = experiment.name
                notebook = plain_notebook(
                    experiment, archive, size[name], EPOCHS, SEEDS
                )
                plain, _ = run_plain(notebook, folder)
                ours, epoch = run_ours(
                    experiment, dataset, size[name], address, folder / "out"
                )
                ratios[name].append(plain / ours)
                done = flops(experiment) * size[name] / epoch / 1e9
                shares[name].append(done / speed)
                click.echo(
                    f"turn {turn + 1} {name:10} plain {plain:6.2f} s, "
                    f"ours {ours:6.2f} s, ratio {plain / ours:.2f}", err=True,
                )  # fmt: skip
    click.echo("| model | images | ratio min | median | max | share of products |")
    click.echo("|---|---|---|---|---|---|")
    for name, values in ratios.items():
        share = np.median(shares[name])
        click.echo(f"| {name} | {size[name]:,} | {spread(values)} | {share:.2f} |")
    medians = [np.median(values) for values in ratios.values()]
    each = np.array(list(ratios.values()))
    over_turns = np.exp(np.log(each).mean(axis=0))
    click.echo(f"\nratio geomean per turn, min | median | max: {spread(over_turns)}")
    click.echo(f"lowest median: {min(medians):.2f}")
    click.echo(f"ratio geomean: {np.exp(np.log(medians).mean()):.2f}")


def whole_command(families: Sequence[str], turns: int, folder: Path) -> None:
    """Print what the command takes on the quick profile, and plain papermill."""
    only = [part for family in families for part in ("--only", family)]
    chosen = [e for family in families for e in models.FAMILIES[family]]
    script = str(ROOT / "run_all.py")
    ratios, again, overheads = [], [], []

    def timed(*arguments):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, script, *arguments], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        return time.perf_counter() - started

    for turn in range(turns):
        plain = 0.0
        for experiment in chosen:
            notebook = plain_notebook(experiment, folder / "mnist.npz", 4_096, 2, (0,))
            plain += run_plain(notebook, folder)[1]
        out = folder / f"command{turn}"
        command = ("--profile", "quick", *only, "--out", str(out))
        ours = timed(*command)
        again.append(timed(*command))
        summary = json.loads((out / "summary.json").read_text())
        trained = 0.0
        for run in summary["runs"]:
            trained += json.loads((out / run["record"]).read_text())["seconds"]
        workers = min(len(chosen), cpu_count())
        overheads.append(ours - 1.15 * trained / workers)
        ratios.append(plain / ours)
        click.echo(f"command: plain {plain:.0f} s, ours {ours:.0f} s", err=True)
    helped = [timed("--help") for _ in range(5)]
    what = f"{len(chosen)} models on the quick profile, min | median | max"
    click.echo(f"\ncommand ratio, {what}: {spread(ratios)}")
    click.echo(f"wall time beyond 1.15 x training / workers (s): {spread(overheads)}")
    click.echo(f"second run, all reused (s): {spread(again)}")
    click.echo(f"--help (s): {spread(helped)}")


@click.command()
@click.option(
    "--short", is_flag=True, help="Six models, and the command on one family."
)
@click.option("--turns", type=click.IntRange(1), help="Default: 5, or 3 if short.")
@click.option("--model", "names", multiple=True, help="Only this model.")
@click.option("--no-command", is_flag=True, help="Not the command as a whole.")
def bench(short, turns, names, no_command):
    """Time mnistlab against the plain port, in turns, and print Markdown."""
    names = names or (SHORT if short else [experiment.name for experiment in ALL])
    chosen = [experiment for experiment in ALL if experiment.name in names]
    about = environment()
    packages = ", ".join(f"{name} {v}" for name, v in about["packages"].items())
    click.echo(
        f"{about['processor']}, {cpu_count()} cores, "
        f"{platform.system()}, Python {about['python']}, {packages}"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        throughput(chosen, turns or (3 if short else 5), Path(name))
        if not no_command:
            families = ("mlp",) if short else tuple(models.FAMILIES)
            whole_command(families, 1, Path(name))


if __name__ == "__main__":
    bench()
