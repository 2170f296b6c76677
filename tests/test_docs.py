"""The tutorial, as a newcomer goes through it: every command, every block of code."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TUTORIAL, re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")
FOLDERS = "mnistlab|reports|results|studies|tests|benchmarks|docs|notebooks"
FILE = re.compile(rf"`(run_all\.py|(?:{FOLDERS})/[\w./]*)`")


@pytest.mark.tutorial
def test_the_tutorial_can_be_gone_through(tmp_path):
    """In a copy of the checkout, as a user would."""
    copy = tmp_path / "mnistlab"
    unwanted = shutil.ignore_patterns(".*", "build", "build-evidence", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    bin_folder = copy / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    # Not a link: an interpreter finds its packages by where it lies.
    python = bin_folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    family = copy / "mnistlab/models/mlp.py"
    environment = os.environ | {"PYTHONPATH": str(copy)}

    def do(command):
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, cwd=copy,
            env=environment, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    said = []
    for language, block in BLOCKS:
        if language == "":
            for command in block.strip().splitlines():
                assert command.startswith(".venv/bin/python run_all.py")
                said.append(do(command))
        elif block.startswith("mlp_mine = Experiment("):
            source = family.read_text()
            head, _, tail = source.rpartition("FAMILY = (")
            family.write_text(f"{head}{block}\nFAMILY = (mlp_mine, {tail}")
        else:
            (copy / "notebooks/snippet.py").write_text(block)
            command = "sh -c 'cd notebooks && ../.venv/bin/python snippet.py'"
            assert re.search(r"^0\.\d+$", do(command), re.M)
            assert list(copy.glob("build/runs/conv2_b21_grey/*/run.json"))
    committed, smoke, planned, longer, seeds, mine = said
    assert "Runs: 0 to train" in committed
    assert "Runs: 3 trained" in smoke
    assert "file://" in smoke
    assert len(re.findall("^run .* train", planned, re.M)) == 3
    assert "Runs: 3 trained" in longer
    assert re.search("Runs: .*9 trained", seeds)
    assert "1 trained" in mine
    assert "of 4 models" in mine


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]


def test_every_link_of_the_docs_leads_somewhere():
    for path in PAGES:
        for link in LINK.findall(path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_file_that_the_docs_name_is_there():
    assert "run_all.py" in FILE.findall((ROOT / "README.md").read_text())
    for path in PAGES:
        for name in FILE.findall(path.read_text()):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_the_readme_names_every_page_of_the_docs():
    readme = (ROOT / "README.md").read_text()
    for path in ROOT.glob("docs/*.md"):
        assert f"docs/{path.name}" in readme, path.name
