"""What a notebook imports, in one line."""

from IPython.display import display

from mnistlab import claims, data, models, plots, reported, tables
from mnistlab.models import CONTROLS
from mnistlab.result import best_of, declare
from mnistlab.study import evidence, load_runs, study

plots.describe_figures()

__all__ = [
    "CONTROLS",
    "best_of",
    "claims",
    "data",
    "declare",
    "display",
    "evidence",
    "load_runs",
    "models",
    "plots",
    "reported",
    "study",
    "tables",
]
