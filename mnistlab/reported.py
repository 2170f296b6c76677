"""What 2019 printed: final figures, epochs, table entries, conclusions.

The figures are those of the training logs and printed evaluations; `entries` are
those cells of 2019's tables that say something else. Imports no other module.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("reported")


@dataclass(frozen=True)
class Reported:
    """One model's final figures of 2019; None where nothing was printed."""

    name: str
    letter: str
    title: str
    train_accuracy: float | None
    test_accuracy: float
    test_loss: float
    time: str


@dataclass(frozen=True)
class Conclusion:
    """A conclusion of 2019: where it stands, and what it says.

    `sentence` says it in full, `said` in the words of 2019, `measured` how it is tested
    today, `undecidable` what the design of 2019 could not decide.
    """

    id: str
    source: str
    sentence: str
    said: str
    measured: str
    undecidable: str


def _rows(name: str) -> list[dict[str, str]]:
    with open(FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | None:
    return float(text) if text else None


def _what(row: dict[str, str]) -> str:
    """What kind of network a row of models.csv is, in a few words."""
    if row["family"] == "mlp":
        return f"MLP, {row['label_2019'].replace('layers', 'hidden layers')}"
    return f"{row['conv_layers']} conv" + (", L2" if "L2" in row["layers"] else "")


@cache
def finals() -> dict[str, Reported]:
    """The final figures by model name.

    >>> finals()["conv2_a2"].test_accuracy
    0.9877
    """
    return {
        name: Reported(
            name=name,
            letter=row["model"][0],
            title=f"{row['model']} · {_what(row)}",
            train_accuracy=_number(row["train_accuracy_2019"]),
            test_accuracy=float(row["test_accuracy_2019"]),
            test_loss=float(row["test_loss_2019"]),
            time=row["time_2019"],
        )
        for row in _rows("models.csv")
        for name in [f"{row['family']}_{row['model'].lower()}"]
    }


def title(name: str) -> str:
    """A model's name for people: its number of 2019, and what it is.

    >>> title("mlp_e1"), title("conv2_b23"), title("mine")
    ('E1 · MLP, 2 hidden layers', 'B23 · 2 conv, L2', 'mine')
    """
    return finals()[name].title if name in finals() else name


def short(name: str) -> str:
    """A model's name without its family.

    >>> short("conv2_b21"), short("conv2_b21_rows"), short("mine")
    ('B21', 'B21 ROWS', 'mine')
    """
    return name.partition("_")[2].upper().replace("_", " ") or name


@cache
def history(name: str) -> tuple[dict[str, float | None], ...]:
    """The epochs of a model that could be read, sparse; empty for one not of 2019.

    >>> history("conv2_a2")[-1]["val_loss"]
    0.0367
    """
    number = name.partition("_")[2].upper() if name in finals() else None
    return tuple(
        {key: _number(value) for key, value in row.items() if key != "model"}
        for row in _rows("history.csv")
        if row["model"] == number
    )


@cache
def entries() -> dict[tuple[str, str, str], str]:
    """Cells of 2019's tables that say something else than its code, log or rounding.

    By table, model and column, as they were printed.
    """
    return {(row["table"], row["model"], row["column"]): row["entry"]
            for row in _rows("entries.csv")}  # fmt: skip


@cache
def conclusions() -> tuple[Conclusion, ...]:
    """What 2019 concluded, in the spec's order."""
    return tuple(Conclusion(**row) for row in _rows("conclusions.csv"))
