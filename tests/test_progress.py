"""What is shown while a build trains: counted right, and in words."""

import gc
import os
import signal
import weakref
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from conftest import make_spec
from rich.console import Console

from mnistlab.progress import Board, forecast, in_cell, in_terminal, live_curves
from mnistlab.schedule import Progress


def history(epochs):
    return [
        {"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "val_accuracy": 0.5 + e / 10,
         "seconds": 6.0}
        for e in range(1, epochs + 1)
    ]  # fmt: skip


@pytest.fixture
def specs(digits, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10.0)
    return [make_spec(digits, seed=seed) for seed in range(2)]  # three epochs each


def told(specs, *reports, workers=1):
    """A board of runs that are expected to take 9 seconds each, after these reports."""
    board = Board(dict.fromkeys(specs, 9.0), workers, begun=0.0)
    for kind, seed, epochs in reports:
        board.run(Progress(kind, specs[seed], history(epochs), "no memory"))
    return board


def test_time_left_is_what_was_expected_at_the_pace_of_this_machine(specs):
    assert told(specs).seconds_left == 18
    assert told(specs, workers=2).seconds_left == 9
    assert told(specs, workers=8).seconds_left == 9, "no run is on two workers"
    one = told(specs, ("started", 0, 0), ("epoch", 0, 1))
    assert one.pace == 2, "6 seconds for 3"
    assert one.seconds_left == 2 * (6 + 9)
    resumed = told(specs, ("started", 0, 2), ("epoch", 0, 3), ("trained", 0, 3))
    assert resumed.seconds_left == 2 * 9, "two epochs were there before"
    done = told(specs, ("trained", 0, 3), ("trained", 1, 3))
    assert done.seconds_left == 0
    assert done.ended == 2


def test_a_failed_run_is_left_out_of_the_time_left(specs):
    board = told(specs, ("epoch", 0, 1), ("started", 1, 0), ("failed", 1, 0))
    assert board.seconds_left == pytest.approx(2 * 6)
    assert [p.spec.task.seed for p in board.running] == [0]


def test_a_forecast_names_what_is_shorter(specs):
    assert forecast(told(specs)).startswith("About 18 s of training with 1 at a time")
    hours = Board(dict.fromkeys(specs, 7200.0), workers=2)
    assert "About 2:00 h of training with 2 at a time" in forecast(hours)
    assert "profile quick takes minutes" in forecast(hours)


@pytest.mark.parametrize("width", [100, 40])
def test_the_board_shows_runs_and_notebooks(specs, width):
    board = told(specs, ("epoch", 0, 2), ("trained", 1, 3))
    board.pages |= {"mlp": "executing", "data": "failed"}
    console = Console(width=width, record=True)
    console.print(board)
    shown = " ".join(console.export_text().split())
    for part in ("tiny, seed 0", "2/3", "70.00 %", "mlp executing", "data failed",
                 "1 of 2 runs, 10 s, about 6 s of training left"):  # fmt: skip
        assert part in shown
    assert "tiny, seed 1" not in shown, "it has ended"
    assert "…" not in shown, "nothing is cut off"


def test_before_the_first_epoch_it_says_what_is_going_on(specs):
    assert "starting workers, which takes 20 to 60 s" in told(specs).summary
    assert "first epochs" in told(specs, ("started", 0, 0)).summary


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "ANY_OTHER"])
def test_where_there_is_no_terminal_each_step_is_a_line(
    specs, capsys, monkeypatch, variable
):
    monkeypatch.setenv(variable, "1")
    with in_terminal(told(specs)) as (of_run, of_page):
        of_run(Progress("epoch", specs[0], history(1)))
        of_run(Progress("failed", specs[1], [], "no memory"))
        of_page("mlp", "executing")
        of_page("mlp", "published", 3.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "tiny, seed 0" in lines[0]
    assert "epoch 1 of 3, validation accuracy 60.00 %, 30 s left" in lines[0]
    assert "failed: no memory" in lines[1]
    assert "published    3.0 s" in lines[2]
    assert not any("\x1b" in line for line in lines)


def test_a_cell_shows_the_same_board_and_escapes_what_it_says(specs):
    board = told(specs, ("epoch", 0, 2))
    assert "tiny, seed 0" in board._repr_mimebundle_((), ())["text/html"]
    board.run(Progress("failed", specs[1], [], "<b>"))
    assert "failed: &lt;b&gt;" in board._repr_mimebundle_((), ())["text/html"]


def test_the_live_curve_is_2019s_of_each_run_that_is_trained(specs):
    board = told(specs, ("epoch", 0, 2), ("epoch", 1, 2))
    figure = live_curves(board.running)
    assert [ax.get_title() for ax in figure.axes] == ["tiny, seed 0", "tiny, seed 1"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [2, 1]
    assert "Loss so far of tiny, seed 0" in figure.get_label()


def test_an_interrupt_while_curves_are_drawn_is_not_lost(specs, monkeypatch):
    """In a callback of a weak reference, where Python drops what is raised."""
    interrupts = []

    def interrupt(_):
        try:  # to the process, as a keyboard does: this thread may not take signals
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            interrupts.append(signal.SIGINT)

    class Shown:
        def update(self, shown):
            if not isinstance(shown, Board) and not interrupts:
                curve = plt.figure()
                kept = weakref.ref(curve, interrupt)
                plt.close(curve)
                del curve
                while not interrupts:  # another thread may be collecting just now
                    gc.collect()
                assert kept() is None

    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Shown())
    # Ignored where a shell has started the tests in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), in_cell(told(specs)) as report:
            report(Progress("epoch", specs[0], history(1)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupts == [signal.SIGINT]
