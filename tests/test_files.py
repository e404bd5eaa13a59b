"""Files appear whole or not at all, with the modes and links that were there; what cannot be written is said before."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from diffusion_explained.files import NotWrittenError, atomic_path, check_file, check_folder
from diffusion_explained.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint


def write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask, expected", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask, mask, expected):
    umask(mask)
    write(tmp_path / "deep" / "new", "1")
    assert mode(tmp_path / "deep" / "new") == expected


def test_a_file_that_is_there_keeps_its_mode(tmp_path):
    path = tmp_path / "mine"
    for kept in (0o600, 0o640, 0o666, 0o755):
        path.write_text("before")
        path.chmod(kept)
        write(path, "after")
        assert path.read_text() == "after" and mode(path) == kept


def test_a_mode_that_a_library_set_is_not_kept(tmp_path, umask):
    """A library may write a file of its own and rename it to the part."""
    umask(0o077)
    with atomic_path(tmp_path / "file") as part:
        part.unlink()
        part.write_text("x")
        part.chmod(0o777)
    assert mode(tmp_path / "file") == 0o600


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    target, link, chain = tmp_path / "there" / "target", tmp_path / "link", tmp_path / "chain"
    target.parent.mkdir()
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(Path("there") / "target")
    chain.symlink_to(link)
    write(chain, "after")
    assert target.read_text() == "after" and mode(target) == 0o640
    assert chain.is_symlink() and link.is_symlink() and os.readlink(link) == "there/target"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain", "link", "there"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_link_to_a_file_that_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new" / "file")
    write(tmp_path / "link", "made")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new" / "file").read_text() == "made"


def in_a_loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("in the way")
    return folder / "file" / "deeper" / "x.json"


def a_folder(folder: Path) -> Path:
    (folder / "x.json").mkdir()
    return folder / "x.json"


def a_device(folder: Path) -> Path:
    (folder / "x.json").symlink_to("/dev/null")
    return folder / "x.json"


def too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


def that_no_one_can_make(folder: Path) -> Path:
    return Path("/proc/no/such/x.json")


PLACES = {
    in_a_loop: "leads back to itself",
    below_a_file: "a file stands where a folder should be",
    a_folder: "a folder stands in its place",
    a_device: "it is a device",
    too_long: "its name is too long",
    that_no_one_can_make: "its folder cannot be made",
}


@pytest.mark.parametrize("place, said", PLACES.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_place_where_no_file_can_be_is_named(tmp_path, place, said):
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(NotWrittenError, match=said) as error:
        write(path, "x")
    assert str(error.value).startswith(f"{path} cannot be written: ")
    assert sorted(tmp_path.rglob("*")) == before and os.path.exists("/dev/null")
    if place is not too_long:  # which only the name itself shows
        with pytest.raises(NotWrittenError, match=said):
            check_file(path)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("no number"), ZeroDivisionError()])
def test_an_error_within_is_passed_on_and_leaves_nothing_behind(tmp_path, error):
    write(tmp_path / "file", "before")
    with pytest.raises(type(error)) as raised, atomic_path(tmp_path / "file") as part:
        part.write_text("half")
        raise error
    assert raised.value is error
    assert (tmp_path / "file").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


RUST = "Error while serializing: I/O error: No space left on device (os error 28)"  # as safetensors 0.8 says it


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(RUST)])
def test_a_full_disk_is_said_with_its_file_and_space(tmp_path, error):
    write(tmp_path / "file", "before")
    with pytest.raises(NotWrittenError, match=r"file cannot be written: no space is left .* MB free") as raised:  # noqa: SIM117
        with atomic_path(tmp_path / "file", needed=12_300_000) as part:
            part.write_text("half")
            raise error
    assert "it needs 12.3 MB" in str(raised.value) and raised.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path, failed = tmp_path / "file", []

    def writer(letter: str) -> None:
        for _ in range(30):
            try:
                write(path, letter * 10_000)
                assert len(set(path.read_text())) == 1
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(path.read_text()) == 10_000 and [*tmp_path.iterdir()] == [path]


# Before the work begins


def test_a_folder_that_is_tried_is_made_and_left_empty(tmp_path):
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert check_file(tmp_path / "c" / "x.png") == tmp_path / "c" / "x.png"
    assert [*(tmp_path / "a" / "b").iterdir()] == [] == [*(tmp_path / "c").iterdir()]


@pytest.mark.parametrize("number, said", [
    (errno.EROFS, "its disk is read-only"), (errno.EACCES, "may not write there"), (errno.ENOSPC, "no space is left"),
    (errno.EDQUOT, "share of the disk"), (errno.EIO, "Input/output error"),
])  # fmt: skip
@pytest.mark.parametrize("when", ["open", "write"])
def test_what_the_system_answers_is_said(tmp_path, monkeypatch, number, said, when):
    """Root may write anywhere, so the refusal is the system call's own answer, given for it."""

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, "open") if when == "open" else (os, "fsync")), refuse)
    with pytest.raises(NotWrittenError, match=rf"^--out .*out cannot be written: .*{said}"):
        check_folder(tmp_path / "out")
    with pytest.raises(NotWrittenError, match=rf"^--out .*x\.png cannot be written: .*{said}"):
        check_file(tmp_path / "out" / "x.png")
    monkeypatch.undo()
    assert [*(tmp_path / "out").iterdir()] == []


# A full disk


def weights(step: int, size: int) -> Checkpoint:
    return Checkpoint({"kind": "flow"}, {"step": step}, {"weights": torch.full((size,), float(step))})


def test_a_checkpoint_for_which_there_is_no_space_leaves_the_one_before(tmp_path):
    """A limit on the size of a file, in a process of its own, needs no disk: the error is the system's own."""
    script = textwrap.dedent(f"""
        import resource, sys
        import torch
        from pathlib import Path
        from diffusion_explained.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
        folder = Path({str(tmp_path)!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for step, size in ((10, 1_000), (20, 100_000)):
            try:
                save_checkpoint(folder, Checkpoint({{}}, {{"step": step}}, {{"w": torch.full((size,), float(step))}}))
            except OSError as error:
                print(type(error).__name__, error)
        assert latest_checkpoint(folder).progress == {{"step": 10}}
    """)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "NotWrittenError" in run.stdout and "step-00000020.safetensors cannot be written" in run.stdout
    assert "step-00000010.safetensors, the last whole checkpoint, is kept" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010.safetensors"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_at_a_checkpoint_says_so(small_disk):
    save_checkpoint(small_disk, weights(10, 100_000))  # 0.4 MB
    save_checkpoint(small_disk, weights(20, 100_000))
    with pytest.raises(NotWrittenError, match=r"step-00000030\S* cannot be written: no space is left .*needs 0.4") as e:
        save_checkpoint(small_disk, weights(30, 100_000))
    assert "step-00000020.safetensors, the last whole checkpoint, is kept" in str(e.value)
    assert latest_checkpoint(small_disk).progress == {"step": 20}
    assert len([*small_disk.iterdir()]) == 2
    with pytest.raises(OSError):  # noqa: SIM117
        with (small_disk / "filler").open("wb") as filler:
            filler.write(bytes(2**20))
    with pytest.raises(NotWrittenError, match="no space is left"):
        check_folder(small_disk / "new")
