"""What a notebook declares at its end: headline, runs shown, thumbnail."""

import base64
import html
import io
import os
from collections.abc import Sequence

from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab import RESULT_MIME
from mnistlab.comparison import scores
from mnistlab.environment import PACKAGE, package_digest
from mnistlab.judging import LEAST_SEEDS
from mnistlab.reported import title
from mnistlab.runs import Run


def declare(
    headline: str, *, runs: Sequence[Run] = (), figure: Figure | Axes | None = None
) -> None:
    """End a notebook with its result; without one it is not published.

    Args:
        headline: one sentence for the index.
        runs: every run whose numbers the notebook shows.
        figure: what the index shows small, as PNG of at most about 400 pixels.
    """
    if not headline.strip():
        raise ValueError("declare: the headline is empty; say what the notebook found")
    thumbnail = ""
    if isinstance(figure, Axes):
        figure = figure.get_figure(root=True)
    if figure is not None:
        buffer = io.BytesIO()
        width = figure.get_size_inches()[0]
        figure.savefig(buffer, format="png", dpi=400 / width, bbox_inches="tight")
        thumbnail = base64.b64encode(buffer.getvalue()).decode()
    result = {
        "headline": headline,
        "runs": sorted({f"{run.name}/{run.key16}" for run in runs}),
        "thumbnail": thumbnail,
        "mnistlab": [os.path.relpath(PACKAGE), package_digest()],
    }
    shown = {"text/plain": headline, "text/html": f"<p>{html.escape(headline)}</p>"}
    display({RESULT_MIME: result, **shown}, raw=True)


def best_of(runs: Sequence[Run]) -> str:
    """A headline: the most accurate model, and what it was trained on.

    By the mean over seeds; if any model has three or more, only such are compared.
    """
    if not runs:
        return "No model has been trained in this build yet"
    found = scores(runs)
    name, best = next(iter(found.items()))
    run, seeds = best.runs[0], len(best.runs)
    record = run.record
    epochs = f"{record['epochs']} epoch{'s' if record['epochs'] > 1 else ''}"
    count = f"mean of {seeds} seeds" if seeds > 1 else "one run"
    enough = [score for score in found.values() if len(score.runs) >= LEAST_SEEDS]
    of = f"{len(enough or found)} model{'s' * (len(enough or found) > 1)}"
    of += f" with {LEAST_SEEDS} seeds or more" * bool(enough)
    return (
        f"Most accurate of {of}: {title(name)}, with "
        f"{100 * best.mean:.2f} % of {record['test_size']:,} test images right, after "
        f"{epochs} on {run.trained_images:,} images ({record['dataset']['name']}, "
        f"{count})"
    )
