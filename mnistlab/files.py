"""Read digits from IDX and npz files, and refuse what is damaged or something else."""

import gzip
import struct
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

from mnistlab import MnistlabError

SIDE = 28
# The SHA-256 of each file, gzipped, as first published.
IDX_FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",  # noqa: E501
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",  # noqa: E501
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",  # noqa: E501
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",  # noqa: E501
}

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class DataError(MnistlabError, ValueError):
    """The data cannot be used: says what was expected, what came, what to do."""


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read a file in IDX format, gzipped or not, as uint8 of `ndim` dimensions.

    Source: http://yann.lecun.com/exdb/mnist (magic number, sizes, bytes; big-endian).

    Raises:
        DataError: an empty, truncated or damaged file, or another format.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz" or raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
            if raw[:2] == b"\x1f\x8b":  # browsers do that
                raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: expected a gzip file, it is damaged or cut off ({error}); "
                "fetch it again, or drop .gz from its name if it is not compressed"
            ) from error
    header, magic = 4 + 4 * ndim, (0x0800 + ndim).to_bytes(4)
    if len(raw) < header or raw[:4] != magic:
        raise DataError(
            f"{path}: expected a header of {header} bytes with magic number "
            f"0x{magic.hex()} (unsigned bytes, {ndim} dimensions), got "
            f"{f'0x{raw[:header].hex()}' if raw else 'an empty file'}; is it the "
            "right file, and of bytes?"
        )
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    size = int(np.prod(shape, dtype=np.int64))
    if len(raw) - header != size:
        raise DataError(
            f"{path}: expected {size:,} bytes for shape {shape}, got "
            f"{len(raw) - header:,}; the file is cut off or damaged, fetch it again"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _check(arrays: tuple[np.ndarray, ...], where: str) -> tuple[np.ndarray, ...]:
    for part, images, labels in (
        ("training", arrays[0], arrays[1]),
        ("test", arrays[2], arrays[3]),
    ):
        good = images.dtype == np.uint8 and images.shape[1:] == (SIDE, SIDE)
        if not good or not images.size:
            raise DataError(
                f"{where}: expected at least one {part} image, all as bytes (n, "
                f"{SIDE}, {SIDE}), got {images.dtype} {images.shape}"
            )
        if labels.shape != (len(images),):
            raise DataError(
                f"{where}: expected one label for each of {len(images):,} {part} "
                f"images, so shape ({len(images)},), got {labels.shape}; are training "
                "and test files mixed?"
            )
        others = labels[~np.isin(labels, range(10))]
        if others.size:
            raise DataError(f"{where}: expected {part} labels 0 to 9, got {others[0]}")
    return arrays[0], arrays[1].astype(np.uint8), arrays[2], arrays[3].astype(np.uint8)


def _idx_file(folder: Path, name: str) -> Path | None:
    """A file of this name in any case, gzipped or not, or in a folder of its name.

    Some mirrors write a dot before idx; Kaggle packs each file into such a folder.
    """
    for path in sorted(folder.iterdir(), reverse=True):  # gzipped ones first
        if path.name.lower().replace(".idx", "-idx") in (name, f"{name}.gz"):
            file = path if path.is_file() else _idx_file(path, name)
            if file is not None:
                return file
    return None


def _read_npz(path: Path) -> tuple[np.ndarray, ...]:
    try:
        # It says what is no archive; NumPy would take it for a pickle.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ARRAYS if name in file.files}
            names = ", ".join(file.files) or "none"
    except (OSError, EOFError, ValueError, RuntimeError, MemoryError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise DataError(
            f"{path}: expected an .npz file of plain arrays ({error}); fetch it again, "
            "or give the folder of the four IDX files"
        ) from error
    if len(found) < len(ARRAYS):
        raise DataError(
            f"{path}: expected the arrays {', '.join(ARRAYS)}, got {names}; save them "
            "under these names"
        )
    return tuple(found.values())


def read_files(path: Path) -> tuple[np.ndarray, ...]:
    """Read x_train, y_train, x_test, y_test from a folder or an .npz file.

    A folder holds the four IDX files, gzipped or not, or `mnist.npz`.

    Raises:
        DataError: a file is missing, damaged, or not what it should be.
    """
    try:
        if path.is_file():
            return _check(_read_npz(path), str(path))
        files = {name: _idx_file(path, name) for name in IDX_FILES}
        packed = path / "mnist.npz"
        if not any(files.values()) and packed.is_file():
            return _check(_read_npz(packed), str(packed))
        arrays = []
        for name, file in files.items():
            if file is None:
                there = (str(p.relative_to(path)) for p in path.rglob("*"))
                found = ", ".join(map(repr, sorted(islice(there, 9)))) or "nothing"
                raise DataError(
                    f"{path}: {name} (gzipped or not) is missing, found {found}; "
                    "rename what is meant, or give the folder in which are "
                    f"{', '.join(IDX_FILES)}, or mnist.npz alone"
                )
            arrays.append(read_idx(file, 3 if "images" in name else 1))
        return _check(tuple(arrays), str(path))
    except OSError as error:
        raise DataError(
            f"{path}: expected files that can be read, got {error}; correct that, or "
            "copy them elsewhere"
        ) from error
