"""`run_all.py` as its users run it: whole builds, failures, and bad use."""

import json
import re
import resource
import shutil
import time
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest
from conftest import DECLARE, ROOT, notebook_of, run_command, stored_runs

from mnistlab import data, models, schedule
from mnistlab.result import RESULT_MIME
from mnistlab.runs import Run
from mnistlab.study import StudyError
from reports import build, index, pages
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


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A smoke build of three notebooks, with its output."""
    out = tmp_path_factory.mktemp("build")
    only = ("--only", "data", "--only", "mlp", "--only", "compare")
    done = run_command(*SMOKE, *only, "--out", out)
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
    assert summary["dataset"]["name"] == "mnist"
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


def test_a_second_build_trains_and_executes_nothing(built):
    out, _ = built
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    only = ("--only", "data", "--only", "mlp", "--only", "compare")
    done = run_command(*SMOKE, *only, "--out", out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: what else the machine does is not of its making.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "summary.json").read_text())
    assert {run["status"] for run in summary["runs"]} == {"reused"}
    assert {n["status"] for n in summary["notebooks"].values()} == {"reused"}
    assert done.returncode == 0
    assert seconds < 15


def test_a_dry_run_says_what_would_be_done_and_why_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    done = run_command(*SMOKE, "--only", "mlp", "--dry-run", "--out", out)
    assert done.returncode == 0
    assert re.search(r"run +mlp_e1, seed 0 +train \(new\)", done.stdout)
    assert re.search(r"notebook +mlp +execute \(not published yet\)", done.stdout)
    assert not out.exists()


def test_a_notebook_kernel_trains_the_same_bits_as_run_all(built, tmp_path):
    """mlp.ipynb opened and run from top to bottom, with no run_all.py before it."""
    out, _ = built
    parameters = {"profile": "smoke", "out": str(tmp_path / "own")}
    done = execute(
        ROOT / "notebooks" / "mlp.ipynb",
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
    progress = json.dumps(cell.outputs)
    assert progress.count("3 of 3 runs") == 1


def test_bad_use_in_a_shell_is_one_line_and_exit_code_2(tmp_path):
    """All that may be wrong is in test_bad_input.py."""
    done = run_command("--only", "conv22", "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("run_all.py: --only: expected one of")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_answers_within_a_second():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = run_command("--help")
        seconds.append(time.perf_counter() - started)
    assert "--profile" in done.stdout
    assert sorted(seconds)[1] < 1


def publish_alone(path, out):
    """A notebook as the only one of a site."""
    page = pages.Page(path.stem, path, {}, ())
    alone = build.Build((page,), out, data.load(), (page.name,))
    (done,), _ = build.publish_pages(alone, workers=1, timeout=60)
    index.write_site([done], out, alone.names, alone.dataset)
    return done


def test_a_failed_page_leaves_the_last_good_one_with_a_banner(tmp_path):
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir()
    path = folder / "page.ipynb"

    def publish(*sources):
        nbformat.write(notebook_of(*sources), path)
        return publish_alone(path, out).status

    assert publish("1", DECLARE) == "published"
    assert publish("1", DECLARE) == "reused"
    good = nbformat.read(out / "notebooks" / "page.ipynb", as_version=4)
    assert publish("1 / 0", DECLARE) == "failed"
    assert nbformat.read(out / "notebooks" / "page.ipynb", as_version=4) == good
    assert "ZeroDivisionError" in (out / "failed" / "page.ipynb").read_text()
    failed = (out / "site" / "failed" / "page.html").read_text()
    assert "This execution ended as failed" in failed
    kept = (out / "site" / "page.html").read_text()
    assert "The last execution ended as failed" in kept
    assert "failed/page.html" in (out / "site" / "index.html").read_text()
    assert publish("2", DECLARE) == "published"
    assert not (out / "site" / "failed" / "page.html").exists()
    assert "The last execution ended" not in (out / "site" / "page.html").read_text()


def test_a_board_has_runs_of_this_build_only(built, tmp_path):
    """Pages of earlier builds stay; their runs are of other amounts, or of old code."""
    copy = shutil.copytree(built[0], tmp_path / "out")
    one = ("--only", "mlp", "-p", "train_size=300")
    done = run_command(*SMOKE, *one, "--out", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    index = (copy / "site" / "index.html").read_text()
    assert "This build: 300 images" in index
    assert "This build: 512 images" not in index
    assert (copy / "site" / "compare.html").exists()


@pytest.mark.parametrize("damage", ["cut off", "without metadata"])
def test_a_damaged_page_of_before_does_not_end_a_build(built, tmp_path, damage):
    copy = shutil.copytree(built[0], tmp_path / "out")
    path = copy / "notebooks" / "compare.ipynb"
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:500])
    else:
        notebook = nbformat.read(path, as_version=4)
        del notebook.metadata["mnistlab"]
        nbformat.write(notebook, path)
    done = run_command(*SMOKE, "--only", "mlp", "--out", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((copy / "summary.json").read_text())["exit_code"] == 0


HOSTILE = "<img src=x onerror=alert(1)>; reboot"


def test_what_records_and_folders_are_called_is_escaped_on_every_page(built, tmp_path):
    """The data set's name is its folder's; a record may come from anyone."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    digits = data.load()
    np.savez(
        folder / "mnist.npz",
        x_train=digits.x_train, y_train=digits.y_train,
        x_test=digits.x_test, y_test=digits.y_test,
    )  # fmt: skip
    copy = shutil.copytree(built[0], tmp_path / "out")
    for path in copy.glob("runs/*/*/run.json"):
        record = json.loads(path.read_text())
        record["dataset"]["name"] = HOSTILE
        record["environment"] = {
            "processor": HOSTILE, "cores": HOSTILE, "platform": HOSTILE,
            "python": HOSTILE, "packages": {HOSTILE: HOSTILE},
        }  # fmt: skip
        path.write_text(json.dumps(record))
    shown = ("data", "mlp", "compare")
    only = [part for page in shown for part in ("--only", page)]
    size = ("--profile", "smoke", "--dataset", folder)
    done = run_command(*size, *only, "--out", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Runs: 3 reused" in done.stdout, "the name decides nothing"
    for page in (*shown, "index", "environment"):
        text = (copy / "site" / f"{page}.html").read_text()
        assert "<img src=x" not in text, page
    text = (copy / "site" / "environment.html").read_text()
    assert "--dataset FOLDER" in text


def test_the_index_escapes_what_a_notebook_declares(tmp_path):
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir()
    script = "from mnistlab.result import declare\ndeclare('<script>alert(1)</script>')"
    nbformat.write(notebook_of(script), folder / "page.ipynb")
    publish_alone(folder / "page.ipynb", out)
    for name in ("index", "page"):
        assert "<script>alert(1)" not in (out / "site" / f"{name}.html").read_text()


def planned(out, **options):
    """A smoke build of two pages."""
    dataset = data.load()
    shown = pages.pages(["mlp", "compare"], {"profile": "smoke"}, {}, dataset)
    return build.plan(shown, out, dataset, **options)


def test_a_run_that_is_missing_fails_its_family_page_and_is_named(tmp_path):
    """As after a failed training: the page says which, compare goes on."""
    smoke = planned(tmp_path)
    ended, ended_by = build.publish_pages(smoke, workers=2, timeout=120)
    assert ended_by is None
    mlp, compare = ended
    assert mlp.status == "failed"
    assert "mlp_e1, seed 0" in mlp.message
    assert compare.status == "published"
    page = (tmp_path / "site" / "compare.html").read_text()
    assert "Missing in this build" in page


def test_a_run_that_fails_under_fresh_is_not_shown_as_it_was_before(built, tmp_path):
    """Its record of before is there; neither its page nor those of all runs use it."""
    out = tmp_path / "out"
    shutil.copytree(built[0], out)
    fresh = planned(out, fresh=True)
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


def test_a_parameters_cell_may_only_hold_literals(tmp_path):
    notebook = notebook_of("epochs = int('3')")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "a.ipynb")
    with pytest.raises(StudyError, match="may only hold lines such as"):
        pages.default_parameters(tmp_path / "a.ipynb")
    nbformat.write(notebook_of("epochs = 3"), tmp_path / "b.ipynb")
    with pytest.raises(StudyError, match="no cell is tagged 'parameters'"):
        pages.default_parameters(tmp_path / "b.ipynb")


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
