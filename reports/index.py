"""The index of the site and its environment page: what a build came to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnistlab import data
from mnistlab.comparison import Gathered
from mnistlab.data import Dataset
from mnistlab.environment import package_digest
from mnistlab.runs import Run
from mnistlab.store import evidence, runs_named, write_atomically
from reports import site, touch
from reports.pages import Published, read_published
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
    # Pages of earlier builds may show runs of code that is no longer this.
    current = {run for known in good.values() for run in known["result"]["runs"]}
    parts = (
        package_digest(),
        about,
        sorted(current),
        [(run.record["key"], run.has_weights) for run in evidence()],
        [(done.page.name, done.message) for done in published if not done.is_good],
        sorted(path.name for path in (out / "site" / "failed").glob("*.html")),
        images.fingerprint,
        TAILS.read_text() if TAILS.exists() else "",
    )
    mnist = data.load()
    own = [r for r in runs_named(sorted(current), out) if r.status != "evidence"]
    gathered = Gathered(own, evidence(), [], mnist.y_test)
    full = gathered.full

    def make() -> str:
        from mnistlab.tables import leader_board

        cards = [_card(name, about[name], by_name.get(name), out) for name in names]
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
        story = tell(evidence())
        return site.index(cards, boards, names, story, tries(evidence(), mnist))

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


def _card(
    name: str, about: dict[str, Any] | None, done: Published | None, out: Path
) -> dict[str, Any]:
    """What the index says of a page."""
    empty = {"headline": "", "thumbnail": "", "runs": ()}
    result = about["result"] if about else empty
    failed = (out / "site" / "failed" / f"{name}.html").exists()
    runs = result["runs"]
    models = {run.partition("/")[0] for run in runs}
    facts = {
        "status": done.status if done and not done.is_good else "",
        "runs": f"{len(runs)}, of {len(models)} models" if runs else "",
        **(about["about"] if about else {}),
        "executed": about["executed"][:16].replace("T", " ") if about else "",
    }
    return {
        "name": name,
        "title": about["title"] if about else name,
        "published": about is not None,
        "failed": failed,
        "headline": done.message if done and failed else result["headline"],
        "thumbnail": result["thumbnail"],
        "status": done.status if done else "",
        "facts": {key: value for key, value in facts.items() if value},
    }
