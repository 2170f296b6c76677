"""The committed evidence: small, whole, verified by training, and in the README."""

import json
import re
import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from conftest import EXPERIMENTS, EXPLODES, ROOT, TINY, make_spec, seeds

from mnistlab import claims, comparison, judging, reported, schedule, store, study
from mnistlab.claims import measures
from mnistlab.environment import environment
from mnistlab.runs import Run
from reports import batchnorm, evidence, summary, verify


def test_the_evidence_is_small_and_of_clean_commits():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 45 * 2**20
    runs = store.evidence()
    assert runs
    for run in runs:
        assert re.fullmatch("[0-9a-f]{40}", run.record["commit"]), run


def test_one_run_of_a_model_keeps_its_weights_as_float16():
    kept = [run for run in store.evidence() if (run.folder / "weights.npz").exists()]
    names = [run.name for run in kept]
    assert kept
    assert len(set(names)) == len(names)
    for run in kept:
        assert run.compares_with_2019
        with np.load(run.folder / "weights.npz") as file:
            for array in file.values():
                is_large = np.abs(array).max() >= 65_504  # where float16 ends
                assert array.dtype == (np.float32 if is_large else np.float16), run
        weights = run.weights()
        assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
        assert all(np.isfinite(values).all() for values in weights.values()), run
        kernel = weights[f"{run.record['first_kernel']['name']}/kernel"]
        stored = np.array(run.record["first_kernel"]["values"])
        shape = run.record["first_kernel"]["shape"]
        np.testing.assert_allclose(
            kernel[..., : shape[-1]].ravel(), stored, rtol=2e-3, atol=1e-4
        )


def test_the_pages_have_the_tables_and_the_story_of_the_evidence(monkeypatch):
    """`make tables` writes them."""
    found = []

    def find(text, name, content):
        assert content in text, name
        found.append(name)
        return text

    monkeypatch.setattr(summary, "between", find)
    monkeypatch.setattr(store, "write_atomically", lambda *_: None)
    evidence.tables.callback()
    in_readme, in_results = ["story", "models", "conclusions"], ["coverage"]
    assert found == [*in_readme, *in_results, "story", "rules", "inputs", "epochs"]


def in_points(shares):
    return [100 * share for share in shares]


def in_percent(shares):
    return [f"{points:.2f}" for points in in_points(shares)]


def percents(run, epochs):
    return in_percent(run.history[e - 1]["val_accuracy"] for e in epochs)


def losses(entries):
    return [f"{entry['loss']:.3f}" for entry in entries]


def listed(values, form="{}"):
    *others, last = map(form.format, values)
    return f"{', '.join(others)} and {last}"


