"""The classifier, its training, its weight file, and the trained one that the package ships."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from diffusion_explained.data import DataUnavailableError, ImageDataset, bundled_mnist, load_dataset
from diffusion_explained.models import Classifier, ClassifierConfig
from diffusion_explained.pretrained import load_classifier, shipped_weights
from diffusion_explained.training import classifier as classifier_training
from diffusion_explained.training.augmentation import cut_out_randomly, flip_randomly, shift_randomly
from diffusion_explained.training.checkpoints import checkpoint_files
from diffusion_explained.training.classifier import (
    ClassifierRecipe,
    ClassifierTrainConfig,
    accuracy,
    one_cycle,
    run_recipe,
    train_classifier,
)
from diffusion_explained.training.recipes import read_recipe
from diffusion_explained.weight_files import read_weights, round_to_fp16, write_weights

SMALL = ClassifierConfig(widths=(8, 12, 16))


def small_classifier(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(SMALL)


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    """500 of the bundled digits."""
    return bundled_mnist().subset(torch.arange(0, 10_000, 20))


class TestNetwork:
    @pytest.mark.parametrize(
        "config",
        [
            ClassifierConfig(),
            ClassifierConfig(image_shape=(3, 32, 32), patch_size=1, widths=(8, 16, 24, 32), num_classes=7),
            ClassifierConfig(image_shape=(1, 20, 36), patch_size=2, widths=(8, 16), num_classes=2),
        ],
    )
    def test_shapes(self, config):
        network = Classifier(config).eval()
        x = torch.zeros(3, *config.image_shape)
        assert network.features(x).shape == (3, config.widths[-1])
        assert network(x).shape == (3, config.num_classes)
        assert torch.equal(network(x), network.logits(network.features(x)))

    def test_the_full_resnet_9(self):
        """With its widths and without patches it is the network that the CIFAR-10 races know: 6.57 M parameters."""
        config = ClassifierConfig(image_shape=(3, 32, 32), patch_size=1, widths=(64, 128, 256, 512))
        assert sum(p.numel() for p in Classifier(config).parameters()) == pytest.approx(6.57e6, rel=0.002)

    def test_images_of_a_batch_do_not_mix(self):
        network = small_classifier().eval()
        x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(network(x)[2:3], network(x[2:3]), atol=1e-5)

    @pytest.mark.parametrize(
        ("config", "complaint"),
        [
            (replace(SMALL, widths=(8,)), "two widths or more"),
            (replace(SMALL, patch_size=3), "whole patches"),
            (replace(SMALL, widths=(8,) * 6), "28 x 28 images vanish when they shrink 64 times"),
        ],
    )
    def test_refuses(self, config, complaint):
        with pytest.raises(ValueError, match=complaint):
            Classifier(config)


class TestTraining:
    def test_learns(self, digits):
        """From chance to most of what it was shown, in 160 steps."""
        network = small_classifier()
        before = accuracy(network, digits)
        config = ClassifierTrainConfig(batch_size=25, max_shift=0)
        records = list(train_classifier(network, digits, config, record_every=1))
        assert not network.training
        assert before < 0.25 and accuracy(network, digits) > 0.9
        assert [r.step for r in records] == list(range(1, 161))
        assert records[-1].loss < records[0].loss / 2
        assert records[-1].epoch == 8 and all(r.images_per_second > 0 and r.num_steps == 160 for r in records)
        assert max(r.learning_rate for r in records) == 0.1

    def test_a_seed_is_a_network(self, digits):
        def trained(seed: int) -> Tensor:
            network = small_classifier()
            list(train_classifier(network, digits, ClassifierTrainConfig(epochs=1, seed=seed)))
            return network.head.weight

        assert torch.equal(trained(1), trained(1))
        assert not torch.equal(trained(1), trained(2))

    def test_one_cycle(self):
        assert (one_cycle(0), one_cycle(0.25), one_cycle(1)) == (0, 1, pytest.approx(0, abs=1e-12))
        assert one_cycle(0.125) == pytest.approx(0.5) and one_cycle(0.625) == pytest.approx(0.5)
        rates = [one_cycle(i / 100) for i in range(101)]
        assert sorted(rates[:26]) == rates[:26] and sorted(rates[25:], reverse=True) == rates[25:]

    def test_shifts(self):
        """A bright pixel moves by at most two each way, everything else stays black, and every move occurs."""
        x = torch.full((2000, 2, 9, 9), -1.0)
        x[:, 0, 4, 4], x[:, 1, 5, 4] = 1.0, 0.5
        shifted = shift_randomly(x, 2, torch.Generator().manual_seed(0))
        at = (shifted[:, 0] == 1).nonzero()
        assert len(at) == 2000 and torch.equal(at[:, 0], torch.arange(2000))
        moves = at[:, 1:] - 4
        assert moves.abs().max() == 2 and len(moves.unique(dim=0)) == 25
        assert torch.equal((shifted[:, 1] == 0.5).nonzero()[:, 1:] - torch.tensor([5, 4]), moves), "channels go along"
        assert (shifted == -1).sum() == 2000 * (2 * 81 - 2)

    def test_shifted_out_is_gone_and_black_comes_in(self):
        x = torch.full((50, 1, 3, 3), 1.0)
        shifted = shift_randomly(x, 1, torch.Generator().manual_seed(0))
        assert set(shifted.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(shift_randomly(x, 0, torch.Generator()), x)

    def test_reflections_come_in(self):
        """On an image that grows to the right, a reflection turns back; black would be a jump to -1."""
        x = torch.arange(8.0).expand(200, 1, 8, 8).contiguous()
        shifted = shift_randomly(x, 2, torch.Generator().manual_seed(0), "reflect")
        assert {tuple(row) for row in shifted[:, 0, 0].tolist()} == {
            (2, 1, 0, 1, 2, 3, 4, 5),
            (1, 0, 1, 2, 3, 4, 5, 6),
            (0, 1, 2, 3, 4, 5, 6, 7),
            (1, 2, 3, 4, 5, 6, 7, 6),
            (2, 3, 4, 5, 6, 7, 6, 5),
        }

    def test_flips(self):
        x = torch.arange(6.0).reshape(1, 2, 1, 3).expand(1000, 2, 1, 3)
        flipped = flip_randomly(x, torch.Generator().manual_seed(0))
        is_flipped = (flipped == x.flip(-1)).all(dim=(1, 2, 3))
        assert torch.equal(flipped[~is_flipped], x[~is_flipped])
        assert 440 < is_flipped.sum() < 560

    def test_cutouts(self):
        """A whole grey square in each image and all channels; every place inside occurs, and nothing else changes."""
        x = torch.ones(500, 2, 6, 5)
        cut = cut_out_randomly(x, 3, torch.Generator().manual_seed(0))
        assert (cut == 0).sum(dim=(2, 3)).eq(9).all() and set(cut.unique().tolist()) == {0.0, 1.0}
        corners = {tuple((image[0] == 0).nonzero()[0].tolist()) for image in cut}
        assert corners == {(top, left) for top in range(4) for left in range(3)}
        for image, (top, left) in ((image, (image[0] == 0).nonzero()[0]) for image in cut[:20]):
            assert (image[:, top : top + 3, left : left + 3] == 0).all()
        assert torch.equal(cut_out_randomly(x, 0, torch.Generator()), x)
        with pytest.raises(ValueError, match=r"a cutout's side in pixels, must be a whole number, from 0 to 5; got 6"):
            cut_out_randomly(x, 6, torch.Generator())

    def test_a_killed_training_goes_on_bit_for_bit(self, digits, tmp_path):
        """Also from the middle of an epoch, and with all that augmentation draws."""
        config = ClassifierTrainConfig(epochs=3, batch_size=50, padding="reflect", flip=True, cutout=8)
        calm, stopped, went_on = (small_classifier() for _ in range(3))
        list(train_classifier(calm, digits, config))
        options = {"record_every": 1, "checkpoints": tmp_path, "checkpoint_every": 4}
        for record in train_classifier(stopped, digits, config, **options):
            if record.step == 18:
                break
        assert checkpoint_files(tmp_path)[0].name == "step-00000016.safetensors"
        records = list(train_classifier(went_on, digits, config, **options))
        assert [r.step for r in records] == list(range(17, 31))
        for name, tensor in calm.state_dict().items():
            assert torch.equal(tensor, went_on.state_dict()[name]), name
        finished = list(train_classifier(small_classifier(9), digits, config, **options))
        assert [r.step for r in finished] == [30] and finished[0].seconds == records[-1].seconds
        other = replace(config, cutout=4)
        with pytest.raises(ValueError, match=r"another training: training\.cutout is 8 there and 4 here"):
            next(train_classifier(small_classifier(), digits, other, checkpoints=tmp_path))

    def test_records_are_of_all_steps_since_the_last(self, digits):
        config = ClassifierTrainConfig(epochs=2, batch_size=50)
        every, some = (list(train_classifier(small_classifier(), digits, config, record_every=n)) for n in (1, 6))
        assert [r.step for r in some] == [6, 12, 18, 20]
        assert some[1].loss == pytest.approx(sum(r.loss for r in every[6:12]) / 6, rel=1e-5)
        assert [r.learning_rate for r in some] == [every[r.step - 1].learning_rate for r in some]

    def test_bfloat16_learns_too(self, digits):
        network = small_classifier()
        config = ClassifierTrainConfig(epochs=3, batch_size=25, precision="bfloat16", channels_last=True)
        records = list(train_classifier(network, digits, config))
        assert records[-1].loss < 0.7 * records[0].loss
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())

    def test_the_logits_scale(self):
        scaled = Classifier(replace(SMALL, logit_scale=0.125)).eval()
        plain = Classifier(SMALL).eval()
        plain.load_state_dict(scaled.state_dict())
        x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(scaled(x), plain(x) / 8)

    def test_refuses(self, digits):
        config = ClassifierTrainConfig()
        with pytest.raises(ValueError, match=r"takes \(3, 28, 28\) images of 10 classes, and mnist has \(1, 28, 28\)"):
            next(train_classifier(Classifier(replace(SMALL, image_shape=(3, 28, 28))), digits, config))
        with pytest.raises(ValueError, match="500 images in batches of 501 make no step"):
            next(train_classifier(small_classifier(), digits, replace(config, batch_size=501)))
        for wrong in ({"epochs": 0}, {"learning_rate": -3.0}, {"batch_size": 0}, {"label_smoothing": 1.0}):
            (name,) = wrong
            with pytest.raises(ValueError, match=f"{name} .* cannot be"):
                replace(config, **wrong)
        with pytest.raises(ValueError, match="unknown padding 'reflct': did you mean 'reflect'"):
            replace(config, padding="reflct")
        with pytest.raises(ValueError, match="unknown precision"):
            replace(config, precision="float16")
        with pytest.raises(FloatingPointError, match=r"the loss is nan at step .*: train with a smaller learning_rate"):
            list(train_classifier(small_classifier(), digits, replace(config, epochs=40, learning_rate=1e30)))


class TestWeightFiles:
    def test_round_trip(self, tmp_path):
        network, path = small_classifier(), tmp_path / "folder" / "small.safetensors"
        round_to_fp16(network)
        write_weights(path, network, asdict(SMALL), {"what": "ever", "π": 3.14})
        tensors, config, card = read_weights(path)
        assert card == {"what": "ever", "π": 3.14}
        other = Classifier(ClassifierConfig(**config))
        other.load_state_dict(tensors)
        x = torch.randn(2, 1, 28, 28)
        assert torch.equal(other.eval()(x), network.eval()(x)), "a rounded network measures as its file will"
        assert [file.name for file in path.parent.iterdir()] == ["small.safetensors"]

    @pytest.mark.parametrize("damage", ["cut", "empty", "text", "no config"])
    def test_damage(self, tmp_path, damage):
        path = tmp_path / "small.safetensors"
        write_weights(path, small_classifier(), asdict(SMALL), {})
        if damage == "no config":
            from safetensors.torch import save_file

            save_file({"weight": torch.zeros(2)}, path)
        else:
            whole = path.read_bytes()
            path.write_bytes({"cut": whole[:-1], "empty": b"", "text": b"not weights" * 99}[damage])
        with pytest.raises(OSError, match=r"small\.safetensors is damaged"):
            read_weights(path)
        with pytest.raises(FileNotFoundError, match="there is no weight file"):
            read_weights(tmp_path / "other.safetensors")

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e5])
    def test_what_fp16_cannot_hold_is_refused(self, tmp_path, value):
        path = tmp_path / "small.safetensors"
        write_weights(path, small_classifier(), {}, {"kept": True})
        broken = small_classifier()
        broken.head.bias.data[3] = value
        with pytest.raises(ValueError, match=r"head\.bias holds NaN, infinity, or numbers too large for fp16"):
            write_weights(path, broken, {}, {})
        assert read_weights(path)[2] == {"kept": True}, "the file that was there stays"


def test_recipe_makes_weights_with_a_card(monkeypatch, tmp_path, digits):
    splits = {"train": digits.subset(torch.arange(400)), "test": digits.subset(torch.arange(400, 500))}
    monkeypatch.setattr(classifier_training, "load_dataset", lambda name, split: splits[split])

    def of_rounded_weights(network: Classifier, dataset: ImageDataset) -> float:
        assert all(torch.equal(p, p.half().float()) for p in network.parameters()), "measured before rounding"
        return accuracy(network, dataset)

    monkeypatch.setattr(classifier_training, "accuracy", of_rounded_weights)
    tables = {
        "task": "classifier",
        "name": "small",
        "dataset": "mnist",
        "seed": 3,
        "network": {"network": "classifier", "widths": [8, 12, 16]},
        "training": {"epochs": 6, "batch_size": 40},
    }
    recipe = ClassifierRecipe.from_tables(tables, Path("small.toml"))
    output = tmp_path / "small.safetensors"
    stopped = run_recipe(recipe, output, checkpoint_every=7)
    while next(stopped).step < 20:
        pass
    stopped.close()
    assert not output.exists()
    records = list(run_recipe(recipe, output))
    assert [r.step for r in records] == [20, 30, 40, 50, 60], "it went on from step 14"
    network = load_classifier(output)
    card = network.card
    assert card["test_accuracy"] == accuracy(network, splits["test"]), "of the rounded weights"
    assert card["images_seen"] == 2400 == records[-1].images_seen
    assert card["recipe"] == json.loads(json.dumps(asdict(recipe))) and card["class_names"] == list("0123456789")


RECIPE = {
    "task": "classifier",
    "name": "small",
    "dataset": "mnist",
    "seed": 0,
    "network": {"network": "classifier"},
    "training": {"epochs": 3},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"epochz": 3}}, r"unknown key of \[training\] 'epochz': did you mean 'epochs'"),
        ({"training": {"learning_rate": -3.0}}, r"learning_rate \(above 0\) cannot be -3.0"),
        ({"training": {"learning_rate": "fast"}}, r"learning_rate of \[training\] must be a finite number; got 'fast'"),
        ({"training": {"learning_rate": float("nan")}}, "must be a finite number; got nan"),
        ({"training": {"epochs": True}}, "must be a whole number; got True"),
        ({"training": {"epochs": 2.5}}, "must be a whole number; got 2.5"),
        ({"training": [3]}, r"\[training\] must be a table of settings"),
        ({"training": {"seed": 1}}, "belongs at the top"),
        ({"epochz": 3}, "unknown key of the recipe 'epochz'"),
        ({"name": "../../escaped"}, "name must be a plain name"),
        ({"name": 3}, "must be a text; got 3"),
        ({"seed": "0"}, "must be a whole number; got '0'"),
        ({"dataset": "minst"}, "did you mean 'mnist'"),
        ({"dataset": ["mnist"]}, "must be a text"),
        ({"network": {"network": "unet"}}, "the network of a classifier's recipe"),
        ({"network": {"network": "classifier", "widths": []}}, "two widths or more"),
        ({"network": {"network": "classifier", "widths": [8, 10**9]}}, "more than"),
        ({"network": {"network": "classifier", "num_classes": 3}}, "which the data set determines"),
        ({"network": "classifier"}, "must be a table"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(change, said):
    with pytest.raises(ValueError, match=said) as refused:
        ClassifierRecipe.from_tables({**RECIPE, **change}, Path("small.toml"))
    assert str(refused.value).startswith("small.toml: ")


def test_a_recipe_that_lacks_keys_is_refused():
    with pytest.raises(ValueError, match="the recipe lacks seed, network"):
        ClassifierRecipe.from_tables(
            {key: value for key, value in RECIPE.items() if key not in ("seed", "network")}, Path("small.toml")
        )


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"trained by one process .*2 were started"):
        next(run_recipe(ClassifierRecipe.from_tables(RECIPE, Path("small.toml")), tmp_path / "small.safetensors"))


SHIPPED = {"mnist_classifier": (0.994, 1e6), "cifar10_classifier": (0.94, 16e6)}  # least accuracy, most bytes


class TestShipped:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_file(self, name):
        path = shipped_weights()[name]
        least, most = SHIPPED[name]
        assert path.stat().st_size < most
        with safe_open(path, framework="pt") as file:
            dtypes = {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata()
        assert dtypes == {"torch.float16", "torch.int64"}
        card = json.loads(metadata["card"])
        assert card["test_accuracy"] >= least
        assert {"recipe", "data", "images_seen", "seconds", "hardware"} <= set(card)

    @pytest.mark.parametrize("name", SHIPPED)
    def test_recipe(self, name):
        """Every key of it is known, and the network is one that we can ship."""
        tables, _ = read_recipe(name)
        config = ClassifierTrainConfig(**tables["training"], seed=tables["seed"])
        assert config.epochs >= 8
        assert load_classifier(name).card["recipe"] == tables

    def test_reads_digits(self, digits):
        """Also when they are moved by two pixels."""
        network = load_classifier()
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        assert accuracy(network, digits) > 0.99
        moved = replace(digits, images=digits.images.roll(2, dims=2))
        assert accuracy(network, moved) > 0.98

    @pytest.mark.parametrize("name", SHIPPED)
    def test_card_says_the_truth(self, name):
        """Where the test split is on this machine, the accuracy comes out again; where not, that is said.

        1,000 images are enough of CIFAR-10, whose classifier takes minutes for all; their standard error is 0.7%.
        """
        network = load_classifier(name)
        try:
            test = load_dataset(network.card["recipe"]["dataset"], "test", download=False)
        except DataUnavailableError as error:
            assert "test-00000-of-00001.parquet" in str(error)
            return
        some, tolerance = (test, 2e-4) if name == "mnist_classifier" else (test.subset(torch.arange(1000)), 0.025)
        assert accuracy(network, some) == pytest.approx(network.card["test_accuracy"], abs=tolerance)
