"""The data sets, read through the hub's own cache layout: good files, damaged ones, none, and no network."""

import hashlib
import io
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusion_explained.data import (
    DamagedDataError,
    DataUnavailableError,
    ImageDataset,
    bundled_mnist,
    cache_folder,
    hub,
    hub_datasets,
    load,
    load_dataset,
    to_float,
    to_uint8,
    training_images,
)

HUB_CACHE = os.environ.get("HF_HUB_CACHE")  # as it was when the tests started
PUBLISHED_MD5 = {  # of LeCun's uncompressed IDX files: images, labels
    "train": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
    "test": ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
}


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No decoded cache, no hub cache and no network, whatever the machine really has."""
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    return tmp_path


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def write_parquet(path: Path, images: list[bytes], labels: list[int], image_column: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            image_column: pa.array(
                [{"bytes": image, "path": None} for image in images],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            "label": pa.array(labels, pa.int64()),
        }
    )
    pa.parquet.write_table(table, path, row_group_size=16)


def hub_path(name: str, split: str) -> Path:
    """Where the hub's client keeps a file in HF_HUB_CACHE; the revision is written too."""
    dataset = hub_datasets.DATASETS[name]
    repo = Path(os.environ["HF_HUB_CACHE"]) / f"datasets--{dataset.repo_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text("0" * 40)
    return repo / "snapshots" / ("0" * 40) / dataset.splits[split].filename


@pytest.fixture(params=["mnist", "cifar10"])
def tiny(request, monkeypatch):
    """A 40-image train split of each data set in the hub's layout, and the registry of data sets that expects it.

    Returns (name, its images [40, C, H, W], its labels, the parquet's path).
    """
    name = request.param
    dataset = hub_datasets.DATASETS[name]
    rng = np.random.default_rng(0)
    channels, height, width = dataset.image_shape
    arrays = rng.integers(0, 256, (40, height, width, channels), dtype=np.uint8)
    labels = torch.arange(40) % 10
    path = hub_path(name, "train")
    files = [png(array.squeeze(-1) if channels == 1 else array) for array in arrays]
    write_parquet(path, files, labels.tolist(), dataset.image_column)
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
    split = replace(
        dataset.splits["train"],
        size=40,
        labels_sha256=hub_datasets.sha256(labels),
        pixels_sha256=hub_datasets.sha256(images) if name == "mnist" else None,
        channel_means=() if name == "mnist" else tuple((images.double().mean((0, 2, 3)) / 255).tolist()),
    )
    monkeypatch.setitem(hub_datasets.DATASETS, name, replace(dataset, splits={**dataset.splits, "train": split}))
    return name, images, labels, path


def rewrite(path: Path, **columns) -> None:
    """Change columns of a parquet file in place."""
    table = pa.parquet.read_table(path)
    for column, values in columns.items():
        index = table.schema.get_field_index(column)
        table = table.set_column(index, column, pa.array(values, table.schema.field(column).type))
    pa.parquet.write_table(table, path)


def test_parquet_is_decoded_and_then_cached(tiny, empty_machine):
    name, images, labels, path = tiny
    first = load_dataset(name, "train")
    assert torch.equal(first.images, images) and torch.equal(first.labels, labels)
    assert first.images.dtype == torch.uint8 and first.labels.dtype == torch.int64
    assert (first.name, first.split, len(first), first.num_classes) == (name, "train", 40, 10)
    assert str(path) in first.source

    path.unlink()  # now only the decoded cache can answer
    again = load_dataset(name, "train")
    assert torch.equal(again.images, images) and torch.equal(again.labels, labels)
    assert "decoded cache" in str(again)
    kept = list((empty_machine / "decoded").iterdir())
    assert [file.name for file in kept] == [f"{name}-train.safetensors"]


def test_two_sessions_at_once(tiny, empty_machine):
    """Four threads find the same cold cache: each gets the whole data, and one good file is left."""
    name, images, _, _ = tiny
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_dataset(name, "train"), range(8)))
    assert all(torch.equal(dataset.images, images) for dataset in loaded)
    assert [file.name for file in (empty_machine / "decoded").iterdir()] == [f"{name}-train.safetensors"]


