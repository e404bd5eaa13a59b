"""Where a command writes is tried before it works, and one training is at work in a folder at a time."""

import ast
import errno
import os
import runpy
import signal
import socket
import subprocess
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from test_cli import assert_refused, run

from diffusion_explained import cli
from diffusion_explained.cli.micro import micro
from diffusion_explained.data import bundled_mnist
from diffusion_explained.micro.autoencoder_training import train_autoencoder
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.retrieval_training import train_retrieval
from diffusion_explained.micro.text_to_image_training import train_text_to_image
from diffusion_explained.micro.tokens import load_tokenizer
from diffusion_explained.models import build_network
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.training import folder_lock, train
from diffusion_explained.training.checkpoints import checkpoint_files, latest_checkpoint
from diffusion_explained.training.classifier import train_classifier
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.folder_lock import FolderInUseError, hold

ROOT = Path(__file__).parents[1]
SCRIPTS = {  # every script that writes, with arguments by which it writes at PLACE, and the constant that names it
    "benchmarks/data_size.py": (["--folder", "PLACE"], None),
    "benchmarks/diagnosis.py": ([], "diffusion_explained.measured.MEASURED"),
    "benchmarks/large_models.py": (["--device", "cpu", "--size", "tiny", "--out", "PLACE"], None),
    "benchmarks/memorisation.py": ([], "diffusion_explained.measured.MEASURED"),
    "benchmarks/micro.py": (["--out", "PLACE"], None),
    "benchmarks/micro_character.py": (["--out", "PLACE"], None),
    "benchmarks/micro_control.py": (["--out", "PLACE"], None),
    "benchmarks/micro_image_prompt.py": (["--out", "PLACE"], None),
    "benchmarks/micro_painting.py": (["--out", "PLACE"], None),
    "benchmarks/micro_lora.py": (["--out", "PLACE"], None),
    "benchmarks/micro_text.py": (["--out", "PLACE"], None),
    "benchmarks/molecules.py": ([], "diffusion_explained.measured.MEASURED"),
    "benchmarks/prompting.py": (["--out", "PLACE"], None),
    "benchmarks/quality.py": (["samplers"], "diffusion_explained.measured.MEASURED"),
    "benchmarks/recognised.py": ([], "diffusion_explained.measured.MEASURED"),
    "benchmarks/scaling.py": (["train", "--folder", "PLACE"], None),
    "benchmarks/scaling.py collect": (["collect"], "diffusion_explained.measured.MEASURED"),
    "benchmarks/stable_diffusion.py": (["--device", "cpu", "--size", "tiny", "--out", "PLACE"], None),
    "benchmarks/stable_diffusion.py whole": (["--device", "cpu"], "diffusion_explained.measured.MEASURED"),
    "benchmarks/text.py": (["floor"], "diffusion_explained.measured.MEASURED"),
    "recipes/cifar10_made.py": (["PLACE"], None),
    "recipes/clip_merges.py": (["nowhere"], "diffusion_explained.stable_diffusion.clip_vocabulary.FILE"),
    "recipes/emoji_sample.py": ([], "diffusion_explained.micro.emoji.SAMPLE_FILE"),
    "recipes/micro2.py": (["--out", "PLACE"], None),
    "recipes/micro_control.py": (["--out", "PLACE"], None),
    "recipes/micro_image_prompt.py": (["--out", "PLACE"], None),
    "recipes/micro_lora.py": (["--out", "PLACE"], None),
    "recipes/molecules.py": ([], "diffusion_explained.beyond.molecules.MOLECULES"),
    "recipes/novels.py": (["nowhere"], "diffusion_explained.data.novels.FILE"),
    "recipes/sound_classifier.py": (["1", "PLACE"], None),
    "recipes/spoken_words.py": ([], "diffusion_explained.beyond.sound.SPOKEN_WORDS"),
    "recipes/mnist_sample.py": (["PLACE"], None),
}
WRITERS = {"write_text", "write_bytes", "savefig", "save", "save_file", "savez", "savez_compressed", "to_csv", "dump"}

RUNS = {  # every command and option that says where something is written, and a call of it that would work
    ("train", "out"): ["train", "mnist_unet_flow_quick", "--split", "sample", "--device", "cpu"],
    ("sample", "out"): ["sample", "mnist_unet_flow", "--device", "cpu"],
    ("record", "out"): ["record", "a cat", "--model", "stand-in", "--device", "cpu", "--steps", "2", "--size", "64"],
    ("micro vae", "out"): ["micro", "vae", "--images", "64", "--sample", "--device", "cpu"],
    ("micro train", "out"): ["micro", "train", "--vae", "VAE", "--images", "512", "--sample", "--device", "cpu"],
    ("micro train", "scenes_file"): [
        "micro", "train", "--vae", "VAE", "--images", "512", "--sample", "--device", "cpu", "--out", "OUT",
    ],
    ("micro retrieval", "out"): ["micro", "retrieval", "--images", "512", "--sample", "--device", "cpu"],
    ("lora", "out"): ["lora", "PICTURES", "--name", "mine", "--device", "cpu"],
    ("lab", "folder"): ["lab", "--no-browser"],
}  # fmt: skip
FILES = {"sample": "x.png", "record": "x.safetensors", "micro retrieval": "x.safetensors"}


