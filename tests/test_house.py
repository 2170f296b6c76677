"""The structure of the code: which part may know which, and how large they are."""

import ast
import hashlib
import io
import json
import tokenize

import pytest
from conftest import EXPERIMENTS, ROOT, loaded_by

from mnistlab import runs, store, train

# Lines of code that each, and a module of it, may have; who removes some lowers them.
MOST = {
    "mnistlab": (5_027, 300),
    "reports": (2_267, 300),
    "run_all.py": (220, 220),
}
NO_CODE = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
)  # fmt: skip


def modules(part):
    path = ROOT / part
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def lines_of_code(path):
    """Without docstrings, comments and blank lines."""
    source, lines = path.read_text(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("part", MOST)
def test_it_stays_small(part):
    counts = {str(path): lines_of_code(path) for path in modules(part)}
    print(part, sum(counts.values()), counts)
    all_of, of_one = MOST[part]
    assert sum(counts.values()) <= all_of, "remove something, or say why not"
    assert max(counts.values()) <= of_one, counts


def test_the_library_does_not_know_the_tool():
    for path in modules("mnistlab"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            tops = {name.partition(".")[0] for name in names}
            assert not tops & {"reports", "run_all"}, f"{path} imports the tool"


def test_plots_and_tables_need_neither_keras_nor_the_scheduler():
    heavy = {"keras", "distributed", "mnistlab.schedule"}
    assert not loaded_by("mnistlab.plots, mnistlab.tables") & heavy


def test_the_keys_of_all_committed_runs_are_what_this_code_makes_of_them():
    """Only their library versions may be others."""
    committed = store.evidence()
    assert committed
    for run in committed:
        record = run.record
        assert run.experiment == EXPERIMENTS[run.name]
        task = train.Task(
            run.experiment, run.seed, record["epochs"], record["protocol"],
            record["train_size"], record["test_size"], record["image_data_format"],
        )  # fmt: skip
        data = record["dataset"]
        spec = runs.RunSpec(
            task, data["name"], data["fingerprint"], record["profile"],
            record["backend"],
        )  # fmt: skip
        parts = runs.key_parts(spec)
        parts["versions"] = record["key_parts"]["versions"]
        text = json.dumps(parts, sort_keys=True, allow_nan=False)
        assert hashlib.sha256(text.encode()).hexdigest() == record["key"], run
