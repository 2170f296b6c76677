"""The rules: synthetic runs that must get each verdict on each conclusion."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from conftest import EXPERIMENTS, each, fake, seeds

from mnistlab import claims, judging, models, reported, stats
from mnistlab.claims.inputs_of_b import DECIDING, MODELS
from mnistlab.judging import (
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
    Part,
    Rule,
)
from mnistlab.runs import Run

CONCLUSIONS = [said.id for said in reported.conclusions()]


def reach(name, epoch, level=0.99):
    """Test accuracies that reach a level at an epoch; None: never."""
    epochs = EXPERIMENTS[name].recipe.epochs
    return [level if epoch and e >= epoch else 0.9 for e in range(1, epochs + 1)]


def by_seed(name, **results):
    """Runs of seeds 0, 1 and so on; each result is given as one value for each."""
    rows = zip(*results.values(), strict=True)
    return [
        fake(name, seed, **dict(zip(results, row, strict=True)))
        for seed, row in enumerate(rows)
    ]


def a1(own, others, cost):
    """A3 and its rivals by the epoch in which they reach 98.5 %, and A3's cost."""
    a3 = seeds("conv3_a3", debiased=reach("conv3_a3", own), cpu_seconds=cost)
    history = {"val_accuracy": reach("conv2_a2", others)}
    return a3 + each(("conv3_a1", "conv2_a2"), history=history)


def a2(a4, control, a3=0.989, count=3):
    return [
        *seeds("conv3_a4", count, accuracy=a4),
        *seeds("conv3_a4_no_first_dropout", count, accuracy=control, spread=0.0004),
        *seeds("conv3_a3", accuracy=a3),
    ]


def b1(lowest, end, names=("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")):
    losses = [0.05 + abs(epoch - lowest) / 1000 for epoch in range(1, 25)]
    return each(names, 5, history={"val_cross_entropy": [*losses, end]})


def b2(gap, names=claims.REGULARISED):
    """All gaps are narrow but that of the first model."""
    first = seeds(names[0], test_loss=0.03 + gap, train_loss=0.03)
    return first + each(names[1:], test_loss=0.03, train_loss=0.03)


def b3(regularised, long=0.99):
    plain, other = zip(*claims.FAIR_PAIRS, strict=True)
    longer = [experiment.name for experiment in models.controls.LONGER]
    return [
        *each((*plain, *longer[::2])),
        *each(other, accuracy=regularised, spread=0.0004),
        *each(longer[1::2], accuracy=long, spread=0.0004),
    ]


def b4(plain, regularised):
    """Gaps of the deep pairs, without regularisation and with it."""
    return [
        *each(("conv5_b51", "conv5_b52"), train_loss=0.01, test_loss=0.01 + plain),
        *each(
            ("conv5_b53", "conv5_b54"), train_loss=0.01, test_loss=0.01 + regularised
        ),
    ]


def c1(epochs):
    return [
        run
        for name, epoch in epochs.items()
        for run in seeds(name, history={"val_accuracy": reach(name, epoch, 0.98)})
    ]


def c2(c1, deeper, gap):
    off = np.array([-0.0005, 0, 0.0005])
    trained = {"accuracy": deeper + off, "train_accuracy": deeper + 2 * off + gap}
    return [
        *seeds("conv2_c1", accuracy=c1, train_accuracy=c1 + 0.005),
        *by_seed("conv5_c2", **trained),
        *by_seed("conv7_c3", **trained),
    ]


def d1(d1, d2, d3, share):
    return [
        *seeds("conv3_d1", accuracy=d1, cpu_seconds=100),
        *seeds("conv5_d2", accuracy=d2, spread=0.0004),
        *seeds("conv7_d3", accuracy=d3, spread=0.0004, cpu_seconds=100 * share),
    ]


def e(names, validation, training, count=5):
    history = {"loss": [training] * 20, "val_loss": [validation] * 20}
    return each(names, count, history=history)


