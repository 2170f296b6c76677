"""Where 2019 contradicts itself, computed from the experiments and reported figures."""

import pandas as pd

from mnistlab import reported
from mnistlab.models import COLLECTION
from mnistlab.models.experiment import Experiment, layer_names, with_output
from mnistlab.tables.architectures import crossed, regularization, settings
from mnistlab.tables.base import Table

ALL = {name: COLLECTION[name] for name in reported.finals()}


def fifth_weight(experiment: Experiment) -> str:
    """What `get_weights()[4]` of a model is, 2019's "Output Layer" of every violin."""
    names = []
    for name, layer in zip(
        layer_names(experiment), with_output(experiment), strict=True
    ):
        if layer.kind in ("Conv2D", "Dense"):
            names += [f"kernel of {name}", f"bias of {name}"]
        elif layer.kind == "BatchNormalization":
            parts = ("gamma", "beta", "moving mean", "moving variance")
            names += [f"{part} of {name}" for part in parts]
    return names[4]


def contradictions() -> Table:
    """Where 2019 contradicts itself: what it said, and what is computed today."""
    final = reported.finals()
    of_b = {name: e for name, e in ALL.items() if final[name].letter == "B"}
    of_c = [e for name, e in ALL.items() if final[name].letter == "C"]
    convs = sum((settings(e, "Conv2D") for e in of_b.values()), [])
    strides = {crossed(conv["strides"]) for conv in convs}
    plain = ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")
    has_dropout = {name: bool(settings(e, "Dropout")) for name, e in ALL.items()}
    a3, d1 = ALL["conv3_a3"], reported.history("conv3_d1")[-1]
    third = {name: fifth_weight(e) for name, e in ALL.items()}
    right = ", ".join(reported.short(n) for n, w in third.items() if "output" in w)
    accuracies = {name: final[name].test_accuracy for name in of_b}
    top = max(accuracies, key=accuracies.__getitem__)
    penalty = regularization(ALL[top])

    def said(name: str, column: str) -> str:
        return reported.entries()[final[name].letter, name, column]

    def best(name: str) -> float:
        return max(epoch["accuracy"] or 0 for epoch in reported.history(name))

    rows = [
        (1, "B34", "convolutions, B's table", said("conv5_b34", "#ConvNets"),
         len(settings(ALL["conv5_b34"], "Conv2D"))),
        *((2, reported.short(name), column, said(name, column), has)
          for name in ("conv5_b51", "conv5_b52")
          for column in ("Dropout", "BatchNormalization")
          for has in [bool(settings(ALL[name], column))]),
        (2, "B21, B22, B31, B32", "Dropout, by model",
         ", ".join(said(name, "Dropout") for name in plain),
         ", ".join(str(has_dropout[name]) for name in plain)),
        (2, "all of B", "stride of the convolutions", said("conv2_b21", "Stride"),
         ", ".join(sorted(strides))),
        (3, "A3", "optimizer", said("conv3_a3", "optimizer"), a3.recipe.optimizer.kind),
        (3, "A3", "dropout", said("conv3_a3", "dropout"),
         "Yes" if has_dropout["conv3_a3"] else "No"),
        (4, "D1", "test accuracy", said("conv3_d1", "test accuracy"),
         d1["val_accuracy"]),
        (4, "D1", "test loss", final["conv3_d1"].test_loss, d1["val_loss"]),
        *((4, reported.short(name), "training accuracy, best epoch",
           said(name, "training accuracy"), best(name))
          for name in ("conv3_d1", "conv7_d3")),
        (5, "all", "third weight violin", "Output Layer", "the output kernel for "
         f"{right} only, else such as {third['conv7_d3']}"),
        (6, "all", "validation data", "validation loss", "the test set, in all five"),
        (6, "C1 to C3", "variable testloss", "loss on the test set", "training loss"),
        (7, "C1 to C3", "batch size", said("conv2_c1", "batch size"),
         ", ".join({str(e.recipe.batch_size) for e in of_c})),
        *((8, reported.short(name), f"{column}, {final[name].letter}'s table",
           said(name, column), f"{exact}, which to 3 digits is {exact:.3f}")
          for name, column, exact in (
              ("conv2_a2", "training accuracy", final["conv2_a2"].train_accuracy),
              ("conv3_a3", "test accuracy", final["conv3_a3"].test_accuracy),
              ("conv2_c1", "test accuracy", final["conv2_c1"].test_accuracy))),
        (9, "B", "regularised models", "end less accurate",
         f"B24 {accuracies['conv2_b24']} beats B22 {accuracies['conv2_b22']}; best is "
         f"{reported.short(top)} {accuracies[top]} with {penalty}"),
        (10, "E3", "code against summary", "fewer layers in its code",
         f"{len(settings(ALL['mlp_e3'], 'Dense'))} hidden dense layers, as its "
         "summary says"),
    ]  # fmt: skip
    names = ["no.", "model", "subject", "2019 says", "its code or log says"]
    return Table(
        pd.DataFrame(rows, columns=names).astype({name: str for name in names[3:]}),
        "The last column is computed from the experiments and the reported figures, "
        "but for no. 6, which is what the notebooks' own code does. Of E3 the summary "
        "decides.",
        prose=True,
    )
