"""Check committed runs: predict from their weights, and train them again."""

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from mnistlab import data
from mnistlab.environment import environment, same_machine
from mnistlab.models.experiment import build
from mnistlab.runs import Run, RunSpec
from mnistlab.schedule import cost, train_runs
from mnistlab.worker import prepare_backend
from reports import batchnorm

# On another processor sums are rounded differently; after one epoch that may move
# accuracy about as far as another seed would.
TOLERANCE = 0.03
OTHERWISE = 5  # images of 10,000 that float16 weights may classify otherwise


def verify_weights(runs: Sequence[Run], dataset: data.Dataset) -> bool:
    """Recompute predictions from kept weights; whether all agree with the records.

    The weights were rounded to float16, so that a few images that a network hesitates
    over may be classified otherwise.
    """
    prepare_backend()
    good = True
    for run in runs:
        model = build(run.experiment)
        model.set_weights(list(run.weights().values()))
        found = batchnorm.predict_test_images(model, run.experiment, dataset)
        predicted = found.argmax(axis=1)
        other = int((predicted != run.predictions()[0]).sum())
        accuracy = float((predicted == dataset.y_test).mean())
        agrees = other <= OTHERWISE
        good = good and agrees
        click.echo(
            f"{run.name}, seed {run.seed}".ljust(24)
            + f" {'agrees' if agrees else 'DIFFERS'}: from its weights, {other} of "
            f"{len(predicted):,} images classified otherwise ({OTHERWISE} allowed), "
            f"accuracy {accuracy:.4f} as {run.record['test']['accuracy']:.4f}"
        )
    return good


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


def in_order(
    pairs: Sequence[tuple[RunSpec, Run]], at_random: bool = False
) -> list[tuple[RunSpec, Run]]:
    """Records of a machine like this one first, because their bits can be compared.

    Within these and the others the cheapest of each family come first, or any.
    """
    here, ordered = environment(), []
    for is_like in (True, False):
        some = [
            (spec, run)
            for spec, run in pairs
            if same_machine(run.record["environment"], here) == is_like
        ]
        ordered += random.sample(some, len(some)) if at_random else cheapest_first(some)
    return ordered
