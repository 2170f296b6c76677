"""Make the committed evidence: train what is wanted, keep the records in `results/`.

`python -m mnistlab.evidence` (`make evidence`) may be stopped and started at will. It
trains in the order below, and after each run moves its record into `results/`: without
the weights, and with predictions in a compact form.
"""

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from mnistlab import data, store
from mnistlab.models import CONTROLS, FAMILIES
from mnistlab.models.controls import LONGER, NORMALIZATIONS, conv3_a4_no_first_dropout
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run, RunSpec
from mnistlab.schedule import Progress, train_runs
from mnistlab.study import EVIDENCE, LABELS, lock_output, specify

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
LAST = _named("conv7_b72")  # three hours a run
DEAR = tuple(
    experiment
    for experiment in sum(FAMILIES.values(), ())
    if experiment not in CHEAP + LAST
)

# What is wanted: experiments, seeds, protocol. An earlier line goes first; within
# one, the longest run does.
WANTED: tuple[tuple[tuple[Experiment, ...], tuple[int, ...], str], ...] = (
    (FIRST, (0, 1, 2), "replicate"),
    ((conv3_a4_no_first_dropout,), (0, 1, 2), "replicate"),
    (CHEAP, (0,), "replicate"),
    (CHEAP, (1, 2), "replicate"),
    (DEAR, (0,), "replicate"),
    (FAMILIES["mlp"], (3, 4), "replicate"),
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


def keep(run: Run, results: Path = EVIDENCE) -> Path:
    """Copy a finished run into the evidence: its record, its predictions in 15 kB.

    Confidences are kept as float16, within 0.0003 of what they were. A record of a
    checkout with uncommitted changes is refused: nobody could get that code again.

    Raises:
        ValueError: the record's commit is unknown or not clean.
    """
    commit = run.record["commit"]
    if commit == "unknown" or commit.endswith("-dirty"):
        raise ValueError(
            f"{run.name}, seed {run.seed}: expected a record of a clean commit, got "
            f"{commit!r}; commit first, then train it again"
        )
    folder = results / "runs" / run.name / run.key16
    predicted, confidence = run.predictions()
    compact = store.npz(
        compressed=True, predicted=predicted, confidence=confidence.astype(np.float16)
    )
    store.write_atomically(folder / "predictions.npz", compact)
    text = json.dumps(run.record, separators=(",", ":"), allow_nan=False)
    store.write_atomically(folder / "run.json", f"{text}\n".encode())
    return folder


@click.command()
@click.option(
    "--out",
    default="build-evidence",
    metavar="DIR",
    show_default=True,
    help="Where runs are while they train, with weights and checkpoints.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    help="Processes of one thread. Default: one per usable core.",
)
@click.option(
    "--scheduler",
    metavar="URL",
    help="Train on a running Dask cluster, such as tcp://host:8786.",
)
@click.option(
    "--hours",
    metavar="H",
    type=float,
    help="Begin no further line of the list after so long.",
)
@click.option("--list", "only_list", is_flag=True, help="Say which runs are there.")
def command(out, workers, scheduler, hours, only_list):  # fmt: skip
    """Train what is wanted of the evidence and is not there; keep it in results/."""
    dataset = data.load("mnist")
    lines = wanted(dataset)
    if only_list:
        return _show(lines)
    begun = time.monotonic()
    # Whoever has no MNIST can still see which images the evidence got wrong.
    store.write_atomically(
        EVIDENCE / LABELS, store.npz(compressed=True, y_test=dataset.y_test)
    )
    with lock_output(Path(out)):
        for specs in lines:
            if hours is not None and time.monotonic() - begun > 3600 * hours:
                break
            missing = []
            for spec in specs:
                done = store.find_run(Path(out), spec)
                if done is not None:
                    keep(done)
                elif store.find_run(EVIDENCE, spec) is None:
                    missing.append(spec)
            train_runs(
                missing,
                dataset,
                Path(out),
                workers=workers,
                scheduler=scheduler,
                report=_keeper(out),
            )


def _keeper(out: str):
    def report(progress: Progress) -> None:
        spec, history = progress.spec, progress.history
        text = progress.message or f"{len(history)}/{spec.task.epochs}"
        if history:
            text += f", accuracy {history[-1]['val_accuracy']:.4f}"
        click.echo(f"{spec.title:30} {progress.kind:8} {text}")
        if progress.kind == "trained":
            run = store.find_run(Path(out), spec)
            if run is not None:
                keep(run)

    return report


def _show(lines: Sequence[Sequence[RunSpec]]) -> None:
    there = 0
    for spec in (spec for specs in lines for spec in specs):
        found = store.find_run(EVIDENCE, spec) is not None
        there += found
        click.echo(
            f"{spec.title:36} {spec.task.protocol:10} {'there' if found else 'wanted'}"
        )
    click.echo(f"{there} of {sum(map(len, lines))} runs are there.")


def main() -> None:
    """Run the command; an interrupt keeps every finished epoch."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        sys.exit(f"evidence: {error.format_message()} (see --help)")
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"evidence: {error}")


if __name__ == "__main__":
    main()
