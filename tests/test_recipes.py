"""Recipes: those that ship are sound, a run ends in measured weights, and a wrong file is refused by its name."""

import dataclasses
import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.measured import write_measured
from diffusion_explained.models import build_network, count_parameters
from diffusion_explained.pretrained import WEIGHTS, load_pretrained, shipped_weights
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.training import recipes
from diffusion_explained.training.recipe_starts import load_teacher
from diffusion_explained.training.recipes import (
    Recipe,
    describe_training,
    read_recipe,
    recipe_names,
    run_recipe,
    weights_file,
)

TINY = """
task = "diffusion"
name = "tiny"
dataset = "mnist"
split = "sample"
kind = "v"
limits = "It has hardly been trained."
[network]
network = "unet"
patch_size = 4
widths = [8]
embedding_width = 16
head_width = 8
blocks = [1]
attention = [false]
[schedule]
family = "ddpm"
name = "cosine"
[training]
images = 480
batch_size = 16
betas = [0.9, 0.95]
precision = "float32"
[[evaluation]]
n = 100
num_inference_steps = 1
[[evaluation]]
n = 100
num_inference_steps = 2
sampler = "euler"
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_recipe_that_was_read_is_not_read_again(tiny, tmp_path):
    file = read_recipe(tiny)
    tiny.unlink()
    assert read_recipe(file) is file and weights_file(file, tmp_path) == tmp_path / "tiny" / "tiny.safetensors"
    assert next(run_recipe(file, tmp_path, images=16)).step == 1
    with pytest.raises(FileNotFoundError):
        next(run_recipe(tiny, tmp_path))


def test_a_card_counts_the_processes_that_shared_the_work(tiny, tmp_path, monkeypatch):
    recipe, *_, record = Recipe.from_tables(*read_recipe(tiny)), *run_recipe(tiny, tmp_path)
    alone = describe_training(recipe, "digits", record, "cpu")["hardware"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert describe_training(recipe, "digits", record, "cpu")["hardware"] == f"2 x {alone}"


def diffusion_recipes() -> list[str]:
    return [name for name in recipe_names() if read_recipe(name)[0]["task"] == "diffusion"]


def test_every_shipped_model_has_a_recipe():
    assert {"mnist_unet_eps", "mnist_unet_flow", "mnist_unet_flow_quick"} <= set(diffusion_recipes())
    by_command = {"micro_retrieval"}  # of `diffusion-explained micro`, as the folder micro/ is
    by_script = {name for name in shipped_weights() if name.startswith("text_")}  # of recipes/text.py
    assert shipped_weights().keys() - by_command - by_script <= set(recipe_names())


@pytest.mark.parametrize("name", diffusion_recipes())
def test_the_shipped_recipes_are_sound(name):
    recipe = Recipe.from_tables(*read_recipe(name))
    assert recipe.name == name and recipe.limits and recipe.evaluation
    assert recipe.training.label_dropout == 0.1
    schedule_from_config(recipe.schedule)


@pytest.mark.parametrize("name", sorted({*recipe_names()} - {"cifar10_unet_reflow"}))
def test_the_network_of_a_shipped_recipe_is_small_enough_to_ship(name):
    """16 MB in fp16. (A rectified flow's network is its teacher's.)"""
    tables, _ = read_recipe(name)
    data = DATASETS[tables["dataset"]]
    shape = {"image_shape": data.image_shape, "num_classes": len(data.class_names)}
    with torch.device("meta"):
        network = build_network({**tables["network"], **shape})
    assert 2 * count_parameters(network) < 16e6


def test_the_quick_recipe_is_the_flow_recipe_on_less():
    quick = Recipe.from_tables(*read_recipe("mnist_unet_flow_quick"))
    full = Recipe.from_tables(*read_recipe("mnist_unet_flow"))
    assert (quick.network, quick.schedule, quick.kind) == (full.network, full.schedule, full.kind)
    assert quick.split == "sample" and quick.training.images < full.training.images


def test_a_run_ends_in_weights_with_a_measured_card(tiny, tmp_path, monkeypatch):
    calls = []
    for name in ("save_pretrained", "read_recipe"):
        function = getattr(recipes, name)
        monkeypatch.setattr(recipes, name, lambda *a, f=function, n=name: calls.append(n) or f(*a))
    records = list(run_recipe(tiny, tmp_path / "runs"))
    assert calls == ["read_recipe", "save_pretrained"]  # read once, and saved once, when it is measured
    assert [r.step for r in records] == [10, 20, 30]
    path = weights_file(tiny, tmp_path / "runs")
    assert path == tmp_path / "runs" / "tiny" / "tiny.safetensors"
    model = load_pretrained(path)
    assert (model.kind, model.schedule.to_config()["name"], model.num_classes) == ("v", "cosine", 10)
    assert model.default_guidance_scale == 2.0
    for name, tensor in records[-1].model.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor.half().float()), name
    card = model.card
    assert (card["images_seen"], card["steps"]) == (480, 30)
    assert card["data"] == "mnist, sample split, 10,000 images"
    assert card["limits"] == "It has hardly been trained."
    assert card["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert card["recipe"]["training"]["betas"] == [0.9, 0.95]
    first, second = card["evaluation"]
    assert first["settings"] == {"num_inference_steps": 1, "seed": 0} and first["n"] == 100
    assert second["settings"]["sampler"] == "euler"
    for measured in (first, second):
        assert 0 <= measured["samples"]["accuracy"] < 0.9 < measured["real"]["accuracy"] <= 1
    assert str(tmp_path) not in json.dumps(card)


def test_a_run_that_stopped_goes_on_and_ends_the_same(tiny, tmp_path):
    list(run_recipe(tiny, tmp_path / "calm"))
    stopped = run_recipe(tiny, tmp_path / "stopped", checkpoint_every=7)
    while next(stopped).step < 20:
        pass
    stopped.close()
    assert not weights_file(tiny, tmp_path / "stopped").exists()
    assert next(iter(run_recipe(tiny, tmp_path / "stopped"))).step == 20  # 14 were kept
    list(run_recipe(tiny, tmp_path / "stopped"))
    calm, went_on = (load_file(weights_file(tiny, tmp_path / folder)) for folder in ("calm", "stopped"))
    assert all(torch.equal(calm[name], went_on[name]) for name in calm)


def test_a_further_leg_starts_from_trained_weights_and_its_card_says_so(tiny, tmp_path):
    first = weights_file(tiny, tmp_path / "first")
    list(run_recipe(tiny, tmp_path / "first"))
    still = tmp_path / "still.toml"  # one step that moves no weight by more than fp16 sees
    still.write_text(TINY.replace("images = 480", "images = 16\nlearning_rate = 1e-12\nema_decay = 0.0"))
    list(run_recipe(still, tmp_path / "second", start_from=first))
    before, after = load_file(first), load_file(weights_file(still, tmp_path / "second"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    card = load_pretrained(weights_file(still, tmp_path / "second")).card
    started = card["started_from"]
    assert card["images_seen"] == 16 and (started["name"], started["images_seen"]) == ("tiny", 480)
    assert len(started["sha256"]) == 64
    list(run_recipe(still, tmp_path / "third", start_from=weights_file(still, tmp_path / "second")))
    card = load_pretrained(weights_file(still, tmp_path / "third")).card
    assert card["started_from"]["started_from"]["images_seen"] == 480  # the first training is not forgotten


def test_weights_of_another_network_or_task_are_no_start(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"mnist_unet_flow cannot be the start.*network and kind and schedule differ"):
        next(iter(run_recipe(tiny, tmp_path, start_from="mnist_unet_flow")))
    with pytest.raises(ValueError, match="classifier, which starts anew"):
        next(iter(run_recipe("mnist_classifier", tmp_path, start_from="mnist_unet_flow")))
    with pytest.raises(ValueError, match=r"cifar10_unet_flow cannot be the start.*schedule differ"):
        next(iter(run_recipe("cifar10_unet_reflow", tmp_path, start_from="cifar10_unet_flow")))
    assert not list(tmp_path.rglob("pairs*"))  # it was refused before the first was drawn


def test_the_initial_weights_are_the_seeds_and_torchs_generator_is_left_alone(tiny, tmp_path):
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    list(run_recipe(tiny, tmp_path / "one"))
    assert torch.equal(torch.randn(2), expected)
    list(run_recipe(tiny, tmp_path / "two"))
    one, two = (load_file(weights_file(tiny, tmp_path / folder)) for folder in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_only_the_first_of_several_processes_writes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "is_main_process", lambda: False)
    monkeypatch.setattr(recipes, "evaluate", None)
    list(run_recipe(tiny, tmp_path / "runs"))
    assert not weights_file(tiny, tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ('task = "diffusion"', 'task = "difusion"', "did you mean 'diffusion'"),
        ('task = "diffusion"', "", "unknown task"),
        ('kind = "v"', "", "lacks kind"),
        ('kind = "v"', 'kind = "w"', "unknown kind of prediction"),
        ('kind = "v"', 'kidn = "v"', "did you mean 'kind'"),
        ('dataset = "mnist"', 'dataset = "minst"', "did you mean 'mnist'"),
        ("batch_size = 16", "batchsize = 16", "did you mean 'batch_size'"),
        ("batch_size = 16", "batch_size = 0", "batch_size"),
        ("batch_size = 16", 'batch_size = "16"', r"tiny\.toml"),
        ("widths = [8]", "width = [8]", "did you mean 'widths'"),
        (
            TINY[TINY.index('network = "unet"') : TINY.index("[schedule]")],
            'network = "classifier"\n',
            "does not denoise",
        ),
        ('name = "cosine"', 'name = "cosin"', "cosine"),
        ("[network]", "[network", "is no TOML"),
        ('name = "tiny"', 'name = "../../escaped"', "name must be a plain name"),
        ('name = "tiny"', 'name = "/tmp/escaped"', "name must be a plain name"),
        ('name = "tiny"', 'name = ".."', "name must be a plain name"),
        ('name = "tiny"', 'name = "a/b"', "name must be a plain name"),
        ('name = "tiny"', 'name = "con"', "name must be a plain name"),
        ('name = "tiny"', "name = 3", "name must be a plain name"),
        ('name = "tiny"', 'name = ""', "name must be a plain name"),
        ("images = 480", "images = 480\nlearning_rate = -1.0", "learning_rate .above 0. cannot be -1.0"),
        ("images = 480", "images = nan", "images of .training. must be a whole number; got nan"),
        ("images = 480", "images = 480.5", "must be a whole number; got 480.5"),
        ("images = 480", "images = true", "must be a whole number; got True"),
        ("images = 480", "images = 480\nlearning_rate = inf", "must be a finite number; got inf"),
        ("betas = [0.9, 0.95]", "betas = [0.9]", "betas of .training. must be a list of 2"),
        ("betas = [0.9, 0.95]", 'betas = "ab"', "betas of .training. must be a list of 2"),
        ("widths = [8]", "widths = [1_000_000]\nnum_classes = 3", "which the data set determines"),
        ("widths = [8]", "widths = [100_000_000]", "more than 200,000,000 weights"),
        ("patch_size = 4", "patch_size = 0", "patch_size must be 1 or more; got 0"),
        ("patch_size = 4", "patch_size = 3", "cannot be divided"),
        ("[schedule]", "[schedule]\nbeta = 1", "beta"),
        ("num_inference_steps = 1", "num_inference_step = 1", "did you mean 'num_inference_steps'"),
        ("num_inference_steps = 1", "num_inference_steps = 0", "num_inference_steps must be 1 or more; got 0"),
        ("n = 100", "n = -1", "n must be 20 or more; got -1"),
        ("n = 100", 'n = "100"', "must be a whole number; got '100'"),
        ('sampler = "euler"', 'sampler = "oiler"', "unknown sampler 'oiler'"),
        ('sampler = "euler"', 'sampler = "euler"\neta = 1.0', "eta is from 0 to 1, for the samplers"),
        ("num_inference_steps = 1", "guidance_scale = -2", "guidance_scale must be"),
        ('limits = "It', 'clip = -1.0\nlimits = "It', "clip must be above 0"),
    ],
)
def test_a_wrong_file_is_refused(tiny, tmp_path, line, instead, said):
    assert line in TINY
    tiny.write_text(TINY.replace(line, instead, 1))
    with pytest.raises(ValueError, match=said):
        next(run_recipe(tiny, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_prediction_that_cannot_start_from_pure_noise_is_refused_before_it_trains(tiny, tmp_path):
    path = TINY.replace('family = "ddpm"\nname = "cosine"', 'family = "flow"')
    tiny.write_text(path.replace('kind = "v"', 'kind = "eps"'))
    with pytest.raises(ValueError, match="'eps' does not determine x_0 and eps in pure noise"):
        next(run_recipe(tiny, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    tiny.write_text(path)
    assert Recipe.from_tables(*read_recipe(tiny)).kind == "v"


def test_a_byte_order_mark_is_no_fault(tiny, tmp_path):
    tiny.write_text(TINY, encoding="utf-8-sig")
    assert Recipe.from_tables(*read_recipe(tiny)).name == "tiny"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", TINY.encode("utf-16"), b"\x00" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.toml"):
        read_recipe(path)


def test_a_folder_is_no_recipe(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_recipe(tmp_path / "folder.toml")


PATHS = [
    "../../escaped", "/abs", "a/b", "a\\b", "", ".", "..", "con\0x", "con", "NUL.txt", "x" * 300, "-rf", ".hidden",
    "a b", "ends.", "\u00e9", "a\n",
]  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_a_name_that_is_a_path_writes_nothing(tiny, tmp_path, name):
    tiny.write_text(TINY.replace('name = "tiny"', f"name = {json.dumps(name)}"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="plain name"):
        next(run_recipe(tiny, tmp_path / "a" / "b"))
    with pytest.raises(ValueError, match="plain name"):
        write_measured(name, {"rows": []}, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", PATHS)
def test_a_teacher_is_looked_for_by_a_plain_name_only(tmp_path, name):
    """A file of weights may be named by its path; a name is looked for in the folder of runs, and not outside it."""
    for folder in (tmp_path / "escaped", tmp_path / "runs" / "deep" / "a" / "b"):
        folder.mkdir(parents=True)
        shutil.copy(WEIGHTS / "mnist_unet_flow.safetensors", folder / f"{folder.name}.safetensors")
    with pytest.raises((ValueError, OSError)):
        load_teacher(name, tmp_path / "runs" / "deep", torch.device("cpu"))


def test_a_lone_table_of_evaluation_is_refused_before_it_trains(tiny, tmp_path):
    tiny.write_text(TINY[: TINY.index("[[evaluation]]")] + "[evaluation]\nn = 100\n")
    with pytest.raises(ValueError, match="two brackets"):
        next(run_recipe(tiny, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'mnist_unet_flow'"):
        read_recipe("mnist_unet_flo")
    with pytest.raises(FileNotFoundError, match=r"no recipe .*absent\.toml; shipped ones are .*mnist_unet_flow"):
        read_recipe(tmp_path / "absent.toml")


def test_every_setting_of_a_recipe_is_known():
    tables = tomllib.loads(TINY)
    assert dataclasses.asdict(Recipe.from_tables(tables, Path("tiny.toml")))["training"]["images"] == 480
