"""Find the digits, verify them, and hand them out as arrays; knows no framework."""

import hashlib
import html
import json
import os
import threading
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from mnistlab.files import IDX_FILES, SIDE, DataError, read_files

NPZ_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_FINGERPRINT = "760ebfaea23cdba35d10d3335224c2b090c03fda2faa00a0dca90d9c057664b2"
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",  # mnist.npz
    "https://ossci-datasets.s3.amazonaws.com/mnist/",  # the four IDX files
)
NO_NETWORK_AFTER = 8  # seconds for all mirrors together


@dataclass(frozen=True)
class Source:
    """Where a data set was found: its kind, its folder or file, a notice to show."""

    asked: str
    kind: str  # "mnist", "digits" or "folder"
    path: str = ""
    notice: str = ""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set of 28 x 28 digits.

    Images are uint8 (n, 28, 28), 0 (background) to 255; labels uint8 (n,), 0 to 9.
    The fingerprint is a SHA-256 of the arrays with their shapes, so it is the same
    for the same pictures from any file format. `notice` is a sentence to show
    wherever results of a fallback are shown, or empty.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    fingerprint: str
    notice: str = ""

    @property
    def sentence(self) -> str:
        """What it is, in a sentence."""
        return (
            f"{self.name}: {len(self.x_train):,} training and {len(self.x_test):,} "
            f"test images of {SIDE} x {SIDE} pixels"
        )

    def _repr_html_(self) -> str:
        sentence = html.escape(self.sentence)
        if not self.notice:
            return f"<p>{sentence}.</p>"
        return (
            f'<p>{sentence}.</p><p style="padding:0.6em;border:2px solid #b35900;">'
            f"<strong>{html.escape(self.notice)}</strong></p>"
        )


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays with their shapes, as uint8."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(json.dumps(list(array.shape)).encode())
        digest.update(np.ascontiguousarray(array, dtype=np.uint8).data)
    return digest.hexdigest()