def span(values, digits=2):
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def numbers_of_the_findings(runs, digits):
    """Parts of sentences of docs/findings.md, with their numbers as the runs are."""
    found = {
        name: [by_seed[seed] for seed in sorted(by_seed)]
        for name, by_seed in judging.comparable(runs).items()
    }
    accuracies = {n: [judging.accuracy(run) for run in own] for n, own in found.items()}
    firsts = {name: [run.history[0] for run in own] for name, own in found.items()}
    said = reported.finals()
    verdicts = claims.judge_all(runs)
    parts = {
        (part.about, part.rule.quantity): part.planned
        for verdict in verdicts.values()
        for part in verdict.parts
    }

    def between(quantity, *names, digits=1):
        return span([v for name in names for v in parts[name, quantity]], digits)

    names = {4: "four", 5: "five", 7: "seven", 13: "thirteen", 18: "eighteen"}

    # A
    a3, control = found["conv3_a3"], found["conv3_a3_adadelta"]
    scores = [[entry["debiased"]["accuracy"] for entry in run.batchnorm] for run in a3]
    debiased = [measures.first_epoch(of_run, 0.985) for of_run in scores]
    saved = parts["conv3_a1 minus conv3_a3", "epochs saved"]
    sooner = [int(n + more) for n, more in zip(debiased, saved, strict=True)]
    yield f"after {listed(debiased)} epochs, A1 after {listed(sooner)}"
    dearer = between("ratio of CPU seconds", "conv3_a1 over conv3_a3", digits=2)
    yield f"gets there in {dearer} times"
    ratios = judging.trajectory("conv3_a3", a3).values
    yield f"2019's are {listed(ratios, '{:.2f}')} times ours"
    then = reported.history("conv3_a3")[0]["loss"]
    yield f"{then:.3f} in 2019 and {listed(losses(firsts['conv3_a3']))} in our"
    by_table = judging.trajectory("conv3_a3", control, control="conv3_a3_adadelta")
    assert by_table.verdict == judging.OTHER, "They are not."
    yield f"2019's are {listed(by_table.values, '{:.2f}')} times these"
    yield f"nearer to 2019's ({listed(losses(firsts['conv3_a3_adadelta']))})"
    yield f"end at {listed(in_percent(accuracies['conv3_a3_adadelta']))} %"
    yield f"seeds with Adam {listed(in_percent(accuracies['conv3_a3']))} %"
    ends_below = verdicts["A-2"].parts[0].interval
    yield f"interval of its mean is {span(in_points(ends_below))} % for"
    ends, without = accuracies["conv3_a4"], accuracies["conv3_a4_no_first_dropout"]
    yield f"{listed(in_percent(ends[:3]))} % in the three planned seeds"
    yield f"They end between {listed(in_percent([min(ends), max(ends)]))} %"
    yield f"the mean of all {len(ends)} is {100 * np.mean(ends):.2f} %"
    assert sum(end < said["conv3_a4"].test_accuracy for end in ends) == 2, "two of them"
    (part,) = verdicts["A-3"].parts
    pairs = in_points(part.planned)
    yield f"Over {len(pairs)} pairs A4 has {-np.mean(pairs):.2f} points less without"
    yield f"from {span(in_points(part.interval))} that"
    yield f"differ by {span(pairs)} points"
    spreads = [np.std(own, ddof=1) for own in (ends, without)]
    yield f"deviations of {listed(in_points(spreads), '{:.1f}')} points"
    yield f"{100 * reported.history('conv3_a4')[3]['val_accuracy']:.2f} % in 2019"

    # B
    plain = ("conv2_b21", "conv2_b22", "conv3_b31", "conv3_b32")
    b54 = judging.reproduction("conv5_b54", found["conv5_b54"])
    ends, then = listed(in_percent(b54.values)), 100 * b54.reported
    yield f"at {ends} %: so near each other that 2019's {then:.2f} %"
    yield f"outside their interval ({span(in_points(b54.interval))} %)"
    beyond = "test minus training cross-entropy"
    yield f"(differences of {between(beyond, 'conv5_b34', 'conv5_b53', digits=3)})"
    closed = between(
        "gap closed, in cross-entropy",
        "conv5_b51 against conv5_b53",
        "conv5_b52 against conv5_b54",
        digits=3,
    )
    yield f"test and training loss by {closed}"
    rises = between("last test loss over lowest", *plain, digits=2)
    yield f"ends {rises} times its lowest value"
    tested = [part for part in verdicts["B-2"].parts if part.is_tested]
    within = sum(part.verdict == judging.SUPPORTED for part in tested)
    yield f"Of {names[len(tested)]} models with three seeds, {names[within]} end"
    machines = {run.record["environment"].get("processor_model") for run in runs}
    yield f"of {names[len(machines - {None})]} processor models"
    ways = [verdict.verdict for verdict in verdicts.values()]
    held, failed = map(ways.count, (judging.SUPPORTED, judging.CONTRADICTED))
    yield f"conclusions {names[held + failed]} are decided, and {names[failed]} of"
    lowest = [v for name in plain for v in parts[name, "epoch of the lowest test loss"]]
    early = sum(epoch < 10 for epoch in lowest)
    yield f"the {min(lowest):.0f}th to the {max(lowest):.0f}th between seeds. Of their"
    yield f"Of their {names[len(lowest)]} runs, {names[early]} have the lowest loss"
    lower = {part.about: in_points(part.planned) for part in verdicts["B-3"].parts}
    short = lower.pop("conv3_b31 minus conv3_b33")
    long = [-x for x in lower.pop("conv3_b33_75_epochs minus conv3_b31_75_epochs")]
    alike = lower.pop("conv2_b23_75_epochs minus conv2_b21_75_epochs")
    rest = [x for values in lower.values() for x in values]
    yield f"{span(short)} points below B31 after 25 epochs, and"
    yield f"after 75 still {span(long)} points below it"
    yield f"model is {max(rest):.2f} points lower to {-min(rest):.2f} points higher"
    yield f"{-min(alike):.2f} points below to {max(alike):.2f} points above B21"

    # C and D
    deep = ("conv2_c1", "conv5_c2", "conv7_c3")
    reached = [
        measures.first_epoch([entry["val_accuracy"] for entry in run.history], 0.97)
        for name in deep
        for run in found[name]
    ]
    assert reached[:3] == [1, 1, 1], "after its first epoch in all three seeds"
    of_c2, of_c3 = listed(reached[3:6]), listed(reached[6:9])
    yield f"five, after {of_c2}; C3, with eight, after {of_c3}."
    ahead = [
        value
        for name in deep[1:]
        for value in parts[f"conv2_c1 minus {name}", "difference of test accuracy"]
    ]
    yield f"ends {span(in_points(ahead))} points above C2 and C3"
    c1, c2, c3 = (
        span([
            100 * (run.record["train"]["accuracy"] - judging.accuracy(run))
            for run in found[name]
        ])
        for name in deep
    )  # fmt: skip
    yield f"is {c1} points above test accuracy in C1, {c2} in C2 and {c3} in C3"
    behind, *others = verdicts["D-1"].parts
    gaps = [-x for x in in_points(behind.planned)]
    yield f"D2 ends {span(gaps)} points above it in each"
    yield f"{100 * behind.rule.reported:.2f} points below"
    yield f"zero ({span(in_points(behind.interval))} points)"
    assert [part.verdict for part in others[1:]] == [judging.SUPPORTED] * 2
    yield f"(D1 minus D3 is {span(in_points(others[1].planned))} points)"
    share = between("ratio of CPU seconds", "conv7_d3 over conv3_d1", digits=2)
    yield f"D3 takes {share.partition(' ')[0]} times D1's processor time"

    # E
    ratio = "validation over training loss"
    difference = "validation minus training loss"
    yield f"ends {between(ratio, 'mlp_e1')} times its training loss"
    yield f"differ by {between(difference, 'mlp_e3', digits=3)}"
    yield f"factor of {between(ratio, 'mlp_e3')}; the limits"
    gaps = [reported.history(name)[-1] for name in ("mlp_e2", "mlp_e3")]
    gaps = [entry["val_loss"] - entry["loss"] for entry in gaps]
    yield f"differences of {listed(gaps, '{:.3f}')}"
    tails = between("excess kurtosis", "mlp_e2 dense_1", "mlp_e3 dense_1")
    yield f"excess kurtosis {tails}"
    flat = between("excess kurtosis", "mlp_e2 output", "mlp_e3 output")
    yield f"output layers are flat ({flat})"
    dark = int(((digits.x_train > 0).mean(axis=0) < 0.01).sum())
    yield f"{dark} of the 784 pixels"

    # Batch normalisation in A's first epochs
    yield f"still weighs {100 * 0.99**118:.0f} % after one epoch"
    yield f"{100 * 0.99**236:.0f} % after two"
    rows = [[entry["val_accuracy"] for entry in reported.history("conv3_a3")]]
    for run in a3:
        for way in ("plain", "debiased"):
            rows.append([entry[way]["accuracy"] for entry in run.batchnorm])
    for row in rows:
        yield f"{listed(in_percent(row[:3]))} %"
    both = [found["conv3_a4"][3].batchnorm[0][way] for way in ("plain", "debiased")]
    plain, debiased = [scores["cross_entropy"] for scores in both]
    yield f"cross-entropy of {plain:.3f}"
    yield f"of {debiased:.3f} debiased"
    yield f"{listed(in_percent(scores['accuracy'] for scores in both))} %"
    yield f"(2019: {100 * reported.history('conv3_a4')[0]['val_accuracy']:.2f} %)"

    # B71
    b71, then = found["conv7_b71"], said["conv7_b71"]
    swing = percents(b71[0], (21, 24, 25))
    yield f"{swing[0]} % after 21 epochs, {swing[1]} % after 24 and {swing[2]} % at its"
    yield f"Seeds 1 and 2 end at {listed(in_percent(accuracies['conv7_b71'][1:]))} %"
    yield f"2019 has {100 * then.test_accuracy:.2f} % and a test loss of"
    ends = [f"{run.history[-1]['val_loss']:.3f}" for run in b71]
    yield f"{then.test_loss:.3f} (ours: {listed(ends)})"

    # B72
    (b72,), then = found["conv7_b72"], said["conv7_b72"]
    (end,), loss = in_percent([judging.accuracy(b72)]), b72.history[-1]["val_loss"]
    yield f"It ends at {end} % with a test loss of {loss:.3f}, where"
    yield f"2019 has {100 * then.test_accuracy:.2f} % and {then.test_loss:.3f}."
    log = reported.history("conv7_b72")
    printed = {entry["epoch"]: entry["loss"] for entry in log if entry["loss"]}
    ratios = [loss / b72.history[int(n) - 1]["loss"] for n, loss in printed.items()]
    ratio = np.exp(np.mean(np.log(ratios)))
    yield f"are {ratio:.2f} times ours over the {names[len(ratios)]} epochs that it"

    # D2
    printed = reported.history("conv5_d2")
    yield f"{100 * printed[0]['val_accuracy']:.2f} % after an epoch"
    yield f"training loss of {printed[0]['loss']:.3f}, above the {np.log(10):.3f}"
    starts = span(in_points(entry["val_accuracy"] for entry in firsts["conv5_d2"]))
    low, _, high = sorted(losses(firsts["conv5_d2"]))
    yield f"{starts} % and {low} to {high} after its"
    higher = np.subtract(accuracies["conv5_d2"], said["conv5_d2"].test_accuracy)
    yield f"ends {span(in_points(higher))} points higher: *another training*"
    other = [n for n in said if judging.trajectory(n, runs).verdict == judging.OTHER]
    assert sorted(other) == ["conv3_a3", "conv5_d2"], "the only one beside A3's"
    half, *others = store.committed_runs("conv5_d2_dropout_half")
    starts = in_percent(run.history[0]["val_accuracy"] for run in others)
    yield f"seeds 1 and 2 have {listed(starts)} % after their first (losses"
    yield f"(losses of {listed(losses(run.history[0] for run in others))})"
    (ends,), (loss,) = percents(half, [3]), losses([half.history[-1]])
    yield f"({ends} %, a training loss of {loss}), where 2019 had"
    third = printed[2]
    yield f"had {100 * third['val_accuracy']:.2f} % and {third['loss']:.3f}"
    climbs, stays, too = store.committed_runs("conv5_d2_dropout_three_quarters")
    assert stays.history[-1]["accuracy"] < 0.12, "Seed 1 stays at a guess."
    yield f"their losses are {listed(losses(climbs.history))}, and"
    yield f"and {listed(losses(too.history))}, where 2019 has"
    yield f"2019 has {listed(losses(printed[:3]))}. But"
    ends = in_percent(run.history[-1]["val_accuracy"] for run in (climbs, too))
    yield f"test accuracies are {listed(ends)} % after three"
    yield f"2019 had {100 * third['val_accuracy']:.2f} %. So"
    pair = ("conv3_d1", "conv7_d3")
    ours = losses(firsts[name][0] for name in pair)
    yield f"losses of {listed(ours)} where 2019 has"
    then = losses(reported.history(name)[0] for name in pair)
    yield f"has {listed(then)})"

    # C2
    yield f"end at {listed(in_percent(accuracies['conv5_c2']))} %"
    ends = [run.history[-1]["val_loss"] for run in found["conv5_c2"]]
    yield f"test losses of {listed(ends, '{:.3f}')}"
    ends = in_points(run.history[-1]["accuracy"] for run in found["conv5_c2"])
    yield f"with dropout on, end at {span(ends)} %"
    study = json.loads((ROOT / "studies/c2_tails.json").read_text())
    assert (len(study["tails"]), study["epochs"], study["below_90"]) == (20, 20, 7)
    low = [tail for tail in study["tails"] if tail["accuracy"] < 0.9]
    lost = [share for tail in low for share in tail["recall"] if share < 0.5]
    kept = [share for tail in low for share in tail["recall"] if share >= 0.5]
    assert len(lost) == 8, "one of them has lost two"
    yield "Seven of these end below 90 %"
    yield f"at most {100 * max(lost):.0f} %, that of the others {100 * min(kept):.0f} %"
    yield f"ends at {100 * min(tail['accuracy'] for tail in low):.2f} %: 2019's"
    stays = in_points(study["tails"][11]["test_accuracy"][:17])
    yield f"Seed 11 has {span(stays)} % for 17 epochs"
    yield f"{100 * said['conv5_c2'].test_accuracy:.2f} % is what two lost digits leave"
    held_out = [run for run in runs if run.record["protocol"] == "holdout"]
    (size,) = {run.trained_images for run in held_out}
    yield f"on {size:,} images and validated on the other {60_000 - size:,} (`holdout`"
    apart = [
        judging.accuracy(run) - judging.accuracy(found[run.name][run.seed])
        for run in held_out
    ]
    yield f"end {span(in_points(apart))} points from the same seed's run"


