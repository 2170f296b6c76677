"""A run: its specification, its key, and what is known of it once it has finished.

Knows nothing about Keras, and does not import it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab import train
from mnistlab.data import MNIST_FINGERPRINT
from mnistlab.environment import BACKEND_PACKAGES, code_digest, package_versions
from mnistlab.models import COLLECTION, CONTROLS
from mnistlab.models.experiment import (
    Experiment,
    Layer,
    Normalization,
    Optimizer,
    Recipe,
)

BATCHNORM = "batchnorm.json"  # its scores, evaluated both ways, beside a record
FULL_MNIST = (60_000, 10_000)
KNOWN = frozenset((*COLLECTION.values(), *CONTROLS))


@dataclass(frozen=True)
class RunSpec:
    """What is to be run: a task, on which data, under which profile and backend."""

    task: train.Task
    dataset: str
    fingerprint: str
    profile: str
    backend: str

    @property
    def title(self) -> str:
        """A short name for people, as `conv2_b21, seed 0`."""
        return f"{self.task.experiment.name}, seed {self.task.seed}"


def key_parts(spec: RunSpec) -> dict[str, Any]:
    """Everything that decides a run's numbers, as a record has it.

    Two runs of equal parts are equal.
    """
    task = asdict(spec.task)
    experiment = task.pop("experiment")
    # Names and the recipe's own number of epochs decide nothing.
    experiment["recipe"].pop("epochs")
    parts = {
        "layers": experiment["layers"],
        "recipe": experiment["recipe"],
        **task,
        "fingerprint": spec.fingerprint,
        "threads": train.THREADS,
        "backend": spec.backend,
        "versions": package_versions(
            ("keras", "numpy", *BACKEND_PACKAGES[spec.backend])
        ),
        "code": code_digest(),
    }
    return json.loads(json.dumps(parts))  # with lists for tuples


def other_versions(runs: Sequence["Run"]) -> str:
    """What runs of other library versions were trained with; empty if there are none.

    Such runs are shown only where they are committed.
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        versions = run.record["key_parts"]["versions"]
        for name, installed in package_versions(versions).items():
            if versions[name] != installed and installed != "not installed":
                text = f"{name} {versions[name]}; {installed} is installed"
                found.setdefault(text, set()).add(run.name)
    return "; ".join(
        f"{', '.join(sorted(names))}: trained with {text}"
        for text, names in sorted(found.items())
    )


def run_key(spec: RunSpec) -> str:
    """SHA-256 of the key parts, as 64 hexadecimal digits."""
    text = json.dumps(key_parts(spec), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _value(kind: type[Layer | Optimizer], part: dict[str, Any]) -> Any:
    return kind(part["kind"], _tuples(part["config"]))


def experiment_from(record: dict[str, Any]) -> Experiment:
    """The experiment that a record was made with, as a value again."""
    stored = record["experiment"]
    recipe = stored["recipe"]
    return Experiment(
        stored["name"],
        tuple(_value(Layer, part) for part in stored["layers"]),
        Recipe(
            _value(Optimizer, recipe["optimizer"]),
            recipe["batch_size"],
            recipe["epochs"],
            Normalization(**recipe["normalization"]),
        ),
    )


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its record and the folder with its arrays.

    `status` is `trained` or `reused` for a run that matches this checkout, `evidence`
    for a committed one.
    """

    record: dict[str, Any]
    folder: Path
    status: str = "reused"

    def __repr__(self) -> str:
        return f"<Run {self.name}, seed {self.seed}, {self.key16}, {self.status}>"

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment, rebuilt from the record."""
        return experiment_from(self.record)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.record["model"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.record["seed"]

    @property
    def key16(self) -> str:
        """The first 16 digits of the key, which name the folder."""
        return self.record["key"][:16]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per epoch."""
        return self.record["history"]

    @property
    def trained_images(self) -> int:
        """How many images it learned from, without those that holdout keeps back."""
        return self.record["train_size"] - self.record["validation_size"]

    @property
    def is_whole(self) -> bool:
        """Whether it is its recipe in full: replicate, all of MNIST, all epochs."""
        record = self.record
        return (
            record["dataset"]["fingerprint"] == MNIST_FINGERPRINT
            and record["protocol"] == "replicate"
            and (record["train_size"], record["test_size"]) == FULL_MNIST
            and record["epochs"] == self.experiment.recipe.epochs
        )

    @property
    def compares_with_2019(self) -> bool:
        """Whether it is one of the collection, exactly as defined, and in full."""
        return self.experiment == COLLECTION.get(self.name) and self.is_whole

    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted classes uint8 (test_size,) and their probabilities float32."""
        with np.load(self.folder / "predictions.npz", allow_pickle=False) as file:
            return file["predicted"], file["confidence"].astype(np.float32)

    @cached_property
    def batchnorm(self) -> list[dict[str, Any]] | None:
        """Scores after each epoch, `plain` and `debiased`, or None without them."""
        path = self.folder / BATCHNORM
        epochs = json.loads(path.read_text())["epochs"] if path.exists() else []
        return epochs if len(epochs) == len(self.history) else None

    @property
    def has_weights(self) -> bool:
        """Whether the weights were kept."""
        return (self.folder / "weights.npz").exists()

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, as `conv_1/kernel`, float32.

        Those of committed runs were rounded to float16.

        Raises:
            FileNotFoundError: the run was stored without weights.
        """
        with np.load(self.folder / "weights.npz", allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
