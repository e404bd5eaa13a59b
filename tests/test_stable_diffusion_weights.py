"""Where weights are looked for, what is refused, and that nothing is fetched unasked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub_cache import put_into_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from diffusion_explained.stable_diffusion import (
    NoGPUError,
    WeightsUnavailableError,
    download_size,
    downloads,
    find_weights,
    load,
    save_stand_in,
    stand_in,
)
from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, MIRRORS, SIZES_GB

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A pipeline of one's own to damage."""
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


# -- found ------------------------------------------------------------------------------------------------


def test_a_folder_is_loaded_and_keeps_its_label(folder):
    model = load(folder, device="cpu")
    assert model.label == "stand-in" and model.family.name == "sd" and model.kind == "eps"
    made = stand_in("sd", device="cpu")
    options = {"height": SIDE, "width": SIDE, "num_inference_steps": 3}
    torch.testing.assert_close(model.sample("a cat", **options), made.sample("a cat", **options))
    assert not any(p.requires_grad for p in model.network.parameters())


def test_a_folder_without_the_label_is_live(copy):
    (copy / "STAND_IN.txt").unlink()
    assert load(copy, device="cpu").label == "live"


@pytest.mark.parametrize("mirror", MIRRORS[DEFAULT_MODEL])
def test_every_mirror_in_the_cache_will_do(folder, cache, mirror):
    snapshot = put_into_cache(cache, mirror, folder)
    assert find_weights(DEFAULT_MODEL).folder == snapshot
    assert load(device="cpu").name == DEFAULT_MODEL


def test_t5_is_taken_if_it_is_there_and_not_needed(tmp_path, cache):
    save_stand_in(tmp_path, "sd3", t5=True)
    assert load(tmp_path, device="cpu").pipe.text_encoder_3 is not None
    assert load(tmp_path, device="cpu", t5=False).pipe.text_encoder_3 is None
    shutil.rmtree(tmp_path / "text_encoder_3")
    model = load(tmp_path, device="cpu")
    assert model.pipe.text_encoder_3 is None and model.encode_text("a cat").embeds.shape == (1, 77 + 256, 64)
    with pytest.raises(WeightsUnavailableError, match="for text_encoder_3"):
        load(tmp_path, device="cpu", t5=True)
    with pytest.raises(ValueError, match="has no T5"):
        find_weights(save_stand_in(tmp_path / "sd"), t5=True)


def test_memory_savers_change_nothing_in_the_picture(folder):
    options = {"height": 256, "width": SIDE, "num_inference_steps": 2, "seed": [1, 2]}
    plain, sliced = load(folder, device="cpu"), load(folder, device="cpu", slicing=True)
    torch.testing.assert_close(sliced.sample("a cat", **options), plain.sample("a cat", **options))
    with pytest.raises(ValueError, match="needs a GPU"):
        load(folder, device="cpu", offload=True)
    assert load(folder, device="cpu", tiling=True).pipe.vae.use_tiling and sliced.pipe.vae.use_slicing


@pytest.mark.parametrize("full", ["all", "none", "unet"])
def test_float16_weights_are_chosen_by_what_is_there_and_wanted(folder, tmp_path, full):
    """In "unet", as in Stable Diffusion 3's repository, one part is only there under the plain name."""
    load(folder, device="cpu").pipe.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    for part in {"all": ("unet", "vae", "text_encoder"), "none": (), "unet": ("unet",)}[full]:
        (plain,) = (folder / part).glob("*.safetensors")
        shutil.copy(plain, tmp_path / part)
        if full == "unet":
            next((tmp_path / part).glob("*.fp16.safetensors")).unlink()
    found = find_weights(tmp_path)
    assert found.wants_float16(float32=False) and found.wants_float16(float32=True) == (full != "all")
    model = load(tmp_path, device="cpu")
    for part, plain in ((model.network, full != "none"), (model.pipe.vae, full == "all")):
        weight = next(part.parameters())
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float()) != plain  # whether it was rounded to float16 once


