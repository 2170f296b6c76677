"""The forward pass in NumPy against Keras's own: an independent check of both."""

import numpy as np
import pytest
from conftest import ALL, TINY

from mnistlab.forward import activations
from mnistlab.models import build
from mnistlab.models.experiment import Experiment, Layer
from mnistlab.train import normalized


@pytest.mark.parametrize("experiment", [TINY, *ALL], ids=lambda e: e.name)
def test_numpy_and_keras_hand_on_the_same(experiment, keras, digits):
    """Every layer of all models, with moving statistics that are not their start."""
    model = build(experiment, seed=3)
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
    made = activations(experiment, weights, image)
    x = normalized(image[np.newaxis], experiment.recipe.normalization)
    x = x if experiment.spatial else x.reshape(1, -1)
    layers = keras.Model(model.inputs[0], [layer.output for layer in model.layers])
    for layer, output in zip(model.layers, layers(x), strict=True):
        theirs = np.asarray(output)[0]
        assert made[layer.name].shape == theirs.shape
        np.testing.assert_allclose(made[layer.name], theirs, rtol=2e-3, atol=2e-5)
    assert made["output"].sum() == pytest.approx(1)


def test_a_layer_without_a_forward_pass_is_named():
    odd = Experiment("odd", (Layer("GaussianNoise", ()),), TINY.recipe)
    with pytest.raises(ValueError, match="'GaussianNoise'"):
        activations(odd, {}, np.zeros((28, 28), np.uint8))