def e3(*kernel, count=5):
    return each(("mlp_e2", "mlp_e3"), count, kernel=kernel)


def without_seed(runs, seed=2):
    return [run for run in runs if run.seed != seed]


def mixed(name, epochs):
    """Seeds that reach an accuracy in different epochs."""
    reached = [{"val_accuracy": reach(name, int(epoch))} for epoch in epochs]
    return by_seed(name, history=reached)


def noisy_pairs():
    """25 pairs of A4 whose differences are now 3 points above 0, now 3 below."""
    off = 0.015 * (-1) ** np.arange(25)
    return [
        *by_seed("conv3_a4", accuracy=0.95 + off),
        *by_seed("conv3_a4_no_first_dropout", accuracy=0.95 - off),
    ]


def noisy_gaps(name):
    return by_seed(name, train_loss=[0.01] * 3, test_loss=[0.02, 0.07, 0.03])


CASES = [
    ("A-1", SUPPORTED, a1(1, 3, cost=90)),
    ("A-1", CONTRADICTED, a1(1, 3, cost=900)),
    ("A-1", CONTRADICTED, a1(4, 2, cost=10)),
    ("A-1", CONTRADICTED, a1(None, 2, cost=10)),
    ("A-1", UNDECIDED, [*a1(1, 3, cost=90)[:6], *mixed("conv2_a2", "124")]),
    ("A-1", NOT_TESTED, a1(1, 3, cost=90)[3:]),
    ("A-1", NOT_TESTED, [fake("conv3_a3", s) for s in range(3)] + a1(1, 3, 90)[3:]),
    ("A-1", NOT_TESTED, a1(4, None, cost=900)),  # no time of the others
    ("A-2", SUPPORTED, a2(0.9625, 0.985)),
    ("A-2", SUPPORTED, a2(0.9625, 0.9625, a3=0.97)),
    ("A-2", CONTRADICTED, a2(0.989, 0.99)),
    ("A-2", CONTRADICTED, a2(0.9625, 0.9625)),
    ("A-2", UNDECIDED, a2(0.9714, 0.99)),
    ("A-2", NOT_TESTED, without_seed(a2(0.9625, 0.985))),
    ("A-3", SUPPORTED, a2(0.98, 0.99, count=25)),
    ("A-3", CONTRADICTED, a2(0.99, 0.98, count=25)),
    ("A-3", CONTRADICTED, a2(0.99, 0.99, count=25)),  # no difference, and surely so
    ("A-3", UNDECIDED, noisy_pairs()),
    ("A-3", NOT_TESTED, a2(0.98, 0.99, count=24)),
    ("B-1", SUPPORTED, b1(12, 0.09)),
    ("B-1", CONTRADICTED, b1(5, 0.09)),
    ("B-1", CONTRADICTED, b1(12, 0.051)),
    ("B-1", UNDECIDED, b1(12, 0.09, names=("conv2_b21", "conv2_b22", "conv3_b31"))),
    ("B-1", NOT_TESTED, b1(12, 0.09, names=("conv2_b21", "conv2_b22"))),
    ("B-2", SUPPORTED, b2(0.0)),
    ("B-2", CONTRADICTED, b2(0.05)),
    ("B-2", UNDECIDED, b2(0.02)),
    ("B-2", UNDECIDED, b2(0.0, names=claims.REGULARISED[:6])),
    ("B-2", NOT_TESTED, b2(0.05, names=claims.REGULARISED[:5])),
    ("B-3", SUPPORTED, b3(0.985, long=0.992)),
    ("B-3", CONTRADICTED, b3(0.992, long=0.992)),
    ("B-3", CONTRADICTED, b3(0.985, long=0.985)),
    ("B-3", UNDECIDED, b3(0.985, long=0.992)[:-3]),
    ("B-3", NOT_TESTED, without_seed(b3(0.992, long=0.985))),
    ("B-4", SUPPORTED, b4(plain=0.06, regularised=0.02)),
    ("B-4", CONTRADICTED, b4(plain=0.02, regularised=0.06)),
    ("B-4", UNDECIDED, [*b4(0.06, 0.02)[3:], *noisy_gaps("conv5_b51")]),
    ("B-4", NOT_TESTED, b4(plain=0.06, regularised=0.02)[:9]),
    ("C-1", SUPPORTED, c1({"conv2_c1": 9, "conv5_c2": 6, "conv7_c3": 3})),
    ("C-1", CONTRADICTED, c1({"conv2_c1": 2, "conv5_c2": None, "conv7_c3": 9})),
    ("C-1", CONTRADICTED, c1({"conv2_c1": 2, "conv5_c2": 5, "conv7_c3": 4})),
    ("C-1", UNDECIDED, c1({"conv2_c1": 9, "conv5_c2": 3}) + mixed("conv7_c3", "125")),
    ("C-1", UNDECIDED, c1({"conv2_c1": 5, "conv5_c2": 5, "conv7_c3": 2})),
    ("C-1", NOT_TESTED, c1({"conv2_c1": 9, "conv5_c2": 6})),
    ("C-2", SUPPORTED, c2(0.993, 0.97, gap=0.02)),
    ("C-2", CONTRADICTED, c2(0.993, 0.97, gap=0.0)),
    ("C-2", CONTRADICTED, c2(0.97, 0.993, gap=0.02)),
    ("C-2", UNDECIDED, c2(0.993, 0.97, gap=0.005)),
    ("C-2", NOT_TESTED, without_seed(c2(0.993, 0.97, gap=0.0))),
    ("D-1", SUPPORTED, d1(0.993, 0.986, 0.991, share=0.25)),
    ("D-1", CONTRADICTED, d1(0.993, 0.986, 0.991, share=0.5)),
    ("D-1", CONTRADICTED, d1(0.986, 0.993, 0.985, share=0.25)),
    ("D-1", CONTRADICTED, d1(0.993, 0.986, 0.98, share=0.25)),
    ("D-1", UNDECIDED, d1(0.993, 0.993, 0.991, share=0.25)),
    ("D-1", NOT_TESTED, without_seed(d1(0.986, 0.993, 0.985, share=0.25))),
    ("E-1", SUPPORTED, e(["mlp_e1"], 0.063, 0.02)),
    ("E-1", CONTRADICTED, e(["mlp_e1"], 0.031, 0.02)),
    ("E-1", CONTRADICTED, e(["mlp_e1"], 0.13, 0.1)),
    ("E-1", UNDECIDED, e(["mlp_e1"], 0.063, 0.042)),
    ("E-1", NOT_TESTED, e(["mlp_e1"], 0.063, 0.02, count=4)),
    ("E-2", SUPPORTED, e(["mlp_e2", "mlp_e3"], 0.062, 0.06)),
    ("E-2", CONTRADICTED, e(["mlp_e2", "mlp_e3"], 0.062, 0.03)),
    ("E-2", UNDECIDED, e(["mlp_e2", "mlp_e3"], 0.06, 0.04)),
    ("E-2", NOT_TESTED, e(["mlp_e2"], 0.062, 0.03)),
    ("E-3", SUPPORTED, e3(0.1, 0.5)),
    ("E-3", CONTRADICTED, e3(0.1, -1.1)),
    ("E-3", CONTRADICTED, e3(0.6, 0.0)),
    ("E-3", UNDECIDED, e3(0.1, 0.9999)),
    ("E-3", NOT_TESTED, e3(0.1, -1.1, count=4)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "verdict", "runs"),
    CASES,
    ids=[f"{number}-{verdict}-{i}" for i, (number, verdict, _) in enumerate(CASES)],
)
def test_runs_made_for_a_verdict_get_it(number, verdict, runs):
    judged = claims.judge(number, runs)
    assert judged.verdict == verdict, [(p.about, p.verdict) for p in judged.parts]


