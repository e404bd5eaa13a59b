"""What a pipeline's configuration files may say: tables of known keys and allowed values; everything else is refused.

A folder in diffusers' format is accepted by the classes that its model_index.json names, but every part has a
config.json of its own, and diffusers ignores the keys that it does not know. Here each class of part has a table:

    key -> what its value may be

Keys of the architecture (widths, blocks, layers) are harmless: diffusers builds the network from them, and the network
is called in the same way. Keys that say how a part is called or scaled are obeyed by `networks` and `latents`, or
limited to the values that mean "not used". A key that is in no table, but is set, is refused, except for tokenizers,
whose files are full of notes: `tokenizer_rules` checks the tokenizer that transformers builds. Nothing here imports
diffusers, so a configuration is checked before any weights are downloaded or loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from diffusion_explained.stable_diffusion.families import REFINER, XL, Family
from diffusion_explained.stable_diffusion.rules import Rule, whole


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63  # what torch can take


def only(*values: Any) -> Rule:
    """One of these values, of the same type: True is not 1."""
    words = " or ".join("null" if value is None else repr(value) for value in values)
    return Rule(words, lambda given: any(given == value and type(given) is type(value) for value in values))


def either(*rules: Rule) -> Rule:
    """A value that at least one of the rules allows."""
    return Rule(" or ".join(rule.words for rule in rules), lambda value: any(rule.allows(value) for rule in rules))


def each(rule: Rule, most: int = 16) -> Rule:
    """A list of at most `most` values that the rule allows, or of lists of such values."""

    def allows(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not 0 < len(value) <= most:
            return False
        return all(rule.allows(item) or allows(item) for item in value)

    return Rule(f"a list of at most {most}, each {rule.words}", allows)


NULL = only(None)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
NUMBER = Rule("a finite number", _is_number)
POSITIVE = Rule("a positive number", lambda value: _is_number(value) and value > 0)
NAME = Rule("a name", lambda value: isinstance(value, str) and 0 < len(value) < 100)
ANYTHING = Rule("anything", lambda value: True)  # for keys that neither diffusers nor transformers computes with
WIDTH = whole(1, 65_536)
DEPTH = whole(1, 128)
WIDTHS, DEPTHS, NAMES = each(WIDTH), each(DEPTH, most=128), each(NAME)
SIDE = whole(1, 4096)
PATCH = whole(1, 64)
KERNEL = whole(1, 15)
OFF = Rule("null, false or 0", lambda value: value is None or value == 0)

# -- the networks -----------------------------------------------------------------------------------------

UNET = {
    "sample_size": either(NULL, SIDE, each(SIDE, most=2)),  # obeyed: the default size of a picture
    "time_cond_proj_dim": either(NULL, whole(4, 65_536)),  # obeyed: the network takes the guidance scale as an input
    "in_channels": WIDTH,
    "out_channels": WIDTH,
    # how diffusers builds the network
    "center_input_sample": FLAG,
    "flip_sin_to_cos": FLAG,
    "freq_shift": NUMBER,
    "down_block_types": NAMES,
    "mid_block_type": either(NULL, NAME),
    "up_block_types": NAMES,
    "only_cross_attention": either(FLAG, each(FLAG)),
    "block_out_channels": WIDTHS,
    "layers_per_block": either(DEPTH, DEPTHS),
    "downsample_padding": whole(0, 8),
    "mid_block_scale_factor": POSITIVE,
    "dropout": Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value < 1),
    "act_fn": NAME,
    "norm_num_groups": either(NULL, WIDTH),
    "norm_eps": POSITIVE,
    "cross_attention_dim": either(WIDTH, WIDTHS),
    "transformer_layers_per_block": either(DEPTH, DEPTHS),
    "reverse_transformer_layers_per_block": either(NULL, DEPTHS),
    "encoder_hid_dim": either(NULL, WIDTH),
    "attention_head_dim": either(WIDTH, WIDTHS),
    "use_linear_projection": FLAG,
    "upcast_attention": either(NULL, FLAG),
    "resnet_time_scale_shift": NAME,
    "resnet_skip_time_act": FLAG,
    "resnet_out_scale_factor": POSITIVE,
    "time_embedding_type": only("positional", "fourier"),
    "time_embedding_dim": either(NULL, WIDTH),
    "time_embedding_act_fn": either(NULL, NAME),
    "timestep_post_act": either(NULL, NAME),
    "conv_in_kernel": KERNEL,
    "conv_out_kernel": KERNEL,
    "addition_embed_type_num_heads": WIDTH,
    "mid_block_only_cross_attention": either(NULL, FLAG),
    "cross_attention_norm": either(NULL, NAME),
    # inputs that this package does not give the network: images, classes, boxes, a second text
    "encoder_hid_dim_type": only(None, "text_proj"),
    "class_embed_type": NULL,
    "num_class_embeds": NULL,
    "class_embeddings_concat": OFF,
    "dual_cross_attention": OFF,
    "attention_type": only("default"),
    "num_attention_heads": NULL,
}
UNETS = {
    "sd": UNET
    | {
        "addition_embed_type": only(None, "text"),
        "addition_time_embed_dim": either(NULL, WIDTH),
        "projection_class_embeddings_input_dim": either(NULL, WIDTH),
    },
    "sdxl": UNET
    | {
        "addition_embed_type": only("text_time"),
        "addition_time_embed_dim": WIDTH,
        "projection_class_embeddings_input_dim": WIDTH,
    },
}
UNETS[REFINER] = UNETS["sdxl"]

SD3_TRANSFORMER = {
    "sample_size": SIDE,  # obeyed
    "in_channels": WIDTH,
    "out_channels": either(NULL, WIDTH),
    "patch_size": PATCH,
    "num_layers": DEPTH,
    "attention_head_dim": WIDTH,
    "num_attention_heads": WIDTH,
    "joint_attention_dim": WIDTH,
    "caption_projection_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "pos_embed_max_size": SIDE,
    "dual_attention_layers": either(only([], ()), each(whole(0, 127), most=128)),
    "qk_norm": only(None, "rms_norm", "layer_norm"),
}

# -- the autoencoders -------------------------------------------------------------------------------------

VAE = {
    "scaling_factor": POSITIVE,  # obeyed
    "force_upcast": either(NULL, FLAG),  # obeyed for Stable Diffusion XL, as in diffusers
    "latent_channels": WIDTH,
    "in_channels": only(3),
    "out_channels": only(3),
    "down_block_types": NAMES,
    "up_block_types": NAMES,
    "block_out_channels": WIDTHS,
    "layers_per_block": DEPTH,
    "act_fn": NAME,
    "norm_num_groups": WIDTH,
    "sample_size": either(NULL, whole(1, 65_536), each(whole(1, 65_536), most=2)),  # used for tiles only
    "use_quant_conv": FLAG,
    "use_post_quant_conv": FLAG,
    "mid_block_add_attention": FLAG,
}
# these keys are obeyed by diffusers' pipelines of some families and ignored by those of others
STATISTICS = either(NULL, each(NUMBER, most=256))
SCALES = {
    "sd": {"shift_factor": OFF, "latents_mean": NULL, "latents_std": NULL},
    "sdxl": {"shift_factor": OFF, "latents_mean": STATISTICS, "latents_std": STATISTICS},
    "sd3": {"shift_factor": NUMBER, "latents_mean": NULL, "latents_std": NULL},
}
SCALES[REFINER] = SCALES["sdxl"]
TINY_VAE = {
    "scaling_factor": POSITIVE,
    "force_upcast": either(NULL, FLAG),
    "latent_channels": WIDTH,
    "in_channels": only(3),
    "out_channels": only(3),
    "encoder_block_out_channels": WIDTHS,
    "decoder_block_out_channels": WIDTHS,
    "block_out_channels": WIDTHS,
    "act_fn": NAME,
    "upsample_fn": NAME,
    "upsampling_scaling_factor": only(2),
    "num_encoder_blocks": DEPTHS,
    "num_decoder_blocks": DEPTHS,
    "latent_magnitude": POSITIVE,
    "latent_shift": NUMBER,
}

# -- the text encoders ------------------------------------------------------------------------------------

TRANSFORMERS = {  # keys that transformers writes into every config.json, but that its text encoders do not use
    key: ANYTHING
    for key in (
        "architectures", "attention_dropout", "classifier_dropout", "decoder_start_token_id", "dropout", "dropout_rate",
        "id2label", "initializer_factor", "initializer_range", "label2id", "n_positions", "output_past",
        "prefix", "problem_type", "task_specific_params", "tie_word_embeddings", "transformers_version",
        "use_cache", "num_decoder_layers", "max_length", "min_length", "temperature", "top_k", "top_p", "typical_p",
        "num_beams", "num_beam_groups", "num_return_sequences", "length_penalty", "repetition_penalty", "return_dict",
        "diversity_penalty", "encoder_no_repeat_ngram_size", "no_repeat_ngram_size", "early_stopping", "do_sample",
        "chunk_size_feed_forward", "tf_legacy_loss", "use_bfloat16", "finetuning_task", "sep_token_id", "cls_token_id",
        "tie_encoder_decoder", "scale_decoder_outputs",
    )
}  # fmt: skip
DTYPES = {key: either(NULL, only("float32", "float16", "bfloat16", "float64")) for key in ("dtype", "torch_dtype")}
TOKEN = either(NULL, whole(0, 10_000_000), each(whole(0, 10_000_000)))
ACTIVATIONS = (  # the names in transformers' ACT2FN
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2", "relu6", "sigmoid",
    "silu", "sqrtsoftplus", "swish", "tanh", "xielu",
)  # fmt: skip
ACTIVATION = Rule(f"a name that transformers knows ({', '.join(ACTIVATIONS)})", lambda value: value in ACTIVATIONS)
FEED_FORWARD = Rule(
    f"one of transformers' names ({', '.join(ACTIVATIONS)}), alone or after 'gated-'",
    lambda value: isinstance(value, str) and value.removeprefix("gated-") in ACTIVATIONS,
)
CLIP = (
    TRANSFORMERS
    | DTYPES
    | {
        "model_type": only("clip_text_model", "clip"),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": WIDTH,
        "max_position_embeddings": WIDTH,
        "vocab_size": whole(1, 10_000_000),
        "hidden_act": ACTIVATION,
        "layer_norm_eps": POSITIVE,
        "bos_token_id": TOKEN,
        "eos_token_id": whole(0, 10_000_000),
        "pad_token_id": TOKEN,
    }
)
T5 = (
    TRANSFORMERS
    | DTYPES
    | {
        "model_type": only("t5", "umt5"),
        "d_model": WIDTH,
        "d_ff": WIDTH,
        "d_kv": WIDTH,
        "num_layers": DEPTH,
        "num_heads": WIDTH,
        "relative_attention_num_buckets": WIDTH,
        "relative_attention_max_distance": WIDTH,
        "layer_norm_epsilon": POSITIVE,
        "feed_forward_proj": FEED_FORWARD,
        "dense_act_fn": ACTIVATION,
        "is_gated_act": FLAG,
        "is_encoder_decoder": FLAG,
        "is_decoder": FLAG,
        "vocab_size": whole(1, 10_000_000),
        "bos_token_id": TOKEN,
        "eos_token_id": TOKEN,
        "pad_token_id": TOKEN,
    }
)

# -- the tokenizers ---------------------------------------------------------------------------------------


def special_token(marked: bool) -> Rule:
    """A special token: its text, or an object with its text; `marked` objects have the "__type" of transformers."""

    def allows(value: Any) -> bool:
        if isinstance(value, Mapping):
            return allows(value.get("content")) and (not marked or value.get("__type") == "AddedToken")
        return isinstance(value, str) and 0 < len(value) < 100

    kind = '"__type": "AddedToken" and a "content"' if marked else 'a "content"'
    return Rule(f"a text, or an object with {kind}, a text", allows)


def tokenizer_table(file: str, t5: bool) -> dict[str, Rule]:
    """The rules for the keys that transformers obeys in one of a tokenizer's two configuration files."""
    token = special_token(marked=file == "tokenizer_config.json")
    table = {
        "bos_token": either(NULL, token) if t5 else token,
        "eos_token": token,
        "unk_token": either(NULL, token),
        "pad_token": either(NULL, token),
    }
    if file == "special_tokens_map.json":
        return table
    return table | {
        "model_max_length": either(NULL, Rule("a number", lambda value: type(value) in (int, float))),
        "padding_side": only("right"),  # texts begin at the first position, and what is cut off is their end
        "truncation_side": only("right"),
    }


