"""The tables of 2019, computed, and what 2019 printed beside today's runs.

Every cell is computed from an experiment and its run, so a table cannot contradict
the code, as 2019's did.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from prettytable import PrettyTable

from mnistlab import judging, reported
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.tables import architectures, base


def _cells(letter: str, run: Run) -> dict[str, Any]:
    """A run's row of a 2019 notebook's table, by 2019's column."""
    experiment, test, last = run.experiment, run.record["test"], run.history[-1]
    convs = architectures.settings(experiment, "Conv2D")
    rates = [layer["rate"] for layer in architectures.settings(experiment, "Dropout")]
    dropouts = architectures.distinct(rates)
    has_batchnorm = bool(architectures.settings(experiment, "BatchNormalization"))
    if letter == "A":
        pools = architectures.settings(experiment, "MaxPooling2D")
        return {
            "kernels": architectures.filters(experiment),
            "pooling": architectures.distinct(
                architectures.crossed(pool["pool_size"]) for pool in pools
            ),
            "dropout": dropouts,
            "batch normalisation": "yes" if has_batchnorm else "no",
            "optimizer": experiment.recipe.optimizer.kind,
            "training accuracy": f"{last['accuracy']:.4f}",
            "test accuracy": f"{test['accuracy']:.4f}",
        }
    if letter == "B":
        return {
            "#ConvNets": len(convs),
            "#Kernels/Filters": architectures.filters(experiment),
            "Padding": architectures.distinct(conv["padding"] for conv in convs),
            "Stride": architectures.distinct(
                architectures.crossed(conv["strides"]) for conv in convs
            ),
            "Dropout": dropouts != "-",
            "BatchNormalization": has_batchnorm,
            "Regularization": architectures.regularization(experiment),
            "TRAIN_LOSS": round(last["loss"], 5),
            "TEST_LOSS": round(test["loss"], 5),
            "TRAIN_ACC": round(last["accuracy"], 5),
            "TEST_ACC": round(test["accuracy"], 5),
        }
    if letter == "C":
        return {
            "filters per layer": architectures.filters(experiment),
            "conv layers": len(convs),
            "test accuracy": round(test["accuracy"], 4),
            "test score": round(test["loss"], 6),
            "dropout": dropouts,
            "batch normalisation": has_batchnorm,
        }
    return {
        "training accuracy": f"{last['accuracy']:.4f}",
        "test accuracy": f"{test['accuracy']:.4f}",
        "time taken": str(timedelta(seconds=round(run.record["seconds"]))),
    }


def table_2019(letter: str, runs: Sequence[Run]) -> PrettyTable | pd.DataFrame | None:
    """2019's table of A, B, C or D, filled from the runs of its models; None of none.

    A row is a run. A's and D's is a PrettyTable, B's and C's a DataFrame whose index is
    the model. Time is that of training alone.
    """
    finals = reported.finals()
    own = {
        run.name if run.seed == 0 else f"{run.name}, seed {run.seed}": run
        for run in runs
        if run.name in finals and finals[run.name].letter == letter
    }
    if not own:
        return None
    rows = {name: _cells(letter, run) for name, run in own.items()}
    if letter in "BC":
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table = PrettyTable(["model", *next(iter(rows.values()))])
    table.add_rows([[name, *row.values()] for name, row in rows.items()])
    return table


def as_2019(runs: Sequence[Run]) -> HTML:
    """2019's own tables, filled from these runs: those of them that have a row."""
    if not runs:
        return HTML("<p>There are no runs to show here.</p>")
    parts = []
    for letter in "ABCD":
        made = table_2019(letter, runs)
        if isinstance(made, pd.DataFrame):
            made = base.Table(made.reset_index(names="run"))
        if made is not None:
            parts.append(f"<p><strong>Table of {letter}</strong></p>")
            parts.append(made._repr_html_())
    return HTML("".join(parts) or "<p>2019 made no table of these models.</p>")


def reported_2019(experiments: Sequence[Experiment]) -> base.Table:
    """What 2019 printed for these experiments, without anything of today."""
    finals = reported.finals()
    rows = [
        {
            "model": final.name,
            "training accuracy (%)": "not printed"
            if final.train_accuracy is None
            else base.percent(final.train_accuracy),
            "test accuracy (%)": base.percent(final.test_accuracy),
            "test loss": f"{final.test_loss:.4f}",
            "time": final.time or None,
        }
        for final in (finals[e.name] for e in experiments if e.name in finals)
    ]
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")  # E printed no times
    return base.Table(frame, "2019: one run each, validated on the test set.")


def row_beside_2019(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """2019's figures of a model beside those of its runs that compare, as text.

    Ours are those of the planned seeds; of all there are if one of these is missing.
    """
    own = judging.comparable(runs).get(name, {}).values()
    at_end = judging.reproduction(name, runs)
    on_the_way = judging.trajectory(name, runs)
    between = base.percent_range(at_end.interval) if at_end.interval is not None else ""
    ours = at_end.values or [judging.accuracy(run) for run in own]
    return {
        "model": name,
        "2019 (%)": base.percent(at_end.reported),
        "ours (%)": base.percent(float(np.mean(ours))) if ours else "",
        "seeds": len(ours),
        "one more run, 95 % (%)": between,
        "accuracy": at_end.verdict,
        "2019's losses over ours": ratio(on_the_way),
        "training": on_the_way.verdict,
    }


def beside_2019(
    experiments: Sequence[Experiment],
    runs: Sequence[Run],
    evidence: Sequence[Run] = (),
) -> base.Table:
    """2019's test accuracy and training losses beside ours, with a verdict on each.

    Only runs of the whole 2019 recipe on all of MNIST count; a model without one has
    none. The rules are `mnistlab.judging.reproduction` and `trajectory`.
    """
    known = [run for run in [*evidence, *runs] if run.compares_with_2019]
    found = judging.comparable(known)
    rows = [
        row_beside_2019(experiment.name, known)
        for experiment in experiments
        if experiment.name in reported.finals()
    ]
    for row in rows:  # the planned seeds are the first ones
        own = list(found.get(row["model"], {}).values())
        row["seeds"] = base.record_links(own[: row["seeds"]])
    text = (
        "Test accuracy after the last epoch: 2019's is of one run, ours the mean of "
        "the planned seeds, or of those there are (links to their records). It is "
        "<em>reproduced</em> if 2019's lies where one more run of ours would with "
        "95 %, and that is at most half a point to each side; <em>not reproduced</em> "
        "if it lies outside. Losses: the mean ratio over all epochs that 2019 printed; "
        "1 is the same training. <em>Not tested</em>: fewer seeds than planned, or no "
        "printed loss. Of 28 true reproductions one or two fall outside by chance."
    )
    if not all(run.compares_with_2019 for run in runs):
        text += (
            " This build's own runs are not among them: only the whole recipe on all "
            "of MNIST under the protocol replicate compares (--profile full)."
        )
    return base.Table(pd.DataFrame(rows), text + base.versions_note(known))


def ratio(found: judging.Reproduction) -> str:
    """The mean ratio of losses, and where one more run's would be with 95 %.

    >>> from mnistlab.stats import Interval
    >>> ratio(judging.Reproduction("", (1.0, 1.21), 1.0, Interval(0.9, 1.3)))
    '1.10 (0.90 to 1.30)'
    """
    if found.interval is None:
        return ""
    mean = np.exp(np.mean(np.log(found.values)))
    return f"{mean:.2f} ({found.interval.low:.2f} to {found.interval.high:.2f})"
