"""Plots, tables and claims: what a page shows, against where it comes from."""

import re
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ALL, EXPERIMENTS, ROOT, TINY, make_spec, run_through
from markupsafe import Markup
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color

from mnistlab import plots, reported, result, store, tables
from mnistlab.data import MNIST_FINGERPRINT
from mnistlab.models.mlp import mlp_e1
from mnistlab.runs import Run
from mnistlab.tables import contradictions_2019 as contradictions


@pytest.fixture(scope="module")
def real_runs(digits, arrays, keras, tmp_path_factory):
    """Two seeds of E1 and one of the tiny experiment, trained for one epoch."""
    out = tmp_path_factory.mktemp("runs")
    machine = {"processor": "P", "processor_model": "1", "gpus": []}
    found = []
    for experiment, seed in ((mlp_e1, 0), (mlp_e1, 1), (TINY, 0)):
        spec = make_spec(digits, experiment, seed=seed, epochs=1, test_size=360)
        ended = run_through(spec.task, arrays)
        found.append(store.write_run(out, spec, ended, machine))
    return found


def as_full(run):
    """The same run as if it had been the whole 2019 recipe on MNIST."""
    changed = run.record | {
        "experiment": asdict(mlp_e1),
        "dataset": {"name": "mnist", "fingerprint": MNIST_FINGERPRINT},
        "train_size": 60_000,
        "test_size": 10_000,
        "epochs": 20,
    }
    return Run(changed, run.folder)


def drawn_in(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.lines}


def test_plt_dynamic_draws_2019s_curve_only_where_it_is_told_to():
    other = plt.figure()
    _, ax = plt.subplots()
    returned = plots.plt_dynamic([1, 2, 3], [3, 2, 1], [6, 4, 2], ax)
    assert returned is ax
    assert drawn_in(ax) == {"Validation Loss": [3, 2, 1], "Train Loss": [6, 4, 2]}
    validation, training = ax.lines
    assert same_color(validation.get_color(), "b")
    assert same_color(training.get_color(), "r")
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "Categorical Crossentropy Loss"
    assert other.axes == []
    assert len(plt.get_fignums()) == 2


def test_plt_dynamic_makes_its_own_figure_if_it_is_given_none():
    ax = plots.plt_dynamic([1], [1], [1])
    assert ax.lines[0].get_marker() == "o", "one epoch is a point, not a line"
    assert ax.get_xticks().tolist() == [1], "there is no epoch 0.95"
    assert plt.get_fignums() == [ax.figure.number]


def test_a_learning_curve_shows_the_runs_own_losses(real_runs):
    ax = plots.learning_curve(mlp_e1, real_runs)
    first, drawn = real_runs[0].history[0], drawn_in(ax)
    assert drawn["Validation Loss"] == [first["val_loss"]]
    assert drawn["Train Loss"] == [first["loss"]]
    assert "2 seeds" in ax.get_title()
    assert not any(line.get_linestyle() == "--" for line in ax.lines)


def test_2019s_curve_is_dashed_and_only_beside_the_whole_recipe(real_runs):
    ax = plots.learning_curve(mlp_e1, [as_full(real_runs[0])])
    dashed = [line for line in ax.lines if line.get_label().startswith("2019, ")]
    assert [line.get_color() for line in dashed] == ["b", "r"]
    assert {line.get_linestyle() for line in dashed} == {"--"}
    expected = {row["epoch"]: row["val_loss"] for row in reported.history("mlp_e1")}
    assert None in expected.values(), "an epoch that nobody can read any more"
    for epoch, value in enumerate(dashed[0].get_ydata(), start=1):
        assert value == expected[epoch] or (np.isnan(value) and expected[epoch] is None)


def test_a_model_without_runs_is_named(real_runs):
    a2 = EXPERIMENTS["conv2_a2"]
    for plot in (plots.learning_curve, plots.weight_violins):
        text = plot(a2, real_runs).figure.axes[0].texts[0].get_text()
        assert text == "There is no run of conv2_a2 here."


