"""`study`, the notebooks' one call: the runs of a family, trained if missing."""

import difflib
import fcntl
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO

from mnistlab import MnistlabError, data, models, store
from mnistlab.comparison import Gathered
from mnistlab.environment import BACKEND_PACKAGES, package_versions
from mnistlab.models.experiment import Experiment
from mnistlab.models.sizes import layer_sizes
from mnistlab.progress import Board, expected_seconds, in_cell
from mnistlab.runs import Run, RunSpec
from mnistlab.schedule import longest_first, train_runs
from mnistlab.train import PROTOCOLS, Task


class StudyError(MnistlabError, ValueError):
    """A parameter is wrong, or runs are missing: says which, and what to do."""


@dataclass(frozen=True)
class Profile:
    """How much of the data and of the recipe's epochs; None is all."""

    train_size: int | None
    test_size: int | None
    epochs: int | None


PROFILES = {
    "smoke": Profile(512, 256, 1),
    "quick": Profile(4_096, 1_000, 2),
    "full": Profile(None, None, None),
}


def choose(name: str, value: object, choices: Iterable[str]) -> str:
    """Check that a value is one of several, and suggest the nearest if it is not."""
    choices = list(choices)
    if value in choices:
        return str(value)
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StudyError(
        f"{name}: expected one of {', '.join(choices)}, got {value!r}{hint}"
    )


