"""Make, check and sum up the committed evidence in `results/`.

`python -m reports.evidence train` (`make evidence`) may be stopped and started at
will. It trains what is wanted in the order below, and after each run copies its record
into `results/`: with predictions in a compact form, and of each model with the weights
of one run. `verify` (`make verify`) recomputes predictions, and trains first epochs
again; `tables` (`make tables`) writes what the README says of them.
"""

import base64
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import click
import numpy as np

from mnistlab import MnistlabError, data, store
from mnistlab.environment import PACKAGE
from mnistlab.models import COLLECTION, FAMILIES, controls
from mnistlab.models.controls import COLUMNS, D2_DROPOUTS, LONGER, PORTING, ROWS
from mnistlab.models.experiment import Experiment
from mnistlab.progress import words
from mnistlab.record import commit
from mnistlab.runs import BATCHNORM, Run, RunSpec
from mnistlab.schedule import Progress, cost, train_runs
from mnistlab.store import EVIDENCE, evidence
from mnistlab.study import load_runs, lock_output, specify
from reports import batchnorm, summary
from reports.story import tell
from reports.verify import in_order, verify_runs, verify_weights

README = PACKAGE.parent / "README.md"
FIGURE = PACKAGE.parent / "docs" / "then_and_now.png"
COVERAGE = EVIDENCE / "README.md"
FINDINGS = PACKAGE.parent / "docs" / "findings.md"


def _named(names: str) -> tuple[Experiment, ...]:
    return tuple(COLLECTION[name] for name in names.split())


@dataclass(frozen=True)
class Wanted:
    """Runs that are wanted together: of what, which seeds, and why.

    `epochs` is instead of the recipe's. Where `batchnorm` is set, a run counts only
    with its scores by both ways of batch normalisation (`batchnorm.json`).
    """

    why: str
    experiments: tuple[Experiment, ...]
    seeds: Sequence[int] = (0, 1, 2)
    protocol: str = "replicate"
    epochs: int | None = None
    batchnorm: bool = False


# An earlier line goes first; within one, the cheapest run does.
B_CHEAP = _named(
    "conv2_b21 conv2_b22 conv2_b23 conv2_b24 conv3_b31 conv3_b32 conv3_b33 conv5_b34 "
    "conv5_b51 conv5_b52 conv5_b53 conv5_b54"
)
WANTED = (
    Wanted("B's expensive ones", _named("conv5_b52 conv5_b54 conv7_b71"), (0,)),
    Wanted("D2's first epochs with other dropouts", tuple(D2_DROPOUTS.values()),
           epochs=3),
    Wanted("A3, with both ways of batch normalisation, for A-1", _named("conv3_a3"),
           batchnorm=True),
    Wanted("A3 with the optimizer of its table", (controls.conv3_a3_adadelta,),
           batchnorm=True),
    Wanted("A3 against A1, for A-1", _named("conv3_a1")),
    Wanted("the MLPs, for E-1 to E-3", FAMILIES["mlp"], range(5)),
    Wanted("A's models, for A-2", _named("conv2_a2 conv2_a5 conv3_a4")),
    Wanted("weights of the MLPs, of one more seed", FAMILIES["mlp"], (5,)),
    Wanted("weights of more models; D3's times beside D1's",
           _named("conv2_a2 conv2_a5 conv3_a4 conv3_a1 conv7_c3 conv7_d3"), (3,)),
    Wanted("what two traps of porting cost", PORTING, (0,)),
    Wanted("B on black-and-white images", B_CHEAP),
    Wanted("A4 with and without its first dropout, for A-3",
           (*_named("conv3_a4"), controls.conv3_a4_no_first_dropout), range(25)),
    Wanted("more seeds of unregularised B, for B-1",
           _named("conv2_b21 conv2_b22 conv3_b31"), range(5)),
    Wanted("C's and D's cheap ones, for C-1, C-2 and D-1",
           _named("conv7_c3 conv7_d3")),
    Wanted("C's expensive ones, for C-1 and C-2", _named("conv2_c1 conv5_c2")),
    Wanted("D's expensive ones, for D-1", _named("conv3_d1 conv5_d2")),
    Wanted("75 epochs, for B-3", LONGER),
    Wanted("the cheap of B, choosing nothing by the test set", B_CHEAP[:4], (0,),
           protocol="holdout"),
    Wanted("B with rows of unit length, as a control", ROWS, (0,)),
    Wanted("B21 and B23 with rows, of more seeds", (ROWS[0], ROWS[2])),
    Wanted("B with columns of unit length, as a control", COLUMNS, (0,)),
    # One to three hours of one core for each of B71, two to nine for B72.
    Wanted("B71 again, for B-2", _named("conv7_b71")),
    Wanted("the more expensive of B's deepest, for B-2", _named("conv7_b72"), (0,)),
)  # fmt: skip


def wanted(dataset: data.Dataset) -> dict[RunSpec, Wanted]:
    """The wanted runs in their order, each with the line that it is wanted for."""
    found: dict[RunSpec, Wanted] = {}
    for line in WANTED:
        specs = specify(
            line.experiments,
            dataset,
            profile="full",
            protocol=line.protocol,
            seeds=line.seeds,
            epochs=line.epochs,
        )
        for spec in sorted(specs, key=cost):
            found.setdefault(spec, line)
    return found