# -- the pipeline -----------------------------------------------------------------------------------------

PIPELINE = {  # the keys of a model_index.json besides its parts
    "requires_safety_checker": either(NULL, FLAG),
    "force_zeros_for_empty_prompt": FLAG,  # obeyed for Stable Diffusion XL
    "add_watermarker": either(NULL, FLAG),
    "requires_aesthetics_score": OFF,
    "variant": ANYTHING,
}


def tables_of(family: str) -> dict[str, dict[str, Mapping[str, Rule]]]:
    """For each part of a family, the classes that are allowed, and the table of each class."""
    clip: dict[str, Mapping[str, Rule]] = {"CLIPTextModel": CLIP}
    projecting: dict[str, Mapping[str, Rule]] = {"CLIPTextModelWithProjection": CLIP}
    tables: dict[str, dict[str, Mapping[str, Rule]]] = {
        "vae": {"AutoencoderKL": VAE | SCALES[family], "AutoencoderTiny": TINY_VAE | SCALES[family]},
    }
    if family != REFINER:
        tables["text_encoder"] = projecting if family == "sd3" else clip
    if family in UNETS:
        tables["unet"] = {"UNet2DConditionModel": UNETS[family]}
    if family == "sd3":
        tables["transformer"] = {"SD3Transformer2DModel": SD3_TRANSFORMER}
        tables["text_encoder_3"] = {"T5EncoderModel": T5}
    if family != "sd":
        tables["text_encoder_2"] = projecting
    return tables


