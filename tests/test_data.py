"""MNIST in the package, data of one's own, and one clear error for each damage."""

import gzip
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, idx_bytes, small_pictures

from mnistlab import data, study
from mnistlab.files import ARRAYS, IDX_FILES, DataError, read_files

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


@pytest.fixture
def small():
    return small_pictures()


@pytest.fixture
def folder(tmp_path, small):
    """A data set of one's own."""
    path = tmp_path / "Pictures"
    path.mkdir()
    for name, array in small.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return path


def assert_read(path, small):
    for array, expected in zip(read_files(path), small.values(), strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, expected)


# The name that a file has somewhere, and what is in it.
PACKED = {
    "gzipped": lambda name, idx: (f"{name}.gz", gzip.compress(idx)),
    "plain": lambda name, idx: (name, idx),
    "with a dot": lambda name, idx: (name.replace("-idx", ".idx"), idx),
    "in a folder of its name": lambda name, idx: (f"{name}/{name}", idx),
    "in capitals": lambda name, idx: (f"{name}.gz".upper(), gzip.compress(idx)),
    "twice": lambda name, idx: (f"{name}.gz", gzip.compress(gzip.compress(idx))),
}


@pytest.mark.parametrize("way", PACKED)
def test_files_as_others_name_and_pack_them_are_read(way, small, tmp_path):
    for name, array in small.items():
        path, content = PACKED[way](name, idx_bytes(array))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert_read(tmp_path, small)


def test_an_npz_file_is_read_alone_or_in_its_folder(small, tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, **dict(zip(ARRAYS, small.values(), strict=True)))
    assert_read(path, small)
    assert_read(tmp_path, small)


@pytest.mark.parametrize("name", ["read_bytes", "is_file", "resolve"])
def test_files_that_may_not_be_read_are_one_sentence(folder, monkeypatch, name):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(DataError, match="denied"):
        data.load(str(folder))


def test_data_must_leave_an_image_to_validate_on(folder, small):
    for name, array in small.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array[:5])))
    with pytest.raises(study.StudyError, match="train_size: .* at least 12, got 5"):
        study.specify("mlp", data.load(str(folder)), profile="smoke")


def test_the_fingerprint_sees_shapes_and_every_byte():
    a = np.zeros((2, 3), np.uint8)
    changed = a.copy()
    changed[1, 2] = 1
    prints = {data.fingerprint(x) for x in (a, a.reshape(3, 2), changed)}
    assert len(prints) == 3


def test_a_folder_of_ones_own_is_a_data_set(folder, small):
    found = data.load(str(folder))
    assert found.name == "pictures"
    assert len(found.x_train) == 12


def test_a_data_set_that_was_corrected_meanwhile_is_read_again(folder, small):
    before = data.load(str(folder))
    labels = folder / f"{TEST_LABELS}.gz"
    labels.write_bytes(gzip.compress(idx_bytes((small[TEST_LABELS] + 1) % 10)))
    assert data.load(str(folder)).fingerprint != before.fingerprint


def test_mnist_is_known_by_its_pictures_wherever_it_lies(digits, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(data.MNIST, copy)
    found = data.load(str(copy))
    assert (found.name, found.fingerprint) == ("mnist", digits.fingerprint)


def test_a_file_of_the_package_that_is_damaged_or_gone_is_named(monkeypatch, tmp_path):
    copy = tmp_path / "mnist"
    shutil.copytree(data.MNIST, copy)
    monkeypatch.setattr(data, "MNIST", copy)
    labels = copy / f"{TEST_LABELS}.gz"
    cut_off = labels.read_bytes()[:-1]
    for damage in (lambda: labels.write_bytes(cut_off), labels.unlink):
        damage()
        data._mnist.cache_clear()
        with pytest.raises(DataError, match="t10k-labels.*install mnistlab again"):
            data.load()
    data._mnist.cache_clear()


def test_other_pictures_in_a_folder_called_mnist_are_not_mnist(folder):
    other = folder.rename(folder.with_name("mnist"))
    assert data.load(str(other)).name == "another mnist"


def test_a_wheel_and_a_source_archive_have_mnist_and_its_licence():
    with open(ROOT / "pyproject.toml", "rb") as file:
        package_data = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    assert "mnist/*" in package_data["mnistlab"]
    text = (data.MNIST / "README.md").read_text()
    assert "CC BY-SA 3.0" in text
    assert "LeCun" in text


def test_mnist_lies_in_the_package(digits):
    assert digits.name == "mnist"
    assert digits.x_train.shape == (60_000, 28, 28)
    assert digits.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.y_test[:5].tolist() == [7, 2, 1, 0, 4]
