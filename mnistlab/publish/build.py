"""Execute the notebooks of a build side by side, publish each, and tell how it went.

A page is published whole or not at all: a failed one goes to `failed/`, and the last
good one stays, with a banner.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from mnistlab import data
from mnistlab.publish import site
from mnistlab.publish.execute import Execution, execute
from mnistlab.publish.plan import (
    Page,
    default_parameters,
    page_key_parts,
    why_execute,
)
from mnistlab.runs import Run
from mnistlab.store import read_run, write_atomically
from mnistlab.study import EVIDENCE


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
    """Drop what papermill adds: paths of this machine, and times that always differ."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)


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
    fresh: bool = False,
) -> Published:
    """Execute a page if anything it is made of has changed, and publish it."""
    parts = page_key_parts(page, out)
    reason = "--fresh" if fresh else why_execute(page, parts, out)
    target = out / "notebooks" / f"{page.name}.ipynb"
    if not reason:
        old = nbformat.read(target, as_version=4).metadata["mnistlab"]
        return Published(page, "reused", "", 0.0, *_declared(old))
    attempt = out / "failed" / f"{page.name}.ipynb"
    attempt.parent.mkdir(parents=True, exist_ok=True)
    attempt.unlink(missing_ok=True)
    done = execute(
        page.path,
        attempt,
        _injected(page, out),
        environment=_kernel_environment(out, source),
        timeout=timeout,
    )
    if done.result is None:
        _publish_failure(page, out, names, done, attempt)
        return Published(page, done.status, done.message, done.seconds)
    notebook = nbformat.read(attempt, as_version=4)
    _clean(notebook)
    notebook.metadata["mnistlab"] = {
        "key_parts": parts,
        "result": done.result,
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
    good = out / "notebooks" / f"{page.name}.ipynb"
    if good.exists():
        notebook = nbformat.read(good, as_version=4)
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
    fresh: bool = False,
    report: Callable[[Published], None] = lambda published: None,
) -> list[Published]:
    """Publish pages side by side, each in its own process; say how each ended."""

    def one(page: Page) -> Published:
        done = publish_page(page, out, names, source, timeout=timeout, fresh=fresh)
        report(done)
        return done

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, pages))


def write_site(
    published: Sequence[Published], out: Path, names: Sequence[str], notice: str
) -> None:
    """Write the index over all pages there are, those of earlier builds included."""
    by_name = {done.page.name: done for done in published}
    cards, shown = [], []
    for name in names:
        done = by_name.get(name)
        good = out / "notebooks" / f"{name}.ipynb"
        declared = ("", "", ())
        title = name
        if good.exists():
            notebook = nbformat.read(good, as_version=4)
            declared = _declared(notebook.metadata["mnistlab"])
            title = site.title_of(notebook, name)
        failed = out / "site" / "failed" / f"{name}.html"
        shown += declared[2]
        message = done.message if done and failed.exists() else ""
        cards.append(
            {
                "name": name,
                "title": title,
                "href": f"{name}.html" if good.exists() else "",
                "failed_href": f"failed/{name}.html" if failed.exists() else "",
                "headline": message or declared[0],
                "thumbnail": declared[1],
                "status": done.status if done else "not part of this build",
                "seconds": round(done.seconds) if done else 0,
            }
        )
    runs = _runs(sorted(set(shown)), out)
    site.write_index(out / "site", cards, runs, notice)