OF_XL = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
NEEDED = {  # keys that must be set, because diffusers' defaults for them belong to another network
    **{(family, "unet"): OF_XL for family in XL},
    ("sd3", "vae"): ("shift_factor",),
}


def check_part(part: str, class_name: str, config: Mapping[str, Any], family: Family) -> None:
    """Raise ValueError for a part whose class, keys or values are not supported."""
    for inner in (config, *(config.get(f"{of}_config") or {} for of in ("text", "vision"))):
        if isinstance(inner, Mapping):  # transformers looks these names up in torch, for the safety checker too
            check_values({key: inner[key] for key in DTYPES if key in inner}, DTYPES, f"{part} ({class_name})")
    if family.drive is not None:
        _check_driven_part(part, class_name, config, family.drive.parts[part], family.title)
        return
    known = tables_of(family.name).get(part)
    if known is None:
        return
    if class_name not in known:
        raise ValueError(f"{part} is a {class_name}, which is not supported for {family.title}: {_use(known)}.")
    stated = config.get("_class_name", class_name)
    if stated != class_name:
        raise ValueError(
            f"{part} is called a {class_name} in model_index.json and a {str(stated)[:80]} in its own config.json: "
            "one of them is wrong."
        )
    if isinstance(config.get("text_config"), Mapping):  # the configuration of a whole CLIP contains the text encoder's
        config = config["text_config"]
    check_values(config, known[class_name], f"{part} ({class_name})")
    if class_name == "T5EncoderModel":
        _check_buckets(config, part)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if (mean is None) != (std is None):
        raise ValueError(f"{part} ({class_name}) has only one of latents_mean and latents_std: give both or neither.")
    if mean is not None and std is not None:
        channels = config.get("latent_channels", 4)
        if not len(mean) == len(std) == channels or min(std) <= 0:
            raise ValueError(
                f"{part} ({class_name}): latents_mean and latents_std must be {channels} numbers each, one per latent "
                f"channel, those of latents_std above 0; got {mean!r} and {std!r}."
            )
    for key in NEEDED.get((family.name, part), ()):
        if key not in config and class_name != "AutoencoderTiny":  # whose default is right for its models
            raise ValueError(f"{part} ({class_name}) has no {key}, which {family.title} needs in its config.json.")


