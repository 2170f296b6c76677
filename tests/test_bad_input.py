"""What a user may get wrong: one sentence, the right exit code, nothing else touched.

Each row is a call of `run_all.py` on a prepared folder. What lies there, data, records
and published pages, is the same afterwards, byte for byte.
"""

import gzip
import html
import io
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import nbformat
import numpy as np
import pytest
from conftest import (
    DECLARE,
    ROOT,
    TINY,
    command_of,
    idx_bytes,
    notebook_of,
    small_pictures,
)  # fmt: skip

from mnistlab import data, models, schedule, store, study, train
from mnistlab.files import ARRAYS, IDX_FILES
from mnistlab.models.experiment import Layer
from mnistlab.models.layers import conv, dense, dropout, flatten, pool
from reports import pages

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES
PICTURES = small_pictures()
FILES = {name: idx_bytes(array) for name, array in PICTURES.items()}
A_FOLDER = object()


def write(here, files):
    """Write files by name: bytes, a path for a link to it, or a folder."""
    for name, content in files.items():
        path = here / name
        path.parent.mkdir(exist_ok=True)
        if content is A_FOLDER:
            path.mkdir()
        elif isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def without(name):
    return {good: content for good, content in FILES.items() if good != name}


def images(content):
    return FILES | {TRAIN_IMAGES: content}


def gzipped_images(content):
    return without(TRAIN_IMAGES) | {f"{TRAIN_IMAGES}.gz": content}


def labels(content):
    return FILES | {TEST_LABELS: content}


def swapped(one, other):
    return FILES | {one: FILES[other], other: FILES[one]}


def renamed(new_name):
    return {new_name(name): content for name, content in FILES.items()}


