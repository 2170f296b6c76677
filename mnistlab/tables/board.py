"""Tables of scores: every run, the leader board of models, what pairs differ in."""

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
import pandas as pd
from IPython.display import Markdown

from mnistlab import comparison, stats
from mnistlab.claims import FAIR_PAIRS
from mnistlab.judging import LEAST_SEEDS, accuracy
from mnistlab.models import FAMILIES
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.study import Gathered
from mnistlab.tables.architectures import dropout_rates, regularization
from mnistlab.tables.base import (
    Table,
    amount,
    percent,
    percent_range,
    record_link,
    record_links,
)


def scores(runs: Sequence[Run]) -> Table:
    """Scores of each run in percent, plain cross-entropy, time, and its record."""
    if not runs:
        return Table(pd.DataFrame(), "There are no runs to show here.")
    rows = [
        {
            "model": run.name,
            "seed": run.seed,
            "epochs": run.record["epochs"],
            "training accuracy (%)": percent(run.history[-1]["accuracy"]),
            "test accuracy (%)": percent(run.record["test"]["accuracy"]),
            "test cross-entropy": f"{run.record['test']['cross_entropy']:.4f}",
            "test loss": f"{run.record['test']['loss']:.4f}",
            "CPU seconds": f"{run.record['cpu_seconds']:.1f}",
            "record": record_link(run),
        }
        for run in runs
    ]
    note = (
        " The loss adds the L2 penalty to the cross-entropy. Training accuracy is the "
        "mean over the last epoch, with dropout on."
    )
    return Table(pd.DataFrame(rows), amount(runs) + note)


def missing(gathered: Gathered) -> Markdown:
    """A sentence that names the runs this build does not have."""
    if not gathered.missing:
        return Markdown("Every model has its runs in this build.")
    names = ", ".join(spec.title for spec in gathered.missing)
    return Markdown(f"**Missing in this build** and not shown: {names}.")


def leader_board(runs: Sequence[Run], y_test: np.ndarray) -> Table:
    """All models by mean test accuracy, with ranks that chance allows for.

    A rank is one more than the number of models that are better by an exact McNemar
    test on the lowest seed of each, Holm over all pairs. Models that share a letter
    cannot be told apart.
    """
    scores = comparison.scores(runs)
    if not scores:
        return Table(pd.DataFrame(), "There are no runs to show here.")
    values, p_values = comparison.pairwise(runs, y_test)
    ranks = stats.ranks(values, p_values)
    groups = stats.groups(values, p_values)
    letters = {
        name: " ".join(
            letter
            for letter, group in zip(_letters(len(groups)), groups, strict=True)
            if name in group
        )
        for name in scores
    }
    timed = comparison.timed_alike(runs)
    rows = []
    for name in sorted(scores, key=lambda name: (ranks[name], -scores[name].mean)):
        score, first = scores[name], scores[name].runs[0]
        calibration = stats.calibration(
            first.predictions()[1], comparison.answers(first, y_test)
        )
        seeds = score.seeds
        rows.append(
            {
                "rank": ranks[name],
                "alike": letters[name],
                "model": name,
                "seeds": len(score.runs),
                "mean accuracy (%)": percent(score.mean),
                "95 % of the mean (%)": percent_range(seeds) if seeds else "",
                "lowest seed (%)": percent(accuracy(first)),
                "its 95 % of the images (%)": percent_range(score.images),
                "its calibration error (points)": f"{100 * calibration.error:.2f}",
                "parameters": f"{first.record['params']:,}",
                "multiply-adds": f"{first.record['macs']:,}",
                "CPU seconds": _seconds([run for run in score.runs if run in timed]),
                "records by seed": record_links(score.runs),
            }
        )
    few = [name for name, score in scores.items() if score.seeds is None]
    text = (
        "Rank: one more than the number of models that are better by an exact McNemar "
        "test, 5 % for all pairs together after Holm. It compares two trained "
        "networks, the lowest seed of each, so luck of the seed is still in it. Models "
        "that share a letter cannot be told apart. Of the images: Wilson's interval of "
        "the lowest seed, where its accuracy on all digits of this kind lies. The "
        "calibration error is its, too; only the mean is of all seeds."
    )
    if few:
        text += (
            f" An interval of the mean needs {LEAST_SEEDS} seeds; {len(few)} of "
            f"{len(scores)} models have fewer."
        )
    if len(timed) < len(runs):
        text += f" CPU seconds are of the {len(timed)} runs on like machines only."
    return Table(pd.DataFrame(rows), f"{amount(runs)} {text}")


def _letters(count: int) -> list[str]:
    """A to z, then aa, ab and so on."""
    return [
        (ascii_lowercase[i // 26 - 1] if i >= 26 else "") + ascii_lowercase[i % 26]
        for i in range(count)
    ]


def _seconds(runs: Sequence[Run]) -> str:
    """The mean of what training took; empty for no runs."""
    seconds = [run.record["cpu_seconds"] for run in runs]
    return f"{np.mean(seconds):,.0f}" if seconds else ""


def pairs() -> Table:
    """The fair pairs of 2019 and what they differ in, computed from the experiments."""
    known = {e.name: e for family in FAMILIES.values() for e in family}
    rows = []
    for plain, other in FAIR_PAIRS:
        one, two = known[plain], known[other]
        row = {"pair": f"{plain} and {other}"}
        for what, described in (
            ("dropouts", lambda e: len(dropout_rates(e))),
            ("batch normalisations", _batchnorms),
            ("penalty", regularization),
            ("start values", _initializers),
        ):
            before, after = described(one), described(two)
            row[what] = f"{before} → {after}" if before != after else "the same"
        rows.append(row)
    return Table(
        pd.DataFrame(rows),
        "Convolutions, pooling, dense units and recipe are the same.",
    )


def _batchnorms(experiment: Experiment) -> int:
    return sum(layer.kind == "BatchNormalization" for layer in experiment.layers)


def _initializers(experiment: Experiment) -> str:
    found = (layer.settings.get("kernel_initializer") for layer in experiment.layers)
    return ", ".join(dict.fromkeys(name for name in found if name))
