"""Digits from every source, in order, and one clear error for each damage."""

import gzip
import html
import json
import struct

import numpy as np
import pytest

from mnistlab import data
from mnistlab.files import IDX_FILES, DataError, read_files, read_idx

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


def idx(array, magic=None):
    """The bytes of an array in IDX format, made here and not by the package."""
    magic = 0x0800 + array.ndim if magic is None else magic
    header = struct.pack(f">{array.ndim + 1}I", magic, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def small():
    random = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: random.integers(0, 256, (12, 28, 28)),
        TRAIN_LABELS: random.integers(0, 10, 12),
        TEST_IMAGES: random.integers(0, 256, (5, 28, 28)),
        TEST_LABELS: random.integers(0, 10, 5),
    }


@pytest.fixture
def folder(tmp_path, small):
    for name, array in small.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("MNISTLAB_DATA", raising=False)
    monkeypatch.setattr(data, "_reachable", lambda urls: [])
    data.read.cache_clear()


def test_idx_files_are_read_byte_for_byte(folder, small):
    for array, expected in zip(read_files(folder), small.values(), strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, expected)


def test_gzip_plain_dotted_and_npz_files_have_one_fingerprint(folder, small, tmp_path):
    expected = data.fingerprint(*read_files(folder))
    plain, dotted, packed = (tmp_path / name for name in ("plain", "dotted", "packed"))
    for path in (plain, dotted, packed):
        path.mkdir()
    for name, array in small.items():
        (plain / name).write_bytes(idx(array))
        (dotted / name.replace("-idx", ".idx")).write_bytes(idx(array))
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = dict(zip(names, small.values(), strict=True))
    arrays = {name: array.astype(np.uint8) for name, array in arrays.items()}
    np.savez(packed / "mnist.npz", **arrays)
    for path in (plain, dotted, packed, packed / "mnist.npz"):
        assert data.fingerprint(*read_files(path)) == expected


def test_the_fingerprint_sees_shapes_and_every_byte():
    a = np.zeros((2, 3), np.uint8)
    changed = a.copy()
    changed[1, 2] = 1
    prints = {data.fingerprint(x) for x in (a, a.reshape(3, 2), changed)}
    assert len(prints) == 3


BAD = {
    "empty": (b"", "the file is empty"),
    "cut gzip": (gzip.compress(idx(np.zeros((12, 28, 28))))[:-9], "damaged or cut off"),
    "not gzip": (idx(np.zeros((12, 28, 28))), "expected a gzip file"),
    "short": (gzip.compress(b"\0\0"), "fewer than 4 bytes"),
    "no sizes": (gzip.compress(b"\0\0\x08\x03\0\0"), "the header is cut off"),
    "cut data": (
        gzip.compress(idx(np.zeros((12, 28, 28)))[:-1]),
        "expected 9,408 bytes",
    ),
    "more data": (gzip.compress(idx(np.zeros((12, 28, 28))) + b"x"), "got 9,409"),
    "labels": (gzip.compress(idx(np.zeros(12))), "expected magic number 0x00000803"),
    "other sides": (gzip.compress(idx(np.zeros((12, 8, 8)))), "image of 28 x 28"),
    "no images": (gzip.compress(idx(np.zeros((0, 28, 28)))), "at least one training"),
    "fewer images": (gzip.compress(idx(np.zeros((9, 28, 28)))), "one label for each"),
}


@pytest.mark.parametrize("damage", BAD)
def test_damaged_images_are_refused_with_what_was_expected(folder, damage):
    content, message = BAD[damage]
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_files(folder)
    assert str(folder) in str(caught.value)


def test_labels_above_9_are_refused(folder):
    (folder / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(idx(np.full(5, 10))))
    with pytest.raises(DataError, match="labels 0 to 9, got uint8 from 10 to 10"):
        read_files(folder)


def test_swapped_files_are_refused(folder):
    images, labels = (folder / f"{n}.gz" for n in (TEST_IMAGES, TEST_LABELS))
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)
    with pytest.raises(DataError, match="magic number"):
        read_files(folder)


def test_a_missing_file_is_named(folder):
    (folder / f"{TEST_LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"{TEST_LABELS}.*is missing"):
        read_files(folder)


def test_npz_files_with_objects_or_other_names_are_refused(tmp_path):
    pickled = tmp_path / "objects.npz"
    arrays = {
        name: np.array([{}]) for name in ("x_train", "y_train", "x_test", "y_test")
    }
    np.savez(pickled, **arrays)
    with pytest.raises(DataError, match="plain arrays"):
        read_files(pickled)
    other = tmp_path / "other.npz"
    np.savez(other, a=np.zeros(3))
    with pytest.raises(DataError, match="expected the arrays x_train.*got a"):
        read_files(other)
    other.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(DataError, match="fetch it again"):
        read_files(other)


def test_read_idx_refuses_what_is_not_a_picture_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"GIF89a......")
    with pytest.raises(DataError, match="got 0x47494638"):
        read_idx(path, 3)


