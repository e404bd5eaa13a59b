"""Text models: the network, the shipped weights, training, the command line and the film, as a user meets them."""

import hashlib
import io
import itertools
import json
import lzma
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from diffusion_explained import noise, plots
from diffusion_explained.cli.main import app
from diffusion_explained.data import DamagedDataError
from diffusion_explained.data import novels as module
from diffusion_explained.data.novels import LETTERS, novels
from diffusion_explained.discrete import (
    Alphabet,
    Letters,
    LettersConfig,
    TextModel,
    is_text_model,
    load_text,
    save_text,
    texts,
)
from diffusion_explained.measured import read_measured, rows_of
from diffusion_explained.palette import LIGHT, rgb
from diffusion_explained.pretrained import available, load_pretrained, shipped_weights
from diffusion_explained.training.text import TextTraining, text_loss, train_text, windows

TINY = LettersConfig(kinds=3, length=4, width=8, depth=2, head_width=4)
KINDS = ("autoregressive", "masked", "uniform")


def tiny(kind, seed=0):
    network = noise.seeded(seed, lambda: Letters(replace(TINY, causal=kind == "autoregressive")))
    for parameter in network.parameters():  # the gates and the head start at 0
        torch.nn.init.normal_(parameter, std=0.5, generator=noise.stream(seed))
    return TextModel("tiny", network.eval().requires_grad_(False), Alphabet("ab "), kind, {"made": "for tests"})


# The network


def test_a_causal_network_sees_only_what_stands_before_and_the_other_one_sees_all():
    x = torch.tensor([[0, 1, 2, 0]])
    for kind, seen in (("autoregressive", [False, False, False, True]), ("masked", [True] * 4)):
        network = tiny(kind).network
        before, after = (network(text, torch.zeros(1))[0] for text in (x, torch.tensor([[0, 1, 1, 0]])))
        assert [not torch.allclose(a, b) for a, b in zip(before, after, strict=True)] == seen
    with pytest.raises(ValueError, match="at most 4 letters; got 5"):
        network(torch.zeros(1, 5, dtype=torch.int64), torch.zeros(1))


def test_the_probabilities_of_all_texts_of_an_autoregressive_model_sum_to_one():
    model = tiny("autoregressive")
    everything = torch.tensor(list(itertools.product(range(3), repeat=4)))
    bits = model.bits(everything)
    assert bits.shape == (81,) and float((2.0 ** (-4 * bits)).sum()) == pytest.approx(1.0, abs=1e-5)
    drawn = model.sample(batch_size=400)
    often = model.alphabet.decode(everything[bits.argmin()][None])[0]
    expected = 2 ** (-4 * float(bits.min()))
    assert drawn.count(often) / 400 == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 400))


def test_new_networks_predict_equal_probabilities_and_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    network = noise.seeded(1, lambda: Letters(TINY))
    assert torch.equal(before, torch.get_rng_state())
    assert network(torch.zeros(2, 4, dtype=torch.int64), torch.rand(2)).abs().max() == 0
    for sizes in ({"width": 9}, {"kinds": 1}, {"length": 0}, {"causal": 1}, {"depth": 1.0}):
        with pytest.raises(ValueError, match=next(iter(sizes))):
            replace(TINY, **sizes)


