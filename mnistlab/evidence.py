"""Make, check and sum up the committed evidence in `results/`.

`python -m mnistlab.evidence train` (`make evidence`) may be stopped and started at
will. It trains what is wanted in the order below, and after each run copies its record
into `results/`: without the weights, and with predictions in a compact form. `verify`
(`make verify`) trains the first epoch of some of them again; `tables` (`make tables`)
writes what the README says of them.
"""

import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from mnistlab import data, store
from mnistlab.environment import PACKAGE, environment, same_machine
from mnistlab.models import CONTROLS, FAMILIES
from mnistlab.models.controls import (
    LONGER,
    NORMALIZATIONS,
    PORTING,
    conv3_a4_no_first_dropout,
)
from mnistlab.models.experiment import Experiment
from mnistlab.progress import words
from mnistlab.record import commit
from mnistlab.runs import Run, RunSpec
from mnistlab.schedule import Progress, cost, train_runs
from mnistlab.study import (
    EVIDENCE,
    LABELS,
    evidence,
    load_runs,
    lock_output,
    specify,
)
from mnistlab.summary import (
    between,
    conclusions_table,
    coverage_table,
    epochs_table,
    models_table,
)

README = PACKAGE.parent / "README.md"
COVERAGE = EVIDENCE / "README.md"
FINDINGS = PACKAGE.parent / "docs" / "findings.md"
# On another processor sums are rounded differently; after one epoch that may move
# accuracy about as far as another seed would.
TOLERANCE = 0.03

BY_NAME = {
    experiment.name: experiment
    for experiment in (*sum(FAMILIES.values(), ()), *CONTROLS)
}


def _named(names: str) -> tuple[Experiment, ...]:
    return tuple(BY_NAME[name] for name in names.split())


FIRST = _named("mlp_e1 mlp_e2 mlp_e3 conv2_a2 conv2_a5 conv2_b21 conv2_b23")
CHEAP = FIRST + _named(
    "conv3_a1 conv3_a4 conv2_b22 conv2_b24 conv3_b31 conv3_b33 conv5_b51 conv5_b53 "
    "conv7_c3 conv7_d3"
)
# What is expected to be trouble goes first: slow starts, 2019's lowest scores.
SLOW = _named("conv5_c2 conv3_a3 conv5_b54 conv5_b34 conv3_b32")
SLOWER = _named("conv3_d1 conv5_b52")
DEAR = _named("conv2_c1 conv5_d2")  # an hour a run, and conclusions of C and D wait
DEARER = _named("conv7_b71")
LAST = _named("conv7_b72")  # three hours and more

# What is wanted: experiments, seeds, protocol. An earlier line goes first; within
# one, the longest run does.
WANTED: tuple[tuple[tuple[Experiment, ...], tuple[int, ...], str], ...] = (
    (FIRST, (0, 1, 2), "replicate"),
    ((conv3_a4_no_first_dropout,), (0, 1, 2), "replicate"),
    (PORTING, (0,), "replicate"),
    (CHEAP, (0,), "replicate"),
    (_named("conv3_a4"), (1, 2), "replicate"),
    (SLOW, (0,), "replicate"),
    (SLOWER, (0,), "replicate"),
    (FAMILIES["mlp"], (3, 4), "replicate"),
    (DEAR, (0,), "replicate"),
    (DEARER, (0,), "replicate"),
    (CHEAP, (1, 2), "replicate"),
    ((*FAMILIES["mlp"], *_named("conv2_b21 conv2_b22 conv2_b23 conv2_b24")), (0,),
     "holdout"),
    (NORMALIZATIONS, (0, 1, 2), "replicate"),
    (LONGER, (0, 1, 2), "replicate"),
    (LAST, (0,), "replicate"),
)  # fmt: skip


def wanted(dataset: data.Dataset) -> list[list[RunSpec]]:
    """The wanted runs, line by line, each of them once."""
    seen: set[RunSpec] = set()
    lines = []
    for experiments, seeds, protocol in WANTED:
        specs = specify(
            experiments, dataset, profile="full", protocol=protocol, seeds=seeds
        )
        lines.append([spec for spec in specs if spec not in seen])
        seen.update(specs)
    return lines


