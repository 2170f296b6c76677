"""The pages to be touched: draw a digit and all networks answer; two runs in a duel."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnistlab.data import Dataset
from mnistlab.environment import package_digest
from mnistlab.forward import layers_with_weights
from mnistlab.models import COLLECTION
from mnistlab.runs import Run
from mnistlab.store import write_atomically
from reports.site import head, template, write_page

COLUMNS = 40  # of the sprite
SMALL = 420_000  # bytes of float16 weights that a page loads at once
MOST_WRONG = 1_000  # mistakes of a run in the duel: their images are in the page
SILENT = ("not trained in full yet", "trained, but its weights are not kept yet")


def write(
    site: Path, runs: Sequence[Run], dataset: Dataset, names: Sequence[str]
) -> None:
    """Write both pages, unless they are there and of the same runs.

    `runs` are full runs on the test images of `dataset`, one of each model and seed.
    """
    shown = [(r.record["key"], r.record["finished"], r.has_weights) for r in runs]
    parts = package_digest(), shown, names

    def draw() -> str:
        about = head("draw", names, "Draw a digit")
        return template("draw.html.j2").render(site=about, **_draw(site, runs, dataset))

    def duel() -> str:
        about = head("duel", names, "Two runs side by side")
        return template("duel.html.j2").render(site=about, data=_duel(runs, dataset))

    write_page(site / "draw.html", parts, draw)
    write_page(site / "duel.html", parts, duel)


def _draw(site: Path, runs: Sequence[Run], dataset: Dataset) -> dict[str, Any]:
    """What draw.html shows; and a script with the weights of one run of each model."""
    models, kept = [], set()
    for name, experiment in COLLECTION.items():
        own = [run for run in runs if run.name == name]
        run = next((run for run in own if run.has_weights), None)
        said: dict[str, Any] = {
            "name": name,
            "family": name.partition("_")[0],
            "reason": "" if run else SILENT[bool(own)],
        }
        if run is not None:
            script, size = weights_script(run)
            path = site / "weights" / f"{name}.js"
            write_atomically(path, script.encode())
            kept.add(path)
            said |= {"seed": run.seed, "size": size, "small": size <= SMALL}
            said["binary"] = experiment.recipe.normalization.axis == 3
        models.append(said)
    for path in set((site / "weights").glob("*.js")) - kept:  # of earlier builds
        path.unlink(missing_ok=True)
    data = {
        "models": [m for m in models if not m["reason"]],
        "digits": _digits(runs, dataset),
    }
    return {"models": models, "facts": _facts(runs, dataset.y_test), "data": data}


def _facts(runs: Sequence[Run], labels: np.ndarray) -> dict[str, float] | None:
    """What the page says in numbers, in percent: of the first run of each model."""
    firsts = list({run.name: run for run in reversed(runs)}.values())
    if len(firsts) < 2:
        return None
    answers = [run.predictions() for run in firsts]
    said, sure = (np.array(part) for part in zip(*answers, strict=True))
    alike, right = (said == said[0]).all(axis=0), said == labels
    shares = {
        "alike": alike,
        "alike_right": right[0, alike],
        "apart_right": right[:, ~alike],
        "sure": right[sure >= 0.99],
        "unsure": right[sure < 0.6],
    }
    if not all(share.size for share in shares.values()):
        return None
    percent = {name: 100 * float(share.mean()) for name, share in shares.items()}
    return percent | {"models": len(firsts)}


def weights_script(run: Run) -> tuple[str, int]:
    """A script that hands over a network, its weights float16 in base64, and bytes.

    Of batch normalisation it has what is multiplied and what is added: a variance may
    be more than float16 can hold.
    """
    layers, parts = [], []
    experiment = run.experiment
    for name, layer, kept in layers_with_weights(experiment, run.weights()):
        if layer.kind == "BatchNormalization":
            variance = kept["moving_variance"] + layer.settings["epsilon"]
            scale = kept["gamma"] / np.sqrt(variance)
            kept = {"scale": scale, "shift": kept["beta"] - kept["moving_mean"] * scale}
        parts += [array.astype("<f2").ravel() for array in kept.values()]
        sizes = {part: array.size for part, array in kept.items()}
        settings = {k: v for k, v in layer.config if "regularizer" not in k}
        layers.append(
            {"name": name, "kind": layer.kind, "settings": settings, "weights": sizes}
        )
    packed = np.concatenate(parts).tobytes()
    normalization = experiment.recipe.normalization
    model = {
        "name": run.name,
        "normalization": {"kind": normalization.kind, "axis": normalization.axis},
        "spatial": experiment.spatial,
        "layers": layers,
        "weights": _base64(packed),
    }
    return f"mnistlabLoaded({json.dumps(model)});\n", len(packed)


def _digits(runs: Sequence[Run], dataset: Dataset) -> list[dict[str, Any]]:
    """Test images to load: of each digit one that all have right; 20 of the hardest."""
    labels = dataset.y_test
    wrong = np.zeros(len(labels), int)
    for run in runs:
        wrong += run.predictions()[0] != labels
    first = [np.flatnonzero((labels == d) & (wrong == wrong[labels == d].min()))[:1]
             for d in np.unique(labels)]  # fmt: skip
    hardest = np.argsort(-wrong, kind="stable")[:20] if runs else np.array([], int)
    return [
        {
            "index": int(i),
            "label": int(labels[i]),
            "wrong": int(wrong[i]),
            "runs": len(runs),
            "pixels": _base64(dataset.x_test[i].tobytes()),
        }
        for i in np.concatenate([*first, hardest])
    ]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _duel(runs: Sequence[Run], dataset: Dataset) -> dict[str, Any]:
    """What duel.html shows: answers of all runs to the images that any got wrong.

    Runs with very many mistakes are left out. All other images all have right, so
    that every count follows from these.
    """
    labels, wrong = dataset.y_test, np.zeros(len(dataset.y_test), bool)
    shown = []
    for run in runs:
        answer, sure = run.predictions()
        mistakes = answer != labels
        if mistakes.sum() <= MOST_WRONG:
            wrong |= mistakes
            shown.append((run, answer, sure))
    hard = np.flatnonzero(wrong)
    said = [
        {
            "id": f"{run.name}/{run.seed}",
            "exact": f"{run.name}/{run.key16}",
            "label": f"{run.name}, seed {run.seed}",
            "curve": [epoch["val_accuracy"] for epoch in run.history],
            "predicted": _base64(answer[hard].tobytes()),
            # Down to whole 1/255: a page shows whole percent.
            "sure": _base64(np.rint(sure[hard] * 255).astype(np.uint8).tobytes()),
        }
        for run, answer, sure in shown
    ]
    rows = -(-len(hard) // COLUMNS)
    sprite = np.zeros((max(rows, 1) * COLUMNS, 28, 28), np.uint8)
    sprite[: len(hard)] = dataset.x_test[hard]
    sheet = sprite.reshape(-1, COLUMNS, 28, 28).swapaxes(1, 2).reshape(-1, COLUMNS * 28)
    png = io.BytesIO()
    Image.fromarray(sheet).save(png, "png", optimize=True)
    return {
        "runs": said,
        "count": len(labels),
        "hard": [[int(i), int(labels[i])] for i in hard],
        "columns": COLUMNS,
        "left_out": len(runs) - len(shown),
        "sprite": "data:image/png;base64," + _base64(png.getvalue()),
    }
