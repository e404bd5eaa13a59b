"""A model's folder as it comes from elsewhere: whole and understood, or one or two sentences that say what is wrong."""

import codecs
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import published
import pytest
import torch
from hub_cache import put_into_cache
from safetensors.torch import load_file, save_file
from safety_checkers import pickled_checker, whole_checker
from test_cli import assert_refused, run

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import WeightsUnavailableError, downloads, find_weights, load, save_stand_in
from diffusion_explained.stable_diffusion.weights import MICRO_FOLDER

SHORT = {"height": 64, "width": 64, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def copy(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline of one's own to damage, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return shutil.copytree(folder, tmp_path / "copy")


def weights_of(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Edit the tensors of a file in place."""
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


# -- weights that do not fill their network ---------------------------------------------------------------


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_tensor_that_is_missing_left_over_or_of_another_shape(copy, part):
    path = weights_of(copy, part)
    original = path.read_bytes()
    name = sorted(load_file(path))[0]

    def misshape(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = torch.zeros(3, *tensors[name].shape)

    for edit, words in [
        (lambda tensors: tensors.pop(name), f"{part} of .*1 tensors are missing .*{name}"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), f"{part} of .*1 tensors of its files .*extra"),
        (misshape, f"{part} of "),
        (lambda tensors: tensors.clear() or tensors.update(extra=torch.zeros(2)), f"{part} of .*are missing"),
    ]:
        path.write_bytes(original)
        change(path, edit)
        with pytest.raises(ValueError, match=words) as caught:
            load(copy, device="cpu")
        assert len(str(caught.value)) < 900


@pytest.mark.parametrize("prefixed", [True, False])
def test_both_layouts_of_a_text_encoders_names_load(copy, folder, prefixed):
    """transformers writes encoder... since 5.6 and text_model.encoder... before; published files have the second."""
    begin = "text_model."

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        bare = {name.removeprefix(begin): tensors[name] for name in list(tensors)}
        tensors.clear()
        tensors.update({begin * prefixed + name: tensor for name, tensor in bare.items()})

    change(weights_of(copy, "text_encoder"), rename)
    got, expected = (load(where, device="cpu").encode_text("a cat").embeds for where in (copy, folder))
    assert torch.equal(got, expected)


@pytest.mark.parametrize("published_names", [True, False])
def test_a_safety_checker_is_filled_whole_in_both_layouts_of_its_names(copy, published_names):
    """Published ones say vision_model.vision_model..., and hold position_ids, which are computed now."""
    checker = whole_checker(copy)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        old = {name: tensors.pop(name) for name in list(tensors)}
        twice = {"vision_model." + name if name.startswith("vision_model.") else name: old[name] for name in old}
        tensors.update(twice if "vision_model.vision_model" not in str(list(old)) else old)
        tensors["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]

    if published_names:
        change(weights_of(copy, "safety_checker"), rename)
    found = load(copy, device="cpu").pipe.safety_checker.state_dict()
    expected = checker.state_dict()
    assert found and all(torch.equal(found[name], expected[name]) for name in found)


def test_our_own_text_encoder_has_the_names_that_every_version_loads():
    """transformers 5.0.0, the oldest that installs beside diffusers 0.42, was tried by hand: nothing is missing."""
    names = load_file(MICRO_FOLDER / "text_encoder" / "model.safetensors")
    assert names and all(name.startswith("text_model.") for name in names)
    assert load("micro", device="cpu").label == "live"


# -- files ------------------------------------------------------------------------------------------------


def put_index(copy: Path, text: str) -> None:
    whole = weights_of(copy, "unet")
    whole.rename(whole.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)


@pytest.mark.parametrize(
    "text",
    ["[]", "", "null", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "[" * 100_000,
     '{"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}', '{"weight_map": {"a": "/etc/passwd"}}',
     '{"weight_map": {"a": "x.bin"}}', '{"weight_map": {"a": ""}}'],
)  # fmt: skip
def test_a_shard_index_that_is_damaged_or_leads_outside(copy, text):
    put_index(copy, text)
    with pytest.raises(ValueError, match=r"index\.json"):
        load(copy, device="cpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [("tokenizer.json", "{}"), ("tokenizer.json", "["), ("vocab.json", "{}"), ("vocab.json", '{"a": "b"}'),
     ("tokenizer_config.json", "[]"), ("tokenizer.json", '{"model": {"vocab": {"a": 0}}}')],
)  # fmt: skip
def test_a_tokenizer_that_is_damaged(copy, name, text):
    (copy / "tokenizer" / name).write_text(text)
    with pytest.raises(ValueError, match="tokenizer"):
        load(copy, device="cpu")


def test_a_tokenizer_without_its_merges(copy):
    """Letters would not be joined to words, and every prompt would be another one."""
    tokenizer = copy / "tokenizer"
    whole = json.loads((tokenizer / "tokenizer.json").read_text())
    model = {**whole["model"], "merges": []}
    (tokenizer / "tokenizer.json").write_text(json.dumps({**whole, "model": model}))
    with pytest.raises(ValueError, match="merges are missing or damaged"):
        load(copy, device="cpu")
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    with pytest.raises(WeightsUnavailableError, match=r"with its merges\.txt"):
        load(copy, device="cpu")


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json"])
def test_a_configuration_that_is_missing_or_no_object(copy, part):
    (copy / part).write_text("[1]")
    with pytest.raises(ValueError, match="should hold an object"):
        load(copy, device="cpu")
    (copy / part).unlink()
    with pytest.raises(OSError, match="is missing: the model is not whole"):
        load(copy, device="cpu")


def test_a_byte_order_mark_in_every_text_file_changes_nothing(copy, folder):
    """Windows' editors write one; diffusers and transformers refuse it."""
    expected = final(load(folder, device="cpu").steps("a cat", **SHORT))
    texts = [*copy.rglob("*.json"), *copy.rglob("*.txt")]
    for path in texts:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert torch.equal(final(load(copy, device="cpu").steps("a cat", **SHORT)), expected)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    change(weights_of(copy, "vae"), lambda tensors: tensors.clear())
    with pytest.raises(ValueError, match="vae of ") as caught:
        load(copy, device="cpu")
    assert str(copy) in str(caught.value) and len(str(caught.value).split("diffusion_explained_")) == 1


def test_links_that_are_not_allowed_are_copies(copy, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    path = copy / "unet" / "config.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(copy, device="cpu").label == "stand-in"


def test_a_configuration_that_would_eat_the_memory_is_compared_with_the_files(copy):
    """Widths that the table allows, and the files do not hold: refused before anything of that size is made."""
    for part, large in [
        ("unet", {"block_out_channels": [65_536] * 4, "norm_num_groups": 8}),
        ("vae", {"block_out_channels": [65_536] * 4}),
        ("text_encoder", {"intermediate_size": 65_536, "num_hidden_layers": 100}),
    ]:
        path = copy / part / "config.json"
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), **large}))
        with pytest.raises(ValueError, match=rf"{part} of .*describes .* weights and its files hold"):
            load(copy, device="cpu")
        path.write_text(before)


