"""The rules: synthetic runs that must give each verdict on each conclusion."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import EXPERIMENTS, fake, seeds

from mnistlab import claims, judging, models, reported
from mnistlab.judging import CONTRADICTED, SUPPORTED, UNDECIDED, Part
from mnistlab.runs import Run

CLAIMS = {claim.id: claim for claim in claims.CLAIMS}


def reach(name, epoch, level=0.99):
    """Test accuracies that reach a level at an epoch; None: never."""
    epochs = EXPERIMENTS[name].recipe.epochs
    return [level if epoch and e >= epoch else 0.9 for e in range(1, epochs + 1)]


def a1(own, others, cost):
    speed = {"val_accuracy": reach("conv3_a3", own)}
    runs = seeds("conv3_a3", history=speed, cpu_seconds=cost)
    for name in ("conv3_a1", "conv2_a2"):
        runs += seeds(name, history={"val_accuracy": reach(name, others)})
    return runs


def a2(a4, control, a3=0.989):
    return [
        *seeds("conv3_a4", accuracy=a4),
        *seeds("conv3_a4_no_first_dropout", accuracy=control, spread=0.0004),
        *seeds("conv3_a3", accuracy=a3),
    ]


def b1(lowest, end, names=("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")):
    losses = [0.05 + abs(epoch - lowest) / 1000 for epoch in range(1, 26)]
    losses[-1] = end
    history = {"val_cross_entropy": losses}
    return [run for name in names for run in seeds(name, history=history)]


REGULARIZED = (
    "conv2_b23", "conv2_b24", "conv3_b33", "conv5_b34",
    "conv5_b53", "conv5_b54", "conv7_b71", "conv7_b72",
)  # fmt: skip


def b2(far, names=REGULARIZED):
    runs = []
    for name in names:
        loss = 0.03 + (0.05 if name in far else 0.0)
        runs += seeds(name, test_loss=loss, train_loss=0.03)
    return runs


def b3(regularized, long=0.99):
    runs = []
    for plain, other in claims.FAIR_PAIRS:
        runs += seeds(plain) + seeds(other, accuracy=regularized, spread=0.0004)
    for experiment in models.controls.LONGER:
        plain = "b21" in experiment.name or "b31" in experiment.name
        if plain:
            runs += seeds(experiment.name)
        else:
            runs += seeds(experiment.name, accuracy=long, spread=0.0004)
    return runs


def b4(deep, shallow):
    runs = []
    for letter, gap in (
        ("conv5_b51", deep), ("conv5_b52", deep), ("conv5_b53", 0.0),
        ("conv5_b54", 0.0), ("conv2_b21", shallow), ("conv2_b22", shallow),
        ("conv2_b23", 0.0), ("conv2_b24", 0.0),
    ):  # fmt: skip
        runs += seeds(letter, train_loss=0.01, test_loss=0.01 + gap)
    return runs


def c1(epochs):
    runs = []
    for name, epoch in epochs.items():
        losses = [0.05 if epoch and e >= epoch else 0.5 for e in range(1, 21)]
        runs += seeds(name, history={"loss": losses})
    return runs


def c2(c1, deeper, gap):
    runs = seeds("conv2_c1", accuracy=c1, train_accuracy=c1 + 0.005)
    for name in ("conv5_c2", "conv7_c3"):
        runs += [
            fake(name, seed, accuracy=deeper + s, train_accuracy=deeper + s + gap)
            for seed, s in enumerate((-0.0005, 0, 0.0005))
        ]
    return runs


def d1(d1, d2, d3, share):
    return [
        *seeds("conv3_d1", accuracy=d1, cpu_seconds=100),
        *seeds("conv5_d2", accuracy=d2, spread=0.0004),
        *seeds("conv7_d3", accuracy=d3, spread=0.0004, cpu_seconds=100 * share),
    ]


def e(names, validation, training):
    runs = []
    for name in names:
        history = {"loss": [training] * 20, "val_loss": [validation] * 20}
        runs += seeds(name, history=history)
    return runs


def e3(skewness, kurtosis):
    kernel = (skewness, kurtosis)
    return seeds("mlp_e2", kernel=kernel) + seeds("mlp_e3", kernel=kernel)


CASES = [
    ("A-1", SUPPORTED, a1(1, 3, cost=90)),
    ("A-1", CONTRADICTED, a1(1, 3, cost=900)),
    ("A-1", CONTRADICTED, a1(4, 2, cost=10)),
    ("A-1", UNDECIDED, a1(None, None, cost=100)),
    ("A-1", UNDECIDED, a1(4, None, cost=900)),  # no time of the others to compare with
    ("A-1", UNDECIDED, a1(1, 3, cost=90)[:6]),
    ("A-2", SUPPORTED, a2(0.9625, 0.985)),
    ("A-2", SUPPORTED, a2(0.9625, 0.9625, a3=0.97)),
    ("A-2", CONTRADICTED, a2(0.989, 0.99)),
    ("A-2", CONTRADICTED, a2(0.9625, 0.9625)),
    ("A-2", UNDECIDED, a2(0.9714, 0.99)),
    ("A-3", SUPPORTED, a2(0.98, 0.99)),
    ("A-3", CONTRADICTED, a2(0.99, 0.98)),
    ("A-3", UNDECIDED, a2(0.99, 0.99)),
    ("B-1", SUPPORTED, b1(12, 0.09)),
    ("B-1", CONTRADICTED, b1(5, 0.09)),
    ("B-1", CONTRADICTED, b1(12, 0.051)),
    ("B-1", UNDECIDED, b1(12, 0.09, names=("conv2_b21", "conv2_b22"))),
    ("B-2", SUPPORTED, b2(far=())),
    ("B-2", SUPPORTED, b2(far=(), names=REGULARIZED[:6])),
    ("B-2", CONTRADICTED, b2(far=REGULARIZED[:4])),
    ("B-2", UNDECIDED, b2(far=REGULARIZED[:3])),
    ("B-2", UNDECIDED, b2(far=(), names=REGULARIZED[:5])),
    ("B-3", SUPPORTED, b3(0.985, long=0.992)),
    ("B-3", CONTRADICTED, b3(0.992, long=0.992)),
    ("B-3", CONTRADICTED, b3(0.985, long=0.985)),
    ("B-3", UNDECIDED, b3(0.985, long=0.992)[:-6]),
    ("B-4", SUPPORTED, b4(deep=0.06, shallow=0.02)),
    ("B-4", CONTRADICTED, b4(deep=0.02, shallow=0.06)),
    ("B-4", UNDECIDED, b4(deep=0.02, shallow=0.02)),
    ("C-1", SUPPORTED, c1({"conv2_c1": 9, "conv5_c2": 6, "conv7_c3": 3})),
    ("C-1", CONTRADICTED, c1({"conv2_c1": 2, "conv5_c2": None, "conv7_c3": 9})),
    ("C-1", UNDECIDED, c1({"conv2_c1": 5, "conv5_c2": 5, "conv7_c3": 2})),
    ("C-2", SUPPORTED, c2(0.993, 0.97, gap=0.02)),
    ("C-2", CONTRADICTED, c2(0.993, 0.97, gap=0.0)),
    ("C-2", CONTRADICTED, c2(0.97, 0.993, gap=0.02)),
    ("C-2", UNDECIDED, c2(0.993, 0.97, gap=0.005)),
    ("D-1", SUPPORTED, d1(0.993, 0.986, 0.991, share=0.25)),
    ("D-1", CONTRADICTED, d1(0.993, 0.986, 0.991, share=0.5)),
    ("D-1", CONTRADICTED, d1(0.986, 0.993, 0.985, share=0.25)),
    ("D-1", CONTRADICTED, d1(0.993, 0.986, 0.98, share=0.25)),
    ("D-1", UNDECIDED, d1(0.993, 0.993, 0.991, share=0.25)),
    ("E-1", SUPPORTED, e(["mlp_e1"], 0.063, 0.02)),
    ("E-1", CONTRADICTED, e(["mlp_e1"], 0.031, 0.02)),
    ("E-1", CONTRADICTED, e(["mlp_e1"], 0.13, 0.1)),
    ("E-1", UNDECIDED, e(["mlp_e1"], 0.064, 0.042)[:1]),
    ("E-2", SUPPORTED, e(["mlp_e2", "mlp_e3"], 0.062, 0.06)),
    ("E-2", CONTRADICTED, e(["mlp_e2", "mlp_e3"], 0.062, 0.03)),
    ("E-2", UNDECIDED, e(["mlp_e2"], 0.062, 0.06)),
    ("E-3", SUPPORTED, e3(0.1, 0.5)),
    ("E-3", CONTRADICTED, e3(0.1, -1.1)),
    ("E-3", CONTRADICTED, e3(0.6, 0.0)),
    ("E-3", UNDECIDED, e3(0.1, 0.95)[::3]),
]


@pytest.mark.parametrize(
    ("number", "verdict", "runs"),
    CASES,
    ids=[f"{number}-{verdict}-{i}" for i, (number, verdict, _) in enumerate(CASES)],
)
def test_runs_made_for_a_verdict_get_it(number, verdict, runs):
    judged = claims.judge(CLAIMS[number], runs)
    assert judged.verdict == verdict, [(p.about, p.verdict) for p in judged.parts]


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.id)
def test_without_runs_nothing_is_decided_and_the_gap_is_named(claim):
    judged = claims.judge(claim, [])
    assert judged.verdict == UNDECIDED
    assert all(part.missing for part in judged.parts)
    assert all(part.interval is None for part in judged.parts)


def test_there_is_a_rule_for_each_conclusion_and_each_verdict_is_tried():
    assert [claim.id for claim in claims.CLAIMS] == [
        conclusion.id for conclusion in reported.conclusions()
    ]
    tried = {(number, verdict) for number, verdict, _ in CASES}
    every = (SUPPORTED, CONTRADICTED, UNDECIDED)
    assert tried == {(claim.id, v) for claim in claims.CLAIMS for v in every}


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.2, 0.3, 0.25], SUPPORTED),
        ([-0.2, -0.3, -0.25], CONTRADICTED),
        ([0.1, 0.3, -0.1], UNDECIDED),
        ([0.1, 0.6, 0.2], UNDECIDED),  # each above 0, but their mean is not sure
        ([0.6], SUPPORTED),
        ([0.4], UNDECIDED),
        ([-0.6], CONTRADICTED),
        ([0.6, -0.6], UNDECIDED),
        ([], UNDECIDED),
        ([0.6, 0.6, 0.6], SUPPORTED),  # no spread, no interval: as if it were one
        ([0.4, 0.4, 0.4], UNDECIDED),
    ],
)
def test_a_part_is_decided_by_its_interval_or_by_its_margin(values, verdict):
    part = Part("s", "a", "q", dict(enumerate(values)), low=0, margin=0.5)
    assert part.verdict == verdict
    assert (part.interval is None) == (len(set(values)) < 3)


def test_a_range_has_two_sides():
    inside = Part("s", "a", "q", {0: 12.0, 1: 12.5, 2: 13.0}, low=9.5, high=15.5)
    assert inside.verdict == SUPPORTED
    for values in ((4.0, 5.0, 4.5), (20.0, 21.0, 20.5)):
        outside = replace(inside, values=dict(enumerate(values)))
        assert outside.verdict == CONTRADICTED
    across = replace(inside, values={0: 4.0, 1: 20.0, 2: 12.0})
    assert across.verdict == UNDECIDED


def test_short_runs_other_data_and_other_backends_do_not_decide():
    whole = fake("conv2_a2", 0)
    short = Run(whole.record | {"epochs": 2}, None)
    other = Run(whole.record | {"dataset": {"name": "d", "fingerprint": "0"}}, None)
    holdout = Run(whole.record | {"protocol": "holdout"}, None)
    assert judging.comparable([short, other, holdout]) == {}
    later = fake("conv2_a2", 0, finished="2027-01-01T00:00:00")
    jax = [fake("conv2_a2", seed, backend="jax") for seed in (1, 2)]
    found = judging.comparable([later, whole, jax[0]])
    assert found == {"conv2_a2": {0: later}}
    found = judging.comparable([whole, *jax])
    assert found == {"conv2_a2": dict(zip((1, 2), jax, strict=True))}


def answers(right, size=10_000):
    """Predictions that are right for the given images; the labels are all 0."""
    predicted = np.ones(size, dtype=np.uint8)
    predicted[right] = 0
    return predicted


@pytest.mark.parametrize(
    ("only_d3", "verdict"), [(0, SUPPORTED), (20, UNDECIDED), (60, CONTRADICTED)]
)
def test_single_runs_of_d_are_decided_by_mcnemar(only_d3, verdict, monkeypatch):
    """D1 has 20 images right that D3 has not; how many the other way about decides."""
    runs = d1(0.993, 0.986, 0.991, share=0.25)[::3]
    predictions = {
        "conv3_d1": answers(slice(0, 9920)),
        "conv5_d2": answers(slice(0, 9800)),
        "conv7_d3": answers(slice(20, 9920 + only_d3)),
    }
    monkeypatch.setattr(Run, "predictions", lambda run: (predictions[run.name], None))
    labels = np.zeros(10_000, dtype=np.uint8)
    judged = claims.judge(CLAIMS["D-1"], runs, labels)
    against_d2, against_d3, *_ = judged.parts
    assert against_d2.verdict == SUPPORTED
    assert "120 images" in against_d2.note
    assert against_d3.verdict == verdict


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([0.9870, 0.9877, 0.9884], "reproduced"),
        ([0.9910, 0.9911, 0.9912], "not reproduced"),
        ([0.97, 0.98, 0.99], UNDECIDED),
        ([0.92, 0.93, 0.94], UNDECIDED),  # outside, but of an interval that says little
        ([0.9911, 0.9911, 0.9911], UNDECIDED),
        ([0.9877], "single run"),
        ([0.9877, 0.9875], "single run"),
        ([], "no full run"),
    ],
)
def test_2019_is_reproduced_if_one_more_run_may_be_like_it(accuracies, verdict):
    runs = [fake("conv2_a2", seed, accuracy=a) for seed, a in enumerate(accuracies)]
    found = judging.reproduction("conv2_a2", runs)
    assert (found.verdict, found.reported) == (verdict, 0.9877)
    assert found.accuracies == tuple(accuracies)
    if len(accuracies) == 1:  # the binomial interval of no difference at all
        assert found.interval.low == pytest.approx(-found.interval.high)
        assert found.interval.half_width == pytest.approx(0.00306, abs=2e-5)


def test_only_the_28_as_they_are_reproduce_2019():
    run = fake("conv2_a2")
    other = asdict(EXPERIMENTS["conv2_a5"]) | {"name": "conv2_a2"}
    edited = Run(run.record | {"experiment": json.loads(json.dumps(other))}, None)
    assert judging.reproduction("conv2_a2", [edited]).verdict == "no full run"


def test_controls_differ_from_their_model_in_one_thing():
    for control in models.CONTROLS:
        original = EXPERIMENTS["_".join(control.name.split("_")[:2])]
        layers = len(original.layers) - len(control.layers)
        recipe = [
            name
            for name, value in asdict(control.recipe).items()
            if value != asdict(original.recipe)[name]
        ]
        assert layers + len(recipe) == 1, (control.name, layers, recipe)
