"""The tables of 2019, computed, and what 2019 printed beside today's runs.

Every cell is computed from an experiment and its run, so a table cannot contradict
the code, as 2019's did.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from prettytable import PrettyTable

from mnistlab import reported
from mnistlab.judging import (
    Reproduction,
    accuracy,
    comparable,
    reproduction,
    trajectory,
)
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.tables.architectures import (
    convolutions,
    distinct,
    dropout_rates,
    filters,
    has_batchnorm,
    regularization,
)
from mnistlab.tables.base import (
    Table,
    percent,
    percent_range,
    record_links,
    versions_note,
)


def _of_letter(letter: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of the models of one 2019 notebook."""
    finals = reported.finals()
    return [r for r in runs if r.name in finals and finals[r.name].letter == letter]


def _row_name(run: Run) -> str:
    """A run's name as 2019 would have it, and its seed unless that is 0."""
    return run.name if run.seed == 0 else f"{run.name}, seed {run.seed}"


def table_a(runs: Sequence[Run]) -> PrettyTable:
    """2019's table of A, computed: PrettyTable."""
    table = PrettyTable()
    table.field_names = [
        "model", "kernels", "pooling", "dropout", "batch normalisation", "optimizer",
        "training accuracy", "test accuracy",
    ]  # fmt: skip
    for run in _of_letter("A", runs):
        experiment = run.experiment
        pools = [x.settings for x in experiment.layers if x.kind == "MaxPooling2D"]
        table.add_row(
            [
                _row_name(run),
                filters(experiment),
                distinct(f"{p['pool_size'][0]}x{p['pool_size'][1]}" for p in pools),
                distinct(dropout_rates(experiment)),
                "yes" if has_batchnorm(experiment) else "no",
                experiment.recipe.optimizer.kind,
                f"{run.history[-1]['accuracy']:.4f}",
                f"{run.record['test']['accuracy']:.4f}",
            ]
        )
    return table


