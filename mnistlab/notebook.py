"""What a notebook imports, in one line; and how its figures and mistakes are shown."""

from dataclasses import replace

from IPython import get_ipython
from IPython.display import display

from mnistlab import MnistlabError, claims, data, models, plots, reported, tables
from mnistlab.result import best_of, declare
from mnistlab.store import evidence
from mnistlab.study import load_runs, study


def _sentence(shell, kind, error, _traceback, tb_offset=None):
    """Show a mistake as its sentence; the cell has failed all the same."""
    text = [
        f"\x1b[31m{kind.__name__}\x1b[0m: {str(error) or 'the cell was interrupted'}"
    ]
    shell._showtraceback(kind, error, text)
    return text


def _prepare() -> None:
    """Set up the notebook that imports this; nothing elsewhere."""
    plots.describe_figures()
    shell = get_ipython()
    if shell is not None:
        # A sentence says more than the places in our source that it came through.
        shell.set_custom_exc((MnistlabError, KeyboardInterrupt), _sentence)


_prepare()