def test_there_is_a_rule_for_each_conclusion_and_each_verdict_is_tried():
    ruled = list(dict.fromkeys(rule.conclusion for rule in claims.RULES))
    assert ruled == CONCLUSIONS, "add rows to claims/rules.py for each conclusion"
    tried = {(number, verdict) for number, verdict, _ in CASES}
    wanted = {
        (number, verdict) for number in CONCLUSIONS for verdict in claims.VERDICTS
    }
    assert tried == wanted, "add runs to CASES that get each verdict"


def part(values, *, n=3, k=1, **bounds):
    rule = Rule("X", "s", "q", ("conv2_a2",), lambda run: None, seeds=n, **bounds)
    return Part(rule, dict(enumerate(values)), level=1 - 0.05 / k)


NEAR, FAR = [0.001, -0.001, 0.0005], [0.2, 0.3, 0.25]


@pytest.mark.parametrize(
    ("values", "bounds", "verdict"),
    [
        (FAR, {"low": 0}, SUPPORTED),
        ([-0.2, -0.3, -0.25], {"low": 0}, CONTRADICTED),
        ([0.1, 0.3, -0.1], {"low": 0}, UNDECIDED),
        ([0.1, 0.6, 0.2], {"low": 0}, UNDECIDED),  # all above, their mean not surely
        ([0.6, 0.6, 0.6], {"low": 0}, SUPPORTED),
        ([1.0, 1.0, 1.0], {"low": 0}, SUPPORTED),  # equal whole numbers: 0.5 to 1.5
        ([1.0, 1.0, 1.0], {"low": 0.7}, UNDECIDED),
        ([0.0, 0.0, 0.0], {"low": 0}, UNDECIDED),
        ([-1.0, -1.0, -1.0], {"low": 0}, CONTRADICTED),
        ([-0.6, -0.6], {"low": 0}, NOT_TESTED),
        ([], {"low": 0}, NOT_TESTED),
        ([*FAR, -9.0], {"low": 0}, SUPPORTED),  # a fourth seed is shown, not counted
        (NEAR, {"low": 0}, UNDECIDED),
        (NEAR, {"low": 0, "equivalent": 0.005}, CONTRADICTED),  # surely no difference
        (FAR, {"low": 0, "equivalent": 0.005}, SUPPORTED),
        ([12.0, 12.5, 13.0], {"low": 9.5, "high": 15.5}, SUPPORTED),
        ([4.0, 5.0, 4.5], {"low": 9.5, "high": 15.5}, CONTRADICTED),
        ([20.0, 21.0, 20.5], {"low": 9.5, "high": 15.5}, CONTRADICTED),
        ([4.0, 20.0, 12.0], {"low": 9.5, "high": 15.5}, UNDECIDED),
    ],
)
def test_a_part_is_decided_by_the_interval_of_its_planned_seeds(
    values, bounds, verdict
):
    assert part(values, **bounds).verdict == verdict


