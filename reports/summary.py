"""What README, results/ and docs/ say of the committed evidence, as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from prettytable import PrettyTable, TableStyle

from mnistlab import claims, judging, reported, tables
from mnistlab.comparison import Gathered
from mnistlab.models import COLLECTION
from mnistlab.models.sizes import macs, params
from mnistlab.runs import Run, RunSpec, run_key
from reports.story import Story


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    table = PrettyTable(columns)
    table.set_style(TableStyle.MARKDOWN)
    table.add_rows([list(row) for row in rows])
    return table.get_string()


def told(story: Story) -> str:
    """The sentences of the story as a list, broken into lines."""
    texts = (*story.sentences, *story.finds.values())
    return "\n".join(
        # A number stays with its sign.
        fill(text.replace(" %", "~%"), 92, initial_indent="* ", subsequent_indent="  ")
        for text in texts
    ).replace("~%", " %")


def models_table(runs: Sequence[Run]) -> str:
    """The README's table: 2019's figure of each model, ours, and both verdicts."""
    rows = []
    for name, experiment in COLLECTION.items():
        if name in reported.finals():
            row = tables.row_beside_2019(name, runs)
            row["seeds"] = row["seeds"] or ""
            row["parameters"] = f"{params(experiment):,}"
            row["multiply-adds"] = f"{macs(experiment):,}"
            rows.append(row)
    return _markdown(list(rows[0]), [list(row.values()) for row in rows])


def conclusions_table(gathered: Gathered) -> str:
    """The README's list of 2019's conclusions and what the evidence makes of them."""
    verdicts = claims.judge_all(gathered.evidence)
    rows = [
        (said.id, said.sentence, verdicts[said.id].verdict)
        for said in reported.conclusions()
    ]
    return _markdown(("", "2019 said", "today"), rows)


# The verdicts of the first rules on the runs of 21 November, and what changed each.
FIRST_RULES = Path(__file__).with_name("first_rules.csv")
# When today's rules were committed (1ca5df4).
RULES = "2026-11-25T05:05:11"


def rules_table(runs: Sequence[Run]) -> str:
    """The verdict of the first rules on each conclusion, and today's.

    Also of how many deciding runs the results were there before today's rules were.
    """
    found, rows = judging.comparable(runs), []
    first_rules = pd.read_csv(FIRST_RULES, keep_default_na=False)
    for name, first, why in first_rules.itertuples(index=False):
        judged = claims.judge(name, runs)
        tested = sum(part.is_tested for part in judged.parts)
        finished = {
            run.key16: run.record["finished"]
            for part in judged.parts
            for model in part.rule.models
            for seed, run in found.get(model, {}).items()
            if seed < part.rule.seeds
        }
        older = sum(when < RULES for when in finished.values())
        parts, known = f"{tested} of {len(judged.parts)}", f"{older} of {len(finished)}"
        rows.append((name, first, judged.verdict, parts, known, why))
    columns = ("", "21 November", "today", "parts tested", "older runs", "what changed")
    return _markdown(columns, rows)


def inputs_table(runs: Sequence[Run]) -> str:
    """2019's training losses over ours, for each scaling that B may have used."""
    table = tables.inputs_of_b(runs)
    shown = table.frame[[name for name in table.frame if "(%)" not in name]]
    return (
        f"{_markdown(list(shown), shown.values.tolist())}\n\n{fill(table.caption, 98)}"
    )


# Models whose epochs, not only whose end, were a riddle, and what shows it.
EPOCHS_OF = {
    "conv3_a3": "val_accuracy",
    "conv3_a4": "val_accuracy",
    "conv2_a5": "val_accuracy",
    "conv5_d2": "val_accuracy",
    "conv5_b34": "loss",
    "conv5_b53": "loss",
    "conv5_b54": "loss",
    "conv7_b71": "loss",
}


def epochs_table(runs: Sequence[Run]) -> str:
    """Epochs of 2019's logs beside our planned seeds: accuracy (%) or training loss."""
    found = judging.comparable(runs)
    rows = []
    for name, quantity in EPOCHS_OF.items():
        said = [e for e in reported.history(name) if e[quantity] is not None]
        epochs = [int(entry["epoch"] or 0) for entry in said]
        what = "training loss" if quantity == "loss" else "test accuracy (%)"
        numbers = ", ".join(map(str, epochs))
        rows.append((name, what, numbers, "2019", _epoch_values(quantity, said)))
        for run in list(found.get(name, {}).values())[: judging.planned_seeds(name)]:
            ours = [run.history[epoch - 1] for epoch in epochs]
            values = _epoch_values(quantity, ours)
            rows.append(("", "", "", f"seed {run.seed}", values))
    return _markdown(("model", "", "after epochs", "run", "values"), rows)


def _epoch_values(quantity: str, entries: Sequence[Mapping[str, Any]]) -> str:
    scale, digits = (1, 2) if quantity == "loss" else (100, 1)
    return ", ".join(f"{scale * entry[quantity]:.{digits}f}" for entry in entries)


def coverage_table(wanted: Sequence[RunSpec], evidence: Sequence[Run]) -> str:
    """Which runs are wanted and which are there, by model and protocol.

    Counts every committed run of a model's whole recipe; those of other training code
    or versions than this checkout's are counted apart.
    """
    keys = {run.record["key"] for run in evidence}
    rows: dict[tuple[str, str], list[set[int]]] = {}
    for spec in wanted:
        task = spec.task
        key = (task.experiment.name, task.protocol)
        asked, there, _ = rows.setdefault(key, [set(), set(), set()])
        asked.add(task.seed)
        if run_key(spec) in keys:
            there.add(task.seed)
    for run in evidence:
        key = (run.name, run.record["protocol"])
        if key in rows and run.seed not in rows[key][1]:
            rows[key][2].add(run.seed)

    lines = [
        (name, protocol, *map(_ranges, (asked, there, asked - there, other)))
        for (name, protocol), (asked, there, other) in rows.items()
    ]
    columns = ("model", "protocol", "wanted", "there", "missing", "of other code")
    return _markdown(columns, lines)


def _ranges(numbers: Iterable[int]) -> str:
    """Whole numbers for people.

    >>> _ranges({0, 1, 2, 3, 7, 9, 10})
    '0 to 3, 7, 9, 10'
    """
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(
        f"{own[0]} to {own[-1]}" if len(own) > 2 else ", ".join(map(str, own))
        for own in groups
    )


def between(text: str, name: str, content: str) -> str:
    """A text with what stands between two comments of this name replaced.

    >>> print(between("a <!-- x -->old<!-- end of x --> b", "x", "new"))
    a <!-- x -->
    new
    <!-- end of x --> b
    """
    pattern = rf"(<!-- {name} -->).*?(<!-- end of {name} -->)"
    inside = re.compile(pattern, re.DOTALL)
    return inside.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", text)