def make_digits() -> tuple[np.ndarray, ...]:
    """scikit-learn's 1,797 handwritten digits, enlarged from 8 x 8 to 28 x 28.

    A stratified 1,437 of them are for training, 360 for testing. Source: UCI, Optical
    Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), CC BY 4.0.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    large = zoom(small.reshape(-1, 8, 8), (1, 3, 3), order=1)
    large = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    images = np.rint(large * (255 / 16)).clip(0, 255).astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels.astype(np.uint8), test_size=360, stratify=labels, random_state=0
    )
    return x_train, y_train, x_test, y_test


@cache
def _reachable(urls: tuple[str, ...]) -> list[str]:
    """Which hosts answer at all, asked side by side: a name server may hang.

    Asked once in a process, or each cell of a notebook that is opened without a network
    would wait.
    """
    import requests

    answers: list[str] = []

    def ask(url):
        try:
            requests.head(url, timeout=3)
            answers.append(url)
        except requests.RequestException:
            pass

    threads = [threading.Thread(target=ask, args=(u,), daemon=True) for u in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(NO_NETWORK_AFTER / len(threads))
    return [url for url in urls if url in answers]


def download(folder: Path) -> Path:
    """Fetch MNIST into `folder`, from the first mirror that has it, verified.

    Returns:
        What was fetched: `mnist.npz`, or the folder with the four IDX files.

    Raises:
        DataError: no mirror can be reached, or none sends the right files.
    """
    import pooch

    fetch = pooch.HTTPDownloader(timeout=(3, 30))
    problems = []
    for mirror in _reachable(MIRRORS):
        files = {f"{name}.gz": sha256 for name, sha256 in IDX_FILES.items()}
        if mirror == MIRRORS[0]:
            files = {"mnist.npz": NPZ_SHA256}
        try:
            for name, sha256 in files.items():
                url = mirror + name
                pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=fetch)
            return folder / "mnist.npz" if len(files) == 1 else folder
        except Exception as error:  # requests, urllib3 and pooch each have their own
            problems.append(f"{mirror}: {error}")
    raise DataError(
        "MNIST could not be downloaded "
        f"({'; '.join(problems) or 'no mirror can be reached'}). Put the four IDX "
        "files or mnist.npz into a folder and set MNISTLAB_DATA to it, or use "
        "--dataset digits"
    )


def _find_mnist() -> Path:
    """The folder or file that MNIST is in, downloaded if need be."""
    import pooch

    given = os.environ.get("MNISTLAB_DATA")
    if given:
        return Path(given)
    cache = Path(pooch.os_cache("mnistlab"))
    keras_home = os.environ.get("KERAS_HOME", "~/.keras")
    keras_file = Path(keras_home).expanduser() / "datasets" / "mnist.npz"
    # A download of IDX files that ended early does not hide the other file.
    for path in (cache, cache / "mnist.npz", keras_file):
        try:
            if fingerprint(*read_files(path)) == MNIST_FINGERPRINT:
                return path
        except DataError:
            continue  # not there, or damaged: try the next place
    return download(cache)


def resolve(dataset: str = "auto") -> Source:
    """Decide once where the digits come from.

    Args:
        dataset: `mnist`, `digits`, a folder in IDX format, or `auto`: MNIST if it can
            be had, else digits, with a notice.

    Raises:
        DataError: what was asked for cannot be had.
    """
    handed_down = os.environ.get("MNISTLAB_SOURCE")
    if handed_down:
        source = Source(**json.loads(handed_down))
        if dataset in (source.asked, source.kind):
            return source
    if dataset == "digits":
        return Source(dataset, "digits")
    if dataset not in ("auto", "mnist"):
        if not Path(dataset).expanduser().exists():
            raise DataError(
                f"dataset {dataset!r}: expected auto, mnist, digits or a folder in "
                "IDX format; no such folder"
            )
        return Source(dataset, "folder", str(Path(dataset).expanduser().resolve()))
    try:
        return Source(dataset, "mnist", str(_find_mnist().expanduser().resolve()))
    except DataError:
        if dataset == "mnist":
            raise
    notice = (
        "MNIST could not be had (no internet, and MNISTLAB_DATA is not set): these are "
        "scikit-learn's 1,797 small digits instead. Nothing here compares with 2019."
    )
    return Source(dataset, "digits", notice=notice)


def hand_down(source: Source) -> dict[str, str]:
    """The environment that makes a child process use the same source."""
    return {"MNISTLAB_SOURCE": json.dumps(asdict(source))}


@lru_cache(maxsize=1)
def read(source: Source) -> Dataset:
    """Read and verify what `resolve` has found.

    Raises:
        DataError: the files are damaged, or not MNIST where MNIST was asked for.
    """
    arrays = make_digits() if source.kind == "digits" else read_files(Path(source.path))
    found = fingerprint(*arrays)
    if source.kind == "mnist" and found != MNIST_FINGERPRINT:
        raise DataError(
            f"{source.path}: expected MNIST, whose fingerprint is "
            f"{MNIST_FINGERPRINT[:12]}, got {found[:12]}: a damaged copy, or another "
            f"data set; fetch MNIST again, or use --dataset {source.path}"
        )
    name = source.kind
    if name == "folder":
        path = Path(source.path)
        name = (path.stem if path.is_file() else path.name).lower()
        if name in ("mnist", "digits"):
            name = f"another {name}"
    if found == MNIST_FINGERPRINT:
        name = "mnist"
    x_train, y_train, x_test, y_test = arrays
    return Dataset(name, x_train, y_train, x_test, y_test, found, source.notice)


def load(dataset: str = "auto") -> Dataset:
    """Find, verify and read a data set.

    Args:
        dataset: `auto`, `mnist`, `digits`, or the path of a folder in IDX format.

    Returns:
        The arrays, with their name and fingerprint.

    Raises:
        DataError: with what was expected, what came, and what to do.

    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_train.dtype, len(digits.x_test)
    ((1437, 28, 28), dtype('uint8'), 360)
    """
    return read(resolve(dataset))
