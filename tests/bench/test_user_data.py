"""The user's own data sets, downloads from publishers, and any set as the foreign source of a target."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from modeltoll.bench import datasets
from modeltoll.bench.datasets import DataError
from modeltoll.bench.datasets.download import PublishedFile, fetch
from modeltoll.bench.prepared_target import Workspace
from modeltoll.bench.targets import TARGETS
from modeltoll.cli import app

RNG = np.random.default_rng(0)


def quiet(_done, _most):
    pass


def test_street_view_house_numbers_are_read_from_matlab_files(tmp_path):
    x = RNG.integers(0, 256, (32, 32, 3, 5), np.uint8)
    (tmp_path / "svhn").mkdir()
    path = tmp_path / "svhn" / "train_32x32.mat"
    savemat(path, {"X": x, "y": np.array([[1], [10], [3], [9], [2]])})
    images = datasets.svhn(tmp_path, train=True)
    assert images.y.tolist() == [1, 0, 3, 9, 2]
    assert np.array_equal(np.round(images.x[4] * 255), x[..., 4])
    with pytest.raises(DataError, match="bench fetch"):
        datasets.svhn(tmp_path, train=False)
    for damaged in ({"X": x[:31], "y": np.zeros((5, 1))}, {"X": x, "y": np.zeros((4, 1))}, {"X": x}):
        savemat(path, damaged)
        with pytest.raises(DataError, match="train_32x32"):
            datasets.svhn(tmp_path, train=True)
    path.write_bytes(b"not a matlab file")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.svhn(tmp_path, train=True)


def test_an_archive_holds_bytes_in_grey_or_colour(tmp_path):
    path = tmp_path / "mine.npz"
    for shape in ((4, 9, 7), (4, 9, 7, 3)):
        x = RNG.integers(0, 256, shape, np.uint8)
        np.savez(path, x=x, y=np.arange(4))
        assert np.array_equal(np.round(datasets.archive(path).x * 255), x)
    for x, y in ((np.zeros((4, 9), np.uint8), range(4)), (np.zeros((4, 9, 9)), range(4)), (np.zeros((4, 9, 9, 2), np.uint8), range(4)),
                 (np.zeros((4, 9, 9), np.uint8), range(3))):  # fmt: skip
        np.savez(path, x=x, y=np.array(y))
        with pytest.raises(DataError, match="does not hold"):
            datasets.archive(path)
    with pytest.raises(DataError, match="there is no"):
        datasets.archive(tmp_path / "missing.npz")


def test_a_folder_of_pictures_has_a_class_for_each_folder(tmp_path):
    for label, kind in enumerate(("ants", "bees")):
        (tmp_path / kind).mkdir()
        for number in range(2):
            Image.new("RGB", (20, 30), (0, 100 * label, 250)).save(tmp_path / kind / f"{number}.png")
    (tmp_path / "bees" / "notes.txt").write_text("not a picture")
    images = datasets.image_folder(tmp_path, 16)
    assert images.x.shape == (4, 16, 16, 3)
    assert images.y.tolist() == [0, 0, 1, 1]
    assert np.allclose(images.x[3] * 255, (0, 100, 250))
    (tmp_path / "bees" / "2.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        datasets.image_folder(tmp_path, 16)
    with pytest.raises(DataError, match="no folders of pictures"):
        datasets.image_folder(tmp_path / "bees", 16)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (28, 28)])
@pytest.mark.parametrize("given", [(6, 32, 32, 3), (6, 28, 28), (6, 8, 8)])
def test_any_images_fit_any_victim(shape, given):
    fitted = datasets.resize_to(RNG.random(given), shape)
    assert fitted.shape == (6, *shape)
    assert fitted.min() >= 0.0
    assert fitted.max() <= 1.0 + 1e-9


def test_colours_are_kept_for_a_colour_victim():
    red = np.zeros((2, 32, 32, 3))
    red[..., 0] = 1.0
    assert np.allclose(datasets.resize_to(red, (16, 16, 3)), red[:, :16, :16])


def test_any_set_can_be_the_foreign_source_of_another(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=RNG.integers(0, 256, (900, 12, 12, 3), np.uint8), y=np.arange(900) % 4)
    prepared = TARGETS["digits"].prepare(Workspace(None, tmp_path, str(path)), quiet)
    assert prepared.data_split.foreign.x.shape == (700, 8, 8)
    assert prepared.data_split.unseen_foreign.shape == (200, 8, 8)
    noise = TARGETS["digits"].prepare(Workspace(None, tmp_path, "noise"), quiet)
    assert not np.array_equal(noise.data_split.foreign.x[:5], prepared.data_split.foreign.x[:5])
    assert np.array_equal(noise.data_split.honest.x, prepared.data_split.honest.x)
    with pytest.raises(DataError, match="there is no source 'nothing'"):
        TARGETS["digits"].prepare(Workspace(None, tmp_path, "nothing"), quiet)
    with pytest.raises(DataError, match="a table"):
        TARGETS["cells"].prepare(Workspace(None, tmp_path, "noise"), quiet)


def published(content, path="mnist/one.gz", *, unpacked=False):
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return PublishedFile("https://publisher.invalid/one.gz", digest, path, unpacked)


def test_a_file_is_downloaded_once_and_checked(tmp_path):
    content, steps = RNG.bytes(3 << 20), []
    published_file = published(content)
    assert fetch(published_file, tmp_path, lambda done, most: steps.append((done, most)), lambda _: io.BytesIO(content))
    assert (tmp_path / published_file.path).read_bytes() == content
    assert steps[-1] == (3 << 20, 0)
    assert not fetch(published_file, tmp_path, quiet, lambda _: pytest.fail("it is there"))


def test_an_archive_is_extracted(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("batches/test.bin")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    published_file = published(packed.getvalue(), "batches/test.bin", unpacked=True)
    assert fetch(published_file, tmp_path, quiet, lambda _: io.BytesIO(packed.getvalue()))
    assert (tmp_path / "batches" / "test.bin").read_bytes() == b"data"


def test_another_file_than_the_published_one_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not the published file"):
        fetch(published(b"right"), tmp_path, quiet, lambda _: io.BytesIO(b"wrong"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    def unreachable(_url):
        raise urllib.error.URLError("no network")

    with pytest.raises(
        DataError, match=r"cannot be fetched .*put https://publisher.invalid/one.gz there as .*one.gz by other means"
    ):
        fetch(published(b"x"), tmp_path, quiet, unreachable)


def test_the_command_names_the_known_sets_and_keeps_existing_files(tmp_path):
    wrong = CliRunner().invoke(app, ["bench", "fetch", "imagenet", "--data-dir", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "can be fetched: mnist, fashion, cifar10, svhn" in " ".join(wrong.stderr.split())
    for file in datasets.PUBLISHERS["mnist"]:
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.touch()
    there = CliRunner().invoke(app, ["bench", "fetch", "mnist", "--data-dir", str(tmp_path)])
    assert there.exit_code == 0
    assert there.stderr.count("there already") == 4
