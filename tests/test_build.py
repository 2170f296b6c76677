"""`run_all.py` as its users run it: whole builds, failures, and bad use."""

import json
import re
import resource
import shutil
import timeit

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import (
    DECLARE,
    notebook_of,
    run_command,
    seeds,
    small_part_of,
    stored_runs,
)

from mnistlab import data, models, schedule, store
from reports import build, index, pages, site
from reports.execute import execute

SMOKE = ("--profile", "smoke")
PAGES = ("data", "mlp", "compare")
ONLY = [part for name in PAGES for part in ("--only", name)]
MODELS = {"mlp_e1", "mlp_e2", "mlp_e3"}
HOSTILE = "<img src=x onerror=alert(1)>; reboot"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, digits):
    """A folder with a part of MNIST, which is called as an attacker would call it."""
    return small_part_of(digits, tmp_path_factory.mktemp("pictures") / HOSTILE)


@pytest.fixture(scope="module")
def ended(tmp_path_factory, pictures):
    """A smoke build of three notebooks: its output folder, and the process."""
    out = tmp_path_factory.mktemp("build")
    how = (*SMOKE, *ONLY, "--workers", 1)  # each one imports Keras
    done = run_command(*how, "--dataset", pictures, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done


@pytest.fixture(scope="module")
def built(ended):
    """The output folder of that build."""
    return ended[0]


def page_of(out, name):
    """A page of the site, parsed."""
    return BeautifulSoup((out / "site" / f"{name}.html").read_text(), "html.parser")


def texts_of(row):
    return [cell.text.strip() for cell in row(["th", "td"])]


def test_a_build_ends_well_and_says_where_the_site_is(ended):
    out, done = ended
    assert f"file://{out}/site/index.html" in done.stdout
    for name in PAGES:
        assert (out / "site" / f"{name}.html").exists()
        assert (out / "notebooks" / f"{name}.ipynb").exists()
    assert list((out / "failed").iterdir()) == []
    assert "Traceback" not in done.stdout + done.stderr
    assert "oneDNN" not in done.stdout + done.stderr


def test_the_summary_names_runs_and_notebooks(built):
    summary = json.loads((built / "summary.json").read_text())
    assert summary["exit_code"] == 0
    assert summary["dataset"]["name"] == HOSTILE
    assert {run["status"] for run in summary["runs"]} == {"trained"}
    assert {run["model"] for run in summary["runs"]} == MODELS
    for run in summary["runs"]:
        record = json.loads((built / run["record"]).read_text())
        assert record["test"]["accuracy"] == run["test_accuracy"]
    statuses = {n: v["status"] for n, v in summary["notebooks"].items()}
    assert statuses == dict.fromkeys(PAGES, "published")
    headline = summary["notebooks"]["mlp"]["headline"]
    assert headline.startswith("Most accurate of 3 models")


@pytest.mark.parametrize("name", PAGES)
def test_every_code_cell_was_executed_in_order(built, name):
    notebook = nbformat.read(built / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "papermill" not in notebook.metadata, "it holds paths of this machine"


@pytest.mark.parametrize(
    ("name", "column"),
    [("mlp", "record"), ("mlp", "seeds"), ("compare", "seeds"), ("index", "seeds")],
)
def test_every_accuracy_on_a_page_is_that_of_the_records_it_links_to(
    built, name, column
):
    """Of one run its own, of several their mean; full ones of the evidence too."""
    checked = set()
    for table in page_of(built, name)("table"):
        head, *rows = table("tr")
        if column not in texts_of(head):
            continue
        for row in rows:
            cells = dict(zip(texts_of(head), texts_of(row), strict=True))
            linked = [json.loads((built / "site" / link["href"]).read_text())
                      for link in row("a")]  # fmt: skip
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
    assert checked >= MODELS


def test_a_family_page_has_one_curve_and_one_figure_of_violins_per_model(built):
    notebook = nbformat.read(built / "notebooks" / "mlp.ipynb", as_version=4)
    for call in ("plots.learning_curve", "plots.weight_violins"):
        found = [c for c in notebook.cells if c.source.count(call + "(experiment,")]
        assert len(found) == 1, f"mlp.ipynb: expected one cell with {call}"
        (cell,) = found
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(pictures) == len(models.FAMILIES["mlp"])
    assert len(page_of(built, "mlp")("img")) >= 2 * len(models.FAMILIES["mlp"])


@pytest.mark.parametrize("name", ["index", "data", "mlp", "compare"])
def test_a_page_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(built, name):
    site, page = built / "site", page_of(built, name)
    for tag in page(["script", "link", "img", "iframe"]):
        source = tag.get("src") or tag.get("href") or ""
        assert source.startswith("data:") or (site / source).exists(), source
    for link in page("a"):
        file = link.get("href", "").partition("#")[0]
        assert not file or (site / file).exists(), link
    conv2 = (site / "conv2.html").read_text()
    assert "run_all.py --only conv2" in conv2, "a page that is not there says so"


def test_a_second_build_trains_and_executes_nothing(built, pictures):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_command(*SMOKE, *ONLY, "--dataset", pictures, "--out", built)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: what else the machine does is not of its making.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((built / "summary.json").read_text())
    assert {run["status"] for run in summary["runs"]} == {"reused"}
    assert {n["status"] for n in summary["notebooks"].values()} == {"reused"}
    assert done.returncode == 0
    assert seconds < 15


def test_a_dry_run_says_what_would_be_done_and_why_and_writes_nothing(run, tmp_path):
    out = tmp_path / "out"
    code, said, _ = run(*SMOKE, "--only", "mlp", "--dry-run", "--out", out)
    assert code == 0
    assert re.search(r"run +mlp_e1, seed 0 +train \(new\)", said)
    assert re.search(r"notebook +mlp +execute \(new\)", said)
    assert not out.exists()


def test_a_notebook_kernel_trains_the_same_bits_as_run_all(
    built, pictures, checkout, tmp_path
):
    """mlp.ipynb run to its runs, with no run_all.py before it."""
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
    by_notebook, by_command = (
        {run.name: (run.record["key"], run.record["weights_sha256"]) for run in runs}
        for runs in (stored_runs(own), stored_runs(built))
    )
    assert by_notebook == by_command
    assert set(by_notebook) == MODELS
    shown = nbformat.read(tmp_path / "mlp.ipynb", as_version=4)
    (cell,) = (c for c in shown.cells if c.source.startswith("runs = study("))
    boards = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
    assert "".join(boards).count("3 of 3 runs") == 1


def test_help_answers_within_a_second():
    assert "--profile" in run_command("--help").stdout
    seconds = timeit.repeat(lambda: run_command("--help"), number=1, repeat=3)
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
    copy = shutil.copytree(built, tmp_path / "out")

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
    copy = shutil.copytree(built, tmp_path / "out")
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
    runs = seeds("mlp_e1", 1)
    record = runs[0].record
    record["threads"] = 1
    record["dataset"]["name"] = HOSTILE
    record["environment"] = {
        "processor": HOSTILE, "cores": HOSTILE, "platform": HOSTILE,
        "python": HOSTILE, "packages": {HOSTILE: HOSTILE},
    }  # fmt: skip
    assert site.environment(runs, PAGES).count("&lt;img src=x") == 6 + 1
    for page in (*PAGES, "index", "environment"):
        text = (built / "site" / f"{page}.html").read_text()
        assert "<img src=x" not in text, page
    assert "--dataset FOLDER" in text


def test_a_run_that_is_missing_fails_its_family_page_and_is_named(
    checkout, digits, tmp_path, monkeypatch
):
    """As after a failed training: the page says which, compare goes on."""
    monkeypatch.setattr(pages, "NOTEBOOKS", checkout / "notebooks")
    shown = pages.pages(["mlp", "compare"], {"profile": "smoke"}, {}, digits)
    smoke = build.plan(shown, tmp_path, digits)
    ended, ended_by = build.publish_pages(smoke, workers=2, timeout=120)
    assert ended_by is None
    mlp, compare = ended
    assert mlp.status == "failed"
    assert "or this notebook has no parameter `family`" in mlp.message
    assert "mlp_e1, seed 0" in mlp.message
    assert compare.status == "published"
    page = (tmp_path / "site" / "compare.html").read_text()
    assert "Missing in this build" in page


def test_a_run_that_fails_under_fresh_is_not_shown_as_it_was_before(
    built, pictures, run, tmp_path, monkeypatch
):
    """Its record of before is there; neither its page nor those of all runs use it."""
    out = shutil.copytree(built, tmp_path / "out")
    before = (out / "notebooks" / "compare.ipynb").read_bytes()

    def train_all_but_e1(specs, _, out, *, report, **__):
        for spec in specs:
            kind, run = "trained", store.stored_run(out, spec)
            if spec.task.experiment.name == "mlp_e1":
                kind, run = "failed", None
            report(schedule.Progress(kind, spec, message="no memory [/x]", run=run))

    monkeypatch.setattr(schedule, "train_runs", train_all_but_e1)
    size = (*SMOKE, "--dataset", pictures)
    both = ("--only", "mlp", "--only", "compare")
    code, said, errors = run(*size, *both, "--fresh", "--out", out)
    assert code == 1, said + errors
    assert "no memory [/x]" in re.sub(r"[\s│]+", " ", said)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exit_code"] == 1
    for name in ("mlp", "compare"):
        ended = summary["notebooks"][name]
        assert ended["status"] == "failed"
        assert ended["message"] == "mlp_e1, seed 0: no memory [/x]"
        failed = (out / "site" / "failed" / f"{name}.html").read_text()
        assert "mlp_e1, seed 0: no memory [/x]" in failed
    assert (out / "notebooks" / "compare.ipynb").read_bytes() == before
    page = (out / "site" / "compare.html").read_text()
    assert "The last execution ended as failed; this page is of" in page
    assert list(out.glob("runs/mlp_e1/*/run.json")), "what was there is kept"


def test_records_of_a_page_are_the_declared_ones(built):
    declared = pages.read_published(built / "notebooks" / "mlp.ipynb")["result"]
    found = {f"{run.name}/{run.key16}" for run in stored_runs(built)}
    assert set(declared["runs"]) == found
    assert declared["thumbnail"]
