"""The tables: sizes, scores, 2019's four tables, and 2019 beside today.

Every cell is computed from an experiment and its run, so a table cannot contradict
the code, as 2019's did. A row is one run, and links to its record.
"""

import ast
import html
import importlib
import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from IPython.display import HTML, Markdown
from prettytable import PrettyTable

from mnistlab import reported
from mnistlab.models.experiment import Experiment
from mnistlab.models.sizes import layer_sizes
from mnistlab.runs import Run
from mnistlab.study import Gathered


@dataclass(frozen=True, eq=False)
class Table:
    """A data frame with a caption, shown as HTML whose cells may hold links.

    `prose` says that its cells hold sentences, which are set flush left.
    """

    frame: pd.DataFrame
    caption: str = ""
    prose: bool = False

    def _repr_html_(self) -> str:
        caption = f"<p><em>{self.caption}</em></p>" if self.caption else ""
        if self.frame.empty:
            return caption
        with pd.option_context("display.max_colwidth", None):
            body = self.frame.to_html(
                escape=False,
                index=False,
                na_rep="",
                border=0,
                classes="prose" if self.prose else "figures",
            )
        return body + caption


def record_link(run: Run) -> str:
    """A link to a run's record, relative to the page that is being made."""
    here = os.environ.get("MNISTLAB_PAGE_FOLDER", os.getcwd())
    path = os.path.relpath(run.folder / "run.json", here)
    return f'<a href="{html.escape(path)}">{run.key16[:8]}</a>'


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def convolutions(experiment: Experiment) -> list[dict]:
    """The settings of an experiment's convolutions."""
    return [layer.settings for layer in experiment.layers if layer.kind == "Conv2D"]


def _filters(experiment: Experiment) -> str:
    """Filters and kernels, as `32, 64 (3x3)`; kernels are named where they change."""
    parts = []
    convs = convolutions(experiment)
    for conv, following in zip(convs, [*convs[1:], None], strict=True):
        kernel = conv["kernel_size"]
        last_of_size = following is None or following["kernel_size"] != kernel
        size = f" ({kernel[0]}x{kernel[1]})" if last_of_size else ""
        parts.append(f"{conv['filters']}{size}")
    return ", ".join(parts)


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values))) or "-"


def dropout_rates(experiment: Experiment) -> list[float]:
    """The rates of an experiment's dropout layers."""
    return [x.settings["rate"] for x in experiment.layers if x.kind == "Dropout"]


def has_batchnorm(experiment: Experiment) -> bool:
    """Whether an experiment has a batch normalization."""
    return any(layer.kind == "BatchNormalization" for layer in experiment.layers)


def regularization(experiment: Experiment) -> str:
    """The kernel penalties of an experiment, such as `L2(1e-05)`, or `-`."""
    penalties = [
        penalty
        for layer in experiment.layers
        if (penalty := layer.settings.get("kernel_regularizer")) is not None
    ]
    return _distinct(f"{kind}({dict(config)['l2']:g})" for kind, config in penalties)


def sizes(experiments: Sequence[Experiment]) -> Table:
    """Layers, parameters and multiply-adds of each experiment."""
    rows = []
    for experiment in experiments:
        layers = layer_sizes(experiment)
        rows.append(
            {
                "model": experiment.name,
                "convolutions": len(convolutions(experiment)),
                "layers": len(layers),
                "parameters": f"{sum(x.params for x in layers):,}",
                "trained": f"{sum(x.trainable_params for x in layers):,}",
                "multiply-adds": f"{sum(x.macs for x in layers):,}",
                "optimizer": experiment.recipe.optimizer.kind,
                "batch size": experiment.recipe.batch_size,
                "epochs": experiment.recipe.epochs,
            }
        )
    return Table(
        pd.DataFrame(rows),
        "Multiply-adds are those of one image's way through the network.",
    )


def summary(experiment: Experiment) -> Table:
    """A model's layers, output shapes and parameters, as `model.summary()` has them."""
    layers = layer_sizes(experiment)
    frame = pd.DataFrame(
        [
            {
                "layer": layer.name,
                "type": layer.kind,
                "output shape": str((None, *layer.output_shape)),
                "parameters": f"{layer.params:,}",
            }
            for layer in layers
        ]
    )
    total = sum(layer.params for layer in layers)
    trained = sum(layer.trainable_params for layer in layers)
    return Table(
        frame,
        f"{experiment.name}: {total:,} parameters, {trained:,} of them trained, "
        f"{total - trained:,} not.",
    )


