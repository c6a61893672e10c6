"""Images from files: patches, the three layouts, and what is said of bad files."""

import gzip
import hashlib
import io
import tarfile

import pytest
import torch

from bench.measuring.tasks import cifar10, fashion_mnist
from bench.measuring.tasks.base import Split, build_task

BATCH = {"batch_size": 4}


def idx(*sizes, content=None):
    content = torch.arange(torch.Size(sizes).numel()) % 256 if content is None else content
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return head + bytes(content.tolist())


@pytest.fixture
def mnist(tmp_path):
    """A folder like MNIST's: 12 and 6 images of 8x8 of three classes, one file of them packed."""
    for prefix, num in (("train", 12), ("t10k", 6)):
        labels = torch.arange(num) % 3
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(num, 8, 8))
        packed = gzip.compress(idx(num, content=labels))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(packed)
    return tmp_path


def build(name, root, **settings):
    return build_task(name, {"root": str(root)} | BATCH | settings)


def test_a_folder_like_mnists_is_read_whole(mnist):
    task = build("fashion_mnist", mnist, image_size=8, patch_size=4)
    assert task.why_no_data() is None and len(task.files()) == 4
    assert (task.seq_len, task.geometry.grid) == (4, (2, 2))
    (first, second) = task.batches(Split.TEST, 0)
    assert (len(first.targets), len(second.targets)) == (4, 2)
    corner = torch.tensor([0, 1, 2, 3, 8]) / 127.5 - 1
    torch.testing.assert_close(first.inputs[0, 0, :5], corner)
    assert torch.cat([first.targets, second.targets]).tolist() == [0, 1, 2, 0, 1, 2]
    assert task.chance() == pytest.approx(1 / 3)
    pixels = build("fashion_mnist", mnist, image_size=8, patch_size=1)
    assert next(pixels.batches(Split.TRAIN, 0)).inputs.shape == (4, 64, 1)


def test_an_eighth_of_the_images_validates_in_a_mixed_order_and_no_step_sees_it(mnist):
    pixels = torch.arange(96).repeat_interleave(64)  # an image is its own number
    spoil(mnist, "train-images-idx3-ubyte", idx(96, 8, 8, content=pixels))
    spoil(mnist, "train-labels-idx1-ubyte.gz", packed(idx(96, content=torch.arange(96) % 3)))
    spoil(mnist, "t10k-labels-idx1-ubyte.gz", packed(idx(6, content=torch.tensor([0] + [1] * 5))))
    task = build("fashion_mnist", mnist, image_size=8, patch_size=8, batch_size=84)
    assert task.chance() == pytest.approx(1 / 6)  # of training images as many are of class 0

    def numbers(batch):
        found = ((batch.inputs[:, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(batch.targets, found % 3)
        return found.tolist()

    (held_out,) = map(numbers, task.validation())
    assert sorted(held_out) == [*range(7, 96, 8)] != held_out
    trained_on = numbers(next(task.batches(Split.TRAIN, 0)))
    assert sorted(trained_on) == [number for number in range(96) if number % 8 != 7]


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)
@pytest.mark.parametrize(("patch_size", "shape"), [(4, (64, 49, 16)), (1, (64, 784, 1))])
def test_the_debian_package_is_found_by_itself_as_patches_and_as_pixels(patch_size, shape):
    task = build_task("fashion_mnist", {"patch_size": patch_size})
    assert task.why_no_data() is None and task.chance() == pytest.approx(0.1)
    first = next(task.batches(Split.TRAIN, 0))
    assert first.inputs.shape == shape and first.targets.unique().tolist() == list(range(10))
    assert sum(len(batch.targets) for batch in task.batches(Split.TEST, 0)) == 10_000


def spoil(folder, name, content):
    (folder / name).write_bytes(content)


def packed(content):
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", "ends at byte 0; a head of 4 bytes"),
        ("train-images-idx3-ubyte", b"P5 8 8 255", "has 80 at byte 0; 0 is expected"),
        ("t10k-images-idx3-ubyte", idx(6, 8, 8)[:-5], "ends at byte 395; its head promises 6 x 8"),
        ("t10k-labels-idx1-ubyte.gz", b"no gzip", "cannot be unpacked beyond byte 0"),
        ("t10k-labels-idx1-ubyte.gz", packed(idx(5)), r"images of the shape \(6, 8, 8\)"),
        (
            "train-labels-idx1-ubyte.gz",
            packed(idx(12, content=torch.arange(12))),
            "train label is 11; num_classes is 10",
        ),
    ],
    ids=range(6),  # the contents would be no names
)
def test_a_bad_file_is_named_with_the_byte(mnist, name, content, message):
    spoil(mnist, name, content)
    with pytest.raises(ValueError, match=message):
        build("fashion_mnist", mnist, image_size=8).why_no_data()


