"""Render executed notebooks as HTML pages with nbconvert, and the index with Jinja2."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter

from mnistlab.runs import Run
from mnistlab.store import write_atomically
from mnistlab.tables import scores

TEMPLATES = Path(__file__).with_name("templates")
# A record as a notebook links to it, relative to wherever it was executed.
RECORD_LINK = re.compile(r'href="[^"]*?runs/([a-z0-9_]+)/([0-9a-f]{16})/run\.json"')


def render(
    notebook: nbformat.NotebookNode,
    page: str,
    pages: Sequence[str],
    *,
    root: str = "",
    banner: str = "",
) -> str:
    """One notebook as an HTML page that loads nothing from another host.

    Links to run records are turned to the copies below the site. `root` is the way
    from the page to the site's top, `banner` a sentence above the notebook.
    """
    exporter = HTMLExporter(
        template_name="mnistlab",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    resources = {
        "metadata": {"name": f"{page}, mnistlab"},
        "mnistlab": {"page": page, "pages": pages, "root": root, "banner": banner},
    }
    html, _ = exporter.from_notebook_node(notebook, resources)
    return RECORD_LINK.sub(rf'href="{root}runs/\1/\2.json"', html)


def copy_records(runs: Sequence[Run], site: Path) -> None:
    """Copy the records that pages link to below the site."""
    for run in runs:
        target = site / "runs" / run.name / f"{run.key16}.json"
        write_atomically(target, (run.folder / "run.json").read_bytes())


def write_index(
    site: Path, cards: Sequence[Mapping[str, Any]], runs: Sequence[Run], notice: str
) -> None:
    """Write the index: a card for each notebook and the scores of all runs."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / "mnistlab"), autoescape=True
    )
    best_first = sorted(runs, key=lambda run: -run.record["test"]["accuracy"])
    table = scores(best_first)._repr_html_() if runs else "<p>No runs yet.</p>"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = environment.get_template("site.html.j2").render(
        pages=cards,
        notice=notice,
        about=f"Every page is an executed notebook. Made {made}.",
        table=_Safe(RECORD_LINK.sub(r'href="runs/\1/\2.json"', table)),
    )
    write_atomically(site / "index.html", text.encode())
    shutil.copyfile(TEMPLATES / "mnistlab" / "style.css", site / "style.css")


class _Safe(str):
    """HTML that is not to be escaped again."""

    def __html__(self) -> str:
        return self


def title_of(notebook: nbformat.NotebookNode, name: str) -> str:
    """The first heading of a notebook, without the sign."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:]
    return name


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json`, for other tools."""
    text = json.dumps(summary, indent=1, allow_nan=False)
    write_atomically(out / "summary.json", text.encode())


def failure_page(message: str) -> nbformat.NotebookNode:
    """A notebook that only says why there is none."""
    text = f"# Nothing was executed\n\n{escape(message)}"
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