def test_there_is_a_violin_for_every_kernel_under_its_own_name(real_runs):
    figure = plots.weight_violins(TINY, real_runs)
    (ax,) = figure.axes
    names = [label.get_text().partition("\n")[0] for label in ax.get_xticklabels()]
    assert names == ["conv_1", "dense_1", "output"]
    weights = real_runs[2].weights()
    violins = [c for c in ax.collections if isinstance(c, PolyCollection)]
    for name, violin in zip(names, violins, strict=True):
        # The violin is cut at the smallest and the largest weight.
        values = weights[f"{name}/kernel"]
        drawn = violin.get_paths()[0].vertices[:, 1]
        assert drawn.min() == pytest.approx(values.min(), rel=1e-3)
        assert drawn.max() == pytest.approx(values.max(), rel=1e-3)


def test_the_first_digit_is_titled_with_its_label(digits):
    ax = plots.digit(digits.x_train[0], digits.y_train[0])
    assert ax.get_title() == f"Label: {digits.y_train[0]}"
    np.testing.assert_array_equal(ax.images[0].get_array(), digits.x_train[0])


def test_the_grid_shows_the_first_digits_with_their_labels(digits):
    figure = plots.digit_grid(digits.x_train, digits.y_train, rows=2, columns=3)
    (ax,) = figure.axes
    assert [int(text.get_text()) for text in ax.texts] == digits.y_train[:6].tolist()
    shown = np.asarray(ax.images[0].get_array())
    for text, image in zip(ax.texts, digits.x_train, strict=False):
        x, y = text.get_position()  # above the middle of its image
        left, top = int(x) - 14, int(y) + 1
        np.testing.assert_array_equal(shown[top : top + 28, left : left + 28], image)


def test_the_confusion_matrix_counts_errors_only(real_runs, digits):
    ax = plots.confusion(real_runs, digits.y_test)
    shown = ax.collections[0].get_array()
    labels = digits.y_test[:360]
    wrong = [(run.predictions()[0] != labels).sum() for run in real_runs]
    # Two seeds of one model, and one of another: models weigh alike.
    assert shown.sum() == pytest.approx((wrong[0] + wrong[1]) / 2 + wrong[2])
    assert "2 models, 3 runs" in ax.get_title()
    assert np.ma.getmaskarray(shown).reshape(10, 10).diagonal().all()


@pytest.mark.parametrize("quantity", plots.scores.QUANTITIES)
def test_accuracy_stands_against_what_the_records_say(real_runs, quantity):
    """A point is a model, at the mean of its seeds."""
    ax = plots.accuracy_against(quantity, real_runs)
    drawn = sorted(tuple(c.get_offsets()[0]) for c in ax.collections)
    expected = sorted(
        (
            np.mean([run.record[quantity] for run in own]),
            np.mean([100 * run.record["test"]["accuracy"] for run in own]),
        )
        for own in (real_runs[:2], real_runs[2:])
    )
    np.testing.assert_allclose(drawn, expected)


def test_an_unknown_quantity_is_refused(real_runs):
    with pytest.raises(ValueError, match="expected one of params, macs, cpu_seconds"):
        plots.accuracy_against("speed", real_runs)


def test_a_unit_of_a_dense_layer_is_drawn_as_the_image_it_looks_at(real_runs):
    def drawn(*shape):
        kernel = {"name": "dense_1", "shape": shape, "values": np.zeros(np.prod(shape))}
        run = Run(real_runs[0].record | {"first_kernel": kernel}, None)
        (ax,) = plots.filters([mlp_e1], [run]).axes
        return ax.get_title() or ax.texts[0].get_text()

    assert "28 × 28" in drawn(784, 16)
    assert "14 × 14" in drawn(196, 10), "after a pooling"
    assert "no runs" in drawn(150, 16), "which is no image"


def test_a_figure_with_one_empty_panel_is_not_taken_for_an_empty_one(real_runs):
    environment = real_runs[0].record["environment"] | {"processor_model": ""}
    runs = [Run(r.record | {"environment": environment}, None) for r in real_runs]
    figure = plots.costs(runs)
    assert "says on which processor" in figure.axes[2].texts[0].get_text()
    assert figure.get_gid() != plots.look.EMPTY
    assert plots.costs([]).get_gid() == plots.look.EMPTY


