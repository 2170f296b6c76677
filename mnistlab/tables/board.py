"""Tables of scores: every run, the leader board of models, what pairs differ in."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from mnistlab import comparison
from mnistlab.claims import FAIR_PAIRS
from mnistlab.comparison import Gathered
from mnistlab.judging import LEAST_SEEDS
from mnistlab.models import COLLECTION
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.tables import base
from mnistlab.tables.architectures import distinct, regularization, settings


def scores(runs: Sequence[Run]) -> base.Table:
    """Scores of each run in percent, plain cross-entropy, time, and its record."""
    if not runs:
        return base.Table(pd.DataFrame(), "There are no runs to show here.")
    rows = [
        {
            "model": run.name,
            "seed": run.seed,
            "epochs": run.record["epochs"],
            "training accuracy (%)": base.percent(run.history[-1]["accuracy"]),
            "test accuracy (%)": base.percent(run.record["test"]["accuracy"]),
            "test cross-entropy": f"{run.record['test']['cross_entropy']:.4f}",
            "test loss": f"{run.record['test']['loss']:.4f}",
            "CPU seconds": f"{run.record['cpu_seconds']:.1f}",
            "record": base.record_link(run),
        }
        for run in runs
    ]
    note = (
        " The loss adds the L2 penalty to the cross-entropy. Training accuracy is the "
        "mean over the last epoch, with dropout on."
    )
    return base.Table(pd.DataFrame(rows), base.amount(runs) + note)


def missing(gathered: Gathered) -> Markdown:
    """A sentence that names the runs this build does not have."""
    if not gathered.missing:
        return Markdown("No run that was asked for is missing.")
    names = ", ".join(spec.title for spec in gathered.missing)
    return Markdown(f"**Missing in this build** and not shown: {names}.")


def leader_board(runs: Sequence[Run], y_test: np.ndarray) -> base.Table:
    """All models by test accuracy, with the ranks that chance allows for.

    The ranks are those of the two-way bootstrap (`mnistlab.stats.bootstrap_ranks`); a
    model with fewer than three seeds has none.
    """
    scores = comparison.scores(runs)
    if not scores:
        return base.Table(pd.DataFrame(), "There are no runs to show here.")
    ranks = comparison.ranks(runs, y_test)
    timed = comparison.timed_alike(runs)
    rows = []
    for name, score in scores.items():
        record, rank = score.runs[0].record, ranks.get(name)
        seconds = [run.record["cpu_seconds"] for run in score.runs if run in timed]
        rows.append(
            {
                "model": name,
                "seeds": base.record_links(score.runs),
                "accuracy (%)": base.percent(score.mean),
                "rank, 95 %": f"{rank.low} to {rank.high}" if rank else "",
                "first (% of draws)": f"{100 * rank.first:.0f}" if rank else "",
                "parameters": f"{record['params']:,}",
                "CPU seconds": f"{np.mean(seconds):,.0f}" if seconds else "",
            }
        )
    text = (
        "<strong>Accuracy</strong>: share of the test images that are right after the "
        "last epoch, the mean of all seeds there are (2019 is compared with the "
        "planned ones only); each seed is a link to its record. <strong>Rank</strong>: "
        f"where the model stands among the {len(ranks)} with {LEAST_SEEDS} seeds or "
        "more, with other seeds and other test images drawn 2,000 times (two-way "
        "bootstrap): 95 % of the draws lie within; models whose ranks overlap are not "
        "clearly apart. Models with fewer seeds stand below. "
        "<strong>First</strong>: in how many draws no model is more accurate."
    )
    if len(timed) < len(runs):
        text += f" CPU seconds: of the {len(timed)} runs on like machines only."
    return base.Table(pd.DataFrame(rows), f"{base.amount(runs)} {text}")


def pairs() -> base.Table:
    """The fair pairs of 2019 and what they differ in, computed from the experiments."""
    rows = []
    for plain, other in FAIR_PAIRS:
        one, two = COLLECTION[plain], COLLECTION[other]
        row = {"pair": f"{plain} and {other}"}
        for what, described in (
            ("dropouts", lambda e: len(settings(e, "Dropout"))),
            ("batch normalisations", lambda e: len(settings(e, "BatchNormalization"))),
            ("penalty", regularization),
            ("start values", _initializers),
        ):
            before, after = described(one), described(two)
            row[what] = f"{before} → {after}" if before != after else "the same"
        rows.append(row)
    return base.Table(
        pd.DataFrame(rows),
        "Convolutions, pooling, dense units and recipe are the same.",
    )


def _initializers(experiment: Experiment) -> str:
    found = (layer.settings.get("kernel_initializer") for layer in experiment.layers)
    return distinct(name for name in found if name)
