"""Data sets: published formats are read exactly; missing and damaged files are named."""

import gzip
import struct

import numpy as np
import pytest

from modeltoll.bench import datasets
from modeltoll.bench.datasets import DATA_VARIABLE, DataError


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (3, 28, 28), np.uint8), np.array([1, 2, 3], np.uint8)
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(y))
    return tmp_path, x, y


def test_idx_files_are_read_zipped_and_plain(mnist_folder):
    folder, x, y = mnist_folder
    images = datasets.mnist(folder, train=True)
    assert np.array_equal(np.round(images.x * 255), x)
    assert np.array_equal(images.y, y)


def test_a_part_that_is_missing_is_named(mnist_folder):
    with pytest.raises(DataError, match="t10k-images"):
        datasets.mnist(mnist_folder[0], train=False)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-5], lambda raw: raw[:3], lambda _: b"", lambda raw: b"\1" + raw[1:], lambda raw: raw + b"x"],
)
def test_a_damaged_idx_file_is_refused(mnist_folder, damage):
    folder, x, _ = mnist_folder
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(damage(idx(x))))
    with pytest.raises(DataError, match="train-images"):
        datasets.mnist(folder, train=True)


def test_a_file_that_is_not_gzip_is_refused(mnist_folder):
    folder, _, _ = mnist_folder
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.mnist(folder, train=True)


def test_the_numbers_of_images_and_labels_must_be_equal(mnist_folder):
    folder, _, _ = mnist_folder
    (folder / "mnist" / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(DataError, match="3 images but 2 labels"):
        datasets.mnist(folder, train=True)


def test_tiny_imagenet_is_read_and_checked(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    path = tmp_path / "tiny-imagenet-32.npz"
    np.savez(path, x=x, y=np.arange(4))
    assert np.array_equal(np.round(datasets.tiny_imagenet(tmp_path).x * 255), x)
    np.savez(path, x=x.astype(np.float32), y=np.arange(4))
    with pytest.raises(DataError, match="uint8"):
        datasets.tiny_imagenet(tmp_path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.tiny_imagenet(tmp_path)


def test_resize_returns_grey_images_of_the_given_size():
    colours = np.random.default_rng(0).random((5, 32, 32, 3))
    fitted = datasets.resize(colours, 28)
    assert fitted.shape == (5, 28, 28)
    assert fitted.min() >= 0.0
    assert fitted.max() <= 1.0 + 1e-9
    assert np.array_equal(datasets.resize(fitted, 28), fitted)


def test_patches_fill_the_range_and_depend_on_the_seed():
    patches = datasets.photograph_patches(50, 8, np.random.default_rng(3))
    assert patches.shape == (50, 8, 8)
    assert patches.min() == 0.0
    assert patches.max() == 1.0
    assert np.array_equal(patches, datasets.photograph_patches(50, 8, np.random.default_rng(3)))


def test_the_data_folder_is_the_given_one_or_that_of_the_environment(monkeypatch, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(other))
    assert datasets.data_folder(tmp_path) == tmp_path
    assert datasets.data_folder(None) == other
    with pytest.raises(DataError, match="no folder"):
        datasets.data_folder(tmp_path / "missing")


def test_fashion_is_read_as_mnist_is(tmp_path, mnist_folder):
    folder, x, _ = mnist_folder
    (folder / "mnist").rename(folder / "fashion-mnist")
    assert np.array_equal(np.round(datasets.fashion(folder, train=True).x * 255), x)


def test_cifar_rows_are_a_label_and_three_planes(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = rng.integers(0, 256, (4, 3073), np.uint8)
    rows[:, 0] = [3, 1, 0, 9]
    path = folder / "test_batch.bin"
    path.write_bytes(rows.tobytes())
    images = datasets.cifar10(tmp_path, train=False)
    assert images.x.shape == (4, 32, 32, 3)
    assert images.y.tolist() == [3, 1, 0, 9]
    assert round(images.x[2, 5, 7, 1] * 255) == rows[2, 1 + 1024 + 5 * 32 + 7]
    path.write_bytes(rows.tobytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        datasets.cifar10(tmp_path, train=False)
    with pytest.raises(DataError, match="data_batch_1"):
        datasets.cifar10(tmp_path, train=True)


def test_emnist_letters_are_grey_images(tmp_path):
    x = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "emnist-letters.npz", x=x, y=np.array([1, 2, 3], np.uint8))
    assert datasets.emnist_letters(tmp_path).x.shape == (3, 28, 28)
    np.savez(tmp_path / "emnist-letters.npz", x=x[..., None], y=np.arange(3))
    with pytest.raises(DataError, match="does not hold"):
        datasets.emnist_letters(tmp_path)
