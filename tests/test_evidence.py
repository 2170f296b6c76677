"""The committed evidence: small, whole, verified by training, and in the README."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import EXPERIMENTS, EXPLODES, ROOT, TINY, make_spec, seeds

from mnistlab import (
    batchnorm,
    claims,
    comparison,
    judging,
    models,
    reported,
    schedule,
    store,
    study,
)
from mnistlab.environment import environment
from mnistlab.runs import Run
from reports import evidence, summary
from reports.story import tell


def test_the_evidence_is_small_and_of_clean_commits():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 45 * 2**20
    runs = store.evidence()
    assert runs
    for run in runs:
        assert re.fullmatch("[0-9a-f]{40}", run.record["commit"]), run
        assert len(run.predictions()[0]) == run.record["test_size"]


def test_one_run_of_a_model_keeps_its_weights_as_float16():
    kept = [run for run in store.evidence() if (run.folder / "weights.npz").exists()]
    names = [run.name for run in kept]
    assert kept
    assert len(set(names)) == len(names)
    for run in kept:
        assert run.compares_with_2019
        with np.load(run.folder / "weights.npz") as file:
            assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
        weights = run.weights()
        assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
        assert all(np.isfinite(values).all() for values in weights.values()), run
        kernel = weights[f"{run.record['first_kernel']['name']}/kernel"]
        stored = np.array(run.record["first_kernel"]["values"])
        shape = run.record["first_kernel"]["shape"]
        np.testing.assert_allclose(
            kernel[..., : shape[-1]].ravel(), stored, rtol=2e-3, atol=1e-4
        )


def test_the_readme_has_the_tables_that_the_evidence_makes():
    """`make tables` writes them."""
    text = (ROOT / "README.md").read_text()
    gathered = study.load_runs()
    table = summary.models_table(gathered.full)
    assert table in text
    assert summary.conclusions_table(gathered) in text
    rows = re.findall(r"^\|\s+(\w+_\w+)\s+\|", table, re.M)
    of_2019 = set(reported.finals())
    every = [e.name for family in models.FAMILIES.values() for e in family]
    assert rows == [name for name in every if name in of_2019]
    assert len(rows) == 28


def test_the_findings_have_the_epochs_of_the_evidence():
    text = (ROOT / "docs/findings.md").read_text()
    gathered = study.load_runs()
    assert summary.rules_table(gathered.evidence) in text
    assert summary.inputs_table(gathered.evidence) in text
    table = summary.epochs_table(gathered.full)
    assert table in text
    rows = [[c.strip() for c in line.split("|")] for line in table.splitlines()]
    said = next(row for row in rows if row[1] == "conv3_a3")
    assert said[3:6] == ["1, 2, 3, 4, 5", "2019", "97.7, 98.9, 98.9, 99.0, 99.0"]


def in_percent(accuracies):
    return [f"{100 * accuracy:.2f}" for accuracy in accuracies]


def percents(run, epochs):
    return in_percent(run.history[e - 1]["val_accuracy"] for e in epochs)


def numbers_of_the_findings(runs, digits):
    """Parts of sentences of docs/findings.md, with their numbers as the runs are."""
    found = judging.comparable(runs)
    said = reported.finals()
    verdicts = claims.judge_all(runs)
    parts = {
        (part.about, part.rule.quantity): part.planned
        for verdict in verdicts.values()
        for part in verdict.parts
    }

    def between(quantity, *names, digits=1):
        values = [v for name in names for v in parts[name, quantity]]
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}"

    debiased = [
        next(n for n, entry in enumerate(run.batchnorm, 1)
             if entry["debiased"]["accuracy"] >= 0.985)
        for run in found["conv3_a3"].values()
    ]  # fmt: skip
    saved = parts["conv3_a1 minus conv3_a3", "epochs saved"]
    sooner = [int(n + more) for n, more in zip(debiased, saved, strict=True)]
    yield "after {}, {} and {} epochs, A1 after {}, {} and {}".format(
        *debiased, *sooner
    )
    dearer = between("ratio of CPU seconds", "conv3_a1 over conv3_a3", digits=2)
    yield f"gets there in {dearer} times"
    a3 = judging.trajectory("conv3_a3", list(found["conv3_a3"].values())).values
    yield "2019's are {:.2f}, {:.2f} and {:.2f} times ours".format(*a3)
    firsts = [f"{run.history[0]['loss']:.3f}" for run in found["conv3_a3"].values()]
    then = reported.history("conv3_a3")[0]["loss"]
    yield f"{then:.3f} in 2019 and {firsts[0]}, {firsts[1]} and {firsts[2]} in our"
    control = list(found["conv3_a3_adadelta"].values())
    by_table = judging.trajectory("conv3_a3", control, control="conv3_a3_adadelta")
    assert by_table.verdict == judging.OTHER, "They are not."
    yield "2019's are {:.2f}, {:.2f} and {:.2f} times these".format(*by_table.values)
    firsts = [f"{run.history[0]['loss']:.3f}" for run in control]
    yield f"nearer to 2019's ({firsts[0]}, {firsts[1]} and {firsts[2]})"
    with_adam = found["conv3_a3"].values()
    ends = in_percent(map(judging.accuracy, (*control, *with_adam)))
    yield "end at {}, {} and {} %".format(*ends[:3])
    yield "seeds with Adam {}, {} and {} %".format(*ends[3:])
    b54 = judging.reproduction("conv5_b54", list(found["conv5_b54"].values()))
    ends = in_percent((*b54.values, b54.reported, b54.interval.low, b54.interval.high))
    yield "at {}, {} and {} %: so near each other that 2019's {} %".format(*ends)
    yield "outside their interval ({} to {} %)".format(*ends[4:])
    ends_below = verdicts["A-2"].parts[0].interval
    limits = in_percent((ends_below.low, ends_below.high))
    yield "interval of its mean is {} to {} % for".format(*limits)
    beyond = between(
        "test minus training cross-entropy", "conv5_b34", "conv5_b53", digits=3
    )
    yield f"(differences of {beyond})"
    closed = between(
        "gap closed, in cross-entropy",
        "conv5_b51 against conv5_b53",
        "conv5_b52 against conv5_b54",
        digits=3,
    )
    yield f"test and training loss by {closed}"
    a4, plain = found["conv3_a4"], ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")
    ends = [f"{100 * judging.accuracy(a4[seed]):.2f}" for seed in range(3)]
    yield f"{ends[0]}, {ends[1]} and {ends[2]} % in the three planned seeds"
    ends = [judging.accuracy(run) for run in a4.values()]
    shown = in_percent((min(ends), max(ends), np.mean(ends)))
    yield "They end between {} and {} %".format(*shown)
    yield f"the mean of all {len(ends)} is {shown[2]} %"
    assert sum(end < said["conv3_a4"].test_accuracy for end in ends) == 2, "two of them"
    (part,) = verdicts["A-3"].parts
    pairs = [100 * value for value in part.planned]
    yield f"Over {len(pairs)} pairs A4 has {-np.mean(pairs):.2f} points less without"
    yield "from {:.2f} to {:.2f} that".format(*(100 * end for end in part.interval))
    yield f"differ by {min(pairs):.2f} to {max(pairs):.2f} points"
    both = (a4, found["conv3_a4_no_first_dropout"])
    spreads = [np.std([judging.accuracy(run) for run in own.values()], ddof=1)
               for own in both]  # fmt: skip
    yield "deviations of {:.1f} and {:.1f} points".format(*np.multiply(100, spreads))
    yield f"{100 * reported.history('conv3_a4')[3]['val_accuracy']:.2f} % in 2019"
    rises = between("last test loss over lowest", *plain, digits=2)
    yield f"ends {rises} times its lowest value"
    names = {5: "five", 7: "seven", 13: "thirteen", 18: "eighteen"}
    ways = [verdict.verdict for verdict in verdicts.values()]
    held, failed = map(ways.count, (judging.SUPPORTED, judging.CONTRADICTED))
    yield f"conclusions {names[held + failed]} are decided, and {names[failed]} of"
    lowest = [v for name in plain for v in parts[name, "epoch of the lowest test loss"]]
    early = sum(epoch < 10 for epoch in lowest)
    yield f"the {min(lowest):.0f}th to the {max(lowest):.0f}th between seeds. Of their"
    yield f"Of their {names[len(lowest)]} runs, {names[early]} have the lowest loss"
    deep = ("conv2_c1", "conv5_c2", "conv7_c3")
    first = [
        next(e["epoch"] for e in run.history if e["val_accuracy"] >= 0.97)
        for name in deep
        for run in found[name].values()
    ]
    assert first[:3] == [1, 1, 1], "after its first epoch in all three seeds"
    yield "five, after {}, {} and {}; C3, with eight, after {}, {} and {}.".format(
        *first[3:]
    )
    ahead = [
        100 * value
        for name in deep[1:]
        for value in parts[f"conv2_c1 minus {name}", "difference of test accuracy"]
    ]
    yield f"ends {min(ahead):.2f} to {max(ahead):.2f} points above C2 and C3"
    gaps = [
        [
            100 * (run.record["train"]["accuracy"] - judging.accuracy(run))
            for run in found[name].values()
        ]
        for name in deep
    ]
    c1, c2, c3 = (f"{min(own):.2f} to {max(own):.2f}" for own in gaps)
    yield f"is {c1} points above test accuracy in C1, {c2} in C2 and {c3} in C3"
    lower = {
        part.about: [100 * value for value in part.planned]
        for part in verdicts["B-3"].parts
    }
    short = lower.pop("conv3_b31 minus conv3_b33")
    long = [-x for x in lower.pop("conv3_b33_75_epochs minus conv3_b31_75_epochs")]
    alike = lower.pop("conv2_b23_75_epochs minus conv2_b21_75_epochs")
    rest = [x for values in lower.values() for x in values]
    yield f"{min(short):.2f} to {max(short):.2f} points below B31 after 25 epochs, and"
    yield f"after 75 still {min(long):.2f} to {max(long):.2f} points below it"
    yield f"model is {max(rest):.2f} points lower to {-min(rest):.2f} points higher"
    yield f"{-min(alike):.2f} points below to {max(alike):.2f} points above B21"
    behind, *others = verdicts["D-1"].parts
    gaps = sorted(-100 * value for value in behind.planned)
    yield f"D2 ends {gaps[0]:.2f} to {gaps[-1]:.2f} points above it in each"
    yield f"{100 * behind.rule.reported:.2f} points below"
    yield "zero ({:.2f} to {:.2f} points)".format(*(100 * x for x in behind.interval))
    assert [part.verdict for part in others[1:]] == [judging.SUPPORTED] * 2
    gaps = sorted(100 * value for value in others[1].planned)
    yield f"(D1 minus D3 is {gaps[0]:.2f} to {gaps[-1]:.2f} points)"
    share = between("ratio of CPU seconds", "conv7_d3 over conv3_d1", digits=2)
    yield f"D3 takes {share.partition(' ')[0]} times D1's processor time"
    ratio, difference = (
        "validation over training loss",
        "validation minus training loss",
    )
    yield f"ends {between(ratio, 'mlp_e1')} times its training loss"
    yield f"differ by {between(difference, 'mlp_e3', digits=3)}"
    yield f"factor of {between(ratio, 'mlp_e3')}; the limits"
    gaps = [reported.history(name)[-1] for name in ("mlp_e2", "mlp_e3")]
    gaps = [f"{entry['val_loss'] - entry['loss']:.3f}" for entry in gaps]
    yield f"differences of {gaps[0]} and {gaps[1]}"
    tails = between("excess kurtosis", "mlp_e2 dense_1", "mlp_e3 dense_1")
    yield f"excess kurtosis {tails}"
    flat = between("excess kurtosis", "mlp_e2 output", "mlp_e3 output")
    yield f"output layers are flat ({flat})"
    dark = int(((digits.x_train > 0).mean(axis=0) < 0.01).sum())
    yield f"{dark} of the 784 pixels"

    yield f"still weighs {100 * 0.99**118:.0f} % after one epoch"
    yield f"{100 * 0.99**236:.0f} % after two"
    rows = [[entry["val_accuracy"] for entry in reported.history("conv3_a3")]]
    for run in found["conv3_a3"].values():
        for way in ("plain", "debiased"):
            rows.append([entry[way]["accuracy"] for entry in run.batchnorm])
    for three in map(in_percent, rows):
        yield f"{three[0]}, {three[1]} and {three[2]} %"
    both = a4[3].batchnorm[0]
    losses = [both[way]["cross_entropy"] for way in ("plain", "debiased")]
    ways = [both[way]["accuracy"] for way in ("plain", "debiased")]
    yield f"cross-entropy of {losses[0]:.3f}"
    yield f"of {losses[1]:.3f} debiased"
    yield f"{100 * ways[0]:.2f} and {100 * ways[1]:.2f} %"
    yield f"(2019: {100 * reported.history('conv3_a4')[0]['val_accuracy']:.2f} %)"

    swing = percents(found["conv7_b71"][0], (21, 24, 25))
    yield f"{swing[0]} % after 21 epochs, {swing[1]} % after 24 and {swing[2]} % at its"
    then = said["conv7_b71"]
    yield f"2019 has {100 * then.test_accuracy:.2f} % and a test loss of"
    ours = found["conv7_b71"][0].history[-1]["val_loss"]
    yield f"{then.test_loss:.3f} (ours: {ours:.3f})"

    d2, printed = found["conv5_d2"].values(), reported.history("conv5_d2")[0]
    yield f"{100 * printed['val_accuracy']:.2f} % after an epoch"
    yield f"training loss of {printed['loss']:.3f}, above the {np.log(10):.3f}"
    starts = sorted(percents(run, [1])[0] for run in d2)
    losses = sorted(f"{run.history[0]['loss']:.3f}" for run in d2)
    yield f"{starts[0]} to {starts[-1]} % and {losses[0]} to {losses[-1]} after its"
    then = said["conv5_d2"].test_accuracy
    higher = sorted(100 * (judging.accuracy(run) - then) for run in d2)
    yield f"ends {higher[0]:.2f} to {higher[-1]:.2f} points higher: *another training*"
    other = [n for n in said if judging.trajectory(n, runs).verdict == judging.OTHER]
    assert sorted(other) == ["conv3_a3", "conv5_d2"], "the only one beside A3's"
    half, *others = store.committed_runs("conv5_d2_dropout_half")
    starts = [percents(run, [1])[0] for run in others]
    losses = [f"{run.history[0]['loss']:.3f}" for run in others]
    yield f"seeds 1 and 2 have {starts[0]} and {starts[1]} % after their first (losses"
    yield f"(losses of {losses[0]} and {losses[1]})"
    third = reported.history("conv5_d2")[2]
    at_end = f"{percents(half, [3])[0]} %, a training loss of"
    yield f"({at_end} {half.history[-1]['loss']:.3f}), where 2019 had"
    yield f"had {100 * third['val_accuracy']:.2f} % and {third['loss']:.3f}"
    pair = [found[name][0].history[0]["loss"] for name in ("conv3_d1", "conv7_d3")]
    then = [reported.history(name)[0]["loss"] for name in ("conv3_d1", "conv7_d3")]
    yield f"losses of {pair[0]:.3f} and {pair[1]:.3f} where 2019 has"
    yield f"has {then[0]:.3f} and {then[1]:.3f})"

    c2 = found["conv5_c2"].values()
    yield "end at {}, {} and {} %".format(*in_percent(map(judging.accuracy, c2)))
    losses = [f"{run.history[-1]['val_loss']:.3f}" for run in c2]
    yield f"test losses of {losses[0]}, {losses[1]} and {losses[2]}"
    study = json.loads((ROOT / "studies/c2_tails.json").read_text())
    assert (len(study["tails"]), study["epochs"], study["below_90"]) == (20, 20, 7)
    low = [tail for tail in study["tails"] if tail["accuracy"] < 0.9]
    lost = [share for tail in low for share in tail["recall"] if share < 0.5]
    kept = [share for tail in low for share in tail["recall"] if share >= 0.5]
    assert len(lost) == 8, "one of them has lost two"
    yield "Seven of these end below 90 %"
    yield f"at most {100 * max(lost):.0f} %, that of the others {100 * min(kept):.0f} %"
    yield f"ends at {100 * min(tail['accuracy'] for tail in low):.2f} %: 2019's"
    stays = in_percent(study["tails"][11]["test_accuracy"][:17])
    yield f"Seed 11 has {min(stays)} to {max(stays)} % for 17 epochs"
    yield f"{100 * said['conv5_c2'].test_accuracy:.2f} % is what two lost digits leave"


def test_the_numbers_in_the_findings_are_those_of_the_runs(digits):
    text = " ".join((ROOT / "docs/findings.md").read_text().split())
    parts = list(numbers_of_the_findings(store.evidence(), digits))
    assert [part for part in parts if part not in text] == []


def test_readme_and_findings_tell_the_story_of_the_evidence():
    """`make tables` writes it."""
    story = summary.told(tell(store.evidence()))
    for path in ("README.md", "docs/findings.md"):
        assert story in (ROOT / path).read_text(), path


def test_the_coverage_in_results_is_that_of_its_runs(digits):
    table = summary.coverage_table(list(evidence.wanted(digits)), store.evidence())
    assert table in (ROOT / "results/README.md").read_text()


def test_a_row_of_the_readme_says_what_the_runs_say():
    runs = seeds("conv2_a2", accuracy=0.9877)
    gathered = comparison.Gathered([], runs, [], [])
    rows = {
        cells[1]: cells
        for line in summary.models_table(gathered.full).splitlines()
        for cells in [[cell.strip() for cell in line.split("|")]]
    }
    assert rows["conv2_a2"][2:10] == [
        "98.77", "98.77", "3", "98.52 to 99.02", "reproduced",
        "0.63 (0.63 to 0.63)", "other training", "1,199,882",
    ]  # fmt: skip
    assert rows["mlp_e1"][3:7] == ["", "", "", "not tested"]
    said = summary.conclusions_table(gathered)
    assert said.count("not tested") == len(reported.conclusions())


@pytest.fixture(scope="module")
def trained(digits, finished, tmp_path_factory):
    """A run of three epochs, as if it were evidence."""
    spec = make_spec(digits)
    out = tmp_path_factory.mktemp("trained")
    run = store.write_run(out, spec, finished, environment())
    return spec, store.read_run(run.folder, "evidence")


def changed(run, path, value):
    record = json.loads(json.dumps(run.record))
    *parents, last = path
    part = record
    for name in parents:
        part = part[name]
    part[last] = value
    return Run(record, run.folder, "evidence")


def test_a_first_epoch_trained_again_has_the_same_hash(trained, digits, capsys):
    spec, run = trained
    other = changed(run, ("history", 0, "weights_sha256"), "0" * 64)
    assert evidence.verify_runs([(spec, run)], digits)
    said = capsys.readouterr().out
    assert "agrees: weights" in said
    assert run.history[0]["weights_sha256"][:12] in said
    assert not evidence.verify_runs([(spec, other)], digits)
    assert "DIFFERS: weights" in capsys.readouterr().out


def test_a_whole_run_trained_again_is_compared_at_its_end(trained, digits, capsys):
    spec, run = trained
    assert evidence.verify_runs([(spec, run)], digits, epochs=None)
    assert run.record["weights_sha256"][:12] in capsys.readouterr().out
    other = changed(run, ("history", -1, "weights_sha256"), "0" * 64)
    assert evidence.verify_runs([(spec, other)], digits), "the first epoch is as it was"
    assert not evidence.verify_runs([(spec, other)], digits, epochs=None)


def test_a_record_that_does_not_name_its_processor_is_of_another_machine(
    trained, digits, capsys
):
    """EPYC is several processors: other bits there are no fault of the record."""
    spec, run = trained
    unnamed = changed(run, ("history", 0, "weights_sha256"), "0" * 64)
    del unnamed.record["environment"]["processor_model"]
    assert evidence.verify_runs([(spec, unnamed)], digits)
    assert "agrees: other processor or GPU" in capsys.readouterr().out


def test_predictions_are_those_of_the_kept_weights(digits, capsys, tmp_path):
    run = next(r for r in store.committed_runs("mlp_e1") if r.has_weights)
    assert evidence.verify_weights([run], digits)
    assert "agrees: from its weights, " in capsys.readouterr().out
    damaged = tmp_path / "damaged"
    shutil.copytree(run.folder, damaged)
    weights = run.weights()
    weights["output/kernel"] = weights["output/kernel"][:, ::-1]
    np.savez(damaged / "weights.npz", **weights)
    assert not evidence.verify_weights([Run(run.record, damaged)], digits)
    assert "DIFFERS: from its weights" in capsys.readouterr().out


def test_the_cheapest_of_each_family_are_verified_first(digits):
    families = ("mlp", "conv2", "conv7")
    specs = [
        spec for name in families for spec in study.specify(name, digits, seeds=(0, 1))
    ]
    order = evidence.cheapest_first([(spec, None) for spec in specs])
    names = [spec.task.experiment.name for spec, _ in order]
    assert names[:4] == ["mlp_e1", "conv7_c3", "conv2_b21", "mlp_e2"]
    assert len(set(names[: len(names) // 2])) == len(names) // 2, "each, then again"


def test_on_another_processor_it_compares_accuracies_and_says_so(
    trained, digits, capsys
):
    spec, run = trained
    there = changed(run, ("environment", "processor"), "Another One")
    there = changed(there, ("history", 0, "weights_sha256"), "0" * 64)
    assert evidence.verify_runs([(spec, there)], digits)
    assert "agrees: other processor or GPU (Another One)" in capsys.readouterr().out
    far = changed(there, ("history", 0, "val_accuracy"), 2.0)
    assert not evidence.verify_runs([(spec, far)], digits)
    assert "DIFFERS: other processor" in capsys.readouterr().out


def test_runs_that_failed_are_named_in_the_end_and_the_others_kept(
    digits, tmp_path, monkeypatch, capsys
):
    """And so `make evidence` does not end as if all of them were there."""
    specs = [make_spec(digits, experiment) for experiment in (EXPLODES, TINY)]
    line = evidence.Wanted("a test", (EXPLODES, TINY))
    monkeypatch.setattr(evidence, "wanted", lambda _: dict.fromkeys(specs, line))
    monkeypatch.setattr(evidence, "commit", lambda: "a" * 40)
    kept = []
    monkeypatch.setattr(evidence, "keep", kept.append)
    monkeypatch.setattr("sys.argv", ["evidence", "train", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="not trained, see above: explodes, seed 0$"):
        evidence.main()
    assert [run.name for run in kept] == ["tiny"]
    assert "not a finite number" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["evidence", "train", "--nope"])
    with pytest.raises(SystemExit, match="^2$"):
        evidence.main()


def test_scores_that_lack_an_epoch_do_not_count_and_end_no_training(
    digits, tmp_path, monkeypatch
):
    """As after a kill between the first checkpoint and its scores."""
    spec = make_spec(digits)
    monkeypatch.setattr(batchnorm, "score_both", lambda *_: {})

    def report(progress):
        if progress.kind == "epoch" and len(progress.history) > 1:
            epoch = len(progress.history)
            batchnorm.score_epoch(tmp_path, progress.spec, epoch, digits)

    (result,) = schedule.train_runs([spec], digits, tmp_path, report=report)
    kept = json.loads((result.run.folder / "batchnorm.json").read_text())
    assert [entry["epoch"] for entry in kept["epochs"]] == [2, 3]
    assert result.run.batchnorm is None


def test_both_ways_of_batch_normalisation_are_scored_after_every_epoch(
    digits, tmp_path
):
    (spec,) = study.specify(
        [EXPERIMENTS["conv2_a5"]], digits, profile="smoke", epochs=3, seeds=[0]
    )
    assert batchnorm.is_scored(spec)
    few = replace(digits, x_test=digits.x_test[:500], y_test=digits.y_test[:500])

    def report(progress):
        if progress.kind == "epoch":
            epoch = len(progress.history)
            batchnorm.score_epoch(tmp_path, progress.spec, epoch, few)

    (result,) = schedule.train_runs([spec], digits, tmp_path, report=report)
    scores = result.run.batchnorm
    assert [entry["epoch"] for entry in scores] == [1, 2, 3]
    # One batch an epoch: what is stored lags far behind, what is debiased does not.
    assert all(e["plain"] != e["debiased"] for e in scores)
    same = study.specify([EXPERIMENTS["mlp_e1"]], digits, seeds=[0])
    assert not batchnorm.is_scored(same[0]), "E has no batch normalisation in E1"
