"""What a process runs on: versions, Python, processor, without importing a backend."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

BACKEND_PACKAGES = {
    "tensorflow": ("tensorflow",),
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
}


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages, without importing them."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def environment() -> dict[str, Any]:
    """What this process runs on: asked in the process that trains."""
    names = {name for group in BACKEND_PACKAGES.values() for name in group}
    versions = package_versions(sorted({"keras", "numpy", *names}))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {k: v for k, v in versions.items() if v != "not installed"},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