def _check_driven_part(
    part: str, class_name: str, config: Mapping[str, Any], classes: tuple[str, ...], title: str
) -> None:
    """Raise ValueError for a part of a driven pipeline that has another class, or is not in its published precision.

    The pipeline itself obeys the rest of the configuration; keys that diffusers' class does not have are refused when
    the class is imported (`parts`).
    """
    stated = config.get("_class_name", class_name)
    if not {class_name, stated} <= set(classes or (class_name,)):
        raise ValueError(
            f"{part} is a {str(stated)[:80]}, which is not supported for {title}: {_use(classes or (class_name,))}."
        )
    if config.get("quantization_config") is not None:
        raise ValueError(f"{part} ({class_name}) sets quantization_config, which is not supported: use a full copy.")


def _check_buckets(config: Mapping[str, Any], part: str) -> None:
    """Raise ValueError if T5's relative positions have no logarithmic buckets, which transformers divides by."""
    buckets = config.get("relative_attention_num_buckets", 32)  # transformers' defaults
    distance = config.get("relative_attention_max_distance", 128)
    if buckets < 4 or distance <= buckets // 4:
        raise ValueError(
            f"{part} (T5EncoderModel) sets relative_attention_num_buckets to {buckets} and "
            f"relative_attention_max_distance to {distance}; supported are at least 4 buckets, and a distance above a "
            "quarter of their number. Use a model with such a configuration, or diffusers itself."
        )


