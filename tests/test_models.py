"""Each of the 28 models against 2019's table, as a value and as Keras builds it."""

import csv
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from conftest import ALL, ROOT, TINY

from mnistlab import models, tables
from mnistlab.forward import activations
from mnistlab.models.experiment import Experiment, Layer, Recipe, build, derive_seed
from mnistlab.models.layers import adam, dense, dropout
from mnistlab.models.sizes import layer_sizes, macs, params, trainable_params
from mnistlab.train import normalized

with open(ROOT / "mnistlab/reported/models.csv", encoding="utf-8") as file:
    ROWS = {f"{r['family']}_{r['model'].lower()}": r for r in csv.DictReader(file)}

OF_2019 = [experiment for experiment in ALL if experiment.name in ROWS]
each_of_2019 = pytest.mark.parametrize("experiment", OF_2019, ids=lambda e: e.name)
each_model = pytest.mark.parametrize("experiment", ALL, ids=lambda e: e.name)


made = cache(build)  # each model once; nobody trains it


WORDS = {
    "Conv2D": "conv", "MaxPooling2D": "maxpool", "Dropout": "dropout", "Dense": "dense",
    "BatchNormalization": "batchnorm", "Flatten": "flatten",
}  # fmt: skip


def in_the_tables_words(layer):
    """A Keras layer as 2019's table writes it: `conv(32,5x5,same,he_normal,L2)`."""
    word = WORDS[type(layer).__name__]
    options = []
    if word == "conv":
        options += [layer.filters, "{}x{}".format(*layer.kernel_size)]
        options += {(1, 1): [], (2, 2): ["stride2"]}[layer.strides]
    elif word == "maxpool":
        assert layer.strides == layer.pool_size
        options += ["{}x{}".format(*layer.pool_size)]
    elif word == "dropout":
        options += [layer.rate]
    elif word == "dense":
        options += [layer.units]
    if word in ("conv", "maxpool"):
        options += {"valid": [], "same": ["same"]}[layer.padding]
    if word in ("conv", "dense"):
        initializer = type(layer.kernel_initializer).__name__
        options += {"GlorotUniform": [], "HeNormal": ["he_normal"]}[initializer]
        if layer.kernel_regularizer is not None:
            assert float(layer.kernel_regularizer.l2) == pytest.approx(1e-5)
            options += ["L2"]
        assert type(layer.bias_initializer).__name__ == "Zeros"
        assert layer.bias_regularizer is None
    return word + (f"({','.join(map(str, options))})" if options else "")


def test_the_families_hold_the_28_models_of_2019_and_no_name_twice():
    names = [experiment.name for experiment in ALL]
    assert set(ROWS) <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_experiment_of_a_module_is_in_its_family(family):
    module = getattr(models, family)
    defined = [v for v in vars(module).values() if isinstance(v, Experiment)]
    assert models.FAMILIES[family] is module.FAMILY
    assert set(defined) == set(module.FAMILY)
    assert len(defined) == len(module.FAMILY)
    for experiment in defined:
        assert getattr(module, experiment.name) is experiment
        assert experiment.name.startswith(f"{family}_")


@each_of_2019
def test_keras_builds_what_the_table_says(experiment, keras):
    row = ROWS[experiment.name]
    model = made(experiment)
    *hidden, output = model.layers
    assert " ".join(map(in_the_tables_words, hidden)) == row["layers"]
    assert in_the_tables_words(output) == "dense(10)"
    functions = [layer.activation for layer in model.layers if hasattr(layer, "kernel")]
    names = [function.__name__ for function in functions]
    assert names == [*["relu"] * (len(names) - 1), "softmax"]
    shape = (784,) if row["family"] == "mlp" else (28, 28, 1)
    assert model.input_shape == (None, *shape)


@each_of_2019
def test_the_recipe_is_what_the_table_says(experiment, keras):
    row, recipe = ROWS[experiment.name], experiment.recipe
    from mnistlab.train import _optimizer

    optimizer = _optimizer(recipe.optimizer)
    name, rate = re.match(r"(\w+)\(([\d.]+)", row["optimizer"]).groups()
    assert type(optimizer).__name__ == name
    assert float(optimizer.learning_rate) == pytest.approx(float(rate))
    assert optimizer.epsilon == 1e-7
    if name == "Adadelta":
        assert optimizer.rho == 0.95
    else:
        assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)
        assert not optimizer.amsgrad
    assert recipe.batch_size == int(row["batch_size"])
    assert recipe.epochs == int(row["epochs"])
    assert recipe.normalization.kind == row["normalization"]
    # Rows of unit length is the assumption that the spec makes for B.
    assert recipe.normalization.axis == (3 if row["model"][0] == "B" else None)


@each_model
def test_sizes_are_those_of_keras_and_of_the_table(experiment, keras):
    model = made(experiment)
    trained = sum(w.numpy().size for w in model.trainable_weights)
    assert params(experiment) == model.count_params()
    assert trainable_params(experiment) == trained
    if experiment.name in ROWS:
        assert params(experiment) == int(ROWS[experiment.name]["params"])
        assert trained == int(ROWS[experiment.name]["trainable_params"])
    counted = 0
    for size, layer in zip(layer_sizes(experiment), model.layers, strict=True):
        assert size.name == layer.name
        assert (None, *size.output_shape) == tuple(layer.output.shape)
        assert size.params == layer.count_params()
        if hasattr(layer, "kernel"):
            # Every weight of a kernel is used once for each place it is applied at.
            places = np.prod(layer.output.shape[1:-1], dtype=int)
            counted += layer.kernel.numpy().size * places
    assert macs(experiment) == counted


