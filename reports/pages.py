"""A page: its parameters, its key, and why it must be executed; runs nothing."""

import ast
import difflib
import hashlib
import json
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mnistlab import models, store
from mnistlab.data import Dataset
from mnistlab.environment import PACKAGE, package_digest, package_versions
from mnistlab.runs import Run, RunSpec, key_parts, run_key
from mnistlab.store import EVIDENCE
from mnistlab.study import StudyError, choose, specify

NOTEBOOKS = PACKAGE.parent / "notebooks"
# In the order of the site; those that gather show the runs of all others.
FIRST = ("data", *models.FAMILIES)
GATHERING = ("compare", "claims")
# Pages of the site that are of no notebook.
TAKEN = ("index", "environment", "draw", "duel")
# Parameters that -p may not set, and what to do instead.
RESERVED = {
    "family": "a notebook's family is its name; choose it with --only",
    "dataset": "the data is resolved once for all notebooks; use --dataset",
    "out": "finished runs are kept in the output folder; use --out",
}
# A record as a notebook links to it, relative to wherever it was executed.
RECORD = re.compile(r"^(?:.*/)?runs/([a-z0-9_]+)/([0-9a-f]{16})/run\.json$")
DISPLAY_PACKAGES = (
    "ipykernel", "keras", "matplotlib", "nbclient", "nbconvert", "numpy", "pandas",
    "papermill", "prettytable", "scipy", "seaborn",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A notebook to publish: its file, its final parameters, runs and data it shows.

    `defaults` are the values in its own cell; papermill sets what differs from them.
    `problem` is why it cannot be executed, if it cannot.
    """

    name: str
    path: Path
    parameters: dict[str, Any]
    specs: tuple[RunSpec, ...]
    fingerprint: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def gathers(self) -> bool:
        """Whether it shows the runs of all families, and so comes after these."""
        return bool(self.specs) and "family" not in self.parameters


@dataclass(frozen=True)
class Published:
    """How a page of a build ended: its status, why, and how long it took.

    `about` is what the notebook of a good one says of itself (`read_published`).
    """

    page: Page
    status: str
    message: str = ""
    seconds: float = 0.0
    about: dict[str, Any] | None = None

    @property
    def is_good(self) -> bool:
        """Whether its page is of this build's code and runs."""
        return self.status in ("published", "reused")

    @property
    def headline(self) -> str:
        """What a good page has found; empty for another."""
        return self.about["result"]["headline"] if self.about else ""


def notebook_names() -> list[str]:
    """The collection's notebooks, in the site's order; a new one comes last but two."""
    found = {
        path.stem for path in NOTEBOOKS.glob("*.ipynb") if path.name[0] != "."
    }  # macOS keeps companions such as ._mlp.ipynb
    new = sorted(found - {*FIRST, *GATHERING})
    return [name for name in (*FIRST, *new, *GATHERING) if name in found]


def read_cells(path: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, source and tags of each cell of a notebook; nbformat would take a second.

    Raises:
        StudyError: it is no notebook.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["nbformat"] != 4:
            raise ValueError(f"nbformat {content['nbformat']} instead of 4")
        return [
            (
                cell["cell_type"],
                "".join(cell["source"]),
                sorted(cell["metadata"].get("tags", ())),
            )
            for cell in content["cells"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path.name} cannot be read as a notebook ({type(error).__name__}: "
            f"{error}); open it in JupyterLab and save it again, or take it out of the "
            "folder"
        ) from error


def default_parameters(path: Path) -> dict[str, Any]:
    """The names and literal values of a notebook's cell tagged `parameters`.

    Raises:
        StudyError: it is no notebook, there is no such cell, or it holds more than
            literals.
    """
    for _, source, tags in read_cells(path):
        if "parameters" in tags:
            try:
                lines: list[Any] = ast.parse(source).body
                values = {
                    line.targets[0].id: ast.literal_eval(line.value) for line in lines
                }
                json.dumps(values, allow_nan=False)  # the summary has them
                return values
            except (SyntaxError, ValueError, TypeError, AttributeError) as error:
                raise StudyError(
                    f"{path.name}: the cell tagged 'parameters' may only hold lines "
                    f"such as name = 1 ({error})"
                ) from error
    raise StudyError(f"{path.name}: no cell is tagged 'parameters'; tag one")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`, the value as a Python literal if it is one, else as text.

    >>> parse_assignment("epochs=3"), parse_assignment("profile=full")
    (('epochs', 3), ('profile', 'full'))
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip().isidentifier():
        raise StudyError(f"-p {text!r}: expected NAME=VALUE, such as epochs=3")
    try:
        return name.strip(), ast.literal_eval(value)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return name.strip(), value


def _checked(name: str, value: Any, default: Any) -> Any:
    """A value of the type that a notebook's default has."""
    if name == "seeds":
        value = (value,) if isinstance(value, int) else value
        fits = value is None or isinstance(value, tuple | list)
        default = (0, 1)  # an example
    elif default is None:
        fits = value is None or isinstance(value, int)
    else:
        fits = type(value) is type(default)
    if not fits:
        kind = "a whole number" if default is None else f"a value like {default!r}"
        raise StudyError(f"-p {name}: expected {kind}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def pages(
    names: Sequence[str],
    options: Mapping[str, Any],
    assignments: Mapping[str, Any],
    dataset: Dataset,
) -> list[Page]:
    """The pages of a build, with parameters checked and runs resolved.

    A notebook that cannot be a page is told in the `problem` of its own, and does not
    keep the others from being made.

    Args:
        names: which notebooks; empty for all.
        options: values of the options that were given, for notebooks that have them;
            what is not among them is as the notebook's cell has it.
        assignments: values of `-p`, which must fit at least one notebook.
        dataset: the data that was resolved.

    Raises:
        StudyError: an unknown notebook or parameter, a wrong value, or no page at all.
    """
    available = notebook_names()
    wanted = [choose("--only", name, available) for name in names] or available
    paths = {name: NOTEBOOKS / f"{name}.ipynb" for name in available if name in wanted}
    defaults: dict[str, dict[str, Any]] = {}
    made: dict[str, Page] = {}
    for name, path in paths.items():
        try:
            if name.lower() in TAKEN:
                raise StudyError(f"{path.name}: the site has such a page; rename it")
            defaults[name] = default_parameters(path)
        except StudyError as error:
            made[name] = Page(name, path, {}, (), problem=str(error))
    known = sorted({parameter for values in defaults.values() for parameter in values})
    for name in assignments:
        if name in RESERVED:
            raise StudyError(f"-p {name}: {RESERVED[name]}")
        if defaults and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            )
            raise StudyError(f"-p {name}: no selected notebook has it; {hint}")
    asked = options.get("dataset", "mnist")
    for name, values in defaults.items():
        own = values | {key: value for key, value in options.items() if key in values}
        for key, value in assignments.items():
            if key in own:
                own[key] = _checked(key, value, values[key])
        try:
            if own.get("dataset", asked) != asked:
                raise StudyError(
                    f"{name}.ipynb: its cell has dataset = {own['dataset']!r}; "
                    f"give it as --dataset, with --only {name}"
                )
            specs = tuple(_specs(name, own, dataset))
        except StudyError as error:
            parameter = str(error).partition(":")[0]
            is_own = parameter in own and own[parameter] == values[parameter]
            if own != values and not is_own:  # it may be the command's fault
                raise
            problem = f"{name}.ipynb: " * is_own + str(error)
            made[name] = Page(name, paths[name], {}, (), problem=problem)
        else:
            fingerprint = dataset.fingerprint
            made[name] = Page(name, paths[name], own, specs, fingerprint, values)
    if all(page.problem for page in made.values()):
        raise StudyError(next(iter(made.values())).problem)
    return [made[name] for name in paths]


def _specs(name: str, parameters: Mapping[str, Any], dataset: Dataset) -> list[RunSpec]:
    names = ("profile", "protocol", "seeds", "epochs", "train_size")
    how = {key: parameters[key] for key in names if key in parameters}
    if "family" in parameters:
        families = [parameters["family"]]
    else:
        families = [] if name in FIRST else list(models.FAMILIES)
    return [spec for family in families for spec in specify(family, dataset, **how)]


def why_missing(out: Path, spec: RunSpec) -> str:
    """Why a run must be trained."""
    if store.read_checkpoint(out, spec):
        return "unfinished, goes on from its checkpoint"
    folder = store.run_folder(out, spec)
    if (folder / "run.json").exists():
        return "its record cannot be used"
    wanted = _flat(key_parts(spec))
    changes = []
    for path in folder.parent.glob("*/run.json"):
        run = store.read_run(path.parent)
        if run is not None and run.seed == spec.task.seed:
            there = _flat(run.record["key_parts"])
            names = sorted(wanted.keys() | there)
            changes.append([n for n in names if wanted.get(n) != there.get(n)])
    nearest = min(changes, key=len, default=[])
    return f"changed: {', '.join(nearest)}" if nearest else "new"


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Key parts with those of code, versions and recipe each by itself."""
    flat: dict[str, Any] = {}
    for name, part in parts.items():
        if name in ("code", "versions", "recipe"):
            flat |= part
        else:
            flat["data" if name == "fingerprint" else name] = part
    return flat


def page_key_parts(
    page: Page, found: Mapping[RunSpec, Run], expected: Collection[RunSpec] = ()
) -> dict[str, str]:
    """What decides a page: cells, library, models, data, runs, parameters, versions.

    To the cells belong the files beside the notebook that it names.
    Outputs and ids of cells are not among them, nor how a page is rendered. `expected`
    are runs that will have been trained by the time the page is executed.
    """
    runs = [
        # Trained again, a run has other times.
        (run_key(s), "expected" if s in expected else found[s].record["finished"])
        for s in page.specs
        if s in expected or s in found
    ]
    family = page.parameters.get("family")
    # The source of models decides only the page of its family, which shows it.
    sources = frozenset(f"models/{name}.py" for name in (*models.FAMILIES, "recipes"))
    shown = (PACKAGE / f"models/{family}.py").read_text("utf-8") if family else ""
    parts: dict[str, Any] = {
        "cells": [read_cells(page.path), *_named_files(page.path)],
        "package": package_digest(sources),
        "runs": runs,
        "models": [shown, *(asdict(spec.task.experiment) for spec in page.specs)],
        "data": page.fingerprint,
        # What the data are is in its own part; of their path only the name is shown.
        "parameters": page.parameters
        | {"dataset": Path(str(page.parameters.get("dataset"))).name},
        "versions": [platform.python_version(), package_versions(DISPLAY_PACKAGES)],
    }
    if page.specs:
        studies = sorted(PACKAGE.parent.glob("studies/*.json"))
        parts["evidence"] = evidence_files(), [path.read_text() for path in studies]
    return {
        name: hashlib.sha256(json.dumps(part, default=str).encode()).hexdigest()
        for name, part in parts.items()
    }


def evidence_files() -> list[tuple[str, int]]:
    """The files of all committed runs with their sizes: what the evidence is."""
    files = sorted(EVIDENCE.glob("runs/*/*/*"))
    return [(f.relative_to(EVIDENCE).as_posix(), f.stat().st_size) for f in files]


def _named_files(path: Path) -> list[tuple[str, str]]:
    """The files beside a notebook that it names, with their SHA-256."""
    text = path.read_text("utf-8")
    return [
        (file.name, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted(path.parent.rglob("[!.]*.*"))
        if file.is_file() and file.suffix != ".ipynb" and file.stem in text
    ]


def read_published(path: Path) -> dict[str, Any] | None:
    """What a published notebook says of itself; None without one that can be read.

    Its `key_parts`, `result` (headline, thumbnail, runs), `about`, `executed`, `title`.
    """
    try:
        metadata = json.loads(path.read_text("utf-8"))["metadata"]["mnistlab"]
        if {"key_parts", "result", "about", "executed", "title"} <= metadata.keys():
            return metadata
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return None