# Weight files


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_model_is_read_as_it_was_written(kind, tmp_path):
    model, path = tiny(kind), tmp_path / "mine.safetensors"
    save_text(path, model)
    read = load_text(path)
    assert (read.kind, read.alphabet, read.card, read.name) == (kind, model.alphabet, {"made": "for tests"}, "mine")
    for one, two in zip(read.network.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(one, two.half().float())
    assert is_text_model(str(path)) and not is_text_model("mnist_unet_flow") and not is_text_model("no.safetensors")


def test_files_and_models_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_text(path, tiny("masked"))
    tensors = load_file(path)
    good = {"network": "letters", "kind": "masked", "letters": "ab ", **vars(TINY)}
    for change, said in (
        ({"kind": "score"}, "kind of text model"),
        ({"letters": "abc d"}, "the alphabet 5"),
        ({"letters": None}, "An alphabet"),
        ({"causal": True}, "Only an autoregressive"),
        ({"width": 4000}, "more weights than the file"),
        ({"depth": 3}, "lacks blocks"),
        ({"heads": 3}, "unknown key"),
        ({"network": "unet"}, "no text model: use load_pretrained"),
    ):
        save_file(tensors, path, metadata={"config": json.dumps({**good, **change}), "card": "{}"})
        with pytest.raises((ValueError, OSError), match=said) as raised:
            load_text(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="unknown text model 'text_mask': did you mean 'text_masked'"):
        load_text("text_mask")
    with pytest.raises(ValueError, match=r"text_masked is a text model: use .*load_text"):
        load_pretrained("text_masked")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return load_text(f"text_{request.param}")


def test_what_ships():
    assert texts() == [f"text_{kind}" for kind in KINDS] and not set(texts()) & set(available())
    assert max(shipped_weights()[name].stat().st_size for name in texts()) <= 6e6
    configs = {replace(load_text(name).network.config, causal=False) for name in texts()}
    seen = {(load_text(name).card["letters_seen"], load_text(name).card["recipe"]) for name in texts()}
    assert len(configs) == len(seen) == 1, "the twins have the same size and the same computation"


def test_its_bits_are_those_of_its_card(model):
    letters = model.alphabet.encode(novels("test"))[40_000 : 40_000 + 16 * model.length]
    bits = model.bits(letters.view(16, -1), 12)  # of fewer levels than the card's, so up to 0.2 more
    assert abs(float(bits.mean()) - model.card["bits_per_letter"]) < 0.2 + 2 * float(bits.std()) / 16**0.5
    assert model.card["limits"] and "/" not in model.card["hardware"]


def test_it_writes_words(model):
    """Most words of 4 samples stand in the novels; of letters drawn by their frequency, hardly any long ones do."""
    known = set(re.findall("[a-z']+", novels("train")))
    written = [re.findall("[a-z']+", one)[1:-1] for one in model.sample(num_inference_steps=32, batch_size=2, seed=1)]
    words = [word for one in written for word in one]
    assert len(words) > 20 and np.mean([word in known for word in words]) > (0.45 if model.kind == "uniform" else 0.65)


def test_gaps_are_filled_and_what_is_known_stays():
    model, text = load_text("text_masked"), "it is a truth universally ____________, that a single man"
    (filled,) = model.sample(text, 12, sampler="most_certain_first")
    assert len(filled) == model.length and "_" not in filled
    assert all(known in ("_", letter) for known, letter in zip(text, filled, strict=False))
    twin = load_text("text_autoregressive")
    assert twin.sample("it is a truth", batch_size=1)[0].startswith("it is a truth")
    steps = list(model.steps(text, 5))
    assert len(steps) == 5 and model.alphabet.decode(steps[0].x_t)[0].startswith(text)
    assert (
        model.sample(seed=3, num_inference_steps=4, batch_size=2)[1] == model.sample(seed=4, num_inference_steps=4)[0]
    )


@pytest.mark.parametrize(
    ("kind", "text", "options", "said"),
    [
        ("masked", "abba_", {}, "at most 4 letters; got 5"),
        ("masked", "é", {}, "does not know 'é'"),
        ("uniform", "a", {}, "no mask"),
        ("autoregressive", "a_b", {}, "cannot fill gaps"),
        ("masked", "a", {"sampler": "ddim"}, "unknown sampler of text 'ddim'"),
        ("masked", "a", {"seed": -1}, "seed"),
        ("masked", "a", {"num_inference_steps": 0}, "num_inference_steps"),
        ("masked", 5, {}, "text must be"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(kind, text, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        tiny(kind).sample(text, **options)
    assert "\n" not in str(raised.value)


def test_the_study_is_of_the_weights_that_ship_and_its_numbers_are_those_of_the_cards():
    study = read_measured("text")
    for kind, checksum in study["weights"].items():
        path = shipped_weights()[f"text_{kind}"]
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == checksum, "run benchmarks/text.py again"
        levels = 0 if kind == "autoregressive" else 64
        (row,) = (row for row in rows_of("text", "bits") if (row["model"], row["levels"]) == (kind, levels))
        card = load_text(path).card
        assert abs(row["mean"] - card["bits_per_letter"]) < 4 * (row["error"] + card["standard_error"])
        trained = [row for row in rows_of("text", "training") if row["model"] == kind]
        longest = max(trained, key=lambda row: row["letters"])
        assert (longest["letters"], longest["mean"]) == (card["letters_seen"], card["bits_per_letter"])
    floor = {row["model"]: row["mean"] for row in rows_of("text", "floor")}
    assert all(4.0 < floor["1-gram"] < 4.4 and row["mean"] < floor["3-gram"] for row in rows_of("text", "bits")
               if row["levels"] in (0, 64, 256) and row["model"] != "uniform")  # fmt: skip


# Training


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_of_training_lower_the_loss_and_make_a_model(kind):
    text, alphabet = "aaaaaaab" * 40, Alphabet("ab ")
    *_, last = train_text(text, alphabet, kind, TextTraining(10, 2, learning_rate=5e-3), name="mine")
    model = last.model
    assert (model.kind, model.name, model.card["letters_seen"]) == (kind, "mine", 10 * 2 * 128)
    x = alphabet.encode(text[:128])[None]
    assert float(model.bits(x.expand(4, -1), 4).mean()) < 0.9 * math.log2(3)
    assert all(torch.equal(one, one.half().float()) for one in model.network.parameters())


def test_the_loss_of_training_is_the_bound_of_a_network():
    """For the same texts and many times: bits of `text_loss` and of `TextModel.bits`."""
    for kind in KINDS:
        model = tiny(kind)
        x = torch.randint(3, (1, 4), generator=noise.stream(0)).expand(2000, -1)
        loss = text_loss(model.network, kind, x, model.chain, noise.stream(1)).mean(1) / math.log(2)
        bits = model.bits(x[:600], 100)
        spread = math.hypot(float(loss.std()) / 2000**0.5, float(bits.std()) / 600**0.5)
        assert float(loss.mean()) == pytest.approx(float(bits.mean()), abs=4 * spread + 0.02)


def test_windows_do_not_overlap_and_are_spread_over_the_text():
    model = load_text("text_masked")
    text = "".join(LETTERS[k // model.length] for k in range(10 * model.length + 7))
    assert windows(model, text, 100).tolist() == [[k] * model.length for k in range(10)]
    assert windows(model, text, 4)[:, 0].tolist() == [0, 3, 6, 9]
    for wrong in (text[: model.length - 1], ""):
        with pytest.raises(ValueError, match="one window; got"):
            windows(model, wrong, 4)


def test_odd_trainings_are_refused():
    for call in (
        lambda: TextTraining(steps=0),
        lambda: TextTraining(learning_rate=float("nan")),
        lambda: TextTraining(seed=-1),
        lambda: next(train_text("ab", Alphabet("ab"), "masked", TextTraining())),
        lambda: next(train_text("ab" * 100, Alphabet("ab"), "score", TextTraining())),
        lambda: next(train_text("abc" * 100, Alphabet("ab"), "masked", TextTraining())),
    ):
        with pytest.raises(ValueError, match=r".{15,}"):
            call()


# The text


def test_the_novels_are_whole_and_the_unseen_one_is_another(monkeypatch, tmp_path):
    train, test = novels("train"), novels("test")
    assert set(train) == set(test) == set(LETTERS) and len(train) > 3_500_000 and len(test) > 400_000
    assert test.startswith("sir walter elliot, of kellynch hall") and "sir walter elliot" not in train
    assert "  " not in train + test and "note on the text" not in train
    with pytest.raises(ValueError, match="split of the novels"):
        novels("validation")
    broken = tmp_path / "novels.txt.xz"
    monkeypatch.setattr(module, "FILE", broken)
    for content in (b"", b"no archive", lzma.compress(b"one novel"), lzma.compress("é\n\n\n\n\n".encode())):
        broken.write_bytes(content)
        with pytest.raises(DamagedDataError, match="is damaged"):
            novels.__wrapped__("train")


# The command line


def run(*arguments):
    return CliRunner().invoke(app, ["sample", *map(str, arguments)])


def test_sample_writes_texts(tmp_path):
    own, out = tmp_path / "mine.safetensors", tmp_path / "a.txt"
    save_text(own, tiny("masked"))
    result = run(own, "--text", "a_", "-n", 2, "--steps", 3, "--out", out)
    assert result.exit_code == 0, result.output
    lines = out.read_text().splitlines()
    assert lines == load_text(own).sample("a_", 3, batch_size=2) and result.output.startswith("\n".join(lines))
    assert all(len(line) == 4 and line[0] == "a" for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["text_masked", "--text", "naïve"], "does not know 'ï'"),
        (["text_masked", "--text", "a" * 129], "at most 128 letters; got 129"),
        (["text_masked", "--out", "a.png"], "not a .txt file"),
        (["text_masked", "--labels", "3"], "leave --labels out"),
        (["text_masked", "--guidance-scale", "2"], "leave --guidance-scale out"),
        (["text_masked", "--sampler", "ddim"], "sampler of text"),
        (["text_masks"], "unknown weights"),
        (["mnist_unet_flow", "--text", "a"], "leave --text out"),
    ],
    ids=str,
)
def test_sample_says_what_is_wrong(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.output
    assert not list(Path(tmp_path).iterdir())


# The film


def test_the_film_shows_what_is_hidden_what_is_new_and_says_it_in_words():
    model = tiny("masked")
    steps = list(model.steps("a", 2, batch_size=2, seed=3))
    film = plots.text_film(steps, model.alphabet, columns=8)
    assert len(film.frames) == 3 == len(film.captions) and film.titles == ("xₜ", "predicted x₀")
    assert film.captions[0] == "step 1 of 2 · 3 hidden · “a___”"
    assert film.captions[-1] == f"after 2 steps · 0 hidden · “{model.alphabet.decode(steps[-1].x_next[:1])[0]}”"
    first, last = (np.asarray(Image.open(io.BytesIO(film.frames[k])))[..., :3] for k in (0, 2))
    red = np.array(rgb(LIGHT.noise), int)

    def vermilion(page):
        return int((np.abs(page[: film.height].astype(int) - red).max(-1) < 8).sum())

    assert vermilion(first) == 0 and vermilion(last) > 0
    uniform = plots.text_film(list(tiny("uniform").steps("", 2)), model.alphabet)
    assert "changed" in uniform.captions[1]
    with pytest.raises(ValueError, match="steps"):
        plots.text_film([], model.alphabet)
    with pytest.raises(ValueError, match="columns"):
        plots.text_film(steps, model.alphabet, columns=3)
