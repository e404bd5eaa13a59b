"""Build an emoji set from npm packages: choose the subjects and their names, and rasterise their SVGs."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion_explained.extras import extra
from diffusion_explained.files import atomic_path
from diffusion_explained.micro.emoji_set import SIZE, STYLES, EmojiSet, write_emoji
from diffusion_explained.micro.npm_registry import EMOJIBASE, FLUENT, NOTO, TWEMOJI, NpmPackage, read_members
from diffusion_explained.micro.words import EXTRA_KEYWORDS, clean_name, is_drawable, tidy_keyword

GLYPH = 112  # pixels of the longer side of a drawing; the remaining 8 on either side are a border
RENDER = 768  # pixels at which an SVG is drawn before it is averaged down, which is smoother than drawing it small
GROUPS = ("smileys", "people", "components", "animals", "food", "travel", "activities", "objects", "symbols", "flags")
KEYWORD_LISTS = ("github", "emojibase", "iamcal", "joypixels")  # emojibase's lists of short names, e.g. ":car:"
SHARED_KEYWORD = 2  # a keyword of more subjects than this is dropped


def build_emoji(path: Path) -> EmojiSet:
    """Fetch the packages, draw every picture, and write the set to `path` and its manifest (JSON) beside it."""
    subjects = read_subjects()
    svgs = {"fluent": iconify_svgs(FLUENT), "noto": iconify_svgs(NOTO), "twemoji": twemoji_svgs()}
    packages = {"fluent": FLUENT, "noto": NOTO, "twemoji": TWEMOJI}
    images, subject, style, manifest = [], [], [], []
    kept = [code for code in subjects if any(code in svgs[name] for name in STYLES)]
    for i, code in enumerate(kept):
        for s, name in enumerate(STYLES):
            if code in svgs[name]:
                images.append(torch.from_numpy(rasterise(svgs[name][code])))
                subject.append(i)
                style.append(s)
                package = packages[name]
                manifest.append(
                    {
                        "name": subjects[code][0],
                        "style": name,
                        "code_points": code,
                        "package": f"{package.name}@{package.version}",
                        "licence": package.licence,
                        "credit": package.credit,
                    }
                )
    emoji = EmojiSet(
        torch.stack(images),
        torch.tensor(subject, dtype=torch.int64, device="cpu"),
        torch.tensor(style, dtype=torch.int64, device="cpu"),
        names=tuple(subjects[code][0] for code in kept),
        keywords=tuple(subjects[code][1] for code in kept),
        groups=tuple(subjects[code][2] for code in kept),
    )
    write_emoji(path, emoji)
    with atomic_path(path.with_suffix(".manifest.json")) as part:
        part.write_text(json.dumps(manifest, indent=0))
    return emoji


def read_subjects() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """{code points: (name, keywords, group)} of the subjects that are kept, in the order of emojibase.

    Skin tones (which are not separate entries there) and subjects for which `is_drawable` is False are left out.

    Raises ValueError if two subjects have one name.
    """
    files = read_members(EMOJIBASE, ".json")
    entries = json.loads(files["en/data.json"])
    lists = [json.loads(files[f"en/shortcodes/{name}.json"]) for name in KEYWORD_LISTS]
    found = {}
    for entry in entries:
        group = GROUPS[entry["group"]] if "group" in entry else "components"
        if is_drawable(entry["label"], group):
            words = [word for names in lists for word in as_list(names.get(entry["hexcode"], []))]
            found[normal_code(entry["hexcode"])] = (clean_name(entry["label"]), words, group)
    names = {name for name, _, _ in found.values()}
    if len(names) != len(found):
        raise ValueError(f"two subjects have one name: {Counter(n for n, _, _ in found.values()).most_common(3)}")
    for code, (name, words, group) in found.items():
        keywords = dict.fromkeys([*EXTRA_KEYWORDS.get(name, ()), *map(tidy_keyword, words)])
        found[code] = (name, [word for word in keywords if word and word not in names], group)
    uses = Counter(word for _, words, _ in found.values() for word in words)
    return {
        code: (name, tuple(word for word in words if uses[word] <= SHARED_KEYWORD), group)
        for code, (name, words, group) in found.items()
    }


def as_list(value: str | list[str]) -> list[str]:
    """A list of strings from emojibase, which writes a list of one item as the item itself."""
    return [value] if isinstance(value, str) else value


def normal_code(code: str) -> str:
    """Code points in a form common to the three sets: lower case, no leading zeros, no variation selector (FE0F)."""
    return "-".join(part.lstrip("0") for part in code.lower().split("-") if part != "fe0f")


def iconify_svgs(package: NpmPackage) -> dict[str, str]:
    """{code points: SVG} of an icon set in Iconify's format (https://iconify.design/docs/types/iconify-json.html)."""
    files = read_members(package, ".json")
    icons, codes = json.loads(files["icons.json"]), json.loads(files["chars.json"])
    svgs = {}
    for code, name in codes.items():
        alias = icons["aliases"].get(name, {})
        icon = icons["icons"][alias.get("parent", name)]
        width, height = icon.get("width", icons["width"]), icon.get("height", icons.get("height", icons["width"]))
        mirrored = f'<g transform="translate({width} 0) scale(-1 1)">{icon["body"]}</g>'
        body = mirrored if alias.get("hFlip") else icon["body"]
        svgs[normal_code(code)] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{body}</svg>'
        )
    return svgs


def twemoji_svgs() -> dict[str, str]:
    """{code points: SVG} of Twemoji, which has one file per emoji."""
    return {normal_code(Path(name).stem): svg.decode() for name, svg in read_members(TWEMOJI, ".svg").items()}


def rasterise(svg: str) -> np.ndarray:
    """Rasterise an SVG: uint8 [4, 128, 128], straight alpha, cropped to the drawing, centred, longer side GLYPH.

    Because of the cropping, "in the middle" and "at the left" hold for the drawing itself, whatever its set's margin.

    Raises ValueError for an SVG that draws nothing.
    """
    with extra("train"):
        from resvg_py import svg_to_bytes

    with Image.open(io.BytesIO(svg_to_bytes(svg_string=svg, width=RENDER, height=RENDER))) as drawn:
        large = drawn.convert("RGBA")
    box = large.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"nothing is drawn by the SVG {svg[:200]} ...")
    large = large.crop(box)
    scale = GLYPH / max(large.size)
    small = large.resize([max(1, round(side * scale)) for side in large.size], Image.Resampling.BOX)  # area average
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return np.asarray(canvas).transpose(2, 0, 1).copy()
