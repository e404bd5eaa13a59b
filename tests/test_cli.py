"""The command line as its user meets it: real processes and servers, and what is said when something is wrong."""

import dataclasses
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from servers import SECONDS_TO_START, answer, ignores_ctrl_c, listening, server, started, stop, unused_port
from typer.testing import CliRunner, Result

from diffusion_explained import files
from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.cli import launch
from diffusion_explained.cli.doctor import CHECKS
from diffusion_explained.cli.main import app, parse_labels
from diffusion_explained.devices import choose_device
from diffusion_explained.pretrained import load_pretrained, save_pretrained
from diffusion_explained.training import folder_lock, processes, recipes


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, *said: str) -> None:
    """Exit code 2, and one red message, no traceback, that says each of these."""
    assert result.exit_code == 2, result.output
    assert re.search("^Error: ", result.stderr, re.MULTILINE)
    assert "Traceback" not in result.output
    for words in said:
        assert words in result.stderr


def test_help_names_every_command_and_loads_no_torch():
    code = "import sys; from diffusion_explained.cli.main import app; app(['--help'], standalone_mode=False); "
    code += "print(sorted({'torch', 'numpy', 'matplotlib', 'streamlit'} & sys.modules.keys()))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in ("app", "lab", "course", "train", "sample", "evaluate", "diagnose", "models", "doctor"):
        assert re.search(rf"^  {command}  ", output, re.MULTILINE), output
    assert output.splitlines()[-1] == "[]"