def test_places_where_no_model_is(copy, tmp_path, monkeypatch):
    for name in ("~nosuchuser/model", "~nosuchuser", "a\0b", "x" * 5000, str(tmp_path / "no")):
        with pytest.raises((OSError, ValueError)) as caught:
            load(name, device="cpu")
        assert isinstance(caught.value, WeightsUnavailableError) or "name" in str(caught.value)
    monkeypatch.setenv("HOME", str(tmp_path / "no such home"))
    with pytest.raises(WeightsUnavailableError, match="no folder"):
        load("~/model", device="cpu")
    weights_of(copy, "unet").unlink()
    (copy / "unet" / "diffusion_pytorch_model.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WeightsUnavailableError, match="not all of it"):
        load(copy, device="cpu")
    with pytest.raises(ValueError, match="model must be a text or a path"):
        load(b"model", device="cpu")


def test_a_folder_that_may_not_be_read(copy, monkeypatch):
    listed = Path.iterdir

    def forbidden(path: Path) -> Any:
        if path.name == "unet":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(PermissionError, match="unet cannot be read: permission denied"):
        load(copy, device="cpu")


def test_the_command_line_says_it_in_a_sentence(copy):
    (copy / "tokenizer" / "tokenizer.json").write_text("{}")
    arguments = ("record", "a cat", "--device", "cpu", "--out", copy / "trace.safetensors", "--model")
    assert_refused(run(*arguments, copy), "damaged")
    assert_refused(run(*arguments, "~nosuchuser/model"), "no folder")
    assert not (copy / "trace.safetensors").exists()


VALUES = [None, [], {}, "x", "", -1, 0, 10**30, 1.5, 1e400, float("nan"), True, False, ["x"], [10**9] * 3, {"a": 1}]


def every_key(folder: Path) -> list[tuple[str, str]]:
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/config.json"))]
    return [(name, key) for name in ["model_index.json", *files] for key in json.loads((folder / name).read_text())]


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_no_value_of_any_configuration_is_accepted_and_wrong_or_ends_in_a_traceback(tmp_path, family):
    """Each key with a value of another kind: the same latents as before, or a ValueError or OSError in words.

    A few of all pairs, drawn with a seed; FUZZ=700 in the environment tries more.
    """
    copy = save_stand_in(tmp_path / family, family)
    text = "a cat"
    expected = final(load(copy, device="cpu").steps(text, **SHORT))
    pairs = [(name, key, value) for name, key in every_key(copy) for value in [*VALUES, "missing"]]
    dice = random.Random(int(os.environ.get("FUZZ_SEED", 0)))
    wrong = []
    for name, key, value in dice.sample(pairs, min(len(pairs), int(os.environ.get("FUZZ", 60)))):
        path = copy / name
        before = path.read_text()
        config = json.loads(before)
        if value == "missing":
            del config[key]
        else:
            config[key] = value
        path.write_text(json.dumps(config))
        try:
            got = final(load(copy, device="cpu").steps(text, **SHORT))
            if not torch.allclose(got, expected, atol=1e-5) and key not in COMPUTES:
                wrong.append((name, key, value, "other latents"))
        except (ValueError, OSError) as error:
            if len(str(error)) > 1000:
                wrong.append((name, key, value, str(error)))
        except Exception as error:  # what the test looks for
            wrong.append((name, key, value, f"{type(error).__name__}: {error}"))
        path.write_text(before)
    assert not wrong, "\n".join(map(str, wrong))


# keys that diffusers and transformers themselves compute with: another value is another network, as it would be there
NETWORK_KEYS = """act_fn
center_input_sample downsample_padding flip_sin_to_cos freq_shift mid_block_scale_factor norm_eps
norm_num_groups resnet_out_scale_factor resnet_skip_time_act time_embedding_act_fn timestep_post_act upcast_attention
only_cross_attention attention_head_dim cross_attention_norm mid_block_only_cross_attention"""
TEXT_KEYS = "hidden_act layer_norm_eps num_attention_heads eos_token_id attention_dropout"
PIPELINE_KEYS = "force_zeros_for_empty_prompt"
TRANSFORMER_KEYS = "qk_norm dual_attention_layers attention_head_dim"
COMPUTES = {*NETWORK_KEYS.split(), *TEXT_KEYS.split(), *TRANSFORMER_KEYS.split(), *PIPELINE_KEYS.split()}


# -- the hub ----------------------------------------------------------------------------------------------


class Hub:
    """A hub that gives one folder as a repository, and counts the bytes that it gives."""

    def __init__(self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.cache, self.given, self.asked = folder, cache, 0, []
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(list_repo_files=self.names))
        monkeypatch.setattr("huggingface_hub.hf_hub_download", self.one)
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.all)
        monkeypatch.setattr(downloads, "hub_is_reachable", lambda: True)

    def names(self, repo: str) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def one(self, repo: str, name: str, cache_dir: str) -> str:
        self.asked.append(name)
        self.given += (self.folder / name).stat().st_size
        return str(self.folder / name)

    def all(self, repo: str, allow_patterns: list[str], cache_dir: str) -> None:
        self.given += sum((self.folder / name).stat().st_size for name in allow_patterns)
        snapshot = put_into_cache(self.cache, repo, self.folder)
        for path in [path for path in snapshot.rglob("*") if path.is_file()]:
            if path.relative_to(snapshot).as_posix() not in allow_patterns:
                path.unlink()


