"""Execute the notebooks of a build side by side, publish each, and tell how it went.

A page is published whole or not at all: a failed one goes to `failed/`, and the last
good one stays, with a banner.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat

from mnistlab import data
from mnistlab.environment import environment
from mnistlab.publish import site
from mnistlab.publish.execute import Execution, execute
from mnistlab.publish.plan import (
    GATHERING,
    Page,
    default_parameters,
    page_key_parts,
    why_execute,
)
from mnistlab.runs import Run, RunSpec
from mnistlab.store import make_folder, read_run, write_atomically
from mnistlab.study import EVIDENCE, Gathered, evidence, find_run, mnist_labels
from mnistlab.tables import leader_board

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


def _read_published(path: Path) -> nbformat.NotebookNode | None:
    """A published notebook; None if there is none, or none that can be read."""
    try:
        notebook = nbformat.read(path, as_version=4)
        _declared(notebook.metadata["mnistlab"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return notebook


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


def _kernel_environment(out: Path, source: data.Source) -> dict[str, str]:
    return {
        # Runs were trained before; one that is missing is an error, not a training.
        "MNISTLAB_TRAIN": "never",
        "MNISTLAB_PAGE_FOLDER": str(out / "notebooks"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **data.hand_down(source),
    }


def publish_page(
    page: Page,
    out: Path,
    names: Sequence[str],
    source: data.Source,
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
        declared = _declared(good.metadata["mnistlab"])
        return Published(page, "reused", "", 0.0, *declared)
    attempt = out / "failed" / f"{page.name}.ipynb"
    make_folder(attempt.parent)
    attempt.unlink(missing_ok=True)
    done = execute(
        page.path,
        attempt,
        _injected(page, out),
        environment=_kernel_environment(out, source),
        timeout=timeout,
        cell_timeout=cell_timeout,
        stop=stop,
    )
    if done.result is None:
        _publish_failure(page, out, names, done, attempt)
        return Published(page, done.status, done.message, done.seconds)
    notebook = nbformat.read(attempt, as_version=4)
    _clean(notebook)
    notebook.metadata["mnistlab"] = {
        "key_parts": parts,
        "result": done.result,
        "about": _about(page, source, done.seconds),
        "executed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    site.copy_records(_runs(done.result["runs"], out), out / "site")
    html = site.render(notebook, page.name, names)
    write_atomically(out / "site" / f"{page.name}.html", html.encode())
    write_atomically(target, nbformat.writes(notebook).encode())
    attempt.unlink()
    (out / "site" / "failed" / f"{page.name}.html").unlink(missing_ok=True)
    declared = _declared(notebook.metadata["mnistlab"])
    return Published(page, "published", reason, done.seconds, *declared)


def _about(page: Page, source: data.Source, seconds: float) -> dict[str, str]:
    """What the index says of an executed page besides its result."""
    shown = ("dataset", "profile", "protocol", "seeds", "epochs", "train_size")
    facts = {name: page.parameters.get(name) for name in shown}
    # What `auto` came to be.
    facts["dataset"] = (
        Path(source.path).name if source.kind == "folder" else source.kind
    )
    if "seeds" in page.parameters:
        facts["seeds"] = ", ".join(map(str, page.parameters["seeds"]))
    machine = environment()
    facts["took"] = f"{seconds:.0f} s"
    facts["on"] = f"{machine['processor']}, {machine['cores']} cores"
    return {key: str(value) for key, value in facts.items() if value is not None}


def _declared(metadata: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    result = metadata["result"]
    return result["headline"], result["thumbnail"], tuple(result["runs"])


def _runs(names: Sequence[str], out: Path) -> list[Run]:
    """The runs with these names, `conv2_a2/0123456789abcdef`, wherever they are."""
    found = []
    for name in names:
        run = read_run(out / "runs" / name) or read_run(EVIDENCE / "runs" / name)
        if run is not None:
            found.append(run)
    return found


def _publish_failure(
    page: Page, out: Path, names: Sequence[str], done: Execution, attempt: Path
) -> None:
    if attempt.exists():
        notebook = nbformat.read(attempt, as_version=4)
        _clean(notebook)
        write_atomically(attempt, nbformat.writes(notebook).encode())
    else:
        notebook = site.failure_page(done.message)
    banner = f"This execution ended as {done.status}: {done.message}"
    html = site.render(notebook, page.name, names, root="../", banner=banner)
    write_atomically(out / "site" / "failed" / f"{page.name}.html", html.encode())
    good = _read_published(out / "notebooks" / f"{page.name}.ipynb")
    if good is not None:
        notebook = good
        when = notebook.metadata["mnistlab"]["executed"]
        banner = f"The last execution ended as {done.status}; this page is of {when}."
        html = site.render(notebook, page.name, names, banner=banner)
        write_atomically(out / "site" / f"{page.name}.html", html.encode())


def publish_pages(
    pages: Sequence[Page],
    out: Path,
    source: data.Source,
    *,
    names: Sequence[str],
    workers: int,
    timeout: int,
    cell_timeout: int | None = None,
    fresh: bool = False,
    missing: Collection[RunSpec] = (),
    failed: Mapping[RunSpec, str] = MappingProxyType({}),
    train: Callable[[Callable[[RunSpec], None]], None] = lambda ended: None,
    begins: Callable[[str], None] = lambda name: None,
    report: Callable[[Published], None] = lambda published: None,
) -> tuple[list[Published], bool]:
    """Train, and publish each page as soon as its own runs have ended.

    Pages are executed side by side, each in its own process; those that gather the
    runs of all others come last. At an interrupt, pages that are being executed get
    a few seconds to end well, and are then stopped.

    Args:
        pages: what to publish.
        out: the output folder.
        source: the data, as it was found.
        names: all pages of the site.
        workers: how many pages are executed at a time.
        timeout: seconds for each notebook.
        cell_timeout: seconds for each cell; None is no limit of its own.
        fresh: execute pages that are current, too.
        missing: the runs that will be trained.
        failed: the runs whose training has failed, and why; filled meanwhile.
        train: trains them, and calls what it is given with each run that has ended.
        begins: called with the name of each page that begins.
        report: called with each page that has ended.

    Returns:
        How each page ended, and whether there was an interrupt.
    """
    stop = threading.Event()
    futures: dict[str, Future[Published]] = {}
    waits = {
        page.name: set(page.specs) & set(missing)
        for page in pages
        if page.name not in GATHERING
    }
    by_name = {page.name: page for page in pages}

    def publish(page: Page) -> Published:
        begins(page.name)
        # With --fresh, a record of before is there, and is not to be shown as new.
        old = [
            spec
            for spec in page.specs
            if page.name not in GATHERING and spec in failed and find_run(out, spec)
        ]
        if old:
            message = "; ".join(failed[spec] for spec in old)
            done = Published(page, "failed", message, 0.0)
            nothing = Execution("failed", 0.0, message)
            _publish_failure(page, out, names, nothing, out / "nothing")
        else:
            done = publish_page(
                page, out, names, source,
                timeout=timeout, cell_timeout=cell_timeout, fresh=fresh, stop=stop,
            )  # fmt: skip
        report(done)
        return done

    interrupted = False
    with ThreadPoolExecutor(workers) as pool:

        def start(names: Sequence[str]) -> None:
            futures.update((n, pool.submit(publish, by_name[n])) for n in names)

        def ended(spec: RunSpec | None) -> None:
            for specs in waits.values():
                specs.discard(spec)
            start([n for n, specs in waits.items() if not specs and n not in futures])

        try:
            ended(None)
            train(ended)
            wait(futures.values())
            start([name for name in by_name if name not in futures])
            wait(futures.values())
        except KeyboardInterrupt:
            interrupted = True
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

    return [outcome(page) for page in pages], interrupted


def write_site(
    published: Sequence[Published],
    out: Path,
    names: Sequence[str],
    images: data.Dataset,
) -> None:
    """Write the index over all pages there are, those of earlier builds included."""
    by_name = {done.page.name: done for done in published}
    for name in names:
        if not (out / "notebooks" / f"{name}.ipynb").exists():
            site.write_missing(out / "site", name, names)
    cards = [_card(name, by_name.get(name), out) for name in names]
    # Pages of earlier builds may show runs of code that is no longer this.
    current = {
        name
        for done in published
        if done.status in ("published", "reused")
        for name in done.runs
    }
    runs = _runs(sorted(current), out)
    gathered = Gathered(
        [run for run in runs if (out / "runs" / run.name / run.key16).exists()],
        evidence(),
        [],
        mnist_labels(images),
    )
    boards = {}
    if gathered.full and gathered.labels is not None:
        board = leader_board(gathered.full, gathered.labels)
        boards["Leader board: full runs, as 2019 trained"] = board
    own = [
        run
        for run in gathered.short
        if run.record["dataset"]["fingerprint"] == images.fingerprint
    ]
    for title, alike in _alike(own).items():
        boards[f"This build: {title}"] = leader_board(alike, images.y_test)
    site.write_index(out / "site", cards, boards, images.notice, names)
    site.write_environment(out / "site", gathered.everything, names)


def _alike(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that may stand in one table, of equal amounts of data, by that amount."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        record = run.record
        epochs = f"{record['epochs']} epoch{'s' if record['epochs'] > 1 else ''}"
        if record["epochs"] == run.experiment.recipe.epochs:
            epochs = "all epochs"
        title = (
            f"{record['train_size']:,} images, {epochs}, {record['test_size']:,} test "
            f"images, {record['protocol']}, {record['backend']}"
        )
        found.setdefault(title, []).append(run)
    return found


def _card(name: str, done: Published | None, out: Path) -> dict[str, Any]:
    """What the index says of a page."""
    notebook = _read_published(out / "notebooks" / f"{name}.ipynb")
    headline, thumbnail, title = "", "", name
    runs: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    if notebook is not None:
        metadata = notebook.metadata["mnistlab"]
        headline, thumbnail, runs = _declared(metadata)
        title = site.title_of(notebook, name)
    failed = (out / "site" / "failed" / f"{name}.html").exists()
    if done is not None and failed:
        headline = done.message
    about = dict(metadata.get("about", {}))
    models = {run.partition("/")[0] for run in runs}
    facts = {
        "status": done.status if done else "not part of this build",
        "runs": f"{len(runs)}, of {len(models)} models" if runs else "",
        **about,
        "executed": metadata.get("executed", "")[:16].replace("T", " "),
    }
    return {
        "name": name,
        "title": title,
        "href": f"{name}.html" if notebook is not None else "",
        "failed_href": f"failed/{name}.html" if failed else "",
        "headline": headline,
        "thumbnail": thumbnail,
        "alt": f"The main figure of: {title}",
        "status": done.status if done else "",
        "facts": {key: value for key, value in facts.items() if value},
    }