def test_without_runs_a_page_says_so_instead_of_failing(digits):
    confusion = plots.confusion([], digits.y_test)
    for drawn in (plots.accuracies([]), plots.costs([]).axes[0], confusion):
        assert "no runs" in drawn.texts[0].get_text()
    assert "no runs" in tables.scores([])._repr_html_()
    assert "no runs" in tables.as_2019([]).data
    assert result.best_of([])


def renamed(runs, names):
    """Runs as if they had been of other models, for tables of models' definitions."""
    experiments = {name: asdict(EXPERIMENTS[name]) for name in names}
    return [
        Run(runs[0].record | {"model": name, "experiment": experiment}, None)
        for name, experiment in experiments.items()
    ]


def of_letter(letter):
    finals = reported.finals()
    return [e.name for e in ALL if e.name in finals and finals[e.name].letter == letter]


def test_the_table_of_b_has_2019s_columns_in_order_and_its_14_rows(real_runs):
    frame = tables.table_2019("B", renamed(real_runs, of_letter("B")))
    assert list(frame.columns) == [
        "#ConvNets", "#Kernels/Filters", "Padding", "Stride", "Dropout",
        "BatchNormalization", "Regularization", "TRAIN_LOSS", "TEST_LOSS",
        "TRAIN_ACC", "TEST_ACC",
    ]  # fmt: skip
    assert len(frame) == 14
    # Where 2019's entries contradicted its code, ours are the code's.
    assert frame.loc["conv5_b34", "#ConvNets"] == 5
    assert frame.loc["conv5_b51", "Dropout"]
    assert frame.loc["conv5_b51", "BatchNormalization"]
    assert not frame.loc["conv3_b32", "Dropout"]
    assert set(frame["Stride"]) == {"1x1"}
    assert frame.loc["conv7_b72", "Regularization"] == "L2(1e-05)"
    assert frame.loc["conv2_b21", "Regularization"] == "-"
    last = real_runs[0].history[-1]
    assert frame.loc["conv2_b21", "TRAIN_LOSS"] == round(last["loss"], 5)
    assert frame.loc["conv2_b21", "TEST_ACC"] == round(
        real_runs[0].record["test"]["accuracy"], 5
    )


def test_the_tables_of_a_c_and_d_are_computed_from_the_code(real_runs):
    a = tables.table_2019("A", renamed(real_runs, of_letter("A")))
    rows = {row[0]: row for row in a.rows}
    assert len(rows) == 5
    assert rows["conv3_a3"][1:6] == [
        "128 (3x3), 64 (5x5), 32 (3x3)", "2x2", "-", "yes", "Adam",
    ]  # fmt: skip
    assert rows["conv3_a1"][1] == "32, 64, 128 (3x3)"
    c = tables.table_2019("C", renamed(real_runs, of_letter("C")))
    assert c["conv layers"].to_dict() == {"conv2_c1": 2, "conv5_c2": 5, "conv7_c3": 8}
    d = tables.table_2019("D", renamed(real_runs, of_letter("D")))
    assert [row[0] for row in d.rows] == ["conv3_d1", "conv5_d2", "conv7_d3"]
    assert re.fullmatch(r"\d:\d\d:\d\d", d.rows[0][3])
    shown = tables.as_2019(renamed(real_runs, [e.name for e in ALL])).data
    assert [f"Table of {letter}" in shown for letter in "ABCD"] == [True] * 4


