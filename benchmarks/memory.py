"""The memory of published models: forecasts in full size, and activations counted beside them. No GPU, no weights.

    python benchmarks/memory.py                          # half a minute: SD 1.5, SD XL, SD 3.5 large, FLUX.1 dev
    python benchmarks/memory.py --forecasts              # only the tables of `diffusion-explained doctor MODEL`

torch's meta device runs a network on shapes; `costs.count_peak` adds up the bytes of all tensors that are alive at the
same time. The estimate is `forecasts.SPARE` times the count where the factors fit.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from diffusion_explained.stable_diffusion.costs import count_peak
from diffusion_explained.stable_diffusion.families import family_of_pipeline
from diffusion_explained.stable_diffusion.forecasts import SPARE, decoder_values, forecast_of_parts, network_values
from diffusion_explained.stable_diffusion.listing import HOLD_WEIGHTS
from diffusion_explained.stable_diffusion.part_sizes import Stored, stored_of_module
from diffusion_explained.stable_diffusion.single_files import facts_of

MODELS = ("sd15", "sdxl", "sd35_large", "flux_dev")
SIDES = (512, 1024)
MB = 1e6


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, device="meta", dtype=torch.float16)


def built(config: dict[str, Any]) -> Any:
    """A network of diffusers on the meta device."""
    with torch.device("meta"):
        return getattr(diffusers, config["_class_name"]).from_config(config).half().eval()


def evaluation(name: str, network: Any, side: int, count: int) -> Callable[[], Any]:
    """A network evaluation of `count` latents for pictures of side x side pixels."""
    config, h, time = network.config, side // 8, zeros(count)
    if name == "flux_dev":
        n = (side // 16) ** 2
        ids = {"img_ids": zeros(n, 3), "txt_ids": zeros(512, 3)}
        return lambda: network(
            zeros(count, n, 64), zeros(count, 512, 4096), zeros(count, 768), time, guidance=time, **ids
        )
    if name == "sd35_large":
        return lambda: network(zeros(count, 16, h, h), zeros(count, 333, 4096), zeros(count, 2048), time)
    given = {"text_embeds": zeros(count, 1280), "time_ids": zeros(count, 6)} if name == "sdxl" else None
    text = zeros(count, 77, config.cross_attention_dim)
    return lambda: network(zeros(count, 4, h, h), time, text, added_cond_kwargs=given)


def stored(part: str, facts: dict[str, Any]) -> Stored:
    """The values of a part, by its configuration."""
    library, called = facts["model_index"][part]
    if library == "diffusers":
        return stored_of_module(built({**facts[part], "_class_name": called}))
    of_class = getattr(transformers, called)
    with torch.device("meta"):
        return stored_of_module(of_class(of_class.config_class(**facts[part])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--forecasts", action="store_true", help="only the tables")
    args = parser.parse_args()
    for name in args.models:
        facts = facts_of(name)
        family = family_of_pipeline(facts["model_index"]["_class_name"])
        parts = [part for part in HOLD_WEIGHTS if part in facts]
        side, values = 512 if name == "sd15" else 1024, {part: stored(part, facts) for part in parts}
        print(forecast_of_parts(name, family, values, facts, height=side, width=side, batch_size=1, guided=True))
        if args.forecasts:
            continue
        network, vae = built(facts[family.network]), built(facts["vae"])
        for side, count in product(SIDES, (1, 2)):
            counted = count_peak(evaluation(name, network, side, count), network)
            guessed = network_values(family, network.config, side, side, count, guided=False)
            show(f"{name}, evaluation, {count} x {side}", counted, guessed)
            latents = zeros(count, vae.config.latent_channels, side // 8, side // 8)
            counted = count_peak(partial(vae.decode, latents), vae)
            show(f"{name}, decoding, {count} x {side}", counted, decoder_values(vae.config, side, side, count))


def show(what: str, counted: int, values: int | None) -> None:
    """Print a line: bytes counted, and estimated in float16."""
    guessed = "unknown" if values is None else f"{SPARE * 2 * values / MB:.0f} MB"
    print(f"{what:<34} counted {counted / MB:6.0f} MB, estimated {guessed:>8}")


if __name__ == "__main__":
    main()