def test_class_names():
    assert hub_datasets.DATASETS["mnist"].class_names == tuple("0123456789")
    assert hub_datasets.DATASETS["cifar10"].class_names[0] == "airplane"
    assert hub_datasets.DATASETS["cifar10"].class_names[9] == "truck"


def damage_cut(path, name):
    path.write_bytes(path.read_bytes()[:-200])


def damage_empty(path, name):
    path.write_bytes(b"")


def damage_not_parquet(path, name):
    path.write_bytes(b"<html>Sign in to the network</html>" * 50)


def damage_missing_rows(path, name):
    pa.parquet.write_table(pa.parquet.read_table(path).slice(0, 39), path)


def damage_missing_column(path, name):
    pa.parquet.write_table(pa.parquet.read_table(path).drop_columns(["label"]), path)


def damage_label_range(path, name):
    rewrite(path, label=[10, *([i % 10 for i in range(1, 40)])])


def damage_one_label(path, name):
    rewrite(path, label=[1, *([i % 10 for i in range(1, 40)])])


def damage_null_label(path, name):
    rewrite(path, label=[None, *([i % 10 for i in range(1, 40)])])


def damage_image_size(path, name):
    column = hub_datasets.DATASETS[name].image_column
    images = pa.parquet.read_table(path)[column].to_pylist()
    images[7] = {"bytes": png(np.zeros((16, 16), np.uint8)), "path": None}
    rewrite(path, **{column: images})


def damage_image_null(path, name):
    column = hub_datasets.DATASETS[name].image_column
    images = pa.parquet.read_table(path)[column].to_pylist()
    images[7] = {"bytes": None, "path": None}
    rewrite(path, **{column: images})


def damage_image_cut(path, name):
    column = hub_datasets.DATASETS[name].image_column
    images = pa.parquet.read_table(path)[column].to_pylist()
    images[7] = {"bytes": images[7]["bytes"][:60], "path": None}
    rewrite(path, **{column: images})


def damage_image_black(path, name):
    """A well-formed file with other pixels: MNIST's checksum, and CIFAR-10's channel means, must see it."""
    column = hub_datasets.DATASETS[name].image_column
    shape = (28, 28) if name == "mnist" else (32, 32, 3)
    images = pa.parquet.read_table(path)[column].to_pylist()
    images[7] = {"bytes": png(np.zeros(shape, np.uint8)), "path": None}
    rewrite(path, **{column: images})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (damage_cut, None),
        (damage_empty, None),
        (damage_not_parquet, None),
        (damage_missing_rows, "39 rows, not 40"),
        (damage_missing_column, None),
        (damage_label_range, "labels 0..10, not 0..9"),
        (damage_one_label, "labels are not the data set's"),
        (damage_null_label, None),
        (damage_image_size, "row 7 is a 16 x 16 L image"),
        (damage_image_null, None),
        (damage_image_cut, None),
        (damage_image_black, "pixels are not the data set's|channel 0 has mean"),
    ],
    ids=lambda value: value.__name__.removeprefix("damage_") if callable(value) else "",
)
def test_damaged_parquet_is_noticed(tiny, empty_machine, damage, complaint):
    name, _, _, path = tiny
    damage(path, name)
    with pytest.raises(DamagedDataError, match=complaint) as raised:
        load_dataset(name, "train")
    message = str(raised.value)
    assert str(path) in message, "the message names the file"
    assert f"hf download {hub_datasets.DATASETS[name].repo_id}" in message and "--force-download" in message
    assert not (empty_machine / "decoded").exists(), "nothing damaged is kept"


