"""Draw and duel: JavaScript's forward pass against Keras, and the pages in Chromium."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT

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
