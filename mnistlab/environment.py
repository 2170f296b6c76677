"""What a process runs on: code, versions, processor, without importing a backend."""

import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# Exactly the modules that make numbers; a test holds this list against what a
# training process imports.
KEYED_MODULES = ("models/experiment.py", "models/layers.py", "train.py")
BACKEND_PACKAGES = {
    "tensorflow": ("tensorflow",),
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
}
# Variables that may decide numbers or the device, and are not reset in a worker.
RECORDED = ("CUBLAS_", "CUDA_VIS", "GLIBC_", "JAX_", "NPY_", "NVIDIA_TF32", "XLA_")
# What Linux says of a processor, of x86 and of ARM, that tells it from others.
IDENTIFYING = ("cpu family", "model", "stepping", "CPU implementer", "CPU part",
               "CPU revision")  # fmt: skip
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_digest(modules: Sequence[str] = KEYED_MODULES) -> dict[str, str]:
    """SHA-256 of modules of this package, without comments, docstrings and format."""
    return {
        name: hashlib.sha256(
            bare_code((PACKAGE / name).read_text(encoding="utf-8")).encode()
        ).hexdigest()
        for name in modules
    }


@cache
def package_digest(without: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the package's files, so that no page is older than its code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        made = "__pycache__" in path.parts or path.name[0] == "."  # by a system
        if path.is_file() and not made and name not in without:
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def bare_code(source: str) -> str:
    """Code without comments and docstrings, the same on Python 3.11 to 3.13."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(tree)


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages, without importing them."""
    return {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def identity() -> dict[str, str]:
    """What two processes must have in common to train the same numbers."""
    backend = os.environ["KERAS_BACKEND"]
    names = ("keras", "numpy", *BACKEND_PACKAGES.get(backend, ()))
    modules = (*KEYED_MODULES, "worker.py")
    return {
        "from": str(PACKAGE),
        "KERAS_BACKEND": backend,
        **package_versions(names),
        **{f"mnistlab/{name}": sha for name, sha in code_digest(modules).items()},
    }


def differences(expected: dict[str, str], found: dict[str, str]) -> str:
    """What two identities differ in, for people; empty if in nothing.

    >>> differences({"keras": "3.15.1"}, {"keras": "3.9.0"})
    'keras 3.9.0 instead of 3.15.1'
    """
    parts = []
    for name in sorted((expected.keys() | found.keys()) - {"from"}):
        theirs, ours = found.get(name, "missing"), expected.get(name, "nothing")
        if theirs != ours:
            text = f"{name} {theirs} instead of {ours}"
            is_code = name.startswith("mnistlab/")
            whose = f"other code in {name} of {found.get('from')}"
            parts.append(whose if is_code else text)
    return ", ".join(parts)


def environment() -> dict[str, Any]:
    """What this process runs on: asked in the process that trains."""
    names = {"keras", "numpy"}.union(*BACKEND_PACKAGES.values())
    versions = package_versions(sorted(names))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _cpuinfo("model name") or platform.machine(),
        # Several processors have one name.
        "processor_model": " ".join(filter(None, map(_cpuinfo, IDENTIFYING))),
        "gpus": nvidia_smi("name"),  # used or not
        "cores": os.cpu_count(),
        "variables": {k: v for k, v in os.environ.items() if k.startswith(RECORDED)},
        "packages": {k: v for k, v in versions.items() if v != "not installed"},
    }


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two environments are of like processors and GPUs, and both name them.

    Only then do equal runs have equal bits, and times compare. Several processors have
    one name, so that a record without `processor_model` counts as another machine.

    >>> one = {"processor": "P", "processor_model": "25 1 1", "gpus": []}
    >>> same_machine(one, dict(one)), same_machine({"processor": "P"}, one)
    (True, False)
    """
    names = ("processor", "processor_model", "gpus")
    identified = one.get("processor_model") and other.get("processor_model")
    return bool(identified) and all(one.get(n) == other.get(n) for n in names)


def _cpuinfo(name: str) -> str:
    """What Linux says of the first processor; empty elsewhere."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    return ""


def _answer(command: Sequence[str], seconds: float) -> list[str]:
    """The lines that a command prints; none, with a warning, if it does not answer."""
    try:  # it hangs for ever where a driver is broken
        asked = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        warnings.warn(f"going on without a GPU: {error}", stacklevel=3)
        return []
    return asked.stdout.splitlines() if asked.returncode == 0 else []


@cache
def nvidia_smi(what: str) -> list[str]:
    """A line for each GPU; none if there is no driver or, warned of, no answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
    return _answer(command, 10)


def gpus() -> list[str]:
    """The GPUs that the backend can use, by CUDA's numbers; none on most machines.

    The backend is asked in a process of its own, and only if there may be one.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        visible = " ".join(nvidia_smi("index"))
    names = visible.replace(",", " ").split()
    script = "import keras; print(len(keras.distribution.list_devices('gpu')))"
    if os.environ["KERAS_BACKEND"] == "torch":  # of which Keras cannot say it
        script = "import torch; print(torch.cuda.device_count())"
    answer = _answer([sys.executable, "-c", script], 120) if names else []
    return names[: int(answer[-1])] if answer else []
