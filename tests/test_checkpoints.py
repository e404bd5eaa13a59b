"""Checkpoints: written whole or not at all, checked when read, and never mistaken for those of another training."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion_explained.training.checkpoints import (
    Checkpoint,
    DamagedCheckpointError,
    check_same,
    checkpoint_files,
    latest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

DESCRIPTION = {"kind": "flow", "training": {"images": 640, "betas": (0.9, 0.99)}, "name": None}


def checkpoint(step, description=DESCRIPTION):
    tensors = {"weights": torch.full((3, 4), float(step)), "counter": torch.tensor(step), "empty": torch.empty(0)}
    return Checkpoint(description, {"step": step, "loss": 0.1 + step}, tensors)


def test_what_is_read_is_what_was_written(tmp_path):
    path = save_checkpoint(tmp_path / "deep" / "folder", checkpoint(7))
    saved = read_checkpoint(path)
    assert saved.progress == {"step": 7, "loss": 7.1}
    assert saved.tensors.keys() == checkpoint(7).tensors.keys()
    for name, tensor in checkpoint(7).tensors.items():
        assert torch.equal(saved.tensors[name], tensor) and saved.tensors[name].dtype == tensor.dtype
    check_same(DESCRIPTION, saved, tmp_path)  # tuples, which JSON does not know, are no difference


def test_the_newest_two_are_kept(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for step in (5, 50, 500, 1000):
        save_checkpoint(tmp_path, checkpoint(step))
    assert [path.name for path in checkpoint_files(tmp_path)] == [
        "step-00001000.safetensors",
        "step-00000500.safetensors",
    ]
    assert latest_checkpoint(tmp_path).progress["step"] == 1000


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    left = tmp_path / ".step-00000010.safetensors.abc.part"
    left.write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, checkpoint(20))
    assert not left.exists()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path):
    path.write_bytes(b"")


def a_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def another_step(path):
    content = path.read_bytes()
    altered = content.replace(rb"\"step\": 20", rb"\"step\": 21")
    assert altered != content
    path.write_bytes(altered)


def other_words(path):
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "checkpoint": "{}"}
    save_file(load_file(path), path, metadata)


def no_checkpoint(path):
    save_file({"weights": torch.zeros(3)}, path)


DAMAGES = [cut_short, emptied, a_flipped_bit, another_step, other_words, no_checkpoint]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, damage):
    save_checkpoint(tmp_path, checkpoint(10))
    newest = save_checkpoint(tmp_path, checkpoint(20))
    damage(newest)
    with pytest.raises(DamagedCheckpointError, match="step-00000020"):
        read_checkpoint(newest)
    with pytest.warns(UserWarning, match=r"step-00000020\.safetensors .* resumes from .* step-00000010\.safetensors"):
        assert latest_checkpoint(tmp_path).progress["step"] == 10


def test_if_all_are_damaged_it_says_what_to_do(tmp_path):
    for step in (10, 20):
        cut_short(save_checkpoint(tmp_path, checkpoint(step)))
    with pytest.raises(DamagedCheckpointError, match=r"step-00000020.*step-00000010.*Remove .* from the beginning"):
        latest_checkpoint(tmp_path)


def test_another_training_is_refused_and_each_difference_named(tmp_path):
    other = {"kind": "eps", "training": {"images": 1280, "betas": (0.9, 0.99)}, "seed": 1, "name": None}
    with pytest.raises(ValueError) as error:
        check_same(other, read_checkpoint(save_checkpoint(tmp_path, checkpoint(1))), tmp_path)
    said = str(error.value)
    assert "kind is 'flow' there and 'eps' here" in said
    assert "training.images is 640 there and 1280 here" in said
    assert "seed is None there and 1 here" in said
    assert "betas" not in said and str(tmp_path) in said


# A process that lives through one training many times, each life in a fork that may kill itself (SIGKILL, as a power
# cut would) at a chosen moment of its n-th checkpoint. It computes nothing before it forks, and imports torch once;
# torch._dynamo too, which takes 5 s, and which the first optimizer of each life would import otherwise.
LIVES = """
    import os, signal, sys
    from pathlib import Path
    import torch
    import torch._dynamo
    from safetensors.torch import save_file
    from diffusion_explained import files
    from diffusion_explained.training import checkpoints
    from diffusion_explained.models import UNet, UNetConfig
    from diffusion_explained.schedules import FlowSchedule
    from diffusion_explained.training import TrainConfig
    from diffusion_explained.training import train

    torch.set_num_threads(1)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def live(folder, moment, n):
        writes, rename = 0, os.replace

        def writing(tensors, path, metadata):
            nonlocal writes
            writes += 1
            save_file(tensors, path, metadata)
            if writes == n and moment == "half written":
                os.truncate(path, os.path.getsize(path) // 2)
                die()

        def renaming(part, path):
            if writes == n and moment == "before it has its name":
                die()
            rename(part, path)
            if writes == n and moment == "before the old one is removed":
                die()

        checkpoints.save_file, files.os.replace = writing, renaming
        torch.manual_seed(0)
        network = UNet(UNetConfig(image_shape=(1, 8, 8), widths=(16, 32), embedding_width=32, dropout=0.2))
        images, labels = torch.randn(50, 1, 8, 8).clamp(-1, 1), torch.randint(10, (50,))
        config = TrainConfig(images=30 * 8, batch_size=8)
        for record in train(
            network, images, labels, FlowSchedule(), "flow", config,
            record_every=1, checkpoints=folder, checkpoint_every=2,
        ):
            if moment == "between checkpoints" and record.step == n:
                die()
        end = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
        end |= {f"ema/{name}": tensor for name, tensor in record.model.network.state_dict().items()}
        save_file(end, folder / "end.safetensors")

    for line in sys.stdin:
        folder, moment, n = line.strip().split(",")
        sys.stdout.flush()
        if (pid := os.fork()) == 0:
            live(Path(folder), moment, int(n))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status))
"""


def test_a_training_that_is_killed_again_and_again_ends_as_if_it_never_was(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    lives = [
        (calm, "never", 0, 0),
        (killed, "half written", 1, -9),  # the very first checkpoint: it begins again
        (killed, "half written", 4, -9),
        (killed, "before it has its name", 2, -9),
        (killed, "before the old one is removed", 2, -9),
        (killed, "between checkpoints", 17, -9),
        (killed, "never", 0, 0),
    ]
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIVES)],
        input="".join(f"{folder},{moment},{n}\n" for folder, moment, n, _ in lives),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert [int(code) for code in finished.stdout.split()] == [code for *_, code in lives], finished.stderr
    once, often = load_file(calm / "end.safetensors"), load_file(killed / "end.safetensors")
    assert once.keys() == often.keys()
    for name in once:
        assert torch.equal(once[name], often[name]), name
    assert [p.name for p in checkpoint_files(killed)] == [p.name for p in checkpoint_files(calm)]
    assert not list(killed.glob("*.part")) + list(killed.glob(".*.part"))