def test_a_wrong_folder_size_or_number_is_said_before_training(mnist):
    with pytest.raises(ValueError, match=r"8, 8, 1\) rows.*Set image_size"):
        build("fashion_mnist", mnist).why_no_data()
    with pytest.raises(
        ValueError, match=r"12 training images, of which 11 are left .* batch_size is 12"
    ):
        build("fashion_mnist", mnist, image_size=8, batch_size=12).why_no_data()
    (mnist / "train-images-idx3-ubyte").unlink()
    with pytest.raises(ValueError, match=r"has neither train-images-idx3-ubyte nor .*it has: t10k"):
        build("fashion_mnist", mnist, image_size=8).why_no_data()


@pytest.fixture
def pictures(tmp_path):
    """Colours by class: three red and three blue to train on, one each to test."""
    image = pytest.importorskip("PIL.Image")
    for split, num in (("train", 3), ("test", 1)):
        for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(num):
                ending = "png" if number else "PNG"
                image.new("RGB", (10, 6), colour).save(folder / f"{number}.{ending}")
    return tmp_path


def test_a_folder_of_pictures_is_read_by_class(pictures):
    task = build("image_folder", pictures, image_size=8)
    names = [
        f"train/{name}/{file}" for name in ("blue", "red") for file in ("0.PNG", "1.png", "2.png")
    ]
    names += ["test/blue/0.PNG", "test/red/0.PNG"]
    assert task.why_no_data() is None and task.files() == tuple(pictures / name for name in names)
    assert (task.classes, task.num_classes, task.seq_len) == (("blue", "red"), 2, 4)
    (batch,) = task.batches(Split.TEST, 0)
    assert batch.targets.tolist() == [0, 1]
    assert batch.inputs.shape == (2, 4, 48)
    assert batch.inputs[0, 0, :3].tolist() == [-1, -1, 1] and batch.inputs[1, 0, 0] == 1
    assert task.chance() == 0.5


def test_bad_folders_of_pictures_are_named(pictures):
    assert "name a folder" in build_task("image_folder", {}).why_no_data()
    (pictures / "train" / "red" / "9.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match=r"red/9\.png of 11 bytes cannot be read as an image"):
        build("image_folder", pictures, image_size=8).why_no_data()
    (pictures / "train" / "red" / "9.png").unlink()
    (pictures / "test" / "green").mkdir()
    with pytest.raises(ValueError, match="test has classes that train/ has not: green"):
        build("image_folder", pictures)
    with pytest.raises(ValueError, match=r"has no folders in train/; the layout"):
        build("image_folder", pictures / "train")


def cifar(num, first=0):
    images = torch.zeros(num, cifar10.NUM_BYTES, dtype=torch.uint8)
    images[:, 0] = (torch.arange(num) + first) % 10
    images[:, 1:1025] = 255  # red
    images[:, 2] = 0  # but for the second pixel of the first row
    return bytes(images.flatten().tolist())


@pytest.fixture
def batches():
    names = [name for split in Split for name in cifar10.NAMES[split]]
    return {name: cifar(2) for name in names}


def test_cifars_binary_files_are_read(tmp_path, batches):
    for name, content in batches.items():
        spoil(tmp_path, name, content)
    task = build("cifar10", tmp_path)
    assert task.why_no_data() is None and len(task.files()) == 6
    (batch,) = task.batches(Split.TEST, 0)
    assert batch.targets.tolist() == [0, 1] and batch.inputs.shape == (2, 64, 48)
    assert batch.inputs[0, 0, :7].tolist() == [1, -1, -1, -1, -1, -1, 1]
    spoil(tmp_path, "data_batch_3.bin", cifar(2)[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3\.bin ends at byte 6,145, after 1 images"):
        build("cifar10", tmp_path).why_no_data()
    spoil(tmp_path, "data_batch_3.bin", cifar(1) + b"\x0b" + cifar(1)[1:])
    with pytest.raises(ValueError, match="has the class 11 at byte 3,073; 0 to 9"):
        build("cifar10", tmp_path).why_no_data()
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match=r"data_batch_3\.bin is not there.*download=true"):
        build("cifar10", tmp_path).why_no_data()


def test_cifar_is_downloaded_only_if_asked_and_only_whole(tmp_path, batches, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in batches.items():
            entry = tarfile.TarInfo(f"{cifar10.INSIDE}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    source, home = tmp_path / "there.tar.gz", tmp_path / "here"
    source.write_bytes(packed.getvalue())
    home.mkdir()
    monkeypatch.setattr(cifar10, "URL", source.as_uri())
    assert "download=true" in build_task("cifar10", {}).why_no_data()
    with pytest.raises(ValueError, match="is not there"):
        build("cifar10", home).why_no_data()
    with pytest.raises(ValueError, match=r"has the MD5 .* is expected\. Nothing was kept"):
        build("cifar10", home, download=True).why_no_data()
    assert list(home.iterdir()) == []
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(packed.getvalue()).hexdigest())
    assert build("cifar10", home, download=True).why_no_data() is None
    assert [path.name for path in home.iterdir()] == [cifar10.INSIDE]