def is_there(run: Run | None, line: Wanted) -> TypeGuard[Run]:
    """Whether a run is there, with all that its line wants of it."""
    return run is not None and (not line.batchnorm or run.batchnorm is not None)


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

    Confidences are kept as float16, within 0.0003 of what they were. The first run of
    each of the 28 models that has weights keeps them, as float16 if that can hold them.
    A record of a checkout with uncommitted changes is refused: nobody could get that
    code again.

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
    others = {path.parent for path in folder.parent.glob("*/weights.npz")} - {folder}
    if run.compares_with_2019 and not others:
        weights: dict[str, Any] = {
            # float16 ends at 65,504: some variances of B71 are larger.
            name: values.astype("f2" if np.abs(values).max() < 65_504 else "f4")
            for name, values in run.weights().items()
        }
        store.write_atomically(folder / "weights.npz", store.npz(**weights))
    if (run.folder / BATCHNORM).exists():
        scores = (run.folder / BATCHNORM).read_bytes()
        store.write_atomically(folder / BATCHNORM, scores)
    text = json.dumps(run.record, separators=(",", ":"), allow_nan=False)
    store.write_atomically(folder / "run.json", f"{text}\n".encode())
    return folder


def keeper(out: Path, dataset: data.Dataset) -> Callable[[Progress], None]:
    """A progress report that prints a line a step, and keeps each run that ends."""

    def report(progress: Progress) -> None:
        click.echo(f"{progress.spec.title:36} {words(progress)}")
        if progress.kind == "epoch" and batchnorm.is_scored(progress.spec):
            batchnorm.score_epoch(out, progress.spec, len(progress.history), dataset)
        if progress.kind == "trained":
            run = store.stored_run(out, progress.spec)
            if run is not None:
                keep(run)

    return report


@click.group()
def command() -> None:
    """Make, check and sum up the evidence in results/."""


# fmt: off
@command.command("train")
@click.option("--out", type=Path, default="build-evidence", metavar="DIR",
              show_default=True,
              help="Where runs are while they train, with weights and checkpoints.")
@click.option("--workers", metavar="N", type=click.IntRange(1),
              help="Processes of one thread. Default: one per usable core.")
@click.option("--scheduler", metavar="URL",
              help="Train on a running Dask cluster, such as tcp://host:8786.")
# fmt: on
def train_wanted(out: Path, workers: int | None, scheduler: str | None) -> None:
    """Train what is wanted and is not there; keep it in results/."""
    dataset = data.load("mnist")
    check_clean(commit())  # now, and not after hours
    with lock_output(out):
        missing = []
        for spec, line in wanted(dataset).items():
            done = store.stored_run(out, spec)
            if is_there(done, line) and is_clean(done.record["commit"]):
                keep(done)
            elif not is_there(store.stored_run(EVIDENCE, spec), line):
                missing.append(spec)
        click.echo(f"{len(missing)} runs are to be trained.")
        results = train_runs(
            missing,
            dataset,
            out,
            workers=workers,
            scheduler=scheduler,
            report=keeper(out, dataset),
        )
    failed = [result.spec.title for result in results if result.run is None]
    if failed:
        raise MnistlabError(f"not trained, see above: {'; '.join(failed)}")


@command.command()
@click.option("--count", default=5, show_default=True, type=click.IntRange(1),
              help="How many records: of a machine like this one first, and of these "
                   "the cheapest of each family.")  # fmt: skip
@click.option("--random", "at_random", is_flag=True,
              help="Choose them at random instead.")  # fmt: skip
@click.option("--whole", is_flag=True,
              help="Train all of their epochs, not the first alone.")  # fmt: skip
def verify(count: int, at_random: bool, whole: bool) -> None:
    """Predict from the kept weights; train some records again, and compare hashes."""
    dataset = data.load()
    kept_weights = [run for run in evidence() if run.has_weights]
    good = verify_weights(kept_weights, dataset)
    found = {spec: store.stored_run(EVIDENCE, spec) for spec in wanted(dataset)}
    pairs = [(spec, run) for spec, run in found.items() if run is not None]
    if not pairs:
        raise MnistlabError(
            "no record in results/ was made by this training code and these versions"
        )
    chosen = in_order(pairs, at_random)[:count]
    if not verify_runs(chosen, dataset, epochs=None if whole else 1) or not good:
        raise MnistlabError("a record could not be reproduced")


@command.command()
def tables() -> None:
    """Write tables, story and figure of README, results/README.md and findings."""
    gathered = load_runs()
    story = tell(gathered.evidence)
    store.write_atomically(FIGURE, base64.b64decode(story.figure))
    specs = list(wanted(data.load("mnist")))
    contents = {
        README: {
            "story": summary.told(story),
            "models": summary.models_table(gathered.full),
            "conclusions": summary.conclusions_table(gathered),
        },
        COVERAGE: {"coverage": summary.coverage_table(specs, evidence())},
        FINDINGS: {
            "story": summary.told(story),
            "rules": summary.rules_table(gathered.evidence),
            "inputs": summary.inputs_table(gathered.evidence),
            "epochs": summary.epochs_table(gathered.full),
        },
    }
    for path, parts in contents.items():
        text = path.read_text(encoding="utf-8")
        for name, content in parts.items():
            text = summary.between(text, name, content)
        store.write_atomically(path, text.encode())


def main() -> None:
    """Run the command; an interrupt keeps every finished epoch."""
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored in the background else
        signal.signal(number, signal.default_int_handler)
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"evidence: {error.format_message()} (see --help)", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (MnistlabError, ValueError, OSError) as error:
        sys.exit(f"evidence: {error}")


if __name__ == "__main__":
    main()
