"""Spoken words: spectrograms and back, WAV files, the bundled clips, and a network whose samples are named."""

import io
import math
import wave as wave_files

import pytest
import torch
from safetensors.torch import save
from typer.testing import CliRunner

from diffusion_explained.beyond import KINDS, load_beyond, sound
from diffusion_explained.beyond.sound import PARTS, SPOKEN_WORDS, WORDS, load_spoken_words, moved, named
from diffusion_explained.beyond.spectrograms import (
    FLOOR,
    MOST_BYTES,
    SAMPLE_RATE,
    SAMPLES,
    griffin_lim,
    log_mel,
    read_wav,
    to_magnitude,
    to_wave,
    wav_bytes,
    write_wav,
)
from diffusion_explained.cli import app
from diffusion_explained.data import to_float
from diffusion_explained.weight_files import read_tensors

SOUND = KINDS["sound"]


def decibels(a, b):
    """The root mean squared difference of two sets of spectrograms [N, 1, 64, 64], in decibels."""
    return float((a - b).square().mean().sqrt()) * FLOOR / 2


@pytest.fixture(scope="module")
def clips():
    """Real spectrograms [20, 1, 64, 64] of voices that no network has heard, each word twice."""
    return to_float(load_spoken_words("test").spectrograms[:20])


@pytest.fixture(scope="module")
def model():
    return load_beyond("sound")


def test_a_tone_is_one_band_of_the_spectrogram():
    t = torch.arange(SAMPLES) / SAMPLE_RATE
    spectrogram = log_mel(torch.sin(2 * math.pi * torch.tensor([[440.0], [2000.0]]) * t))
    mels = 2595 * torch.log10(1 + torch.tensor([440.0, 2000.0]) / 700)
    expected = mels / (2595 * math.log10(1 + 4000 / 700)) * 65 - 1  # the middles of the bands are even in mels
    loudest = spectrogram[:, 0, :, 32].argmax(dim=1)
    assert (loudest - expected).abs().max() < 1
    assert log_mel(torch.zeros(1, SAMPLES)).unique() == -1  # silence is black


def test_griffin_lim_finds_phases_that_fit(clips):
    heard = log_mel(to_wave(clips))
    random_phases = log_mel(griffin_lim(to_magnitude(clips[:4]), iterations=0))
    assert decibels(heard, clips) < 2
    assert decibels(heard[:4], clips[:4]) < decibels(random_phases, clips[:4]) / 3
    assert torch.equal(to_wave(clips[:1], seed=3), to_wave(clips[:1], seed=3))


def test_a_wav_file_holds_the_wave(tmp_path, clips):
    wave = to_wave(clips[:1])[0]
    write_wav(tmp_path / "a.wav", wave)
    assert (read_wav(tmp_path / "a.wav") - wave).abs().max() < 1 / 16_000
    (tmp_path / "short.wav").write_bytes(wav_bytes(wave[:4000]))
    assert read_wav(tmp_path / "short.wav")[4000:].unique() == 0


def wav(rate=SAMPLE_RATE, channels=1, width=2, count=100):
    """The bytes of a WAV file of silence."""
    content = io.BytesIO()
    with wave_files.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(count * channels * width))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (wav(rate=44_100), "44,100 samples per second.*hears 8,000.*ffmpeg"),
        (wav(channels=2), "on 2 channel"),
        (wav(width=1), "8 bits"),
        (wav(count=SAMPLES + 1), "lasts 1.008 s.*Cut it"),
        (wav(count=0), "lasts 0.000 s"),
        (b"ID3 an MP3 file", "no WAV file"),
        (wav()[:20], "no WAV file"),
    ],
)
def test_another_sound_file_is_refused_in_words(content, words, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_wav(tmp_path / "a.wav")


def test_files_that_are_missing_too_large_or_damaged_are_refused_in_words(tmp_path, monkeypatch):
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(MOST_BYTES + 1))
    for path, words in ((large, "at most 1,048,576 are allowed"), (tmp_path / "no.wav", "there is no sound file")):
        with pytest.raises(OSError, match=words):
            read_wav(path)
    damaged, whole = tmp_path / "words.safetensors", sound.SPOKEN_WORDS.read_bytes()
    monkeypatch.setattr(sound, "SPOKEN_WORDS", damaged)
    tensors, texts = read_tensors(SPOKEN_WORDS)
    no_sheet = {name: tensor for name, tensor in tensors.items() if name != "test_spectrograms"}
    for content in (
        whole[:1000],
        save(no_sheet, texts),
        save({**tensors, "test_spectrograms": tensors["test_spectrograms"][:100].clone()}, texts),
        save(tensors, {}),
    ):
        damaged.write_bytes(content)
        with pytest.raises(OSError, match="is damaged"):
            load_spoken_words.__wrapped__.__wrapped__("test")