def bytes_of(save, *arrays, **named):
    """What `np.save` or `np.savez` writes."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def npz(**changes):
    arrays = dict(zip(ARRAYS, PICTURES.values(), strict=True)) | changes
    arrays = {name: array for name, array in arrays.items() if array is not None}
    return {"mnist.npz": bytes_of(np.savez, **arrays)}


GOOD = idx_bytes(np.zeros((12, 28, 28)))
GZIPPED = gzip.compress(GOOD)
# What is said, the files that are there, and what is given if not their folder.
DATA = {
    "no such folder": ("nothing at that path", {}, "{here}/none"),
    "a word": ("expected mnist, or the path of a folder", {}, "digits"),
    "nobody's home": ("home directory", {}, "~nobody-of-that-name"),
    "a name without end": ("too long", {}, "x" * 5000),
    "a name that is no text": ("\\udcff", {"\udcff": A_FOLDER}, "{here}/\udcff"),
    "an empty folder": ("images-idx3-ubyte (gzipped or not) is missing", {}),
    "a text file": ("expected an .npz", {"a.txt": b"digits"}, "{here}/a.txt"),
    "an array alone": (
        "expected an .npz",
        {"a.npy": bytes_of(np.save, PICTURES[TRAIN_IMAGES])}, "{here}/a.npy",
    ),
    "an IDX file alone": ("File is not a zip file", {"a.gz": GZIPPED}, "{here}/a.gz"),
    "a link to itself": (
        "expected mnist, or the path", {"loop": Path("loop")}, "{here}/loop"
    ),
    "a link to nothing": ("expected files that can be read", labels(Path("nowhere"))),
    "a folder for a file": (f"{TEST_LABELS} (gzipped or", labels(A_FOLDER)),
    "a missing file": ("t10k-labels", without(TEST_LABELS)),
    "an empty file": ("got an empty file", gzipped_images(b"")),
    "a cut gzip": ("damaged or cut off", gzipped_images(GZIPPED[:-9])),
    "a damaged gzip": ("damaged or cut off", gzipped_images(GZIPPED[:20] + b"\0" * 40)),
    "no gzip": ("drop .gz from its name", gzipped_images(GOOD)),
    "two bytes": ("got 0x0000; is it", images(b"\0\0")),
    "no sizes": ("got 0x000008030000; is it", images(GOOD[:6])),
    "cut off": ("expected 9,408 bytes", images(GOOD[:-1])),
    "too long": ("got 9,409", images(GOOD + b"\0")),
    "sizes beyond memory": (
        "the file is cut off or damaged",
        images(idx_bytes(np.zeros(9), 0x0803, (2**32 - 1,) * 3)),
    ),
    "a wrong magic number": (
        "got 0x00000d03", images(idx_bytes(np.zeros((1, 28, 28)), 0xD03))
    ),
    "big digits": ("as bytes (n, 28, 28)", images(idx_bytes(np.zeros((12, 32, 32))))),
    "no image": ("at least one", images(idx_bytes(np.zeros((0, 28, 28))))),
    "a label of 10": ("labels 0 to 9", labels(idx_bytes(np.full(5, 10)))),
    "integers": (
        "right file, and of bytes?", labels(idx_bytes(np.zeros(8), 0xC02, (5, 8)))
    ),
    "one label too few": ("one label for each", labels(idx_bytes(np.zeros(4)))),
    "images for labels": ("magic", swapped(TRAIN_IMAGES, TRAIN_LABELS)),
    "test for training": (
        "training and test files mixed", swapped(TRAIN_LABELS, TEST_LABELS)
    ),
    "names of a test set": (
        "'test-images.idx3-ubyte', ",
        renamed(lambda name: name.replace("t10k", "test").replace("-idx", ".idx")),
    ),
    "names of EMNIST": (
        "'emnist-digits-train-images-idx3-ubyte', ", renamed("emnist-digits-{}".format)
    ),
    "files a folder below": (
        "or give the folder in which are", renamed("raw/{}".format)
    ),
    "npz of other names": (
        "expected the arrays", npz(x_train=None, images=np.zeros(3))
    ),
    "npz of pickles": (
        "of plain arrays", npz(y_test=np.array([{}, None], dtype=object))
    ),
    "npz of fractions": ("as bytes", npz(x_train=np.zeros((12, 28, 28)))),
    "npz of text": ("labels 0 to 9", npz(y_train=np.array(["seven"] * 12))),
    "npz of columns": (
        "so shape (12,), got (12, 1)", npz(y_train=np.zeros((12, 1), int))
    ),
    "npz cut off": ("plain arrays", {"mnist.npz": b"PK\3\4 and no more"}),
}  # fmt: skip

SMOKE = ("--profile", "smoke")
# What is written behind the command, and what is said.
OPTIONS = {
    "--only conv4": "--only: expected one of",
    "--only conv22": "did you mean 'conv2'",
    "--profile qiuck": "did you mean 'quick'",
    "--protocol holdin": "did you mean 'holdout'",
    "-p epohcs=3": "did you mean epochs?",
    "--only data -p epochs=3": "no selected notebook has it",
    "-p epochs": "expected NAME=VALUE",
    "-p =3": "expected NAME=VALUE",
    "-p epochs=many": "a whole number, got 'many'",
    "-p epochs=1.5": "a whole number, got 1.5",
    "-p epochs=True": "a whole number of at least 1, got True",
    "-p epochs=__import__('os').getpid()": 'a whole number, got "__import__',
    "-p epochs=" + "(" * 500: "a whole number, got",
    "-p epochs=0": "at least 1, got 0",
    "-p train_size=5": "at least 12, got 5",
    "-p train_size=99999": "mnist has 60,000 training images, got 99,999",
    "-p profile=3": "expected a value like 'full'",
    "-p seeds=()": "seeds: expected numbers such as",
    "-p seeds=-1": "at least 0, got -1",
    "-p seeds=('a',)": "seeds: expected a whole number",
    "-p family=mlp": "choose it with --only",
    "-p dataset=mnist": "use --dataset",
    "-p out=../../etc": "use --out",
    "--workers 0": "0 is not in the range x>=1",
    "--seeds none": "'none' is not a valid integer",
    "--timeout 0": "0 is not in the range x>=1",
    "--sedes 2": "No such option '--sedes'",
    "mlp": "unexpected extra argument (mlp)",
    "--out {here}/out --only": "Option '--only' requires an argument",
    "--workers 1 --scheduler tcp://x:1": "exclude each other",
    "--only mlp --scheduler tcp://127.0.0.1:1": "expected a Dask scheduler to answer",
    "--only mlp --scheduler nonsense://x": "expected a Dask scheduler to answer there",
    "--dataset=": "is missing, found",
    "--out {here}/file": "cannot write into",
    "--out {here}/file/out": "cannot write into",
    "--out /proc/none": "cannot write into",
}


def contents(folder):
    """Every file below a folder; not the lock that a build leaves."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".holder")
    }


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def notebooks(here, monkeypatch):
    """A folder whose notebooks are the collection."""
    monkeypatch.setattr(pages, "NOTEBOOKS", here)
    return here


