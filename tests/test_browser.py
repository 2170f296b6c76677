"""The site and the notebooks in a real browser: `make test-browser`.

Chromium opens every page from disk, and JupyterLab on loopback. Screenshots at three
widths are kept in build/screenshots.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from browsing import asked_elsewhere, kept_out, noting
from conftest import ROOT, run_command

pytestmark = pytest.mark.browser
PAGES = ("data", "mlp", "conv2", "conv3", "conv5", "conv7", "compare", "claims")
ALL_PAGES = ("index", *PAGES, "draw", "duel", "environment", "failed/mlp")
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1300}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A smoke build of all notebooks; then `mlp` is stopped at its time limit."""
    out = tmp_path_factory.mktemp("site")
    build = ("--profile", "smoke", "--out", out)
    done = run_command(*build, "--seeds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    late = run_command(*build, "--only", "mlp", "--timeout", "1")
    assert late.returncode == 1, late.stdout
    return out / "site"


@pytest.fixture
def page(chromium):
    """A new page that notes what it asks for and complains of."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = noting(context)
    tab.on(
        "console",
        lambda m: tab.complaints.append(m.text) if m.type == "error" else None,
    )
    yield tab
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / "last.png")  # what a failed test saw
    context.close()


def opened(page, site, name):
    page.goto((site / f"{name}.html").as_uri())
    return page


@pytest.mark.parametrize("name", ALL_PAGES)
def test_a_page_opens_from_disk_and_asks_nobody(page, site, name):
    opened(page, site, name)
    assert page.complaints == []
    assert asked_elsewhere(page) == []
    for link in page.locator("a[href]").evaluate_all("all => all.map(a => a.href)"):
        if link.startswith("file:"):
            path, _, anchor = unquote(link).removeprefix("file://").partition("#")
            assert Path(path).exists(), link
            if anchor and not path.endswith("duel.html"):  # there it names two runs
                assert f'id="{anchor}"' in Path(path).read_text(), link
    for text in page.locator("img").evaluate_all("all => all.map(i => i.alt)"):
        assert len(text) > 10, "every figure has its alternative text"


@pytest.mark.parametrize("name", ALL_PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_out(page, site, name, scheme):
    """axe-core, on the page as it is and with its code shown."""
    page.emulate_media(color_scheme=scheme)
    opened(page, site, name)
    if page.locator("#code-switch").count():
        page.click("#code-switch")
    assert kept_out(page) == []


@pytest.mark.parametrize("name", ALL_PAGES)
def test_a_page_fits_a_phone_a_tablet_and_a_desk(page, site, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for kind, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        opened(page, site, name)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide on a {kind}"
        header = page.locator("header").bounding_box()["height"]
        assert header < 50, f"the navigation takes more than a line on a {kind}"
        cut_off = page.locator("main .scroll").evaluate_all(
            "all => all.filter(box => box.scrollWidth > box.clientWidth + 1 && "
            "!box.querySelector('.hint')).length"
        )
        assert cut_off == 0, f"{cut_off} tables of {name} are cut off without a hint"
        if kind == "desktop":
            assert not page.locator(".scroll .hint").count(), "a table scrolls"
        shot = SCREENSHOTS / f"{name.replace('/', '-')}-{kind}.png"
        page.screenshot(path=shot, full_page=name == "index")
    page.emulate_media(media="print")
    assert not page.locator("header").is_visible()


def test_one_finds_the_way(page, site):
    opened(page, site, "index")
    page.get_by_role("link", name="How far do two convolutions go?").click()
    assert page.url.endswith("/conv2.html")
    contents = page.get_by_role("navigation", name="On this page")
    contents.get_by_role("link", name="Learning curves").click()
    heading = page.get_by_role("heading", name="Learning curves")
    assert heading.is_visible()
    assert 0 <= heading.bounding_box()["y"] < 300
    pages = page.get_by_role("navigation", name="Pages")
    pages.get_by_text("Results").click()
    pages.get_by_role("link", name="claims").click()
    assert page.url.endswith("/claims.html")
    page.get_by_role("link", name="B-3").first.click()
    assert page.get_by_role("heading", name="B-3:").is_visible()
    pages.get_by_role("link", name="mnistlab").click()
    assert page.url.endswith("/index.html")


def test_a_record_is_one_click_from_its_number(page, site):
    opened(page, site, "conv2")
    page.locator("table a[href*='runs/conv2_a2/']").first.click()
    record = json.loads(page.inner_text("body"))
    assert record["model"] == "conv2_a2"


def test_code_is_folded_and_the_choice_is_kept(page, site):
    opened(page, site, "conv2")
    code = page.get_by_text("runs = study(").first
    assert not code.is_visible()
    page.get_by_role("button", name="Show code").click()
    assert code.is_visible()
    opened(page, site, "conv3")
    assert page.get_by_text("runs = study(").first.is_visible()
    page.get_by_role("button", name="Hide code").click()
    assert not page.get_by_text("runs = study(").first.is_visible()
    page.get_by_text("Code", exact=True).first.click()  # one cell alone
    assert page.locator("details.code[open]").count() == 1


def test_tables_are_sorted_by_number_up_and_down(page, site):
    opened(page, site, "conv2")
    known = page.locator("table", has=page.locator("th", has_text="multiply-adds"))
    table = known.first  # the second is that of "An architecture of your own"
    header = table.locator("th", has_text="multiply-adds")
    column = header.evaluate("th => th.cellIndex")

    def cells():
        cells = table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
        return [int(text.replace(",", "")) for text in cells]

    before = cells()
    assert before != sorted(before)
    header.get_by_role("button").click()
    assert cells() == sorted(before)
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert cells() == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"


def test_dark_follows_the_system_until_it_is_switched(page, site):
    def brightness():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    page.emulate_media(color_scheme="dark")
    opened(page, site, "mlp")
    assert brightness() < 150
    page.get_by_role("button", name="Light").click()
    assert brightness() > 700
    opened(page, site, "index")
    assert brightness() > 700, "the choice is kept"


def test_a_notebook_that_failed_has_its_page_and_the_good_one_a_banner(page, site):
    opened(page, site, "index")
    page.get_by_role("link", name="What failed").click()
    assert "ended as timeout" in page.get_by_role("status").inner_text()
    opened(page, site, "mlp")
    assert "last execution ended as timeout" in page.get_by_role("status").inner_text()
    assert page.get_by_role("heading", name="What to remember").count() == 1


def test_pages_are_not_too_heavy(site):
    assert (site / "index.html").stat().st_size < 2**20
    for name in PAGES:
        assert (site / f"{name}.html").stat().st_size < 5 * 2**20, name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on loopback, on a copy of the notebooks; returns its address."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--notebook-dir={folder}", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", *options]
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "JUPYTERLAB_SETTINGS_DIR": str(home),
    }  # fmt: skip
    # Else cells that are not in view are not in the page, and cannot be looked for.
    settings = home / "@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    with (folder.parent / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None, (folder.parent / "lab.log").read_text()
        time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/lab", folder
    server.terminate()
    server.wait(60)


def prepared(folder, name, out, **parameters):
    """The notebook with other parameters, as a student would type them."""
    path = folder / f"{name}.ipynb"
    notebook = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    for key, value in {"out": str(out), **parameters}.items():
        line = rf"^{key} = .*$"
        cell.source = re.sub(line, f"{key} = {value!r}", cell.source, flags=re.M)
    nbformat.write(notebook, path)


def open_notebook(page, address):
    """Open a notebook in JupyterLab, and wait until its kernel is there."""
    page.goto(address)
    page.get_by_role("menuitem", name="Run", exact=True).wait_for(timeout=90_000)
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    page.get_by_text("| Idle").wait_for(timeout=60_000)


def outputs(page):
    return page.locator(".jp-OutputArea-output").all_inner_texts()


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def test_in_jupyterlab_one_sees_it_learn_interrupts_and_goes_on(page, lab, tmp_path):
    address, folder = lab
    prepared(folder, "mlp", tmp_path / "out", profile="full", epochs=30)
    page.set_viewport_size({"width": 1440, "height": 1100})
    open_notebook(page, f"{address}/tree/mlp.ipynb")
    run_all(page)
    cell = page.locator(".jp-CodeCell", has_text="runs = study(")
    cell.locator("img").wait_for(timeout=120_000)
    seen = set()
    while len(seen) < 3:  # the curve moves
        seen.add(cell.locator("img").get_attribute("src", timeout=60_000))
        time.sleep(0.2)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    cell.locator("img").scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "jupyterlab-training.png")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Interrupt Kernel")).click()
    said = page.get_by_text("Interrupted. Finished epochs are kept")
    said.wait_for(timeout=120_000)
    assert [text for text in outputs(page) if "Traceback" in text] == []
    kept = list((tmp_path / "out" / "runs").glob("*/*/state.npz"))
    assert kept, "finished epochs are on disk"
    page.get_by_text("| Idle").wait_for(timeout=30_000)
    time.sleep(3)  # what comes earlier is part of what was interrupted
    run_all(page)
    done = page.get_by_text("3 of 3 runs, ")
    done.wait_for(timeout=400_000)
    page.get_by_text("Most accurate of 3 models:").wait_for(timeout=90_000)
    assert not re.search("Traceback|Warning", "".join(outputs(page)))
    page.screenshot(path=SCREENSHOTS / "jupyterlab-done.png")
    assert not list((tmp_path / "out" / "runs").glob("*/*/state.npz"))


def test_in_jupyterlab_a_wrong_value_gets_a_sentence(page, lab, tmp_path):
    address, folder = lab
    prepared(folder, "conv2", tmp_path / "out", profile="quik")
    open_notebook(page, f"{address}/workspaces/other/tree/conv2.ipynb")
    run_all(page)
    page.get_by_text("did you mean 'quick'?").wait_for(timeout=90_000)
    assert "Traceback" not in "".join(outputs(page))