def definition(experiment: Experiment) -> Markdown:
    """The source of an experiment, as it stands in its family's module."""
    module = importlib.import_module(
        f"mnistlab.models.{experiment.name.partition('_')[0]}"
    )
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == experiment.name:
            lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
            code = "\n".join(lines).replace("  # fmt: skip", "")
            return Markdown(f"**{experiment.name}**\n\n```python\n{code}\n```")
    raise ValueError(f"{experiment.name} is not defined in {module.__name__}")


def scores(runs: Sequence[Run]) -> Table:
    """Scores of each run in percent, plain cross-entropy, time, and its record."""
    if not runs:
        return Table(pd.DataFrame(), "There are no runs to show yet.")
    rows = [
        {
            "model": run.name,
            "seed": run.seed,
            "epochs": run.record["epochs"],
            "training accuracy (%)": _percent(run.history[-1]["accuracy"]),
            "test accuracy (%)": _percent(run.record["test"]["accuracy"]),
            "test cross-entropy": f"{run.record['test']['cross_entropy']:.4f}",
            "test loss": f"{run.record['test']['loss']:.4f}",
            "CPU seconds": f"{run.record['cpu_seconds']:.1f}",
            "record": record_link(run),
        }
        for run in runs
    ]
    note = (
        " The loss adds the L2 penalty to the cross-entropy. Training accuracy is the "
        "mean over the last epoch, with dropout on."
    )
    return Table(pd.DataFrame(rows), amount(runs) + note)


def amount(runs: Sequence[Run]) -> str:
    """What runs were trained on: data, how much of it, protocol, backend."""
    kinds = {
        f"{html.escape(r['dataset']['name'])}, {r['train_size']:,} training and "
        f"{r['test_size']:,} test images, protocol {r['protocol']}, {r['backend']}"
        for r in (run.record for run in runs)
    }
    return "; ".join(sorted(kinds)) + "."