def test_other_shapes_and_words_are_refused_in_words(model):
    with pytest.raises(ValueError, match="at 8000 Hz"):
        log_mel(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="must be"):
        to_wave(torch.zeros(1, 64, 64))
    with pytest.raises(ValueError, match="one wave of the batch"):
        wav_bytes(torch.zeros(2, SAMPLES))
    with pytest.raises(ValueError, match="zero, one, two"):
        model.sample([10])
    with pytest.raises(ValueError, match="part of the spoken words"):
        load_spoken_words("validation")


def test_no_voice_is_in_two_parts():
    voices = [set(load_spoken_words(part).voices) for part in PARTS]
    assert [len(some) for some in voices] == [52, 16, 10]
    assert len(set.union(*voices)) == 78
    for part in PARTS:
        words = load_spoken_words(part)
        assert words.spectrograms.shape == (len(words), 1, 64, 64)
        assert torch.equal(words.labels, torch.arange(len(words)) % 10)


def test_training_clips_are_moved_in_time_and_test_clips_are_not(clips):
    bundled = load_spoken_words("test").spectrograms
    later = moved(bundled[:2], torch.tensor([3, -2]))
    assert torch.equal(later[0, :, :, 3:], bundled[0, :, :, :-3]) and later[0, :, :, :3].unique() == 0
    assert torch.equal(later[1, :, :, :-2], bundled[1, :, :, 2:]) and later[1, :, :, -2:].unique() == 0
    train, test = SOUND.data(40, 1), SOUND.data(40, 1, "test")
    known = {clip.numpy().tobytes() for clip in load_spoken_words("train").spectrograms}
    assert sum(clip.numpy().tobytes() in known for clip in train.x_0) < 20  # 1 of 13 is not moved
    assert all(bool((bundled == clip).flatten(1).all(1).any()) for clip in test.x_0)
    assert torch.equal(train.labels, torch.arange(40) % 10)


def test_the_network_says_the_word_that_is_asked_for(model, clips):
    labels = torch.arange(10)
    drawn = model.sample(labels, num_inference_steps=8, guidance_scale=2.0)
    assert (named(drawn) == labels).sum() >= 9  # 100% of 300 in 20 steps: the card
    assert (named(clips) == labels.repeat(2)).sum() >= 19
    unasked = model.sample([3, 3], num_inference_steps=4, seed=0)
    assert (unasked[0] - unasked[1]).abs().mean() > 0.02  # two seeds, two voices


def test_its_card_says_what_was_measured(model):
    guided, unguided = model.card["evaluation"]
    assert guided["n"] == unguided["n"] == 300 and guided["settings"]["guidance_scale"] == 2
    assert min(guided["samples"]["named"], unguided["samples"]["named"]) >= 0.9 <= guided["real"]["named"]
    assert guided["chance"]["named"] < 0.2
    # no copies: a sample is as far from the training clips as a clip of an unheard voice, within a tenth
    assert guided["samples"]["nearest"] > 0.9 * guided["real"]["nearest"]
    assert model.class_names == WORDS


def test_the_command_line_writes_words_one_after_the_other(tmp_path):
    out = tmp_path / "words.wav"
    command = ["sample", "sound", "--steps", "2", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--labels", "seven,two"])
    assert done.exit_code == 0, done.output
    with wave_files.open(str(out)) as file:
        assert (file.getframerate(), file.getnframes()) == (SAMPLE_RATE, 2 * SAMPLES)
    refused = CliRunner().invoke(app, [*command, "--labels", "eleven"])
    assert refused.exit_code == 2 and "seven" in refused.output
