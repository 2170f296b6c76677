"""Score a state with batch normalisation as Keras 2.2.4 evaluated it, and as Keras 3.

Both average means and variances over the steps of training, from 0 and 1. Keras 2.2.4,
which notebook A used, divided out what is left of those start values
(`assign_moving_average(zero_debias=True)`); Keras 3, and tf.keras of 2019, do not. The
weights are the same either way, so that a state of today can be scored both ways.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab import store, train
from mnistlab.data import Dataset
from mnistlab.models.experiment import Experiment, build
from mnistlab.models.recipes import recipe_a
from mnistlab.runs import BATCHNORM, RunSpec
from mnistlab.worker import prepare_backend


def debiased(
    mean: np.ndarray, variance: np.ndarray, steps: int, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Moving averages without what is left of their start values, 0 and 1.

    Source: D. P. Kingma and J. Ba (2015), Adam, section 3, for the mean; the variance
    starts at 1, of which momentum^steps is left.

    >>> mean, variance = debiased(np.array(0.19), np.array(1.19), 2, 0.9)
    >>> round(float(mean), 6), round(float(variance), 6)
    (1.0, 2.0)
    """
    left = momentum**steps
    return mean / (1 - left), (variance - left) / (1 - left)


def predict_test_images(
    model: Any, experiment: Experiment, dataset: Dataset
) -> np.ndarray:
    """What a Keras model makes of all test images: probabilities (n, 10)."""
    images = train.normalized(dataset.x_test, experiment.recipe.normalization)
    images = images.reshape(-1, *model.input_shape[1:])
    return model.predict(images, batch_size=train.PREDICT_BATCH, verbose=0)


def score_both(
    experiment: Experiment, weights: list[np.ndarray], steps: int, dataset: Dataset
) -> dict[str, Any]:
    """Test accuracy and cross-entropy after `steps` of training, both ways.

    Args:
        experiment: whose weights they are.
        weights: in the order of the Keras model's.
        steps: how many batches it has been trained on.
        dataset: all of its test images are used.
    """
    prepare_backend()
    model = build(experiment)

    def scores() -> dict[str, float]:
        probabilities = predict_test_images(model, experiment, dataset)
        found = train.evaluate(probabilities, dataset.y_test, penalty=0.0)
        return {name: found[name] for name in ("accuracy", "cross_entropy")}

    model.set_weights(weights)
    plain = scores()
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            *learned, mean, variance = layer.get_weights()
            averages = debiased(mean, variance, steps, layer.momentum)
            layer.set_weights([*learned, *averages])
    return {"plain": plain, "debiased": scores()}


def is_scored(spec: RunSpec) -> bool:
    """Whether a run is of notebook A's epochs and has batch normalisation."""
    experiment = spec.task.experiment
    kinds = {layer.kind for layer in experiment.layers}
    return experiment.recipe.epochs == recipe_a.epochs and "BatchNormalization" in kinds


def score_epoch(out: Path, spec: RunSpec, epoch: int, dataset: Dataset) -> None:
    """Add an epoch's scores to the run's `batchnorm.json`, from its checkpoint.

    After the last epoch the weights of the finished run are taken.
    """
    task, folder = spec.task, store.run_folder(out, spec)
    if epoch == task.epochs:
        with np.load(folder / "weights.npz") as file:
            weights = [file[name] for name in file.files]
    else:
        weights = store.state_weights((folder / "state.npz").read_bytes())
    batch_size = task.experiment.recipe.batch_size
    steps = epoch * -(-task.train_size // batch_size)
    scored = score_both(task.experiment, weights, steps, dataset)
    path = folder / BATCHNORM
    # After a kill between a checkpoint and its scores an epoch is lacking here: such a
    # file does not count (`Run.batchnorm`), but ends no training.
    before = json.loads(path.read_text())["epochs"] if path.exists() else []
    epochs = [*before[: epoch - 1], {"epoch": epoch, **scored}]
    text = json.dumps({"steps": steps, "epochs": epochs}, indent=1)
    store.write_atomically(path, text.encode())
