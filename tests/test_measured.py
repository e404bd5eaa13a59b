"""What was measured once and shipped: it is read as it was written, and belongs to the weights that ship."""

import hashlib
import math
from collections import defaultdict

import pytest
import torch

from diffusion_explained.measured import (
    picture_from_text,
    picture_to_text,
    read_measured,
    rows_of,
    studies,
    write_measured,
)
from diffusion_explained.models import build_network, count_flops, count_parameters, network_config
from diffusion_explained.pretrained import WEIGHTS, load_pretrained, shipped_weights
from diffusion_explained.training.faults import FAULTS

MICRO = "micro"  # of its own shape: many measures, of fewer pictures each
EVERY_STUDY = pytest.mark.parametrize("study", ["guidance", "samplers"])
# their rows must be those of the shipped files
EXACT = ("cifar10_unet_eps", "cifar10_unet_flow", "cifar10_unet_flow_fine", "cifar10_unet_reflow")


def numbers(value):
    """All numbers in nested dictionaries and lists."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_what_is_written_is_read_again(tmp_path, monkeypatch):
    values = {
        "unseen": "the test split",
        "real": {"accuracy": 0.5},
        "rows": [{"n": 3, "interval": [0.2, 3.0]}, {"n": 4}],
    }
    path = write_measured("mine", values, tmp_path)
    monkeypatch.setattr("diffusion_explained.measured.MEASURED", tmp_path)
    assert path == tmp_path / "mine.json" and studies() == ["mine"]
    assert read_measured("mine") == values
    assert path.read_text(encoding="utf-8").splitlines()[1:-1] == ['{"n": 3, "interval": [0.2, 3.0]},', '{"n": 4}']


def test_numbers_keep_six_digits_and_tuples_become_lists(tmp_path, monkeypatch):
    write_measured("mine", {"rows": [{"share": 1 / 3, "large": 1234567.8, "pair": (1, 2.00000049)}]}, tmp_path)
    monkeypatch.setattr("diffusion_explained.measured.MEASURED", tmp_path)
    assert read_measured("mine") == {"rows": [{"share": 0.333333, "large": 1234570.0, "pair": [1, 2.0]}]}


def test_a_study_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_measured("mine", {"rows": [{"n": 1}]}, tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_measured("mine", {"rows": [{"n": object()}]}, tmp_path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_unknown_study_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"guidence.*guidance"):
        read_measured("guidence")


def test_the_rows_of_a_part_are_those_and_an_unknown_part_is_refused(tmp_path, monkeypatch):
    rows = [{"part": "guidance", "n": 1}, {"part": "steps", "n": 2}, {"part": "guidance", "n": 3}]
    write_measured("mine", {"rows": rows}, tmp_path)
    monkeypatch.setattr("diffusion_explained.measured.MEASURED", tmp_path)
    assert rows_of("mine", "guidance") == [rows[0], rows[2]]
    with pytest.raises(ValueError, match=r"part of the study mine 'gidance': did you mean 'guidance'.*steps"):
        rows_of("mine", "gidance")


def test_the_course_has_its_studies():
    expected = {"data_size", "guidance", "memorisation", MICRO, "prompting", "samplers", "scaling", "stable_diffusion"}
    assert expected <= set(studies())


def test_pictures_in_a_study_are_read_again_and_damaged_ones_refused():
    pixels = torch.arange(6 * 8).reshape(6, 8).to(torch.uint8)
    text = picture_to_text(pixels)
    assert torch.equal(picture_from_text(text), pixels)
    colours = torch.stack([pixels, 255 - pixels, pixels // 2], dim=-1)
    assert torch.equal(picture_from_text(picture_to_text(colours)), colours)
    with pytest.raises(ValueError, match=r"uint8 \[H, W\] or \[H, W, 3\]; got torch.float32 \[6, 8\]"):
        picture_to_text(pixels.float())
    for damaged in (text[:40], text[1:], "", "not base64!"):
        with pytest.raises(OSError, match="picture in this study is damaged"):
            picture_from_text(damaged)


def test_the_pictures_of_weaknesses_belong_to_their_counts():
    rows = read_measured("prompting")["rows"]
    settings = [(row["part"], *row["setting"].values()) for row in rows]
    assert len(set(settings)) == len(settings) and all("2026" in row["machine"] for row in rows)
    assert {row["part"] for row in rows} == {"refine", "artefacts", "character", "hands", "words", "skew"}
    for row in (row for row in rows if "strip" in row):
        width = 28 if row["part"] == "skew" else 32
        assert picture_from_text(row["strip"]).shape[1] == 10 * width
    for row in rows_of("prompting", "hands"):
        drawn = row["n"] * row["five"]["seeds"]
        assert drawn - 2 <= sum(row["counts"]) <= drawn and row["five"]["share"] == pytest.approx(
            row["counts"][5] / drawn
        )


def test_the_sizes_of_the_data_differ_in_nothing_else():
    study = read_measured("data_size")
    settings = [(row["size"], row["seed"]) for row in study["rows"]]
    assert len(set(settings)) == len(settings) and {size for size, _ in settings} == {100, 1_000, 10_000, 60_000}
    assert len({row["images"] for row in study["rows"]}) == 1 and {row["n"] for row in study["rows"]} == {study["n"]}
    for row in study["rows"]:
        assert 0 <= row["copies_of_test"]["share"] <= row["copies"]["share"] + 0.02 <= 1.02 and "2026" in row["machine"]
        assert len(row["curve"]) >= 20 and (row["seed"] > 0 or picture_from_text(row["strip"]).shape == (56, 280))


@EVERY_STUDY
def test_every_row_is_ten_thousand_samples_and_finite(study):
    rows = read_measured(study)["rows"]
    assert rows and all(row["n"] == 10_000 == sum(row["coverage"]["counts"]) for row in rows)
    assert all(math.isfinite(value) for value in numbers(read_measured(study)))
    for row in rows:
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["neighbour_coverage"] <= 1 and 0 <= row["beyond"] <= 1
        assert row["frechet_distance"] > 0 and row["frechet_spread"] > 0 and row["diversity"] > 0
        assert "2026" in row["machine"] and row["precision"]


@EVERY_STUDY
def test_no_setting_is_there_twice(study):
    setting = ("model", "sampler", "num_inference_steps", "guidance_scale", "guidance_interval", "guidance_rescale")
    settings = [tuple(str(row[key]) for key in setting) for row in read_measured(study)["rows"]]
    assert len(set(settings)) == len(settings)


def test_the_rows_of_a_model_are_of_one_weight_file_the_shipped_one():
    weights = defaultdict(set)
    for study in ("guidance", "samplers"):
        for row in read_measured(study)["rows"]:
            weights[row["model"]].add(row["weights"])
    for name, checksum in read_measured("memorisation")["weights"].items():
        weights[name].add(checksum)
    assert all(len(checksums) == 1 for checksums in weights.values()), dict(weights)
    for name in EXACT:
        shipped = hashlib.sha256(shipped_weights()[name].read_bytes()).hexdigest()[:16]
        assert weights[name] == {shipped}, f"{name} was measured with other weights: run benchmarks/quality.py again"


def test_every_kind_of_sampler_was_measured_to_its_end():
    rows = read_measured("samplers")["rows"]
    found = {(row["model"], row["sampler"]) for row in rows if row["evaluations"] >= 99}
    expected = {("cifar10_unet_eps", name) for name in ("ddim", "ddpm", "dpm_solver_pp_2m", "euler_ancestral")}
    assert expected | {("cifar10_unet_flow", "euler"), ("cifar10_unet_flow", "heun")} <= found
    assert [row["evaluations"] for row in rows if row["sampler"] == "ddpm"] == [1000]


def test_the_sizes_that_were_compared_differ_in_nothing_else():
    rows = read_measured("scaling")["rows"]
    assert [row["name"] for row in rows] == [
        f"{kind}-{size}" for kind in ("unet", "dit") for size in ("small", "medium", "large")
    ]
    assert {(row["images"], row["n"]) for row in rows} == {(512_000, 10_000)}
    for row in rows:
        network = build_network({**row["network"], "image_shape": (3, 32, 32), "num_classes": 10})
        assert row["parameters"] == count_parameters(network)
        assert row["training_flops"] == pytest.approx(3 * count_flops(network) * row["images"], rel=1e-3)
        assert row["frechet_distance"] > 0 and 0 < row["test_loss"] < 1 and "2026" in row["machine"]


def test_the_larger_network_at_least_halves_the_prototypes_distances():
    """The prototype is as large and saw 3 million images: what its plain code had time for when it was tried."""
    prototype, shipped = read_measured("scaling")["prototype"], load_pretrained("cifar10_unet_flow_fine")
    data = {"image_shape": (3, 32, 32), "num_classes": 10}
    assert network_config(build_network({**prototype["network"], **data})) == network_config(shipped.network)
    assert prototype["images"] == pytest.approx(3_000_000, rel=1e-3) and prototype["n"] == 10_000
    rows = [row for row in read_measured("samplers")["rows"] if row["model"] == shipped.name]
    unguided, guided = (
        min(row["frechet_distance"] for row in rows if (row["guidance_scale"] == 1) is alone) for alone in (True, False)
    )
    assert unguided < 0.5 * prototype["frechet_distance"]
    assert guided < 0.5 * prototype["guided"]["1.5"]["frechet_distance"]


def test_memorisation_stands_beside_sets_that_copy():
    near = {(row["who"], row["where"]): row for row in read_measured("memorisation")["rows"]}
    assert all(row["n"] == 10_000 for row in near.values()) and len(near) == 2 * 9
    for where in ("pixels", "features"):
        assert near["training, moved", where]["median"] < 0.65 * near["unseen real", where]["median"]


def test_stable_diffusion_was_measured_at_full_size_beside_diffusers():
    study = read_measured("stable_diffusion")
    assert study["size"] == "full" and study["steps"] == 30 and study["parameters"]["unet"] == 859_520_964
    rows = {(row["name"], row["batch_size"]): row for row in study["rows"]}
    assert set(rows) == {(name, n) for name in ("diffusers", "ours", "ours, fast") for n in (1, 4)}
    for (name, n), row in rows.items():
        assert row["ratio"] == pytest.approx(row["median"] / rows["diffusers", n]["median"], rel=0.15), name
    for row in study["equality"]:
        assert (
            row["finite"] and row["largest"] < {"float32": 1e-4, "float16": 0.02}[row["dtype"]] * row["std_of_latents"]
        )


# The micro model

PARTS = {"real", "guidance", "composition", "autoencoder", "order", "negative", "relations", "steps", "speed"}


def shares(value):
    """All shares in nested dictionaries and lists."""
    if isinstance(value, dict) and "share" in value:
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from shares(item)


def test_micro_is_measured_in_every_part_and_every_number_is_one():
    rows = read_measured(MICRO)["rows"]
    assert {row["part"] for row in rows} == PARTS
    assert all(math.isfinite(value) for value in numbers(rows))
    assert all("2026" in row["machine"] and row["seconds"] >= 0 for row in rows)
    for found in shares(rows):
        p, n = found["share"], found["n"]
        assert 0 <= p <= 1 and found["error"] == pytest.approx(math.sqrt(p * (1 - p) / n), abs=1e-4)


def test_no_setting_of_micro_is_there_twice_and_pictures_of_the_model_have_real_ones_beside_them():
    rows = read_measured(MICRO)["rows"]
    settings = [(row["part"], row["model"], str(row["setting"])) for row in rows]
    assert len(set(settings)) == len(settings)
    beside = {row["part"] for row in rows if row["model"] == "real"}
    assert beside == {"real", "guidance", "composition", "order", "relations"}


def test_micro_was_measured_with_the_weights_that_ship():
    def checksum(*files):
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]

    parts = [WEIGHTS / "micro" / part for part in ("text_encoder", "unet", "vae")]
    model = checksum(*(file for part in parts for file in sorted(part.glob("*.safetensors"))))
    retrieval = checksum(WEIGHTS / "micro_retrieval.safetensors")
    again = "run benchmarks/micro.py again"
    for row in read_measured(MICRO)["rows"]:
        assert row["retrieval"] == retrieval, f"{row['part']} was measured with another retrieval network: {again}"
        if row["model"] == "micro":
            assert row["weights"] == model, f"{row['part']} was measured with other weights: {again}"


def test_what_the_text_encoder_binds_and_what_is_copied_was_measured_with_the_weights_that_ship():
    rows = read_measured("micro_text")["rows"]
    (weights,) = {row["weights"] for row in read_measured(MICRO)["rows"] if row["model"] == "micro"}
    assert {row["weights"] for row in rows if row["model"] == "micro"} == {weights}, (
        "run benchmarks/micro_text.py again"
    )
    assert {(row["model"], row["part"]) for row in rows} == {
        (model, part)
        for model in ("micro_1", "micro", "micro_masked")
        for part in ("binding", "padding", "mask", "copies")
    }
    assert all(math.isfinite(value) for value in numbers(rows))


def test_diagnose_names_nine_faults_in_ten_and_raises_no_alarm():
    rows = read_measured("diagnosis")["rows"]
    right = [row for row in rows if row["fault"] == "none"]
    faulty = [row for row in rows if row["fault"] != "none"]
    assert sum(row["of"] for row in right) >= 5 and all(row["right"] == row["of"] >= 2 for row in right)
    assert sum(row["right"] for row in faulty) >= 0.9 * sum(row["of"] for row in faulty)
    assert {row["fault"] for row in faulty} == {*FAULTS} - {"last step never trained", "no EMA"}  # no output shows them
