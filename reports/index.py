"""The index of the site and its environment page: what a build came to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnistlab import data
from mnistlab.data import Dataset
from mnistlab.runs import Run
from mnistlab.study import Gathered, evidence, runs_named
from mnistlab.tables import leader_board
from reports import site
from reports.build import Published
from reports.pages import declared, read_published


def write_site(
    published: Sequence[Published],
    out: Path,
    names: Sequence[str],
    images: Dataset,
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
    runs = runs_named(sorted(current), out)
    gathered = Gathered(
        [run for run in runs if (out / "runs" / run.name / run.key16).exists()],
        evidence(),
        [],
        data.load().y_test,
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
    site.write_index(out / "site", cards, boards, names)
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
    notebook = read_published(out / "notebooks" / f"{name}.ipynb")
    headline, thumbnail, title = "", "", name
    runs: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    if notebook is not None:
        metadata = notebook.metadata["mnistlab"]
        headline, thumbnail, runs = declared(notebook)
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
