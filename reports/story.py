"""What the index tells first: the question, 28 models then and now, what was found.

Every number and every verdict is computed from the committed runs.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab import claims, judging, reported
from mnistlab.runs import Run


@dataclass(frozen=True)
class Story:
    """What stands on the index: sentences, a figure as PNG in base64, verdicts, finds.

    `verdicts` has, for each verdict that occurs, its conclusions' ids and sentences.
    """

    sentences: list[str]
    figure: str
    alt: str
    verdicts: dict[str, list[tuple[str, str]]]
    finds: dict[str, str]


def tell(runs: Sequence[Run]) -> Story:
    """The story that runs tell; only whole recipes on all of MNIST count."""
    import matplotlib.pyplot as plt

    from mnistlab import plots

    figure, buffer = plots.then_and_now(runs), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    verdicts: dict[str, list[tuple[str, str]]] = {v: [] for v in claims.VERDICTS}
    judged = claims.judge_all(runs)
    for said in reported.conclusions():
        verdicts[judged[said.id].verdict].append((said.id, said.sentence))
    verdicts = {verdict: found for verdict, found in verdicts.items() if found}
    counts = ", ".join(f"{len(found)} {verdict}" for verdict, found in verdicts.items())
    return Story(
        sentences=_sentences(runs, counts),
        figure=base64.b64encode(buffer.getvalue()).decode(),
        alt=plots.alt_text(figure),
        verdicts=verdicts,
        finds={"B": _b(runs), "D2": _d2(runs), "C2": _c2(runs)},
    )


def _sentences(runs: Sequence[Run], verdicts: str) -> list[str]:
    """How accuracies, trainings and conclusions of 2019 came out."""
    names = list(reported.finals())
    at_end = {name: judging.reproduction(name, runs).verdict for name in names}
    ends = Counter(at_end.values())
    ways = Counter(judging.trajectory(name, runs).verdict for name in names)
    waits = ends[judging.NOT_TESTED]
    off = ", ".join(
        reported.title(name)
        for name, verdict in at_end.items()
        if verdict == judging.NOT_REPRODUCED
    )
    accuracy = (
        f"Test accuracy: of {len(names) - waits} models with enough seeds, 2019's "
        f"figure is reproduced for {ends[judging.REPRODUCED]}, not reproduced for "
        f"{ends[judging.NOT_REPRODUCED]}{f' ({off})' if off else ''}, and undecided "
        f"for {ends[judging.UNDECIDED]}, whose seeds differ too much to tell."
    )
    if waits:
        accuracy += (
            f" {waits} models are not tested: they have too few runs, or none yet."
        )
    compared = sum(ways.values()) - ways[judging.NOT_TESTED]
    return [
        accuracy,
        f"Training: of {compared} models whose losses can be compared epoch by epoch, "
        f"{ways[judging.SAME]} train as in 2019.",
        f"Conclusions: {verdicts}. A conclusion counts "
        "only if it holds over several seeds, by rules that were fixed beforehand.",
    ]


def _percents(values: Sequence[float]) -> str:
    """Some accuracies in percent: one, or from the lowest to the highest.

    >>> _percents([0.98]), _percents([0.9812, 0.97])
    ('98.00 %', '97.00 to 98.12 %')
    """
    low, high = (f"{100 * value:.2f}" for value in (min(values), max(values)))
    return f"{low} %" if len(values) == 1 else f"{low} to {high} %"


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
        "B trained on black-and-white images. It normalised its pixels along an axis "
        "of length one, so that every pixel that is not background became 1. With "
        "such images our training losses differ from 2019's by "
        f"{100 * apart['black-and-white']:.0f} % (root mean square over "
        f"{len(inputs.tested)} models), with rows of unit length by "
        f"{100 * apart['rows']:.0f} %."
    )


def _d2(runs: Sequence[Run]) -> str:
    own = _own("conv5_d2", runs)
    if not own:
        return "There is no full run of D2 yet."
    said = reported.history("conv5_d2")[0]
    first = 100 * (said["val_accuracy"] or 0)
    ours = [run.history[0]["val_accuracy"] for run in own]
    text = (
        f"D2's log of 2019 begins like a guess: {first:.1f} % of test images after one "
        "epoch. The printed architecture and recipe give "
        f"{_percents(ours)}. D1 and D3, of the same notebook, begin as theirs did, so "
        "an edited cell is the likely cause; 2019's summary prints no dropout rates."
    )
    control = _own("conv5_d2_dropout_half", runs)
    if control:
        printed = [entry["loss"] or 0.0 for entry in reported.history("conv5_d2")[:3]]
        losses = np.array([[e["loss"] for e in run.history[:3]] for run in control])
        fits = bool((np.abs(printed / losses - 1) <= 0.1).all())
        text += (
            f" With all dropout rates at 0.5 the first three training losses "
            f"{'are' if fits else 'are not all'} within 10 % of 2019's."
        )
    return text


def _c2(runs: Sequence[Run]) -> str:
    own = _own("conv5_c2", runs)
    said = reported.finals()["conv5_c2"].test_accuracy
    if not own:
        return f"C2 had {_percents([said])} in 2019; there is no full run of it yet."
    ends = [judging.accuracy(run) for run in own]
    ways = [run.history[-1]["accuracy"] for run in own]
    count = f"{len(own)} run{'s' if len(own) > 1 else ''}"
    return (
        f"C2's {_percents([said])} of 2019 "
        f"{'was not seen again' if min(ends) > said + 0.05 else 'was seen again'} in "
        f"{count}: test accuracy {_percents(ends)}. In training, with its dropout on, "
        f"accuracy is {_percents(ways)}. Why 2019's was so low is still open."
    )
