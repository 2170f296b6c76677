"""Rules for the conclusions of notebook A: three convolutions against two."""

from mnistlab import reported
from mnistlab.claims.measures import difference, epochs_to, values_of
from mnistlab.comparison import ran_alike
from mnistlab.judging import POINT, Part, Runs, accuracy
from mnistlab.models.controls import conv3_a4_no_first_dropout
from mnistlab.runs import Run

# Thresholds, of accuracies as fractions.
FAST_ACCURACY = 0.985  # what is to be reached
A4_ORDINARY = 0.9714  # A-2: between 2019's 0.9625 and its epoch before, 0.9803
A3_ORDINARY = 0.9803  # what A4 had one epoch earlier


def _epochs_to_fast(run: Run) -> int | None:
    return epochs_to(run, "val_accuracy", lambda value: value >= FAST_ACCURACY)


def _seconds_to_fast(run: Run) -> float | None:
    """Processor time to the accuracy, or None."""
    epochs = _epochs_to_fast(run)
    if epochs is None:
        return None
    return sum(entry["cpu_seconds"] for entry in run.history[:epochs])


def a1(runs: Runs) -> list[Part]:
    """Epochs and processor time to 98.5 % test accuracy.

    A model that does not reach it counts as one epoch more than there were, and has no
    processor time to it; A3's counts as infinite where the other has one. A seed in
    which neither reaches it has no value. Times are compared on one machine only.
    """

    def fewer(other: Run, own: Run) -> float | None:
        a, b = _epochs_to_fast(other), _epochs_to_fast(own)
        if a is None and b is None:
            return None
        after = own.record["epochs"] + 1
        return float((a or after) - (b or after))

    def cheaper(other: Run, own: Run) -> float | None:
        a, b = _seconds_to_fast(other), _seconds_to_fast(own)
        if a is None or not ran_alike(other, own):
            return None
        return a / b if b is not None else 0.0

    parts = []
    for other in ("conv3_a1", "conv2_a2"):
        names = (other, "conv3_a3")
        parts += [
            Part(
                "A3 reaches 98.5 % test accuracy in fewer epochs",
                f"{other} minus conv3_a3",
                "epochs",
                **values_of(runs, names, fewer),
                low=0,
                margin=1.5,
            ),
            Part(
                "A3 reaches it in less processor time",
                f"{other} over conv3_a3",
                "ratio of CPU seconds",
                **values_of(runs, names, cheaper),
                low=1,
                margin=0.25,
            ),
        ]
    return parts


def a2(runs: Runs) -> list[Part]:
    """That the score is low again, and that one of the two causes is seen."""

    def blamed(a4: Run, control: Run, a3: Run) -> float:
        by_dropout = accuracy(control) - accuracy(a4) - 0.5 * POINT
        return max(by_dropout, A3_ORDINARY - accuracy(a3))

    names = ("conv3_a4", conv3_a4_no_first_dropout.name, "conv3_a3")
    return [
        Part(
            "A4 ends below 97.14 % again",
            "conv3_a4",
            "test accuracy",
            **values_of(runs, names[:1], accuracy),
            high=A4_ORDINARY,
            margin=0.5 * POINT,
            reported=reported.finals()["conv3_a4"].test_accuracy,
        ),
        Part(
            "without that dropout A4 gains half a point, or A3, which also has 3x3 "
            "after 5x5, stays below 98.03 %",
            "conv3_a4",
            "accuracy beyond the larger of the two limits",
            **values_of(runs, names, blamed),
            low=0,
            margin=0.5 * POINT,
        ),
    ]


def a3(runs: Runs) -> list[Part]:
    """A4 with and without its first dropout; nothing else differs."""
    statement = "A4 scores higher without its first dropout"
    return [difference(runs, statement, conv3_a4_no_first_dropout.name, "conv3_a4")]