def test_bfloat16_computes_in_half_and_samples_in_float32(folder):
    model = load(folder, device="cpu", dtype=torch.bfloat16)
    step = next(iter(model.steps("a cat", height=SIDE, width=SIDE, num_inference_steps=2)))
    assert model.network.dtype == torch.bfloat16 and step.x_next.dtype == step.pred.x_0.dtype == torch.float32
    assert model.decode(step.x_next).dtype == torch.float32


def test_the_safety_checker_stays_where_there_is_one(folder):
    """What it flags comes back black, with a warning; here a checker that flags every second picture."""
    model = load(folder, device="cpu")

    class Checker(torch.nn.Linear):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, images, clip_input):
            assert images.min() >= 0 and images.shape[1:] == (SIDE, SIDE, 3)
            return images, [bool(k % 2) for k in range(len(images))]

    def extract(pictures, return_tensors):
        return SimpleNamespace(to=lambda device: SimpleNamespace(pixel_values=torch.zeros(len(pictures), 1)))

    latents = model.prepare([0, 1], height=SIDE, width=SIDE).x_t
    free = model.decode(latents)
    model.pipe.safety_checker, model.pipe.feature_extractor = Checker(1, 1), extract
    with pytest.warns(UserWarning, match="blanked 1 of 2"):
        images = model.decode(latents)
    assert torch.equal(images[0], free[0]) and bool((images[1] == -1).all())


# -- not found, or refused --------------------------------------------------------------------------------