def test_the_real_sizes_are_expected():
    """The tiny files are not MNIST: against the real registry they are refused."""
    path = hub_path("mnist", "train")
    write_parquet(path, [png(np.zeros((28, 28), np.uint8))] * 3, [0, 1, 2], "image")
    with pytest.raises(DamagedDataError, match="3 rows, not 60,000"):
        load_dataset("mnist", "train")


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "label", "shape", "tensors"])
def test_damaged_decoded_cache_is_decoded_again(tiny, empty_machine, damage):
    name, images, labels, path = tiny
    load_dataset(name, "train")
    cached = empty_machine / "decoded" / f"{name}-train.safetensors"
    whole = cached.read_bytes()
    if damage == "cut":
        cached.write_bytes(whole[:-100])
    elif damage == "empty":
        cached.write_bytes(b"")
    elif damage == "bit":
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        cached.write_bytes(flipped)
    else:
        tensors = dict(load_file(cached))
        if damage == "label":
            tensors["labels"] = tensors["labels"].roll(1)
        elif damage == "shape":
            tensors["images"] = tensors["images"][:, :, 1:].contiguous()
        else:
            del tensors["labels"]
        save_file(tensors, cached)
    with pytest.warns(UserWarning, match=f"{name}-train.safetensors is damaged"):
        again = load_dataset(name, "train")
    assert torch.equal(again.images, images) and torch.equal(again.labels, labels)
    assert "decoded cache" in load_dataset(name, "train").source, "the repaired cache is read without complaint"

    cached.write_bytes(whole[:-100])
    path.unlink()
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(DataUnavailableError):
        load_dataset(name, "train")


def test_cache_folder_that_cannot_be_written(tiny, monkeypatch, tmp_path):
    name, images, _, _ = tiny
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="is not kept.*DIFFUSION_EXPLAINED_CACHE"):
        dataset = load_dataset(name, "train")
    assert torch.equal(dataset.images, images)