def test_every_option_that_names_a_place_is_tried_here():
    found = set()
    for prefix, group in (("", cli.app), ("micro ", micro)):
        for command in group.registered_commands:
            name = prefix + (command.name or command.callback.__name__)
            kinds = typing.get_type_hints(command.callback)
            found |= {(name, option) for option, kind in kinds.items() if kind in (Path, Path | None)}
    assert found - {("micro train", "vae")} == set(RUNS)  # the folder of the autoencoder is read


def writes(script: Path) -> bool:
    """Whether a script calls something that writes a file, by its syntax tree."""
    calls = (node.func for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call))
    names = {node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in calls}
    return any(name in WRITERS or name == "atomic_path" or name.startswith("write_") for name in names)


def test_every_script_that_writes_is_tried_here():
    scripts = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("recipes/*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in scripts if writes(path)} == {
        name.split(" ")[0] for name in SCRIPTS
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_tries_its_place_before_it_works(name, tmp_path, monkeypatch, capsys):
    """Nothing is loaded, drawn or fetched: the script ends before its first work."""
    arguments, constant = SCRIPTS[name]
    place = below_a_file(tmp_path, "results.json")
    if constant is not None:
        monkeypatch.setattr(constant, place)
    script = ROOT / name.split(" ")[0]
    monkeypatch.setattr(sys, "argv", [str(script), *(str(place) if one == "PLACE" else one for one in arguments)])
    monkeypatch.syspath_prepend(str(script.parent))
    for work in ("torch.nn.Module.__call__", "diffusion_explained.data.load_dataset", "torch.manual_seed"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it works before it tries its place"))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    words = capsys.readouterr().err + str(ended.value.code)
    assert ended.value.code not in (0, None) and "results.json" in words and "cannot be written" in words, words


def below_a_file(folder: Path, name: str) -> Path:
    (folder / "file").write_text("in the way")
    return folder / "file" / name


def in_its_place(folder: Path, name: str) -> Path:
    """A folder where the file should be, or a file where the folder should be."""
    place = folder / name
    if place.suffix:
        place.mkdir()
    else:
        place.write_text("in the way")
    return place


def in_proc(folder: Path, name: str) -> Path:
    return Path("/proc/nowhere") / name


def read_only(folder: Path, name: str) -> Path:
    """Root may write anywhere, so the test gives the system's answer for it."""
    return folder / "read-only" / name


@pytest.fixture
def no_step(monkeypatch):
    """No network computes anything."""

    def called(network, *args, **kwargs):
        raise AssertionError(f"a {type(network).__name__} was at work before the place was tried")

    monkeypatch.setattr(torch.nn.Module, "__call__", called)


@pytest.mark.parametrize("place", [below_a_file, in_its_place, in_proc, read_only], ids=lambda place: place.__name__)
@pytest.mark.parametrize("command, option", RUNS, ids=lambda text: text.replace(" ", "_"))
def test_a_place_that_cannot_be_written_is_refused_before_a_step(
    command, option, place, no_step, tmp_path, monkeypatch
):
    name = "x.safetensors" if option == "scenes_file" else FILES.get(command, "out")
    out = place(tmp_path, name)
    vae = tmp_path / "vae"
    vae.mkdir()
    (vae / "micro.json").write_text("{}")
    if place is read_only:
        make = os.mkdir

        def refuse(path, *args, **kwargs):
            if "read-only" in str(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return make(path, *args, **kwargs)

        monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.chdir(tmp_path)
    pictures = ROOT / "app" / "thumbnails"
    given = {"VAE": str(vae), "OUT": str(tmp_path / "other"), "PICTURES": str(pictures)}
    arguments = [given.get(word, word) for word in RUNS[command, option]]
    result = run(*arguments, f"--{option.replace('_', '-')}", out)
    assert_refused(result, "cannot be written", str(out))


# One training per folder


def sentence(error: pytest.ExceptionInfo) -> str:
    return str(error.value)


HOLDER = """
import sys, time
from pathlib import Path
from diffusion_explained.training.folder_lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def process_that_holds(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def other_process(tmp_path):
    """A process that holds tmp_path / "out"."""
    with process_that_holds(tmp_path / "out") as process:
        yield process


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A folder that another process holds while this file's tests run; starting the process takes seconds."""
    with process_that_holds(folder := tmp_path_factory.mktemp("held") / "out"):
        yield folder


def test_a_folder_in_use_says_who_is_at_work_and_a_dead_process_blocks_nobody(other_process, tmp_path):
    with pytest.raises(FolderInUseError) as error, hold(tmp_path / "out", "--out "):
        pass
    said = sentence(error)
    assert f"--out {tmp_path / 'out'} is in use: process {other_process.pid} on {socket.gethostname()}" in said
    assert "since 20" in said and "give another folder" in said
    for command in (["train", "mnist_unet_flow_quick", "--split", "sample"], ["micro", "vae", "--images", "64"]):
        folder = tmp_path if command[0] == "train" else tmp_path / "out"
        if command[0] == "train":
            (tmp_path / "mnist_unet_flow_quick").symlink_to(tmp_path / "out")
        result = run(*command, "--device", "cpu", "--out", folder)
        assert_refused(result, f"process {other_process.pid}")
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert (tmp_path / "out" / folder_lock.HOLDER).is_file()  # which is stale now
    with hold(tmp_path / "out"):
        pass
    with hold(tmp_path / "out"):
        pass


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_damaged_note_of_who_holds_the_folder_is_no_trouble(held, damage):
    (held / folder_lock.HOLDER).write_bytes(damage)
    with pytest.raises(FolderInUseError, match="another training run uses it"), hold(held):
        pass


@pytest.mark.parametrize("function", [train, train_classifier, train_autoencoder, train_text_to_image])
def test_every_training_holds_its_folder(function, tmp_path):
    """The folder is asked for before anything else, so the arguments do not matter."""
    with hold(tmp_path), pytest.raises(FolderInUseError, match=f"this same process \\({os.getpid()}\\)"):
        next(function(*[None] * 3, checkpoints=tmp_path))


def test_the_retrieval_training_holds_its_folder(tmp_path):
    out, small = tmp_path / "r.safetensors", {"dim": 8, "widths": (8,), "blocks": (0,), "squeeze": 8, "text_width": 8}
    with hold(tmp_path / "r_checkpoints"), pytest.raises(FolderInUseError):
        next(train_retrieval(load_emoji_sample(), load_tokenizer(), out=out, images=4, batch_size=2, network=small))


def begin(checkpoints: Path, **options):
    digits = bundled_mnist().subset(torch.arange(64))
    options = {"patch_size": 4, "widths": [32], "blocks": [1], "attention": [False]}
    network = build_network({"network": "unet", "image_shape": [1, 28, 28], "num_classes": 10, **options})
    config = TrainConfig(images=64, batch_size=4)
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return train(
        network, digits.images, digits.labels, FlowSchedule(), "flow", config,
        record_every=1, checkpoints=checkpoints, checkpoint_every=4,
    )  # fmt: skip


def test_a_second_training_is_refused_until_the_first_is_over(tmp_path):
    first = begin(tmp_path)
    next(first)
    with pytest.raises(FolderInUseError, match="is not finished"):
        next(begin(tmp_path))
    first.close()
    assert [record.step for record in begin(tmp_path)] == list(range(1, 17))


def test_a_training_whose_disk_is_full_goes_on_as_if_it_never_was(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from diffusion_explained.training import checkpoints

    calm = [record.loss for record in begin(tmp_path / "calm")]
    save, saved = checkpoints.save_file, []

    def full(tensors, path, metadata):
        saved.append(path)
        if len(saved) == 3:
            Path(path).write_bytes(b"half of it")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, metadata)

    monkeypatch.setattr(checkpoints, "save_file", full)
    folder = tmp_path / "full"
    with pytest.raises(OSError, match=r"step-00000012\S+ cannot be written: no space is left") as error:
        list(begin(folder))
    assert "step-00000008.safetensors, the last whole checkpoint, is kept" in sentence(error)
    assert [path.name[5:13] for path in checkpoint_files(folder)] == ["00000008", "00000004"]
    assert latest_checkpoint(folder).progress["step"] == 8
    monkeypatch.undo()
    assert [record.loss for record in begin(folder)] == calm[8:]


def test_reading_needs_no_lock(held):
    from diffusion_explained.pretrained import load_pretrained, save_pretrained

    weights = held / "mine.safetensors"
    save_pretrained(weights, load_pretrained("mnist_unet_flow"))
    result = run("sample", weights, "--labels", "3", "--steps", 1, "--out", held / "x.png")
    assert result.exit_code == 0, result.output
