"""The verdicts on 2019's conclusions, with everything that decided them."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from mnistlab import claims, judging, reported
from mnistlab.claims import Claim
from mnistlab.judging import LEAST_SEEDS, Part
from mnistlab.models.controls import COLUMNS, ROWS, SHALLOW
from mnistlab.runs import Run
from mnistlab.tables.base import Table, percent, record_links

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}


def _badge(verdict: str) -> str:
    return f'<strong class="verdict {verdict}">{MARKS[verdict]} {verdict}</strong>'


def conclusions(runs: Sequence[Run], y_test: np.ndarray | None = None) -> Table:
    """Every conclusion of 2019 with its verdict, a row each."""
    rows = []
    for claim in claims.CLAIMS:
        judged = claims.judge(claim, runs, y_test)
        decided = [part for part in judged.parts if part.verdict != judging.UNDECIDED]
        rows.append(
            {
                "id": f'<a href="#{claim.id}">{claim.id}</a>',
                "2019, source": claim.reported.source,
                "says": html.escape(claim.reported.sentence),
                "verdict": _badge(judged.verdict),
                "parts decided": f"{len(decided)} of {len(judged.parts)}",
            }
        )
    counts = pd.Series([row["verdict"] for row in rows]).map(
        {_badge(verdict): verdict for verdict in MARKS}
    ).value_counts()  # fmt: skip
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return Table(
        pd.DataFrame(rows),
        f"{said}. The rules were committed before the runs were looked at, and mended "
        "twice since without changing a verdict; each conclusion's is below, with the "
        "numbers that decided it.",
        prose=True,
    )


def conclusion(
    claim: Claim, runs: Sequence[Run], y_test: np.ndarray | None = None
) -> HTML:
    """One conclusion: sentence, hypothesis, rule, evidence, verdict, and 2019's limits.

    Only runs of whole recipes on all of MNIST are evidence.
    """
    said = claim.reported
    judged = claims.judge(claim, runs, y_test)
    missing = dict.fromkeys(name for part in judged.parts for name in part.missing)
    measure = " ".join((claim.parts.__doc__ or "").split())
    shown = [
        f'<h3 id="{claim.id}">{claim.id}: {html.escape(said.sentence)}</h3>',
        f"<p>Verdict: {_badge(judged.verdict)}</p>",
        f"<p>What 2019's design could not decide: {html.escape(claim.undecidable)}</p>",
        f"<p>Measured: {html.escape(measure)}</p>",
    ]
    for statement, verdict in judged.statements.items():
        parts = [part for part in judged.parts if part.statement == statement]
        shown += [
            f"<p>Hypothesis: {html.escape(statement)}. {_badge(verdict)}</p>",
            Table(
                pd.DataFrame([_row(part) for part in parts]),
                f"{html.escape(_capital(parts[0].quantity))}: must lie "
                f"{_bounds(parts[0])}; with one or two runs, by "
                f"{_number(parts[0].margin)}.",
            )._repr_html_(),
        ]
    if missing:
        shown.append(
            f"<p>There is no full run of {', '.join(missing)}, so what needs it is "
            "undecided.</p>"
        )
    return HTML("".join([*shown, _records(judged.parts, runs)]))


def _row(part: Part) -> dict[str, str]:
    values = list(part.values.values())
    row = {
        "of": html.escape(part.about),
        "2019": "" if part.reported is None else _number(part.reported),
        "seeds": str(len(values)),
        "mean": _number(float(np.mean(values))) if values else _why_none(part),
        "95 % of the mean": "",
        "verdict": _badge(part.verdict),
    }
    if part.interval is not None:
        low, high = (_number(end) for end in part.interval)
        row["95 % of the mean"] = f"{low} to {high}"
    elif part.note:
        row["95 % of the mean"] = html.escape(part.note)
    elif len(values) >= LEAST_SEEDS:
        row["95 % of the mean"] = "all seeds are equal"
    elif values:
        row["95 % of the mean"] = "needs three seeds"
    return row


def _why_none(part: Part) -> str:
    return "no full run" if part.missing else "no shared seed, or not reached"


def _capital(text: str) -> str:
    """With a capital first letter, the others as they are: CPU stays CPU."""
    return text[:1].upper() + text[1:]


def _number(value: float) -> str:
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bounds(part: Part) -> str:
    low, high = np.isfinite(part.low), np.isfinite(part.high)
    if low and high:
        return f"between {_number(part.low)} and {_number(part.high)}"
    return f"above {_number(part.low)}" if low else f"below {_number(part.high)}"


def _records(parts: Sequence[Part], runs: Sequence[Run]) -> str:
    """Links to the records of all runs that a conclusion's parts were computed from."""
    found = judging.comparable(runs)
    names = {name for part in parts for name in part.models if name in found}
    if not names:
        return ""
    links = "; ".join(
        f"{name}, seeds {record_links(list(found[name].values()))}"
        for name in sorted(names)
    )
    return f"<p>Records: {links}.</p>"


def normalizations(runs: Sequence[Run]) -> Table:
    """Which scaling of the pixels did B use? 2019 beside each that it may have been."""
    found = judging.comparable(runs)
    rows = []
    for model in SHALLOW:
        base = model.name
        others = [e for e in (*ROWS, *COLUMNS) if e.name.startswith(base)]
        for experiment in (model, *others):
            own = list(found.get(experiment.name, {}).values())
            final = reported.finals()[base]
            row = {
                "model": base,
                "lines of unit length": experiment.name.removeprefix(base)
                .strip("_").replace("_", " ") or "single pixels",
                "2019 (%)": percent(final.test_accuracy),
                "ours (%)": "no full run",
                "2019, test loss": f"{final.test_loss:.4f}",
            }  # fmt: skip
            if own:
                row["ours (%)"] = ", ".join(percent(judging.accuracy(r)) for r in own)
                row["ours, test loss"] = ", ".join(
                    f"{run.record['test']['loss']:.4f}" for run in own
                )
                row["records by seed"] = record_links(own)
            rows.append(row)
    return Table(
        pd.DataFrame(rows).fillna(""),
        "Single pixels of unit length are a black-and-white picture.",
    )