def test_seeds_that_are_not_the_planned_ones_do_not_count():
    decided = part([0.2, 0.3, 0.25], low=0)
    moved = replace(decided, values={1: 0.2, 2: 0.3, 3: 0.25})
    assert (decided.verdict, moved.verdict) == (SUPPORTED, NOT_TESTED)


def test_with_more_parts_an_interval_is_wider():
    alone, of_five = part([0.2, 0.3, 0.1], low=0), part([0.2, 0.3, 0.1], low=0, k=5)
    assert alone.interval == stats.mean_interval([0.2, 0.3, 0.1], 0.95)
    assert of_five.interval == stats.mean_interval([0.2, 0.3, 0.1], 0.99)
    judged = claims.judge("B-3", b3(0.985))
    levels = {len(p): {part.level for part in p} for p in judged.statements.values()}
    assert levels == {5: {0.99}, 2: {0.975}}


@pytest.mark.parametrize(("n", "k"), [(3, 1), (5, 2), (3, 8), (25, 8)])
def test_a_statement_about_no_effect_is_decided_wrongly_in_at_most_5_percent(n, k):
    """All k parts lie exactly on their bound: neither verdict is right."""
    generator = np.random.default_rng(100 * n + k)
    draws = generator.normal(0, 0.3, (1_000, k, n))
    wrong = [
        judging.judge_statement([part(v, n=n, k=k, low=0) for v in values]) != UNDECIDED
        for values in draws
    ]
    # Three standard errors of 1,000 draws above 5 %.
    assert np.mean(wrong) < 0.05 + 3 * (0.05 * 0.95 / 1_000) ** 0.5
    # With the level of a single part, the share would be too high for many parts.
    if k == 8:
        single = [
            any(part(v, n=n, low=0).verdict == CONTRADICTED for v in values)
            for values in draws
        ]
        assert np.mean(single) > 0.1


