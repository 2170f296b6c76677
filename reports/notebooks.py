"""Copy the cells that the notebooks of the families share: `make notebooks`.

A cell says by its id where it comes from: `shared-...` is copied from `mlp.ipynb` into
all families, `conv-...` from `conv2.ipynb` into those with convolutions, `own-...` is a
notebook's own. Edit a shared cell there, and run this.
"""

import json
from pathlib import Path
from typing import Any

from mnistlab.models import FAMILIES
from reports.pages import NOTEBOOKS

SHARED, CONV = "mlp", "conv2"


def read(folder: Path, name: str) -> dict[str, Any]:
    """A notebook as JSON."""
    notebook: dict[str, Any] = json.loads((folder / f"{name}.ipynb").read_text("utf-8"))
    return notebook


def with_shared(folder: Path, name: str) -> dict[str, Any]:
    """A family's notebook with its shared cells as they are in their source."""
    notebook = read(folder, name)
    own = {cell["id"]: cell for cell in notebook["cells"]}
    cells = [
        own.get(cell["id"], cell) if cell["id"].startswith("own-") else cell
        for cell in read(folder, SHARED)["cells"]
    ]
    if name != SHARED:
        _insert(cells, read(folder, CONV)["cells"], "conv-")
    _insert(cells, notebook["cells"], "own-")
    return {**notebook, "cells": cells}


def _insert(
    cells: list[dict[str, Any]], source: list[dict[str, Any]], kind: str
) -> None:
    """Add the source's cells of a kind, each after the cell that it follows there."""
    place = 0
    for cell in source:
        ids = [known["id"] for known in cells]
        if cell["id"] in ids:
            place = ids.index(cell["id"]) + 1
        elif cell["id"].startswith(kind):
            cells.insert(place, cell)
            place += 1


def main() -> None:
    """Bring every family's notebook up to date."""
    for name in FAMILIES:
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = with_shared(NOTEBOOKS, name)
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
        path.write_text(text + "\n", "utf-8")  # as Jupyter writes it


if __name__ == "__main__":
    main()
