"""Where runs are: an output folder and `results/`; each file whole or not at all.

A run is stored in `OUT/runs/<experiment>/<first 16 digits of the key>/`, where
`run.json` is written last: a folder without it is a run that has not finished.
"""

import errno
import io
import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from mnistlab import MnistlabError, train
from mnistlab.environment import PACKAGE
from mnistlab.record import SCHEMA, make_record
from mnistlab.runs import Run, RunSpec, experiment_from, key_parts, run_key

EVIDENCE = PACKAGE.parent / "results"
# What reading JSON and .npz files of any content may raise.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class StoreError(MnistlabError, OSError):
    """A file cannot be written: the disk is full or read-only, for instance."""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say what to do about a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; make room, and the same command "
            "goes on from here, or begin in another output folder"
        ) from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if they are not there.

    Raises:
        StoreError: it cannot be made.
    """
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or the file that was there.

    Raises:
        StoreError: it cannot be written; what was there is as it was.
    """
    # Not `tempfile`, whose files are for their owner alone: some mounts refuse chmod.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                        raise  # else this mount cannot do it
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def run_folder(out: Path, spec: RunSpec) -> Path:
    """The folder of a run below an output folder."""
    return Path(out) / "runs" / spec.task.experiment.name / run_key(spec)[:16]


def npz(*, compressed: bool = False, **arrays: Any) -> bytes:
    """Arrays as the bytes of an .npz file.

    Not compressed as a rule: trained weights would shrink by a tenth, in seconds.
    """
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def _drop_record(folder: Path) -> None:
    with _writing(folder / "run.json"):
        (folder / "run.json").unlink(missing_ok=True)


def write_run(
    out: Path, spec: RunSpec, epoch: train.Epoch, environment: dict[str, Any]
) -> Run:
    """Store a finished run, its record last, and drop its checkpoint.

    An earlier record (`--fresh`) is deleted first, so that it never stands beside
    another run's arrays.
    """
    outcome = epoch.outcome
    if outcome is None:
        raise ValueError(f"{spec.title}: the run has not finished")
    folder = run_folder(out, spec)
    record = make_record(spec, epoch.history, outcome, environment)
    _drop_record(folder)
    weights: dict[str, Any] = outcome.weights
    write_atomically(folder / "weights.npz", npz(**weights))
    predictions = npz(predicted=outcome.predicted, confidence=outcome.confidence)
    write_atomically(folder / "predictions.npz", predictions)
    text = json.dumps(record, indent=1, allow_nan=False)
    write_atomically(folder / "run.json", text.encode())
    for left in (folder / "state.npz", *folder.glob(".*.npz.*")):  # some by a kill
        left.unlink(missing_ok=True)
    return Run(json.loads(text), folder, "trained")


# What pages and commands show of a record as it is; all other text is escaped.
PLAIN = {
    "key": "[0-9a-f]{64}",
    "protocol": "replicate|holdout",
    "profile": "[a-z]+",
    "backend": "[a-z]+",
    "image_data_format": "[a-z_]+",
    "commit": "([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?|unknown",
    "finished": "[-0-9T:+.Z]+",
    "weights_sha256": "[0-9a-f]{64}",
}
SCORES = ("test", "train")
COUNTS = ("seed", "epochs", "train_size", "test_size", "params", "macs")


def _check(record: dict[str, Any], path: Path) -> None:
    """Refuse a record that is not whole, or not of the run whose folder it is in."""
    if record["schema"] != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}, got {record['schema']!r}")
    for name, pattern in PLAIN.items():
        if not re.fullmatch(pattern, record[name]):
            raise ValueError(f"its {name} is {record[name]!r}")
    for name in COUNTS:
        if type(record[name]) is not int or record[name] < 0:
            raise ValueError(f"its {name} is {record[name]!r}")
    if record["key"][:16] != path.parent.name:
        raise ValueError(f"its key is {record['key'][:16]}, not its folder's name")
    names = {record["model"], experiment_from(record).name, path.parent.parent.name}
    if len(names) > 1:
        raise ValueError(f"it is of {' and '.join(sorted(map(str, names)))}")
    for name in SCORES:
        if not isinstance(record[name]["accuracy"], float | int):
            raise ValueError(f"its {name} is {record[name]!r}")
    if len(record["history"]) != record["epochs"] or not record["kernels"]:
        raise ValueError("its history or its kernels are not whole")
    with np.load(path.parent / "predictions.npz", allow_pickle=False) as file:
        sizes = {len(file["predicted"]), len(file["confidence"])}
    if sizes != {record["test_size"]}:
        raise ValueError(f"predictions.npz is of {sizes} images")


