"""Digits from every source, in order, and one clear error for each damage."""

import gzip
import html
import json

import numpy as np
import pytest
from conftest import idx_bytes, small_pictures

from mnistlab import data
from mnistlab.files import IDX_FILES, DataError, read_files, read_idx

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


@pytest.fixture
def small():
    return small_pictures()


@pytest.fixture
def folder(tmp_path, small):
    for name, array in small.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
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
        (plain / name).write_bytes(idx_bytes(array))
        (dotted / name.replace("-idx", ".idx")).write_bytes(idx_bytes(array))
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
        assert data.download(target) == target
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
    started = time.perf_counter()
    assert data._reachable(silent) == []
    assert time.perf_counter() - started < 0.1, "a notebook asks more than once"


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