def test_only_whole_recipes_stand_beside_2019(real_runs):
    quick = tables.beside_2019([mlp_e1], real_runs)
    (row,) = quick.frame.to_dict("records")
    assert (row["2019 (%)"], row["ours (%)"]) == ("98.39", "")
    assert (row["accuracy"], row["seeds"]) == ("not tested", "")
    assert "own runs are not among them" in quick.caption
    full = tables.beside_2019([mlp_e1], [as_full(real_runs[0])])
    (row,) = full.frame.to_dict("records")
    accuracy = 100 * real_runs[0].record["test"]["accuracy"]
    assert row["ours (%)"] == f"{accuracy:.2f}"
    assert (row["accuracy"], row["seeds"].count("</a>")) == ("not tested", 1)
    assert row["one more run, 95 % (%)"] == "", "one run has no such interval"


def test_cells_are_escaped_unless_they_are_html():
    frame = pd.DataFrame({"model": ["<b>", "mlp_e1"], "x": [Markup("<i>"), "&"]})
    shown = tables.Table(frame)._repr_html_()
    assert "<td>&lt;b&gt;</td>" in shown
    assert "<td>&amp;</td>" in shown
    assert "<td><i></td>" in shown
    assert "E1 · MLP, 2 hidden layers <code>mlp_e1</code>" in shown


def test_a_definition_is_the_real_source_and_makes_the_same_experiment():
    import importlib

    for experiment in ALL:
        text = tables.definition(experiment).data
        source = re.search(r"```python\n(.*)\n```", text, re.DOTALL).group(1)
        family = experiment.name.partition("_")[0]
        names = dict(vars(importlib.import_module(f"mnistlab.models.{family}")))
        del names[experiment.name]
        exec(source, names)  # our own source, to see that it is whole
        assert names[experiment.name] == experiment
    nameless = tables.definition(replace(ALL[0], name="mlp_mine"))
    assert "**mlp_mine**" in nameless.data, "it stands in its family's tuple"


def test_reported_figures_are_those_of_the_files():
    rows = pd.read_csv(ROOT / "mnistlab/reported/history.csv")
    assert sum(len(reported.history(name)) for name in reported.finals()) == len(rows)
    assert len(reported.finals()) == 28
    assert reported.finals()["conv5_c2"].test_accuracy == 0.8004
    assert reported.finals()["conv2_c1"].train_accuracy is None
    assert reported.history("tiny") == ()


def test_the_thirteen_conclusions_of_2019_are_there():
    ids = [conclusion.id for conclusion in reported.conclusions()]
    own = [
        "A-1", "A-2", "A-3", "B-1", "B-2", "B-3", "B-4", "C-1", "C-2", "D-1", "E-1",
        "E-2", "E-3",
    ]  # fmt: skip
    assert [name for name in ids if name in own] == own, "new ones stand beside them"
    assert len(set(ids)) == len(ids), "give each row of conclusions.csv its own id"


def test_the_contradictions_are_computed(monkeypatch):
    rows = contradictions.contradictions().frame.to_dict("records")
    assert {row["no."] for row in rows} == set(range(1, 11))
    by_subject = {(row["model"], row["subject"]): row for row in rows}
    said, found = "2019 says", "its code or log says"
    row = by_subject["B34", "convolutions, B's table"]
    assert (row[said], row[found]) == ("3", "5")
    row = by_subject["D1", "training accuracy, best epoch"]
    assert (row[said], row[found]) == ("0.9961", "0.9954")
    assert "E1 only" in by_subject["all", "third weight violin"][found]
    # Computed: with another experiment there, another answer.
    shallow = replace(
        contradictions.ALL["conv5_b34"], layers=contradictions.ALL["conv2_b21"].layers
    )
    monkeypatch.setitem(contradictions.ALL, "conv5_b34", shallow)
    assert contradictions.contradictions().frame.iloc[0][found] == "2"


def test_the_fifth_weight_is_the_one_keras_has_there(keras):
    from mnistlab.models import build

    for name in ("mlp_e1", "conv2_b21", "conv2_a5", "mlp_e2"):
        experiment = contradictions.ALL[name]
        weights = [w for layer in build(experiment).layers for w in layer.weights]
        word = contradictions.fifth_weight(experiment)
        assert (weights[4].name == "kernel") == word.startswith("kernel")
        assert ("output" in weights[4].path) == ("output" in word)
        assert ("gamma" in weights[4].path) == ("gamma" in word)