@pytest.fixture
def refused(run, here, tmp_path):
    """Call the command with a mistake: it says one line, and touches nothing."""

    def call(*arguments):
        out, before = tmp_path / "out", contents(here)
        code, said, err = run(*SMOKE, "--out", out, *arguments)
        assert code == 2
        assert err.startswith("run_all.py: ")
        assert err.count("\n") == 1, "one line"
        assert "Traceback" not in said + err
        assert contents(here) == before
        assert not (out / "runs").exists()
        return err

    return call


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_used_get_a_sentence(name, refused, here):
    says, files, *elsewhere = DATA[name]
    (given,) = elsewhere or ["{here}"]
    write(here, files)
    assert says in refused("--dataset", given.replace("{here}", str(here)))


@pytest.mark.parametrize("text", OPTIONS, ids="{:.50}".format)
def test_an_option_that_cannot_be_gets_a_sentence(text, refused, here):
    write(here, {"file": b""})
    assert OPTIONS[text] in refused(*text.replace("{here}", str(here)).split())


IMPOSSIBLE = {
    "pool_1: a window of 30 does not fit": (conv(2, 3), pool(30), flatten()),
    "a Convolve; known are": (Layer("Convolve"),),
    "filters must be a whole number of at least 1, got 0": (conv(0, 3), flatten()),
    "filters must be a whole number of at least 1, got 2.5": (conv(2.5, 3), flatten()),
    "dense_1: units": (dense(-4),),
    "conv_1: kernel_size": (conv(2, 0), flatten()),
    "conv_1: strides": (conv(2, 3, stride=0), flatten()),
    "dropout_1: rate": (dropout(1.5),),
    "rate must be a fraction from 0 to below 1, got '0.5'": (dropout("0.5"),),
    "conv_1: padding": (conv(2, 3, padding="some"), flatten()),
    "dense_1: needs a row": (conv(2, 3), dense(4)),
    "output: needs a row; put a flatten() before it": (conv(2, 3),),
    "conv_1: needs an image": (pool(), flatten(), conv(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_an_experiment_that_cannot_be_is_told_before_training(
    message, refused, monkeypatch
):
    wrong = replace(TINY, name="wrong", layers=IMPOSSIBLE[message])
    monkeypatch.setitem(models.FAMILIES, "mlp", (*models.FAMILIES["mlp"], wrong))
    err = refused("--only", "mlp")
    assert "wrong: " in err
    assert message in err


def test_two_experiments_of_one_name_are_told(refused, monkeypatch):
    family = models.FAMILIES["mlp"]
    monkeypatch.setitem(models.FAMILIES, "mlp", (*family, family[0]))
    assert "the name 'mlp_e1' is there twice" in refused("--only", "mlp")


def test_an_experiment_that_cannot_be_written_is_one_line_in_a_shell(
    checkout, tmp_path
):
    copy = shutil.copytree(checkout, tmp_path / "copy")
    family = copy / "mnistlab" / "models" / "mlp.py"
    family.write_text(family.read_text().replace('name="mlp_e1"', 'name="../e1"'))
    done = command_of(copy, *SMOKE)
    assert done.returncode == 2
    assert "use lower-case" in done.stderr
    assert done.stderr.count("\n") == 1


def notebook(*sources, tags=True, **changes):
    """The bytes of a notebook whose first cell holds the parameters."""
    made = notebook_of("profile = 'quick'", *sources)
    made.metadata["language_info"] = {"name": "python"}
    if tags:
        made.cells[0].metadata["tags"] = ["parameters"]
    return json.dumps(dict(made) | changes).encode()


def of_2012():
    made = nbformat.v3.new_notebook(
        worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("1")])]
    )
    return json.dumps(made).encode()


