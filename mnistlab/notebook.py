"""What a notebook imports, in one line; and how its figures and mistakes are shown."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask.system import cpu_count
from IPython import get_ipython
from IPython.display import Markdown, display

from mnistlab import MnistlabError, claims, data, models, plots, reported, tables
from mnistlab.models.experiment import Experiment
from mnistlab.progress import Board, expected_seconds, forecast
from mnistlab.result import best_of, declare
from mnistlab.store import evidence
from mnistlab.study import load_runs, look_up, study


def check(
    family: str | Iterable[Experiment] | None = None,
    *,
    dataset: str = "mnist",
    out: str | Path = "../build",
    **chosen: Any,
) -> Markdown:
    """Say right below the parameters what they come to, before anything is trained.

    The parameters are those of `study`, or without a family those of `load_runs`; it
    raises their errors.
    """
    experiments = family or models.COLLECTION.values()
    found = look_up(experiments, data.load(dataset), out, **chosen)
    missing = [spec for spec, run in found.items() if run is None]
    is_trained = "to train" if family else "not there"
    text = f"Runs: {len(missing)} {is_trained}, {len(found) - len(missing)} reused."
    if missing and family:
        text += f" {forecast(Board(expected_seconds(missing), cpu_count()))}"
    return Markdown(text)


def _sentence(shell, kind, error, _traceback, tb_offset=None):
    """Show a mistake as its sentence; the cell has failed all the same."""
    text = [
        f"\x1b[31m{kind.__name__}\x1b[0m: {str(error) or 'the cell was interrupted'}"
    ]
    shell._showtraceback(kind, error, text)
    return text


# The notebook that imports this is set up; elsewhere nothing is done.
plots.describe_figures()
if (shell := get_ipython()) is not None:
    # A sentence says more than the places in our source that it came through.
    shell.set_custom_exc((MnistlabError, KeyboardInterrupt), _sentence)
