"""The statistics, against published values and independent computations."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from mnistlab import stats

VALUES = st.lists(st.floats(0.9, 1), min_size=2, max_size=10)


@given(VALUES, st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_over_seeds_are_the_textbooks(values, confidence):
    n, mean, sd = len(values), statistics.mean(values), statistics.stdev(values)
    t = student.ppf(1 - (1 - confidence) / 2, n - 1)
    for interval, factor in (
        (stats.mean_interval(values, confidence), math.sqrt(1 / n)),
        (stats.prediction_interval(values, confidence), math.sqrt(1 + 1 / n)),
    ):
        expected = mean - t * sd * factor, mean + t * sd * factor
        assert interval == pytest.approx(expected, abs=1e-9)
        half_width = (interval.high - interval.low) / 2
        assert half_width == pytest.approx(t * sd * factor, abs=1e-9)


def test_a_prediction_interval_holds_the_next_run_as_often_as_it_says():
    """95 % of intervals from three draws hold a fourth one: by simulation."""
    draws = np.random.default_rng(0).normal(0.99, 0.0006, (20_000, 4))
    inside = [
        low <= draw[3] <= high
        for draw in draws[:4000]
        for low, high in [stats.prediction_interval(draw[:3])]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("values", [[], [0.99]])
def test_one_run_has_no_interval(values):
    for interval in (stats.mean_interval, stats.prediction_interval):
        with pytest.raises(ValueError, match="at least 2"):
            interval(values)


def test_equal_seeds_leave_an_interval_of_no_width():
    assert stats.mean_interval([2, 2, 2]) == (2, 2)
    assert stats.prediction_interval([0.9911] * 3) == (0.9911, 0.9911), "no rounding"


def test_ranks_hold_the_chance_of_seeds_and_of_images():
    rng = np.random.default_rng(3)
    surely = rng.uniform(size=(3, 2_000)) < 0.99
    alike = {name: rng.uniform(size=(3, 2_000)) < 0.95 for name in "bc"}
    far = rng.uniform(size=(3, 2_000)) < 0.5
    found = stats.bootstrap_ranks({"a": surely, **alike, "d": far}, draws=500)
    assert found["a"] == stats.Rank(1, 1, 1.0)
    assert found["d"] == stats.Rank(4, 4, 0.0)
    assert {(found[n].low, found[n].high) for n in "bc"} == {(2, 3)}
    assert found == stats.bootstrap_ranks({"a": surely, **alike, "d": far}, draws=500)
    # One seed of b fails: with another draw of seeds b is last, by images alone never.
    b = np.stack([np.ones(2_000, bool), np.ones(2_000, bool), np.zeros(2_000, bool)])
    two = stats.bootstrap_ranks({"a": surely, "b": b}, draws=500)
    never = (2 / 3) ** 3  # the draws in which b has none of its bad seed
    assert two["b"].first == pytest.approx(never, abs=0.07)


def test_models_that_answer_alike_are_first_together():
    right = np.random.default_rng(0).uniform(size=(3, 100)) < 0.9
    found = stats.bootstrap_ranks({"a": right[:1], "b": right[:1].copy()}, draws=50)
    assert found == {"a": stats.Rank(1, 1, 1.0), "b": stats.Rank(1, 1, 1.0)}
    assert stats.bootstrap_ranks({}) == {}


def test_calibration_weighs_bins_by_their_images():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1, 5000)
    right = rng.uniform(size=5000) < confidence
    found = stats.calibration(confidence, right)
    by_hand = 0.0
    for b in range(15):
        chosen = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if chosen.any():
            gap = abs(right[chosen].mean() - confidence[chosen].mean())
            by_hand += chosen.mean() * gap
    assert stats.calibration_error(found) == pytest.approx(by_hand)
    assert found["count"].sum() == 5000
    assert stats.calibration_error(found) < 0.03, "it is calibrated by its making"
    assert stats.calibration_error(stats.calibration(confidence, ~right)) > 0.3


def test_certainty_falls_into_the_last_bin():
    found = stats.calibration(np.ones(4, np.float32), np.array([1, 1, 1, 0], bool))
    assert found["count"].tolist() == [4]
    assert stats.calibration_error(found) == pytest.approx(0.25)
