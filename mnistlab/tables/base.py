"""What every table is made of: its HTML, links to records, and percent."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

from mnistlab import reported, stats
from mnistlab.runs import Run, other_versions

# Where 2019's long column names may break: TRAIN_LOSS, BatchNormalization.
BREAK = re.compile(r"(?<=[a-z_/])(?=[A-Z])")


@dataclass(frozen=True, eq=False)
class Table:
    """A data frame with a caption, shown as HTML; a cell is escaped unless `Markup`.

    Models of 2019 are shown with their title. `prose` says that cells hold sentences,
    which are set flush left. The caption is HTML.
    """

    frame: pd.DataFrame
    caption: str = ""
    prose: bool = False

    def _repr_html_(self) -> str:
        caption = f'<p class="caption">{self.caption}</p>' if self.caption else ""
        if self.frame.empty:
            return caption
        shown = self.frame.apply(lambda cells: [_cell(cells.name, x) for x in cells])
        shown.columns = [BREAK.sub("<wbr>", str(column)) for column in shown]
        kind = "prose" if self.prose else "figures"
        with pd.option_context("display.max_colwidth", None):
            body = shown.to_html(escape=False, index=False, border=0, classes=kind)
        return body + caption

    __html__ = _repr_html_  # in a template it is not escaped again


def _cell(column: object, value: object) -> str:
    text = "" if value is None or value != value else escape(value)
    if column == "model" and value in reported.finals():
        return f"{reported.title(str(value))} <code>{text}</code>"
    return text


def record_links(runs: Sequence[Run]) -> Markup:
    """Links to several records, each named by its seed."""
    return Markup(", ".join(record_link(run, str(run.seed)) for run in runs))


def record_link(run: Run, text: str = "") -> Markup:
    """A link to a run's record, relative to the page that is being made."""
    here = os.environ.get("MNISTLAB_PAGE_FOLDER", os.getcwd())
    path = os.path.relpath(run.folder / "run.json", here)
    return Markup(f'<a href="{escape(path)}">{text or run.key16[:8]}</a>')


def percent(value: float) -> str:
    """A fraction as percent with two decimals."""
    return f"{100 * value:.2f}"


def percent_range(interval: stats.Interval) -> str:
    """An interval of fractions in percent; what is below none or above all is cut off.

    >>> percent_range(stats.Interval(0.9812, 1.0043))
    '98.12 to 100.00'
    """
    return f"{percent(max(interval.low, 0))} to {percent(min(interval.high, 1))}"


def amount(runs: Sequence[Run]) -> str:
    """What runs were trained on: data, how much of it, protocol, backend."""
    kinds = {
        f"{escape(r['dataset']['name'])}, {run.trained_images:,} training and "
        f"{r['test_size']:,} test images, protocol {r['protocol']}, {r['backend']}"
        for run in runs
        for r in [run.record]
    }
    return "; ".join(sorted(kinds)) + "." + versions_note(runs)


def versions_note(runs: Sequence[Run]) -> str:
    """A sentence on runs of other library versions; empty if there are none."""
    text = other_versions(runs)
    return f" {escape(text)}." if text else ""
