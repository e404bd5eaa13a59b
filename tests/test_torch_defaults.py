"""torch's global defaults do not reach the package: the same bits come out, whatever they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusion_explained import load_pretrained, plots, samplers
from diffusion_explained.comparisons import rms_distance
from diffusion_explained.data import from_points, from_strokes, gaussian_modes, load_dataset, toy
from diffusion_explained.data.images import ImageDataset
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.inside import attention_maps, costs, cut, feature_maps, skip_connections
from diffusion_explained.metrics import (
    classify,
    diversity,
    frechet_distance,
    frechet_spread,
    nearest,
    sliced_wasserstein,
)
from diffusion_explained.micro import fidelity, reconstruction
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.retrieval import embed_pictures, load_retrieval
from diffusion_explained.micro.retrieval_training import train_retrieval
from diffusion_explained.micro.scene_stream import CaptionedBatches
from diffusion_explained.micro.scenes import SceneSampler, draw_scenes
from diffusion_explained.micro.tokens import load_tokenizer
from diffusion_explained.models import MLP, Classifier, ClassifierConfig, DiT, DiTConfig, MLPConfig, UNet, UNetConfig
from diffusion_explained.noise import seeded
from diffusion_explained.plots.points import plane
from diffusion_explained.plots.style import png
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule
from diffusion_explained.stable_diffusion import stand_in
from diffusion_explained.stable_diffusion.attention import record_attention
from diffusion_explained.stable_diffusion.latent_space import slerp
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from diffusion_explained.training import train
from diffusion_explained.training.classifier import ClassifierTrainConfig, train_classifier
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.gan import train_gan

CPU = {"device": "cpu", "dtype": torch.float32}
SMALL = UNetConfig(image_shape=(1, 8, 8), patch_size=1, widths=(8, 8), head_width=8, num_classes=None)


def ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel(), **CPU).reshape(shape)


def sampling(folder: Path) -> Iterator[torch.Tensor]:
    model = load_pretrained("mnist_unet_flow")
    for name in samplers.SAMPLERS:
        yield model.sample([3], num_inference_steps=3, sampler=name, seed=1)
    yield load_pretrained("mnist_unet_eps").sample([3], num_inference_steps=2)
    yield load_pretrained("mnist_dit_flow").sample([3], num_inference_steps=2)
    yield model.sample(torch.tensor([3, 7], device="cpu"), num_inference_steps=2, negative_labels=[1, 2])


def training(folder: Path) -> Iterator[torch.Tensor]:
    network = seeded(0, lambda: UNet(SMALL))
    config = TrainConfig(images=48, batch_size=16)
    *_, record = train(network, ramp(32, 1, 8, 8), None, FlowSchedule(), "flow", config)
    yield from record.model.network.state_dict().values()
    points, labels = toy("moons", 64, seed=1)
    for schedule, kind in ((DDPMSchedule.linear(), "eps"), (EDMSchedule(), "edm"), (FlowSchedule(), "flow")):
        network = seeded(0, lambda: MLP(MLPConfig(num_classes=2)))
        *_, record = train(network, points, labels, schedule, kind, TrainConfig(images=64, batch_size=32))
        yield from record.model.network.state_dict().values()
    *_, generator = train_gan(points, 2)
    yield from generator.state_dict().values()


def building(folder: Path) -> Iterator[torch.Tensor]:
    small = ClassifierConfig(image_shape=(1, 8, 8), num_classes=2)
    for build in (
        lambda: UNet(SMALL),
        lambda: DiT(DiTConfig(image_shape=(1, 8, 8), patch_size=4, width=8, depth=1, head_width=4)),
        lambda: MLP(MLPConfig()),
        lambda: Classifier(small),
    ):
        yield from seeded(0, build).state_dict().values()
        yield from (torch.zeros_like(tensor) for tensor in build().state_dict().values())  # unseeded: their places


def theory(folder: Path) -> Iterator[torch.Tensor]:
    for name in ("moons", "swiss_roll", "eight_gaussians", "checkerboard", "spiral", "ring"):
        yield from toy(name, 20, seed=3)
    yield from from_points([(0, 0), (1, 2), (3, 1)])
    yield from from_strokes([[(0, 0), (1, 1)], [(2, 2)]], 10)
    means, std = gaussian_modes("eight_gaussians")
    mixture = GaussianMixture(means, std, classes=torch.arange(8, device="cpu", dtype=torch.int64))
    points, labels = mixture.sample(10, torch.Generator("cpu").manual_seed(0))
    yield points
    yield labels
    for schedule in (FlowSchedule(), DDPMSchedule.cosine(), EDMSchedule()):
        denoise = ExactDenoiser(mixture, labels=labels.tolist(), guidance_scale=2.0)
        yield samplers.final(samplers.heun(denoise, points, schedule.levels(3)))
    yield plane(2.0, bins=5)


def measuring(folder: Path) -> Iterator[torch.Tensor]:
    images, labels = load_dataset("mnist", "sample").batch(torch.arange(300, device="cpu", dtype=torch.int64))
    features, logits = classify(images)
    yield from (features, logits)
    a, b = features[:150, :20], features[150:, :20]
    numbers = [frechet_distance(a, b), frechet_spread(a, b, draws=2), sliced_wasserstein(a[:, :2], b[:, :2])]
    numbers += [diversity(images, labels), rms_distance(a, b)]
    yield torch.tensor(numbers, device="cpu", dtype=torch.float32)
    yield from nearest(a, b)


def looking_inside(folder: Path) -> Iterator[torch.Tensor]:
    unet, dit = load_pretrained("mnist_unet_flow").network, load_pretrained("mnist_dit_flow").network
    x_t, t = ramp(1, *unet.image_shape), torch.full((1,), 500.0, **CPU)
    yield feature_maps(unet, "middle.0", x_t, t)
    for seen in attention_maps(dit, x_t, t).values():
        yield seen.weights
        yield seen.distance()
    with cut(unet, skip_connections(unet)):
        yield unet(x_t, t)
    yield torch.tensor([cost.flops for cost in costs(unet)], device="cpu", dtype=torch.int64)


def drawing(folder: Path) -> Iterator[torch.Tensor]:
    unet = load_pretrained("mnist_unet_flow")
    steps = list(unet.steps([3], num_inference_steps=2))
    for figure in (
        plots.filmstrip({"x_t": [step.x_t[0] for step in steps]}),
        plots.schedule_curves({"flow": FlowSchedule()}),
        plots.pixel_histogram(steps[0].x_t),
        plots.trajectories(ramp(3, 5, 2)),
    ):
        yield torch.frombuffer(bytearray(png(figure, dpi=50)), dtype=torch.uint8)


def micro(folder: Path) -> Iterator[torch.Tensor]:
    emoji, tokenizer, retrieval = load_emoji_sample(), load_tokenizer(), load_retrieval()
    scenes, tokens = CaptionedBatches(SceneSampler(emoji, "train", 3), 4, tokenizer)[0]
    pictures = draw_scenes(scenes, emoji.images)
    yield from (tokens, scenes.place, scenes.background, pictures, emoji.held_out)
    yield embed_pictures(retrieval, pictures)
    # captions are embedded in the training below: torch's fused transformer of inference is off under "meta"
    yield from fidelity.halves(pictures)
    yield from (fidelity.colour_shares(pictures), fidelity.ssim(pictures, pictures.flip(0)))
    yield fidelity.spread(torch.arange(100, device="cpu", dtype=torch.int64), 7)
    yield torch.tensor(list(fidelity.look(pictures).values()), **CPU)
    yield reconstruction.psnr(pictures, pictures.flip(0))
    out = folder / "retrieval.safetensors"
    tiny = {"widths": (8, 8), "blocks": (0, 0), "squeeze": 2, "dim": 8, "text_width": 8, "text_layers": 1}
    for _ in train_retrieval(emoji, tokenizer, out=out, images=16, batch_size=8, network=tiny):
        pass
    yield from load_file(out).values()


def stable_diffusion(folder: Path) -> Iterator[torch.Tensor]:
    for family in ("sd", "sdxl", "sd3"):
        model = stand_in(family, device="cpu")
        size = {"height": 64, "width": 64, "num_inference_steps": 2, "negative": "blurry"}
        yield model.sample("a red cat", **size, seed=[1, 2])
        mask = rectangle_mask(64, 64, (0.2, 0.6), (0.2, 0.6))
        yield model.sample("a cat", num_inference_steps=2, image=ramp(1, 3, 64, 64), mask=mask)
    model = stand_in(device="cpu")
    text = model.encode_text("a cat")
    with record_attention(model, text) as attention:
        for step in model.steps(text, height=64, width=64, num_inference_steps=2):
            attention.after(step)
    yield attention.maps(0)
    yield slerp(ramp(2, 4, 8, 8), ramp(2, 4, 8, 8).flip(0), 0.3)
    assert model.preview(ramp(1, 4, 8, 8)).dtype == torch.float32  # its last bit follows how memory is aligned


def classifying(folder: Path) -> Iterator[torch.Tensor]:
    images = ((ramp(32, 1, 8, 8) + 1) * 127).to(torch.uint8)
    labels = torch.arange(32, device="cpu", dtype=torch.int64) % 2
    dataset = ImageDataset("made", "train", images, labels, ("a", "b"), "a test")
    network = seeded(0, lambda: Classifier(ClassifierConfig(image_shape=(1, 8, 8), num_classes=2)))
    *_, _ = train_classifier(network, dataset, ClassifierTrainConfig(epochs=2, batch_size=16))
    yield from network.state_dict().values()


PARTS = [
    sampling, training, building, theory, measuring, looking_inside, drawing, micro, stable_diffusion, classifying
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_torchs_global_defaults_do_not_leak_in(part, tmp_path):
    (tmp_path / "plain").mkdir()
    expected = list(part(tmp_path / "plain"))
    assert len(expected) > 0
    for name, change, back in (
        ("float64", lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        ("meta", lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    ):
        (tmp_path / name).mkdir()
        change()
        try:
            got = list(part(tmp_path / name))
        finally:
            back()
        for i, (a, b) in enumerate(zip(expected, got, strict=True)):
            assert (a.dtype, a.device) == (b.dtype, b.device), (name, i)
            assert torch.equal(a, b), (name, i)
