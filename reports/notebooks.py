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

SOURCES = {"shared": "mlp", "conv": "conv2"}


def read(folder: Path, name: str) -> dict[str, Any]:
    """A notebook as JSON."""
    notebook: dict[str, Any] = json.loads((folder / f"{name}.ipynb").read_text("utf-8"))
    return notebook


def with_shared(folder: Path, name: str) -> dict[str, Any]:
    """A family's notebook with its shared cells as they are in their source.

    The order is that of the source; a notebook's own cells stand where the source has
    its cell of the same id, and others after the cell that they follow.
    """
    notebook = read(folder, name)
    own = {cell["id"]: cell for cell in notebook["cells"]}
    shared = {cell["id"]: cell for cell in read(folder, SOURCES["shared"])["cells"]}
    order = read(folder, SOURCES["shared" if name == SOURCES["shared"] else "conv"])
    cells = []
    for cell in order["cells"]:
        known = shared if cell["id"].startswith("shared-") else own
        cells.append(
            cell if cell["id"].startswith("conv-") else known.get(cell["id"], cell)
        )
    ids = [cell["id"] for cell in cells]
    for before, cell in zip(notebook["cells"], notebook["cells"][1:], strict=False):
        if cell["id"] not in ids and cell["id"].startswith("own-"):
            place = ids.index(before["id"]) + 1
            cells.insert(place, cell)
            ids.insert(place, cell["id"])
    return {**notebook, "cells": cells}


def main() -> None:
    """Bring every family's notebook up to date."""
    for name in FAMILIES:
        path = NOTEBOOKS / f"{name}.ipynb"
        text = json.dumps(with_shared(NOTEBOOKS, name), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