NO_NOTEBOOK = "cannot be read as a notebook"
NOTEBOOKS = {
    "no parameters cell": (notebook(tags=False), "no cell is tagged 'parameters'"),
    "logic among parameters": (
        notebook("x = 1").replace(b"profile = 'quick'", b"import os"),
        "may only hold lines such as name = 1",
    ),
    "a set among parameters": (
        notebook("x = 1").replace(b"profile = 'quick'", b"digits = {3, 8}"),
        "may only hold lines such as name = 1",
    ),
    "a family that is none": (
        notebook().replace(b"profile = 'quick'", b"family = None"),
        "mine.ipynb: family: expected one of mlp",
    ),
    "half a file": (notebook(DECLARE)[:-30], NO_NOTEBOOK),
    "an empty file": (b"", NO_NOTEBOOK),
    "no text": (b"\xff\xfe\x00", NO_NOTEBOOK),
    "no notebook": (b"{}", NO_NOTEBOOK),
    "a format of the future": (notebook(nbformat=9), NO_NOTEBOOK),
    "a format of 2012": (of_2012(), NO_NOTEBOOK),
    "an error in a cell": (notebook("1 / 0", DECLARE), "ZeroDivisionError"),
}  # the other ways in which an execution ends are in test_execute.py


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_that_is_none_is_named_and_no_page_of_it_published(
    name, run, notebooks, tmp_path, no_evidence
):
    content, message = NOTEBOOKS[name]
    write(notebooks, {"mine.ipynb": content})
    before = contents(notebooks)
    code, out, err = run(*SMOKE, "--out", tmp_path / "out")
    assert code == (1 if "error" in name else 2)
    assert message in re.sub(r"[\s│]+", " ", out + err)
    assert "mine" in out + err
    assert "Traceback" not in out + err
    assert contents(notebooks) == before
    page = tmp_path / "out" / "site" / "mine.html"
    assert code == 2 or "mine is not published" in page.read_text()
    assert not (tmp_path / "out" / "notebooks").exists()