def _of_letter(letter: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of the models of one 2019 notebook."""
    finals = reported.finals()
    return [r for r in runs if r.name in finals and finals[r.name].letter == letter]


def table_a(runs: Sequence[Run]) -> PrettyTable:
    """2019's table of A, computed: PrettyTable."""
    table = PrettyTable()
    table.field_names = [
        "model", "kernels", "pooling", "dropout", "batch normalisation", "optimizer",
        "training accuracy", "test accuracy",
    ]  # fmt: skip
    for run in _of_letter("A", runs):
        experiment = run.experiment
        pools = [x.settings for x in experiment.layers if x.kind == "MaxPooling2D"]
        table.add_row(
            [
                run.name,
                _filters(experiment),
                _distinct(f"{p['pool_size'][0]}x{p['pool_size'][1]}" for p in pools),
                _distinct(dropout_rates(experiment)),
                "yes" if has_batchnorm(experiment) else "no",
                experiment.recipe.optimizer.kind,
                f"{run.history[-1]['accuracy']:.4f}",
                f"{run.record['test']['accuracy']:.4f}",
            ]
        )
    return table


def table_b(runs: Sequence[Run]) -> pd.DataFrame:
    """2019's table of B, computed: a row a run, its model the index."""
    rows = {}
    for run in _of_letter("B", runs):
        experiment = run.experiment
        convs = convolutions(experiment)
        rows[run.name if run.seed == 0 else f"{run.name}, seed {run.seed}"] = {
            "#ConvNets": len(convs),
            "#Kernels/Filters": _filters(experiment),
            "Padding": _distinct(conv["padding"] for conv in convs),
            "Stride": _distinct("x".join(map(str, c["strides"])) for c in convs),
            "Dropout": bool(dropout_rates(experiment)),
            "BatchNormalization": has_batchnorm(experiment),
            "Regularization": regularization(experiment),
            "TRAIN_LOSS": round(run.history[-1]["loss"], 5),
            "TEST_LOSS": round(run.record["test"]["loss"], 5),
            "TRAIN_ACC": round(run.history[-1]["accuracy"], 5),
            "TEST_ACC": round(run.record["test"]["accuracy"], 5),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return frame.rename_axis("model")


def table_c(runs: Sequence[Run]) -> pd.DataFrame:
    """2019's table of C, computed: a row a run, its model the index."""
    rows = {}
    for run in _of_letter("C", runs):
        experiment = run.experiment
        rows[run.name if run.seed == 0 else f"{run.name}, seed {run.seed}"] = {
            "filters per layer": _filters(experiment),
            "conv layers": len(convolutions(experiment)),
            "test accuracy": round(run.record["test"]["accuracy"], 4),
            "test score": round(run.record["test"]["loss"], 6),
            "dropout": _distinct(dropout_rates(experiment)),
            "batch normalisation": has_batchnorm(experiment),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def table_d(runs: Sequence[Run]) -> PrettyTable:
    """2019's table of D, computed: PrettyTable. Time is that of training alone."""
    table = PrettyTable()
    table.field_names = ["model", "training accuracy", "test accuracy", "time taken"]
    for run in _of_letter("D", runs):
        minutes, seconds = divmod(round(run.record["seconds"]), 60)
        hours, minutes = divmod(minutes, 60)
        table.add_row(
            [
                run.name,
                f"{run.history[-1]['accuracy']:.4f}",
                f"{run.record['test']['accuracy']:.4f}",
                f"{hours}:{minutes:02}:{seconds:02}",
            ]
        )
    return table


def as_2019(runs: Sequence[Run]) -> HTML:
    """2019's own tables, filled from these runs: those of them that have a row."""
    parts = []
    for letter, table in (
        ("A", table_a),
        ("B", table_b),
        ("C", table_c),
        ("D", table_d),
    ):
        if _of_letter(letter, runs):
            parts.append(f"<p><strong>Table of {letter}</strong></p>")
            with pd.option_context("display.max_colwidth", None):
                parts.append(table(runs)._repr_html_())
    if not runs:
        return HTML("<p>There are no runs to show yet.</p>")
    return HTML("".join(parts) or "<p>2019 made no table of these models.</p>")


def reported_2019(experiments: Sequence[Experiment]) -> Table:
    """What 2019 printed for these experiments, without anything of today."""
    finals = [reported.finals()[e.name] for e in experiments if _is_of_2019(e)]
    rows = [
        {
            "model": final.name,
            "training accuracy (%)": _maybe_percent(final.train_accuracy),
            "test accuracy (%)": _percent(final.test_accuracy),
            "test loss": f"{final.test_loss:.4f}",
            "time": final.time,
        }
        for final in finals
    ]
    frame = pd.DataFrame(rows)
    if not any(row["time"] for row in rows):
        frame = frame.drop(columns="time", errors="ignore")
    return Table(frame, "2019: one run each, validated on the test set.")


def _is_of_2019(experiment: Experiment) -> bool:
    return experiment.name in reported.finals()


def _maybe_percent(value: float | None) -> str:
    return "not printed" if value is None else _percent(value)


def beside_2019(
    experiments: Sequence[Experiment],
    runs: Sequence[Run],
    evidence: Sequence[Run] = (),
) -> Table:
    """2019's test accuracy beside that of every run that may stand beside it.

    Only runs of the whole 2019 recipe on all of MNIST may; for a model without one,
    the row says so.
    """
    known = {run.key16: run for run in [*evidence, *runs] if run.compares_with_2019}
    rows = []
    for experiment in experiments:
        if not _is_of_2019(experiment):
            continue
        final = reported.finals()[experiment.name]
        row = {
            "model": experiment.name,
            "2019: test accuracy (%)": _percent(final.test_accuracy),
        }
        own = [run for run in known.values() if run.name == experiment.name]
        if not own:
            rows.append(row | {"ours (%)": "no full run yet"})
        for run in sorted(own, key=lambda run: (run.seed, run.key16)):
            accuracy = run.record["test"]["accuracy"]
            difference = 100 * (accuracy - final.test_accuracy)
            rows.append(
                row
                | {
                    "ours (%)": _percent(accuracy),
                    "difference (points)": f"{difference:+.2f}",
                    "seed": str(run.seed),
                    "from": _origin(run),
                    "record": record_link(run),
                }
            )
    return Table(pd.DataFrame(rows), _why_not(runs))


def _origin(run: Run) -> str:
    if run.status != "evidence":
        return "this build"
    return f"commit {run.record['commit'][:8]}, {run.record['finished'][:10]}"


def _why_not(runs: Sequence[Run]) -> str:
    if all(run.compares_with_2019 for run in runs):
        return "2019 is one run each. Same recipe, all of MNIST, protocol replicate."
    return (
        "This build's runs are not beside 2019's: only the whole recipe on all of "
        "MNIST under the protocol replicate compares (--profile full)."
    )


def missing(gathered: Gathered) -> Markdown:
    """A sentence that names the runs this build does not have."""
    if not gathered.missing:
        return Markdown("Every model has its runs in this build.")
    names = ", ".join(spec.title for spec in gathered.missing)
    return Markdown(f"**Missing in this build** and not shown: {names}.")
