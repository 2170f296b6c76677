"""Execute the notebooks of a build side by side, publish each, and tell how it went.

A page is published whole or not at all: a failed one goes to `failed/`, and the last
good one stays, with a banner.
"""

import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from mnistlab.environment import environment
from mnistlab.runs import RunSpec
from mnistlab.schedule import SchedulerGone
from mnistlab.store import StoreError, make_folder, write_atomically
from mnistlab.study import find_run, runs_named
from reports import site
from reports.execute import Execution, execute
from reports.pages import (
    GATHERING,
    Page,
    declared,
    default_parameters,
    page_key_parts,
    read_published,
    why_execute,
)

PATIENCE = 3  # seconds that pages get to end well when the build is interrupted


@dataclass(frozen=True)
class Published:
    """How a page of a build ended: its status, the reason, its headline and runs."""

    page: Page
    status: str
    message: str
    seconds: float
    headline: str = ""
    thumbnail: str = ""
    runs: tuple[str, ...] = ()


def _clean(notebook: nbformat.NotebookNode) -> None:
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
    defaults = default_parameters(page.path)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in parameters.items()
        if value != defaults[name]
    }


def _kernel_environment(out: Path) -> dict[str, str]:
    return {
        # Runs were trained before; one that is missing is an error, not a training.
        "MNISTLAB_TRAIN": "never",
        "MNISTLAB_PAGE_FOLDER": str(out / "notebooks"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def publish_page(
    page: Page,
    out: Path,
    names: Sequence[str],
    *,
    timeout: int,
    cell_timeout: int | None = None,
    fresh: bool = False,
    stop: threading.Event | None = None,
) -> Published:
    """Execute a page if anything it is made of has changed, and publish it."""
    parts = page_key_parts(page, out)
    reason = "--fresh" if fresh else why_execute(page, parts, out)
    target = out / "notebooks" / f"{page.name}.ipynb"
    if not reason:
        good = nbformat.read(target, as_version=4)
        (out / "failed" / f"{page.name}.ipynb").unlink(missing_ok=True)
        failed = out / "site" / "failed" / f"{page.name}.html"
        if failed.exists():  # what failed since is as it was again: no banner any more
            html = site.render(good, page.name, names)
            write_atomically(out / "site" / f"{page.name}.html", html.encode())
            failed.unlink()
        return Published(page, "reused", "", 0.0, *declared(good))
    attempt = out / "failed" / f"{page.name}.ipynb"
    make_folder(attempt.parent)
    attempt.unlink(missing_ok=True)
    done = execute(
        page.path,
        attempt,
        _injected(page, out),
        environment=_kernel_environment(out),
        timeout=timeout,
        cell_timeout=cell_timeout,
        stop=stop,
    )
    if done.result is None:
        return _publish_failure(page, out, names, done, attempt)
    notebook = nbformat.read(attempt, as_version=4)
    _clean(notebook)
    notebook.metadata["mnistlab"] = {
        "key_parts": parts,
        "result": done.result,
        "about": _about(page, done.seconds),
        "executed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    site.copy_records(runs_named(done.result["runs"], out), out / "site")
    html = site.render(notebook, page.name, names)
    write_atomically(out / "site" / f"{page.name}.html", html.encode())
    write_atomically(target, nbformat.writes(notebook).encode())
    attempt.unlink()
    (out / "site" / "failed" / f"{page.name}.html").unlink(missing_ok=True)
    return Published(page, "published", reason, done.seconds, *declared(notebook))


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


def _publish_failure(
    page: Page,
    out: Path,
    names: Sequence[str],
    done: Execution,
    attempt: Path | None = None,
) -> Published:
    """Publish what there is of a failed page apart from the last good one."""
    if attempt is not None and attempt.exists():
        notebook = nbformat.read(attempt, as_version=4)
        _clean(notebook)
        write_atomically(attempt, nbformat.writes(notebook).encode())
    else:
        notebook = site.failure_page(done.message)
    banner = f"This execution ended as {done.status}: {done.message}"
    html = site.render(notebook, page.name, names, root="../", banner=banner)
    write_atomically(out / "site" / "failed" / f"{page.name}.html", html.encode())
    good = read_published(out / "notebooks" / f"{page.name}.ipynb")
    if good is not None:
        when = good.metadata["mnistlab"]["executed"]
        banner = f"The last execution ended as {done.status}; this page is of {when}."
        html = site.render(good, page.name, names, banner=banner)
        write_atomically(out / "site" / f"{page.name}.html", html.encode())
    return Published(page, done.status, done.message, done.seconds)


def publish_pages(
    pages: Sequence[Page],
    out: Path,
    *,
    names: Sequence[str],
    workers: int,
    timeout: int,
    cell_timeout: int | None = None,
    fresh: bool = False,
    missing: Collection[RunSpec] = (),
    train: Callable[[Callable[[RunSpec, str], None]], None] = lambda ended: None,
    begins: Callable[[str], None] = lambda name: None,
    report: Callable[[Published], None] = lambda published: None,
) -> tuple[list[Published], BaseException | None]:
    """Train, and publish each page as soon as its own runs have ended.

    Pages are executed side by side, each in its own process; those that gather the
    runs of all others come last. At an interrupt, pages that are being executed get
    a few seconds to end well, and are then stopped.

    Args:
        pages: what to publish.
        out: the output folder.
        names: all pages of the site.
        workers: how many pages are executed at a time.
        timeout: seconds for each notebook.
        cell_timeout: seconds for each cell; None is no limit of its own.
        fresh: execute pages that are current, too.
        missing: the runs that will be trained.
        train: trains them, and calls what it is given with each run that has ended
            and, if it failed, why.
        begins: called with the name of each page that begins.
        report: called with each page that has ended.

    Returns:
        How each page ended, and what ended all of it early, if anything did: an
        interrupt, a cluster that is gone, a full disk.
    """
    stop = threading.Event()
    futures: dict[str, Future[Published]] = {}
    waits = {
        page.name: set(page.specs) & set(missing)
        for page in pages
        if page.name not in GATHERING
    }
    by_name = {page.name: page for page in pages}
    failed: dict[RunSpec, str] = {}

    def publish(page: Page) -> Published:
        begins(page.name)
        # With --fresh, a record of before is there, and is not to be shown as new.
        old = [spec for spec in page.specs if spec in failed and find_run(out, spec)]
        if old:
            message = "; ".join(f"{spec.title}: {failed[spec]}" for spec in old)
            done = _publish_failure(page, out, names, Execution("failed", 0.0, message))
        else:
            done = publish_page(
                page, out, names,
                timeout=timeout, cell_timeout=cell_timeout, fresh=fresh, stop=stop,
            )  # fmt: skip
        report(done)
        return done

    ended_by: BaseException | None = None
    with ThreadPoolExecutor(workers) as pool:

        def start(names: Sequence[str]) -> None:
            futures.update((n, pool.submit(publish, by_name[n])) for n in names)

        def start_ready() -> None:
            start([n for n, specs in waits.items() if not specs and n not in futures])

        def ended(spec: RunSpec, failure: str) -> None:
            if failure:
                failed[spec] = failure
            for specs in waits.values():
                specs.discard(spec)
            start_ready()

        try:
            start_ready()
            train(ended)
            wait(futures.values())
            start([name for name in by_name if name not in futures])
            wait(futures.values())
        except (SchedulerGone, StoreError) as error:
            ended_by = error
            wait(futures.values())  # their runs are complete
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
        future = futures.get(page.name)
        if future is not None and not future.cancelled():
            return future.result()
        if page.name in GATHERING:
            return Published(page, "skipped", "comes after all others", 0.0)
        return Published(page, "interrupted", "before it was executed", 0.0)

    return [outcome(page) for page in pages], ended_by
