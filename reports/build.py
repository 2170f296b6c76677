"""A build: plan it, train what is missing, execute notebooks side by side, publish.

A page is published whole or not at all: a failed one goes to `failed/`, and the last
good one stays, with a banner.
"""

import json
import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnistlab import store
from mnistlab.clusters import SchedulerGone
from mnistlab.data import Dataset
from mnistlab.environment import environment, identity
from mnistlab.runs import Run, RunSpec
from mnistlab.schedule import Progress
from mnistlab.store import StoreError, find_run, make_folder, write_atomically
from reports import pages, site
from reports.pages import Page, Published

PATIENCE = 3  # seconds that pages get to end well when the build is interrupted


@dataclass(frozen=True)
class Build:
    """A build as it was planned: its pages, and the runs that they show.

    Attributes:
        pages: what is executed, if it is not current.
        out: the output folder.
        dataset: the data of all pages.
        names: all pages of the site.
        found: the runs that are there, each read once; trained ones are added.
        missing: why each other run must be trained.
        trained: the runs that were missing and are there now.
        failed: why a training failed.
        fresh: train and execute all again.
    """

    pages: tuple[Page, ...]
    out: Path
    dataset: Dataset
    names: tuple[str, ...]
    found: dict[RunSpec, Run] = field(default_factory=dict)
    missing: dict[RunSpec, str] = field(default_factory=dict)
    trained: set[RunSpec] = field(default_factory=set)
    failed: dict[RunSpec, str] = field(default_factory=dict)
    fresh: bool = False

    @property
    def specs(self) -> list[RunSpec]:
        """The runs that the family notebooks show; those that gather ask for none."""
        shown = [page.specs for page in self.pages if not page.gathers]
        return list(dict.fromkeys(sum(shown, ())))


def plan(
    planned: Sequence[Page], out: Path, dataset: Dataset, *, fresh: bool = False
) -> Build:
    """Find the runs that the pages show, and why the others must be trained."""
    names = tuple(pages.notebook_names())
    build = Build(tuple(planned), out, dataset, names, fresh=fresh)
    for spec in dict.fromkeys(spec for page in planned for spec in page.specs):
        run = find_run(out, spec)
        if run is not None:
            build.found[spec] = run
    for spec in build.specs:
        if fresh or spec not in build.found:
            build.missing[spec] = "--fresh" if fresh else pages.why_missing(out, spec)
    return build


def why_execute(
    build: Build, page: Page, expected: Collection[RunSpec] = ()
) -> tuple[str, dict[str, str], dict[str, Any] | None]:
    """Why a page must be executed, if it must; its key; and what is published of it."""
    if page.problem:
        return page.problem, {}, None
    parts = pages.page_key_parts(page, build.found, expected)
    path = build.out / "notebooks" / f"{page.name}.ipynb"
    about = pages.read_published(path)
    if build.fresh:
        return "--fresh", parts, about
    if about is None:
        why = "its notebook cannot be read" if path.exists() else "new"
        return why, parts, about
    old = about["key_parts"]
    changed = [name for name in parts if parts[name] != old.get(name)]
    return f"changed: {', '.join(changed)}" if changed else "", parts, about


def _clean(notebook: Any) -> None:
    """Drop what papermill adds: paths of this machine, and times that always differ.

    What became of each cell is kept where one failed.
    """
    notebook.metadata.pop("papermill", None)
    states = [c.metadata.get("papermill", {}).get("status") for c in notebook.cells]
    for cell, state in zip(notebook.cells, states, strict=True):
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
        if state and "failed" in states:
            cell.metadata["papermill"] = {"status": state}


def _injected(page: Page, out: Path) -> dict[str, Any]:
    """What papermill is to set: only what differs from the notebook's own values."""
    parameters = dict(page.parameters)
    if "out" in parameters:
        parameters["out"] = os.path.relpath(out, page.path.parent)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in parameters.items()
        if value != page.defaults.get(name)
    }