@each_model
def test_the_summary_is_that_of_keras(experiment, keras, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = []
    made(experiment).summary(print_fn=lines.append, line_length=200)
    printed = "\n".join(map(str, lines))
    table = tables.summary(experiment)
    rows = re.findall(r"│ (\w+) \((\w+)\) +│ (\(.*?\)) +│ +([\d,]+) │", printed)
    assert rows == list(table.frame.itertuples(index=False, name=None))
    total = re.search(r"Total params: ([\d,]+)", printed).group(1)
    assert f"{total} parameters" in table.caption


@pytest.mark.parametrize(
    "name", ["conv2_a5", "conv3_a3", "conv3_a4", "conv2_c1", "conv5_c2", "conv7_d3"]
)
def test_channels_first_gives_the_same_outputs_for_the_same_weights(name, keras):
    experiment = next(e for e in ALL if e.name == name)
    last = build(experiment, image_data_format="channels_last")
    first = build(experiment, image_data_format="channels_first")
    assert first.input_shape == (None, 1, 28, 28)
    random = np.random.default_rng(0)
    # Fresh batch normalizations hide a wrong axis, so every weight is drawn anew.
    weights = [random.uniform(0.1, 0.5, w.shape) for w in last.weights]
    weights = [w / np.sqrt(w[..., 0].size) if w.ndim > 1 else w for w in weights]
    last.set_weights(weights)
    first.set_weights(weights)
    images = random.random((4, 28, 28, 1), dtype=np.float32)
    a = last.predict(images, verbose=0)
    b = first.predict(images.reshape(4, 1, 28, 28), verbose=0)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert a.std() > 1e-3, "the comparison is worth something only if outputs differ"


def test_the_switch_of_keras_chooses_the_image_data_format(keras):
    keras.config.set_image_data_format("channels_first")
    try:
        assert build(TINY).input_shape == (None, 1, 28, 28)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_variants_share_the_initial_weights_of_what_they_share(keras):
    more = replace(TINY, layers=(*TINY.layers[:-2], dense(8), *TINY.layers[-2:]))
    plain = {w.path: w.numpy() for w in build(TINY, seed=1).weights}
    longer = {w.path: w.numpy() for w in build(more, seed=1).weights}
    for path in ("tiny/conv_1/kernel", "tiny/output/kernel"):
        np.testing.assert_array_equal(plain[path], longer[path])
    other = {w.path: w.numpy() for w in build(TINY, seed=2).weights}
    assert not np.array_equal(plain["tiny/conv_1/kernel"], other["tiny/conv_1/kernel"])


def test_derived_seeds_differ_and_do_not_change_between_versions():
    seeds = {derive_seed(s, k, n) for s in range(9) for k in "ab" for n in range(9)}
    assert len(seeds) == 162
    assert derive_seed(0, "Conv2D", 1) == 696784102


def test_what_keras_refuses_is_told_with_the_layer(keras):
    experiment = Experiment("wrong", (dropout(1.5),), TINY.recipe)
    with pytest.raises(ValueError, match="wrong: Keras cannot make layer dropout_1"):
        build(experiment)


@pytest.mark.parametrize("name", ["", "A1", "../x", "a b", "1a"])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(ValueError, match="experiment name"):
        Experiment(name, TINY.layers, TINY.recipe)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 1.5}])
def test_a_recipe_needs_whole_positive_numbers(changes):
    with pytest.raises(ValueError, match="recipe: .* must be a whole number"):
        Recipe(adam(), **({"batch_size": 1, "epochs": 1} | changes))


@each_model
def test_the_forward_pass_in_numpy_hands_on_what_keras_does(experiment, keras, digits):
    """Every layer of all models, with moving statistics that are not their start."""
    model = made(experiment)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "moving" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    image = digits.x_test[0]
    weights = {
        f"{layer.name}/{weight.name}": np.asarray(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    ours = activations(experiment, weights, image)
    x = normalized(image[np.newaxis], experiment.recipe.normalization)
    x = x if experiment.spatial else x.reshape(1, -1)
    layers = keras.Model(model.inputs[0], [layer.output for layer in model.layers])
    for layer, output in zip(model.layers, layers(x), strict=True):
        theirs = np.asarray(output)[0]
        assert ours[layer.name].shape == theirs.shape
        np.testing.assert_allclose(ours[layer.name], theirs, rtol=2e-3, atol=2e-5)
    assert ours["output"].sum() == pytest.approx(1)


def test_a_layer_without_a_forward_pass_is_named():
    odd = Experiment("odd", (Layer("GaussianNoise", ()),), TINY.recipe)
    with pytest.raises(ValueError, match="'GaussianNoise'"):
        activations(odd, {}, np.zeros((28, 28), np.uint8))
