"""Bits per letter of the text models and of their floors, and what the number of steps does to their texts.

    python benchmarks/text.py                     # minutes on a CPU; diffusion_explained/measured/text.json
    python benchmarks/text.py floor               # one part only; the rows of the other parts are kept
    python benchmarks/text.py limit --windows 1000 --device cuda   # the bound towards its limit: three minutes of a GPU

All is measured on Persuasion, which no model was trained on, in windows of 128 letters. The n-gram models count the
same five novels; they see the letters before a window too, the networks do not. Words count as known if they stand in
one of the six novels.
"""

import argparse
import gzip
import hashlib
import lzma
import re
from pathlib import Path

import torch
from places import tried
from side_by_side import machine

from diffusion_explained.data.novels import novels
from diffusion_explained.devices import choose_device
from diffusion_explained.discrete import TextModel, grams_bits, load_text
from diffusion_explained.discrete.text import KINDS
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, read_measured, studies, write_measured
from diffusion_explained.noise import stream
from diffusion_explained.pretrained import shipped_weights
from diffusion_explained.training.text import windows

LEVELS = (1, 4, 16, 64)
TO_THE_LIMIT = (64, 128, 256, 512, 1024)  # the bound falls with the levels towards the loss of training
MOST_GRAM = 7
STEPS = (4, 16, 64)
WORD = re.compile("[a-z']+")


def mean(values: torch.Tensor) -> dict[str, float]:
    """The mean and its standard error."""
    return {"mean": float(values.mean()), "error": float(values.std() / len(values) ** 0.5), "n": len(values)}


def words_of(texts: list[str], known: set[str]) -> torch.Tensor:
    """Per text the share of its words that are known; the first and last, which the window cuts, do not count."""
    found = [[word in known for word in WORD.findall(text)[1:-1]] for text in texts]
    return torch.tensor([sum(one) / max(len(one), 1) for one in found])


def bits_rows(
    models: dict[str, TextModel], count: int, part: str = "bits", all_levels: tuple[int, ...] = LEVELS
) -> list[dict[str, object]]:
    """Bits per letter of each model, by the number of levels of the bound."""
    rows: list[dict[str, object]] = []
    for kind, model in models.items():
        x = windows(model, novels("test"), count)
        for levels in all_levels if kind != "autoregressive" else (0,):
            bits = [
                model.bits(some.to(model.device), levels or 1, seed=1000 * k) for k, some in enumerate(x.split(500))
            ]
            rows.append({"part": part, "model": kind, "levels": levels, **mean(torch.cat(bits).cpu())})
            print(rows[-1], flush=True)
    return rows


def limit_rows(models: dict[str, TextModel], count: int) -> list[dict[str, object]]:
    """Bits per letter of each model, with ever more levels of the bound."""
    return bits_rows(models, count, "limit", TO_THE_LIMIT)


def floor_rows(*_: object) -> list[dict[str, object]]:
    """Bits per letter without a network: packed by gzip and xz, and by n-grams."""
    train, test = novels("train"), novels("test")
    packed = {"gzip": gzip.compress(test.encode(), 9), "xz": lzma.compress(test.encode(), preset=9)}
    rows: list[dict[str, object]] = [
        {"part": "floor", "model": name, "mean": 8 * len(data) / len(test)} for name, data in packed.items()
    ]
    for n, bits in enumerate(grams_bits(train, test, MOST_GRAM), start=1):
        rows.append({"part": "floor", "model": f"{n}-gram", "mean": bits})
    return rows


def step_rows(models: dict[str, TextModel], count: int) -> list[dict[str, object]]:
    """The share of known words in `count` texts by the number of steps, and how surprising the twin finds them."""
    known = set(WORD.findall(novels("train") + " " + novels("test")))
    twin, rows = models["autoregressive"], []
    x = windows(twin, novels("test"), count)
    real = {"model": "Persuasion", "sampler": "", "steps": 0}
    drawn = [(real, twin.alphabet.decode(x))]
    for kind, sampler, all_steps in (
        ("masked", "ancestral", STEPS),
        ("masked", "most_certain_first", STEPS),
        ("uniform", "ancestral", STEPS),
        ("autoregressive", "ancestral", (128,)),
    ):
        for steps in all_steps:
            texts = models[kind].sample("", steps, seed=0, batch_size=count, sampler=sampler)
            drawn.append(({"model": kind, "sampler": sampler, "steps": steps}, texts))
    for about, texts in drawn:
        words, bits = words_of(texts, known), twin.bits(torch.stack([twin.alphabet.encode(one) for one in texts])).cpu()
        kinds = torch.tensor([float(len(set(WORD.findall(one)))) for one in texts])
        rows.append(
            {"part": "steps", **about, "n": count, "words": float(words.mean()), "words_error": mean(words)["error"],
             "twins_bits": float(bits.mean()), "bits_error": mean(bits)["error"], "distinct": float(kinds.mean())}
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def gap_rows(models: dict[str, TextModel], count: int) -> list[dict[str, object]]:
    """How often a hidden letter is guessed: with all others known, with many hidden, and by the twin, from the left."""
    masked, twin, rows = models["masked"], models["autoregressive"], []
    x = windows(masked, novels("test"), count)
    chain, draws = masked.chain, stream(0)
    for hidden in (1, 13, 64, 115):
        order = torch.rand(x.shape, generator=draws).argsort(1)
        at = order < hidden
        level = chain.level(hidden / masked.length)
        guess = masked.predict(torch.where(at, chain.kinds, x), level).argmax(-1).cpu()
        right = ((guess == x) & at).double().sum(1) / hidden
        rows.append({"part": "gaps", "model": "masked", "hidden": hidden, **mean(right)})
    right = (twin.predict(x, chain.level(0.0)).argmax(-1).cpu() == x).double().mean(1)
    rows.append({"part": "gaps", "model": "autoregressive", "hidden": 1, **mean(right)})
    print(rows, flush=True)
    return rows


MEASURERS = {"floor": floor_rows, "bits": bits_rows, "gaps": gap_rows, "steps": step_rows, "limit": limit_rows}
USUAL = [part for part in MEASURERS if part != "limit"]  # which needs a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(MEASURERS)}; by default all but limit")
    parser.add_argument("--windows", type=int, default=60, help="windows of the unseen novel")
    parser.add_argument("--texts", type=int, default=12, help="texts per number of steps")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    parts = arguments.parts or USUAL
    if unknown := set(parts) - set(MEASURERS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(MEASURERS)}")
    tried(parser, check_folder, MEASURED)
    models: dict[str, TextModel] = {}
    if set(parts) - {"floor"}:
        models = {kind: load_text(f"text_{kind}", choose_device(arguments.device)) for kind in KINDS}
    for part in parts:
        count = arguments.texts if part == "steps" else arguments.windows
        keep(part, MEASURERS[part](models, count), models)


def keep(part: str, rows: list[dict[str, object]], models: dict[str, TextModel]) -> None:
    """Put a part's rows into the study, in place of its old ones."""
    study = read_measured("text") if "text" in studies() else {"machine": {}, "weights": {}, "rows": []}
    study["machine"][part] = machine()
    study["weights"] |= {kind: checksum(shipped_weights()[f"text_{kind}"]) for kind in models}
    study["rows"] = [row for row in study["rows"] if row["part"] != part] + rows
    write_measured("text", study)


def checksum(path: Path) -> str:
    """The first 16 digits of the SHA-256 of a weight file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


if __name__ == "__main__":
    main()
