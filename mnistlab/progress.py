"""How far a build is: one board, drawn by rich in a terminal and in a notebook."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import click
import numpy as np
from rich.console import Console, Group
from rich.jupyter import JupyterMixin
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistlab import clusters, store
from mnistlab.runs import RunSpec
from mnistlab.schedule import Progress, cost

ENDED = ("trained", "failed")
GOOD = ("published", "reused", "trained")
COLOURS = {"waiting": "default", "executing": "default"} | dict.fromkeys(GOOD, "green")
CURVES = 4  # at a time


def expected_seconds(specs: Sequence[RunSpec]) -> dict[RunSpec, float]:
    """Processor seconds that each training may take, from the committed runs' times.

    Of the same model where there is one, else from its multiply-adds.
    """
    times: dict[str, list[float]] = {}  # seconds per multiply-add
    for run in store.evidence():
        if run.is_whole:
            work = run.record["macs"] * run.record["train_size"] * run.record["epochs"]
            times.setdefault(run.name, []).append(run.record["cpu_seconds"] / work)
    means = {name: float(np.mean(own)) for name, own in times.items()}
    usual = float(np.median(list(means.values()))) if means else 1e-10
    return {
        spec: cost(spec) * means.get(spec.task.experiment.name, usual) for spec in specs
    }


@dataclass
class Board(JupyterMixin):
    """The state of a build, as its reports say.

    Attributes:
        expected: processor seconds of each run that is to be trained.
        workers: how many of them are trained at a time; grows with what is reported.
        pages: what is known of each notebook.
        last: the latest report of each run.
        resumed: how many epochs a run had when it began.
    """

    expected: Mapping[RunSpec, float]
    workers: int = 1
    pages: dict[str, str] = field(default_factory=dict)
    last: dict[RunSpec, Progress] = field(default_factory=dict)
    resumed: dict[RunSpec, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def run(self, progress: Progress) -> None:
        """Take in what happened to a run."""
        spec = progress.spec
        if progress.kind == "started":
            self.resumed[spec] = len(progress.history)
        if not progress.history and spec in self.last:  # a failure has none
            history = self.last[spec].history
            progress = Progress(progress.kind, spec, history, progress.message)
        self.last[spec] = progress
        self.workers = max(self.workers, len(self.running))

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def ended(self) -> int:
        """How many runs have ended, well or not."""
        return sum(p.kind in ENDED for p in list(self.last.values()))

    @property
    def running(self) -> list[Progress]:
        """The latest report of each run that has begun and not ended."""
        return [p for p in list(self.last.values()) if p.kind not in ENDED]

    @property
    def pace(self) -> float:
        """Seconds that epochs took here, over those expected; 1 before the first."""
        took = expected = 0.0
        for spec, progress in list(self.last.items()):
            epochs = progress.history[self.resumed.get(spec, 0) :]
            took += sum(epoch["seconds"] for epoch in epochs)
            expected += self.expected[spec] * len(epochs) / spec.task.epochs
        return took / expected if expected else 1.0

    @property
    def seconds_left(self) -> float:
        """What is left, on all workers; no run is on two of them."""
        left = [0.0]
        for spec, seconds in self.expected.items():
            progress = self.last.get(spec)
            if progress is None or progress.kind not in ENDED:
                trained = len(progress.history) if progress else 0
                left.append(seconds * (1 - trained / spec.task.epochs))
        return self.pace * max(sum(left) / self.workers, *left)

    @property
    def summary(self) -> str:
        """Runs that have ended, the time so far and what is left, in a line."""
        total = len(self.expected)
        text = f"{self.ended} of {total} runs, {duration(self.elapsed)}"
        if self.ended == total:
            return text
        text += f", about {duration(self.seconds_left)} of training left"
        if not self.last:
            text += "; starting workers, which takes 20 to 60 s"
        elif not any(progress.history for progress in list(self.last.values())):
            text += "; first epochs"
        return text

    def __rich__(self) -> Group:
        """The runs that are being trained, all notebooks, and what is left."""
        runs = Table(box=None, padding=(0, 2, 0, 0))
        # In a narrow terminal the bar gives way, and the last title.
        runs.add_column("run", no_wrap=True)
        runs.add_column("epochs", max_width=30)
        runs.add_column("", no_wrap=True)
        runs.add_column("validation accuracy", min_width=10)
        for progress in self.running:
            history, epochs = progress.history, progress.spec.task.epochs
            accuracy = f"{100 * history[-1]['val_accuracy']:.2f} %" if history else ""
            bar = ProgressBar(total=epochs, completed=len(history))
            runs.add_row(progress.spec.title, bar, f"{len(history)}/{epochs}", accuracy)
        failed = [p for p in list(self.last.values()) if p.kind == "failed"]
        reasons = [Text(f"{p.spec.title}: {words(p)}", "red") for p in failed]
        states = Text("   ").join(
            Text(f"{name} {status}", COLOURS.get(status, "red"))
            for name, status in list(self.pages.items())
        )
        shown = [*reasons, Text(self.summary, "bold"), *[states] * bool(self.pages)]
        return Group(*[runs] * bool(self.running), *shown)


@contextmanager
def in_terminal(board: Board) -> Iterator[tuple[Callable, Callable]]:
    """Two functions to report to: of runs, and of pages (name, status, seconds, why).

    In a terminal they feed a live board, which is gone at the end; else each prints a
    line.
    """
    console = Console()
    # A terminal indeed: rich takes a file for one where FORCE_COLOR is set.
    live = console.is_interactive and console.file.isatty()

    def of_run(progress: Progress) -> None:
        board.run(progress)
        if live and progress.kind != "failed":
            return
        text = words(progress)
        if progress.kind == "failed":
            text = click.style(text, fg="red")
        elif progress.kind == "epoch":
            text += f", {duration(board.seconds_left)} left"
        minutes, seconds = divmod(int(board.elapsed), 60)
        click.echo(
            f"{minutes:3}:{seconds:02}  {board.ended:3} of {len(board.expected)} runs  "
            f"{progress.spec.title:20} {text}"
        )

    def of_page(name: str, status: str, seconds: float = 0.0, why: str = "") -> None:
        board.pages[name] = status
        if status != "executing" and not (live and status in GOOD):
            click.echo(f"notebook  {name:10} {status} {seconds:6.1f} s  {why}")

    shown = Live(get_renderable=board.__rich__, console=console, transient=True)
    with shown if live else nullcontext():
        yield of_run, of_page


@contextmanager
def in_cell(board: Board) -> Iterator[Callable[[Progress], None]]:
    """A function to report runs to, for a notebook; at a plain prompt it prints lines.

    The cell shows the board, which ticks every second, and live curves.
    """
    from IPython import get_ipython

    if not hasattr(get_ipython(), "kernel"):
        yield lambda progress: print(f"{progress.spec.title}: {words(progress)}")
        return
    from IPython.display import HTML, display

    shown = display(board, display_id=True)
    curves = display(HTML(""), display_id=True)
    over = threading.Event()

    def tick() -> None:
        while not over.wait(1):
            shown.update(board)

    def report(progress: Progress) -> None:
        board.run(progress)
        if progress.kind == "epoch":
            # Python drops what is raised in a callback of a weak reference, of which
            # drawing has many.
            with clusters.interrupts_wait():
                curves.update(live_curves(board.running) or HTML(""))

    ticking = threading.Thread(
        target=contextvars.copy_context().run, args=(tick,), daemon=True
    )
    ticking.start()
    try:
        yield report
    finally:
        over.set()
        ticking.join()
        shown.update(board)
        curves.update(HTML(""))  # the notebook draws them all below


def live_curves(running: Sequence[Progress]) -> object | None:
    """2019's curve of each run that is being trained, as far as it has come."""
    import matplotlib.pyplot as plt

    from mnistlab.plots import plt_dynamic
    from mnistlab.plots.look import describe

    running = [progress for progress in running if progress.history][-CURVES:]
    if not running:
        return None
    size = 4.6 * len(running), 3.2
    figure, axes = plt.subplots(1, len(running), figsize=size, squeeze=False)
    for ax, progress in zip(axes.flat, running, strict=True):
        epochs, validation, training = (
            [entry[name] for entry in progress.history]
            for name in ("epoch", "val_loss", "loss")
        )
        plt_dynamic(epochs, validation, training, ax)
        ax.set_xlim(0.5, progress.spec.task.epochs + 0.5)
        ax.set_title(progress.spec.title)
    figure.tight_layout()
    describe(figure, "Loss so far of " + ", ".join(p.spec.title for p in running) + ".")
    plt.close(figure)  # or the cell would show it once more at its end
    return figure


def forecast(board: Board) -> str:
    """What a training may take, before its first epoch, and what would be shorter."""
    at_a_time = min(board.workers, len(board.expected))
    text = (
        f"About {duration(max(board.seconds_left, 1))} of training with {at_a_time} "
        "at a time, once workers have started (20 to 60 s)"
    )
    if board.seconds_left < 300:
        return f"{text}."
    return f"{text}, as the committed runs took; profile quick takes minutes."


def words(progress: Progress) -> str:
    """What a report says, for people: how far a run is, and how it ended."""
    history, epochs = progress.history, progress.spec.task.epochs
    if progress.kind == "failed":
        return f"failed: {progress.message}"
    text = f"epoch {len(history)} of {epochs}"
    if history:
        text += f", validation accuracy {100 * history[-1]['val_accuracy']:.2f} %"
    return text if progress.kind == "epoch" else f"{progress.kind}, {text}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(7), duration(75), duration(5400)
    ('7 s', '1:15 min', '1:30 h')
    """
    whole = round(seconds)
    for unit, size in (("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size}:{whole % size * 60 // size:02} {unit}"
    return f"{whole} s"