def test_a_folder_of_ones_own_is_a_data_set(folder, small):
    found = data.load(str(folder))
    assert found.name == folder.name.lower()
    assert len(found.x_train) == 12
    assert found.notice == ""


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(DataError, match="no such folder"):
        data.load("/no/such/folder")


def test_mnistlab_data_with_other_digits_is_not_passed_off_as_mnist(
    folder, monkeypatch
):
    monkeypatch.setenv("MNISTLAB_DATA", str(folder))
    for dataset in ("mnist", "auto"):
        with pytest.raises(DataError, match="expected MNIST, whose fingerprint"):
            data.load(dataset)


def test_mnistlab_data_that_is_wrong_is_an_error_and_not_a_fallback(monkeypatch):
    monkeypatch.setenv("MNISTLAB_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="no such folder"):
        data.load("auto")


def test_without_mnist_auto_takes_digits_and_says_so(digits):
    found = data.load("auto")
    assert found.name == "digits"
    assert found.fingerprint == digits.fingerprint
    assert "instead" in found.notice
    assert html.escape(found.notice) in found._repr_html_()
    with pytest.raises(DataError, match="MNIST could not be downloaded.*MNISTLAB_DATA"):
        data.load("mnist")


def test_mnist_is_known_by_its_pictures_wherever_it_lies(
    folder, small, monkeypatch, tmp_path
):
    """Caches are asked in their order; a damaged one is passed over."""
    own = data.fingerprint(*read_files(folder))
    monkeypatch.setattr(data, "MNIST_FINGERPRINT", own)
    assert data.load(str(folder)).name == "mnist"
    keras = tmp_path / "keras" / "datasets"
    keras.mkdir(parents=True)
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = dict(zip(names, (a.astype(np.uint8) for a in small.values()), strict=True))
    np.savez(keras / "mnist.npz", **arrays)
    assert data.resolve("auto").path == str(keras / "mnist.npz")
    cache = tmp_path / "cache" / "mnistlab"
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(b"damaged")
    assert data.resolve("auto").path == str(keras / "mnist.npz")
    np.savez(cache / "mnist.npz", **arrays)
    assert data.resolve("auto").path == str(cache)
    monkeypatch.setenv("MNISTLAB_DATA", str(folder))
    assert data.resolve("auto").path == str(folder)


def test_a_download_is_verified_and_goes_to_the_next_mirror(monkeypatch, tmp_path):
    """Real HTTP on loopback: one mirror sends damaged files, another one is right."""
    import hashlib
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folders = [tmp_path / "bad", tmp_path / "good"]
    servers = []
    for folder in folders:
        folder.mkdir()
        handler = partial(Quiet, directory=folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    mirrors = tuple(f"http://127.0.0.1:{s.server_port}/" for s in servers)
    (folders[0] / "mnist.npz").write_bytes(b"damaged")
    hashes = {}
    for name in IDX_FILES:
        content = gzip.compress(name.encode())
        (folders[1] / f"{name}.gz").write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(data, "MIRRORS", mirrors)
    monkeypatch.setattr(data, "IDX_FILES", hashes)
    monkeypatch.setattr(data, "_reachable", lambda urls: list(urls))
    target = tmp_path / "target"
    try:
        data.download(target)
        assert sorted(p.name for p in target.iterdir()) == sorted(
            f"{name}.gz" for name in IDX_FILES
        )
        (folders[1] / f"{TEST_LABELS}.gz").write_bytes(b"damaged too")
        with pytest.raises(DataError, match="could not be downloaded"):
            data.download(tmp_path / "again")
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_without_a_network_the_question_takes_less_than_10_seconds(monkeypatch):
    import time

    monkeypatch.undo()
    silent = "http://192.0.2.1/", "http://no-such-host.invalid/"  # reserved: no answer
    started = time.perf_counter()
    assert data._reachable(silent) == []
    assert time.perf_counter() - started < 10


def test_the_parents_answer_is_handed_down(folder, monkeypatch):
    source = data.resolve(str(folder))
    for name, value in data.hand_down(source).items():
        monkeypatch.setenv(name, value)
    assert data.resolve(str(folder)) == source
    assert json.loads(data.hand_down(source)["MNISTLAB_SOURCE"])["kind"] == "folder"
    assert data.resolve("digits").kind == "digits", "another question, another answer"


def test_digits_are_real_stratified_and_of_mnists_shape(digits):
    assert digits.x_train.shape == (1437, 28, 28)
    assert digits.x_test.shape == (360, 28, 28)
    assert digits.x_train.dtype == np.uint8
    assert digits.x_train.min() == 0
    assert digits.x_train.max() == 255
    counts = np.bincount(digits.y_test)
    assert set(counts) <= {35, 36, 37}


def test_the_real_mnist_is_known_by_its_fingerprint(mnist):
    assert mnist.name == "mnist"
    assert mnist.x_train.shape == (60_000, 28, 28)
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.y_test[:5].tolist() == [7, 2, 1, 0, 4]