def check_preview_decoder(config: Mapping[str, Any]) -> None:
    """Raise ValueError for the configuration of something else than a published TAESD."""
    stated = config.get("_class_name")
    if stated != "AutoencoderTiny":
        raise ValueError(f"a preview decoder is an AutoencoderTiny, and its config.json says {_short(stated)}.")
    published = {"scaling_factor": only(1.0, 1), "shift_factor": either(NULL, OFF), "act_fn": only("relu"),
                 "upsample_fn": only("nearest")}  # fmt: skip
    check_values(config, {**TINY_VAE, **published}, "AutoencoderTiny")


def check_tokenizer_file(file: str, config: Mapping[str, Any], part: str) -> None:
    """Raise ValueError for a value in a tokenizer's configuration file that is not supported.

    file: tokenizer_config.json or special_tokens_map.json. Keys that transformers ignores, or that a tokenizer of
    diffusers' pipelines obeys without consequences here, are in no table and harmless.
    """
    table = tokenizer_table(file, t5=part == "tokenizer_3")
    check_values({key: value for key, value in config.items() if key in table}, table, f"{part}/{file}")


def check_pipeline(index: Mapping[str, Any], family: Family) -> None:
    """Raise ValueError for keys of a model_index.json, besides its parts, that are not supported."""
    own = {key: value for key, value in index.items() if not _is_part(value)}
    table = PIPELINE | ({"is_distilled": FLAG} if family.name == "flux2_klein" else {})
    if family.name == REFINER:
        table |= {"requires_aesthetics_score": only(True)}
    check_values(own, table, f"model_index.json ({index['_class_name']})")


