"""Each setting in a weight file is used as it stands, or refused in a message that names the file."""

import copy
import json
import math
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusion_explained.micro.retrieval import Retrieval, embed_captions, load_retrieval, save_retrieval
from diffusion_explained.models import build_network, network_config
from diffusion_explained.pretrained import Model, load_classifier, load_pretrained, save_pretrained
from diffusion_explained.samplers import final
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule
from diffusion_explained.weight_files import read_weights, write_weights

UNET = {
    "network": "unet", "image_shape": [1, 8, 8], "patch_size": 2, "widths": [8, 8], "blocks": [1, 1],
    "attention": [False, False], "embedding_width": 8, "head_width": 4, "num_classes": 2,
}  # fmt: skip
DIT = {
    "network": "dit", "image_shape": [1, 8, 8], "patch_size": 4, "width": 8, "depth": 1, "head_width": 4,
    "num_classes": 2,
}  # fmt: skip
MLP = {"network": "mlp", "image_shape": [2], "width": 8, "layers": 1, "num_classes": 2}
CLASSIFIER = {"network": "classifier", "image_shape": [1, 8, 8], "patch_size": 2, "widths": [8, 8], "num_classes": 2}
MODELS = {
    "unet": (UNET, FlowSchedule(shift=2.0), "flow"),
    "dit": (DIT, DDPMSchedule.scaled_linear(final_alpha_one=False, steps_offset=1, clock="c_noise"), "v"),
    "mlp": (MLP, EDMSchedule(sigma_max=20.0), "edm"),
}
OPTIONAL = {
    "guidance_scale",
    "clip",
    "clock",
    "logit_scale",
    "final_alpha_one",
    "steps_offset",
}  # written if not default
DELETED = object()
NESTED: list[Any] = []
for _ in range(60):
    NESTED = [NESTED]
GARBAGE = [
    DELETED, None, [], {}, "", "text", [1], ["a"], [None], {"a": 1}, NESTED, True, False, 0, -1,
    3, 7, 1_000_000, 2**53, 2**63,
    10**40, 0.5, -0.5, 1e-300, 1e6, 1e308, math.nan, math.inf, -math.inf, [1, 10**6, 10**6], [10**9] * 2, [4] * 500,
]  # fmt: skip


def randomised(network: nn.Module) -> nn.Module:
    """Weights other than those of a new network, whose output is 0 whatever its settings are."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    return network.eval().requires_grad_(False)


def write(path: Path, name: str) -> Path:
    config, schedule, kind = MODELS[name]
    save_pretrained(
        path, Model(name, randomised(build_network(config)), schedule, kind, ("left", "right"), {}, 3.0, 2.0)
    )
    return path


def write_classifier(path: Path) -> Path:
    network = randomised(build_network(CLASSIFIER))
    write_weights(path, network, network_config(network), {})
    return path


def change(path: Path, edit: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """The file with other metadata or tensors, as someone else's program would write it."""
    tensors, config, card = contents(path)
    metadata = {"config": config, "card": card}
    edit(metadata, tensors)
    save_file(tensors, path, {key: one if isinstance(one, str) else json.dumps(one) for key, one in metadata.items()})
    return path


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    return tensors, json.loads(metadata["config"]), json.loads(metadata["card"])


