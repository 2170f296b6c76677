"""Make the record of a run: every number a page may show, and how it came about."""

import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from mnistlab import train
from mnistlab.environment import PACKAGE
from mnistlab.models.sizes import macs, params, trainable_params
from mnistlab.runs import RunSpec, key_parts, run_key

SCHEMA = 1


@cache
def commit() -> str:
    """The commit of this checkout, with `-dirty` if files differ, or `unknown`."""
    here = PACKAGE.parent
    # Neither a repository around this checkout nor one that a hook's variables name.
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    own |= {"GIT_DIR": str(here / ".git"), "GIT_WORK_TREE": str(here)}

    command = "describe --always --dirty --abbrev=64 --exclude=*"  # the whole hash
    try:
        return subprocess.run(
            ["git", "-C", str(here), *command.split()], env=own,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe_kernel(name: str, kernel: np.ndarray) -> dict[str, Any]:
    """What a violin and a test of shape need when the weights are gone.

    1,001 quantiles from the smallest to the largest weight, mean, standard deviation,
    skewness and excess kurtosis (0 for a normal distribution), all of float64.
    """
    from scipy.stats import kurtosis, skew

    values = kernel.astype(np.float64).ravel()
    quantiles = np.quantile(values, np.linspace(0, 1, 1001))
    # Weights that are all alike have no shape: 0 rather than not-a-number.
    alike = np.ptp(values) == 0
    return {
        "name": name,
        "shape": list(kernel.shape),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "skewness": 0.0 if alike else float(skew(values)),
        "excess_kurtosis": 0.0 if alike else float(kurtosis(values)),
        "quantiles": [float(f"{value:.5g}") for value in quantiles],
    }


def make_record(
    spec: RunSpec,
    history: list[dict[str, Any]],
    outcome: train.Outcome,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """The run record, as docs/run-record.md describes it."""
    task = spec.task
    weights = outcome.weights
    kernels = {
        name.removesuffix("/kernel"): weight
        for name, weight in weights.items()
        if name.endswith("/kernel")
    }
    first_name, first = next(iter(kernels.items()))
    # A picture shows a few dozen filters; of a dense layer, the first 16 are enough.
    if first.ndim == 2:
        first = first[:, :16]
    return {
        "schema": SCHEMA,
        "model": task.experiment.name,
        **asdict(task),
        "dataset": {"name": spec.dataset, "fingerprint": spec.fingerprint},
        "profile": spec.profile,
        "validation_size": train.validation_size(task.train_size, task.protocol),
        "threads": train.THREADS,
        "backend": spec.backend,
        "test": outcome.test,
        "train": outcome.train,
        "seconds": sum(entry["seconds"] for entry in history),
        "cpu_seconds": sum(entry["cpu_seconds"] for entry in history),
        "params": params(task.experiment),
        "trainable_params": trainable_params(task.experiment),
        "macs": macs(task.experiment),
        "history": history,
        "kernels": [describe_kernel(*item) for item in kernels.items()],
        "first_kernel": {
            "name": first_name,
            "shape": list(first.shape),
            "values": [float(f"{value:.4g}") for value in first.ravel()],
        },
        "weights_sha256": train.weights_sha256(list(weights.values())),
        "environment": environment,
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": run_key(spec),
        "key_parts": key_parts(spec),
    }