def table_b(runs: Sequence[Run]) -> pd.DataFrame:
    """2019's table of B, computed: a row a run, its model the index."""
    rows = {}
    for run in _of_letter("B", runs):
        experiment = run.experiment
        convs = convolutions(experiment)
        rows[_row_name(run)] = {
            "#ConvNets": len(convs),
            "#Kernels/Filters": filters(experiment),
            "Padding": distinct(conv["padding"] for conv in convs),
            "Stride": distinct("x".join(map(str, c["strides"])) for c in convs),
            "Dropout": bool(dropout_rates(experiment)),
            "BatchNormalization": has_batchnorm(experiment),
            "Regularization": regularization(experiment),
            "TRAIN_LOSS": round(run.history[-1]["loss"], 5),
            "TEST_LOSS": round(run.record["test"]["loss"], 5),
            "TRAIN_ACC": round(run.history[-1]["accuracy"], 5),
            "TEST_ACC": round(run.record["test"]["accuracy"], 5),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return frame.rename_axis("model")


def table_c(runs: Sequence[Run]) -> pd.DataFrame:
    """2019's table of C, computed: a row a run, its model the index."""
    rows = {}
    for run in _of_letter("C", runs):
        experiment = run.experiment
        rows[_row_name(run)] = {
            "filters per layer": filters(experiment),
            "conv layers": len(convolutions(experiment)),
            "test accuracy": round(run.record["test"]["accuracy"], 4),
            "test score": round(run.record["test"]["loss"], 6),
            "dropout": distinct(dropout_rates(experiment)),
            "batch normalisation": has_batchnorm(experiment),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def table_d(runs: Sequence[Run]) -> PrettyTable:
    """2019's table of D, computed: PrettyTable. Time is that of training alone."""
    table = PrettyTable()
    table.field_names = ["model", "training accuracy", "test accuracy", "time taken"]
    for run in _of_letter("D", runs):
        minutes, seconds = divmod(round(run.record["seconds"]), 60)
        hours, minutes = divmod(minutes, 60)
        table.add_row(
            [
                _row_name(run),
                f"{run.history[-1]['accuracy']:.4f}",
                f"{run.record['test']['accuracy']:.4f}",
                f"{hours}:{minutes:02}:{seconds:02}",
            ]
        )
    return table


def as_2019(runs: Sequence[Run]) -> HTML:
    """2019's own tables, filled from these runs: those of them that have a row."""
    parts = []
    for letter, table in (
        ("A", table_a),
        ("B", table_b),
        ("C", table_c),
        ("D", table_d),
    ):
        if _of_letter(letter, runs):
            made = table(runs)
            if isinstance(made, pd.DataFrame):
                made = Table(made.reset_index(names="run"))
            parts.append(f"<p><strong>Table of {letter}</strong></p>")
            parts.append(made._repr_html_())
    if not runs:
        return HTML("<p>There are no runs to show here.</p>")
    return HTML("".join(parts) or "<p>2019 made no table of these models.</p>")


def reported_2019(experiments: Sequence[Experiment]) -> Table:
    """What 2019 printed for these experiments, without anything of today."""
    finals = [reported.finals()[e.name] for e in experiments if _is_of_2019(e)]
    rows = [
        {
            "model": final.name,
            "training accuracy (%)": _maybe_percent(final.train_accuracy),
            "test accuracy (%)": percent(final.test_accuracy),
            "test loss": f"{final.test_loss:.4f}",
            "time": final.time,
        }
        for final in finals
    ]
    frame = pd.DataFrame(rows)
    if not any(row["time"] for row in rows):
        frame = frame.drop(columns="time", errors="ignore")
    return Table(frame, "2019: one run each, validated on the test set.")


def _is_of_2019(experiment: Experiment) -> bool:
    return experiment.name in reported.finals()


def _maybe_percent(value: float | None) -> str:
    return "not printed" if value is None else percent(value)


def row_beside_2019(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """2019's figures of a model beside those of its runs that compare, as text.

    Ours are those of the planned seeds; of all there are if one of these is missing.
    """
    own = comparable(runs).get(name, {}).values()
    at_end, on_the_way = reproduction(name, runs), trajectory(name, runs)
    between = percent_range(at_end.interval) if at_end.interval is not None else ""
    ours = at_end.values or [accuracy(run) for run in own]
    return {
        "model": name,
        "2019 (%)": percent(at_end.reported),
        "ours (%)": percent(float(np.mean(ours))) if ours else "",
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
) -> Table:
    """2019's test accuracy and training losses beside ours, with a verdict on each.

    Only runs of the whole 2019 recipe on all of MNIST count; a model without one has
    none. The rules are `mnistlab.judging.reproduction` and `trajectory`.
    """
    known = [run for run in [*evidence, *runs] if run.compares_with_2019]
    found = comparable(known)
    rows = [
        row_beside_2019(experiment.name, known)
        for experiment in experiments
        if _is_of_2019(experiment)
    ]
    for row in rows:  # the planned seeds are the first ones
        own = list(found.get(row["model"], {}).values())
        row["seeds"] = record_links(own[: row["seeds"]])
    return Table(pd.DataFrame(rows), _why_not(runs) + versions_note(known))


def ratio(found: Reproduction) -> str:
    """The mean ratio of losses, and where one more run's would be with 95 %.

    >>> from mnistlab.stats import Interval
    >>> ratio(Reproduction("", (1.0, 1.21), 1.0, Interval(0.9, 1.3)))
    '1.10 (0.90 to 1.30)'
    """
    if found.interval is None:
        return ""
    mean = np.exp(np.mean(np.log(found.values)))
    return f"{mean:.2f} ({found.interval.low:.2f} to {found.interval.high:.2f})"


def _why_not(runs: Sequence[Run]) -> str:
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
    return text
