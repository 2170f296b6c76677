"""2019's conclusions and contradictions, with the figures that bear on each.

Contradictions are computed from the experiments and the reported figures.
"""

import html
from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML

from mnistlab import models, reported
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.study import Gathered
from mnistlab.tables import (
    Table,
    amount,
    convolutions,
    dropout_rates,
    has_batchnorm,
    record_link,
    regularization,
)

ALL = {
    experiment.name: experiment
    for family in models.FAMILIES.values()
    for experiment in family
    if experiment.name in reported.finals()
}


def conclusions() -> Table:
    """All conclusions, a row each."""
    rows = [
        {"id": c.id, "2019, source": c.source, "says": c.sentence, "test it as": c.test}
        for c in reported.conclusions()
    ]
    return Table(pd.DataFrame(rows), prose=True)


def epochs_to(run: Run, accuracy: float) -> int | None:
    """The first epoch whose test accuracy reaches a level (0 to 1), or None."""
    reached = (e["epoch"] for e in run.history if e["val_accuracy"] >= accuracy)
    return next(reached, None)


def figures(conclusion: reported.Conclusion, gathered: Gathered) -> HTML:
    """The figures that bear on a conclusion.

    One table has 2019's last epoch and every run that compares with it; a second one
    has this build's runs if they do not.
    """
    names = conclusion.models
    runs = [run for run in [*gathered.evidence, *gathered.runs] if run.name in names]
    comparable = {run.key16: run for run in runs if run.compares_with_2019}
    rest = [run for run in runs if not run.compares_with_2019]
    rows = []
    for name in names:
        rows.append(_figures_2019(name))
        rows += [_figures(run) for run in comparable.values() if run.name == name]
    parts = [
        f"<h3>{conclusion.id}: {conclusion.sentence}</h3>",
        f"<p>Test: {conclusion.test}</p>",
        Table(pd.DataFrame(rows), "2019, and runs of its whole recipe")._repr_html_(),
    ]
    if rest:
        caption = (
            f"These runs are shorter than 2019's and decide nothing: {amount(rest)}"
        )
        frame = pd.DataFrame([_figures(run) for run in rest])
        parts.append(Table(frame, caption)._repr_html_())
    return HTML("".join(parts))


def _figures_2019(name: str) -> dict[str, object]:
    final, last = reported.finals()[name], reported.history(name)[-1]
    return {
        "model": name,
        "run": "2019",
        "training loss": _decimals(last["loss"]),
        "test loss": _decimals(final.test_loss),
        "test accuracy (%)": f"{100 * final.test_accuracy:.2f}",
    }


def _figures(run: Run) -> dict[str, object]:
    record, last = run.record, run.history[-1]
    best = min(run.history, key=lambda epoch: epoch["val_cross_entropy"])
    reached = epochs_to(run, 0.985)
    where = "evidence" if run.status == "evidence" else "this build"
    return {
        "model": run.name,
        "run": f"{where}, seed {run.seed}",
        "training loss": _decimals(last["loss"]),
        "test loss": _decimals(record["test"]["loss"]),
        "test accuracy (%)": f"{100 * record['test']['accuracy']:.2f}",
        "cross-entropy, training": _decimals(record["train"]["cross_entropy"]),
        "cross-entropy, test": _decimals(record["test"]["cross_entropy"]),
        "best epoch": f"{best['epoch']} of {record['epochs']}",
        "epochs to 98.5 %": "not reached" if reached is None else str(reached),
        "CPU seconds": f"{record['cpu_seconds']:.0f}",
        "record": record_link(run),
    }


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def weight_shapes(names: Sequence[str], runs: Sequence[Run]) -> Table:
    """Skewness and excess kurtosis of every kernel; both are 0 for a Gaussian."""
    rows = [
        {
            "model": run.name,
            "seed": run.seed,
            "kernel": kernel["name"],
            "skewness": f"{kernel['skewness']:+.2f}",
            "excess kurtosis": f"{kernel['excess_kurtosis']:+.2f}",
            "record": record_link(run),
        }
        for run in runs
        if run.name in names
        for kernel in run.record["kernels"]
    ]
    return Table(pd.DataFrame(rows))


def fifth_weight(experiment: Experiment) -> str:
    """What `get_weights()[4]` of a model is, 2019's "Output Layer" of every violin."""
    names = []
    ordinal = 0
    for layer in experiment.layers:
        if layer.kind in ("Conv2D", "Dense"):
            ordinal += 1
            kind = "convolution" if layer.kind == "Conv2D" else "dense layer"
            names += [f"kernel of {kind} {ordinal}", f"bias of {kind} {ordinal}"]
        elif layer.kind == "BatchNormalization":
            names += [
                f"batch-normalisation {part}"
                for part in ("gamma", "beta", "moving mean", "moving variance")
            ]
    names += ["kernel of the output layer", "bias of the output layer"]
    return names[4]