def keys_of(table: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Every key, those of the tables inside too."""
    for key, value in table.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *inner) for inner in keys_of(value))


def at(table: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        table = table.get(key, DELETED)
    return table


def put(table: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    *outer, last = keys
    for key in outer:
        table = table[key]
    if value is DELETED:
        del table[last]
    else:
        table[last] = value


def fuzz(path: Path, load: Callable[[Path], Any], written: Callable[[Any, Path], dict[str, Any]]) -> int:
    """Try all of GARBAGE at each key; what is accepted must be what the loaded model would write. Returns how many."""
    original, (_, config, _) = path.read_bytes(), contents(path)
    accepted = 0
    for keys in keys_of(config):
        for value in GARBAGE:
            path.write_bytes(original)
            changed = copy.deepcopy(config)
            put(changed, keys, value)
            change(path, lambda metadata, _, changed=changed: metadata.update(config=changed))
            try:
                loaded = load(path)
            except (ValueError, OSError) as error:
                assert path.name in str(error) and len(str(error)) < 1500, (keys, value)
                continue
            accepted += 1
            found = at(written(loaded, path), keys)
            defaulted = value is DELETED and keys[-1] in OPTIONAL
            assert defaulted or found == (at(config, keys) if value is DELETED else value), (keys, value, found)
    return accepted


def written_model(model: Model, path: Path) -> dict[str, Any]:
    """What a loaded model says of itself, after it has drawn a finite picture."""
    steps = min(3, model.default_num_inference_steps)
    assert model.sample(batch_size=2, num_inference_steps=steps).isfinite().all()
    if model.num_classes:
        labels = [model.num_classes - 1]
        assert model.sample(labels, num_inference_steps=steps).isfinite().all()
    save_pretrained(path, model)
    return contents(path)[1]


@pytest.mark.parametrize("name", MODELS)
def test_each_setting_is_used_or_refused(name, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = fuzz(write(tmp_path / "model.safetensors", name), load_pretrained, written_model)
    assert accepted >= 10, "some of it is sound"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "half a gigabyte, in kB"


def test_each_setting_of_a_classifier_is_used_or_refused(tmp_path):
    def written(network: nn.Module, path: Path) -> dict[str, Any]:
        assert network(torch.zeros(2, *network.image_shape)).isfinite().all()
        write_weights(path, network, network_config(network), {})
        return contents(path)[1]

    assert fuzz(write_classifier(tmp_path / "model.safetensors"), load_classifier, written) >= 3


def test_each_setting_of_a_retrieval_network_is_used_or_refused(tmp_path):
    torch.manual_seed(0)
    network = Retrieval(20, 19, length=8, dim=8, widths=(8, 8), blocks=(0, 1), squeeze=4, text_width=8, text_layers=1)
    save_retrieval(tmp_path / "model.safetensors", network, {})

    def written(network: Retrieval, path: Path) -> dict[str, Any]:
        tokens = torch.tensor([[5, network.config["end"], *[7] * (network.config["length"] - 2)]])
        assert network.embed_tokens(tokens).isfinite().all()
        assert network.embed_images(torch.zeros(1, 3, 128, 128)).isfinite().all()
        return network.config

    assert fuzz(tmp_path / "model.safetensors", load_retrieval, written) >= 1
    with pytest.raises(ValueError, match=r"model\.safetensors.*lacks dim"):
        load_retrieval(change(tmp_path / "model.safetensors", lambda metadata, _: metadata["config"].pop("dim")))


class Tokenizer:
    eos_token_id = 18

    def __len__(self) -> int:
        return 20


def test_a_retrieval_network_of_another_tokenizer_is_refused():
    with pytest.raises(ValueError, match="20 tokens and end token 19; this one has 20 and 18"):
        embed_captions(Retrieval(20, 19), ["a cat"], Tokenizer())


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("class_names",), ["only"], "the network has 2 classes; got 1 names"),
        (("class_names",), ["a", "b", "c"], "the network has 2 classes; got 3 names"),
        (("class_names",), ["a", "a"], "must differ"),
        (("class_names",), ["a", ""], "1 to 100 characters"),
        (("class_names",), "ab", "a list"),
        (("num_classes",), None, "the network has no classes; got 2 names|embed_class"),
        (("num_classes",), 1, "embed_class.table.weight"),
        (("patch_size",), 0, "patch_size must be 1 or more"),
        (("widths",), [10**6, 10**6], "more than"),
        (("widths",), None, "a list"),
        (("blocks",), [10**9, 1], "more than"),
        (("image_shape",), [1, 2**20, 2**20], "at most 1024 pixels"),
        (("widht",), 3, "did you mean 'widths'"),
        (("head_width",), DELETED, "lacks head_width"),
        (("kind",), "noise", "unknown kind of prediction 'noise'"),
        (("kind",), None, "kind of the model must be a text; got None"),
        (("schedule",), "flow", "a table"),
        (("schedule", "family"), ["flow"], "no schedule of family"),
        (("schedule", "shift"), math.nan, "shift of the flow schedule must be a finite number; got nan"),
        (("schedule", "shift"), DELETED, "the schedule lacks shift"),
        (("schedule", "num_train_timesteps"), 10**9, "from 1 to 100000"),
        (("schedule", "shfit"), 1.0, "did you mean 'shift'"),
        (("guidance_scale",), 1e30, "from 0 to 100"),
        (("clip",), -1.0, "clip must be above 0"),
        (("clip",), math.nan, "a finite number"),
    ],
)
def test_a_setting_is_refused_in_words(tmp_path, keys, value, said):
    path = write(tmp_path / "mine.safetensors", "unet")
    change(path, lambda metadata, _: put(metadata["config"], keys, value))
    with pytest.raises((ValueError, OSError), match=rf"(?s)mine\.safetensors.*({said})"):
        load_pretrained(path)


def test_a_deep_network_takes_no_memory(tmp_path):
    for name, key in {"dit": "depth", "mlp": "layers"}.items():
        path = write(tmp_path / f"{name}.safetensors", name)
        change(path, lambda metadata, _, key=key: put(metadata["config"], (key,), 10**9))
        with pytest.raises(ValueError, match=rf"{name}\.safetensors: .* more than .* weights"):
            load_pretrained(path)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"note": "hello"}, "unknown metadata 'note'"),
        ({"config": "[]"}, "config must be a table"),
        ({"card": "3"}, "card must be a table"),
        ({"config": "{"}, "damaged"),
        ({"config": "[" * 200_000}, "damaged"),
        ({"config": '{"network": ' + "9" * 5000 + "}"}, "damaged"),
        ({"config": '{"network": "unet"}'}, "lacks image_shape, patch_size"),
        ({"config": "{}"}, "unknown network None"),
        ({"config": '{"network": {"network": "unet"}}'}, "unknown network"),
    ],
)
def test_metadata_that_are_no_description(tmp_path, metadata, said):
    path = write(tmp_path / "mine.safetensors", "unet")
    change(path, lambda found, _: found.update(metadata))
    with pytest.raises((ValueError, OSError), match=rf"mine\.safetensors.*{said}"):
        load_pretrained(path)


def test_a_byte_order_mark_and_the_format_of_other_programs_are_no_fault(tmp_path):
    path = write(tmp_path / "mine.safetensors", "unet")
    change(path, lambda found, _: found.update(format="pt", config="\ufeff" + json.dumps(found["config"])))
    assert load_pretrained(path).class_names == ("left", "right")


TENSORS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "lacks stem.bias": lambda tensors: tensors.pop("stem.bias"),
    "has 'more', which the network has not": lambda tensors: tensors.update(more=torch.zeros(2)),
    r"has stem.bias as \[3\] of torch.float32, not \[8\]": lambda tensors: tensors.update(
        {"stem.bias": torch.zeros(3)}
    ),
    r"as \[8\] of torch.int64": lambda tensors: tensors.update({"stem.bias": torch.zeros(8, dtype=torch.int64)}),
    "holds torch.bool": lambda tensors: tensors.update({"stem.bias": torch.zeros(8, dtype=torch.bool)}),
    "holds torch.int8": lambda tensors: tensors.update({"stem.bias": torch.zeros(8, dtype=torch.int8)}),
    "holds torch.float8_e4m3fn": lambda tensors: tensors.update({"stem.bias": torch.zeros(8).to(torch.float8_e4m3fn)}),
    "holds torch.complex64": lambda tensors: tensors.update({"stem.bias": torch.zeros(8, dtype=torch.complex64)}),
    "stem.bias holds NaN": lambda tensors: tensors.update({"stem.bias": torch.full((8,), math.nan)}),
    "stem.bias holds .*infinity": lambda tensors: tensors.update({"stem.bias": torch.full((8,), -math.inf)}),
    "numbers beyond float32": lambda tensors: tensors.update(
        {"stem.bias": torch.full((8,), 1e300, dtype=torch.float64)}
    ),
    r"\(and \d+ more faults\)": lambda tensors: tensors.clear(),
}


@pytest.mark.parametrize("said", TENSORS)
def test_tensors_that_are_not_the_networks(tmp_path, said):
    path = write(tmp_path / "mine.safetensors", "unet")
    change(path, lambda _, tensors: TENSORS[said](tensors))
    with pytest.raises((OSError, ValueError), match=rf"(?s)mine\.safetensors.*({said}|more than 10,000 weights)"):
        load_pretrained(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_another_precision_are_taken(tmp_path, dtype):
    path = write(tmp_path / "mine.safetensors", "unet")
    change(path, lambda _, tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    assert next(load_pretrained(path).network.parameters()).dtype == torch.float32


def test_a_variance_below_0_is_no_variance(tmp_path):
    path = write_classifier(tmp_path / "mine.safetensors")
    change(path, lambda _, tensors: tensors.update({"stem.1.running_var": -torch.ones(8)}))
    with pytest.raises(OSError, match=r"variance below 0 in stem\.1\.running_var"):
        load_classifier(path)


def test_a_classifier_with_the_settings_of_a_model_is_refused(tmp_path):
    path = write_classifier(tmp_path / "mine.safetensors")
    change(path, lambda metadata, _: metadata["config"].update(kind="eps"))
    with pytest.raises(ValueError, match=r"mine\.safetensors: a classifier has no kind"):
        load_classifier(path)


def test_nothing_is_saved_that_could_not_be_loaded(tmp_path):
    network = build_network(MLP)
    with pytest.raises(ValueError, match="the network has 2 classes; got 3 names"):
        Model("mine", network, FlowSchedule(), "flow", ("a", "b", "c"), {})
    with pytest.raises(ValueError, match="unknown kind of prediction"):
        save_pretrained(
            tmp_path / "mine.safetensors", Model("mine", network, FlowSchedule(), "velocity", ("a", "b"), {})
        )
    assert not list(tmp_path.iterdir())


def test_a_model_without_classes_says_so(tmp_path):
    network = build_network({**MLP, "num_classes": None})
    save_pretrained(tmp_path / "mine.safetensors", Model("mine", network, FlowSchedule(), "flow", (), {}))
    model = load_pretrained(tmp_path / "mine.safetensors")
    assert final(model.steps(batch_size=2, num_inference_steps=2)).shape == (2, 2)
    with pytest.raises(ValueError, match="has no classes: leave the labels out"):
        model.sample([0])


def test_a_file_that_is_read_is_the_one_that_was_written(tmp_path):
    path = write(tmp_path / "mine.safetensors", "unet")
    tensors, config, card = read_weights(path)
    assert (config["guidance_scale"], config["clip"], card) == (3.0, 2.0, {})
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
