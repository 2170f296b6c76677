"""What is shown while a build trains: counted right, and in words."""

import pytest
from conftest import make_spec
from reports.terminal import Board, reports
from rich.console import Console

from mnistlab import live
from mnistlab.progress import Tally
from mnistlab.schedule import Progress
from reports.build import Published
from reports.pages import Page


def history(epochs):
    return [
        {"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "val_accuracy": 0.5 + e / 10}
        for e in range(1, epochs + 1)
    ]


@pytest.fixture
def specs(digits):
    return [make_spec(digits, seed=seed) for seed in range(2)]  # three epochs each


def told(specs, *reports):
    tally = Tally(specs, begun=0.0)
    for kind, seed, epochs in reports:
        tally.note(Progress(kind, specs[seed], history(epochs), "no memory"))
    return tally


def test_time_left_is_that_of_the_work_left(specs, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10.0)
    assert told(specs).seconds_left is None
    one = told(specs, ("started", 0, 0), ("epoch", 0, 1))
    assert one.seconds_left == pytest.approx(50)  # one of six epochs in 10 s
    resumed = told(specs, ("started", 0, 2), ("epoch", 0, 3), ("trained", 0, 3))
    assert resumed.seconds_left == pytest.approx(30), "two epochs were there before"
    assert resumed.images_a_second == pytest.approx(256 / 10)
    done = told(specs, ("trained", 0, 3), ("trained", 1, 3))
    assert done.seconds_left == 0
    assert done.ended == 2


def test_a_failed_run_is_left_out_of_the_time_left(specs, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10.0)
    tally = told(specs, ("epoch", 0, 1), ("started", 1, 0), ("failed", 1, 0))
    assert tally.seconds_left == pytest.approx(20)
    assert [p.spec.task.seed for p in tally.running] == [0]


def test_the_terminal_shows_runs_and_notebooks(specs, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10.0)
    tally = told(specs, ("epoch", 0, 2), ("trained", 1, 3))
    board = Board(tally, {"mlp": "waiting", "data": "waiting"})
    board.page_begins("mlp")
    board.page_ends(Published(Page("data", None, {}, ()), "failed", "why", 1.0))
    console = Console(width=100, record=True)
    console.print(board)
    shown = console.export_text()
    assert "tiny, seed 0" in shown
    assert "2/3" in shown
    assert "70.00 %" in shown
    assert "tiny, seed 1" not in shown, "it has ended"
    assert "1 of 2 runs, 10 s, about 2 s of training left, 128 images" in shown
    assert "mlp executing" in shown
    assert "data failed" in shown


def test_where_there_is_no_terminal_each_step_is_a_line(specs, capsys):
    with reports(specs, ["mlp"]) as (of_run, begins, of_page):
        of_run(Progress("epoch", specs[0], history(1)))
        of_run(Progress("failed", specs[1], [], "no memory"))
        begins("mlp")
        of_page(Published(Page("mlp", None, {}, ()), "published", "", 3.0))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "tiny, seed 0" in lines[0]
    assert "epoch 1 of 3, accuracy 60.00 %" in lines[0]
    assert "failed: no memory" in lines[1]
    assert "published    3.0 s" in lines[2]
    assert not any("\x1b" in line for line in lines)


def test_a_cell_shows_each_run_and_escapes_what_it_says(specs):
    tally = Tally(specs)
    tally.note(Progress("epoch", specs[0], history(2)))
    shown = live._table(tally)
    assert "<progress value='2' max='3'>" in shown
    assert "epoch 2 of 3, accuracy 70.00 %" in shown
    assert "waiting" in shown
    tally.note(Progress("failed", specs[1], [], "<b>"))
    assert "failed: &lt;b&gt;" in live._table(tally)


def test_the_live_curve_is_2019s_of_each_run_that_is_trained(specs):
    tally = Tally(specs)
    for spec in specs:
        tally.note(Progress("epoch", spec, history(2)))
    figure = live._curves(tally)
    assert [ax.get_title() for ax in figure.axes] == ["tiny, seed 0", "tiny, seed 1"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [2, 1]
    assert "Loss so far of tiny, seed 0" in figure.get_label()
