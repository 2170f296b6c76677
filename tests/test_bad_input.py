"""What a user may get wrong: one sentence, the right exit code, nothing else touched.

Each row is a call of `run_all.py` on a prepared folder. What lies there, data, records
and published pages, is the same afterwards, byte for byte.
"""

import gzip
import html
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import nbformat
import numpy as np
import pytest
from conftest import (
    DECLARE,
    ROOT,
    TINY,
    idx_bytes,
    notebook_of,
    run_command,
    small_pictures,
)

from mnistlab import data, models, schedule, study
from mnistlab.files import IDX_FILES
from mnistlab.models.experiment import Layer
from mnistlab.models.layers import adam, conv, dense, dropout, flatten, pool
from reports import pages

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Case:
    """A mistake: how it is prepared, what is called, what is said.

    `prepare` gets the folder with the inputs; `{here}` in an argument is that folder.
    """

    arguments: tuple[str, ...]
    says: str
    prepare: Callable = lambda here: None
    code: int = 2
    environment: dict[str, str] = field(default_factory=dict)


def with_file(name, content, ending=".gz"):
    """Four good files, but for one."""

    def prepare(here):
        for good, array in small_pictures().items():
            if good != name:
                (here / f"{good}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        if content is not None:
            (here / f"{name}{ending}").write_bytes(content)

    return prepare


def swapped(one, other):
    def prepare(here):
        arrays = small_pictures()
        arrays[one], arrays[other] = arrays[other], arrays[one]
        for name, array in arrays.items():
            (here / name).write_bytes(idx_bytes(array))

    return prepare


def npz(**changes):
    def prepare(here):
        arrays = dict(zip(ARRAYS, small_pictures().values(), strict=True))
        arrays = {name: array.astype(np.uint8) for name, array in arrays.items()}
        arrays = {n: a for n, a in (arrays | changes).items() if a is not None}
        np.savez(here / "mnist.npz", **arrays)

    return prepare


def raw(name, content):
    return lambda here: (here / name).write_bytes(content)


def npy(here):
    np.save(here / "a.npy", np.zeros((12, 28, 28), np.uint8))


def renamed(old, new):
    """Four good files whose names begin otherwise."""

    def prepare(here):
        (here / "raw").mkdir()
        for name, array in small_pictures().items():
            name = (new + name.removeprefix(old)) if name.startswith(old) else name
            name = name.replace("test-images-idx", "test-images.idx")
            (here / name).write_bytes(idx_bytes(array))

    return prepare


def a_folder_for_it(here):
    with_file(TEST_LABELS, None)(here)
    (here / TEST_LABELS).mkdir()


def dangling(here):
    with_file(TEST_LABELS, None)(here)
    (here / TEST_LABELS).symlink_to("nowhere")


def no_text(here):
    (here / "\udcff").mkdir()


IMAGES = idx_bytes(np.zeros((12, 28, 28)))
HERE = ("--dataset", "{here}")
DATA = {
    "no such folder": Case(("--dataset", "{here}/none"), "nothing at that path"),
    "a word": Case(("--dataset", "digits"), "expected mnist, or the path of a folder"),
    "an empty folder": Case(
        HERE, "train-images-idx3-ubyte (gzipped or not) is missing"
    ),
    "a text file": Case(
        ("--dataset", "{here}/a.txt"), "expected an .npz", raw("a.txt", b"digits")
    ),
    "an empty file": Case(HERE, "got an empty file", with_file(TRAIN_IMAGES, b"")),
    "a cut gzip": Case(
        HERE, "damaged or cut off", with_file(TRAIN_IMAGES, gzip.compress(IMAGES)[:-9])
    ),
    "a damaged gzip": Case(
        HERE,
        "damaged or cut off",
        with_file(TRAIN_IMAGES, gzip.compress(IMAGES)[:20] + b"\0" * 40),
    ),
    "no gzip": Case(HERE, "drop .gz from its name", with_file(TRAIN_IMAGES, IMAGES)),
    "two bytes": Case(HERE, "got 0x0000; is it", with_file(TRAIN_IMAGES, b"\0\0", "")),
    "no sizes": Case(
        HERE, "got 0x000008030000; is it", with_file(TRAIN_IMAGES, IMAGES[:6], "")
    ),
    "cut off": Case(
        HERE, "expected 9,408 bytes", with_file(TRAIN_IMAGES, IMAGES[:-1], "")
    ),
    "too long": Case(HERE, "got 9,409", with_file(TRAIN_IMAGES, IMAGES + b"\0", "")),
    "sizes beyond memory": Case(
        HERE,
        "the file is cut off or damaged",
        with_file(TRAIN_IMAGES, idx_bytes(np.zeros(9), 0x0803, (2**32 - 1,) * 3), ""),
    ),
    "a wrong magic number": Case(
        HERE,
        "got 0x00000d03",
        with_file(TRAIN_IMAGES, idx_bytes(np.zeros((1, 28, 28)), 0xD03), ""),
    ),
    "big digits": Case(
        HERE,
        "as bytes (n, 28, 28)",
        with_file(TRAIN_IMAGES, idx_bytes(np.zeros((12, 32, 32))), ""),
    ),
    "no image": Case(
        HERE,
        "at least one",
        with_file(TRAIN_IMAGES, idx_bytes(np.zeros((0, 28, 28))), ""),
    ),
    "a label of 10": Case(
        HERE, "labels 0 to 9", with_file(TEST_LABELS, idx_bytes(np.full(5, 10)), "")
    ),
    "one label too few": Case(
        HERE, "one label for each", with_file(TEST_LABELS, idx_bytes(np.zeros(4)), "")
    ),
    "a missing file": Case(HERE, "t10k-labels", with_file(TEST_LABELS, None)),
    "images for labels": Case(HERE, "magic", swapped(TRAIN_IMAGES, TRAIN_LABELS)),
    "test for training": Case(
        HERE, "training and test files mixed", swapped(TRAIN_LABELS, TEST_LABELS)
    ),
    "npz of other names": Case(
        HERE, "expected the arrays", npz(x_train=None, images=np.zeros(3))
    ),
    "npz of pickles": Case(
        HERE, "of plain arrays", npz(y_test=np.array([{}, None], dtype=object))
    ),
    "npz of fractions": Case(HERE, "as bytes", npz(x_train=np.zeros((12, 28, 28)))),
    "npz of text": Case(HERE, "labels 0 to 9", npz(y_train=np.array(["seven"] * 12))),
    "npz of columns": Case(
        HERE, "so shape (12,), got (12, 1)", npz(y_train=np.zeros((12, 1), int))
    ),
    "an IDX file alone": Case(
        ("--dataset", "{here}/a.gz"),
        "File is not a zip file",
        raw("a.gz", gzip.compress(IMAGES)),
    ),
    "an array alone": Case(("--dataset", "{here}/a.npy"), "expected an .npz", npy),
    "names of a test set": Case(
        HERE, "'test-images.idx3-ubyte', ", renamed("t10k", "test")
    ),
    "names of EMNIST": Case(
        HERE,
        "'emnist-digits-train-images-idx3-ubyte', ",
        renamed("", "emnist-digits-"),
    ),
    "files a folder below": Case(
        HERE, "or give the folder in which are", renamed("", "raw/")
    ),
    "integers": Case(
        HERE,
        "right file, and of bytes?",
        with_file(TEST_LABELS, idx_bytes(np.zeros(8), 0xC02, (5, 8)), ""),
    ),
    "letters": Case(
        HERE, "labels 0 to 9", with_file(TEST_LABELS, idx_bytes(np.full(5, 26)), "")
    ),
    "a folder for a file": Case(HERE, f"{TEST_LABELS} (gzipped or", a_folder_for_it),
    "a link to nothing": Case(HERE, "expected files that can be read", dangling),
    "a link to itself": Case(
        ("--dataset", "{here}/loop"),
        "expected mnist, or the path",
        lambda here: (here / "loop").symlink_to("loop"),
    ),
    "a name that is no text": Case(("--dataset", "{here}/\udcff"), "\\udcff", no_text),
    "a name without end": Case(("--dataset", "x" * 5000), "too long"),
    "nobody's home": Case(("--dataset", "~nobody-of-that-name"), "home directory"),
    "npz cut off": Case(HERE, "plain arrays", raw("mnist.npz", b"PK\3\4 and no more")),
}

SMOKE = ("--profile", "smoke")
OPTIONS = {
    "an unknown notebook": Case(("--only", "conv4"), "--only: expected one of"),
    "nearly a notebook": Case(("--only", "conv22"), "did you mean 'conv2'"),
    "an unknown profile": Case(("--profile", "qiuck"), "did you mean 'quick'"),
    "an unknown protocol": Case(("--protocol", "holdin"), "did you mean 'holdout'"),
    "an unknown parameter": Case(("-p", "epohcs=3"), "did you mean epochs?"),
    "a parameter of no notebook chosen": Case(
        ("--only", "data", "-p", "epochs=3"), "no selected notebook has it"
    ),
    "no value": Case(("-p", "epochs"), "expected NAME=VALUE"),
    "no name": Case(("-p", "=3"), "expected NAME=VALUE"),
    "a word for a number": Case(("-p", "epochs=many"), "a whole number, got 'many'"),
    "a fraction": Case(("-p", "epochs=1.5"), "a whole number, got 1.5"),
    "a truth": Case(("-p", "epochs=True"), "a whole number of at least 1, got True"),
    "code for a value": Case(
        ("-p", "epochs=__import__('os').getpid()"),
        'a whole number, got "__import__',
    ),
    "brackets without end": Case(("-p", "epochs=" + "(" * 500), "a whole number, got"),
    "no epoch": Case(("-p", "epochs=0"), "at least 1, got 0"),
    "few images": Case(("-p", "train_size=5"), "at least 12, got 5"),
    "more images than there are": Case(
        ("-p", "train_size=99999"), "mnist has 60,000 training images, got 99,999"
    ),
    "a number for a name": Case(("-p", "profile=3"), "expected a value like 'full'"),
    "no seeds": Case(("-p", "seeds=()"), "seeds: expected numbers such as"),
    "a negative seed": Case(("-p", "seeds=-1"), "at least 0, got -1"),
    "words for seeds": Case(("-p", "seeds=('a',)"), "seeds: expected a whole number"),
    "the family": Case(("-p", "family=mlp"), "choose it with --only"),
    "the data": Case(("-p", "dataset=mnist"), "use --dataset"),
    "the output folder": Case(("-p", "out=../../etc"), "use --out"),
    "no worker": Case(("--workers", "0"), "0 is not in the range x>=1"),
    "no number": Case(("--seeds", "none"), "'none' is not a valid integer"),
    "no time": Case(("--timeout", "0"), "0 is not in the range x>=1"),
    "an unknown option": Case(("--sedes", "2"), "No such option '--sedes'"),
    "an argument": Case(("mlp",), "unexpected extra argument (mlp)"),
    "an option without its value": Case(
        ("--out", "{here}/out", "--only"), "Option '--only' requires an argument"
    ),
    "workers and a scheduler": Case(
        ("--workers", "1", "--scheduler", "tcp://x:1"), "exclude each other"
    ),
    "an unknown backend": Case(
        (), "KERAS_BACKEND: expected one of", environment={"KERAS_BACKEND": "theano"}
    ),
    "no scheduler": Case(
        ("--only", "mlp", "--scheduler", "tcp://127.0.0.1:1"),
        "expected a Dask scheduler to answer there",
    ),
    "no address": Case(
        ("--only", "mlp", "--scheduler", "nonsense://x"),
        "expected a Dask scheduler to answer there",
    ),
    "a file for an output folder": Case(
        ("--out", "{here}/file"), "cannot write into", raw("file", b"")
    ),
    "an output folder in a file": Case(
        ("--out", "{here}/file/out"), "cannot write into", raw("file", b"")
    ),
    "no place for an output folder": Case(("--out", "/proc/none"), "cannot write into"),
}


def contents(folder):
    """Every file below a folder; not the lock that a build leaves."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".holder")
    }


MISTAKES = {
    **{f"data: {name}": case for name, case in DATA.items()},
    **{
        f"options: {name}": replace(case, arguments=(*SMOKE, *case.arguments))
        for name, case in OPTIONS.items()
    },
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_a_sentence_and_touches_nothing(
    name, run, tmp_path, monkeypatch
):
    case = MISTAKES[name]
    here = tmp_path / "here"
    here.mkdir()
    case.prepare(here)
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, value.format(here=here))
    arguments = [text.replace("{here}", str(here)) for text in case.arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    before = contents(here)
    code, out, err = run(*arguments)
    assert code == case.code
    assert case.says in err
    assert err.startswith("run_all.py: ")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in out + err
    assert contents(here) == before
    assert not (tmp_path / "out" / "runs").exists()


IMPOSSIBLE = {
    "a pool larger than the picture": (
        {"layers": (conv(2, 3), pool(30), flatten())},
        "pool_1: a window of 30 does not fit",
    ),
    "an unknown layer": ({"layers": (Layer("Convolve"),)}, "a Convolve; known are"),
    "no filters": ({"layers": (conv(0, 3), flatten())}, "conv_1: filters"),
    "fewer than no units": ({"layers": (dense(-4),)}, "dense_1: units"),
    "half a filter": ({"layers": (conv(2.5, 3), flatten())}, "conv_1: filters"),
    "no kernel": ({"layers": (conv(2, 0), flatten())}, "conv_1: kernel_size"),
    "a stride of nothing": (
        {"layers": (conv(2, 3, stride=0), flatten())},
        "conv_1: strides",
    ),
    "more dropout than there is": ({"layers": (dropout(1.5),)}, "dropout_1: rate"),
    "an unknown padding": (
        {"layers": (conv(2, 3, padding="some"), flatten())},
        "conv_1: padding",
    ),
    "no flatten": ({"layers": (conv(2, 3), dense(4))}, "dense_1: needs a row"),
    "a picture that ends in the output": (
        {"layers": (conv(2, 3),)},
        "output: needs a row; put a flatten() before it",
    ),
    "a convolution of a row": (
        {"layers": (pool(), flatten(), conv(2, 3))},
        "conv_1: needs an image",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_experiment_that_cannot_be_is_told_before_training(
    name, run, tmp_path, monkeypatch
):
    changes, message = IMPOSSIBLE[name]
    wrong = replace(TINY, name="wrong", **changes)
    monkeypatch.setitem(models.FAMILIES, "mlp", (*models.FAMILIES["mlp"], wrong))
    code, out, err = run(*SMOKE, "--only", "mlp", "--out", tmp_path)
    assert code == 2
    assert "wrong: " in err
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "runs").exists()


BROKEN_FAMILIES = {
    "a name that is no folder": ('name="mlp_e1"', 'name="../e1"', "use lower-case"),
    "no epochs": ("epochs=20", "epochs=0", "recipe: epochs must be a whole number"),
}


@pytest.mark.parametrize("name", BROKEN_FAMILIES)
def test_an_experiment_that_cannot_be_written_is_one_line(name, tmp_path):
    old, new, message = BROKEN_FAMILIES[name]
    for part in ("mnistlab", "reports", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "run_all.py", tmp_path)
    for path in (tmp_path / "mnistlab" / "models").glob("*.py"):
        path.write_text(path.read_text().replace(old, new))
    done = run_command(*SMOKE, script=tmp_path / "run_all.py")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_experiments_of_one_name_are_told(run, tmp_path, monkeypatch):
    family = models.FAMILIES["mlp"]
    monkeypatch.setitem(models.FAMILIES, "mlp", (*family, family[0]))
    code, _, err = run(*SMOKE, "--only", "mlp", "--out", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "the name 'mlp_e1' is there twice" in err


def notebook(*sources, tags=True, **changes):
    """The bytes of a notebook whose first cell holds the parameters."""
    made = notebook_of("profile = 'quick'", *sources)
    made.metadata["language_info"] = {"name": "python"}
    if tags:
        made.cells[0].metadata["tags"] = ["parameters"]
    return json.dumps(dict(made) | changes).encode()


def of_another_language():
    kernel = {"name": "ifort", "display_name": "Fortran", "language": "fortran"}
    return notebook("1", metadata={"kernelspec": kernel})


def of_2012():
    made = nbformat.v3.new_notebook(
        worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("1")])]
    )
    return json.dumps(made).encode()


NOTEBOOKS = {
    "no parameters cell": (notebook(tags=False), 2, "no cell is tagged 'parameters'"),
    "logic among parameters": (
        notebook("x = 1").replace(b"profile = 'quick'", b"import os"),
        2,
        "may only hold lines such as name = 1",
    ),
    "a family that is none": (
        notebook().replace(b"profile = 'quick'", b"family = None"),
        2,
        "mine.ipynb: family: expected one of mlp",
    ),
    "half a file": (notebook(DECLARE)[:-30], 2, "cannot be read as a notebook"),
    "an empty file": (b"", 2, "cannot be read as a notebook"),
    "no text": (b"\xff\xfe\x00", 2, "cannot be read as a notebook"),
    "no notebook": (b"{}", 2, "cannot be read as a notebook"),
    "a format of the future": (notebook(nbformat=9), 2, "cannot be read as a notebook"),
    "a format of 2012": (of_2012(), 2, "cannot be read as a notebook"),
    "an unknown kernel": (
        of_another_language(),
        1,
        "a notebook for Python; its kernel is 'fortran'",
    ),
    "an error in a cell": (notebook("1 / 0", DECLARE), 1, "ZeroDivisionError"),
    "no result": (notebook("1"), 1, "declares no result"),
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_that_is_none_is_named_and_no_page_of_it_published(
    name, run, tmp_path, monkeypatch, no_evidence
):
    content, expected, message = NOTEBOOKS[name]
    here = tmp_path / "notebooks"
    here.mkdir()
    (here / "mine.ipynb").write_bytes(content)
    monkeypatch.setattr(pages, "NOTEBOOKS", here)
    before = contents(here)
    code, out, err = run(*SMOKE, "--out", tmp_path / "out")
    assert code == expected
    assert message in re.sub(r"[\s│]+", " ", out + err)
    assert "mine" in out + err
    assert "Traceback" not in out + err
    assert contents(here) == before
    page = tmp_path / "out" / "site" / "mine.html"
    assert code == 2 or "mine is not published" in page.read_text()
    assert not (tmp_path / "out" / "notebooks").exists()


def test_bad_notebooks_are_named_and_the_others_published(
    run, tmp_path, monkeypatch, no_evidence
):
    """What a folder of notebooks gathers: scratch files, companions, odd names."""
    here, site = tmp_path / "notebooks", tmp_path / "out" / "site"
    here.mkdir()
    good, odd = notebook("print('fine')", DECLARE), "50 % of #1 & <2>"
    (here / "good.ipynb").write_bytes(good)
    (here / f"{odd}.ipynb").write_bytes(good)
    (here / "._good.ipynb").write_bytes(b"\0\5Mac OS X")
    (here / "Index.ipynb").write_bytes(good)
    (here / "Untitled.ipynb").write_bytes(notebook("1", tags=False))
    (here / "folder.ipynb").mkdir()
    monkeypatch.setattr(pages, "NOTEBOOKS", here)
    dry, out, err = run(*SMOKE, "--out", tmp_path / "out", "--dry-run")
    assert (dry, err) == (0, "")
    assert out.count("fail (") == 3
    code, out, err = run(*SMOKE, "--out", tmp_path / "out")
    assert code == 1, out + err
    assert "._" not in out + err
    states = json.loads((tmp_path / "out" / "summary.json").read_text())["notebooks"]
    assert {name: states[name]["status"] for name in states} == {
        "good": "published", odd: "published",
        "Index": "failed", "Untitled": "failed", "folder": "failed",
    }  # fmt: skip
    assert "the site has such a page" in states["Index"]["message"]
    assert "no cell is tagged" in states["Untitled"]["message"]
    text = (site / "index.html").read_text()
    assert "MNIST" in text, "it is still the site's own"
    assert f'href="{quote(odd)}.html"' in text
    assert html.escape(odd) in text
    for page in site.glob("*.html"):
        assert "<2>" not in page.read_text()


def test_what_a_cell_says_holds_where_no_option_was_given(run, tmp_path, monkeypatch):
    cell = "family = 'mlp'\ndataset = 'mnist'\nprofile = 'smoke'\nseeds = (0, 1)"
    content = notebook(DECLARE).replace(
        b"profile = 'quick'", json.dumps(cell)[1:-1].encode()
    )
    (tmp_path / "mine.ipynb").write_bytes(content)
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path)
    npz()(tmp_path)

    def seen(*options):
        code, out, err = run("--dry-run", "--out", tmp_path / "out", *options)
        assert (code, err) == (0, "")
        return out

    assert re.findall("mlp_e1, seed ([0-9])", seen()) == ["0", "1"]
    assert re.findall("mlp_e1, seed ([0-9])", seen("--seeds", "1")) == ["0"]
    (page,) = pages.pages((), {}, {}, data.load())
    assert {spec.profile for spec in page.specs} == {"smoke"}
    (page,) = pages.pages((), {"profile": "quick"}, {}, data.load())
    assert {spec.profile for spec in page.specs} == {"quick"}
    (tmp_path / "other.ipynb").write_bytes(content.replace(b"mnist", b"../own"))
    assert "fail (other.ipynb: its cell has dataset = '../own'; give it as" in seen()
    (tmp_path / "other.ipynb").write_bytes(content.replace(b"smoke", b"smok"))
    assert "fail (other.ipynb: profile: expected one of smoke" in seen()
    assert "fail" not in seen("--profile", "smoke")
    (tmp_path / "bare.ipynb").write_bytes(notebook(DECLARE))
    assert "fail" not in seen("--profile", "smoke", "--dataset", tmp_path / "mnist.npz")


def test_outputs_of_another_time_are_not_published(
    run, tmp_path, monkeypatch, no_evidence
):
    made = nbformat.reads(notebook("1 + 1", DECLARE).decode(), as_version=4)
    made.cells[1].outputs = [nbformat.v4.new_output("stream", text="of yesterday")]
    made.cells[1].execution_count = 77
    nbformat.write(made, tmp_path / "mine.ipynb")
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path)
    code, out, err = run(*SMOKE, "--out", tmp_path / "out")
    assert code == 0, out + err
    page = (tmp_path / "out" / "site" / "mine.html").read_text()
    assert "of yesterday" not in page


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with one finished run of a family that has one model."""
    out = tmp_path_factory.mktemp("built")
    digits = data.load()
    spec = study.specify((SMALL,), digits, profile="smoke")[0]
    (result,) = schedule.train_runs([spec], digits, out)
    assert result.kind == "trained", result.message
    return out


SMALL = replace(TINY, name="small", layers=(dense(4),))


def edited(**changes):
    def damage(folder):
        path = folder / "run.json"
        record = json.loads(path.read_text()) | changes
        path.write_text(json.dumps(record))

    return damage


def replaced(name, content):
    def damage(folder):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return damage


def a_folder(folder):
    (folder / "run.json").unlink()
    (folder / "run.json").mkdir()


RECORDS = {
    "cut off": replaced("run.json", b'{"schema": 1, "model": "sm'),
    "empty": replaced("run.json", b""),
    "no text": replaced("run.json", b"\xff\xfe\x00"),
    "a list": replaced("run.json", b"[]"),
    "nested without end": replaced("run.json", b"[" * 100_000),
    "a folder": a_folder,
    "of a later schema": edited(schema=2),
    "of another key": edited(key="f" * 64),
    "without its experiment": edited(experiment={}),
    "with a path for a name": edited(model="../../x"),
    "with markup for a name": edited(model="<script>"),
    "with markup for a key": edited(key="<img src=x onerr" + "0" * 48),
    "with markup for a protocol": edited(protocol="<script>"),
    "with a command for a backend": edited(backend="torch; reboot"),
    "with markup for a seed": edited(seed="<img src=x>"),
    "with a truth for its epochs": edited(epochs=True),
    "with a number for a commit": edited(commit=3),
    "without a history": edited(history=[]),
    "without a test": edited(test={}),
    "with another's predictions": edited(test_size=7),
    "without predictions": replaced("predictions.npz", None),
    "with half its predictions": replaced("predictions.npz", b"PK\3\4"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_cannot_be_used_is_named_and_trained_again(
    name, run, built, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(built, out)
    (folder,) = out.glob("runs/small/*")
    RECORDS[name](folder)
    monkeypatch.setitem(models.FAMILIES, "mlp", (SMALL,))
    before = contents(out)
    code, said, err = run(*SMOKE, "--only", "mlp", "--dry-run", "--out", out)
    assert code == 0, said + err
    assert "small, seed 0" in said
    assert "train (its record cannot be used)" in said
    assert f"{folder / 'run.json'} is not used" in err
    assert "Traceback" not in said + err
    assert contents(out) == before


def test_a_loss_that_is_not_a_number_fails_the_run_and_its_page(
    run, tmp_path, monkeypatch, no_evidence
):
    recipe = replace(SMALL.recipe, optimizer=adam(1e30))
    monkeypatch.setitem(models.FAMILIES, "mlp", (replace(SMALL, recipe=recipe),))
    code, out, err = run(*SMOKE, "--only", "mlp", "--out", tmp_path)
    assert code == 1
    assert "small, seed 0: " in out
    assert "finite number; try a smaller learning rate" in out
    assert "Traceback" not in out + err
    assert not list(tmp_path.glob("runs/*/*/*")), "nothing half-written"


def test_a_run_that_fails_under_fresh_is_not_hidden_by_its_old_record(
    run, built, tmp_path, monkeypatch, no_evidence
):
    def fail(specs, *_, report, **__):
        for spec in specs:
            report(schedule.Progress("failed", spec, message="its worker died [/x]"))

    monkeypatch.setitem(models.FAMILIES, "mlp", (SMALL,))
    monkeypatch.setattr(schedule, "train_runs", fail)
    out = shutil.copytree(built, tmp_path / "out")
    code, said, err = run(*SMOKE, "--only", "mlp", "--fresh", "--out", out)
    assert code == 1, said + err
    assert "its worker died [/x]" in re.sub(r"[\s│]+", " ", said)
    page = (out / "site" / "failed" / "mlp.html").read_text()
    assert "small, seed 0: its worker died [/x]" in page
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exit_code"] == 1
    assert summary["notebooks"]["mlp"]["status"] == "failed"
    assert list(out.glob("runs/small/*/run.json")), "what was there is kept"


@pytest.mark.parametrize("name", ["runs", "notebooks", "site", "failed"])
def test_a_file_where_a_folder_must_be_is_one_line(
    name, run, tmp_path, monkeypatch, no_evidence
):
    monkeypatch.setitem(models.FAMILIES, "mlp", (SMALL,))
    (tmp_path / name).write_text("mine")
    page = "mlp" if name == "runs" else "data"
    code, out, err = run(*SMOKE, "--only", page, "--out", tmp_path)
    assert code == 1
    assert "cannot write" in err
    assert "Traceback" not in out + err
    assert (tmp_path / name).read_text() == "mine"


TERMINALS = {
    "no output": (">&-", 0, ""),
    "no stream at all": (">&- 2>&- <&-", 0, ""),
    "a reader that has gone": ("| true", 1, ""),
    "a full disk": (">/dev/full", 1, "standard output: [Errno 28] No space left"),
    "a full disk for errors": ("2>/dev/full", 0, ""),
    "an encoding without Greek": ("| grep 'u03bb: 12'", 0, ""),
}


@pytest.mark.parametrize("name", TERMINALS)
def test_where_nobody_can_read_it_the_command_ends_in_good_order(name, tmp_path):
    where, code, says = TERMINALS[name]
    here = tmp_path / "λ"
    here.mkdir()
    with_file(None, None)(here)
    command = f"{sys.executable} run_all.py --only mlp --dry-run --dataset '{here}'"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} {where}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says), done.stderr


def test_another_program_is_no_scheduler(run, tmp_path):
    class Web(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        arguments = ("--only", "mlp", "--scheduler", address, "--out", tmp_path)
        code, out, err = run(*SMOKE, *arguments)
        server.shutdown()
    assert code == 2
    assert "expected a Dask scheduler to answer there" in err
    assert "Traceback" not in out + err