def is_clean(commit: str) -> bool:
    """Whether that code can be had again: no uncommitted changes, and known to git."""
    return commit != "unknown" and not commit.endswith("-dirty")


def check_clean(commit: str) -> None:
    """Refuse what nobody could make again.

    Raises:
        ValueError: a checkout without git, or with uncommitted changes.
    """
    if not is_clean(commit):
        raise ValueError(
            f"expected a clean commit, got {commit!r}; commit first, then train again"
        )


def keep(run: Run, results: Path = EVIDENCE) -> Path:
    """Copy a finished run into the evidence: its record, its predictions in 15 kB.

    Confidences are kept as float16, within 0.0003 of what they were. A record of a
    checkout with uncommitted changes is refused: nobody could get that code again.

    Raises:
        ValueError: the record's commit is unknown or not clean.
    """
    check_clean(run.record["commit"])
    folder = results / "runs" / run.name / run.key16
    predicted, confidence = run.predictions()
    compact = store.npz(
        compressed=True, predicted=predicted, confidence=confidence.astype(np.float16)
    )
    store.write_atomically(folder / "predictions.npz", compact)
    text = json.dumps(run.record, separators=(",", ":"), allow_nan=False)
    store.write_atomically(folder / "run.json", f"{text}\n".encode())
    return folder


def keeper(out: Path) -> Callable[[Progress], None]:
    """A progress report that prints a line a step, and keeps each run that ends."""

    def report(progress: Progress) -> None:
        click.echo(f"{progress.spec.title:36} {words(progress)}")
        if progress.kind == "trained":
            run = store.find_run(out, progress.spec)
            if run is not None:
                keep(run)

    return report


@click.group()
def command() -> None:
    """Make, check and sum up the evidence in results/."""


# fmt: off
@command.command()
@click.option("--out", type=Path, default="build-evidence", metavar="DIR",
              show_default=True,
              help="Where runs are while they train, with weights and checkpoints.")
@click.option("--workers", metavar="N", type=click.IntRange(1),
              help="Processes of one thread. Default: one per usable core.")
@click.option("--scheduler", metavar="URL",
              help="Train on a running Dask cluster, such as tcp://host:8786.")
# fmt: on
def train(out: Path, workers: int | None, scheduler: str | None) -> None:
    """Train what is wanted and is not there; keep it in results/."""
    dataset = data.load("mnist")
    check_clean(commit())  # now, and not after hours
    # Whoever has no MNIST can still see which images the evidence got wrong.
    store.write_atomically(
        EVIDENCE / LABELS, store.npz(compressed=True, y_test=dataset.y_test)
    )
    with lock_output(out):
        for specs in wanted(dataset):
            missing = []
            for spec in specs:
                done = store.find_run(out, spec)
                if done is not None and is_clean(done.record["commit"]):
                    keep(done)
                elif store.find_run(EVIDENCE, spec) is None:
                    missing.append(spec)
            train_runs(
                missing,
                dataset,
                out,
                workers=workers,
                scheduler=scheduler,
                report=keeper(out),
            )


@command.command("list")
def show() -> None:
    """Say which of the wanted runs are there."""
    specs = sum(wanted(data.load("mnist")), [])
    there = 0
    for spec in specs:
        found = store.find_run(EVIDENCE, spec) is not None
        there += found
        text = "there" if found else "wanted"
        click.echo(f"{spec.title:36} {spec.task.protocol:10} {text}")
    click.echo(f"{there} of {len(specs)} runs are there.")