def test_bad_notebooks_are_named_and_the_others_published(
    run, notebooks, tmp_path, no_evidence
):
    """What a folder of notebooks gathers: scratch files, companions, odd names.

    Outputs of another time are not published.
    """
    site = tmp_path / "out" / "site"
    good, odd = notebook("1 + 1", DECLARE), "50 % of #1 & <2>"
    made = nbformat.reads(good.decode(), as_version=4)
    made.cells[1].outputs = [nbformat.v4.new_output("stream", text="of yesterday")]
    made.cells[1].execution_count = 77
    files = {
        f"{odd}.ipynb": nbformat.writes(made).encode(),
        "._good.ipynb": b"\0\5Mac OS X",
        "Index.ipynb": good,
        "Untitled.ipynb": notebook("1", tags=False),
        "folder.ipynb": A_FOLDER,
    }
    write(notebooks, files)
    dry, out, err = run(*SMOKE, "--out", tmp_path / "out", "--dry-run")
    assert (dry, err) == (0, "")
    assert out.count("fail (") == 3
    code, out, err = run(*SMOKE, "--out", tmp_path / "out")
    assert code == 1, out + err
    assert "._" not in out + err
    states = json.loads((tmp_path / "out" / "summary.json").read_text())["notebooks"]
    assert {name: states[name]["status"] for name in states} == {
        odd: "published",
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
    assert "of yesterday" not in (site / f"{odd}.html").read_text()


def test_what_a_cell_says_holds_where_no_option_was_given(run, notebooks, tmp_path):
    cell = "family = 'mlp'\ndataset = 'mnist'\nprofile = 'smoke'\nseeds = (0, 1)"
    content = notebook(DECLARE).replace(
        b"profile = 'quick'", json.dumps(cell)[1:-1].encode()
    )
    write(notebooks, npz() | {"mine.ipynb": content})

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
    write(notebooks, {"other.ipynb": content.replace(b"mnist", b"../own")})
    assert "fail (other.ipynb: its cell has dataset = '../own'; give it as" in seen()
    write(notebooks, {"other.ipynb": content.replace(b"smoke", b"smok")})
    assert "fail (other.ipynb: profile: expected one of smoke" in seen()
    assert "fail" not in seen("--profile", "smoke")
    write(notebooks, {"bare.ipynb": notebook(DECLARE)})
    own = notebooks / "mnist.npz"
    assert "fail" not in seen("--profile", "smoke", "--dataset", own)


def test_a_notebook_of_no_family_is_made_of_all_runs_and_the_files_it_names(
    notebooks, tmp_path, monkeypatch
):
    """So it comes after the families, and is executed again when one of them is."""
    write(notebooks, {"mine.ipynb": notebook("open('notes.csv')", DECLARE)})
    monkeypatch.setattr(pages, "EVIDENCE", tmp_path / "results")
    (page,) = pages.pages((), {}, {}, data.load())
    assert page.gathers
    assert {spec.task.experiment.name for spec in page.specs} == set(models.COLLECTION)

    def changed(folder, files):
        before = pages.page_key_parts(page, {})
        write(folder, files)
        after = pages.page_key_parts(page, {})
        return {name for name in after if after[name] != before[name]}

    assert changed(notebooks, {"notes.csv": b"1", "other.csv": b"1"}) == {"cells"}
    assert changed(notebooks, {"other.csv": b"2"}) == set()
    assert changed(notebooks, {"notes.csv": b"2"}) == {"cells"}
    run = tmp_path / "results" / "runs" / "mlp_e1" / "0123456789abcdef"
    run.mkdir(parents=True)
    assert changed(run, {"weights.npz": b"PK"}) == {"evidence"}


SMALL = replace(TINY, name="small", layers=(dense(4),))


def write_made_up(specs, _, out, **__):
    """Store runs as if they had been trained."""
    scores = {"loss": 1.0, "cross_entropy": 1.0, "accuracy": 0.5}
    entry = {"epoch": 1, "seconds": 1.0, "cpu_seconds": 1.0}
    weights = {"dense_1/kernel": np.eye(784, 4), "output/kernel": np.eye(4, 10)}
    for spec in specs:
        size = spec.task.test_size
        arrays = np.zeros(size, np.uint8), np.ones(size, np.float32)
        outcome = train.Outcome(scores, scores, *arrays, weights)
        store.write_run(out, spec, train.Epoch(b"", [entry], outcome), {})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with one finished run of a family that has one model."""
    out = tmp_path_factory.mktemp("built")
    write_made_up(study.specify((SMALL,), data.load(), profile="smoke"), None, out)
    return out


def edited(**changes):
    def damage(folder):
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def replaced(name, content):
    def damage(folder):
        (folder / name).unlink()
        write(folder, {name: content})

    return damage


RECORDS = {
    "cut off": replaced("run.json", b'{"schema": 1, "model": "sm'),
    "empty": replaced("run.json", b""),
    "no text": replaced("run.json", b"\xff\xfe\x00"),
    "a list": replaced("run.json", b"[]"),
    "nested without end": replaced("run.json", b"[" * 100_000),
    "a folder": replaced("run.json", A_FOLDER),
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
    "without predictions": lambda folder: (folder / "predictions.npz").unlink(),
    "with half its predictions": replaced("predictions.npz", b"PK\3\4"),
    "with empty predictions": replaced("predictions.npz", b""),
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


@pytest.mark.parametrize("name", ["runs", "notebooks", "site", "failed"])
def test_a_file_where_a_folder_must_be_is_one_line(
    name, run, notebooks, tmp_path, monkeypatch, no_evidence
):
    content = notebook(DECLARE)
    if name == "runs":  # only then is anything trained
        content = content.replace(b"'quick'", b"'quick'\\nfamily = 'mlp'")
    write(notebooks, {"mine.ipynb": content})
    monkeypatch.setitem(models.FAMILIES, "mlp", (SMALL,))
    monkeypatch.setattr(schedule, "train_runs", write_made_up)
    (tmp_path / name).write_text("mine")
    code, out, err = run(*SMOKE, "--out", tmp_path)
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
    write(here, FILES)
    command = f"{sys.executable} run_all.py --only mlp --dry-run --dataset '{here}'"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} {where}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says), done.stderr


def test_another_program_is_no_scheduler(refused):
    class Web(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        err = refused("--only", "mlp", "--scheduler", address)
        server.shutdown()
    assert "expected a Dask scheduler to answer there" in err
