"""What a notebook imports, in one line; and how its figures and mistakes are shown."""

from dataclasses import replace

from IPython import get_ipython
from IPython.display import display

from mnistlab import claims, data, models, plots, reported, tables
from mnistlab.files import DataError
from mnistlab.result import best_of, declare
from mnistlab.schedule import ScheduleError, SchedulerGone
from mnistlab.store import StoreError, evidence
from mnistlab.study import StudyError, load_runs, study

# A user's own mistakes and interruptions, which a sentence explains better than the
# places in our source that it came through.
MISTAKES = (
    StudyError,
    DataError,
    ScheduleError,
    SchedulerGone,
    StoreError,
    KeyboardInterrupt,
)


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
        shell.set_custom_exc(MISTAKES, _sentence)


_prepare()
