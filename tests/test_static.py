"""What JupyterLab shows and a static page cannot: shown another way, or named."""

import re
import warnings

import nbformat
import pytest
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
    new_raw_cell,
)

from reports import pages, site

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def model(name, **state):
    """A widget as a notebook keeps it."""
    return {"model_name": f"{name}Model", "state": state}


MODELS = {
    "box": model("VBox", children=["IPY_MODEL_slider", "IPY_MODEL_in", "IPY_MODEL_b"]),
    "slider": model("IntSlider", value=2, description="x"),
    "in": model("Output", outputs=[
        new_output("stream", text="x is 2\n"),
        new_output("display_data", {"image/png": "UE5H"}),
    ]),
    "b": model("Dropdown", index=1, _options_labels=["one", "two"]),
    "label": model("HTML", value="<b>100%</b>"),
    "picture": model("Image", format="jpeg")
    | {"buffers": [{"data": "SlBH", "path": ["value"], "encoding": "base64"}]},
    "globe": model("Globe"),
}  # fmt: skip


def each_of(table):
    """A test for each row: what is rendered, what is expected, how many warnings."""
    return pytest.mark.parametrize(
        ("shown", "expected", "count"), table.values(), ids=list(table)
    )


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Renders cells; returns the page below its header, and what was warned of."""
    folder = tmp_path / "notebooks"
    (folder / "figs").mkdir(parents=True)
    (folder / "figs" / "a b.png").write_bytes(b"PNG")
    (tmp_path / "README.md").write_text("read me")
    (tmp_path.parent / "secret.txt").write_text("elsewhere")
    monkeypatch.setattr(pages, "NOTEBOOKS", folder)

    def rendered(*cells, root=""):
        notebook = new_notebook(cells=list(cells))
        notebook.metadata["widgets"] = {STATE: {"state": MODELS}}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            text = site.render(
                nbformat.writes(notebook), "mine", ["mine", "mlp", "a&b c"],
                tmp_path / "site", root,
            )  # fmt: skip
        return text.partition("<main")[2], [str(warning.message) for warning in told]

    return rendered


def cell(**data):
    return new_code_cell("1", outputs=[new_output("display_data", data=data)])


BOX = ["x is 2", "IntSlider(value=2, description='x')", "UE5H", "value='two'"]
NOT_SHOWN = ["Globe()", "[a widget needs JupyterLab to be shown]"]
WIDGETS = {
    "in a box": ("box", BOX, 0),
    "text": ("label", ["<b>100%</b>"], 0),
    "picture": ("picture", ["data:image/jpeg;base64,SlBH"], 0),
    "without text": ("globe", NOT_SHOWN, 1),
    "without a state": ("unknown", NOT_SHOWN, 1),
}


@each_of(WIDGETS)
def test_of_a_widget_the_last_state_is_shown(page, shown, expected, count):
    data = {VIEW: {"model_id": shown}, "text/plain": "Globe()"}
    text, told = page(new_markdown_cell("# A"), cell(**data))
    for part in expected:
        assert part in text.replace("&#x27;", "'")
    assert told == ["mine, code cell 1: a widget needs JupyterLab to be shown"] * count
    assert STATE not in text, "it is of no use without a script of another host"


PLOTLY = "application/vnd.plotly.v1+json"
BOKEH = "application/vnd.bokehjs_exec.v0+json"
OUTPUTS = {
    "plotly": (
        {PLOTLY: {"data": []}},
        r"\[application/vnd.plotly.v1\+json needs JupyterLab to be shown\]", 1,
    ),
    "vega": (
        {"application/vnd.vegalite.v5+json": {}, "text/plain": "Chart"},
        r"<pre.*>Chart</pre>.*application/vnd.vegalite.v5\+json needs", 1,
    ),
    "geojson": ({"application/geo+json": {}}, r"geo\+json needs JupyterLab", 1),
    "pdf": (
        {"application/pdf": "JVBE", "text/plain": "<PDF>"},
        "<pre.*>&lt;PDF&gt;</pre>.*application/pdf needs JupyterLab", 1,
    ),
    "plotly for notebooks": (
        {PLOTLY: {}, "text/html": "<div id='p'></div><script>require('p')</script>"},
        "needs JupyterLab to be shown", 1,
    ),
    "bokeh": (
        {BOKEH: "", "application/javascript": "Bokeh.embed()"},
        "bokehjs_exec.*needs JupyterLab to be shown", 1,
    ),
    "table of data": (
        {
            "application/vnd.dataresource+json": {},
            "text/html": "<table><tr><td>1</td></tr></table>",
        },
        "<td>1</td>", 0,
    ),
    "gif": ({"image/gif": "R0lG", "text/plain": "<Image>"}, "image/gif;base64,R0lG", 0),
    "json": ({"application/json": {"a": 1}, "text/plain": "<JSON>"}, '"a": 1', 0),
    "latex": ({"text/latex": r"$\frac{a}{b}$", "text/plain": "a/b"}, "<mfrac>", 0),
    "markdown": ({"text/markdown": "**b** $x^2$"}, "<strong>b</strong>.*<msup>", 0),
    "script": (
        {"text/html": '<script src="https://cdn.example/x.js"></script>'},
        r"\[a script names another host", 1,
    ),
    "html": ({"text/html": "<p>all right</p>"}, "<p>all right</p>", 0),
}  # fmt: skip


@each_of(OUTPUTS)
def test_an_output_is_shown_or_named(page, shown, expected, count):
    text, told = page(cell(**shown))
    assert re.search(expected, text, re.DOTALL), text
    assert len(told) == count
    assert all(warning.startswith("mine, code cell 1: ") for warning in told)


FORMULAS = {
    "inline": ("so $x^2$ is", "<msup>", 0),
    "block": (r"$$\sum_{i=1}^n x_i$$", '<math display="block">', 0),
    "parentheses": (r"\\(x_1\\)", "<msub>", 0),
    "lines": (r"\begin{align}a&=b\\c&=d\end{align}", "<mtable", 0),
    "heading": ("## On $x^2$", '<h2 id="On-x2">On <math display="inline">', 0),
    "unknown": (r"$\unheard{x}$", r"<code>\\unheard{x}</code>.*is not known", 1),
    "broken": (r"$\left( x$", r"<code>\\left\( x</code>", 1),
    "money": (r"from 5\$ to 6\$", "from 5\\$ to 6\\$", 0),
    "mermaid": ("```mermaid\na-->b\n```", r"a--&gt;b.*\[a mermaid diagram", 1),
}


@each_of(FORMULAS)
def test_a_formula_is_mathml_or_named(page, shown, expected, count):
    text, told = page(new_markdown_cell("# A"), new_markdown_cell(shown))
    assert re.search(expected, text, re.DOTALL), text
    assert len(told) == count
    assert all(warning.startswith("mine, Markdown cell 2: ") for warning in told)


REFERENCES = {
    "picture": ("![a](<figs/a b.png>)", 'src="files/notebooks/figs/a%20b.png"', 0),
    "HTML": ("<img src='figs/a b.png'>", 'src="files/notebooks/figs/a%20b.png"', 0),
    "file": ("[a](../README.md#b)", 'href="files/README.md#b"', 0),
    "notebook": ("[a](mlp.ipynb#b)", 'href="mlp.html#b"', 0),
    "odd name": ("[a](<a&b c.ipynb>)", 'href="a%26b%20c.html"', 0),
    "page": ("[a](draw.html)", 'href="draw.html"', 0),
    "record": ("[a](../build/runs/x/0123456789abcdef/run.json)", 'href="runs/x/', 0),
    "elsewhere": ("[a](https://example.org/)", 'href="https://example.org/"', 0),
    "heading": ("[a](#b)", 'href="#b"', 0),
    "missing": ("![a](figs/b.png)", r"\[figs/b.png is no file of this project", 1),
    "outside": ("[a](../../secret.txt)", "secret.txt is no file of this project", 1),
    "NUL": ("[a](b%00c)", "b%00c is no file of this project", 1),
    "long name": (f"[a]({'b' * 300})", "b is no file of this project", 1),
    "machine": ("[a](file:///etc/passwd)", "file:///etc/passwd is no file", 1),
    "host": ("![a](https://example.org/a.png)", "a.png is of another host", 1),
    "attachment": ("![a](attachment:a.png)", "the attachment a.png is missing", 1),
}


@each_of(REFERENCES)
def test_what_a_notebook_refers_to_is_on_the_site_or_named(
    page, shown, expected, count, tmp_path
):
    text, told = page(new_markdown_cell("# A"), new_markdown_cell(shown))
    assert re.search(expected, text), text
    assert len(told) == count
    assert all(warning.startswith("mine, Markdown cell 2: ") for warning in told)
    for path in re.findall('(?:src|href)="(files/[^"#]*)', text):
        assert (tmp_path / "site" / path.replace("%20", " ")).is_file()


def test_text_is_as_a_terminal_shows_it(page):
    text = (
        "10 %\r50 %\r100 %\nline\r\n\x1b]8;;https://a.example\x1b\\here\x1b]8;;\x1b\\"
    )
    output = new_output("stream", text=text)
    shown, _ = page(new_code_cell("1", outputs=[output]))
    assert ">100 %\nline" in shown
    assert "10 %" not in shown.replace("100 %", "")
    assert "here" in shown
    assert "a.example" not in shown


def test_headings_of_the_same_words_have_links_of_their_own(page):
    text, _ = page(new_markdown_cell("## A\n\nx\n\n## A"), new_markdown_cell("## A"))
    assert re.findall('<h2 id="([^"]+)"', text) == ["A", "A-2", "A-3"]


def test_a_raw_cell_does_not_shift_the_names_of_others(page):
    _, told = page(new_raw_cell("raw"), new_markdown_cell("[a](none.txt)"))
    assert told[0].startswith("mine, Markdown cell 1: ")


def test_a_failed_page_is_one_folder_further_down(page):
    text, _ = page(new_markdown_cell("[a](mlp.ipynb) ![b](<figs/a b.png>)"), root="../")
    assert 'href="../mlp.html"' in text
    assert 'src="../files/notebooks/figs/a%20b.png"' in text
