"""What the index tells first: the question, 28 models then and now, what was found.

Every number and every verdict is computed from the committed runs.
"""

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistlab import claims, judging, reported
from mnistlab.data import Dataset
from mnistlab.models.controls import D2_DROPOUTS, conv3_a3_adadelta
from mnistlab.runs import KNOWN, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAILS = Path(__file__).parents[1] / "studies" / "c2_tails.json"
BEGINNING = 3  # epochs of a log that are compared
SMALL = (4.6, 2.6)  # inches of a picture that leads to a page


@dataclass(frozen=True)
class Story:
    """What stands on the index: sentences, a figure as PNG in base64, verdicts, finds.

    `verdicts` has, for each verdict that occurs, its conclusions' ids and sentences.
    `finds` lacks those whose runs are not committed.
    """

    sentences: list[str]
    figure: str
    alt: str
    verdicts: dict[str, list[tuple[str, str]]]
    finds: dict[str, str]


def tell(runs: Sequence[Run]) -> Story:
    """The story that runs tell; only whole recipes on all of MNIST count."""
    from mnistlab import plots

    figure = plots.then_and_now(runs)
    verdicts: dict[str, list[tuple[str, str]]] = {v: [] for v in claims.VERDICTS}
    judged = claims.judge_all(runs)
    for said in reported.conclusions():
        verdicts[judged[said.id].verdict].append((said.id, said.sentence))
    verdicts = {verdict: found for verdict, found in verdicts.items() if found}
    counts = ", ".join(f"{len(found)} {verdict}" for verdict, found in verdicts.items())
    seeds = Counter(run.name for run in runs if run.experiment in KNOWN)
    finds = {
        title: sentences(runs)
        for title, (sentences, models) in FINDS.items()
        if all(seeds[name] >= judging.LEAST_SEEDS for name in models)
    }
    return Story(
        sentences=_sentences(runs, counts),
        figure=_png(figure),
        alt=plots.alt_text(figure),
        verdicts=verdicts,
        finds=finds,
    )


def _sentences(runs: Sequence[Run], verdicts: str) -> list[str]:
    """How accuracies, trainings and conclusions of 2019 came out."""
    names = list(reported.finals())
    at_end = {name: judging.reproduction(name, runs).verdict for name in names}
    ends = Counter(at_end.values())
    ways = Counter(judging.trajectory(name, runs).verdict for name in names)
    off, waiting = (
        "; ".join(reported.title(name) for name in names if at_end[name] == verdict)
        for verdict in (judging.NOT_REPRODUCED, judging.NOT_TESTED)
    )
    tested = len(names) - ends[judging.NOT_TESTED]
    accuracy = (
        f"Test accuracy: of {tested} models with enough runs, 2019's "
        f"figure is reproduced for {ends[judging.REPRODUCED]}, not reproduced for "
        f"{ends[judging.NOT_REPRODUCED]}{f' ({off})' if off else ''}, and undecided "
        f"for {ends[judging.UNDECIDED]}, whose runs differ too much to tell."
    )
    if waiting:
        accuracy += f" Not tested yet, with fewer runs than planned: {waiting}."
    compared = sum(ways.values()) - ways[judging.NOT_TESTED]
    return [
        accuracy,
        f"Training: of {compared} models whose losses can be compared epoch by epoch, "
        f"{ways[judging.SAME]} train as in 2019.",
        f"Conclusions: {verdicts}. A conclusion counts only if it holds over several "
        "runs, by a rule with thresholds.",
    ]


def _range(values: Sequence[float] | np.ndarray) -> str:
    """Some numbers: one, or from the lowest to the highest.

    >>> _range([0.98]), _range([0.9812, 0.97])
    ('0.98', '0.97 to 0.98')
    """
    low, high = f"{np.min(values):.2f}", f"{np.max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _percents(values: Sequence[float]) -> str:
    return f"{_range([100 * value for value in values])} %"


def _own(name: str, runs: Sequence[Run]) -> list[Run]:
    return list(judging.comparable(runs).get(name, {}).values())


def _b(runs: Sequence[Run]) -> str:
    inputs = claims.inputs_of_b(runs)
    means = inputs.mean_squares
    if inputs.verdict != judging.SUPPORTED:
        return f"Whether B trained on black-and-white images: {inputs.verdict}."
    apart = {
        kind: np.expm1(np.sqrt(means[kind])) for kind in ("black-and-white", "rows")
    }
    return (
        "B trained on black-and-white images: it normalised its pixels along an axis "
        "of length one. With such images our training losses differ from 2019's by "
        f"{100 * apart['black-and-white']:.0f} %, with rows of unit length by "
        f"{100 * apart['rows']:.0f} % (root mean square over {len(inputs.tested)} "
        "models)."
    )


def _a3(runs: Sequence[Run]) -> str:
    scored = [run.batchnorm[0] for run in _own("conv3_a3", runs) if run.batchnorm]
    said = reported.history("conv3_a3")[0]["val_accuracy"] or 0
    by_code = judging.trajectory("conv3_a3", runs)
    by_table = judging.trajectory("conv3_a3", runs, control=conv3_a3_adadelta.name)
    adam, adadelta = _range(by_code.values), _range(by_table.values)
    plain = _percents([scores["plain"]["accuracy"] for scores in scored])
    debiased = _percents([scores["debiased"]["accuracy"] for scores in scored])
    return (
        f"A3 had {_percents([said])} after its first epoch in 2019. Ours has {plain} "
        "if batch normalisation is evaluated as in today's Keras; the same weights "
        f"have {debiased} if it is evaluated as in Keras 2.2.4. A3's code says Adam, "
        f"its table Adadelta: 2019's training losses are {adam} times ours with Adam "
        f"({by_code.verdict}), and {adadelta} times with Adadelta "
        f"({by_table.verdict})."
    )


