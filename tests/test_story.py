"""The index's story: its sentences follow the runs, whatever they are."""

import json
import re

from conftest import fake, seeds

from mnistlab import reported
from reports import story

SAID = [entry["loss"] for entry in reported.history("conv5_d2")]


def losses(name, factor):
    """A run whose training losses are 2019's of D2, times a factor."""
    return fake(name, history={"loss": [factor * loss for loss in SAID]})


def control(factor, word="half"):
    """D2 with other dropouts, trained for its first epochs only."""
    run = losses(f"conv5_d2_dropout_{word}", factor)
    run.record["epochs"], run.record["history"][3:] = 3, []
    return run


def test_what_is_found_is_told_only_where_all_its_runs_are():
    found = story.tell([]).finds
    assert list(found) == ["B"]
    assert "not tested" in found["B"]
    assert story.tries([], None) == {}
    assert list(story.tell(seeds("conv5_c2")[:2]).finds) == ["B"]
    assert list(story.tell(seeds("conv5_d2")).finds) == ["B"], "its control is missing"


def test_d2s_sentence_says_what_its_runs_and_its_control_show():
    other, same = losses("conv5_d2", 0.5), losses("conv5_d2", 1.05)
    good, bad = control(1.01), control(1.5)
    assert ": 0.95 times ours, the same beginning." in story._d2([same, good])
    explained = story._d2([other, good])
    assert ": 2.00 times ours. 2019 printed" in explained
    assert explained.endswith(" all at 0.5 they are 0.99 times ours: an explanation.")
    unknown = " What explains them is unknown."
    assert f"are 0.67 times ours: no explanation.{unknown}" in story._d2([other, bad])
    several = story._d2([other, good, bad])
    assert f"0.67 to 0.99 times ours: no explanation.{unknown}" in several, "all must"
    rates = story._d2([other, bad, control(0.95, "three_quarters")])
    assert rates.endswith(
        "With all at 0.5 they are 0.67 times ours: no explanation. "
        "With all at 0.75 they are 1.05 times ours: an explanation."
    )


def test_a3s_sentence_has_its_first_epoch_by_both_ways_and_both_optimizers():
    said = [entry["loss"] for entry in reported.history("conv3_a3")]

    def own(name, *factors):
        histories = ([factor * loss for loss in said] for factor in factors)
        return [fake(name, s, history={"loss": h}) for s, h in enumerate(histories)]

    adam = own("conv3_a3", 1.1, 1.09, 1.11)
    scores = {"plain": {"accuracy": 0.789}, "debiased": {"accuracy": 0.9645}}
    vars(adam[0])["batchnorm"] = [scores] * 5
    text = story._a3([*adam, *own("conv3_a3_adadelta", 0.99, 1.0, 1.02)])
    assert "A3 had 97.73 % after its first epoch in 2019." in text
    assert "Ours has 78.90 % if batch normalisation is evaluated as in today" in text
    assert "the same weights have 96.45 % if it is evaluated as in Keras 2.2.4" in text
    assert "0.90 to 0.92 times ours with Adam (other training)" in text
    assert "0.98 to 1.01 times with Adadelta (same training)" in text


def test_c2s_sentence_has_its_ends_and_what_the_tails_show(tmp_path, monkeypatch):
    tails = tmp_path / "tails.json"
    ends = [{"accuracy": 0.8, "recall": [0.9, 0.02]}, {"accuracy": 0.97, "recall": [1]}]
    tails.write_text(json.dumps({"tails": ends}))
    monkeypatch.setattr(story, "TAILS", tails)
    text = story._c2(seeds("conv5_c2", accuracy=0.98))
    assert "80.04 % in 2019, ours at 97.95 to 98.05 %. If its" in text
    assert "with 2 seeds, these end at 80.00 to 97.00 %; 1 of them" in text


def test_the_counts_of_models_add_up():
    runs = [run for name in reported.finals() for run in seeds(name, 5)]
    accuracy, *_ = story._sentences(runs, "")
    numbers = [int(n) for n in re.findall(r"for (\d+)", accuracy)]
    assert sum(numbers) == len(reported.finals()) == 28
    assert "Not tested" not in accuracy
    assert "Not tested yet, with fewer" in story._sentences(runs[:-5], "")[0]