def test_the_numbers_in_the_findings_are_those_of_the_runs(digits):
    text = " ".join((ROOT / "docs/findings.md").read_text().split())
    parts = list(numbers_of_the_findings(store.evidence(), digits))
    assert [part for part in parts if part not in text] == []


def rows_of(table):
    """The cells of a table in Markdown, by what is in the first column."""
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row] for row in rows}


def test_a_row_of_the_readme_says_what_the_runs_say():
    runs = seeds("conv2_a2", accuracy=0.9877)
    gathered = comparison.Gathered([], runs, [], [])
    rows = rows_of(summary.models_table(gathered.full))
    of_2019 = [name for name in EXPERIMENTS if name in reported.finals()]
    assert [name for name in rows if name in EXPERIMENTS] == of_2019
    assert len(of_2019) == 28
    # The interval is 98.77 ± 4.3027 * 0.05 * sqrt(4/3). Our losses are 0.5 after an
    # epoch, 0.25 after two and so on.
    assert rows["conv2_a2"][1:9] == [
        "98.77", "98.77", "3", "98.52 to 99.02", "reproduced",
        "0.63 (0.63 to 0.63)", "other training", "1,199,882",
    ]  # fmt: skip
    assert rows["mlp_e1"][2:6] == ["", "", "", "not tested"]
    said = summary.conclusions_table(gathered)
    assert said.count("not tested") == len(reported.conclusions())