def contradictions() -> Table:
    """Where 2019 contradicts itself: what it said, and what is computed today."""
    final, entry = reported.finals(), reported.entry
    rows = []

    def add(number: int, model: str, subject: str, said: object, found: object):
        rows.append(
            {
                "no.": number,
                "model": model,
                "subject": subject,
                "2019 says": html.escape(str(said)),
                "its code or log says": html.escape(str(found)),
            }
        )

    deep = len(convolutions(ALL["conv5_b34"]))
    said = entry("B", "conv5_b34", "#ConvNets")
    add(1, "B34", "convolutions, B's table", said, deep)
    for name in ("conv5_b51", "conv5_b52"):
        has = bool(dropout_rates(ALL[name])), has_batchnorm(ALL[name])
        for column, value in zip(("Dropout", "BatchNormalization"), has, strict=True):
            add(2, _short(name), column, entry("B", name, column), value)
    for name in ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32"):
        value = bool(dropout_rates(ALL[name]))
        add(2, _short(name), "Dropout", entry("B", name, "Dropout"), value)
    strides = {
        "x".join(map(str, conv["strides"]))
        for name, experiment in ALL.items()
        if final[name].letter == "B"
        for conv in convolutions(experiment)
    }
    said = entry("B", "conv2_b21", "Stride")
    add(2, "all of B", "stride of the convolutions", said, ", ".join(sorted(strides)))
    a3 = ALL["conv3_a3"]
    said = entry("A", "conv3_a3", "optimizer")
    add(3, "A3", "optimizer", said, a3.recipe.optimizer.kind)
    said = entry("A", "conv3_a3", "dropout")
    add(3, "A3", "dropout", said, "Yes" if dropout_rates(a3) else "No")
    d1, d3 = reported.history("conv3_d1"), reported.history("conv7_d3")
    said = entry("D", "conv3_d1", "test accuracy")
    add(4, "D1", "test accuracy", said, d1[-1]["val_accuracy"])
    add(4, "D1", "test loss", final["conv3_d1"].test_loss, d1[-1]["val_loss"])
    best = max(epoch["accuracy"] for epoch in d1)
    said = entry("D", "conv3_d1", "training accuracy")
    add(4, "D1", "training accuracy, best epoch", said, best)
    best = max(epoch["accuracy"] for epoch in d3)
    said = entry("D", "conv7_d3", "training accuracy")
    add(4, "D3", "training accuracy, best epoch", said, best)
    third = [fifth_weight(experiment) for experiment in ALL.values()]
    right = [_short(n) for n, w in zip(ALL, third, strict=True) if "output" in w]
    mean = f"the output kernel for {', '.join(right)} only, else such as {third[-1]}"
    add(5, "all", "third weight violin", "Output Layer", mean)
    add(6, "all", "validation data", "validation loss", "the test set, in all five")
    add(6, "C1 to C3", "variable testloss", "loss on the test set", "training loss")
    sizes = {ALL[n].recipe.batch_size for n in ALL if final[n].letter == "C"}
    said = entry("C", "conv2_c1", "batch size")
    add(7, "C1 to C3", "batch size", said, ", ".join(map(str, sizes)))
    for table, name, column, value in (
        ("A", "conv2_a2", "training accuracy", final["conv2_a2"].train_accuracy),
        ("A", "conv3_a3", "test accuracy", final["conv3_a3"].test_accuracy),
        ("C", "conv2_c1", "test accuracy", final["conv2_c1"].test_accuracy),
    ):
        said = entry(table, name, column)
        digits = len(said.partition(".")[2])
        found = f"{value}; to {digits} digits {value:.{digits}f}, to 3 {value:.3f}"
        add(8, _short(name), f"{column}, {table}'s table", said, found)
    b = {name: final[name].test_accuracy for name in final if final[name].letter == "B"}
    top = max(b, key=b.__getitem__)
    penalty = regularization(ALL[top])
    add(
        9,
        "B",
        "regularised models",
        "end less accurate",
        f"B24 {b['conv2_b24']} beats B22 {b['conv2_b22']}; best is {_short(top)} "
        f"{b[top]} with {penalty}",
    )
    return Table(
        pd.DataFrame(rows),
        "The last column is computed from the experiments and the reported figures.",
        prose=True,
    )


def _short(name: str) -> str:
    return name.rpartition("_")[2].upper()


def headline() -> str:
    """What the page holds, counted."""
    return (
        f"{len(reported.conclusions())} conclusions of 2019 and "
        f"{contradictions().frame['no.'].nunique()} contradictions, with their figures"
    )
