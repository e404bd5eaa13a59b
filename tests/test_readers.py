"""Every reader of files says in words what is wrong with a file, and which file it is, whatever the file holds."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import diffusion_explained
from diffusion_explained import measured, pretrained
from diffusion_explained.data import load, load_image, made
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.data.pictures import picture_size
from diffusion_explained.files import read_bytes, read_json
from diffusion_explained.micro import retrieval
from diffusion_explained.micro.card import read_card
from diffusion_explained.micro.emoji import SAMPLE_FILE
from diffusion_explained.micro.emoji_set import read_emoji
from diffusion_explained.micro.encoded_scenes import read_scenes
from diffusion_explained.micro.subjects import SUBJECTS_FILE, load_subjects
from diffusion_explained.micro.tokens import TOKENIZER_FOLDER, load_tokenizer
from diffusion_explained.micro.training_runs import load_autoencoder
from diffusion_explained.stable_diffusion import Trace
from diffusion_explained.stable_diffusion import listing as pipelines
from diffusion_explained.training.checkpoints import Checkpoint, latest_checkpoint, read_checkpoint, save_checkpoint
from diffusion_explained.training.recipes import read_recipe, run_recipe
from diffusion_explained.weight_files import read_tensors, read_weights

PACKAGE = Path(diffusion_explained.__file__).parent
WEIGHTS = PACKAGE / "weights"
MICRO = WEIGHTS / "micro"


@dataclass
class Reader:
    """read(path) with a whole file to damage; words: the metadata that a safetensors file of this kind has."""

    read: Callable[[Path], object]
    whole: Callable[[], bytes]
    name: str = "x.safetensors"
    words: tuple[str, ...] = ()


def bytes_of(path: Path) -> Callable[[], bytes]:
    return path.read_bytes


def with_attribute(module, attribute: str, value: Callable[[Path], object], call: Callable[[], object]):
    def read(path: Path) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, attribute, value(path))
            return call()

    return read


def a_checkpoint() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = Checkpoint({"kind": "flow"}, {"step": 1}, {"w": torch.zeros(100)})
        return save_checkpoint(Path(folder), made).read_bytes()


def parquet() -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"other": list(range(1000))}), buffer)
    return buffer.getvalue()


def a_trace() -> bytes:
    return next(PACKAGE.parent.rglob("*.trace.safetensors"), WEIGHTS / "mnist_unet_flow.safetensors").read_bytes()


def picture() -> bytes:
    return next((PACKAGE.parent / "assets").glob("*.png")).read_bytes()


RECIPES = PACKAGE.parent / "recipes"
READERS = {
    "read_weights": Reader(read_weights, bytes_of(WEIGHTS / "mnist_unet_flow.safetensors"), words=("config", "card")),
    "load_pretrained": Reader(
        pretrained.load_pretrained, bytes_of(WEIGHTS / "mnist_unet_flow.safetensors"), words=("config", "card")
    ),
    "load_classifier": Reader(
        pretrained.load_classifier, bytes_of(WEIGHTS / "mnist_classifier.safetensors"), words=("config", "card")
    ),
    "load_retrieval": Reader(
        retrieval.load_retrieval, bytes_of(WEIGHTS / "micro_retrieval.safetensors"), words=("config", "card")
    ),
    "read_checkpoint": Reader(read_checkpoint, a_checkpoint, words=("checkpoint", "sha256")),
    "latest_checkpoint": Reader(
        lambda path: latest_checkpoint(path.parent), a_checkpoint, "step-00000001.safetensors",
        words=("checkpoint", "sha256"),
    ),
    "read_scenes": Reader(lambda path: read_scenes(path, {"scenes": 1}), a_checkpoint, words=("made_from",)),
    "read_emoji": Reader(lambda path: read_emoji(path, "Do."), bytes_of(SAMPLE_FILE), words=("names", "sha256")),
    "read_decoded": Reader(
        lambda path: load.read_decoded(path, DATASETS["mnist"], "test"), a_checkpoint, words=("pixels_sha256",)
    ),
    "read_parquet": Reader(lambda path: load.read_parquet(path, DATASETS["mnist"], "test"), parquet, "x.parquet"),
    "bundled_mnist": Reader(
        with_attribute(load, "SAMPLE_FILE", lambda path: path, load.bundled_mnist), bytes_of(load.SAMPLE_FILE), "x.npz"
    ),
    "made_by_model": Reader(
        with_attribute(made, "MADE_FILES", lambda path: {"cifar10": path}, lambda: made.made_by_model("cifar10")),
        bytes_of(made.MADE_FILES["cifar10"]), "x.npz",
    ),
    "Trace.load": Reader(Trace.load, a_trace, words=("format", "label", "settings", "tokens", "rows")),
    "read_recipe": Reader(read_recipe, bytes_of(RECIPES / "mnist_unet_flow.toml"), "x.toml"),
    "run_recipe": Reader(lambda path: next(run_recipe(path)), bytes_of(RECIPES / "mnist_classifier.toml"), "x.toml"),
    "read_measured": Reader(
        with_attribute(measured, "MEASURED", lambda path: path.parent, lambda: measured.read_measured("x")),
        bytes_of(measured.MEASURED / "samplers.json"), "x.json",
    ),
    "load_subjects": Reader(load_subjects, bytes_of(SUBJECTS_FILE), "x.json"),
    "read_card": Reader(lambda path: read_card(path.parent), bytes_of(MICRO / "micro.json"), "micro.json"),
    "read_json of a pipeline": Reader(pipelines.read_json, bytes_of(MICRO / "unet" / "config.json"), "config.json"),
    "read_index": Reader(
        lambda path: pipelines.read_index(path.parent), bytes_of(MICRO / "model_index.json"), "model_index.json"
    ),
}  # fmt: skip
IN_A_FOLDER = {"read_measured", "read_card", "read_index", "latest_checkpoint"}  # which name their folder or study
PICTURES = {"load_image": lambda path: load_image(path, 28, 1), "picture_size": picture_size}


def empty(path: Path, reader: Reader) -> None:
    path.write_bytes(b"")


def random_bytes(path: Path, reader: Reader) -> None:
    path.write_bytes(
        torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(0)).byte().numpy().tobytes()
    )


def cut_short(path: Path, reader: Reader) -> None:
    whole = reader.whole()
    path.write_bytes(whole[: 2 * len(whole) // 3])


def a_list(path: Path, reader: Reader) -> None:
    path.write_text("[]")


def a_table_of_nothing(path: Path, reader: Reader) -> None:
    path.write_text("{}")


def nested(path: Path, reader: Reader) -> None:
    path.write_text("[" * 100_000)


def other_words(path: Path, reader: Reader) -> None:
    """A safetensors file of other tensors, whose metadata hold JSON of another shape."""
    save_file({"a": torch.zeros(3)}, path, {name: "[]" for name in reader.words} or None)


def null_words(path: Path, reader: Reader) -> None:
    save_file({"a": torch.zeros(3)}, path, {name: "null" for name in reader.words} or None)


def tables_of_nothing(path: Path, reader: Reader) -> None:
    save_file({"a": torch.zeros(3)}, path, {name: "{}" for name in reader.words} or None)


def a_header_of_any_length(path: Path, reader: Reader) -> None:
    path.write_bytes(b"\xff" * 8 + b"{}" * 100)


def a_folder(path: Path, reader: Reader) -> None:
    path.mkdir()


def unreadable(path: Path, reader: Reader) -> None:
    """Root may read any file of a disk, but not this one: read() answers with EIO."""
    path.symlink_to("/proc/self/mem")


def missing(path: Path, reader: Reader) -> None:
    pass


DAMAGES = [empty, random_bytes, cut_short, a_list, a_table_of_nothing, nested, other_words, null_words,
           tables_of_nothing, a_header_of_any_length, a_folder, unreadable, missing]  # fmt: skip


HARMLESS = {  # tables whose keys another reader checks, and a folder of checkpoints that has none
    ("read_json of a pipeline", a_table_of_nothing),
    ("load_subjects", a_table_of_nothing),
    ("read_card", a_table_of_nothing),
    ("read_weights", tables_of_nothing),
    ("latest_checkpoint", missing),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_by_its_name(name, damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = READERS[name]
    path = tmp_path / reader.name
    if damage is unreadable and not Path("/proc/self/mem").exists():
        pytest.skip("this system has no such file")
    damage(path, reader)
    if (name, damage) in HARMLESS:
        reader.read(path)
        return
    with pytest.raises((ValueError, OSError)) as error:
        reader.read(path)
    said = str(error.value)
    if not (name in IN_A_FOLDER and damage in (missing, a_folder)):
        assert path.name in said or str(path) in said or (name.startswith("load_") and "unknown network" in said), said
    assert len(said) < 1500 and "object at 0x" not in said


@pytest.mark.parametrize("damage", [empty, random_bytes, cut_short, a_folder, unreadable, missing],
                         ids=lambda damage: damage.__name__)  # fmt: skip
@pytest.mark.parametrize("name", PICTURES)
def test_a_damaged_picture_is_refused(name, damage, tmp_path):
    """Most pictures come as bytes, without a name."""
    path = tmp_path / "x.png"
    damage(path, Reader(PICTURES[name], picture))
    if name == "picture_size" and damage is cut_short:  # its header is whole
        return
    with pytest.raises((ValueError, OSError)) as error:
        PICTURES[name](path)
    assert "x.png" in str(error.value) or "picture" in str(error.value) or "file" in str(error.value)


@pytest.mark.parametrize("damage", [empty, random_bytes, cut_short, a_list, a_folder, unreadable],
                         ids=lambda damage: damage.__name__)  # fmt: skip
@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_damaged_tokenizer_is_refused_by_its_folder(name, damage, tmp_path):
    for file in TOKENIZER_FOLDER.iterdir():
        if file.name not in (name, "tokenizer.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path / name, Reader(load_tokenizer, bytes_of(TOKENIZER_FOLDER / name)))
    try:
        load_tokenizer(tmp_path)
    except OSError as error:
        assert str(tmp_path) in str(error)
    else:
        assert name == "merges.txt"  # fewer merges are a tokenizer, too: a pipeline is refused by _check_tokenizer


@pytest.mark.parametrize("damage", [empty, random_bytes, cut_short, a_list, a_table_of_nothing, other_words, a_folder],
                         ids=lambda damage: damage.__name__)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_a_damaged_autoencoder_is_refused_by_its_folder(name, damage, tmp_path):
    for file in (MICRO / "vae").iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path / name, Reader(load_autoencoder, bytes_of(MICRO / "vae" / name)))
    with pytest.raises((ValueError, OSError)) as error:
        load_autoencoder(tmp_path)
    assert str(tmp_path) in str(error.value)


# The two readers that the others are made of


def test_a_file_is_read_or_refused_in_words(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError, match=r"there is no recipe .*x\."):
        read_bytes(path, "recipe")
    path.write_bytes(b"12345")
    assert read_bytes(path) == b"12345"
    with pytest.raises(OSError, match="x cannot be read: it has 5 bytes, and at most 4 are allowed"):
        read_bytes(path, most=4)
    with pytest.raises(OSError, match="cannot be read: a folder stands in its place"):
        read_bytes(tmp_path)
    with pytest.raises(OSError, match="x is damaged, or is not JSON"):
        path.write_text("{")
        read_json(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a device"):  # and is not waited for
        read_bytes(tmp_path / "pipe")


def test_a_file_that_is_cut_short_after_it_was_read_does_no_harm(tmp_path):
    """A mapped file would end the process by SIGBUS, so the look happens in one of its own."""
    script = textwrap.dedent(f"""
        import os, torch
        from pathlib import Path
        from safetensors.torch import save_file
        from diffusion_explained.weight_files import read_tensors
        path = Path({str(tmp_path / "x.safetensors")!r})
        save_file({{"a": torch.ones(5_000_000)}}, path, {{"word": "said"}})
        tensors, words = read_tensors(path)
        os.truncate(path, 0)
        assert float(tensors["a"].sum()) == 5_000_000 and words == {{"word": "said"}}
    """)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_decoded_cache_can_be_cut_short_while_it_is_in_use(tmp_path):
    script = textwrap.dedent("""
        import os, torch
        from dataclasses import replace
        from diffusion_explained.data import hub_datasets, load
        from diffusion_explained.data.hub_datasets import sha256
        mnist = hub_datasets.DATASETS["mnist"]
        images = torch.arange(10_000 * 784).reshape(10_000, 1, 28, 28).to(torch.uint8)
        labels = torch.arange(10_000) % 10
        split = replace(mnist.splits["test"], labels_sha256=sha256(labels), pixels_sha256=sha256(images))
        hub_datasets.DATASETS["mnist"] = replace(mnist, splits={**mnist.splits, "test": split})
        cache = load.cache_folder() / "mnist-test.safetensors"
        load.write_decoded(cache, images, labels)
        dataset = load.load_dataset("mnist", "test", download=False)
        assert "decoded cache" in dataset.source
        os.truncate(cache, 1000)
        assert torch.equal(dataset.images, images) and torch.equal(dataset.labels, labels)
    """)
    env = {**os.environ, "DIFFUSION_EXPLAINED_CACHE": str(tmp_path / "cache"), "HF_HUB_CACHE": str(tmp_path / "hub")}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_cache_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match=r"and at most .* are allowed"):
        load.read_decoded(path, DATASETS["mnist"], "test")


def test_tensors_and_words_are_those_that_were_written(tmp_path):
    tensors = {
        "a": torch.arange(6).reshape(2, 3),
        "b": torch.tensor(1.5),
        "c": torch.empty(0, 4),
        "d": torch.ones(2) == 1,
    }
    save_file(tensors, tmp_path / "x", {"card": json.dumps({"é": 1})})
    found, words = read_tensors(tmp_path / "x")
    assert found.keys() == tensors.keys() and json.loads(words["card"]) == {"é": 1}
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )


# Every reader


OPENERS = {"open", "read_text", "read_bytes", "safe_open", "load_file", "from_pretrained", "ParquetFile"}
OPENERS |= {"read_tensors", "read_json"}
KNOWN = {  # module: why its reading is tried
    "files.py": "read_bytes, read_json", "weight_files.py": "read_tensors, read_weights",
    "training/checkpoints.py": "read_checkpoint", "training/recipes.py": "read_recipe",
    "training/reflow.py": "a damaged part is drawn again: tests/test_reflow.py", "measured.py": "read_measured",
    "training/folder_lock.py": "tests/test_outputs.py", "cli/launch.py": "copy_course: tests/test_cli.py",
    "film.py": "its own frames, in memory", "beyond/spectrograms.py": "tests/test_beyond_sound.py",
    "data/novels.py": "tests/test_text.py", "beyond/sound.py": "tests/test_beyond_sound.py",
    "beyond/molecules.py": "tests/test_beyond_molecules.py", "beyond/sdf.py": "tests/test_beyond_molecules.py",
    "data/load.py": "read_parquet, read_decoded", "data/made.py": "made_by_model", "data/pictures.py": "load_image",
    "micro/card.py": "read_card", "micro/emoji_set.py": "read_emoji", "micro/encoded_scenes.py": "read_scenes",
    "micro/control_card.py": "tests/test_micro_control.py",
    "stable_diffusion/control_loading.py": "tests/test_control.py",
    "stable_diffusion/image_prompt_loading.py": "tests/test_image_prompts.py",
    "micro/training_runs.py": "load_autoencoder", "micro/networks.py": "what it has just written",
    "micro/subjects.py": "load_subjects", "micro/tokens.py": "load_tokenizer",
    "micro/npm_registry.py": "checksums: tests/test_micro_emoji.py",
    "micro/emoji_building.py": "pictures that it drew itself",
    "stable_diffusion/traces.py": "Trace.load", "stable_diffusion/listing.py": "read_json, read_index",
    "stable_diffusion/parts.py": "tests/test_model_folders.py",
    "stable_diffusion/headers.py": "tests/test_single_files.py", "stable_diffusion/lora.py": "tests/test_lora.py",
    "stable_diffusion/embeddings.py": "tests/test_embeddings.py",
    "stable_diffusion/preview_decoders.py": "tests/test_preview_decoders.py",
    "stable_diffusion/forecasts.py": "what Linux says of its memory",
    "stable_diffusion/checkpoints.py": "headers.py reads first: tests/test_single_files.py",
    "stable_diffusion/single_files.py": "the package's own configurations",
    "stable_diffusion/clip_vocabulary.py": "the package's own list: tests/test_single_files.py",
    "course/editions.py": "tests/test_course.py", "course/notebook_files.py": "tests/test_course_grades.py",
    "stable_diffusion/weights.py": "by listing.read_json", "stable_diffusion/downloads.py": "by listing.read_json",
}  # fmt: skip


def test_every_module_that_reads_files_is_tried():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                of_numpy = ast.unparse(node.func) == "np.load"
                named = isinstance(node.func, ast.Name) or ast.unparse(node.func).split(".")[0] not in (
                    "os",
                    "webbrowser",
                )
                if (name in OPENERS and named) or of_numpy:
                    found.add(path.relative_to(PACKAGE).as_posix())
    assert found <= KNOWN.keys(), f"{sorted(found - KNOWN.keys())} read files: try them above, or say who does"