def test_a3_without_an_effect_is_supported_in_at_most_5_percent():
    draws = np.random.default_rng(7).normal(0, 0.008, (1_000, 25))
    verdicts = [part(v, n=25, low=0, equivalent=0.005).verdict for v in draws]
    assert verdicts.count(SUPPORTED) < 50
    assert verdicts.count(CONTRADICTED) > 500, "25 pairs can show that there is none"


def test_conclusions_need_all_statements_and_three_quarters_of_their_seeds():
    both = judging.all_of
    assert both([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert both([SUPPORTED, UNDECIDED]) == UNDECIDED
    assert both([SUPPORTED, CONTRADICTED, UNDECIDED]) == CONTRADICTED
    assert both([NOT_TESTED, NOT_TESTED]) == NOT_TESTED
    assert both([SUPPORTED, NOT_TESTED]) == UNDECIDED


def test_short_runs_edited_models_and_other_backends_do_not_decide():
    whole = fake("conv2_a2", 0)
    short = Run(whole.record | {"epochs": 2}, None)
    other = fake("conv2_a5").record["experiment"] | {"name": "conv2_a2"}
    edited = Run(whole.record | {"experiment": other}, None)
    others = Run(whole.record | {"dataset": {"name": "d", "fingerprint": "0"}}, None)
    holdout = Run(whole.record | {"protocol": "holdout"}, None)
    assert judging.comparable([short, edited, others, holdout]) == {}
    later = fake("conv2_a2", 0, finished="2027-01-01T00:00:00")
    jax = [fake("conv2_a2", seed, backend="jax") for seed in (1, 2)]
    found = judging.comparable([later, whole, jax[0]])
    assert found == {"conv2_a2": {0: later}}
    found = judging.comparable([whole, *jax])
    assert found == {"conv2_a2": dict(zip((1, 2), jax, strict=True))}


def on(machine, runs):
    for run in runs:
        run.record["environment"] = machine
    return runs


def test_processor_time_is_of_one_identified_processor():
    one = {"processor": "P", "processor_model": "1", "gpus": []}
    names = ("conv2_a2", "conv3_a3")
    fast = [fake(name, cpu_seconds=s) for name, s in zip(names, (10, 5), strict=True)]
    fast = on(one, fast)
    other = on(one | {"processor_model": "2"}, seeds("conv2_a2", cpu_seconds=500))
    unknown = on({"processor": "P"}, seeds("conv3_a3", cpu_seconds=900))
    by_name = judging.comparable([*other, *unknown, *fast])
    assert judging.epoch_seconds(by_name, names) == {"conv2_a2": 2, "conv3_a3": 1}
    assert judging.epoch_seconds(judging.comparable(unknown), names) == {}


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([0.9870, 0.9877, 0.9884], "reproduced"),
        ([0.9910, 0.9911, 0.9912], "not reproduced"),
        ([0.97, 0.98, 0.99], UNDECIDED),
        ([0.92, 0.93, 0.94], "not reproduced"),  # outside, however wide the interval
        ([0.9877, 0.9875], NOT_TESTED),
        ([], NOT_TESTED),
        ([0.9870, 0.9877, 0.9884, 0.5], "reproduced"),  # a fourth seed does not count
    ],
)
def test_2019_is_reproduced_if_one_more_run_may_be_like_it(accuracies, verdict):
    runs = by_seed("conv2_a2", accuracy=accuracies)
    found = judging.reproduction("conv2_a2", runs)
    assert (found.verdict, found.reported) == (verdict, 0.9877)
    assert found.values == (() if verdict == NOT_TESTED else tuple(accuracies[:3]))


