"""The notebooks as files: no logic, no outputs, one pattern, the contract's names."""

import ast
import inspect
import re
import shutil
import sys

import nbformat
import pytest
from conftest import IN_GIT, ROOT, printed_by

from mnistlab import models
from mnistlab.study import study
from reports import notebooks, pages

NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
FORBIDDEN = (
    ast.FunctionDef, ast.ClassDef, ast.If, ast.While, ast.Try, ast.Lambda, ast.With,
)  # fmt: skip
STRIP = "metadata.language_info cell.metadata.execution cell.metadata.papermill"

OWN = ["data", *models.FAMILIES, "compare", "claims"]


def code_cells(name, parameters=False):
    for cell in NOTEBOOKS[name].cells:
        tagged = "parameters" in cell.metadata.get("tags", ())
        if cell.cell_type == "code" and (parameters or not tagged):
            yield cell


def test_the_collection_is_complete():
    """Notebooks that a user adds are welcome beside the collection's own."""
    missing = [name for name in OWN if name not in NOTEBOOKS]
    assert not missing, f"add notebooks/{missing[0]}.ipynb, a copy of mlp.ipynb"
    assert [name for name in pages.notebook_names() if name in OWN] == OWN


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_code_cells_hold_no_logic(name):
    nbformat.validate(NOTEBOOKS[name])
    for cell in code_cells(name):
        assert len(cell.source.splitlines()) <= 6
        tree = ast.parse(cell.source)
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
        assert len(loops) <= 1
        for loop in loops:
            (body,) = loop.body
            assert isinstance(body, ast.Expr)
            assert isinstance(body.value, ast.Call)
        for node in ast.walk(tree):
            assert not isinstance(node, FORBIDDEN), ast.unparse(node)


@pytest.mark.parametrize("name", OWN)
def test_prose_comes_before_code_and_a_page_has_what_the_pattern_asks(name):
    cells = NOTEBOOKS[name].cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert cells[0].source.count("\n* ") == 3, "say in three points what one will see"
    first, second = list(code_cells(name, parameters=True))[:2]
    assert "parameters" in first.metadata.get("tags", ()), (
        f"{name}.ipynb: tag its first code cell `parameters`"
    )
    assert second.source.startswith("from mnistlab.notebook import")
    assert "\n" not in second.source
    end = "end a notebook with 'What to remember', exercises, and a cell declare(...)"
    assert "## What to remember" in cells[-2].source, end
    assert cells[-2].source.count("\n1. Add an architecture") == 1, end
    assert cells[-1].source.startswith("declare("), end


@pytest.mark.parametrize("name", OWN)
def test_every_exercise_has_a_folded_answer(name):
    exercises = NOTEBOOKS[name].cells[-2].source.partition("## Exercises")[2]
    count = len(re.findall(r"^\d\. ", exercises, re.MULTILINE))
    assert exercises.count("<details><summary>Answer") == count == 3


@pytest.mark.parametrize("family", models.FAMILIES)
def test_shared_cells_are_those_of_their_source(family):
    """Code and prose alike; `make notebooks` copies them."""
    folder = pages.NOTEBOOKS
    assert notebooks.with_shared(folder, family) == notebooks.read(folder, family), (
        f"{family}.ipynb: edit shared cells in mlp.ipynb (ids conv-... in conv2.ipynb) "
        "and run make notebooks; a cell of one notebook alone has an id own-..."
    )
    ids = [cell.id for cell in NOTEBOOKS[family].cells]
    kinds = {name.partition("-")[0] for name in ids}
    assert kinds <= {"shared", "conv", "own"}
    assert len(set(ids)) == len(ids)
    for cell in code_cells(family):
        assert not cell.id.startswith("own-"), "own cells hold prose and parameters"


@pytest.mark.parametrize("name", [*models.FAMILIES, *pages.GATHERING])
def test_the_parameters_of_a_notebook_are_those_of_study(name):
    """But for the family, which notebooks that gather have none of."""
    parameters = inspect.signature(study).parameters.items()
    expected = {name: parameter.default for name, parameter in parameters}
    del expected["family"]
    if name in models.FAMILIES:
        expected["family"] = name
    assert pages.default_parameters(ROOT / "notebooks" / f"{name}.ipynb") == expected


def test_what_jupyterlab_saves_is_stripped_before_git_sees_it(tmp_path):
    """The filter of .gitattributes, run on notebooks as JupyterLab leaves them.

    So no outputs and no counts are stored.
    """
    for name in NOTEBOOKS:
        saved = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        saved.metadata["language_info"] = {"name": "python", "version": "3.12.0"}
        for count, cell in enumerate(saved.cells):
            if cell.cell_type == "code":
                cell.execution_count = count
                cell.outputs = [nbformat.v4.new_output("stream", text="Epoch 1")]
                cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
        nbformat.write(saved, tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--extra-keys", STRIP]
    printed_by(*command, *tmp_path.glob("*.ipynb"))
    for name in NOTEBOOKS:
        original = (ROOT / "notebooks" / f"{name}.ipynb").read_text().rstrip()
        assert (tmp_path / f"{name}.ipynb").read_text().rstrip() == original, name


@IN_GIT
def test_git_applies_that_filter_to_notebooks():
    assert shutil.which("git")
    shown = printed_by("git", "check-attr", "filter", "notebooks/mlp.ipynb")
    assert shown.strip().endswith("filter: nbstripout")
    makefile = (ROOT / "Makefile").read_text()
    assert f"STRIP := {STRIP}" in makefile
    assert "git config filter.nbstripout.clean" in makefile
    assert makefile.count("--keep-id --extra-keys") == 2, "ids say what is shared"
