"""Beyond images: what a kind says is enough to train, draw, measure and write it, with the engine of the digits."""

import json

import pytest
import torch
from typer.testing import CliRunner

from diffusion_explained import beyond
from diffusion_explained.beyond import KINDS, Data, Kind, kind_of, load_beyond, measured, shelf
from diffusion_explained.beyond.training import train_kind
from diffusion_explained.cli import app
from diffusion_explained.pretrained import load_pretrained
from diffusion_explained.training import TrainConfig
from diffusion_explained.training.recipes import Recipe


def sticks(n, generator, split):
    """Three numbers that are all -0.5 (class "low") or all 0.5 (class "high"), and a little noise."""
    labels = torch.arange(n) % 2
    return Data(labels[:, None] - 0.5 + 0.05 * torch.randn(n, 3, generator=generator), labels)


STICKS = Kind(
    name="sticks",
    shape=(3,),
    class_names=("low", "high"),
    sample_data=sticks,
    train_size=256,
    measure=lambda data, reference: {"right": float(((data.x_0.mean(1) > 0) == (data.labels == 1)).float().mean())},
    chance=lambda data, generator: Data(data.x_0, data.labels[torch.randperm(len(data.labels), generator=generator)]),
    sampling={"num_inference_steps": 4, "sampler": "euler"},
    writers={".txt": lambda x_0, names: f"{len(x_0)} {' '.join(names)}".encode()},
)
RECIPE = Recipe(
    name="sticks",
    task="diffusion",
    dataset="sticks",
    kind="flow",
    network={"network": "mlp", "width": 32},
    schedule={"family": "flow"},
    training=TrainConfig(images=12_800, batch_size=64, precision="float32", ema_decay=0.9),
    evaluation=[{"n": 40, "num_inference_steps": 4}],
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weight file of a training of the kind."""
    output = tmp_path_factory.mktemp("beyond") / "sticks.safetensors"
    *_, last = train_kind(STICKS, RECIPE, output)
    assert last.step == 200
    return output


def test_a_kind_is_trained_measured_and_written_with_its_card(weights):
    model = load_pretrained(weights)
    (evaluation,) = model.card["evaluation"]
    assert evaluation["samples"]["right"] > 0.95  # 200 steps separate two modes
    assert evaluation["real"]["right"] == 1 and evaluation["chance"]["right"] < 0.8
    assert model.class_names == ("low", "high") and model.image_shape == (3,)
    json.dumps(model.card)


def test_the_command_line_draws_and_writes_a_kind_as_its_own_sort_of_file(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(shelf.KINDS, "sticks", STICKS)
    assert kind_of(load_pretrained(weights)) is STICKS
    command = ["sample", str(weights), "--labels", "high,low", "--steps", "2", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a.txt")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.txt").read_text() == "2 high low"
    refused = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a.png")])
    assert refused.exit_code == 2 and ".txt" in refused.output


def test_what_does_not_exist_is_refused_in_words():
    with pytest.raises(ValueError, match="kind of data"):
        load_beyond("smell")
    with pytest.raises(ValueError, match="test, train"):
        STICKS.data(4, split="validation")
    with pytest.raises(ValueError, match="n must be"):
        STICKS.data(0)
    assert kind_of(load_pretrained("mnist_unet_flow")) is None


def test_a_seed_makes_the_same_data():
    assert torch.equal(STICKS.data(6, 3).x_0, STICKS.data(6, 3).x_0)
    assert not torch.equal(STICKS.data(6, 3).x_0, STICKS.data(6, 4).x_0)
    assert beyond.KINDS is KINDS and measured is beyond.measured
