"""The index of the site and its environment page: what a build came to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from mnistlab import data
from mnistlab.comparison import Gathered
from mnistlab.data import Dataset
from mnistlab.environment import package_digest
from mnistlab.models import CONTROLS
from mnistlab.runs import Run
from mnistlab.store import evidence, runs_named, write_atomically
from reports import site, touch
from reports.pages import Published, evidence_files, read_published
from reports.story import TAILS, tell, tries


def write_site(
    published: Sequence[Published],
    out: Path,
    names: Sequence[str],
    images: Dataset,
) -> None:
    """Write the index over all pages there are, those of earlier builds included."""
    by_name = {done.page.name: done for done in published}
    good = {done.page.name: done.about for done in published if done.about}
    about = {
        name: good.get(name) or read_published(out / "notebooks" / f"{name}.ipynb")
        for name in names
    }
    failed = sorted(path.stem for path in (out / "site" / "failed").glob("*.html"))
    # Pages of earlier builds may show runs of code that is no longer this.
    current = {run for known in good.values() for run in known["result"]["runs"]}
    parts = (
        package_digest(),
        about,
        sorted(current),
        evidence_files(),
        [(done.page.name, done.message) for done in published if not done.is_good],
        failed,
        images.fingerprint,
        TAILS.read_text() if TAILS.exists() else "",
    )
    mnist = data.load()
    own = [r for r in runs_named(sorted(current), out) if r.status != "evidence"]
    gathered = Gathered(own, evidence(), [], mnist.y_test)
    full = gathered.full

    def make() -> str:
        from mnistlab.tables import leader_board

        heading = "Leader board: full runs, as 2019 trained"
        boards = {heading: leader_board(full, gathered.labels)} if full else {}
        short = [
            run
            for run in gathered.short
            if run.record["dataset"]["fingerprint"] == images.fingerprint
        ]
        for title, alike in _alike(short).items():
            boards[f"This build: {title}"] = leader_board(alike, images.y_test)
        site.copy_records(gathered.everything, out / "site")
        page = site.environment(gathered.everything, names)
        write_atomically(out / "site" / "environment.html", page.encode())
        text = site.template("site.html.j2").render(
            site=site.head("index", names, "28 MNIST models of 2019, run again"),
            story=tell(evidence()),
            tries=tries(evidence(), mnist),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            about=about,
            ended=by_name,
            failed=failed,
            facts={name: _facts(about[name]) for name in names},
            boards=boards,
        )
        return site.finished(BeautifulSoup(text, "html.parser"))

    site.write_page(out / "site" / "index.html", parts, make)
    # Last, because they are large: on a full disk the index still says how it ended.
    touch.write(out / "site", full, mnist, names)


def _alike(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that may stand in one table, of equal amounts of data, by that amount."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        record = run.record
        epochs = f"{record['epochs']} epoch{'s' if record['epochs'] > 1 else ''}"
        if record["epochs"] == run.experiment.recipe.epochs:
            epochs = "all epochs"
        title = (
            f"{run.trained_images:,} images, {epochs}, {record['test_size']:,} test "
            f"images, {record['protocol']}, {record['backend']}"
        )
        found.setdefault(title, []).append(run)
    return found


def _facts(about: dict[str, Any] | None) -> dict[str, str]:
    """How a page was made, for those who ask."""
    if about is None:
        return {}
    runs = about["result"]["runs"]
    models = {run.partition("/")[0] for run in runs}
    controls = sum(experiment.name in models for experiment in CONTROLS)
    more = f", {controls} of them controls" if controls else ""
    count = {"runs": f"{len(runs)}, of {len(models)} models{more}"} if runs else {}
    executed = about["executed"][:16].replace("T", " ")
    return {**count, **about["about"], "executed": executed}