def execute_page(
    build: Build,
    page: Page,
    *,
    timeout: int,
    cell_timeout: int | None,
    stop: threading.Event,
) -> Published:
    """Execute a page if anything it is made of has changed, and keep its notebook."""
    out = build.out
    # With --fresh, a record of before is there, and is not to be shown as new.
    old = [spec for spec in page.specs if spec in build.failed and spec in build.found]
    attempt = out / "failed" / f"{page.name}.ipynb"
    make_folder(attempt.parent)
    attempt.unlink(missing_ok=True)
    if old or page.problem:
        whys = [f"{spec.title}: {build.failed[spec]}" for spec in old]
        return Published(page, "failed", page.problem or "; ".join(whys))
    reason, parts, about = why_execute(build, page)
    if not reason:
        return Published(page, "reused", about=about)
    import nbformat

    from reports.execute import execute

    done = execute(
        page.path,
        attempt,
        _injected(page, out),
        environment={
            # A family's runs were trained before; one that is missing is an error.
            # Experiments that a notebook lists are trained there.
            "MNISTLAB_TRAIN": "own",
            "MNISTLAB_PAGE_FOLDER": str(out / "notebooks"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        },
        timeout=timeout,
        cell_timeout=cell_timeout,
        stop=stop,
    )
    notebook = nbformat.read(attempt, as_version=4) if attempt.exists() else None
    if notebook is not None:
        _clean(notebook)
        if done.result is not None:
            about = {
                "key_parts": parts,
                "result": done.result,
                "about": _about(page, done.seconds),
                "executed": datetime.now(UTC).isoformat(timespec="seconds"),
                "title": site.title_of(notebook, page.name),
            }
            notebook.metadata["mnistlab"] = about
        write_atomically(attempt, nbformat.writes(notebook).encode())
    if done.result is None:
        return Published(page, done.status, done.message, done.seconds)
    make_folder(out / "notebooks")
    os.replace(attempt, out / "notebooks" / attempt.name)
    site.copy_records(store.runs_named(done.result["runs"], out), out / "site")
    return Published(page, "published", reason, done.seconds, about)


def _about(page: Page, seconds: float) -> dict[str, str]:
    """What the index says of an executed page besides its result."""
    shown = ("dataset", "profile", "protocol", "seeds", "epochs", "train_size")
    facts = {name: page.parameters.get(name) for name in shown}
    if "dataset" in facts:  # of a folder the path says nothing to others
        facts["dataset"] = Path(str(facts["dataset"])).name
    seeds = page.parameters.get("seeds")
    if seeds is not None:
        facts["seeds"] = ", ".join(map(str, seeds))
    machine = environment()
    facts["took"] = f"{seconds:.0f} s"
    facts["on"] = f"{machine['processor']}, {machine['cores']} cores"
    return {key: str(value) for key, value in facts.items() if value is not None}


def publish_pages(
    build: Build,
    *,
    workers: int,
    timeout: int,
    cell_timeout: int | None = None,
    train: Callable[[Callable[[Progress], None]], None] = lambda ended: None,
    report: Callable[..., None] = lambda *told: None,
) -> tuple[list[Published], BaseException | None]:
    """Train, and publish each page as soon as its own runs have ended.

    Pages are executed side by side, each in its own process; those that gather the
    runs of all others come last. At an interrupt, pages that are being executed get
    a few seconds to end well, and are then stopped.

    Args:
        build: what was planned; what is trained is added to its runs.
        workers: how many pages are executed at a time.
        timeout: seconds for each notebook.
        cell_timeout: seconds for each cell; None is no limit of its own.
        train: trains what is missing, and calls what it is given with all progress.
        report: called with the name of a page, its status, seconds and reason.

    Returns:
        How each page ended, and what ended all of it early, if anything did: an
        interrupt, a cluster that is gone, a full disk.
    """
    stop = threading.Event()
    futures: dict[str, Future[Published]] = {}
    by_name = {page.name: page for page in build.pages}
    waits = {
        name: set(page.specs) & set(build.missing)
        for name, page in by_name.items()
        if not page.gathers
    }

    def publish(page: Page) -> Published:
        report(page.name, "executing")
        done = execute_page(
            build, page, timeout=timeout, cell_timeout=cell_timeout, stop=stop
        )
        failure = "" if done.is_good else f"{done.status}: {done.message}"
        site.update_page(build.out, page.name, build.names, failure)
        report(page.name, done.status, done.seconds, done.message)
        return done

    # Its parser of Python is not safe beside other threads (CPython 3.11): here it is
    # called before there are any, and the digests are kept.
    identity()
    ended_by: BaseException | None = None
    with ThreadPoolExecutor(workers) as pool:

        def start(names: Sequence[str]) -> None:
            futures.update((n, pool.submit(publish, by_name[n])) for n in names)

        def start_ready() -> None:
            start([n for n, specs in waits.items() if not specs and n not in futures])

        def note(progress: Progress) -> None:
            spec = progress.spec
            if progress.kind == "failed":
                build.failed[spec] = progress.message
            elif progress.run is not None:
                build.found[spec] = progress.run
                build.trained.add(spec)
            else:
                return
            for specs in waits.values():
                specs.discard(spec)
            start_ready()

        try:
            start_ready()
            try:
                train(note)
            except (SchedulerGone, StoreError) as error:
                ended_by = error
            wait(futures.values())  # their runs are complete
            if ended_by is None:
                start([name for name in by_name if name not in futures])
                wait(futures.values())
        except KeyboardInterrupt as error:
            ended_by = error
            for future in futures.values():
                future.cancel()
            wait(futures.values(), timeout=PATIENCE)
            stop.set()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise

    def outcome(page: Page) -> Published:
        nonlocal ended_by
        future = futures.get(page.name)
        if future is not None and not future.cancelled():
            if isinstance(error := future.exception(), OSError):  # it cannot be written
                ended_by = ended_by or error
                return Published(page, "failed", str(error))
            return future.result()
        if page.gathers:
            return Published(page, "skipped", "comes after all others")
        return Published(page, "interrupted", "before it was executed")

    ended = [outcome(page) for page in build.pages]
    return ended, ended_by


def write_summary(build: Build, published: Sequence[Published], code: int) -> None:
    """Write `summary.json`, for other tools."""
    runs = []
    for spec in build.specs:
        status = status_of(build, spec)
        row = {
            "model": spec.task.experiment.name,
            "seed": spec.task.seed,
            "status": status,
            "message": build.failed.get(spec, ""),
        }
        if status in ("trained", "reused"):
            run = build.found[spec]
            row["key"] = run.record["key"]
            row["test_accuracy"] = run.record["test"]["accuracy"]
            row["record"] = f"site/runs/{run.name}/{run.key16}.json"
        runs.append(row)
    notebooks = {
        done.page.name: {
            "status": done.status,
            "headline": done.headline,
            "message": done.message,
            "seconds": round(done.seconds, 1),
            "parameters": done.page.parameters,
        }
        for done in published
    }
    summary = {
        "exit_code": code,
        "dataset": {
            "name": build.dataset.name,
            "fingerprint": build.dataset.fingerprint,
        },
        "runs": runs,
        "notebooks": notebooks,
    }
    text = json.dumps(summary, indent=1, allow_nan=False)
    write_atomically(build.out / "summary.json", text.encode())


def status_of(build: Build, spec: RunSpec) -> str:
    """How it is with a run at the end of a build."""
    if spec in build.failed:
        return "failed"
    if spec in build.missing:
        return "trained" if spec in build.trained else "interrupted"
    return "reused"
