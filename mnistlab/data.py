"""MNIST, which lies in the package, or digits of one's own; knows no framework."""

import hashlib
import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mnistlab.files import IDX_FILES, SIDE, DataError, read_files

MNIST = Path(__file__).with_name("mnist")
MNIST_FINGERPRINT = "760ebfaea23cdba35d10d3335224c2b090c03fda2faa00a0dca90d9c057664b2"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set of 28 x 28 digits.

    Images are uint8 (n, 28, 28), 0 (background) to 255; labels uint8 (n,), 0 to 9.
    The fingerprint is a SHA-256 of the arrays with their shapes, so it is the same
    for the same pictures from any file format.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    fingerprint: str

    @property
    def sentence(self) -> str:
        """What it is, in a sentence."""
        return (
            f"{self.name}: {len(self.x_train):,} training and {len(self.x_test):,} "
            f"test images of {SIDE} x {SIDE} pixels"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.sentence)}.</p>"


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays with their shapes, as uint8."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(json.dumps(list(array.shape)).encode())
        digest.update(np.ascontiguousarray(array, dtype=np.uint8).data)
    return digest.hexdigest()


def resolve(dataset: str = "mnist") -> str:
    """`mnist`, or the absolute path of a data set of one's own.

    Raises:
        DataError: there is nothing at that path, or it cannot be read or named.
    """
    if dataset == "mnist":
        return dataset
    try:
        path = Path(dataset).expanduser().resolve(strict=True)
        str(path).encode()  # pages name it
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "there is nothing at that path" if missing else error
        raise DataError(
            f"dataset {dataset!r}: expected mnist, or the path of a folder of IDX "
            f"files or of an .npz file; {why}"
        ) from error
    return str(path)


def _check_mnist(folder: Path) -> None:
    """Refuse files of the package that are not the canonical ones."""
    for name, sha256 in IDX_FILES.items():
        path = folder / f"{name}.gz"
        found = "no file"
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise DataError(
                f"{path}: expected MNIST's file with SHA-256 {sha256[:12]}, got "
                f"{found[:12]}; install mnistlab again, or restore it from git"
            )


@cache
def _mnist() -> Dataset:
    _check_mnist(MNIST)
    digits = _read(MNIST)
    if digits.fingerprint != MNIST_FINGERPRINT:
        raise DataError(f"{MNIST}: expected MNIST, got {digits.fingerprint[:12]}")
    return digits


def _read(path: Path) -> Dataset:
    arrays = read_files(path)
    found = fingerprint(*arrays)
    name = (path.stem if path.is_file() else path.name).lower()
    if found == MNIST_FINGERPRINT:
        name = "mnist"
    elif name == "mnist":
        name = "another mnist"
    x_train, y_train, x_test, y_test = arrays
    return Dataset(name, x_train, y_train, x_test, y_test, found)


def load(dataset: str = "mnist") -> Dataset:
    """Read and verify a data set.

    Args:
        dataset: `mnist`, which lies in the package, or the path of a folder with four
            IDX files, gzipped or not, or of an .npz file.

    Returns:
        The arrays, with their name and fingerprint.

    Raises:
        DataError: with what was expected, what came, and what to do.

    >>> digits = load()
    >>> digits.x_train.shape, digits.x_train.dtype, len(digits.x_test)
    ((60000, 28, 28), dtype('uint8'), 10000)
    """
    source = resolve(dataset)
    return _mnist() if source == "mnist" else _read(Path(source))
