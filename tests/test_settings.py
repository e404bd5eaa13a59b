"""The settings of every training: each field has its type and its range, and another value is refused by name."""

import dataclasses
import math
import re
import typing
from typing import Any

import numpy as np
import pytest

from diffusion_explained.micro.autoencoder_training import AutoencoderConfig
from diffusion_explained.micro.text_to_image_training import TextToImageConfig
from diffusion_explained.training.classifier_state import ClassifierTrainConfig
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.reflow import PairsConfig
from diffusion_explained.training.timed import TimedConfig

NEEDED: dict[type[Any], dict[str, Any]] = {  # every class of settings, with the arguments that it needs
    TrainConfig: {"images": 1024},
    TimedConfig: {"images": 1024},
    AutoencoderConfig: {"images": 1024},
    TextToImageConfig: {"images": 1024},
    ClassifierTrainConfig: {},
    PairsConfig: {"count": 10},
}
FIELDS = [(kind, field.name) for kind in NEEDED for field in dataclasses.fields(kind)]
OF_NO_TYPE = (object(), {"a": 1}, [[1]], b"1")
WRONG: dict[type[Any], tuple[Any, ...]] = {
    int: (1.5, "1", True, None, math.nan, 10**30),
    float: ("1", True, None, math.nan, math.inf, -math.inf),
    bool: (1, 0, "true", None),
    str: (1, True, None),
}
OUT_OF_RANGE = [
    (TimedConfig, {"seconds": 0.0}, "seconds (above 0)"),
    (TimedConfig, {"seconds": -1}, "seconds (above 0)"),
    (TimedConfig, {"ema_exponent": -0.1}, "ema_exponent (from 0 to 1000)"),
    (TimedConfig, {"ema_exponent": 1001.0}, "ema_exponent (from 0 to 1000)"),
    (AutoencoderConfig, {"edge_weight": -1e-9}, "edge_weight (0 or more)"),
    (AutoencoderConfig, {"kl_weight": -1}, "kl_weight (0 or more)"),
    (TextToImageConfig, {"min_snr": 0.0}, "min_snr (above 0, or None)"),
    (TextToImageConfig, {"min_snr": -5}, "min_snr (above 0, or None)"),
    (TextToImageConfig, {"label_dropout": 1.1}, "label_dropout (0 to 1)"),
    (PairsConfig, {"count": 0}, "count of the pairs must be 1 or more"),
    (PairsConfig, {"seed": 2**7}, "of a seed below 128"),
    (ClassifierTrainConfig, {"label_smoothing": 1.0}, "label_smoothing (from 0 to below 1)"),
]


def of(kind: type[Any], **given: Any) -> Any:
    return kind(**(NEEDED[kind] | given))


def ids(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize("kind, name", FIELDS, ids=ids)
def test_a_value_of_another_type_is_refused_by_its_field(kind, name):
    annotated = typing.get_type_hints(kind)[name]
    kinds = {annotated, *typing.get_args(annotated)}
    wrong = next((WRONG[one] for one in WRONG if one in kinds), (1, "x"))
    for value in (*(one for one in wrong if one is not None or type(None) not in kinds), *OF_NO_TYPE):
        with pytest.raises(ValueError, match=rf"^{name}\b") as caught:
            of(kind, **{name: value})
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind, name", FIELDS, ids=ids)
def test_a_number_of_numpy_is_a_number(kind, name):
    value = getattr(of(kind), name)
    if type(value) in (bool, int, float):
        given = {bool: np.bool_, int: np.int64, float: np.float64}[type(value)](value)
        assert getattr(of(kind, **{name: given}), name) == value


@pytest.mark.parametrize("kind, given, words", OUT_OF_RANGE, ids=ids)
def test_a_value_out_of_range_is_refused_with_its_range(kind, given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        of(kind, **given)


def test_the_ends_of_the_ranges_are_allowed():
    of(AutoencoderConfig, edge_weight=0, kl_weight=0.0)
    of(TextToImageConfig, min_snr=None)
    of(TextToImageConfig, min_snr=1e-6, label_dropout=1.0)
    of(TimedConfig, ema_exponent=0, seconds=0.1)
    of(TimedConfig, ema_exponent=1000)
    of(PairsConfig, count=2**24, seed=2**7 - 1)
    with pytest.raises(ValueError, match="The length of training is missing"):
        TimedConfig()