def verify_runs(
    pairs: Sequence[tuple[RunSpec, Run]],
    dataset: data.Dataset,
    *,
    epochs: int | None = 1,
) -> bool:
    """Train the first epochs of some runs again; whether all agree with their records.

    `epochs` None is all of each. On a machine like the record's the weights must have
    the same hash; on another one the last accuracy must be within `TOLERANCE`.
    """
    again = [
        replace(spec, task=replace(spec.task, epochs=epochs or spec.task.epochs))
        for spec, _ in pairs
    ]
    with tempfile.TemporaryDirectory() as folder:
        results = train_runs(again, dataset, Path(folder))
    here, good = environment(), True
    for (spec, kept), result in zip(pairs, results, strict=True):
        if result.run is None:
            good = False
            click.echo(f"{spec.title:24} failed: {result.message}")
            continue
        now = result.run.history[-1]
        then = kept.history[now["epoch"] - 1]
        made = kept.record["environment"]
        if same_machine(made, here):
            equal = then["weights_sha256"] == now["weights_sha256"]
            text = (
                f"weights {now['weights_sha256'][:12]} "
                f"{'as' if equal else 'instead of'} {then['weights_sha256'][:12]}"
            )
        else:
            difference = now["val_accuracy"] - then["val_accuracy"]
            equal = abs(difference) <= TOLERANCE
            text = (
                f"other processor or GPU ({made['processor']}): accuracy "
                f"{now['val_accuracy']:.4f}, {difference:+.4f} of {TOLERANCE} allowed"
            )
        good = good and equal
        click.echo(f"{spec.title:24} {'agrees' if equal else 'DIFFERS'}: {text}")
    return good


def cheapest_first(pairs: Sequence[tuple[RunSpec, Run]]) -> list[tuple[RunSpec, Run]]:
    """By the cost of an epoch: first the cheapest of each family, then the next ones.

    Of each experiment the first comes before any second: another seed tests little.
    """
    counts: Counter[object] = Counter()
    ranks: dict[RunSpec, tuple[int, int, int]] = {}
    for spec, _ in sorted(pairs, key=lambda pair: cost(pair[0]) / pair[0].task.epochs):
        experiment = spec.task.experiment
        family = experiment.name.partition("_")[0]
        again = counts[experiment]
        counts[experiment] += 1
        ranks[spec] = (again, counts[family, again], len(ranks))
        counts[family, again] += 1
    return sorted(pairs, key=lambda pair: ranks[pair[0]])


@command.command()
@click.option("--count", default=5, show_default=True, type=click.IntRange(1),
              help="How many records, the cheapest of each family first.")  # fmt: skip
@click.option("--random", "at_random", is_flag=True,
              help="Choose them at random instead.")  # fmt: skip
@click.option("--whole", is_flag=True,
              help="Train all of their epochs, not the first alone.")  # fmt: skip
def verify(count: int, at_random: bool, whole: bool) -> None:
    """Train some records again, and compare the weights' hashes."""
    dataset = data.load("mnist")
    pairs = []
    for spec in sum(wanted(dataset), []):
        kept = store.find_run(EVIDENCE, spec)
        if kept is not None:
            pairs.append((spec, kept))
    if not pairs:
        raise click.ClickException(
            "no record in results/ was made by this training code and these versions"
        )
    pairs = random.sample(pairs, len(pairs)) if at_random else cheapest_first(pairs)
    if not verify_runs(pairs[:count], dataset, epochs=None if whole else 1):
        raise click.ClickException("a record could not be reproduced")


@command.command()
def tables() -> None:
    """Write the tables in README, results/README.md and docs/findings.md."""
    gathered = load_runs(dataset="digits")
    specs = sum(wanted(data.load("mnist")), [])
    contents = {
        README: {
            "models": models_table(gathered.full),
            "conclusions": conclusions_table(gathered),
        },
        COVERAGE: {"coverage": coverage_table(specs, evidence())},
        FINDINGS: {"epochs": epochs_table(gathered.full)},
    }
    for path, parts in contents.items():
        text = path.read_text(encoding="utf-8")
        for name, content in parts.items():
            text = between(text, name, content)
        store.write_atomically(path, text.encode())


def main() -> None:
    """Run the command; an interrupt keeps every finished epoch."""
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored in the background else
        signal.signal(number, signal.default_int_handler)
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        sys.exit(f"evidence: {error.format_message()}")
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"evidence: {error}")


if __name__ == "__main__":
    main()