SMALL = 40_000  # bytes: the configurations of a model, and nothing of its weights


@pytest.fixture
def hub(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(copy, tmp_path / "cache", monkeypatch)


def test_what_is_not_driven_is_refused_before_the_download(hub, copy):
    """By the pipeline's class the first kilobyte tells, by a configuration the next few."""
    path = copy / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "_class_name": "FluxKontextPipeline"}))
    with pytest.raises(
        ValueError,
        match=r"This model is FLUX\.1 Kontext, which is not supported; supported are .*Nothing large was downloaded",
    ):
        load("somebody/flux", device="cpu", download=True)
    assert hub.asked == ["model_index.json"] and hub.given < 2000
    path.write_text(json.dumps(index))
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "class_embed_type": "timestep"}))
    with pytest.raises(ValueError, match=r"somebody/classes: unet .*class_embed_type.*Nothing large"):
        load("somebody/classes", device="cpu", download=True)
    config.write_text(json.dumps({**json.loads(config.read_text()), "class_embed_type": None}))
    scheduler = copy / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "prediction_type": "sideways"}))
    with pytest.raises(ValueError, match=r"somebody/noise: .*sideways.*Nothing large"):
        load("somebody/noise", device="cpu", download=True)
    assert hub.given < SMALL and not hub.cache.exists()


