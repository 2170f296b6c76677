"""What a terminal shows of a build: one live table; or plain lines where it is none."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistlab.progress import Tally, duration, words
from mnistlab.runs import RunSpec
from mnistlab.schedule import Progress
from reports.build import Published

COLOURS = {"published": "green", "reused": "green", "trained": "green"}


@dataclass
class Board:
    """The state of a build, as its reports say; rich draws it again and again."""

    tally: Tally
    pages: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, progress: Progress) -> None:
        """Take in what happened to a run."""
        self.tally.note(progress)

    def page_begins(self, name: str) -> None:
        """Take in that a notebook is being executed."""
        self.pages[name] = "executing"
        self.seconds[name] = time.monotonic()

    def page_ends(self, done: Published) -> None:
        """Take in how a notebook ended."""
        self.pages[done.page.name] = done.status
        self.seconds.pop(done.page.name, None)

    def __rich__(self) -> Group:
        """All notebooks, the runs that are being trained, and what is left."""
        tally, now = self.tally, time.monotonic()
        runs = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("run", "epochs", "", "accuracy"):
            runs.add_column(title, no_wrap=True)
        for progress in tally.running:
            history, epochs = progress.history, progress.spec.task.epochs
            accuracy = f"{100 * history[-1]['val_accuracy']:.2f} %" if history else ""
            bar = ProgressBar(total=epochs, completed=len(history), width=30)
            runs.add_row(progress.spec.title, bar, f"{len(history)}/{epochs}", accuracy)
        states = Text()
        for name, status in self.pages.items():
            since = self.seconds.get(name)
            words = f"{status} {now - since:.0f} s" if since else status
            waits = status in ("waiting", "executing")
            colour = "default" if waits else COLOURS.get(status, "red")
            states.append(f"{name} ").append(f"{words}   ", colour)
        total = len(tally.specs)
        summary = f"{tally.ended} of {total} runs, {duration(tally.elapsed)}"
        if tally.ended < total and tally.seconds_left is None:
            summary += ", first epochs" if tally.running else ", workers are starting"
        elif tally.ended < total:
            summary += (
                f", about {duration(tally.seconds_left)} of training left, "
                f"{tally.images_a_second:,.0f} images a second"
            )
        parts = [Text(summary, "bold"), states]
        return Group(runs, *parts) if tally.running else Group(*parts)


@contextmanager
def reports(
    specs: Sequence[RunSpec], names: Sequence[str]
) -> Iterator[tuple[Callable, Callable, Callable]]:
    """Three functions to report to: of runs, of notebooks that begin, that have ended.

    In a terminal they feed a live table, which is gone at the end; else each prints a
    line.

    Args:
        specs: the runs that will be trained.
        names: the notebooks that will be looked at.
    """
    console = Console()
    if not console.is_terminal:
        tally = Tally(specs)
        yield lambda p: _run_line(tally, p), lambda name: None, _page_line
        return
    board = Board(Tally(specs), dict.fromkeys(names, "waiting"))
    with Live(
        get_renderable=board.__rich__,
        console=console,
        refresh_per_second=4,
        transient=True,
    ):

        def run(progress: Progress) -> None:
            board.run(progress)
            if progress.kind == "failed":
                _run_line(board.tally, progress)

        def ended(done: Published) -> None:
            board.page_ends(done)
            if done.status not in ("published", "reused"):
                _page_line(done)

        yield run, board.page_begins, ended


def _run_line(tally: Tally, progress: Progress) -> None:
    tally.note(progress)
    text = words(progress)
    if progress.kind == "failed":
        text = click.style(text, fg="red")
    elif progress.kind == "epoch":
        text += f", {duration(tally.seconds_left)} left"
    minutes, seconds = divmod(int(tally.elapsed), 60)
    click.echo(
        f"{minutes:3}:{seconds:02}  {tally.ended:3} of {len(tally.specs)} runs  "
        f"{progress.spec.title:20} {text}"
    )


def _page_line(done: Published) -> None:
    text = f"{done.status} {done.seconds:6.1f} s"
    click.echo(f"notebook  {done.page.name:10} {text}  {done.message}")