def test_no_weights_and_no_network_is_said_at_once(cache):
    with pytest.raises(WeightsUnavailableError, match=r"(?s)not on this machine.*2\.7 GB.*no network.*hf download"):
        load(device="cpu")
    with pytest.raises(WeightsUnavailableError, match="several GB"):
        load("somebody/something", device="cpu")
    with pytest.raises(WeightsUnavailableError, match="cannot be fetched"):
        load(device="cpu", download=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_with_what_else_is_missing(cache, folder):
    with pytest.raises(NoGPUError, match=r'(?s)no GPU.*device="cpu".*not on this machine'):
        load()
    with pytest.raises(NoGPUError) as error:
        load(folder)
    assert "not on this machine" not in str(error.value)
    with pytest.raises(ValueError, match="cuda is not available here"):
        load(folder, device="cuda")


def test_saying_no_needs_neither_diffusers_nor_transformers(cache):
    """Importing them takes seconds, so the answer would."""
    code = """if True:
        import sys
        from diffusion_explained.stable_diffusion import find_weights, WeightsUnavailableError
        try:
            find_weights("stable-diffusion-v1-5/stable-diffusion-v1-5")
        except WeightsUnavailableError:
            print({"diffusers", "transformers"} & set(sys.modules))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_part_that_is_missing_is_named(copy, cache):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsUnavailableError, match=r"not all of it.*for unet"):
        load(copy, device="cpu")


def test_a_shard_that_is_missing_is_noticed(copy, cache):
    whole = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole.rename(whole.with_name("diffusion_pytorch_model-00001-of-00002.safetensors"))
    index = {"weight_map": {"a": whole.with_name("diffusion_pytorch_model-00001-of-00002.safetensors").name}}
    listed = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    listed.write_text(json.dumps(index))
    assert find_weights(copy)
    index["weight_map"]["b"] = "diffusion_pytorch_model-00002-of-00002.safetensors"
    listed.write_text(json.dumps(index))
    with pytest.raises(WeightsUnavailableError, match="unet"):
        find_weights(copy)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "model.pt"])
def test_pickled_weights_are_refused(copy, name):
    part = copy / "unet"
    (part / "diffusion_pytorch_model.safetensors").rename(part / name)
    with pytest.raises(ValueError, match=rf"unet/{name}.*pickled weights can run code"):
        load(copy, device="cpu")


def test_a_pickle_beside_safetensors_is_not_opened(copy):
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    assert load(copy, device="cpu").label == "stand-in"


def test_what_is_no_pipeline(copy, tmp_path, cache):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "model.ckpt").touch()
    for model, message in [
        (tmp_path / "empty", "is not a pipeline: there is no model_index.json in it .it holds nothing"),
        (tmp_path / "photos", "it holds cat.jpg"),
        (tmp_path / "model.ckpt", "pickled weights can run code"),
        ("", "empty name"),
    ]:
        with pytest.raises(ValueError, match=message):
            load(model, device="cpu")
    for model in (tmp_path / "nowhere", "./nowhere", "nowhere", "a/b/c"):
        with pytest.raises(WeightsUnavailableError, match="no folder"):
            load(model, device="cpu")
    with pytest.raises(ValueError, match="neither a name on the Hugging Face hub"):
        load("owner/mo del?", device="cpu")


def test_an_index_that_is_damaged_or_strange(copy):
    path = copy / "model_index.json"
    index = json.loads(path.read_text())
    for text, message in [
        ("{", "is damaged"),
        ("[]", "should hold an object"),
        ("{}", "does not name a pipeline class"),
        (
            json.dumps({**index, "_class_name": "FluxKontextPipeline"}),
            r"This model is FLUX\.1 Kontext, which is not supported; supported are Stable Diffusion 1\.x, 2\.x, XL, 3",
        ),
        (json.dumps({**index, "unet": ["my_code", "Network"]}), "asks to run code of its own for unet"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(copy, device="cpu")


def test_damaged_weights_are_an_error_that_names_them(copy):
    whole = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(OSError, match="unet"):
        load(copy, device="cpu")


# -- downloads --------------------------------------------------------------------------------------------

REPOSITORY = [
    "model_index.json", "README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "unet/config.json",
    "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt",
    "text_encoder_3/model-00001-of-00002.safetensors", "text_encoder_3/model.safetensors.index.json",
    "tokenizer_3/spiece.model", "scheduler/scheduler_config.json", "unet/flax_model.msgpack",
]  # fmt: skip


def test_only_the_pipelines_own_safetensors_are_fetched():
    chosen = {
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    }  # fmt: skip
    assert set(downloads.chosen_files(REPOSITORY)) == chosen
    t5 = {name for name in REPOSITORY if name.startswith(("text_encoder_3/", "tokenizer_3/"))}
    assert set(downloads.chosen_files(REPOSITORY, t5=True)) == chosen | t5


def test_the_command_to_fetch_by_hand_takes_no_pickle_and_float16_where_it_is_offered():
    assert '"*.fp16.safetensors"' in downloads.fetch_command(DEFAULT_MODEL)
    for model in (DEFAULT_MODEL, "stabilityai/stable-diffusion-3.5-medium", "somebody/something"):
        assert ".safetensors" in downloads.fetch_command(model) and ".bin" not in downloads.fetch_command(model)
    assert '--exclude "text_encoder_3/*"' in downloads.fetch_command("stabilityai/stable-diffusion-3.5-medium")


def test_the_advice_for_a_model_that_is_not_here_follows_the_choice_of_its_parts(cache):
    """A part that is left out is not in the command and not in the size; one that is required is in both."""
    size = SIZES_GB[DEFAULT_MODEL]
    for choice, about, left_out in ((None, size, False), (False, size - 0.6, True)):
        with pytest.raises(WeightsUnavailableError, match=f"about {about:.1f} GB") as caught:
            find_weights(DEFAULT_MODEL, safety_checker=choice)
        assert ('--exclude "safety_checker/*"' in str(caught.value)) is left_out
    sd3 = "stabilityai/stable-diffusion-3.5-medium"
    for choice in (None, True):
        with pytest.raises(WeightsUnavailableError) as caught:
            find_weights(sd3, t5=choice)
        assert ('--exclude "text_encoder_3/*"' in str(caught.value)) is (choice is None)


def test_the_size_is_the_hubs_where_it_answers_and_the_tables_where_not(cache, monkeypatch):
    assert download_size(DEFAULT_MODEL) == SIZES_GB[DEFAULT_MODEL] and download_size("somebody/something") is None
    assert download_size(DEFAULT_MODEL, safety_checker=False) == pytest.approx(SIZES_GB[DEFAULT_MODEL] - 0.6)
    files = [SimpleNamespace(rfilename=name, size=10**9) for name in REPOSITORY]
    api = SimpleNamespace(model_info=lambda repo, files_metadata: SimpleNamespace(siblings=files))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    monkeypatch.setattr(downloads, "hub_is_reachable", lambda: True)
    assert download_size(DEFAULT_MODEL) == 8 and download_size(DEFAULT_MODEL, t5=True) == 11
    files += [
        SimpleNamespace(rfilename=f"safety_checker/{name}", size=10**9) for name in ("config.json", "model.safetensors")
    ]
    assert download_size(DEFAULT_MODEL) == 10 and download_size(DEFAULT_MODEL, safety_checker=False) == 8


def test_mirrors_are_tried_in_order_and_nothing_is_fetched_unasked(cache, folder, monkeypatch):
    asked, fetched = [], []

    def list_repo_files(repo):
        asked.append(repo)
        if repo == MIRRORS[DEFAULT_MODEL][0]:
            raise OSError("gone")
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def snapshot_download(repo, allow_patterns, cache_dir):
        fetched.append((repo, cache_dir))
        assert "unet/diffusion_pytorch_model.safetensors" in allow_patterns
        put_into_cache(Path(cache_dir), repo, folder)

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(list_repo_files=list_repo_files))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name, cache_dir: folder / name)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(downloads, "hub_is_reachable", lambda: True)
    with pytest.raises(WeightsUnavailableError, match=r"download=True\) fetches them"):
        load(device="cpu")
    assert not asked and not fetched
    assert load(device="cpu", download=True).network is not None
    assert asked == list(MIRRORS[DEFAULT_MODEL][:2]) and fetched == [(MIRRORS[DEFAULT_MODEL][1], str(cache))]
    load(device="cpu", download=True)  # it is here now
    assert len(fetched) == 1


def test_a_download_that_fails_names_every_mirror(cache, monkeypatch):
    def list_repo_files(repo):
        raise OSError("401 gated")

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(list_repo_files=list_repo_files))
    monkeypatch.setattr(downloads, "hub_is_reachable", lambda: True)
    with pytest.raises(WeightsUnavailableError, match=r"(?s)Is the name right.*sd-legacy/.*401 gated"):
        load(device="cpu", download=True)


@pytest.mark.parametrize(
    ("repo", "kind", "status"),
    [("owner/gated", GatedRepoError, 403), ("black-forest-labs/FLUX.1-dev", RepositoryNotFoundError, 401),
     ("owner/private", RepositoryNotFoundError, 401)],
)  # fmt: skip
def test_a_gated_model_names_the_page_of_its_licence(cache, monkeypatch, repo, kind, status):
    """The hub's answers, made here: it says that a repository is gated, or only that nobody is logged in."""
    answer = SimpleNamespace(status_code=status, headers={}, request=None)

    def list_repo_files(repo):
        raise kind(f"{status} Client Error for {repo}", response=answer)

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(list_repo_files=list_repo_files))
    monkeypatch.setattr(downloads, "hub_is_reachable", lambda: True)
    with pytest.raises(WeightsUnavailableError) as caught:
        downloads.fetch(repo)
    said = f"open https://huggingface.co/{repo} in a browser, log in, accept it, and run `hf auth login`"
    assert (said in str(caught.value)) is (repo != "owner/private")


def test_without_a_network_a_gated_model_names_the_page_of_its_licence_too(cache):
    with pytest.raises(WeightsUnavailableError, match=r"open https://huggingface\.co/stabilityai/stable-diff"):
        load("stabilityai/stable-diffusion-3.5-medium", device="cpu")
