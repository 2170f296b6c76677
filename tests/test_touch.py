"""Draw and duel: JavaScript's forward pass against Keras, and the pages in Chromium."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import binomtest

from mnistlab import data
from mnistlab.models import build
from mnistlab.store import evidence
from mnistlab.train import normalized
from reports import touch

SCRIPTS = ROOT / "reports" / "templates" / "mnistlab"
FIFTY = np.arange(0, 10_000, 200)
ANSWER = """
const network = require(process.argv[1]);
const {script, pictures} = JSON.parse(require("fs").readFileSync(0));
globalThis.mnistlabLoaded = (model) => { globalThis.model = network.load(model); };
(0, eval)(script);
const read = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
console.log(JSON.stringify(pictures.map((p) => [...network.answer(model, read(p))])));
"""


def with_weights():
    """One run of each model that has weights."""
    return list({run.name: run for run in evidence() if run.has_weights}.values())


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
@pytest.mark.parametrize("run", with_weights(), ids=lambda run: run.name)
def test_javascript_and_keras_give_the_same_probabilities(run, keras):
    images = data.load().x_test[FIFTY]
    model = build(run.experiment)
    weights = run.weights()
    for layer in model.layers:
        layer.set_weights([weights[f"{layer.name}/{w.name}"] for w in layer.weights])
    x = normalized(images, run.experiment.recipe.normalization)
    x = x if run.experiment.spatial else x.reshape(len(x), -1)
    theirs = np.asarray(model(x, training=False))
    asked = {
        "script": touch.weights_script(run)[0],
        "pictures": [touch._base64(image.tobytes()) for image in images],
    }
    done = subprocess.run(
        ["node", "-e", ANSWER, str(SCRIPTS / "network.js")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = np.array(json.loads(done.stdout))
    print(f"{run.name}: largest difference {np.abs(ours - theirs).max():.2e}")
    assert np.abs(ours - theirs).max() < 0.01
    sure = theirs.max(axis=1) > 0.6
    np.testing.assert_array_equal(ours.argmax(1)[sure], theirs.argmax(1)[sure])


# Ten digits as pointer strokes, made by hand as points in a box of 100 x 100.
STROKES = {
    0: ["50,5 25,20 15,50 25,85 50,96 76,84 86,50 76,18 50,5"],
    1: ["55,5 50,50 46,96"],
    2: ["18,25 35,8 62,8 76,26 66,50 40,75 15,94 50,90 88,94"],
    3: ["20,12 50,5 76,18 70,38 45,47 72,55 82,75 62,93 35,96 15,85"],
    4: ["30,5 18,50 50,54 82,48", "74,8 70,50 66,97"],
    5: ["78,6 32,8 26,44 55,42 78,58 74,82 48,96 18,88"],
    6: ["68,4 40,25 24,55 25,82 45,96 68,90 74,70 58,58 36,66 26,80"],
    7: ["15,10 50,8 84,8 66,45 46,96"],
    8: ["72,16 48,5 28,18 34,38 60,54 74,76 56,96 32,86 30,68 58,46 74,28 72,16"],
    9: ["76,22 52,6 28,20 30,44 54,52 75,34 76,22 72,60 62,96"],
}


def site_of(folder):
    runs = [run for run in evidence() if run.compares_with_2019]
    for write in (touch.write_draw, touch.write_duel):
        write(folder, runs, data.load(), ["mlp"])
    site_begin(folder)
    return folder


def site_begin(folder):
    for name in ("style.css", "site.js"):
        (folder / name).write_bytes((SCRIPTS / name).read_bytes())


@pytest.fixture
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.asked, tab.complaints = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        yield tab
        browser.close()


def draw(page, strokes):
    box = page.locator("#board").bounding_box()
    for stroke in strokes:
        points = [tuple(map(float, p.split(","))) for p in stroke.split()]
        for i, (x, y) in enumerate(points):
            page.mouse.move(box["x"] + 40 + 2 * x, box["y"] + 40 + 2 * y, steps=4)
            if not i:
                page.mouse.down()
        page.mouse.up()


@pytest.mark.browser
def test_strokes_and_keys_are_answered_from_disk(page, tmp_path):
    site = site_of(tmp_path)
    page.goto((site / "draw.html").as_uri())
    assert page.inner_text("#majority") == "Nothing is drawn yet."
    said = {}
    for digit, strokes in STROKES.items():
        page.click("#clear")
        draw(page, strokes)
        page.wait_for_timeout(1500)
        said[digit] = page.inner_text("#majority")
    print(said)
    right = [d for d, text in said.items() if f"networks say {d}" in text]
    assert len(right) >= 9, said
    page.click("#clear")
    assert page.inner_text("#majority") == "Nothing is drawn yet."
    assert page.locator("#answers .digit").all_inner_texts()[-1] == ""
    page.focus("#board")
    for key in (" ", *["ArrowDown"] * 14, " "):
        page.keyboard.press(key)
    page.wait_for_timeout(1500)
    assert "networks say 1" in page.inner_text("#majority")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(url.startswith(("file:", "blob:", "data:")) for url in page.asked)
    assert page.complaints == []


@pytest.mark.browser
def test_a_duel_counts_as_numpy_does(page, tmp_path):
    site = site_of(tmp_path)
    runs = [run for run in evidence() if run.compares_with_2019]
    one, two = runs[0], runs[-1]
    chosen = f"#{one.name}/{one.seed},{two.name}/{two.seed}"
    page.goto((site / "duel.html").as_uri() + chosen)
    labels = data.load().y_test
    a, b = (run.predictions()[0] == labels for run in (one, two))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    # Newcombe's method 10, of two Wilson intervals.
    shares = np.array([a.mean(), b.mean()])
    ends = np.array([
        binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        for right in (a, b)
    ])  # fmt: skip
    below, above = (shares - ends[:, 0]), (ends[:, 1] - shares)
    low = shares[0] - shares[1] - np.hypot(below[0], above[1])
    high = shares[0] - shares[1] + np.hypot(above[0], below[1])
    cells = page.locator("#table td").all_inner_texts()[1:]
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    assert [int(c) for c in cells] == [both, only_a, only_b, neither]
    p = binomtest(only_a, only_a + only_b).pvalue  # McNemar's exact test
    assert (f"p = {p:.4f}" if p >= 0.0001 else "e-") in page.inner_text("#test")
    assert f"{100 * low:+.2f} to {100 * high:+.2f}" in page.inner_text("#said")
    assert page.locator("#only-a li").count() == only_a
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (site / "duel.html").stat().st_size < 2_000_000
    assert page.complaints == []
