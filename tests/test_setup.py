"""What a newcomer relies on: dependencies, commands, README, and what is in git."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import yaml
from conftest import IN_GIT, ROOT, printed_by
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mnistlab import data, models, reported

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
with open(ROOT / "pyproject.toml", "rb") as file:
    PROJECT = tomllib.load(file)["project"]


def tracked():
    return [ROOT / name for name in printed_by("git", "ls-files").splitlines()]


def requirements(texts):
    return {needed.name: needed.specifier for needed in map(Requirement, texts)}


NEEDED = requirements(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = dict(line.split("==") for line in LINES if not line.startswith("#"))


def test_environment_yml_says_the_same_as_pyproject():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(item["pip"] for item in conda if isinstance(item, dict))
    listed = [item for item in conda if isinstance(item, str) and item != "pip"]
    found = requirements([*listed, *(p for p in pip if p != "-e .")])
    assert found.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert found == NEEDED
    assert "-e ." in pip


def test_everything_that_is_needed_is_pinned_without_an_index_address():
    assert set(NEEDED) <= {name.lower().replace("_", "-") for name in PINS}
    for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml"):
        assert "://" not in path.read_text()


def test_every_pin_can_be_installed_on_the_oldest_python():
    """Debian 12 has 3.11.2; a pin that wants 3.11.5 ends its set-up at once."""
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    checked = 0
    for name in PINS:
        try:
            wants = metadata(name).get("Requires-Python")
        except PackageNotFoundError:
            continue  # for the browser tests only
        checked += 1
        for version in ("3.11.0", "3.12.0", "3.13.0"):
            assert SpecifierSet(wants or "").contains(version), (name, wants)
    assert checked > len(PINS) / 2


def test_the_packages_that_the_user_named_are_there():
    assert set(requirements(PROJECT["dependencies"])) >= {
        "tensorflow", "keras", "jupyter", "nbconvert", "papermill", "pandas",
        "matplotlib", "seaborn", "prettytable",
    }  # fmt: skip


def test_ci_runs_the_readmes_commands():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make reports" in README
    assert "make test" in README
    assert "make test" in script
    assert "run_all.py --profile smoke" in script
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert ".ci/run" in workflow
    assert "environment.yml" in workflow
    assert "if: always()" in workflow


def test_every_make_target_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.M))
        assert named
        assert named <= targets


def test_the_readme_counts_right():
    assert f"{len(reported.finals())} models" in README
    for family in models.FAMILIES:
        assert f"`{family}`" in README


@IN_GIT
def test_no_data_no_build_and_no_large_file_is_in_git():
    for path in tracked():
        if path.parent == data.MNIST:
            continue
        # A network of 4 million weights, as float16.
        limit = 2**23 if path.name == "weights.npz" else 2**21
        assert path.stat().st_size < limit, path
        assert not path.name.endswith(("-ubyte", "-ubyte.gz", "mnist.npz"))
        assert "build" not in path.relative_to(ROOT).parts[:1]
    ignored = ["build/site/index.html", "train-images-idx3-ubyte.gz", "mnist.npz"]
    assert printed_by("git", "check-ignore", *ignored).split() == ignored


@IN_GIT
def test_each_module_opens_with_why_it_exists():
    for path in tracked():
        if path.suffix == ".py":
            text = path.read_text().removeprefix("#!/usr/bin/env python\n")
            assert text.startswith('"""'), path


def test_the_benchmark_times_a_plain_notebook_beside_ours():
    script = ROOT / "benchmarks" / "bench.py"
    arguments = ["--model", "mlp_e1", "--turns", "1", "--no-command"]
    said = printed_by(sys.executable, script, *arguments)
    ratio = re.search(r"^ratio geomean: ([0-9.]+)$", said, re.MULTILINE)
    assert ratio, said
    assert float(ratio[1]) > 0
    assert "\n| mlp_e1 | " in said