def test_tokenizers_are_checked_before_the_download(hub, copy):
    for name, text, message in [
        ("tokenizer.json", "{", "tokenizer.json is damaged"),
        ("tokenizer_config.json", '{"padding_side": "left"}', "sets padding_side to 'left'"),
    ]:
        file = copy / "tokenizer" / name
        before = file.read_text()
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"{message}.*Nothing large was downloaded"):
            load("somebody/tokens", device="cpu", download=True)
        file.write_text(before)
    for file in (copy / "tokenizer").glob("*.*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"tokenizer is not whole.*Nothing large was downloaded"):
        load("somebody/no_tokens", device="cpu", download=True)
    assert not hub.cache.exists() and not [name for name in hub.asked if name.endswith(".safetensors")]


def test_a_repository_of_pickles_or_without_a_pipeline_is_refused_before_the_download(hub, copy):
    whole = weights_of(copy, "unet")
    whole.rename(whole.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"unet/.*\.bin of somebody/pickles: pickled weights can run code"):
        load("somebody/pickles", device="cpu", download=True)
    whole.with_suffix(".bin").unlink()
    with pytest.raises(ValueError, match=r"no \.safetensors weights for unet"):
        load("somebody/empty", device="cpu", download=True)
    (copy / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"there is no model_index\.json"):
        load("somebody/single", device="cpu", download=True)
    assert hub.given < SMALL and not hub.cache.exists()


def test_a_safety_checker_that_is_a_pickle_can_be_left_out(hub, copy):
    pickled_checker(copy)
    with pytest.raises(ValueError, match=r"or load without the safety checker \(safety_checker=False\)"):
        load(copy, device="cpu")
    with pytest.raises(ValueError, match=r"safety_checker=False\)\. Nothing large"):
        load("somebody/checked", device="cpu", download=True)
    assert hub.given < SMALL
    for where in (copy, "somebody/checked"):
        with pytest.warns(UserWarning, match="ships a safety checker; it is loaded without it"):
            model = load(where, device="cpu", download=True, safety_checker=False)
        assert model.pipe.safety_checker is None and model.sample("a cat", **SHORT).isfinite().all()
    assert not list(hub.cache.rglob("*.bin"))


def test_every_published_model_that_is_driven_is_found_driven_before_the_download(tmp_path, monkeypatch):
    for name in ("sdxl", "sd35_medium"):
        folder = published.write(name, tmp_path / name)
        hub = Hub(folder, tmp_path / f"{name} cache", monkeypatch)
        assert load(f"somebody/{name}", device="cpu", download=True).label == "live"
        assert hub.asked[0] == "model_index.json"
        found = find_weights(f"somebody/{name}")
        assert found.folder.is_relative_to(hub.cache)