def read_run(folder: Path, status: str = "reused") -> Run | None:
    """Read a stored run; a damaged or foreign one is None, with a warning."""
    path = Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check(record, path)
    except UNREADABLE as error:
        if not path.exists():
            return None
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"{path} is not used: {reason}", stacklevel=2)
        return None
    return Run(record, path.parent, status)


def stored_run(out: Path, spec: RunSpec) -> Run | None:
    """The run of a specification that was stored in this output folder, or None."""
    run = read_run(run_folder(out, spec))
    if run is not None and run.record["key"] != run_key(spec):
        return None
    return run


@cache
def committed_runs(name: str) -> tuple[Run, ...]:
    """The committed runs of a model, by seed; read once in a process."""
    folders = sorted((EVIDENCE / "runs" / name).glob("*/run.json"))
    found = [read_run(path.parent, "evidence") for path in folders]
    return tuple(sorted((run for run in found if run), key=lambda run: run.seed))


def _committed_like(spec: RunSpec, *but: str) -> list[Run]:
    """The committed runs that have a specification's key parts, apart from `but`."""
    wanted = {name: part for name, part in key_parts(spec).items() if name not in but}
    runs = committed_runs(spec.task.experiment.name)
    return [run for run in runs if wanted.items() <= run.record["key_parts"].items()]


def committed(spec: RunSpec) -> Run | None:
    """The committed run of a specification, of these library versions or of others.

    Architecture, recipe, data, seed, protocol and training code must be the same.
    """
    found, wanted = _committed_like(spec, "versions"), key_parts(spec)
    return min(found, key=lambda run: run.record["key_parts"] != wanted, default=None)


def committed_seeds(spec: RunSpec) -> list[int]:
    """The seeds of the committed runs that are alike in all else."""
    return [run.seed for run in _committed_like(spec, "versions", "seed")]


def find_run(out: Path, spec: RunSpec) -> Run | None:
    """A finished run: of this checkout in the output folder, or a committed one."""
    return stored_run(out, spec) or committed(spec)


def evidence() -> list[Run]:
    """Every committed run, also of other commits; never this checkout's own."""
    names = sorted(path.name for path in (EVIDENCE / "runs").glob("*"))
    return [run for name in names for run in committed_runs(name)]


def runs_named(names: Sequence[str], out: Path) -> list[Run]:
    """The runs with these names, `conv2_a2/0123456789abcdef`, wherever they are."""
    kept = {f"{run.name}/{run.key16}": run for run in evidence()}
    found = (read_run(out / "runs" / name) or kept.get(name) for name in names)
    return [run for run in found if run is not None]


def write_checkpoint(out: Path, spec: RunSpec, state: bytes) -> None:
    """Keep the state after an epoch, in place of the one before.

    An earlier record (`--fresh`) is deleted: the next build goes on from this state.
    """
    folder = run_folder(out, spec)
    write_atomically(folder / "state.npz", state)
    _drop_record(folder)


def read_checkpoint(out: Path, spec: RunSpec) -> bytes | None:
    """The state that a run can go on from, or None; a damaged one with a warning."""
    path = run_folder(out, spec) / "state.npz"
    try:
        state = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(state)) as file:
            damaged = file.testzip()
        if damaged:
            raise ValueError(f"{damaged} in it is damaged")
        epochs = len(train.read_history(state))
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        warnings.warn(f"{path} is not used: {error}", stacklevel=2)
        return None
    return state if epochs < spec.task.epochs else None


def state_weights(state: bytes) -> list[np.ndarray]:
    """The weights in the state of a run (`mnistlab.train`), in the model's order."""
    with np.load(io.BytesIO(state), allow_pickle=False) as file:
        return [file[name] for name in sorted(file.files) if name.startswith("w")]