# app and lab


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_explorer_is_served_to_this_machine_only_and_ends_cleanly(tmp_path: Path, how: signal.Signals):
    port = unused_port()
    with server("app", "--port", port, "--no-browser", cwd=tmp_path) as process:
        assert answer(process, f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        assert not listening(port, "127.0.0.2"), "a server on all interfaces would answer here too"
        assert stop(process, how) == (0 if how == signal.SIGINT else 128 + signal.SIGTERM)
    assert not listening(port)
    log = (tmp_path / "log").read_text()
    assert f"http://127.0.0.1:{port}" in log
    assert "Traceback" not in log


def test_ctrl_c_ends_a_server_that_was_begun_with_ctrl_c_ignored(tmp_path: Path):
    """As a script begins its background jobs: `make app &`. The server here has no handler of its own."""
    sleeps = [sys.executable, "-c", "import time; print('sleeping', flush=True); time.sleep(600)"]
    code = f"import sys; from diffusion_explained.cli import launch; sys.exit(launch.run_server({sleeps!r}))"
    with started([sys.executable, "-c", code], tmp_path, ignores_ctrl_c) as process:
        deadline = time.monotonic() + SECONDS_TO_START
        while "sleeping" not in (tmp_path / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        assert stop(process, signal.SIGINT) == 0


def test_explorer_takes_the_next_port_when_its_own_is_busy():
    with socket.socket() as other:
        other.bind((launch.LOCALHOST, 0))
        other.listen()
        busy = other.getsockname()[1]
        assert launch.free_port(busy) in range(busy + 1, busy + launch.PORTS_TRIED)
        assert_refused(run("app", "--port", busy), f"Port {busy} is in use", "--port")


@pytest.mark.parametrize("port", [0, -1, 70_000])
def test_what_is_no_port_is_refused(port: int):
    assert_refused(run("app", f"--port={port}"), f"{port} is not a port", "1 to 65535")


def test_course_opens_in_jupyterlab_with_a_token_for_this_machine_only(tmp_path: Path):
    port = unused_port()
    with server("lab", "--port", port, "--no-browser", "--folder", tmp_path / "course", cwd=tmp_path) as process:
        assert '"version"' in answer(process, f"http://127.0.0.1:{port}/api")  # needs no token
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents", timeout=10)
        token = re.search(r"token=(\w+)", (tmp_path / "log").read_text())[1]
        contents = json.loads(answer(process, f"http://127.0.0.1:{port}/api/contents?token={token}"))
        assert {item["name"] for item in contents["content"]} == {path.name for path in course_files()}
        assert not listening(port, "127.0.0.2")
        assert stop(process, signal.SIGINT) == 0
    assert not listening(port)


def course_files() -> list[Path]:
    notebooks = files.shipped("notebooks")
    return sorted([*notebooks.glob("*.ipynb"), *notebooks.glob("*.md")])


def test_copied_course_is_never_overwritten(tmp_path: Path):
    names = [path.name for path in course_files()]
    assert launch.copy_course(tmp_path).new == names
    assert launch.copy_course(tmp_path) == launch.Copied()
    mine, removed = tmp_path / names[0], tmp_path / names[-1]
    answers = json.loads(mine.read_text())
    answers["cells"] = [*answers["cells"][:1], {"cell_type": "raw", "metadata": {}, "source": "my own answers"}]
    mine.write_text(json.dumps(answers))
    removed.unlink()
    assert launch.copy_course(tmp_path) == launch.Copied(new=[removed.name], kept=[mine.name])
    assert json.loads(mine.read_text()) == answers


@pytest.mark.parametrize(
    "left", [b"", b"the beginning", b'{"cells": []}', b"[]", b"{}", b"my own wo\xff", b"[" * 100_000]
)
def test_a_notebook_that_is_no_notebook_is_copied_anew_and_what_it_held_is_kept(tmp_path: Path, left: bytes):
    launch.copy_course(tmp_path)
    original = next(path for path in course_files() if path.suffix == ".ipynb")
    copy, whole = tmp_path / original.name, original.read_bytes()
    left = whole[:1000] if left == b"the beginning" else left
    copy.write_bytes(left)
    copied = launch.copy_course(tmp_path)
    assert (copied.mended, copied.new, copied.kept) == ([copy.name], [], []) and copy.read_bytes() == whole
    aside = [tmp_path / name for name in copied.set_aside]
    assert [path.read_bytes() for path in aside] == ([] if whole.startswith(left) else [left])
    if aside:
        copy.write_bytes(left + b"x")
        (again,) = launch.copy_course(tmp_path).set_aside
        assert again != aside[0].name and aside[0].read_bytes() == left
        assert (tmp_path / again).read_bytes() == left + b"x"


def test_lab_says_what_it_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "run_server", lambda command: 0)
    launch.copy_course(tmp_path)
    original = next(path for path in course_files() if path.suffix == ".ipynb")
    (tmp_path / original.name).write_bytes(b"")
    result = run("lab", "--folder", tmp_path, "--no-browser")
    assert (
        result.exit_code == 0
        and f"Copied again, because they were empty or cut short: {original.name}" in result.stdout
    )
    (tmp_path / original.name).write_bytes(b"{ mine")
    result = run("lab", "--folder", tmp_path, "--no-browser")
    assert f"Their old content is kept in {original.name}.damaged" in result.stdout


def test_a_disk_that_is_full_while_the_course_is_copied_leaves_nothing_half(tmp_path: Path):
    """The system's own refusal, in a process whose files may have 50 kB at most."""
    script = (
        "import resource, sys; from pathlib import Path; from diffusion_explained.cli import launch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"launch.copy_course(Path({str(tmp_path / 'course')!r}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "NotWrittenError" in result.stderr and ".ipynb cannot be written" in result.stderr
    originals = {path.name: path.read_bytes() for path in course_files()}
    for copy in (tmp_path / "course").iterdir():
        assert copy.read_bytes() == originals[copy.name]
    assert launch.copy_course(tmp_path / "course").new and not launch.copy_course(tmp_path / "course").new
    assert {path.name: path.read_bytes() for path in (tmp_path / "course").iterdir()} == originals


def test_installed_package_is_told_from_a_working_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert files.in_repository()
    package = tmp_path / "site-packages" / "diffusion_explained"
    (package / "_app").mkdir(parents=True)
    monkeypatch.setattr(files, "PACKAGE", package)
    assert not files.in_repository()
    assert files.shipped("app") == package / "_app"
    assert_refused(run("lab", "--folder", tmp_path / "course"), "_notebooks is missing", "Install the package again")


# sample


def pixels_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_sample_draws_one_image_a_label_the_same_every_time(tmp_path: Path):
    first, again, other = (tmp_path / name for name in ("first.png", "again.png", "other.png"))
    for out, seed in ((first, 5), (again, 5), (other, 6)):
        result = run("sample", "mnist_unet_flow", "--labels", "3,7", "--steps", 2, "--seed", seed, "--out", out)
        assert result.exit_code == 0, result.output
        assert "2 images in 2 steps, guidance scale 2" in result.stdout
    with Image.open(first) as image:
        assert image.size == ((2 * 28 + 2) * 4, 28 * 4)
    assert pixels_of(first) == pixels_of(again) != pixels_of(other)


def test_guidance_is_the_models_own_where_none_is_given(tmp_path: Path):
    """1.25 in a file that says so: the same picture as when it is asked for; `evaluate` follows it too."""
    flow = load_pretrained("mnist_unet_flow")
    assert flow.default_guidance_scale == 2.0
    own = tmp_path / "own.safetensors"
    save_pretrained(own, dataclasses.replace(flow, default_guidance_scale=1.25))
    default, asked, other = (tmp_path / f"{name}.png" for name in ("default", "asked", "other"))
    result = run("sample", own, "--labels", "3", "--steps", 2, "--out", default)
    assert "1 image in 2 steps, guidance scale 1.25" in result.stdout
    run("sample", own, "--labels", "3", "--steps", 2, "--guidance-scale", 1.25, "--out", asked)
    run("sample", own, "--labels", "3", "--steps", 2, "--guidance-scale", 2, "--out", other)
    assert pixels_of(default) == pixels_of(asked) != pixels_of(other)
    result = run("sample", own, "--n", 1, "--steps", 2, "--out", other)
    assert "guidance scale 1\n" in result.stdout
    result = run("evaluate", own, "--n", 100, "--steps", 1, "--json")
    assert json.loads(result.stdout)["settings"]["guidance_scale"] == 1.25


def test_sample_repeats_labels_up_to_n_and_needs_none(tmp_path: Path):
    few, many = tmp_path / "few.png", tmp_path / "many.png"
    run("sample", "mnist_unet_eps", "--labels", "3 7", "--n", 4, "--steps", 2, "--out", few)
    with Image.open(few) as image:
        assert image.size == ((4 * 28 + 3 * 2) * 4, 28 * 4)
    result = run("sample", "mnist_unet_eps", "--steps", 2, "--out", many)
    assert "16 images in 2 steps, guidance scale 1" in result.stdout
    assert many.stat().st_size > few.stat().st_size


def test_sample_writes_the_way_from_noise_as_an_animation(tmp_path: Path):
    out = tmp_path / "new" / "way.gif"
    assert run("sample", "mnist_unet_flow", "--labels", "8", "--steps", 3, "--out", out).exit_code == 0
    with Image.open(out) as image:
        assert image.n_frames == 4  # three steps and the final image


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist_unet_flaw"], ["'mnist_unet_flow'", "did you mean"]),
        (["missing.safetensors"], ["missing.safetensors"]),
        (["mnist_unet_flow", "--labels", "12"], ["'12'", "0, 1, 2"]),
        (["mnist_unet_flow", "--labels", ","], ["names no class"]),
        (["mnist_unet_flow", "--steps", "0"], ["0", "1 to 100000"]),
        (["mnist_unet_eps", "--steps", "5000"], ["5000", "1000"]),
        (["mnist_unet_flow", "--sampler", "hein"], ["'heun'", "did you mean"]),
        (["mnist_unet_flow", "--sampler", ""], ["unknown sampler ''"]),  # a variable of the shell that is not set
        (["mnist_unet_flow", "--labels", "3", "--guidance-scale", "nan"], ["guidance_scale", "nan"]),
        (["mnist_unet_flow", "--guidance-scale", "3"], ["guidance_scale", "condition"]),
        (["mnist_unet_flow", "--device", "gpu"], ["'gpu'", "cpu"]),
        (["mnist_unet_flow", "--out", "samples.jpg"], [".png", ".gif"]),
    ],
)
def test_sample_says_what_is_wrong_and_what_is_allowed(arguments: list[str], said: list[str], tmp_path: Path):
    out = tmp_path / "out.png"
    result = run("sample", *arguments, *([] if "--out" in arguments else ["--out", out]))
    assert_refused(result, *said)
    assert not out.exists()


def test_sample_refuses_a_weight_file_cut_short(tmp_path: Path):
    whole = (files.PACKAGE / "weights" / "mnist_unet_flow.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert_refused(run("sample", tmp_path / "cut.safetensors"), "cut.safetensors", "damaged")


@pytest.mark.parametrize(
    "arguments", [["--n", "0"], ["--n", "1000000"], ["--n", "many"], ["--seed", "-1"], ["--unknown"]]
)
def test_options_are_checked_before_anything_is_loaded(arguments: list[str]):
    result = run("sample", "mnist_unet_flow", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_labels_are_class_names_first_and_numbers_after():
    animals = ("cat", "dog", "bird")
    assert parse_labels("dog, cat 2", animals) == [1, 0, 2]
    assert parse_labels("7", tuple("9876543210")) == [2]
    with pytest.raises(ValueError, match="did you mean 'bird'"):
        parse_labels("birt", animals)


def test_device_names():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto") == choose_device(choose_device("auto").type)
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=r"This machine has: auto.*cpu"):
            choose_device(name)


# evaluate


def test_evaluate_measures_samples_beside_real_images():
    result = run("evaluate", "mnist_unet_flow", "--n", 200, "--steps", 3, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["n"], found["settings"]["num_inference_steps"], found["settings"]["sampler"]) == (200, 3, "euler")
    assert 0.5 < found["samples"]["accuracy"] <= 1
    assert found["real"]["accuracy"] > 0.97
    assert found["samples"]["frechet_distance"] > found["real"]["frechet_distance"] > 0


def test_evaluate_takes_the_steps_and_the_sampler_of_sample(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "diffusion_explained.beyond.measured", lambda kind, *_, **settings: asked.append(settings) or {}
    )
    for given in ((), ("--steps", 3, "--sampler", "euler", "--guidance-scale", 2)):
        assert run("evaluate", "video", "--n", 40, *given).exit_code == 0
    assert asked[0] == {**KINDS["video"].sampling, "guidance_scale": load_beyond("video").default_guidance_scale}
    assert asked[1] == {"num_inference_steps": 3, "sampler": "euler", "guidance_scale": 2.0}


def test_evaluate_refuses_what_cannot_be_measured():
    assert_refused(run("evaluate", "mnist_unet_flow", "--n", 3), "n = 3")
    assert_refused(run("evaluate", "mnist_unet_flow", "--dataset", "minst", "--n", 200), "did you mean 'mnist'")


def test_evaluate_compares_with_what_the_network_was_trained_on(bare_machine):
    assert_refused(run("evaluate", "cifar10_unet_reflow", "--n", 600), "cifar10", "hf download uoft-cs/cifar10")


# doctor


def test_doctor_finds_a_bare_machine_fit_and_says_what_can_be_had(bare_machine: None):
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["ok"] and list(found) == list(CHECKS)
    assert {name for name, finding in found.items() if finding["status"] == "missing"} == {
        "MNIST", "CIFAR-10", "Stable Diffusion", "Network",
    }  # fmt: skip
    assert "mnist_unet_flow" in found["Weights"]["text"]
    assert re.search(r"16 images .* take \d+\.\d\d s", found["Speed"]["text"])
    assert "hf download ylecun/mnist" in found["MNIST"]["advice"]
    assert "hf download stable-diffusion-v1-5/" in found["Stable Diffusion"]["advice"]


def test_doctor_speaks_in_lines(bare_machine: None):
    lines = run("doctor").stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == (["ok"] * 8 + ["missing"] * 4)
    assert any(line.startswith("ok      Device: ") for line in lines)


def test_doctor_sees_data_that_is_there(bare_machine: None, tmp_path: Path):
    (tmp_path / "decoded").mkdir()
    for split in ("train", "test"):
        (tmp_path / "decoded" / f"mnist-{split}.safetensors").touch()
    finding = CHECKS["MNIST"]("MNIST")
    assert (finding.status, finding.advice) == ("ok", "")
    (tmp_path / "decoded" / "mnist-test.safetensors").unlink()
    finding = CHECKS["MNIST"]("MNIST")
    assert finding.status == "missing" and "test-00000" in finding.advice and "train-00000" not in finding.advice


def test_doctor_reports_broken_weights_and_goes_on(bare_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from diffusion_explained import pretrained

    (tmp_path / "mnist_unet_flow.safetensors").write_bytes(b"not a weight file")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    monkeypatch.setattr(pretrained, "cifar10_folder", lambda: None)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["Weights"]["status"] == "broken" and "mnist_unet_flow" in found["Weights"]["text"]
    assert found["Bundled digits"]["status"] == "ok"


def test_doctor_does_not_wait_for_a_network_that_is_silent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.socket() as silent:  # its one place in the queue is taken, so a connection hangs
        silent.bind((launch.LOCALHOST, 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        held: list[socket.socket] = []
        try:
            for _ in range(4):
                held.append(socket.socket())
                held[-1].setblocking(False)
                held[-1].connect_ex((launch.LOCALHOST, port))
            monkeypatch.setenv("HF_ENDPOINT", f"http://{launch.LOCALHOST}:{port}")
            monkeypatch.setenv("no_proxy", "*")
            started = time.monotonic()
            finding = CHECKS["Network"]("Network")
            assert finding.status == "missing"
            assert time.monotonic() - started < 2  # the promise to the user, not a speed
        finally:
            for connection in held:
                connection.close()


# train

RECIPE = """
task = "diffusion"
name = "tiny"
dataset = "mnist"
split = "sample"
kind = "flow"

[network]
network = "unet"
patch_size = 4
widths = [32]
blocks = [1]
attention = [false]

[schedule]
family = "flow"

[training]
images = 800
batch_size = 4

[[evaluation]]
n = 100
num_inference_steps = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_train_writes_weights_that_sample_reads(recipe: Path, tmp_path: Path):
    result = run("train", recipe, "--images", 80, "--out", tmp_path / "runs", "--device", "cpu")
    assert result.exit_code == 0, result.output
    weights = tmp_path / "runs" / "tiny" / "tiny.safetensors"
    assert f"{weights}: " in result.stdout
    assert "20/20" in result.stderr  # the progress bar: 80 images in batches of 4
    result = run("sample", weights, "--labels", "3", "--steps", 1, "--out", tmp_path / "tiny.png")
    assert result.exit_code == 0, result.output


def test_train_shows_the_pairs_of_a_rectified_flow_and_then_its_training(recipe: Path, tmp_path: Path):
    pairs = "[pairs]\ncount = 30\nbatch_size = 10\nnum_inference_steps = 1\n[schedule]"
    tables = re.sub(r"\[network\].*\[schedule\]", pairs, RECIPE, flags=re.DOTALL)
    tables = tables.replace('task = "diffusion"', 'task = "reflow"\nteacher = "mnist_unet_flow"')
    recipe.write_text(tables.replace('split = "sample"\nkind = "flow"\n', "").replace("tiny", "straight"))
    result = run("train", recipe, "--images", 40, "--out", tmp_path / "runs", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert re.search(r"straight, pairs: .*3/3", result.stderr) and re.search(r"straight.*10/10", result.stderr)
    assert_refused(run("train", recipe, "--split", "sample", "--out", tmp_path), "what its teacher draws", "mnist")


def test_train_in_the_second_of_several_processes_neither_prints_nor_writes(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is the first that writes the weights, perhaps later."""
    for module in (processes, recipes, folder_lock):
        monkeypatch.setattr(module, "is_main_process", lambda: False)
    result = run("train", recipe, "--images", 80, "--out", tmp_path / "runs", "--device", "cpu")
    assert (result.exit_code, result.output) == (0, ""), result.output
    assert not list(tmp_path.glob("runs/tiny/*.safetensors"))


def test_a_rank_without_a_launcher_is_the_only_process_and_a_wrong_count_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A cluster may set RANK for its own jobs: the weights of hours must be written all the same."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")
    assert processes.is_main_process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not processes.is_main_process()
    for wrong in ("", "0", "two"):
        monkeypatch.setenv("WORLD_SIZE", wrong)
        with pytest.raises(ValueError, match="WORLD_SIZE must be the number of processes"):
            processes.process_count()


def test_train_that_was_stopped_says_how_to_go_on_and_does(recipe: Path, tmp_path: Path):
    checkpoints = tmp_path / "runs" / "tiny" / "checkpoints"
    arguments = ["train", recipe, "--out", "runs", "--device", "cpu", "--checkpoint-every", 10]
    with server(*arguments, cwd=tmp_path) as process:
        deadline = time.monotonic() + SECONDS_TO_START
        while not list(checkpoints.glob("step-*.safetensors")):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        assert stop(process, signal.SIGINT) == 130
    log = (tmp_path / "log").read_text()
    kept = sorted(checkpoints.glob("step-*.safetensors"))[-1]
    assert f"Stopped. The same command resumes from {kept.relative_to(tmp_path)}." in log
    assert "Traceback" not in log

    result = run("train", recipe, "--out", tmp_path / "runs", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"Resuming from {kept}" in result.stdout
    assert "200/200" in result.stderr

    result = run("train", recipe, "--images", 80, "--out", tmp_path / "runs", "--device", "cpu")
    assert_refused(result, "another training", "training.images")
    result = run("train", recipe, "--images", 80, "--out", tmp_path / "runs", "--device", "cpu", "--restart")
    assert result.exit_code == 0, result.output
    assert "Resuming" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist_unet_flo"], ["'mnist_unet_flow'", "did you mean"]),
        (["missing.toml"], ["missing.toml", "mnist_unet_flow"]),
        (["mnist_unet_flow", "--split", "tst"], ["'tst'", "did you mean 'test'"]),
        (["mnist_unet_flow", "--split", "sample", "--images", "1"], ["images", "cannot be 1"]),
        (["mnist_classifier", "--images", "100"], ["trains a classifier"]),
        (["mnist_unet_flow", "--device", "gpu"], ["'gpu'", "cpu"]),
    ],
)
def test_train_says_what_is_wrong_and_what_is_allowed(arguments: list[str], said: list[str], tmp_path: Path):
    assert_refused(run("train", *arguments, "--out", tmp_path), *said)


def test_train_without_the_data_says_how_to_get_it(bare_machine: None, tmp_path: Path):
    assert_refused(run("train", "mnist_unet_flow", "--out", tmp_path), "hf download ylecun/mnist", "sample")
