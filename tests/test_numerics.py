"""Independent checks: what Keras computes in a training, computed again in NumPy."""

import numpy as np
import pytest
from conftest import make_task

from mnistlab import train
from mnistlab.models.experiment import Experiment, Recipe
from mnistlab.models.layers import adadelta, adam, dense

L2 = 1e-2
BATCH = 32
STEPS = 3


class Adam:
    """Kingma and Ba (2015), algorithm 1, in the order of its section 2."""

    def __init__(self, learning_rate):
        self.learning_rate, self.t = learning_rate, 0
        self.m, self.v = {}, {}

    def step(self, weights, gradients):
        self.t += 1
        rate = self.learning_rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        for name, g in gradients.items():
            self.m[name] = 0.9 * self.m.get(name, 0) + 0.1 * g
            self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * g**2
            weights[name] -= rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-7)


class Adadelta:
    """Zeiler (2012), algorithm 1, times a learning rate."""

    def __init__(self, learning_rate):
        self.learning_rate = learning_rate
        self.squares, self.deltas = {}, {}

    def step(self, weights, gradients):
        for name, g in gradients.items():
            square = 0.95 * self.squares.get(name, 0) + 0.05 * g**2
            before = self.deltas.get(name, 0)
            delta = -np.sqrt(before + 1e-7) / np.sqrt(square + 1e-7) * g
            self.squares[name] = square
            self.deltas[name] = 0.95 * before + 0.05 * delta**2
            weights[name] += self.learning_rate * delta


def loss_and_gradients(weights, x, y, l2):
    """Of softmax(relu(x·W1 + b1)·W2 + b2): mean cross-entropy plus l2·sum(W1²)."""
    w1, w2 = weights["dense_1/kernel"], weights["output/kernel"]
    hidden = np.maximum(x @ w1 + weights["dense_1/bias"], 0)
    logits = hidden @ w2 + weights["output/bias"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    right = np.eye(10)[y]
    loss = -np.log((p * right).sum(axis=1)).mean() + l2 * np.square(w1).sum()
    to_logits = (p - right) / len(x)
    to_hidden = (to_logits @ w2.T) * (hidden > 0)
    return loss, {
        "dense_1/kernel": x.T @ to_hidden + 2 * l2 * w1,
        "dense_1/bias": to_hidden.sum(axis=0),
        "output/kernel": hidden.T @ to_logits,
        "output/bias": to_logits.sum(axis=0),
    }


@pytest.mark.parametrize("l2", [0.0, L2], ids=["no penalty", "L2"])
@pytest.mark.parametrize(
    ("optimizer", "numpys_own"),
    [(adam(0.01), lambda: Adam(0.01)), (adadelta(1.0), lambda: Adadelta(1.0))],
    ids=["Adam", "Adadelta"],
)
def test_three_steps_are_what_numpy_makes_them(
    keras, arrays, optimizer, numpys_own, l2
):
    """A hidden layer of 8, from the same start, the same batches in the same order."""
    recipe = Recipe(optimizer, BATCH, epochs=1)
    experiment = Experiment("steps", (dense(8, l2=l2),), recipe)
    size = STEPS * BATCH
    task = make_task(experiment, train_size=size, test_size=128, epochs=1)
    model = train._compiled(task)
    weights = {
        weight.path.partition("/")[2]: np.array(weight, dtype=np.float64)
        for weight in model.weights
    }
    x = arrays.x_train[:size].reshape(size, -1) / 255
    order = train.epoch_order(task.seed, 1, size)
    numpys, losses = numpys_own(), []
    for batch in order.reshape(STEPS, BATCH):
        loss, gradients = loss_and_gradients(
            weights, x[batch], arrays.y_train[batch], l2
        )
        losses.append(loss)
        numpys.step(weights, gradients)

    result = train.train_epoch(task, arrays, train.initial_state(task))
    (entry,) = result.history
    assert entry["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    if l2:
        assert entry["loss"] - entry["cross_entropy"] > 0.01
    else:
        assert entry["loss"] == entry["cross_entropy"]
        assert entry["val_loss"] == entry["val_cross_entropy"]
    for name, weight in weights.items():
        np.testing.assert_allclose(
            result.outcome.weights[name], weight, rtol=1e-3, atol=2e-6, err_msg=name
        )
    tested = arrays.x_test[:128].reshape(128, -1) / 255
    loss, _ = loss_and_gradients(weights, tested, arrays.y_test[:128], l2)
    assert result.outcome.test["loss"] == pytest.approx(loss, rel=1e-4)
