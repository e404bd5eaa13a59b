"""The shipped networks obey, their files say how they were made, and a wrong file or name is refused in words."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion_explained.data import bundled_mnist, made_by_model
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.forward import add_noise
from diffusion_explained.metrics import class_accuracy
from diffusion_explained.models import MLP, Classifier, MLPConfig
from diffusion_explained.noise import generators
from diffusion_explained.pretrained import (
    WEIGHTS,
    Model,
    available,
    load_classifier,
    load_pretrained,
    save_pretrained,
    shipped_weights,
)
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule
from diffusion_explained.training.recipes import Recipe

ROOT = Path(__file__).parents[1]
SHIPPED = {  # most megabytes
    "cifar10_dit_flow": 16,
    "cifar10_unet_eps": 16,
    "cifar10_unet_flow": 16,
    "cifar10_unet_flow_fine": 16,
    "cifar10_unet_reflow": 16,
    "mnist_dit_flow": 6,
    "mnist_unet_eps": 3,
    "mnist_unet_flow": 3,
}


@pytest.fixture(scope="module", params=SHIPPED)
def model(request) -> Model:
    return load_pretrained(request.param)


@pytest.fixture(scope="module", params=["cifar10_unet_eps", "mnist_dit_flow", "mnist_unet_eps", "mnist_unet_flow"])
def quick(request) -> Model:
    """A network of every kind; the other ones differ from these in size only."""
    return load_pretrained(request.param)


@pytest.fixture
def small() -> Model:
    torch.manual_seed(0)
    network = MLP(MLPConfig(width=16, num_classes=2)).requires_grad_(False)
    return Model("small", network, EDMSchedule(sigma_max=20), "edm", ("left", "right"), {"recipe": "none"})


def test_what_ships():
    assert available() == list(SHIPPED)
    for name, megabytes in SHIPPED.items():
        assert shipped_weights()[name].stat().st_size <= megabytes * 1e6
    flow, eps = load_pretrained("mnist_unet_flow"), load_pretrained("mnist_unet_eps")
    assert flow.network.config == eps.network.config
    assert (flow.kind, type(flow.schedule)) == ("flow", FlowSchedule)
    assert (eps.kind, type(eps.schedule), eps.schedule.num_train_timesteps) == ("eps", DDPMSchedule, 1000)


def test_a_shipped_network_is_whole_and_only_for_sampling(model):
    dataset = DATASETS[model.name.split("_")[0]]
    assert (model.image_shape, model.class_names) == (dataset.image_shape, dataset.class_names)
    assert model.num_classes == 10
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())
    with safe_open(shipped_weights()[model.name], "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, stored[name].float())


def test_its_card_is_its_recipe_and_what_was_measured(model):
    path = ROOT / "recipes" / f"{model.name}.toml"
    recipe = Recipe.from_tables(tomllib.loads(path.read_text()), path)
    assert model.card["recipe"]["training"]["images"] == recipe.training.images
    for key in ("network", "kind", "teacher"):
        assert model.card["recipe"].get(key) == getattr(recipe, key)
    assert recipe.kind in (model.kind, None)  # a rectified flow's is its teacher's
    assert (model.default_guidance_scale, model.default_clip) == (recipe.guidance_scale, recipe.clip)
    steps = recipe.training.num_steps
    assert (model.card["steps"], model.card["images_seen"]) == (steps, steps * recipe.training.batch_size)
    assert model.card["seconds"] > 0 and model.card["hardware"] and model.card["limits"]
    assert [e["settings"] | {"n": e["n"]} for e in model.card["evaluation"]] == [
        {**settings, "seed": 0} for settings in recipe.evaluation
    ]
    for measured in model.card["evaluation"]:
        assert measured["samples"]["frechet_distance"] > measured["real"]["frechet_distance"] > 0
    assert "/" not in json.dumps(model.card).replace("https://", "")  # no path of the machine that made it


def test_samples_are_of_their_class_as_the_card_says(model):
    dataset = model.name.split("_")[0]
    labels = torch.arange(60 if dataset == "mnist" else 10) % 10
    scale = model.default_guidance_scale
    nearest = min(model.card["evaluation"], key=lambda e: abs(e["settings"]["guidance_scale"] - scale))
    said = nearest["samples"]["accuracy"]
    steps = (10 if dataset == "mnist" else 6) * (1 if model.kind == "flow" else 2)
    images = model.sample(labels, num_inference_steps=steps, guidance_scale=scale)
    seen = class_accuracy(images, labels, load_classifier(f"{dataset}_classifier"))
    assert seen > said - 0.05 - 3 * (said * (1 - said) / len(labels)) ** 0.5  # three standard errors of so few
    assert images.shape == (len(labels), *model.image_shape) and -1 <= images.min() and images.max() <= 1


def real_or_made(model: Model) -> torch.Tensor:
    """Sixteen pictures of the kind that a model knows, on any machine."""
    dataset = bundled_mnist() if model.name.startswith("mnist") else made_by_model("cifar10")
    return dataset.batch(torch.arange(0, len(dataset), len(dataset) // 16)[:16])[0]


def test_it_sees_through_noise(model):
    x_0 = real_or_made(model)
    level = model.schedule.level(0.5 if model.kind == "flow" else 400)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    x_t = add_noise(x_0, eps, level)
    predicted = model.denoiser()(x_t, level).x_0
    assert (predicted - x_0).square().mean() < 0.25 * (x_t / level.alpha - x_0).square().mean()
    assert (predicted - x_0).square().mean() < 0.15


def test_what_predicts_noise_on_a_schedule_that_ends_in_noise_is_clipped_unless_asked_otherwise():
    model = load_pretrained("cifar10_unet_eps")
    free = model.sample([1, 7], num_inference_steps=5, clip=None)
    own = model.sample([1, 7], num_inference_steps=5)
    assert torch.equal(own, model.sample([1, 7], num_inference_steps=5, clip=1.0))
    assert (free.abs() == 1).double().mean() > 0.3 > (own.abs() == 1).double().mean(), "without, it is thrown off"


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_runs_on_every_kind_of_network(quick, sampler):
    images = quick.sample([1, 8], sampler=sampler, num_inference_steps=3, guidance_scale=1.5)
    assert images.isfinite().all()


@pytest.mark.parametrize("other", [DDPMSchedule.of_log_snr([6.0, 1.0, -4.0]), DDPMSchedule.cosine(), FlowSchedule()])
def test_the_levels_of_another_schedule_are_a_spacing(small, other):
    levels = small.levels(5, spacing=other)
    for own, theirs in zip(levels[1:-1], other.levels(5)[1:-1], strict=True):
        assert own.log_snr == pytest.approx(theirs.log_snr, abs=1e-6)
        assert own == small.schedule.level(own.t), "on the network's own path"
    steps = list(small.steps([1], num_inference_steps=5, spacing=other))
    assert [step.level for step in steps] == levels[:-1] and levels[-1] == small.schedule.clean
    noise = small.noise(1) / small.schedule.init_noise_sigma
    torch.testing.assert_close(steps[0].x_t, levels[0].sigma * noise)  # of the size of the first level


def test_a_schedule_that_a_network_cannot_follow_is_refused():
    model, cleaner = load_pretrained("mnist_unet_eps"), DDPMSchedule.of_log_snr([12.0, 11.0, 10.0])
    with pytest.raises(ValueError, match=r"mnist_unet_eps goes from a log SNR of .* lie beyond an end: take fewer"):
        model.levels(5, spacing=cleaner)


def test_labels_and_guidance_matter_and_a_seed_is_a_picture(quick):
    one = quick.sample([1, 8], num_inference_steps=3, seed=4)
    assert torch.equal(one, quick.sample([1, 8], num_inference_steps=3, seed=4))
    assert not torch.equal(one, quick.sample([1, 8], num_inference_steps=3, seed=5))
    # a batch of another size rounds otherwise, and in pure noise a guess of eps makes much of it before it is clipped
    atol = 1e-3 if quick.default_clip else 1e-4
    torch.testing.assert_close(one[1:], quick.sample([8], num_inference_steps=3, seed=5), atol=atol, rtol=0)
    assert not torch.allclose(one, quick.sample([2, 9], num_inference_steps=3, seed=4), atol=0.01)
    guided = quick.sample([1, 8], num_inference_steps=3, seed=4, guidance_scale=3)
    against = quick.sample([1, 8], num_inference_steps=3, seed=4, guidance_scale=3, negative_labels=[7, 7])
    assert not torch.allclose(one, guided, atol=0.01) and not torch.allclose(guided, against, atol=0.01)
    assert quick.sample(batch_size=2, num_inference_steps=2).shape == (2, *quick.image_shape)


def test_noise_is_one_stream_an_image_scaled_by_the_schedule(small):
    assert torch.equal(small.noise(3, seed=5), torch.cat([small.noise(1, seed=5 + i) for i in range(3)]))
    assert small.noise(500).std() == pytest.approx(20, rel=0.1)
    streams = generators(2, seed=1)
    first = small.noise(2, generator=streams)
    assert torch.equal(first, small.noise(2, seed=1)) and not torch.equal(first, small.noise(2, generator=streams))


@pytest.mark.parametrize("labels", [[10], [-1], [], [0.5], [[1]], [True]])
def test_labels_that_do_not_exist_are_refused(labels):
    model = load_pretrained("mnist_unet_flow")
    with pytest.raises(ValueError, match=r"class indices 0 \.\. 9 \(0, 1, 2"):
        model.sample(labels)
    with pytest.raises(ValueError, match=r"class indices|each entry a number"):
        model.denoiser([1], 2.0, negative_labels=labels)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "Give labels"),
        ({"labels": [1], "batch_size": 2}, "leave batch_size out"),
        ({"labels": [1], "sampler": "dimm"}, "did you mean 'ddim'"),
        ({"labels": [1], "num_inference_steps": 0}, "from 1 to 100000"),
        ({"labels": [1], "guidance_scale": float("nan")}, "finite"),
        ({"batch_size": 0}, "1 or more"),
        ({"labels": [1], "seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        load_pretrained("mnist_unet_flow").sample(**settings)


def test_x_t_of_another_shape_is_refused(model):
    shape = ", ".join(map(str, model.image_shape))
    with pytest.raises(ValueError, match=rf"\(2, 1, 16, 16\).*\({shape}\)"):
        model.denoiser()(torch.zeros(2, 1, 16, 16), model.schedule.levels(2)[0])


def test_a_model_of_ones_own_is_saved_and_loaded(small, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_pretrained(path, small)
    for given in (path, str(path)):
        again = load_pretrained(given)
        assert (again.name, again.kind, again.class_names, again.card) == ("mine", "edm", ("left", "right"), small.card)
        assert again.schedule.to_config() == small.schedule.to_config()
        for name, tensor in small.network.state_dict().items():
            assert torch.equal(again.network.state_dict()[name], tensor.half().float())
    with pytest.raises(ValueError, match="fp16"):
        small.network.head.bias.fill_(1e6)
        save_pretrained(path, small)
    assert load_pretrained(path).card == small.card, "the old file stays"


def test_two_loads_are_two_networks():
    first, second = load_pretrained("mnist_unet_flow"), load_pretrained("mnist_unet_flow")
    first.network.head.bias.fill_(7.0)
    assert not torch.equal(first.network.head.bias, second.network.head.bias)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist_unet_flwo", "did you mean 'mnist_unet_flow'"),
        ("mnist_classifier", "Known: cifar10_dit_flow, .*, mnist_unet_flow"),
        ("", "Known: cifar10_dit_flow"),
        ("weights/mnist.pt", "not a .safetensors file"),
        (Path("mnist.ckpt"), "not a .safetensors file"),
    ],
)
def test_an_unknown_name_and_another_format_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        load_pretrained(name)


def test_a_classifier_is_no_diffusion_model_nor_the_reverse():
    with pytest.raises(ValueError, match="use load_classifier"):
        load_pretrained(WEIGHTS / "mnist_classifier.safetensors")
    with pytest.raises(ValueError, match="use load_pretrained"):
        load_classifier(WEIGHTS / "mnist_unet_flow.safetensors")
    assert isinstance(load_classifier(), Classifier) and load_classifier().card["test_accuracy"] > 0.99


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(path):
    path.write_bytes(b"")


def pickled(path):
    torch.save({"weights": torch.zeros(3)}, path)


def without_card(path):
    save_file(load_file(path), path)


def without_a_tensor(path):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["stem.weight"]
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("damage", [cut, emptied, pickled, without_card, without_a_tensor])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "copy.safetensors"
    shutil.copy(WEIGHTS / "mnist_unet_flow.safetensors", path)
    load_pretrained(path)
    damage(path)
    with pytest.raises(OSError, match=r"copy\.safetensors"):
        load_pretrained(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load_pretrained(tmp_path / "absent.safetensors")


def test_negative_labels_without_labels_are_refused():
    with pytest.raises(ValueError, match="negative_labels need labels"):
        load_pretrained("mnist_unet_flow").sample(batch_size=1, negative_labels=[1])
