"""Does C2 sometimes end at 80 %, as in 2019? Twenty tails on one pair of convolutions.

2019 printed 80.04 % for C2; all of our runs end above 98 %. A hypothesis: some networks
map several digits to one output and stay there. To see how often, C2's first two
convolutions are trained for two epochs with the whole network and then frozen. Their
output is computed once; the rest, which has the dropouts of 0.5, 0.3, 0.5 and 0.7, is
trained on it with twenty seeds, for C2's 20 epochs each. The record says for each seed
how it ended, and the recall of each digit.

    python studies/c2_tails.py

writes `studies/c2_tails.json` after each seed, and goes on from there.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from mnistlab import data, train
from mnistlab.models.conv5 import conv5_c2
from mnistlab.models.experiment import build, serialized, with_output
from mnistlab.record import commit
from mnistlab.store import state_weights, write_atomically

RECORD = Path(__file__).with_suffix(".json")
HEAD = 3  # layers: convolution, pooling, convolution
HEAD_EPOCHS = 2
LOW = 0.90


def head_output(dataset: data.Dataset) -> list[np.ndarray]:
    """What the frozen convolutions make of all images: float16 (n, 9, 9, 100) each."""
    import keras

    sizes = len(dataset.x_train), len(dataset.x_test)
    task = train.Task(conv5_c2, 0, 20, "replicate", *sizes, "channels_last")
    arrays = train.Arrays(
        dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test
    )
    state = train.initial_state(task)
    for _ in range(HEAD_EPOCHS):
        epoch = train.train_epoch(task, arrays, state)
        state = epoch.state
        click.echo(f"whole network: {epoch.history[-1]}")
    model = build(conv5_c2)
    model.set_weights(state_weights(state))
    head = keras.Sequential(model.layers[:HEAD])
    return [
        head.predict(
            train.normalized(images, conv5_c2.recipe.normalization),
            batch_size=500,
            verbose=0,
        ).astype(np.float16)
        for images in (dataset.x_train, dataset.x_test)
    ]


def tail(shape: tuple[int, ...]) -> Any:
    """The rest of C2, compiled, with new weights."""
    import keras

    layers = [
        keras.layers.deserialize(serialized("keras.layers", layer))
        for layer in with_output(conv5_c2)[HEAD:]
    ]
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train_tail(
    seed: int, inputs: list[np.ndarray], dataset: data.Dataset, epochs: int
) -> dict:
    """Train one tail, and say how it ended."""
    import keras

    keras.utils.set_random_seed(seed)
    model = tail(inputs[0].shape[1:])
    fitted = model.fit(
        inputs[0],
        dataset.y_train,
        batch_size=conv5_c2.recipe.batch_size,
        epochs=epochs,
        validation_data=(inputs[1], dataset.y_test),
        validation_batch_size=500,
        verbose=0,
    )
    predicted = model.predict(inputs[1], batch_size=500, verbose=0).argmax(axis=1)
    right = predicted == dataset.y_test
    history = fitted.history
    return {
        "seed": seed,
        "accuracy": float(right.mean()),
        "recall": [float(right[dataset.y_test == digit].mean()) for digit in range(10)],
        "outputs_used": len(np.unique(predicted)),
        "loss": history["loss"],
        "training_accuracy": history["accuracy"],
        "test_accuracy": history["val_accuracy"],
    }


@click.command()
@click.option("--seeds", default=20, show_default=True, help="How many tails.")
@click.option("--epochs", default=20, show_default=True, help="Of each tail.")
@click.option("--dataset", default="mnist", show_default=True)
@click.option("--record", type=Path, default=RECORD, show_default=True)
def main(seeds: int, epochs: int, dataset: str, record: Path) -> None:
    """Train the tails that the record does not have yet."""
    train.prepare_backend()
    known = json.loads(record.read_text())["tails"] if record.exists() else []
    done = {entry["seed"] for entry in known}
    digits = data.load(dataset)
    inputs = head_output(digits)
    for seed in (seed for seed in range(seeds) if seed not in done):
        known.append(train_tail(seed, inputs, digits, epochs))
        low = sum(entry["accuracy"] < LOW for entry in known)
        content = {
            "commit": commit(),
            "head_epochs": HEAD_EPOCHS,
            "epochs": epochs,
            "below_90": low,
            "tails": sorted(known, key=lambda entry: entry["seed"]),
        }
        write_atomically(record, (json.dumps(content, indent=1) + "\n").encode())
        click.echo(f"seed {seed}: {known[-1]['accuracy']:.4f}; {low} below {LOW:.0%}")


if __name__ == "__main__":
    main()