def test_read_only_cache_folder_is_only_read(tiny, monkeypatch, tmp_path):
    """Root may write anywhere, so the refusal is the system call's own answer, given for it."""
    name, images, _, _ = tiny
    folder = tmp_path / "decoded"
    folder.mkdir()
    make = os.open

    def read_only(path, flags, *args, **kwargs):
        if Path(path).parent == folder and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(path))
        return make(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.warns(UserWarning, match="this user may not write there"):
        dataset = load_dataset(name, "train")
    assert torch.equal(dataset.images, images) and list(folder.iterdir()) == []


def test_full_disk_leaves_nothing_behind(tiny, monkeypatch, tmp_path):
    name, images, _, _ = tiny

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(load, "save_file", full)
    with pytest.warns(UserWarning, match="no space is left"):
        dataset = load_dataset(name, "train")
    assert torch.equal(dataset.images, images) and list((tmp_path / "decoded").iterdir()) == []


def test_no_network_and_a_cold_cache_say_what_to_do():
    with pytest.raises(DataUnavailableError, match="hf download uoft-cs/cifar10"):
        load_dataset("cifar10", "test")
    with pytest.raises(DataUnavailableError, match="bundled digits") as raised:
        load_dataset("mnist", "train")
    assert "hf download ylecun/mnist mnist/train-00000-of-00001.parquet --repo-type dataset" in str(raised.value)
    assert isinstance(raised.value, OSError)


class TestHubIsReachable:
    """The probe itself, against sockets of this machine."""

    @pytest.fixture(autouse=True)
    def real_probe(self, monkeypatch):
        monkeypatch.undo()
        for name in [name for name in os.environ if "proxy" in name.lower() or name.startswith("HF_")]:
            monkeypatch.delenv(name)

    @pytest.fixture
    def listening_port(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server.getsockname()[1]

    def test_listening(self, monkeypatch, listening_port):
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening_port}")
        assert hub.hub_is_reachable()

    def test_told_to_stay_offline(self, monkeypatch, listening_port):
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening_port}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub.hub_is_reachable()

    @pytest.mark.parametrize("endpoint", ["http://192.0.2.1", "http://hub.invalid"])
    def test_no_network_is_answered_within_two_seconds(self, monkeypatch, tmp_path, endpoint):
        """The hub's client alone would retry for 23 s. To 192.0.2.1 packets vanish; hub.invalid has no address."""
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
        started = time.perf_counter()
        with pytest.raises(DataUnavailableError, match="there is no network"):
            load_dataset("mnist", "train")
        assert time.perf_counter() - started < 2

    def test_refused(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert not hub.hub_is_reachable()

    def test_name_that_never_resolves(self, monkeypatch):
        ended = threading.Event()

        def no_such_name(*args):
            ended.wait(30)
            raise OSError("no such name")

        monkeypatch.setattr(socket, "create_connection", no_such_name)
        started = time.perf_counter()
        assert not hub.hub_is_reachable(timeout_s=0.2)
        assert time.perf_counter() - started < 5
        ended.set()

    @pytest.mark.parametrize("scheme", ["http://", ""])
    def test_through_a_proxy(self, monkeypatch, listening_port, scheme):
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
        monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{listening_port}")
        assert hub.hub_is_reachable()
        monkeypatch.setenv("no_proxy", "hub.invalid")
        assert not hub.hub_is_reachable()


def test_a_failing_download_is_said(monkeypatch):
    def download(**kwargs):
        if kwargs.get("local_files_only"):
            raise FileNotFoundError("not cached")
        raise RuntimeError("connection reset by peer")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    with pytest.raises(DataUnavailableError, match="connection reset by peer") as raised:
        load_dataset("cifar10")
    assert "hf download uoft-cs/cifar10" in str(raised.value)


def test_download_happens_when_the_network_is_there(tiny, monkeypatch, tmp_path):
    name, images, _, path = tiny
    elsewhere = tmp_path / "fetched.parquet"
    path.rename(elsewhere)
    asked = []

    def download(local_files_only=False, **where):
        asked.append(local_files_only)
        if local_files_only:
            raise FileNotFoundError("not cached")
        assert where["repo_id"] == hub_datasets.DATASETS[name].repo_id and where["repo_type"] == "dataset"
        return str(elsewhere)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    assert torch.equal(load_dataset(name).images, images)
    assert asked == [True, False], "the cache is asked first"
    (tmp_path / "decoded" / f"{name}-train.safetensors").unlink()
    with pytest.raises(DataUnavailableError):
        load_dataset(name, download=False)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"unknown data set 'cifar-10': did you mean 'cifar10'\?"):
        load_dataset("cifar-10")
    with pytest.raises(ValueError, match=r"unknown split of mnist 'tests': did you mean 'test'\?"):
        load_dataset("mnist", "tests")
    with pytest.raises(ValueError, match="unknown split of cifar10 'sample'"):
        load_dataset("cifar10", "sample")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "decoded"
    monkeypatch.delenv("DIFFUSION_EXPLAINED_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "diffusion_explained"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "diffusion_explained"


class TestBundledMnist:
    def test_is_whole_and_stratified(self):
        sample = bundled_mnist()
        assert sample.images.shape == (10_000, 1, 28, 28) and sample.class_names == tuple("0123456789")
        assert sample.labels.bincount().tolist() == [1000] * 10
        with np.load(load.SAMPLE_FILE, allow_pickle=False) as file:
            indices = file["indices"].astype(np.int64)
        assert len(np.unique(indices)) == 10_000 and (np.diff(indices) > 0).all() and indices[-1] < 60_000
        assert load.SAMPLE_FILE.stat().st_size < 1.8e6
        x = sample.to_float()
        assert x.min() == -1 and x.max() == 1
        assert abs(x.mean() - (2 * 0.1307 - 1)) < 0.005, "the train split's own mean, within sampling error"

    def test_is_what_load_dataset_calls_sample(self):
        assert torch.equal(load_dataset("mnist", "sample").images, bundled_mnist().images)

    @pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
    def test_damage_is_noticed(self, monkeypatch, tmp_path, damage):
        file = tmp_path / "mnist_sample.npz"
        if damage == "cut":
            file.write_bytes(load.SAMPLE_FILE.read_bytes()[:100_000])
        elif damage == "altered":
            sample = bundled_mnist()
            np.savez_compressed(file, images=255 - sample.images.numpy(), labels=sample.labels.numpy())
        monkeypatch.setattr(load, "SAMPLE_FILE", file)
        with pytest.raises(DamagedDataError, match=r"mnist_sample\.npz is damaged.*Install the package again"):
            bundled_mnist()

    def test_stands_in_for_the_train_split(self):
        assert training_images("mnist").split == "sample"
        assert "10,000 images of 10 classes, from the sample bundled" in str(training_images("mnist"))
        with pytest.raises(DataUnavailableError):
            training_images("cifar10")


def test_training_images_prefers_what_is_cached(tiny, monkeypatch):
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: pytest.fail("training_images must not ask the network"))
    name, images, _, _ = tiny
    assert torch.equal(training_images(name).images, images)


