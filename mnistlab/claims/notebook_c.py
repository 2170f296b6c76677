"""Rules for the conclusions of notebook C: two, five and seven convolutions."""

from mnistlab.claims.measures import difference, epochs_to, values_of
from mnistlab.judging import POINT, Part, Runs, accuracy
from mnistlab.runs import Run

CONVERGED = 0.1  # C-1: the training loss to be reached


def c1(runs: Runs) -> list[Part]:
    """Epochs to a training loss of 0.1; not reached counts as one more than all."""

    def fewer(shallow: Run, deep: Run) -> float:
        a, b = (
            epochs_to(run, "loss", lambda value: value <= CONVERGED)
            or run.record["epochs"] + 1
            for run in (shallow, deep)
        )
        return float(a - b)

    return [
        Part(
            f"{deep} reaches a training loss of 0.1 in fewer epochs than {shallow}",
            f"{shallow} minus {deep}",
            "epochs",
            **values_of(runs, (shallow, deep), fewer),
            low=0,
            margin=1.5,
        )
        for shallow, deep in (("conv2_c1", "conv5_c2"), ("conv5_c2", "conv7_c3"))
    ]


def c2(runs: Runs) -> list[Part]:
    """Which is more accurate, and whether the deeper ones overfit more than C1."""

    def excess(deep: Run, shallow: Run) -> float:
        own, other = (
            run.record["train"]["accuracy"] - accuracy(run) for run in (deep, shallow)
        )
        return own - other

    higher = "C1, with the fewest convolutions, is the more accurate"
    overfit = "the deeper one overfits more than C1"
    deeper = ("conv5_c2", "conv7_c3")
    return [difference(runs, higher, "conv2_c1", name) for name in deeper] + [
        Part(
            overfit,
            name,
            "training minus test accuracy, less that of conv2_c1",
            **values_of(runs, (name, "conv2_c1"), excess),
            low=0,
            margin=0.2 * POINT,
        )
        for name in deeper
    ]
