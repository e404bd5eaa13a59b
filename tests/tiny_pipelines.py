"""Pipelines of diffusers for every driven family, of a few hundred kilobytes and with random weights."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

from diffusion_explained.stable_diffusion import stand_ins


def t5(width: int = 32) -> dict[str, Any]:
    encoder, tokenizer = stand_ins._t5(width)
    return {"text_encoder": encoder, "tokenizer": tokenizer}


def vae(channels: int, **options: Any) -> Any:
    """An autoencoder of 8 picture pixels per latent pixel."""
    plain = {"use_quant_conv": False, "use_post_quant_conv": False} if channels == 16 else {}
    return stand_ins._vae(channels, **plain, **options)


def flux(guidance_embeds: bool, **scheduler: Any) -> Any:
    tokenizer = stand_ins._tokenizer()
    second = t5()
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=stand_ins._clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=second["text_encoder"],
        tokenizer_2=second["tokenizer"],
    )  # fmt: skip


def pixart_sigma() -> Any:
    return diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=32, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=4, in_channels=4,
            out_channels=8, cross_attention_dim=32, caption_channels=32, norm_type="ada_norm_single",
        ),
        vae=vae(4, scaling_factor=0.13025),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear", algorithm_type="dpmsolver++", solver_order=2,
        ),
        **t5(),
    )  # fmt: skip


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<bos>", "<eos>", "<pad>", "<mask>"]


def bytes_vocabulary() -> dict[str, int]:
    """The 256 bytes, as GPT-2 and its successors write them, and a few special tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    return {piece: n for n, piece in enumerate([*characters, "\u2581", " ", *SPECIAL])}


def qwen_tokenizer() -> Any:
    tokenizer = transformers.Qwen2Tokenizer(vocab=bytes_vocabulary(), merges=[])
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    return tokenizer


def gemma(layers: int = 1) -> dict[str, Any]:
    tokenizer = transformers.GemmaTokenizer(vocab=bytes_vocabulary(), merges=[])
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return {"text_encoder": transformers.Gemma2Model(config), "tokenizer": tokenizer}


def qwen3(layers: int, whole: bool) -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM if whole else transformers.Qwen3Model
    return {"text_encoder": model(config), "tokenizer": tokenizer}


def qwen_vl() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, **ids,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=1, video_token_id=2, vision_start_token_id=3, vision_end_token_id=4,
    )  # fmt: skip
    return {"text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(config), "tokenizer": tokenizer}


def flux2_klein(distilled: bool) -> Any:
    return diffusers.Flux2KleinPipeline(
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        ),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 16, 16), layers_per_block=1, latent_channels=16, norm_num_groups=4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        is_distilled=distilled,
        **qwen3(28, whole=True),
    )  # fmt: skip


def z_image() -> Any:
    return diffusers.ZImagePipeline(
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
            axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
        ),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        **qwen3(2, whole=False),
    )  # fmt: skip


def qwen_image() -> Any:
    return diffusers.QwenImagePipeline(
        transformer=diffusers.QwenImageTransformer2DModel(
            num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
            axes_dims_rope=(4, 6, 6),
        ),
        vae=diffusers.AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 2], num_res_blocks=1),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02,
        ),
        **qwen_vl(),
    )  # fmt: skip


def sana(scheduler: Any) -> Any:
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=32,
            sample_size=16,
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(4, 4, 8, 8, 8, 8),
            decoder_block_out_channels=(4, 4, 8, 8, 8, 8), encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6, encoder_qkv_multiscales=((),) * 6, decoder_qkv_multiscales=((),) * 6,
            scaling_factor=0.41407,
        ),
        scheduler=scheduler,
        **gemma(),
    )  # fmt: skip


def lumina2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            hidden_size=32, num_layers=1, num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16,
            axes_dim_rope=(4, 6, 6), axes_lens=(300, 64, 64), cap_feat_dim=32,
        ),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0),
        **gemma(2),
    )  # fmt: skip


def aura_flow() -> Any:
    tokenizer = t5()["tokenizer"]
    config = transformers.UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=2,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=32, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, caption_projection_dim=32, pos_embed_max_size=256,
        ),
        vae=vae(4, scaling_factor=0.13025),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
        text_encoder=transformers.UMT5EncoderModel(config),
        tokenizer=tokenizer,
    )  # fmt: skip


def ltx() -> Any:
    return diffusers.LTXPipeline(
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
            num_layers=1, caption_channels=32,
        ),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
            max_image_seq_len=4096, shift_terminal=0.1,
        ),
        **t5(),
    )  # fmt: skip