class TestRealData:
    """Where this machine's hub cache has the real files they must be exactly right; where not, that is the answer."""

    @pytest.fixture
    def real(self, empty_machine, monkeypatch):
        """real(name, split) -> the data set, or None after checking that its absence is said."""
        monkeypatch.delenv("HF_HUB_CACHE")
        if HUB_CACHE:
            monkeypatch.setenv("HF_HUB_CACHE", HUB_CACHE)

        def load_or_refuse(name: str, split: str) -> ImageDataset | None:
            dataset = hub_datasets.DATASETS[name]
            there = huggingface_hub.try_to_load_from_cache(
                dataset.repo_id, dataset.splits[split].filename, cache_dir=HUB_CACHE, repo_type="dataset"
            )
            if isinstance(there, str):
                return load_dataset(name, split, download=False)
            with pytest.raises(DataUnavailableError, match="not in the hub's local cache"):
                load_dataset(name, split, download=False)
            return None

        return load_or_refuse

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_mnist(self, real, split):
        """The published MD5 of LeCun's IDX files come out once their headers are put in front of our arrays."""
        dataset = real("mnist", split)
        if dataset is None:
            return
        images = struct.pack(">IIII", 0x803, len(dataset), 28, 28) + dataset.images.numpy().tobytes()
        labels = struct.pack(">II", 0x801, len(dataset)) + dataset.labels.byte().numpy().tobytes()
        assert tuple(hashlib.md5(part).hexdigest() for part in (images, labels)) == PUBLISHED_MD5[split]
        if split == "train":  # and the bundled sample is a part of it
            with np.load(load.SAMPLE_FILE, allow_pickle=False) as file:
                chosen = dataset.subset(torch.from_numpy(file["indices"].astype(np.int64)))
            assert torch.equal(chosen.images, bundled_mnist().images)
            assert torch.equal(chosen.labels, bundled_mnist().labels)

    def test_cifar10(self, real):
        dataset = real("cifar10", "test")
        if dataset is None:
            return
        assert dataset.images.shape == (10_000, 3, 32, 32)
        assert dataset.labels.bincount().tolist() == [1000] * 10
        assert [dataset.class_names[label] for label in dataset.labels[:4]] == ["cat", "ship", "ship", "airplane"]


class TestImageDataset:
    @pytest.fixture
    def dataset(self):
        images = torch.arange(6 * 4, dtype=torch.uint8).reshape(6, 1, 2, 2)
        return ImageDataset("six", "train", images, torch.tensor([0, 1, 2, 0, 1, 2]), ("a", "b", "c"), "this test")

    def test_floats_and_back(self):
        every_byte = torch.arange(256, dtype=torch.uint8)
        x = to_float(every_byte)
        assert x.dtype == torch.float32 and x[0] == -1 and x[255] == 1
        assert torch.equal(x[[51, 204]], torch.tensor([-0.6, 0.6])), "51 is a fifth of the way up"
        assert torch.equal(to_uint8(x), every_byte)
        assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]

    def test_batch_leaves_the_bytes_alone(self, dataset):
        before = dataset.images.clone()
        x_0, labels = dataset.batch(torch.tensor([4, 0]))
        assert labels.tolist() == [1, 0] and torch.equal(to_uint8(x_0), dataset.images[[4, 0]])
        dataset.to_float().zero_()
        assert torch.equal(dataset.images, before)

    def test_batches_are_every_image_once(self, dataset):
        batches = list(dataset.batches(4))
        assert [len(x) for x, _ in batches] == [4, 2]
        assert torch.equal(torch.cat([x for x, _ in batches]), dataset.to_float())
        assert torch.equal(torch.cat([y for _, y in batches]), dataset.labels)

    def test_of_class(self, dataset):
        assert dataset.of_class(2).labels.tolist() == [2, 2]
        assert torch.equal(dataset.of_class(2).images, dataset.images[[2, 5]])
        with pytest.raises(ValueError, match=r"a label of six must be a whole number, from 0 to 2; got 3"):
            dataset.of_class(3)

    def test_shapes_are_checked(self, dataset):
        with pytest.raises(ValueError, match="uint8"):
            replace(dataset, images=dataset.images.float())
        with pytest.raises(ValueError, match="labels must be int64"):
            replace(dataset, labels=dataset.labels[:5])
