"""Rules for the conclusions of notebook E: the MLPs, their curves and weights."""

from typing import Any

from mnistlab import reported
from mnistlab.claims.measures import CLOSE, values_of
from mnistlab.judging import Part, Runs
from mnistlab.runs import Run

CLOSE_RATIO = 1.5  # E-1, E-2
# E-3: skewness within 0.5 is usually called symmetric. A uniform distribution, which
# the weights start from, has an excess kurtosis of -1.2, a logistic one of +1.2.
SYMMETRIC, MESOKURTIC = 0.5, 1.0


def _curve_gap(run: Run) -> float:
    last = run.history[-1]
    return last["val_loss"] - last["loss"]


def _curve_ratio(run: Run) -> float:
    last = run.history[-1]
    return last["val_loss"] / last["loss"]


def _curves(runs: Runs, name: str, wide: bool) -> list[Part]:
    """The two curves that 2019 looked at, at the last epoch.

    They are the validation loss, and the training loss with dropout on.
    """
    last: dict[str, Any] = reported.history(name)[-1]
    loss, validation = last["loss"], last["val_loss"]
    printed = loss is not None and validation is not None
    bounds: tuple[dict[str, Any], dict[str, Any]] = (
        ({"low": CLOSE}, {"low": CLOSE_RATIO})
        if wide
        else ({"high": CLOSE}, {"high": CLOSE_RATIO})
    )
    verb = "is more than" if wide else "is less than"
    return [
        Part(
            f"the gap between the curves {verb} {CLOSE}",
            name,
            "validation minus training loss",
            **values_of(runs, [name], _curve_gap),
            **bounds[0],
            margin=0.005,
            reported=validation - loss if printed else None,
        ),
        Part(
            f"the validation loss {verb} {CLOSE_RATIO} times the training loss",
            name,
            "validation over training loss",
            **values_of(runs, [name], _curve_ratio),
            **bounds[1],
            margin=0.25,
            reported=validation / loss if printed else None,
        ),
    ]


def e1(runs: Runs) -> list[Part]:
    """The gap between E1's two curves at the last epoch, and their ratio."""
    return _curves(runs, "mlp_e1", wide=True)


def e2(runs: Runs) -> list[Part]:
    """The same measure for E2 and E3."""
    return [
        part
        for name in ("mlp_e2", "mlp_e3")
        for part in _curves(runs, name, wide=False)
    ]


def e3(runs: Runs) -> list[Part]:
    """Skewness and excess kurtosis of every kernel; both are 0 for a Gaussian."""
    parts = []
    for name in ("mlp_e2", "mlp_e3"):
        first = next(iter(runs.get(name, {}).values()), None)
        kernels = [k["name"] for k in first.record["kernels"]] if first else ["-"]
        for i, kernel in enumerate(kernels):
            for quantity, limit, statement in (
                ("skewness", SYMMETRIC, "a kernel's weights are symmetric"),
                ("excess_kurtosis", MESOKURTIC, "their tails are those of a Gaussian"),
            ):
                parts.append(
                    Part(
                        f"{statement}: {quantity.replace('_', ' ')} within {limit}",
                        f"{name} {kernel}",
                        quantity.replace("_", " "),
                        **values_of(
                            runs,
                            [name],
                            lambda run, i=i, q=quantity: run.record["kernels"][i][q],
                        ),
                        low=-limit,
                        high=limit,
                        margin=limit / 4,
                    )
                )
    return parts