def _beginnings(name: str, own: Sequence[Run]) -> np.ndarray:
    """2019's training losses over ours: an array (runs, first printed epochs)."""
    losses = _printed(name)
    ours = [[run.history[epoch - 1]["loss"] for epoch in losses] for run in own]
    return np.array(list(losses.values())) / np.array(ours)


def _printed(name: str) -> dict[int, float]:
    """The first training losses that 2019 printed, by epoch."""
    said = [(entry["epoch"], entry["loss"]) for entry in reported.history(name)]
    known = [(int(epoch), loss) for epoch, loss in said if epoch and loss]
    return dict(known[:BEGINNING])


def _is_near(ratios: np.ndarray) -> bool:
    low, high = judging.NEAR_ONE
    return bool(((low <= ratios) & (ratios <= high)).all())


def _d2(runs: Sequence[Run]) -> str:
    own = _own("conv5_d2", runs)
    ratios = _beginnings("conv5_d2", own)
    first = ", ".join(f"{loss:.2f}" for loss in _printed("conv5_d2").values())
    text = (
        f"D2's training losses of 2019 begin with {first}: {_range(ratios)} times ours"
    )
    if _is_near(ratios):
        return f"{text}, the same beginning."
    text += ". 2019 printed no dropout rates of D2, so others were tried."
    explained = False
    for rate, control in D2_DROPOUTS.items():
        # It is trained for the first epochs only.
        if found := [run for run in runs if run.name == control.name]:
            ratios = _beginnings("conv5_d2", found)
            explained |= _is_near(ratios)
            what = "an explanation" if _is_near(ratios) else "no explanation"
            text += f" With all at {rate} they are {_range(ratios)} times ours: {what}."
    return f"{text}{'' if explained else ' What explains them is unknown.'}"


def _c2(runs: Sequence[Run]) -> str:
    said = reported.finals()["conv5_c2"].test_accuracy
    ends = [judging.accuracy(run) for run in _own("conv5_c2", runs)]
    tails = json.loads(TAILS.read_text())["tails"]
    lost = sum(min(tail["recall"]) < 0.1 for tail in tails)
    return (
        f"C2 ended at {_percents([said])} in 2019, ours at {_percents(ends)}. If its "
        "first two convolutions are frozen after two epochs, and the other layers are "
        f"trained on them with {len(tails)} seeds, these end at "
        f"{_percents([tail['accuracy'] for tail in tails])}; {lost} of them hardly "
        "recognise some digit."
    )


# What is found, and the models without whose seeds it cannot be told.
FINDS = {
    "B": (_b, ()),
    "A3": (_a3, ("conv3_a3", conv3_a3_adadelta.name)),
    "D2": (_d2, ("conv5_d2", D2_DROPOUTS[0.5].name)),
    "C2": (_c2, ("conv5_c2",)),
}


def tries(runs: Sequence[Run], mnist: Dataset) -> dict[str, Any]:
    """What the index shows of the pages to be touched, from one full run of each model.

    It is empty if there are too few runs.
    """
    import matplotlib.pyplot as plt

    from mnistlab import plots

    found = judging.comparable([run for run in runs if run.compares_with_2019])
    firsts = {name: next(iter(own.values())) for name, own in found.items()}
    plain, other = claims.FAIR_PAIRS[0]
    asked = [r for own in found.values() for r in own.values() if r.has_weights]
    if not asked or not {plain, other} <= set(firsts):
        return {}
    answers = np.array([run.predictions()[0] for run in asked])
    hardest = int((answers != mnist.y_test).sum(axis=0).argmax())
    votes = np.bincount(answers[:, hardest], minlength=10)
    drawn, (image, bars) = plt.subplots(1, 2, figsize=SMALL, layout="constrained")
    image.imshow(mnist.x_test[hardest], cmap="gray_r")
    image.set_axis_off()
    bars.barh(range(10), votes, color=plots.look.GOOD)
    bars.set_yticks(range(10))
    bars.invert_yaxis()
    bars.set_title(f"answers of {len(asked)} networks", fontsize=10)
    curves, ax = plt.subplots(figsize=SMALL, layout="constrained")
    for name, line in ((plain, "-"), (other, "--")):
        errors = [100 * (1 - e["val_accuracy"]) for e in firsts[name].history]
        ax.plot(range(1, len(errors) + 1), errors, line, label=reported.title(name))
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set_xlabel("epoch")
    ax.set_title("test images that are wrong (%)", fontsize=10)
    ax.legend()
    return {
        "image": hardest,
        "label": mnist.y_test[hardest],
        "votes": {digit: votes[digit] for digit in range(10) if votes[digit]},
        "drawn": _png(drawn),
        "pair": [firsts[plain], firsts[other]],
        "curves": _png(curves),
    }


def _png(figure: "Figure") -> str:
    """A figure as PNG in base64; it is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