def test_the_epochs_in_the_findings_are_those_that_2019_printed():
    rows = rows_of(summary.epochs_table([]))
    a3 = ["1, 2, 3, 4, 5", "2019", "97.7, 98.9, 98.9, 99.0, 99.0"]
    assert rows["conv3_a3"][2:] == a3


@pytest.fixture(scope="module")
def trained(digits, finished, tmp_path_factory):
    """A run of three epochs, as if it were evidence."""
    spec = make_spec(digits)
    out = tmp_path_factory.mktemp("trained")
    run = store.write_run(out, spec, finished, environment())
    return spec, store.read_run(run.folder, "evidence")


def a_copy(run):
    return Run(deepcopy(run.record), run.folder, "evidence")


def with_other_weights(run, epoch=0):
    other = a_copy(run)
    other.history[epoch]["weights_sha256"] = "0" * 64
    return other


def test_a_first_epoch_trained_again_has_the_same_hash(trained, digits, capsys):
    spec, run = trained
    other = with_other_weights(run)
    assert verify.verify_runs([(spec, run)], digits)
    said = capsys.readouterr().out
    assert "agrees: weights" in said
    assert run.history[0]["weights_sha256"][:12] in said
    assert not verify.verify_runs([(spec, other)], digits)
    assert "DIFFERS: weights" in capsys.readouterr().out