def test_an_mlp_is_judged_by_five_seeds():
    runs = seeds("mlp_e1", 5, accuracy=0.9839)
    assert judging.reproduction("mlp_e1", runs).verdict == "reproduced"
    assert judging.reproduction("mlp_e1", runs[:4]).verdict == NOT_TESTED


def like_2019(name, factor):
    """Training losses that are 2019's, over a factor, in the epochs that it printed."""
    losses = {e["epoch"]: e["loss"] for e in reported.history(name) if e["loss"]}
    epochs = EXPERIMENTS[name].recipe.epochs
    return [losses.get(e, 1.0) / factor for e in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((0.98, 1.01, 1.02), "same training"),
        ((1.2, 1.21, 1.22), "other training"),
        ((0.6, 0.7, 1.0), UNDECIDED),  # 1 is within, but the mean is below 0.9
        ((0.98, 1.01), NOT_TESTED),
    ],
)
def test_losses_epoch_by_epoch_tell_whether_it_is_the_same_training(factors, verdict):
    losses = [{"loss": like_2019("conv2_b23", factor)} for factor in factors]
    runs = by_seed("conv2_b23", history=losses)
    found = judging.trajectory("conv2_b23", runs)
    assert found.verdict == verdict
    if found.values:
        assert found.values == pytest.approx(factors)


def test_without_a_printed_loss_there_is_no_trajectory():
    assert judging.trajectory("conv2_c1", seeds("conv2_c1")).verdict == NOT_TESTED


def b_runs(black_and_white, rows, names=MODELS, count=3):
    runs = []
    for name in names:
        for variant, factor in (("", black_and_white), ("_rows", rows)):
            factors = [factor * (1 + seed / 1000) for seed in range(count)]
            losses = [{"loss": like_2019(name, factor)} for factor in factors]
            runs += by_seed(name + variant, history=losses)
    return runs


def test_the_inputs_of_b_are_accepted_if_their_losses_are_the_closer_ones():
    assert len(DECIDING) == 6
    accepted = claims.inputs_of_b(b_runs(1.0, 1.2))
    assert accepted.verdict == SUPPORTED
    assert accepted.tested == DECIDING
    assert accepted.mean_squares["rows"] > 0.03
    assert claims.inputs_of_b(b_runs(1.2, 1.0)).verdict == CONTRADICTED
    # Closer than rows, and yet another training.
    assert claims.inputs_of_b(b_runs(1.2, 1.4)).verdict == CONTRADICTED
    few = b_runs(1.0, 1.2, names=("conv2_b23", "conv2_b24"))
    assert claims.inputs_of_b(few).verdict == NOT_TESTED
    assert claims.inputs_of_b(b_runs(1.0, 1.2, count=2)).verdict == NOT_TESTED
    assert claims.inputs_of_b([]).verdict == NOT_TESTED


def test_controls_differ_from_their_model_in_one_thing():
    for control in models.CONTROLS:
        original = EXPERIMENTS["_".join(control.name.split("_")[:2])]
        if control == models.controls.conv3_a4_no_first_dropout:
            assert len(original.layers) - len(control.layers) == 1
            continue
        pairs = zip(original.layers, control.layers, strict=True)
        layers = {before.kind for before, after in pairs if before != after}
        changed = vars(original.recipe).items() ^ vars(control.recipe).items()
        recipe = {name for name, _ in changed}
        assert len(layers | recipe) == 1, (control.name, layers, recipe)


def test_no_bound_is_left_open_on_both_sides():
    for rule in claims.RULES:
        assert rule.low > -inf or rule.high < inf, rule
