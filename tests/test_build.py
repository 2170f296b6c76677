"""`run_all.py` as its users run it: whole builds, failures, and bad use."""

import json
import re
import resource
import shutil
import time
from html.parser import HTMLParser

import nbformat
import pytest
from conftest import (
    DECLARE,
    ROOT,
    notebook_of,
    run_command,
    seeds,
    small_part_of,
    stored_runs,
)

from mnistlab import RESULT_MIME, data, models, schedule
from mnistlab.runs import Run
from reports import build, index, pages, site
from reports.execute import execute

SMOKE = ("--profile", "smoke")


class Page(HTMLParser):
    """The links, images, scripts and tables of an HTML page; a row has its links."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.loaded, self.tables = [], [], [], []
        self._cell = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "a":
            self.links.append(attributes.get("href", ""))
            if self._cell is not None:
                self.tables[-1][-1][1].append(attributes.get("href", ""))
        if tag == "img":
            self.images.append(attributes["src"])
        if tag in ("script", "link", "img", "iframe"):
            self.loaded.append(attributes.get("src") or attributes.get("href") or "")
        if tag == "table":
            self.tables.append([])
        if tag == "tr" and self.tables:
            self.tables[-1].append(([], []))
        if tag in ("td", "th") and self.tables:
            self._cell = ""

    def handle_data(self, text):
        if self._cell is not None:
            self._cell += text

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1][0].append(self._cell.strip())
            self._cell = None


HOSTILE = "<img src=x onerror=alert(1)>; reboot"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, digits):
    """A folder with a part of MNIST, which is called as an attacker would call it."""
    return small_part_of(digits, tmp_path_factory.mktemp("pictures") / HOSTILE)


@pytest.fixture(scope="module")
def built(tmp_path_factory, pictures):
    """A smoke build of three notebooks, with its output."""
    out = tmp_path_factory.mktemp("build")
    only = ("--only", "data", "--only", "mlp", "--only", "compare")
    how = (*SMOKE, *only, "--workers", 1)  # each one imports Keras
    done = run_command(*how, "--dataset", pictures, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done


def test_a_build_ends_well_and_says_where_the_site_is(built):
    out, done = built
    assert f"file://{out}/site/index.html" in done.stdout
    for name in ("data", "mlp", "compare"):
        assert (out / "site" / f"{name}.html").exists()
        assert (out / "notebooks" / f"{name}.ipynb").exists()
    assert list((out / "failed").iterdir()) == []
    assert "Traceback" not in done.stdout + done.stderr
    assert "oneDNN" not in done.stdout + done.stderr


def test_the_summary_names_runs_and_notebooks(built):
    out, _ = built
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exit_code"] == 0
    assert summary["dataset"]["name"] == HOSTILE
    assert {run["status"] for run in summary["runs"]} == {"trained"}
    assert {run["model"] for run in summary["runs"]} == {"mlp_e1", "mlp_e2", "mlp_e3"}
    for run in summary["runs"]:
        record = json.loads((out / run["record"]).read_text())
        assert record["test"]["accuracy"] == run["test_accuracy"]
    statuses = {n: v["status"] for n, v in summary["notebooks"].items()}
    assert statuses == {"data": "published", "mlp": "published", "compare": "published"}
    headline = summary["notebooks"]["mlp"]["headline"]
    assert headline.startswith("Most accurate of 3 models")


@pytest.mark.parametrize("name", ["data", "mlp", "compare"])
def test_every_code_cell_was_executed_in_order(built, name):
    out, _ = built
    notebook = nbformat.read(out / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "papermill" not in notebook.metadata, "it holds paths of this machine"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("mlp", "record"),
        ("mlp", "seeds"),
        ("compare", "seeds"),
        ("index", "seeds"),
    ],
)
def test_every_accuracy_on_a_page_is_that_of_the_records_it_links_to(
    built, name, column
):
    """Of one run its own, of several their mean; full ones of the evidence too."""
    out, _ = built
    page = Page((out / "site" / f"{name}.html").read_text())
    checked = set()
    for head, *rows in page.tables:
        if column not in head[0]:
            continue
        for row, links in rows:
            cells = dict(zip(head[0], row, strict=True))
            linked = [json.loads((out / "site" / link).read_text()) for link in links]
            if not linked:
                assert cells["ours (%)"] == ""
                continue
            model = cells["model"].split()[-1]  # after its title
            assert {record["model"] for record in linked} == {model}
            mean = sum(r["test"]["accuracy"] for r in linked) / len(linked)
            columns = {"test accuracy (%)", "accuracy (%)", "ours (%)"} & {*cells}
            assert {cells[column] for column in columns} == {f"{100 * mean:.2f}"}
            if "training accuracy (%)" in cells:
                last = linked[0]["history"][-1]["accuracy"]
                assert cells["training accuracy (%)"] == f"{100 * last:.2f}"
            checked.add(model)
    assert {"mlp_e1", "mlp_e2", "mlp_e3"} <= checked


def test_a_family_page_has_one_curve_and_one_figure_of_violins_per_model(built):
    out, _ = built
    notebook = nbformat.read(out / "notebooks" / "mlp.ipynb", as_version=4)
    for call in ("plots.learning_curve", "plots.weight_violins"):
        found = [c for c in notebook.cells if c.source.count(call + "(experiment,")]
        assert len(found) == 1, f"mlp.ipynb: expected one cell with {call}"
        (cell,) = found
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(pictures) == len(models.FAMILIES["mlp"])
    page = Page((out / "site" / "mlp.html").read_text())
    assert len(page.images) >= 2 * len(models.FAMILIES["mlp"])


@pytest.mark.parametrize("name", ["index", "data", "mlp", "compare"])
def test_a_page_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(built, name):
    out, _ = built
    site = out / "site"
    page = Page((site / f"{name}.html").read_text())
    for source in page.loaded:
        assert source.startswith("data:") or (site / source).exists(), source
    for link in page.links:
        file = link.partition("#")[0]
        assert not file or (site / file).exists(), link
    conv2 = (site / "conv2.html").read_text()
    assert "run_all.py --only conv2" in conv2, "a page that is not there says so"


def test_a_second_build_trains_and_executes_nothing(built, pictures):
    out, _ = built
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    only = ("--only", "data", "--only", "mlp", "--only", "compare")
    done = run_command(*SMOKE, *only, "--dataset", pictures, "--out", out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: what else the machine does is not of its making.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "summary.json").read_text())
    assert {run["status"] for run in summary["runs"]} == {"reused"}
    assert {n["status"] for n in summary["notebooks"].values()} == {"reused"}
    assert done.returncode == 0
    assert seconds < 15


def test_a_dry_run_says_what_would_be_done_and_why_and_writes_nothing(run, tmp_path):
    out = tmp_path / "out"
    code, said, _ = run(*SMOKE, "--only", "mlp", "--dry-run", "--out", out)
    assert code == 0
    assert re.search(r"run +mlp_e1, seed 0 +train \(new\)", said)
    assert re.search(r"notebook +mlp +execute \(not published yet\)", said)
    assert not out.exists()


def test_a_notebook_kernel_trains_the_same_bits_as_run_all(
    built, pictures, checkout, tmp_path
):
    """mlp.ipynb run to its runs, with no run_all.py before it."""
    out, _ = built
    own, dataset = str(tmp_path / "own"), str(pictures)
    parameters = {"profile": "smoke", "dataset": dataset, "out": own}
    done = execute(
        checkout / "notebooks" / "mlp.ipynb",
        tmp_path / "mlp.ipynb",
        parameters,
        environment={"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        timeout=300,
    )
    assert done.status == "published", done.message
    by_notebook = {r.name: r.record for r in stored_runs(tmp_path / "own")}
    by_command = {r.name: r.record for r in stored_runs(out)}
    assert set(by_notebook) == set(by_command) == {"mlp_e1", "mlp_e2", "mlp_e3"}
    for name, record in by_notebook.items():
        assert record["weights_sha256"] == by_command[name]["weights_sha256"]
        assert record["key"] == by_command[name]["key"]
    shown = nbformat.read(tmp_path / "mlp.ipynb", as_version=4)
    (cell,) = (c for c in shown.cells if c.source.startswith("runs = study("))
    boards = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
    assert "".join(boards).count("3 of 3 runs") == 1


def test_help_answers_within_a_second():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = run_command("--help")
        seconds.append(time.perf_counter() - started)
    assert "--profile" in done.stdout
    assert sorted(seconds)[1] < 1


def test_a_failed_page_leaves_the_last_good_one_with_a_banner(no_evidence, tmp_path):
    """And what a page declares is escaped wherever it is shown."""
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir()
    path = folder / "page.ipynb"
    declares = DECLARE.replace("fine", HOSTILE)

    def publish(*sources):
        nbformat.write(notebook_of(*sources), path)
        page = pages.Page(path.stem, path, {}, ())
        alone = build.Build((page,), out, data.load(), (page.name,))
        (done,), _ = build.publish_pages(alone, workers=1, timeout=60)
        index.write_site([done], out, alone.names, alone.dataset)
        return done.status

    def site(name):
        text = (out / "site" / f"{name}.html").read_text()
        assert "<img src=x" not in text
        return text

    assert publish("1", declares) == "published"
    assert publish("1", declares) == "reused"
    assert "&lt;img src=x" in site("index")
    good = nbformat.read(out / "notebooks" / "page.ipynb", as_version=4)
    assert publish("1 / 0", declares) == "failed"
    assert nbformat.read(out / "notebooks" / "page.ipynb", as_version=4) == good
    assert "ZeroDivisionError" in (out / "failed" / "page.ipynb").read_text()
    assert "This execution ended as failed" in site("failed/page")
    assert "The last execution ended as failed" in site("page")
    index.write_site([], out, ("page",), data.load())
    assert "failed/page.html" in site("index")
    assert publish("1", declares) == "reused"
    assert "failed/page.html" not in site("index"), "it is gone"
    assert publish("2", declares) == "published"
    assert not (out / "site" / "failed" / "page.html").exists()
    assert "The last execution ended" not in site("page")


def test_a_board_has_runs_of_this_build_only(built, pictures, no_evidence, tmp_path):
    """Pages of earlier builds stay; their runs are of other amounts, or of old code."""
    copy = shutil.copytree(built[0], tmp_path / "out")

    def index_after(name):
        about = pages.read_published(copy / "notebooks" / f"{name}.ipynb")
        done = pages.Published(pages.Page(name, copy, {}, ()), "reused", about=about)
        dataset = data.load(str(pictures))
        index.write_site([done], copy, pages.notebook_names(), dataset)
        return (copy / "site" / "index.html").read_text()

    assert "This build: 512 images" in index_after("mlp")
    after = index_after("data")
    assert "This build: 512 images" not in after
    assert "Most accurate of 3 models" in after, "its page is still there"


def test_damaged_pages_of_before_do_not_end_a_build(
    built, pictures, run, no_evidence, tmp_path
):
    copy = shutil.copytree(built[0], tmp_path / "out")
    cut_off, strange = (copy / "notebooks" / f"{n}.ipynb" for n in ("compare", "data"))
    cut_off.write_bytes(cut_off.read_bytes()[:500])
    notebook = nbformat.read(strange, as_version=4)
    del notebook.metadata["mnistlab"]
    nbformat.write(notebook, strange)
    size = (*SMOKE, "--dataset", pictures)
    code, said, errors = run(*size, "--only", "mlp", "--out", copy)
    assert code == 0, said + errors
    assert json.loads((copy / "summary.json").read_text())["exit_code"] == 0


def test_what_records_and_folders_are_called_is_escaped(built, tmp_path):
    """The data set's name is its folder's; a record may come from anyone."""
    out, _ = built
    runs = seeds("mlp_e1", 1)
    record = runs[0].record
    record["threads"] = 1
    record["dataset"]["name"] = HOSTILE
    record["environment"] = {
        "processor": HOSTILE, "cores": HOSTILE, "platform": HOSTILE,
        "python": HOSTILE, "packages": {HOSTILE: HOSTILE},
    }  # fmt: skip
    assert site.machines(runs)._repr_html_().count("&lt;img src=x") == 6
    assert "&lt;img src=x" in site.recipes(runs)._repr_html_()
    for page in ("data", "mlp", "compare", "index", "environment"):
        text = (out / "site" / f"{page}.html").read_text()
        assert "<img src=x" not in text, page
    assert "--dataset FOLDER" in text


def planned(out, dataset, **options):
    """A smoke build of two pages."""
    shown = pages.pages(["mlp", "compare"], {"profile": "smoke"}, {}, dataset)
    return build.plan(shown, out, dataset, **options)


def test_a_run_that_is_missing_fails_its_family_page_and_is_named(
    checkout, digits, tmp_path, monkeypatch
):
    """As after a failed training: the page says which, compare goes on."""
    monkeypatch.setattr(pages, "NOTEBOOKS", checkout / "notebooks")
    smoke = planned(tmp_path, digits)
    ended, ended_by = build.publish_pages(smoke, workers=2, timeout=120)
    assert ended_by is None
    mlp, compare = ended
    assert mlp.status == "failed"
    assert "mlp_e1, seed 0" in mlp.message
    assert compare.status == "published"
    page = (tmp_path / "site" / "compare.html").read_text()
    assert "Missing in this build" in page


def test_a_run_that_fails_under_fresh_is_not_shown_as_it_was_before(
    built, pictures, tmp_path
):
    """Its record of before is there; neither its page nor those of all runs use it."""
    out = tmp_path / "out"
    shutil.copytree(built[0], out)
    fresh = planned(out, data.load(str(pictures)), fresh=True)
    before = (out / "notebooks" / "compare.ipynb").read_bytes()

    def train(note):
        for number, spec in enumerate(fresh.specs):
            kind = "trained" if number else "failed"
            note(schedule.Progress(kind, spec, message="no memory"))

    ended, _ = build.publish_pages(fresh, workers=2, timeout=120, train=train)
    assert [done.status for done in ended] == ["failed", "failed"]
    assert {done.message for done in ended} == {"mlp_e1, seed 0: no memory"}
    assert (out / "notebooks" / "compare.ipynb").read_bytes() == before
    page = (out / "site" / "compare.html").read_text()
    assert "The last execution ended as failed; this page is of" in page


def test_what_a_page_is_made_of_decides_whether_it_is_executed_again(tmp_path):
    source = ROOT / "notebooks" / "data.ipynb"
    path = tmp_path / "data.ipynb"
    shutil.copy(source, path)

    def parts():
        page = pages.Page("data", path, {"dataset": "mnist"}, ())
        return pages.page_key_parts(page, {})

    before = parts()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="x")]
    notebook.cells[2].id = "other"
    nbformat.write(notebook, path)
    assert parts() == before, "outputs and ids decide nothing"
    for change in ("markdown", "code", "tag"):
        notebook = nbformat.read(source, as_version=4)
        if change == "tag":
            notebook.cells[2].metadata["tags"] = ["new"]
        else:
            cell = next(c for c in notebook.cells if c.cell_type == change)
            cell.source += " "
        nbformat.write(notebook, path)
        changed = parts()
        assert [n for n in changed if changed[n] != before[n]] == ["cells"], change


def test_records_of_a_page_are_the_declared_ones(built):
    out, _ = built
    notebook = nbformat.read(out / "notebooks" / "mlp.ipynb", as_version=4)
    (declared,) = (
        output.data[RESULT_MIME]
        for output in notebook.cells[-1].outputs
        if RESULT_MIME in output.get("data", {})
    )
    found = {f"{run.name}/{run.key16}" for run in stored_runs(out)}
    assert set(declared["runs"]) == found
    assert declared["thumbnail"]
    assert all(isinstance(run, Run) for run in stored_runs(out))
