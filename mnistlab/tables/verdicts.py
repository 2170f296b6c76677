"""The verdicts on 2019's conclusions, with everything that decided them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mnistlab import claims, judging, reported
from mnistlab.judging import Part, Rule
from mnistlab.models.experiment import Experiment
from mnistlab.runs import Run
from mnistlab.tables.base import Table, percent, record_links

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "not tested": "–"}


def _badge(verdict: str) -> Markup:
    kind = verdict.replace(" ", "-")
    return Markup(f'<strong class="verdict {kind}">{MARKS[verdict]} {verdict}</strong>')


def conclusions(runs: Sequence[Run], of: Sequence[Experiment] = ()) -> Table:
    """Every conclusion of 2019, or those about some models, with its verdict."""
    names, rows = {experiment.name for experiment in of}, []
    for said in reported.conclusions():
        judged = claims.judge(said.id, runs)
        about = {name for part in judged.parts for name in part.rule.models}
        if of and not about & names:
            continue
        tested = sum(part.is_tested for part in judged.parts)
        rows.append(
            {
                "id": Markup(f'<a href="claims.html#{said.id}">{said.id}</a>'),
                "2019, source": said.source,
                "says": said.sentence,
                "verdict": _badge(judged.verdict),
                "parts tested": f"{tested} of {len(judged.parts)}",
            }
        )
    return Table(
        pd.DataFrame(rows),
        ("" if of else f"{claims.headline(runs)}. ")
        + "A part is one quantity of one model or pair; it is tested if all its seeds "
        "are there. The page of the claims has each rule, with its numbers.",
        prose=True,
    )


def conclusion(said: reported.Conclusion, runs: Sequence[Run]) -> HTML:
    """One conclusion: sentence, hypothesis, rule, evidence, verdict, and 2019's limits.

    Only runs of whole recipes on all of MNIST are evidence.
    """
    judged = claims.judge(said.id, runs)
    found = judging.comparable(runs)
    about = {name for part in judged.parts for name in part.rule.models}
    text = TEMPLATES.get_template("conclusion.html.j2").render(
        said=said,
        judged=judged,
        rows={
            statement: Table(pd.DataFrame(map(_row, parts)))
            for statement, parts in judged.statements.items()
        },
        missing=dict.fromkeys(name for part in judged.parts for name in part.missing),
        records={
            name: record_links(list(found[name].values()))
            for name in sorted(about & found.keys())
        },
        judge_statement=judging.judge_statement,
        with_unit=claims.with_unit,
    )
    return HTML(text)


def _row(part: Part) -> dict[str, str]:
    values = part.planned or list(part.values.values())
    said, rule = part.rule.reported, part.rule
    return {
        "of": part.about,
        "2019": "" if said is None else _number(said, rule),
        "seeds": f"{len(part.planned)} of {rule.seeds}",
        "mean": _number(float(np.mean(values)), rule) if values else "",
        "interval of the mean": " to ".join(
            _number(x, rule) for x in part.interval or ()
        ),
        "verdict": _badge(part.verdict),
    }


def _number(value: float, rule: Rule) -> str:
    """A value as text: of accuracies in percent, else with three digits."""
    if "accuracy" in rule.quantity:
        return f"{100 * value:.2f}"
    return f"{value:.3g}"


TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
TEMPLATES.filters |= {"badge": _badge, "number": _number}
TEMPLATES.tests["finite"] = math.isfinite


def inputs_of_b(runs: Sequence[Run]) -> Table:
    """Which scaling of the pixels did B use? Training losses of 2019 over ours."""
    inputs = claims.inputs_of_b(runs)
    found = judging.comparable(runs)
    rows = []
    for name in inputs.logs["rows"]:
        other = "not yet" if name in claims.REGULARISED else "no"
        row = {
            "model": name,
            "decides": "yes" if name in inputs.tested else other,
            "2019 (%)": percent(reported.finals()[name].test_accuracy),
        }
        for variant, logs in inputs.logs.items():
            own = found.get(f"{name}{claims.VARIANTS[variant]}", {})
            ours = ", ".join(percent(judging.accuracy(run)) for run in own.values())
            ratios = ", ".join(f"{np.exp(value):.2f}" for value in logs[name])
            row |= {f"{variant} (%)": ours, f"{variant}, losses": ratios}
        rows.append(row)
    squares = "; ".join(
        f"{variant} {value:.4f}" for variant, value in inputs.mean_squares.items()
    )
    same = ", ".join(f"{name}: {verdict}" for name, verdict in inputs.same.items())
    frame = pd.DataFrame(rows)
    return Table(
        frame.loc[:, (frame != "").any()],
        "Losses: mean ratio of 2019's training losses to ours, by seed; 1 is the same "
        "training. Only models with regularisation decide. Mean squared logarithm over "
        f"these {len(inputs.tested)}: {squares or 'not known yet'}. Three of them must "
        f"be the same training as in 2019 ({same}). That B trained on "
        f"black-and-white inputs is {inputs.verdict}.",
    )
