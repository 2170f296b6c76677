"""Where 2019 contradicts itself, computed from the experiments and reported figures."""

import pandas as pd

from mnistlab import models, reported
from mnistlab.models.experiment import Experiment
from mnistlab.tables.architectures import (
    convolutions,
    dropout_rates,
    has_batchnorm,
    regularization,
)
from mnistlab.tables.base import Table

ALL = {
    experiment.name: experiment
    for family in models.FAMILIES.values()
    for experiment in family
    if experiment.name in reported.finals()
}


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

    def add(number: int, model: str, subject: str, said: object, found: object) -> None:
        rows.append(
            {
                "no.": number,
                "model": model,
                "subject": subject,
                "2019 says": str(said),
                "its code or log says": str(found),
            }
        )

    deep = len(convolutions(ALL["conv5_b34"]))
    said = entry("B", "conv5_b34", "#ConvNets")
    add(1, "B34", "convolutions, B's table", said, deep)
    for name in ("conv5_b51", "conv5_b52"):
        has = bool(dropout_rates(ALL[name])), has_batchnorm(ALL[name])
        for column, value in zip(("Dropout", "BatchNormalization"), has, strict=True):
            add(2, _short(name), column, entry("B", name, column), value)
    plain = ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")
    said = ", ".join(entry("B", name, "Dropout") for name in plain)
    found = ", ".join(str(bool(dropout_rates(ALL[name]))) for name in plain)
    add(2, "B21, B22, B31, B32", "Dropout, by model", said, found)
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
    best = max(epoch["accuracy"] or 0 for epoch in d1)
    said = entry("D", "conv3_d1", "training accuracy")
    add(4, "D1", "training accuracy, best epoch", said, best)
    best = max(epoch["accuracy"] or 0 for epoch in d3)
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
    for table, name, column, exact in (
        ("A", "conv2_a2", "training accuracy", final["conv2_a2"].train_accuracy),
        ("A", "conv3_a3", "test accuracy", final["conv3_a3"].test_accuracy),
        ("C", "conv2_c1", "test accuracy", final["conv2_c1"].test_accuracy),
    ):
        said = entry(table, name, column)
        found = f"{exact}, which to 3 digits is {exact:.3f}"
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
    hidden = sum(layer.kind == "Dense" for layer in ALL["mlp_e3"].layers)
    found = f"{hidden} hidden dense layers, as its summary says"
    add(10, "E3", "code against summary", "fewer layers in its code", found)
    return Table(
        pd.DataFrame(rows),
        "The last column is computed from the experiments and the reported figures, "
        "but for no. 6, which is what the notebooks' own code does. Of E3 the summary "
        "decides.",
        prose=True,
    )


def _short(name: str) -> str:
    return name.rpartition("_")[2].upper()