def _count(name: str, value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise StudyError(
            f"{name}: expected a whole number of at least {least}, got {value!r}"
        )
    return int(value)


def _experiments(family: str | Iterable[Experiment]) -> tuple[Experiment, ...]:
    if isinstance(family, str):
        experiments = models.FAMILIES[choose("family", family, models.FAMILIES)]
    else:
        experiments = tuple(family) if isinstance(family, Iterable) else ()
    if not experiments or not all(isinstance(e, Experiment) for e in experiments):
        raise StudyError(
            f"family: expected one of {', '.join(models.FAMILIES)}, or a tuple of "
            f"experiments, got {family!r}"
        )
    names = [experiment.name for experiment in experiments]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise StudyError(
            f"family: the name {sorted(twice)[0]!r} is there twice; rename one"
        )
    for experiment in experiments:
        try:
            layer_sizes(experiment)  # what cannot be is told before training
        except ValueError as error:
            raise StudyError(f"family: {error}") from error
    return experiments


def specify(
    family: str | Iterable[Experiment],
    dataset: data.Dataset,
    *,
    profile: str = "full",
    protocol: str = "replicate",
    seeds: Sequence[int] | None = None,
    epochs: int | None = None,
    train_size: int | None = None,
) -> list[RunSpec]:
    """Resolve parameters into run specifications: every experiment with every seed.

    With `seeds` None these are the seeds of which there is a committed run; 0 if there
    is none.

    Raises:
        StudyError: a parameter is wrong.
    """
    experiments = _experiments(family)
    sizes = PROFILES[choose("profile", profile, PROFILES)]
    choose("protocol", protocol, PROTOCOLS)
    asked_seeds: list[int] = []
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        asked_seeds = list(seeds)
    if seeds is not None and not asked_seeds:
        raise StudyError(f"seeds: expected numbers such as (0, 1, 2), got {seeds!r}")
    if epochs is not None:
        epochs = _count("epochs", epochs)
    available = len(dataset.x_train)
    # Fewer than 12 leave nothing to validate on under holdout.
    asked = _count("train_size", available if train_size is None else train_size, 12)
    if asked > available:
        raise StudyError(
            f"train_size: {dataset.name} has {available:,} training images, got "
            f"{asked:,}"
        )
    backend = choose("KERAS_BACKEND", os.environ["KERAS_BACKEND"], BACKEND_PACKAGES)
    versions = package_versions(BACKEND_PACKAGES[backend])
    missing = [name for name, version in versions.items() if version == "not installed"]
    if missing:
        raise StudyError(
            f"KERAS_BACKEND={backend}: {', '.join(missing)} is not installed; "
            f"pip install {missing[0]}, or unset KERAS_BACKEND"
        )
    specs = []
    for experiment in experiments:
        task = Task(
            experiment=experiment,
            seed=0,
            epochs=epochs or sizes.epochs or experiment.recipe.epochs,
            protocol=protocol,
            train_size=asked if train_size else min(sizes.train_size or asked, asked),
            test_size=min(sizes.test_size or len(dataset.x_test), len(dataset.x_test)),
            image_data_format="channels_last",
        )
        first = RunSpec(task, dataset.name, dataset.fingerprint, profile, backend)
        wanted = asked_seeds or store.committed_seeds(first) or [0]
        specs += [
            replace(first, task=replace(task, seed=_count("seeds", seed, 0)))
            for seed in wanted
        ]
    return list(dict.fromkeys(specs))  # a seed may be there twice


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Hold an output folder, so that two builds do not write into it.

    Raises:
        StudyError: another process holds it, or the folder cannot be written to.
    """
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(out / ".lock", "ab"))
            _lock(lock, out)
            (out / ".holder").write_text(f"process {os.getpid()}")
        except OSError as error:
            raise StudyError(
                f"cannot write into {out} ({error.strerror}); use another --out"
            ) from error
        yield


def _lock(file: BinaryIO, out: Path) -> None:
    """Lock a file until it is closed; some file systems, as NFS, may not do that."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = out / ".holder"
        who = holder.read_text() if holder.exists() else "another process"
        raise StudyError(
            f"{out} is in use by {who}; wait for it, or use another --out"
        ) from None
    except OSError as error:
        warnings.warn(
            f"{out} cannot be locked ({error.strerror}); let no other build write "
            "into it meanwhile",
            stacklevel=4,
        )


def look_up(
    family: str | Iterable[Experiment],
    dataset: data.Dataset,
    out: str | Path,
    **chosen: Any,
) -> dict[RunSpec, Run | None]:
    """The runs that are asked for, with those that are there; `chosen` as `specify`."""
    specs = specify(family, dataset, **chosen)
    return {spec: store.find_run(Path(out), spec) for spec in specs}


def study(
    family: str | Iterable[Experiment],
    *,
    dataset: str = "mnist",
    profile: str = "full",
    protocol: str = "replicate",
    seeds: Sequence[int] | None = None,
    epochs: int | None = None,
    train_size: int | None = None,
    out: str | Path = "../build",
) -> list[Run]:
    """Return the runs of a family, after training those that are missing.

    Args:
        family: `mlp`, `conv2`, `conv3`, `conv5`, `conv7`, or experiments of your own.
        dataset: `mnist`, or the path of a folder of IDX files or of an .npz file.
        profile: `smoke` (512 images, 1 epoch), `quick` (4,096 images, 2 epochs) or
            `full` (all images, the recipe's epochs).
        protocol: `replicate` (evaluate on the test set after every epoch, as 2019
            did) or `holdout` (validate on held-out training images).
        seeds: one run of each experiment for each seed, whole numbers from 0. With
            None these are the seeds of its committed runs, else 0.
        epochs: instead of the profile's.
        train_size: instead of the profile's.
        out: the output folder; runs that are there are not trained again.

    Returns:
        One run for each experiment and seed, in the family's order.

    Raises:
        StudyError: a parameter is wrong, a run has failed, or one of a family is
            missing where `run_all.py` has trained before.
        mnistlab.files.DataError: the data cannot be had.
    """
    digits = data.load(dataset)
    found = look_up(
        family,
        digits,
        out,
        profile=profile,
        protocol=protocol,
        seeds=seeds,
        epochs=epochs,
        train_size=train_size,
    )
    missing = [spec for spec, run in found.items() if run is None]
    in_build = os.environ.get("MNISTLAB_TRAIN") == "own"
    if in_build and missing and isinstance(family, str):
        names = "; ".join(spec.title for spec in missing)
        raise StudyError(
            f"not in {out}: training failed or was interrupted, or this notebook has "
            f"no parameter `family` for run_all.py to train it: {names}"
        )
    folder = os.environ.get("MNISTLAB_PAGE_FOLDER", "")
    if in_build and missing and Path(folder).parent.resolve() != Path(out).resolve():
        raise StudyError(
            f"out: expected the build's folder, {Path(folder).parent}, got {out}; give "
            "study(..., out=out) a parameter out of the notebook's"
        )
    if missing:
        from dask.system import cpu_count

        board = Board(expected_seconds(missing), cpu_count())
        lock = nullcontext() if in_build else lock_output(Path(out))  # it holds it
        with lock, in_cell(board) as report:
            try:
                results = train_runs(
                    longest_first(missing), digits, Path(out), report=report
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    "Interrupted. Finished epochs are kept: the same call goes on."
                ) from None
        failed = [result for result in results if result.run is None]
        if failed:
            reasons = "; ".join(f"{r.spec.title}: {r.message}" for r in failed)
            raise StudyError(f"{len(failed)} of {len(results)} runs failed: {reasons}")
        found |= {result.spec: result.run for result in results}
    return [run for run in found.values() if run is not None]


def load_runs(
    *, dataset: str = "mnist", out: str | Path = "../build", **parameters: Any
) -> Gathered:
    """Gather the runs of all families that are there, and train nothing.

    The parameters are those of `study`.
    """
    found = look_up(models.COLLECTION.values(), data.load(dataset), out, **parameters)
    return Gathered(
        runs=[run for run in found.values() if run is not None],
        evidence=store.evidence(),
        missing=[spec for spec, run in found.items() if run is None],
        labels=data.load().y_test,
    )
