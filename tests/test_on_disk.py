"""What is on this machine is told by the files themselves, wherever they lie."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hub_cache import put_into_cache
from safetensors.torch import save_file
from test_cli import assert_refused, run
from test_single_files import tiny_models, written

from diffusion_explained.stable_diffusion import find_weights, forecasts, save_stand_in
from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, names_of
from diffusion_explained.stable_diffusion.on_disk import OnDisk, models_on_disk

__all__ = ["tiny_models"]  # a fixture: the shipped configurations at tiny widths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd")


def file(path: Path, **tensors: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name.replace("__", "."): torch.zeros(shape) for name, shape in tensors.items()}, path)


def by_name(found: list[OnDisk]) -> dict[str, OnDisk]:
    return {Path(one.name).name: one for one in found}


@pytest.fixture
def home(folder: Path, tmp_path: Path) -> Path:
    """A folder as ComfyUI and A1111 keep them, in which nothing lies where its folder's name says."""
    models = tmp_path / "home" / "models"
    shutil.copytree(folder, models / "diffusion_models" / "folder")
    half = shutil.copytree(folder, models / "checkpoints" / "half")
    (half / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (shutil.copytree(folder, models / "checkpoints" / "deep" / "unnamed") / "model_index.json").unlink()
    (models / "loras").mkdir()
    written(models / "loras" / "xl.safetensors", "sdxl")
    written(models / "checkpoints" / "v2.safetensors", "sd21_v")
    file(models / "checkpoints" / "style.safetensors",
         lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k__lora_down__weight=(4, 768),
         lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k__lora_up__weight=(320, 4))  # fmt: skip
    file(models / "Lora" / "hada.safetensors", lora_unet_x__hada_w1_a=(4, 4))
    file(models / "vae" / "vae.safetensors", decoder__up__0__block__0__conv1__weight=(4, 4, 3, 3))
    file(models / "Stable-diffusion" / "word.safetensors", emb_params=(3, 768))
    file(models / "vae" / "net.safetensors", control_model__x=(2, 2))
    (models / "vae" / "old.ckpt").write_bytes(b"pickle")
    (models / "vae" / "cut.safetensors").write_bytes(b"\xff" * 20)
    (models / "vae" / "back").symlink_to(models, target_is_directory=True)
    file(tmp_path / "home" / "venv" / "not_a_model.safetensors", x=(1, 1))
    return tmp_path / "home"


def test_a_folder_of_comfyui_is_read_by_what_its_files_hold(home):
    found = by_name(models_on_disk([home]))
    assert "not_a_model.safetensors" not in found, "of a program's folder only its models are searched"
    assert {name: (one.kind, one.title) for name, one in found.items()} == {
        "folder": ("model", "Stable Diffusion 1.x or 2.x"),
        "xl.safetensors": ("model", "Stable Diffusion XL"),
        "v2.safetensors": ("model", "Stable Diffusion 2.x"),
        "half": ("model", "a pipeline"),
        "style.safetensors": ("LoRA", "for Stable Diffusion 1.x"),
        "vae.safetensors": ("autoencoder", ""),
        "word.safetensors": ("textual inversion", ""),
        "unnamed": ("other", "a part of a pipeline"),
        "hada.safetensors": ("other", "an adapter"),
        "net.safetensors": ("other", ""),
        "old.ckpt": ("other", "a pickled file"),
        "cut.safetensors": ("other", ""),
    }
    assert {name for name, one in found.items() if one.forecast is not None} == {"folder", "xl.safetensors"}
    assert found["folder"].size == sum(x.stat().st_size for x in Path(found["folder"].name).rglob("*.safetensors"))
    for name, said in {
        "v2.safetensors": 'give prediction="v"', "half": "Copy these folders again", "unnamed": "no model_index.json",
        "hada.safetensors": "LoHa or LoKr", "net.safetensors": "This is a ControlNet", "old.ckpt": "Pickled weights",
        "cut.safetensors": "This is not a .safetensors file",
    }.items():  # fmt: skip
        assert said in found[name].why and "hf download" not in found[name].why, found[name]
    assert not any(found[name].why for name in ("folder", "xl.safetensors", "style.safetensors", "vae.safetensors"))


def test_a_folder_or_file_is_named_itself_and_a_missing_one_refused(home):
    (home / "models" / "unet").mkdir()  # beside "vae": names of a pipeline's parts, too
    assert len(models_on_disk([home / "models"])) == len(models_on_disk([home])) > 5
    assert [one.kind for one in models_on_disk([home / "models" / "vae" / "vae.safetensors"])] == ["autoencoder"]
    assert [one.kind for one in models_on_disk([home / "models" / "diffusion_models" / "folder"])] == ["model"]
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        models_on_disk([home / "nowhere"])


def test_the_hubs_cache_is_listed_and_names_that_moved_are_found_both_ways(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert models_on_disk() == []
    old = "runwayml/stable-diffusion-v1-5"
    snapshot = put_into_cache(tmp_path, old, folder)
    assert names_of(old)[0] == old and set(names_of(old)) == set(names_of(DEFAULT_MODEL))
    for name in names_of(DEFAULT_MODEL):
        assert find_weights(name).folder.samefile(snapshot)
    assert [(one.name, one.why) for one in models_on_disk()] == [(old, "")]
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (one,) = models_on_disk()
    assert "Not all of it is here" in one.why and f"hf download {old}" in one.why


def test_the_command_lists_them_and_says_what_fits(home, monkeypatch, tmp_path):
    monkeypatch.setattr(forecasts, "room_on", lambda device: 10**10)
    lines = run("models", home).stdout.splitlines()
    assert any(re.search(r"xl\.safetensors: model, Stable Diffusion XL, \d+\.\d MB, fits$", line) for line in lines), (
        lines
    )
    assert any(line.startswith("    Pickled weights") for line in lines)
    monkeypatch.setattr(forecasts, "room_on", lambda device: 10)
    rows = {Path(row["name"]).name: row for row in json.loads(run("models", home, "--json").stdout)}
    assert rows["folder"]["fits"] == "does not fit" and rows["style.safetensors"]["fits"] == ""
    assert_refused(run("models", tmp_path / "nowhere"), "no folder")
