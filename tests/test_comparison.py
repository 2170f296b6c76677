"""Models side by side: who is best, what it costs, who errs where; and the figures."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import EXPERIMENTS, ROOT, fake, seeds
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color

from mnistlab import (
    claims,
    comparison,
    models,
    plots,
    reported,
    result,
    store,
    study,
    tables,
)
from mnistlab.data import MNIST_FINGERPRINT
from mnistlab.models.controls import D2_DROPOUTS
from mnistlab.plots import look
from mnistlab.runs import Run
from mnistlab.schedule import cost
from reports import evidence

LABELS = np.resize(np.arange(10, dtype=np.uint8), 10_000)


def answering(run, folder, wrong, confidence=0.9):
    """The run with predictions on disk: right but for the images given."""
    predicted = LABELS.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 10
    folder = folder / run.name / run.key16
    folder.mkdir(parents=True, exist_ok=True)
    sure = np.full(len(LABELS), confidence, np.float32)
    np.savez(folder / "predictions.npz", predicted=predicted, confidence=sure)
    np.savez(folder / "weights.npz", k=np.float32([0.5, 1.0]), variance=[1e6])
    (folder / "run.json").write_text(json.dumps(run.record))
    return Run(run.record, folder, run.status)


@pytest.fixture
def three(tmp_path):
    """B21 and A2 err nearly alike, C2 far more often; three seeds but for C2."""
    found = []
    for seed in range(3):
        b21 = fake("conv2_b21", seed, accuracy=0.99 + seed / 10_000)
        a2 = fake("conv2_a2", seed, accuracy=0.989 + seed / 100_000)
        found += [
            answering(b21, tmp_path, slice(0, 100 - seed)),
            answering(a2, tmp_path, slice(0, 110)),
        ]
    c2 = fake("conv5_c2", accuracy=0.95)
    return [*found, answering(c2, tmp_path, slice(50, 550), confidence=0.99)]


def test_a_leader_board_ranks_the_models_that_have_three_seeds(three):
    table = tables.leader_board(three, LABELS)
    rows = table.frame.to_dict("records")
    assert len(table.frame.columns) == 7
    assert [row["model"] for row in rows] == ["conv2_b21", "conv2_a2", "conv5_c2"]
    assert [row["seeds"].count("</a>") for row in rows] == [3, 3, 1]
    assert [row["accuracy (%)"] for row in rows] == ["99.01", "98.90", "95.00"]
    # B21 is wrong in a part of A2's images, in every draw.
    assert [row["rank, 95 %"] for row in rows] == ["1 to 1", "2 to 2", ""]
    assert [row["first (% of draws)"] for row in rows] == ["100", "0", ""]
    assert "among the 2 with 3 seeds" in table.caption
    assert "conv2_b21" in rows[0]["seeds"]


def test_mistakes_begin_with_the_surest_and_say_how_many_runs_were_wrong(three):
    found = comparison.mistakes(three, LABELS)
    assert len(found) == 550
    assert found["confidence"].iloc[0] == pytest.approx(0.99)
    assert found["wrong"][[60, 3, 98, 300]].tolist() == [7, 6, 6, 1]
    assert found.loc[60, ["given", "predicted"]].tolist() == [0, 1]


def test_doubtful_labels_are_marked_on_mnist_only(tmp_path):
    wrong = sorted(comparison.DOUBTFUL)[:2] + [12]
    run = answering(fake("conv2_a2"), tmp_path, wrong)
    marks = comparison.mistakes([run], LABELS)["doubtful"].to_dict()
    assert marks == {947: True, 1621: True, 12: False}
    other = {"dataset": {"name": "fashion", "fingerprint": "0"}}
    fashion = Run(run.record | other, run.folder)
    assert not comparison.mistakes([fashion], LABELS)["doubtful"].any()


def test_the_doubtful_labels_are_those_that_mnist_has(digits):
    assert digits.fingerprint == MNIST_FINGERPRINT
    assert len(comparison.DOUBTFUL) == 15
    for index, (given, _) in comparison.DOUBTFUL.items():
        assert digits.y_test[index] == given


def test_agreement_counts_equal_answers(three):
    names, shares = comparison.agreement(three)
    assert names == ["conv2_b21", "conv2_a2", "conv5_c2"]
    np.testing.assert_array_equal(shares, shares.T)
    assert shares[0, 1] == pytest.approx(1 - 10 / 10_000)
    assert shares[0, 2] == pytest.approx(1 - 500 / 10_000)
    assert (shares.diagonal() == 1).all()


def test_full_and_short_runs_are_kept_apart(three):
    whole = three[0]
    short = Run(whole.record | {"epochs": 2, "key": "short"}, whole.folder)
    control = fake("conv2_b21_75_epochs")
    gathered = comparison.Gathered([short], [*three, control], [], LABELS)
    assert {run.name for run in gathered.full} == {"conv2_b21", "conv2_a2", "conv5_c2"}
    assert gathered.short == [short]
    assert len(gathered.everything) == 9
    twice = comparison.Gathered([whole], [*three], [], LABELS)
    assert len(twice.everything) == 7, "a run that is both there and committed is one"


def test_a_headline_is_of_the_mean_and_not_of_the_luckiest_run():
    lucky = [fake("conv2_a2", s, accuracy=a) for s, a in enumerate((0.98, 0.999))]
    steady = [fake("conv2_b21", s, accuracy=0.992) for s in range(2)]
    text = result.best_of(lucky + steady)
    assert "B21 · 2 conv, with 99.20 %" in text
    assert "mean of 2 seeds" in text
    assert text.startswith("Most accurate of 2 models:")
    third = fake("conv2_b21", 2, accuracy=0.992)
    text = result.best_of([*lucky, *steady, third])
    assert text.startswith("Most accurate of 1 model with 3 seeds or more:")
    assert "on 60,000 images" in text
    held = Run(third.record | {"validation_size": 5_000}, third.folder)
    assert "on 55,000 images" in result.best_of([held])
    assert "55,000 training" in tables.amount([held])


def test_a_model_keeps_its_colour_and_marker_on_every_figure(three):
    for family in models.FAMILIES.values():
        own = [look.colour(experiment.name) for experiment in family]
        assert len(set(own)) == len(family)
    b21, c2 = look.colour("conv2_b21"), look.colour("conv5_c2")
    ax = plots.accuracy_against("params", three)
    shown = [points.get_facecolor()[0] for points in ax.collections]
    assert same_color(shown[0], b21)
    assert same_color(shown[2], c2)
    reliable = plots.reliability(three, LABELS)
    lines = {line.get_label().split(":")[0]: line for line in reliable.lines}
    assert same_color(lines["B21"].get_color(), b21)
    curves = plots.learning_curves(three)
    lines = {line.get_label(): line for ax in curves.axes for line in ax.lines}
    assert same_color(lines["B21, 3 seeds"].get_color(), b21)
    assert same_color(lines["C2, 1 seed"].get_color(), c2)


def bars(ax):
    return sum(drawn.get_linewidth()[0] == 6 for drawn in ax.collections)


def test_bands_and_bars_are_drawn_from_enough_seeds_only(three):
    curves = plots.learning_curves(three)
    assert [len(ax.collections) for ax in curves.axes] == [2, 0]
    ax = plots.accuracies(three)
    assert bars(ax) == 2, "C2 has one seed"
    assert "conv2_b21 has the highest mean of 2 models" in ax.get_title()
    other = {"accuracy": 0.991, "spread": 0.0004, "test_loss": 0.05}
    pairs = seeds("conv2_b21") + seeds("conv2_b23", **other)
    for runs, count in ((pairs, 1), (pairs[:1] + pairs[3:4], 0)):
        for panel in plots.pair_differences(runs).axes:
            assert bars(panel) == count
    shown = plots.pair_differences(pairs).axes[0].collections[0].get_offsets()[:, 0]
    np.testing.assert_allclose(shown, [0.11, 0.1, 0.09], atol=1e-9)
    equal = seeds("conv2_b21") + seeds("conv2_b23", accuracy=0.991)
    assert bars(plots.pair_differences(equal).axes[0]) == 0, "no width"


def test_no_bar_of_an_accuracy_goes_beyond_100_percent():
    ax = plots.accuracies(seeds("conv7_b71", accuracy=0.98, spread=0.015))
    (bar,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    ((low, _), (high, _)) = bar.get_segments()[0]
    assert (low, high) == (pytest.approx(94.2738, abs=1e-3), 100)


def test_a_figure_of_2019_that_is_far_off_does_not_squeeze_ours():
    runs = [fake("conv5_c2", accuracy=0.984), fake("conv2_a2", accuracy=0.986)]
    ax = plots.accuracies(runs)
    assert ax.get_xlim()[0] > 97, "C2's 80.04 is not drawn in its place"
    assert "← 2019: 80.04" in "".join(text.get_text() for text in ax.texts)
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [pytest.approx(98.77)]


def test_times_are_compared_on_like_machines_only():
    slow = [fake("conv2_a2"), fake("conv2_b21", cpu_seconds=200)]
    fast = fake("conv2_b23", cpu_seconds=5)
    fast.record["environment"] |= {"processor": "P", "gpus": ["H"]}
    for run in slow:
        run.record["environment"] |= {"processor": "P", "gpus": []}
    assert comparison.timed_alike([fast, *slow]) == slow
    ax = plots.accuracy_against("cpu_seconds", [fast, *slow])
    assert "of 2 runs on like machines" in ax.get_title()
    assert len(ax.collections) == 2
    assert len(plots.accuracy_against("params", [fast, *slow]).collections) == 3


def test_the_gap_is_that_of_the_records():
    runs = [fake("conv2_a2", test_loss=0.05, train_loss=0.01), fake("conv2_b21")]
    ax = plots.gaps(runs)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "B21 · 2 conv",
        "A2 · 2 conv",
    ]
    assert "conv2_a2 loses most (0.040)" in ax.get_title()
    train, test = (c.get_offsets()[:, 0].tolist() for c in ax.collections[-2:])
    assert (train, test) == ([0.03, 0.01], [0.04, 0.05])


def test_errors_by_digit_are_shares_of_that_digit(three):
    ax = plots.errors_by_digit(three, LABELS)
    shown = np.asarray(ax.collections[0].get_array()).reshape(3, 10)
    np.testing.assert_allclose(shown[1], 1.1)  # A2: 110 of 10,000, evenly
    np.testing.assert_allclose(shown[2], 5.0)


def test_shared_errors_are_counted_by_image(three):
    ax = plots.share_wrong(three, LABELS)
    # B21 0-99, A2 0-109, C2 50-549: 50 + 10 alike in two, 50 in three.
    assert [bar.get_height() for bar in ax.patches] == [440, 60, 50]
    assert "9,450 images are right in every model, 50 wrong in all" in ax.get_title()


def test_the_gallery_says_what_an_image_was_taken_for(three, tmp_path):
    images = np.zeros((10_000, 28, 28), np.uint8)
    figure = plots.error_gallery(three, images, LABELS)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles[0] == "0 → 1\n99.0 % sure\nwrong in 7 of 7"
    assert len(titles) == 32
    assert "550 images" in figure.get_suptitle()
    run = answering(fake("conv2_a2"), tmp_path / "x", [947])
    figure = plots.error_gallery([run], images, LABELS)
    assert "* → " in figure.axes[0].texts[0].get_text()
    faultless = answering(fake("conv2_a2"), tmp_path / "y", [])
    text = plots.error_gallery([faultless], images, LABELS).axes[0].texts[0]
    assert "No run got" in text.get_text()


@pytest.mark.parametrize("said", reported.conclusions(), ids=lambda said: said.id)
def test_a_conclusion_is_shown_with_its_numbers_or_with_what_is_missing(said):
    parts = claims.judge(said.id, []).parts
    names = dict.fromkeys(name for part in parts for name in part.rule.models)
    nothing = tables.conclusion(said, []).data
    assert "– not tested" in nothing
    assert f"There is no full run of {', '.join(names)}." in nothing
    assert (
        "no runs to judge by yet" in plots.conclusion(said, []).axes[0].texts[0]._text
    )
    count = max(part.rule.seeds for part in parts)
    runs = [
        run
        for name in names
        for run in seeds(name, count, debiased=[0.9, 0.9, 0.99, 0.99, 0.99])
    ]
    shown = tables.conclusion(said, runs).data
    assert "There is no full run of" not in shown
    judged = claims.judge(said.id, runs)
    assert f"{tables.verdicts.MARKS[judged.verdict]} {judged.verdict}" in shown
    assert judged.verdict != "not tested"
    for name in names:
        assert f"{name}, seeds" in shown, "its records are linked"
    assert len(plots.conclusion(said, runs).axes) == len(judged.statements)
    assert plt.get_fignums() == [], "it is displayed once, where its text is"


def test_seeds_beyond_the_planned_ones_are_hollow():
    said = next(said for said in reported.conclusions() if said.id == "C-2")
    runs = [
        run for name in ("conv2_c1", "conv5_c2", "conv7_c3") for run in seeds(name, 4)
    ]
    drawn = plots.conclusion(said, runs).axes[0].collections
    points = [points for points in drawn if isinstance(points, PathCollection)]
    faces = [len(point.get_facecolor()) for point in points]
    assert sorted(faces) == [0, 0, 1, 1, 1, 1, 1, 1], "no colour fills the fourth seed"


def test_all_conclusions_are_listed_with_their_verdicts():
    frame = tables.conclusions(seeds("mlp_e1", 5)).frame
    assert len(frame) == len(reported.conclusions())
    assert frame["verdict"].str.contains("not tested").sum() == len(frame) - 1


def test_the_inputs_that_b_may_have_had_are_beside_2019():
    runs = seeds("conv2_b21") + [fake("conv2_b21_columns", accuracy=0.98)]
    table = tables.inputs_of_b(runs)
    rows = {row["model"]: row for row in table.frame.to_dict("records")}
    assert len(rows) == 12
    assert rows["conv2_b21"]["black-and-white (%)"] == "98.95, 99.00, 99.05"
    assert rows["conv2_b21"]["columns (%)"] == "98.00"
    assert "rows (%)" not in table.frame, "no run has such images"
    assert rows["conv2_b21"]["decides"] == "no"
    assert table.caption.endswith("on black-and-white inputs is not tested.")


def test_pairs_say_what_they_differ_in():
    rows = {row["pair"]: row for row in tables.pairs().frame.to_dict("records")}
    row = rows["conv2_b21 and conv2_b23"]
    assert (row["dropouts"], row["batch normalisations"]) == ("0 → 4", "0 → 2")
    assert rows["conv5_b51 and conv5_b53"]["batch normalisations"] == "the same"


FIGURES = {
    "accuracies": lambda runs: plots.accuracies(runs),
    "accuracy_against": lambda runs: plots.accuracy_against("macs", runs),
    "costs": lambda runs: plots.costs(runs),
    "gaps": lambda runs: plots.gaps(runs),
    "pair_differences": lambda runs: plots.pair_differences(runs),
    "learning_curves": lambda runs: plots.learning_curves(runs),
    "errors_by_digit": lambda runs: plots.errors_by_digit(runs, LABELS),
    "confusion": lambda runs: plots.confusion(runs, LABELS),
    "agreement": lambda runs: plots.agreement(runs),
    "share_wrong": lambda runs: plots.share_wrong(runs, LABELS),
    "reliability": lambda runs: plots.reliability(runs, LABELS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_no_or_one_run_says_what_it_lacks(name, three):
    """And of three models it has a title, labels, and an alternative text."""
    for runs in ([], three[:1], three):
        drawn = FIGURES[name](runs)
        figure = drawn.figure
        assert len(figure.get_label()) > 20, "else only the title is read aloud"
        if runs == three and name != "pair_differences":
            axes = [ax for ax in figure.axes if ax.get_title()]
            assert axes
            assert all(ax.get_xlabel() for ax in axes)
        plt.close("all")


def test_first_epochs_are_drawn_by_both_ways_of_batch_normalisation():
    accuracies = [0.97, 0.98, 0.98, 0.985, 0.985]
    scored = fake("conv3_a3", debiased=accuracies)
    figure = plots.first_epochs([scored, fake("conv3_a3", 1), fake("conv3_a4")])
    a3, a4, a5 = ([list(line.get_ydata()) for line in ax.lines] for ax in figure.axes)
    assert a3[:3] == [[0.99] * 5, [0.99] * 5, accuracies]
    assert [len(a3), len(a4), len(a5)] == [4, 2, 1], "2019's log stands in each"
    assert a3[3] == [entry["val_accuracy"] for entry in reported.history("conv3_a3")]
    assert "1 of these" in figure.get_label()


def test_the_beginnings_of_d2_are_beside_its_controls(three):
    controls = [fake(control.name) for control in D2_DROPOUTS.values()]
    ax = plots.beginnings_of_d2([fake("conv5_d2"), *controls, *three]).axes[0]
    first = [line.get_ydata()[0] for line in ax.lines]
    assert first == [0.5, 0.5, 0.5, reported.history("conv5_d2")[0]["loss"]]
    assert len({line.get_color() for line in ax.lines}) == 4
    assert "There are no runs" in plots.beginnings_of_d2(three).get_label()


def test_lost_digits_are_seen_below_the_networks_that_have_all():
    ax = plots.lost_digits(ROOT / "studies/c2_tails.json")
    record = json.loads((ROOT / "studies/c2_tails.json").read_text())
    shown = np.asarray(ax.collections[0].get_array()).reshape(-1, 10)
    assert len(shown) == len(record["tails"]) == 20
    low = [t["accuracy"] < 0.9 for t in record["tails"]]
    lost = (shown < 50).any(axis=1)
    assert lost.tolist() == sorted(low), "and only those have lost one"
    assert f"{sum(low)} of 20 networks end below 90 %; C2 in 2019: 80.04 %" in (
        ax.get_title()
    )
    assert ax.get_yticklabels()[-1].get_text() == "seed 10: 79.41 %"


def test_a_front_has_who_is_not_beaten():
    points = {"a": (1, 0.9), "b": (2, 0.9), "c": (3, 0.99), "d": (3, 0.99)}
    assert comparison.pareto(points) == ["a", "c", "d"]


def test_evidence_is_kept_small_and_read_as_it_was(three, tmp_path):
    run = answering(three[0], tmp_path / "a", slice(0, 7), confidence=0.98765)
    record = run.record | {"commit": "a" * 40, "schema": store.SCHEMA}
    record["key"] = f"{'b' * 16}{'c' * 48}"
    run = Run(record, run.folder)
    folder = evidence.keep(run, tmp_path / "results")
    kept = store.read_run(folder, "evidence")
    assert kept.record == record
    predicted, confidence = kept.predictions()
    np.testing.assert_array_equal(predicted, run.predictions()[0])
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, run.predictions()[1], atol=3e-4)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 40_000
    # The first run of a model keeps its weights, the next one does not.
    assert (folder / "weights.npz").exists()
    np.testing.assert_array_equal(kept.weights()["k"], np.float32([0.5, 1.0]))
    assert kept.weights()["variance"] == 1e6, "float16 ends at 65,504"
    second = answering(three[2], tmp_path / "a", slice(0, 7))
    second = Run(second.record | {"commit": "a" * 40}, second.folder)
    assert not (evidence.keep(second, tmp_path / "results") / "weights.npz").exists()
    for commit in ("unknown", f"{'a' * 40}-dirty"):
        with pytest.raises(ValueError, match="clean commit"):
            evidence.keep(Run(record | {"commit": commit}, run.folder), tmp_path)


def test_the_committed_evidence_can_be_judged_without_mnist(digits):
    gathered = study.load_runs(profile="smoke")
    np.testing.assert_array_equal(gathered.labels, digits.y_test)
    assert gathered.full
    for run in gathered.evidence:
        right = comparison.answers(run, gathered.labels).mean()
        assert right == pytest.approx(run.record["test"]["accuracy"], abs=1e-9)


def test_wanted_evidence_has_what_every_rule_and_model_needs(digits):
    wanted = evidence.wanted(digits)
    whole = {
        (spec.task.experiment.name, spec.task.seed): line
        for spec, line in wanted.items()
        if spec.task.protocol == "replicate" and line.epochs is None
    }
    names = {name for name, _ in whole}
    assert set(reported.finals()) <= names <= set(EXPERIMENTS)
    for rule in claims.RULES:
        for name in rule.models:
            seeds = {0} if name == "conv7_b72" else set(range(rule.seeds))
            assert {seed for n, seed in whole if n == name} >= seeds, rule
    assert all(whole["conv3_a3", seed].batchnorm for seed in range(3))
    # Within a line the cheapest first; lines in their order.
    lines = list(dict.fromkeys(wanted.values()))
    assert [line for line in evidence.WANTED if line in lines] == lines
    for line in lines:
        costs = [cost(spec) for spec, own in wanted.items() if own is line]
        assert costs == sorted(costs)
