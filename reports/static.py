"""What JupyterLab shows and static HTML does not: shown another way, or named.

Formulas become MathML, widgets their last state; files beside a notebook are copied.
What cannot be shown has a word on the page, and a warning that names page and cell.
"""

import html
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jinja2
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_output

from mnistlab.store import write_atomically
from reports import pages

MATHML = "http://www.w3.org/1998/Math/MathML"
WIDGET = "application/vnd.jupyter.widget-{}+json"
JAVASCRIPT = "application/javascript"
SCRIPT = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
SOMETHING = re.compile(r">\s*[^\s<]|^\s*[^\s<]|<(img|svg|table|video|audio|iframe)\b")
# What nbconvert shows of an output, but for text, the least of all.
SHOWN = {
    JAVASCRIPT, "text/html", "text/markdown", "image/svg+xml",
    "image/png", "image/jpeg",
}  # fmt: skip
# What is shown as one of those.
KNOWN = {"application/json", "text/latex", "text/plain"}
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
TERMINAL_LINK = re.compile("\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)")
# The attribute of an element that refers to a file or to another page.
REFERRING = {"a": "href", "link": "href"} | dict.fromkeys(
    ("img", "iframe", "source", "video", "audio", "embed"), "src"
)
WITHIN = re.compile("#|data:|blob:|mailto:|javascript:")
FROM_ELSEWHERE = re.compile("(?:[a-z][a-z0-9+.-]*:)?//|attachment:", re.IGNORECASE)
LARGEST = 50_000_000  # bytes of a file that is copied