class ChatGLMTokenizer(transformers.Qwen2Tokenizer):
    """Kolors' tokenizer needs the package sentencepiece and a file of its own; this one reads bytes, from the left."""

    def __call__(self, text: Any, **options: Any) -> Any:
        found = super().__call__(text, padding_side="left", **options)
        found["position_ids"] = (found["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return found


def kolors() -> Any:
    # from their own modules, because diffusers hides them where sentencepiece is not installed
    from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    tokenizer = ChatGLMTokenizer(vocab=bytes_vocabulary(), merges=[])
    config = ChatGLMConfig(
        num_layers=2, padded_vocab_size=len(tokenizer), hidden_size=32, ffn_hidden_size=32, kv_channels=16,
        num_attention_heads=2, seq_length=256, add_qkv_bias=True, original_rope=True,
    )  # fmt: skip
    encoder = ChatGLMModel(config)
    for parameter in encoder.parameters():  # it leaves them as the memory was
        torch.nn.init.normal_(parameter, std=0.05)
    return KolorsPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=128, layers_per_block=1, block_out_channels=(16, 32, 32), norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4, 4),
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32, cross_attention_dim=32, encoder_hid_dim=32,
            encoder_hid_dim_type="text_proj",
        ),
        vae=vae(4, scaling_factor=0.13025),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.014, num_train_timesteps=1100,
            timestep_spacing="leading", steps_offset=1,
        ),
        text_encoder=encoder,
        tokenizer=tokenizer,
    )  # fmt: skip


FLOW_SOLVER = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
BUILD: dict[str, Callable[[], Any]] = {
    "flux_schnell": lambda: flux(False, shift=1.0),
    "flux_dev": lambda: flux(True, shift=3.0, use_dynamic_shifting=True),
    "flux2_klein": lambda: flux2_klein(True),
    "flux2_klein_base": lambda: flux2_klein(False),
    "z_image": z_image,
    "qwen_image": qwen_image,
    "sana": lambda: sana(diffusers.DPMSolverMultistepScheduler(**FLOW_SOLVER)),
    "sana_flow": lambda: sana(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "pixart_sigma": pixart_sigma,
    "lumina2": lumina2,
    "aura_flow": aura_flow,
    "kolors": kolors,
    "ltx": ltx,
}


def build(name: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = BUILD[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def loaded_bytes(pipe: Any) -> dict[str, int]:
    """The bytes of each part's parameters and stored buffers, each tensor once."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum({x.data_ptr(): x.nbytes for x in part.state_dict().values()}.values())
            for name, part in parts.items()}  # fmt: skip


# for each pipeline: (the arguments of diffusers' pipeline, with the negative prompt of each image; ours), with guidance
# off, on, and a negative prompt
OFF, ON, NEGATIVE = {"guidance_scale": 1.0}, {"guidance_scale": 4.0}, {"guidance_scale": 4.0, "negative": "a dog"}
AWAY = {"negative_prompt": "a dog"}
PLAIN = [(OFF, OFF), (ON, ON), ({**ON, **AWAY}, NEGATIVE)]
CALLS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "flux_schnell": [
        ({}, {}),
        ({"true_cfg_scale": 4.0, "negative_prompt": ""}, ON),
        ({"true_cfg_scale": 4.0, **AWAY}, NEGATIVE),
    ],
    "flux_dev": [
        (OFF, OFF),
        ({"guidance_scale": 3.5}, {}),
        ({**ON, "true_cfg_scale": 2.0, **AWAY}, {**NEGATIVE, "true_cfg_scale": 2.0}),
    ],
    "flux2_klein": [({}, {})],
    "flux2_klein_base": [(OFF, OFF), (ON, ON)],
    "z_image": [
        ({"guidance_scale": 0.0}, OFF),
        ({"guidance_scale": 3.0}, ON),
        ({"guidance_scale": 3.0, **AWAY}, NEGATIVE),
    ],
    "qwen_image": [
        ({"true_cfg_scale": 1.0}, OFF),
        ({"true_cfg_scale": 4.0, "negative_prompt": " "}, {}),
        ({"true_cfg_scale": 4.0, **AWAY}, NEGATIVE),
    ],
    "sana_flow": [(ON, ON)],
    **dict.fromkeys(("sana", "pixart_sigma", "lumina2", "aura_flow", "kolors", "ltx"), PLAIN),
}
# the height and width that a pipeline draws; the others draw 64 x 64
SIZES = {"pixart_sigma": 256, "sana": 512, "sana_flow": 512}
