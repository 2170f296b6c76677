"""Training: the same bits however it is interrupted, and the numbers it reports."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ALL, EXPERIMENTS, ROOT, TINY, make_task, run_through
from hypothesis import given
from hypothesis import strategies as st

from mnistlab import train
from mnistlab.models.experiment import Normalization
from mnistlab.models.layers import adam, l2_normalize


def shas(result):
    return [entry["weights_sha256"] for entry in result.history]


def test_the_first_and_the_tenth_run_of_a_process_have_the_same_bits(keras, arrays):
    task = make_task()
    first = shas(run_through(task, arrays))
    for seed in range(1, 9):
        experiment = replace(TINY, name="other") if seed == 4 else TINY
        run_through(make_task(experiment, seed=seed, epochs=1), arrays)
    assert shas(run_through(task, arrays)) == first


CHILD = """
import json, pickle, sys
from mnistlab import train
train.prepare_backend()
task, arrays, state = pickle.load(sys.stdin.buffer)
while len(train.read_history(state)) < task.epochs:
    state = train.train_epoch(task, arrays, state).state
print(json.dumps([entry["weights_sha256"] for entry in train.read_history(state)]))
"""


def test_a_run_goes_on_in_another_process_with_the_same_bits(
    finished, arrays, tmp_path
):
    """Whatever a keras.json and variables there say."""
    settings = {"floatx": "float64", "epsilon": 0.1, "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    leftover = {"KERAS_HOME": str(tmp_path), "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    state = run_through(make_task(), arrays, epochs=1).state
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=os.environ | leftover, cwd=ROOT, check=True,
        input=pickle.dumps((make_task(), arrays, state)), capture_output=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == shas(finished)


def with_recipe(**changes):
    return {"experiment": replace(TINY, recipe=replace(TINY.recipe, **changes))}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"protocol": "holdout"},
        {"train_size": 255},
        with_recipe(batch_size=33),
        with_recipe(optimizer=adam(0.01)),
        with_recipe(normalization=l2_normalize()),
    ],
)
def test_what_is_in_the_key_changes_the_weights(finished, arrays, change):
    changed = run_through(make_task(epochs=1, **change), arrays)
    assert shas(changed) != shas(finished)[:1]


def test_epochs_and_test_size_do_not_change_the_weights_on_the_way(finished, arrays):
    short = run_through(make_task(epochs=1, test_size=64), arrays)
    assert shas(short) == shas(finished)[:1]


def test_the_scores_are_those_that_numpy_and_keras_find(keras, arrays):
    task = make_task()
    result = run_through(task, arrays)
    outcome, last = result.outcome, result.history[-1]
    model, *_ = train._traced(task.experiment, task.image_data_format)
    x = train.normalized(arrays.x_test[:128], TINY.recipe.normalization)
    y = arrays.y_test[:128]
    p = model.predict(x, verbose=0)
    assert outcome.test["accuracy"] == np.mean(p.argmax(1) == y)
    np.testing.assert_array_equal(outcome.predicted, p.argmax(1))
    np.testing.assert_allclose(outcome.confidence, p.max(1), rtol=1e-5)
    plain = -np.log(p[np.arange(128), y]).mean()
    assert outcome.test["cross_entropy"] == pytest.approx(plain, rel=1e-5)
    penalty = 1e-4 * np.square(outcome.weights["conv_1/kernel"]).sum()
    assert penalty > 0
    assert outcome.test["loss"] == pytest.approx(plain + penalty, rel=1e-5)
    assert last["val_loss"] == outcome.test["loss"]
    assert last["loss"] - last["cross_entropy"] == pytest.approx(penalty, rel=0.05)
    assert outcome.train["loss"] != last["loss"], "the running mean has dropout on"
    kerass = model.evaluate(x, y, verbose=0, return_dict=True)
    assert kerass["loss"] == pytest.approx(outcome.test["loss"], rel=1e-5)
    assert kerass["accuracy"] == pytest.approx(outcome.test["accuracy"])


@given(st.integers(12, 70_000), st.integers(0, 10**6), st.integers(1, 100))
def test_a_split_is_disjoint_complete_and_the_same_every_time(size, seed, epoch):
    for protocol in train.PROTOCOLS:
        held_out = train.validation_size(size, protocol)
        assert (held_out > 0) == (protocol == "holdout")
        order = train.epoch_order(seed, epoch, size - held_out)
        np.testing.assert_array_equal(np.sort(order), np.arange(size - held_out))
        again = train.epoch_order(seed, epoch, size - held_out)
        np.testing.assert_array_equal(again, order)
        other = train.epoch_order(seed, epoch + 1, size - held_out)
        assert size < 30 or (other != order).any()


def test_holdout_validates_on_the_last_twelfth_and_opens_the_test_set_once(
    keras, arrays
):
    assert train.validation_size(60_000, "holdout") == 5_000
    assert train.validation_size(60_000, "replicate") == 0
    task = make_task(protocol="holdout", train_size=240, epochs=2)
    result = run_through(task, arrays)
    x = train.normalized(arrays.x_train[220:240], TINY.recipe.normalization)
    model, *_ = train._traced(TINY, "channels_last")
    p = model.predict(x, verbose=0)
    loss = -np.log(p[np.arange(20), arrays.y_train[220:240]]).mean()
    assert result.history[-1]["val_cross_entropy"] == pytest.approx(loss, rel=1e-5)
    assert result.outcome.test["cross_entropy"] != pytest.approx(loss, rel=1e-3)
    # What the held-out images are changes nothing that is learned.
    blank = arrays.x_train.copy()
    blank[220:] = 0
    other = replace(arrays, x_train=blank)
    assert shas(run_through(task, other)) == shas(result)


@pytest.mark.parametrize("experiment", [TINY, ALL[0]], ids=lambda e: e.name)
def test_the_bits_are_those_of_keras_own_fit(keras, arrays, experiment):
    """Two epochs with Keras's `fit` on images in the epochs' orders, and with ours."""
    # No multiple of the batch size: with full batches only, Keras tells TensorFlow
    # their size, and TensorFlow adds some numbers up in another order.
    train_size = 300
    task = make_task(experiment, epochs=2, train_size=train_size)
    result = run_through(task, arrays)

    model = train._compiled(task)
    x = train.normalized(arrays.x_train[:train_size], experiment.recipe.normalization)
    x = x if experiment.spatial else x.reshape(-1, 784)
    orders = [train.epoch_order(0, epoch, train_size) for epoch in (1, 2)]
    for epoch, order in enumerate(orders, start=1):
        assert sorted(order) == list(range(train_size))
        train._seed_dropout(model, 0, epoch)
        history = model.fit(
            x[order], arrays.y_train[:train_size][order].astype(np.int32),
            experiment.recipe.batch_size, shuffle=False, verbose=0,
        ).history  # fmt: skip
        ours = result.history[epoch - 1]
        assert ours["weights_sha256"] == train.weights_sha256(
            train._values(model.weights)
        )
        assert ours["loss"] == pytest.approx(history["loss"][0], rel=1e-6)
        assert ours["accuracy"] == pytest.approx(history["accuracy"][0], rel=1e-6)
    assert not np.array_equal(*orders)
    assert not np.array_equal(orders[0], train.epoch_order(1, 1, train_size))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_l2_normalize_is_keras_utils_normalize(keras, arrays, axis):
    images = arrays.x_train[:20]
    ours = train.normalized(images, l2_normalize(axis))
    theirs = keras.utils.normalize(images[..., np.newaxis], axis=axis)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_rows_are_the_default_of_keras_on_images_without_channels(keras, arrays):
    images = arrays.x_train[:20]
    ours = train.normalized(images, l2_normalize())[..., 0]
    np.testing.assert_allclose(ours, keras.utils.normalize(images), rtol=1e-6)


def test_dividing_by_255_gives_0_to_1(arrays):
    x = train.normalized(arrays.x_train[:9], Normalization("divide_by_255"))
    assert (x.dtype, x.shape) == (np.float32, (9, 28, 28, 1))
    assert x.max() == 1.0
    assert x[0, 5, 9, 0] == np.float32(arrays.x_train[0, 5, 9]) / np.float32(255)


def test_an_unknown_normalization_is_refused(arrays):
    with pytest.raises(ValueError, match="unknown normalization 'max'"):
        train.normalized(arrays.x_train[:1], Normalization("max"))


def test_channels_first_trains_too(keras, arrays):
    task = make_task(image_data_format="channels_first", epochs=1)
    assert np.isfinite(run_through(task, arrays).history[0]["val_loss"])


def test_a_state_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not a training state"):
        train.read_history(b"PK nothing")


# The convolutional one on a twentieth of MNIST; by chance a tenth is right.
@pytest.mark.parametrize(
    ("name", "images", "tested", "floor"),
    [("mlp_e1", 60_000, 10_000, 0.95), ("conv2_a2", 3_000, 1_000, 0.5)],
)
def test_one_epoch_on_the_real_mnist_learns(keras, arrays, name, images, tested, floor):
    experiment = EXPERIMENTS[name]
    task = train.Task(experiment, 0, 1, "replicate", images, tested, "channels_last")
    result = run_through(task, arrays)
    assert result.outcome.test["accuracy"] >= floor
    train._inputs.cache_clear()