def test_a_whole_run_trained_again_is_compared_at_its_end(trained, digits, capsys):
    spec, run = trained
    assert verify.verify_runs([(spec, run)], digits, epochs=None)
    assert run.record["weights_sha256"][:12] in capsys.readouterr().out
    other = with_other_weights(run, epoch=-1)
    assert verify.verify_runs([(spec, other)], digits), "the first epoch is as it was"
    assert not verify.verify_runs([(spec, other)], digits, epochs=None)


def test_a_record_that_does_not_name_its_processor_is_of_another_machine(
    trained, digits, capsys
):
    """EPYC is several processors: other bits there are no fault of the record."""
    spec, run = trained
    unnamed = with_other_weights(run)
    del unnamed.record["environment"]["processor_model"]
    assert verify.verify_runs([(spec, unnamed)], digits)
    assert "agrees: other processor or GPU" in capsys.readouterr().out


def test_predictions_are_those_of_the_kept_weights(digits, capsys, tmp_path):
    run = next(r for r in store.committed_runs("mlp_e1") if r.has_weights)
    assert verify.verify_weights([run], digits)
    assert "agrees: from its weights, " in capsys.readouterr().out
    damaged = tmp_path / "damaged"
    shutil.copytree(run.folder, damaged)
    weights = run.weights()
    weights["output/kernel"] = weights["output/kernel"][:, ::-1]
    np.savez(damaged / "weights.npz", **weights)
    assert not verify.verify_weights([Run(run.record, damaged)], digits)
    assert "DIFFERS: from its weights" in capsys.readouterr().out