def check_together(configs: Mapping[str, Mapping[str, Any]], index: Mapping[str, Any], family: Family) -> None:
    """Raise ValueError for parts that are each supported but do not fit together.

    configs: the config.json of each part; a missing key has diffusers' default.
    """
    network, vae = configs[family.network], configs["vae"]
    channels = 16 if family.name == "sd3" else 4  # diffusers' defaults
    latent = vae.get("latent_channels", 4)
    taken, given = network.get("in_channels", channels), network.get("out_channels", channels)
    inpaints = "Inpaint" in str(index["_class_name"])
    allowed = {latent, 2 * latent + 1} if inpaints and family.name != "sd3" else {latent}
    if taken not in allowed:
        raise ValueError(
            f"{family.network} takes in_channels {taken}, and the autoencoder's latents have {latent}. Supported are "
            f"networks of {latent} channels and, in an inpainting pipeline, {2 * latent + 1}; not those that take "
            "another picture beside the latents (instruct-pix2pix, depth, upscaling)."
        )
    if given is not None and given != latent:
        raise ValueError(
            f"{family.network} has out_channels {given}, and the autoencoder's latents have {latent}: "
            "a network that also predicts a variance is not supported."
        )
    widths = [
        _text_width(configs[part], "hidden_size") for part in ("text_encoder", "text_encoder_2") if part in configs
    ]
    if family.name == "sd3":
        if "text_encoder_3" in configs:
            _fit("text_encoder_3's d_model", _text_width(configs["text_encoder_3"], "d_model"),
                 "transformer's joint_attention_dim", network.get("joint_attention_dim", 4096))  # fmt: skip
        pooled = sum(_text_width(configs[p], "projection_dim") for p in ("text_encoder", "text_encoder_2"))
        _fit("the text encoders' projection_dim together", pooled, "transformer's pooled_projection_dim",
             network.get("pooled_projection_dim", 2048))  # fmt: skip
        return
    if network.get("encoder_hid_dim_type") is None:
        width = network.get("cross_attention_dim", 1280)
        if isinstance(width, int):
            _fit("the text encoders' hidden_size together", sum(widths), "unet's cross_attention_dim", width)
    if family.name in XL:
        count = 5 if family.name == REFINER else 6
        computed = count * network["addition_time_embed_dim"] + _text_width(configs["text_encoder_2"], "projection_dim")
        stated = network["projection_class_embeddings_input_dim"]
        if computed != stated:
            raise ValueError(
                f"unet's projection_class_embeddings_input_dim is {stated}, but the {count} numbers of the picture's "
                f"size and the pooled text give {computed}: a network with other inputs (a refiner's) is not supported."
            )


def _text_width(config: Mapping[str, Any], key: str) -> int:
    inner = config.get("text_config")
    defaults = {"hidden_size": 512, "projection_dim": 512, "d_model": 512}
    return (inner if isinstance(inner, Mapping) else config).get(key, defaults[key])


def _fit(what: str, value: int, other: str, expected: int) -> None:
    if value != expected:
        raise ValueError(
            f"{what}: {value}, and {other}: {expected}. They must be equal; these parts are of two models."
        )


def _is_part(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _use(known: Iterable[str]) -> str:
    return f"use a model whose part is a {' or a '.join(known)}"


def check_values(config: Mapping[str, Any], table: Mapping[str, Rule], what: str) -> None:
    """Raise ValueError for a value that its key's rule does not allow, and for an unknown key that is set."""
    for key, value in config.items():
        if key.startswith("_"):  # notes about the origin of the file
            continue
        rule = table.get(key)
        if rule is None and (value is None or value is False or value in ((), [], {}, "", 0)):
            continue
        if rule is None:
            raise ValueError(
                f"{what} sets {key} to {_short(value)}; this key is not known here, so pictures could be wrong without "
                "a message. Use a model without it, or diffusers itself."
            )
        if not rule.allows(value):
            raise ValueError(
                f"{what} sets {key} to {_short(value)}; supported is {rule.words}. Use a model with such a "
                "configuration, or diffusers itself."
            )


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
