"""What a notebook's cell shows while it trains: progress, time left, live curves."""

import html
from collections.abc import Callable, Sequence

from mnistlab.progress import Tally, duration, words
from mnistlab.runs import RunSpec
from mnistlab.schedule import Progress

PANELS = 4  # curves at a time


def show(specs: Sequence[RunSpec], expected: float = 0.0) -> Callable[[Progress], None]:
    """A progress report for a notebook; at a plain prompt, one line a step.

    `expected` are the processor seconds that the training may take, told at once.
    """
    from IPython import get_ipython

    if get_ipython() is None or not hasattr(get_ipython(), "kernel"):
        return _lines
    return _cell(Tally(specs, expected=expected))


def _lines(progress: Progress) -> None:
    print(f"{progress.spec.title}: {words(progress)}")


def _cell(tally: Tally) -> Callable[[Progress], None]:
    from IPython.display import HTML, display

    table = display(HTML(_table(tally)), display_id=True)
    curves = display(HTML(""), display_id=True)

    def report(progress: Progress) -> None:
        tally.note(progress)
        table.update(HTML(_table(tally)))
        if tally.ended == len(tally.specs):
            curves.update(HTML(""))  # the notebook draws them all below
        elif progress.kind == "epoch":
            curves.update(_curves(tally))

    return report


def _table(tally: Tally) -> str:
    """A line for each run, and one for all of them."""
    rows = []
    for spec in tally.specs:
        progress = tally.last.get(spec)
        done = len(progress.history) if progress else 0
        said = html.escape(words(progress)) if progress else "waiting"
        rows.append(
            f"<tr><td>{html.escape(spec.title)}</td><td><progress value='{done}' "
            f"max='{spec.task.epochs}'></progress></td><td>{said}</td></tr>"
        )
    total = len(tally.specs)
    text = f"{tally.ended} of {total} runs ended, {duration(tally.elapsed)} so far"
    if tally.ended < total:
        left = tally.seconds_left
        if left is not None:
            text += f", about {duration(left)} left. "
        else:
            text += f". {tally.forecast} "
        text += "Interrupt the kernel at any time: finished epochs are kept."
    return f"<table>{''.join(rows)}</table><p>{text}</p>"


def _curves(tally: Tally) -> object:
    """2019's curve of each run that is being trained, as far as it has come."""
    import matplotlib.pyplot as plt

    from mnistlab.plots import plt_dynamic
    from mnistlab.plots.look import describe

    running = [progress for progress in tally.running if progress.history][-PANELS:]
    if not running:
        from IPython.display import HTML

        return HTML("")
    figure, axes = plt.subplots(
        1, len(running), figsize=(4.6 * len(running), 3.2), squeeze=False
    )
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