def lost(page: str, place: str, what: str) -> str:
    """Warn of what a page does not show; returns the word that says so on it."""
    warnings.warn(f"{page}, {place}: {what}", stacklevel=2)
    return f' <span class="lost">[{html.escape(what)}]</span> '


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas that need no script."""

    page = place = ""

    def _math(self, source: str, display: str) -> str:
        try:
            from latex2mathml.converter import convert

            made = convert(source, display=display)
            if unknown := re.search(r"\\[A-Za-z]+", made):
                raise ValueError(f"{unknown[0]} is not known")
            return made.replace(f' xmlns="{MATHML}"', "")  # headings are read as XML
        except Exception as error:  # of many kinds, some without a word
            why = str(error) or type(error).__name__
            word = lost(self.page, self.place, f"a formula is shown as text: {why}")
            return f"<code>{html.escape(source)}</code>{word}"

    def inline_math(self, body: str) -> str:
        return self._math(body, "inline")

    def block_math(self, body: str) -> str:
        return self._math(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return self._math(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def block_mermaidjs(self, code: str) -> str:
        word = lost(self.page, self.place, "a mermaid diagram is shown as text")
        return f"<pre>{html.escape(code)}</pre>{word}"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        name = unquote(url.removeprefix("attachment:"))
        if url.startswith("attachment:") and name not in self.attachments:
            return lost(self.page, self.place, f"the attachment {name} is missing")
        return super().image(text, unquote(url) if name != url else url, title)


class Exporter(HTMLExporter):
    """nbconvert's exporter with the renderer above."""

    @jinja2.pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Markdown of a cell, or of an output, as HTML."""
        cell = context.get("cell", {})
        renderer = _Renderer(
            escape=False,
            attachments=cell.get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )
        renderer.page = context["resources"]["metadata"]["name"]
        renderer.place = cell.get("metadata", {}).get("place", "")
        return MarkdownWithMath(renderer=renderer).render(source)


def prepare(notebook: NotebookNode, page: str) -> list[str]:
    """Turn the outputs of a notebook to what static HTML can show.

    Returns:
        How each cell of code or Markdown is called, in their order.
    """
    widgets = notebook.metadata.pop("widgets", {}).get(WIDGET.format("state"), {})
    models, counts, places = widgets.get("state", {}), dict[str, int](), list[str]()
    for cell in (cell for cell in notebook.cells if cell.cell_type != "raw"):
        kind = {"markdown": "Markdown"}.get(cell.cell_type, cell.cell_type)
        injected = "injected-parameters" in cell.metadata.get("tags", ())
        counts[kind] = counts.get(kind, 0) + (not injected)
        places.append(f"{kind} cell {counts[kind]}")
        cell.metadata["place"] = places[-1]
        if cell.cell_type == "code":
            outputs = [_shown(o, models, page, places[-1]) for o in cell.outputs]
            cell.outputs = [each for several in outputs for each in several]
    return places


def _shown(
    output: NotebookNode, models: Mapping[str, Any], page: str, place: str
) -> list[NotebookNode]:
    """An output as one or several that can be shown."""
    if "data" not in output:
        if "text" in output:  # as a terminal shows it: lines overwritten, no links
            output.text = OVERWRITTEN.sub("", TERMINAL_LINK.sub("", output.text))
        return [output]
    data = output.data
    view = data.pop(WIDGET.format("view"), None)
    if view is not None:
        parts = list(_last_state(view.get("model_id", ""), models))
        if parts:
            return [each for o in parts for each in _shown(o, models, page, place)]
    for kind in [k for k in data if k.startswith("image/") and k not in SHOWN]:
        data["text/html"] = _picture(kind, "".join(data.pop(kind)))
    if not SHOWN & data.keys():
        if "text/latex" in data:
            data["text/markdown"] = data["text/latex"]
        elif "application/json" in data:
            data["text/plain"] = json.dumps(data["application/json"], indent=1)
    others = [kind for kind in data if kind not in KNOWN | SHOWN]
    others += ["a widget"] * (view is not None)
    if others and not SHOWN & data.keys() - {"text/html", JAVASCRIPT}:
        # Libraries that draw with scripts leave an empty element for them.
        left = SCRIPT.sub("", "".join(data.get("text/html", "")))
        if not SOMETHING.search(left):
            word = lost(page, place, f"{others[0]} needs JupyterLab to be shown")
            text = html.escape("".join(data.get("text/plain", "")))
            data["text/html"] = f"<pre>{text}</pre>{word}" if text else word
            data.pop(JAVASCRIPT, None)
    return [output]


def _last_state(name: str, models: Mapping[str, Any]) -> Iterator[NotebookNode]:
    """What a widget, and those in it, showed at last: outputs, pictures, text."""
    model = models.get(name.removeprefix("IPY_MODEL_"), {})
    state, kind = model.get("state", {}), model.get("model_name", "")[: -len("Model")]
    yield from map(from_dict, state.get("outputs", ()))
    for child in state.get("children", ()):
        yield from _last_state(child, models)
    data = {}
    if kind == "Image":
        picture = "".join(b["data"] for b in model.get("buffers", ()))
        kind = f"image/{state.get('format', 'png')}"
        data["text/html"] = _picture(kind, picture)
    elif kind.startswith("HTML"):
        data["text/html"] = state.get("value", "")
    elif "children" not in state and "outputs" not in state:
        facts = {k: state.get(k) for k in ("value", "description")}
        index = state.get("index")
        if isinstance(index, int):
            facts["value"] = state["_options_labels"][index]
        said = ", ".join(f"{k}={v!r}" for k, v in facts.items() if v not in (None, ""))
        if said:
            data["text/plain"] = f"{kind}({said})"
    if data:
        yield new_output("display_data", data=data)


def _picture(kind: str, content: str) -> str:
    return f'<img src="data:{kind};base64,{content}" alt="">'


def settle(
    tree: Any, page: str, names: Sequence[str], places: Iterable[str], root: str,
    site: Path,
) -> None:  # fmt: skip
    """Let references of a page lead to what is on the site; copy what they need.

    Args:
        tree: the page, parsed by Beautiful Soup.
        page: its name.
        names: all pages that are notebooks.
        places: how its cells are called.
        root: the way to the site's top.
        site: the folder of the site.
    """
    place, following = "above all cells", iter(places)
    for tag in tree.main.find_all_next(True):
        if "jp-Notebook-cell" in tag.get("class", ()):
            place = next(following, place)
        if what := _refer(tag, names, root, site):
            tag.insert_after(BeautifulSoup(lost(page, place, what), "html.parser"))


def _refer(tag: Any, names: Sequence[str], root: str, site: Path) -> str:
    """Let an element refer to what is on the site; else say what keeps it from that."""
    if tag.name == "script" and re.search("https?://|src=.//", str(tag)[:2000]):
        return "a script names another host, and may show nothing without it"
    attribute = REFERRING.get(tag.name, "")
    to = tag.get(attribute, "")
    leads_out = tag.name == "a" and re.match("https?:", to)
    if not to or WITHIN.match(to) or pages.RECORD.match(to) or leads_out:
        return ""
    if FROM_ELSEWHERE.match(to) and not to.startswith("file:"):
        return f"{to} is of another host"
    path, *rest = re.split("(?=[?#])", to, maxsplit=1)
    new = _on_site(unquote(path), names, site)
    if not new:
        return f"{to} is no file of this project, or too large"
    tag[attribute] = root + quote(new) + "".join(rest)
    return ""


def _on_site(path: str, names: Sequence[str], site: Path) -> str:
    """Where on the site a file is that a notebook refers to; empty if nowhere."""
    project = pages.NOTEBOOKS.resolve().parent
    try:
        file = (pages.NOTEBOOKS / path).resolve()
        is_ours = file.is_relative_to(project) and file.is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return ""
    if file.suffix == ".html" and file.stem in (*names, *pages.TAKEN):
        return f"{file.stem}.html"
    if file.suffix == ".ipynb" and file.stem in names:
        return f"{file.stem}.html"
    if not is_ours or file.stat().st_size > LARGEST:
        return ""
    inside = f"files/{file.relative_to(project).as_posix()}"
    write_atomically(site / inside, file.read_bytes())
    return inside