def test_the_cheapest_of_each_family_are_verified_first(digits):
    families = ("mlp", "conv2", "conv7")
    specs = [
        spec for name in families for spec in study.specify(name, digits, seeds=(0, 1))
    ]
    order = verify.cheapest_first([(spec, None) for spec in specs])
    names = [spec.task.experiment.name for spec, _ in order]
    assert names[:4] == ["mlp_e1", "conv7_c3", "conv2_b21", "mlp_e2"]
    assert len(set(names[: len(names) // 2])) == len(names) // 2, "each, then again"


def test_records_of_a_like_machine_are_verified_before_others(trained):
    spec, run = trained
    there = a_copy(run)
    there.record["environment"]["processor_model"] = "another"
    for at_random in (False, True):
        pairs = verify.in_order([(spec, there), (spec, run)], at_random)
        assert [other for _, other in pairs] == [run, there]


def test_on_another_processor_it_compares_accuracies_and_says_so(
    trained, digits, capsys
):
    spec, run = trained
    there = with_other_weights(run)
    there.record["environment"]["processor"] = "Another One"
    assert verify.verify_runs([(spec, there)], digits)
    assert "agrees: other processor or GPU (Another One)" in capsys.readouterr().out
    far = a_copy(there)
    far.history[0]["val_accuracy"] = 2.0
    assert not verify.verify_runs([(spec, far)], digits)
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
