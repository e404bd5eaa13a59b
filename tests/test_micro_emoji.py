"""The emoji set: what the sample holds, its held-out pictures, and every way in which a file or a download is wrong."""

import base64
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import torch

from diffusion_explained.data import DamagedDataError, DataUnavailableError, cache_folder
from diffusion_explained.micro import emoji, emoji_building, npm_registry
from diffusion_explained.micro.emoji import HELD_OUT, SAMPLE_FILE, STYLES, load_emoji, load_emoji_sample, write_emoji
from diffusion_explained.micro.words import clean_name, head, is_countable, plural, with_article


@pytest.fixture(scope="module")
def sample():
    return load_emoji_sample()


def test_the_sample_has_every_subject_in_every_style(sample):
    assert sample.images.shape == (462, 4, 128, 128) and sample.images.dtype == torch.uint8
    assert len(set(sample.names)) == len(sample.names) == len(sample.keywords) == len(sample.groups) == 154
    pairs = set(zip(sample.subject.tolist(), sample.style.tolist(), strict=True))
    assert pairs == {(subject, style) for subject in range(154) for style in range(len(STYLES))}
    assert all(name.isascii() and name == name.lower() for name in sample.names)
    assert {"cat", "red heart", "rocket", "crying cat", "house with garden"} <= set(sample.names)
    assert "car" in sample.keywords[sample.names.index("automobile")]


def test_every_drawing_is_centred_and_112_pixels_long(sample):
    for image in sample.images:
        rows, columns = (torch.nonzero(image[3].amax(dim).gt(0))[:, 0] for dim in (1, 0))
        height, width = (int(line[-1] - line[0] + 1) for line in (rows, columns))
        assert 110 <= max(height, width) <= 112  # the outermost pixels can be too faint for a byte
        assert abs(int(rows[0] + rows[-1]) - 127) <= 3 and abs(int(columns[0] + columns[-1]) - 127) <= 3


def test_a_held_out_picture_has_its_subject_in_two_other_styles(sample):
    held_out = sample.held_out
    assert held_out.dtype == torch.bool and held_out.shape == sample.subject.shape
    assert 0.5 * HELD_OUT < held_out.float().mean() < 1.5 * HELD_OUT
    left = torch.bincount(sample.subject[~held_out], minlength=len(sample.names))
    assert int(left.min()) == len(STYLES) - 1
    one_style = replace(sample, style=torch.zeros_like(sample.style))  # nothing else to learn the subject from
    assert not replace(one_style, subject=torch.arange(len(sample)), names=sample.names * 3).held_out.any()


def test_a_set_reads_back_as_it_was_written(sample, tmp_path):
    some = replace(sample, images=sample.images[:6], subject=sample.subject[:6], style=sample.style[:6])
    write_emoji(tmp_path / "some.safetensors", some)
    again = emoji.read_emoji(tmp_path / "some.safetensors", "")
    assert torch.equal(again.images, some.images) and torch.equal(again.style, some.style)
    assert (again.names, again.keywords, again.groups) == (some.names, some.keywords, some.groups)


@pytest.mark.parametrize("damage", [lambda b: b[:-5000], lambda b: b[:-5] + b"wrong", lambda b: b"", lambda b: b[::-1]])
def test_a_damaged_sample_says_so_and_what_to_do(damage, tmp_path, monkeypatch):
    path = tmp_path / "sample.safetensors"
    path.write_bytes(damage(SAMPLE_FILE.read_bytes()))
    monkeypatch.setattr(emoji, "SAMPLE_FILE", path)
    with pytest.raises(DamagedDataError, match=r"sample\.safetensors is damaged: .*Install the package again"):
        load_emoji_sample()


def test_without_the_set_the_error_names_three_ways_out(bare_machine):
    with pytest.raises(DataUnavailableError, match=r"download=True(.|\n)*copy the file(.|\n)*load_emoji_sample"):
        load_emoji()


# a registry of three drawings, which stands in for npm's

SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#f00" d="M8 8h16v16H8z"/></svg>'
CODES = {"1F431": ("cat face", 3), "2764-FE0F": ("red heart", 0), "1F1E9-1F1EA": ("flag: Germany", 9)}


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def simulated_registry(bare_machine, monkeypatch):
    """Answers for the four packages, pinned to what it answers: {url: bytes}, to be damaged at will."""
    icons = {
        "width": 32,
        "icons": {"cat-face": {"body": '<path d="M0 0h8v8H0z"/>'}, "red-heart": {"body": '<path d="M0 0h8v8H0z"/>'}},
        "aliases": {"flag": {"parent": "cat-face", "hFlip": True}},
    }
    chars = {"1f431": "cat-face", "2764": "red-heart", "1f1e9-1f1ea": "flag"}
    iconify = {"icons.json": json.dumps(icons), "chars.json": json.dumps(chars)}
    entries = [{"hexcode": code, "label": label, "group": group} for code, (label, group) in CODES.items()]
    shortcodes = {f"en/shortcodes/{name}.json": json.dumps({"1F431": ["cat", "kitty_face"]}) for name in
                  emoji_building.KEYWORD_LISTS}  # fmt: skip
    contents = {
        "FLUENT": iconify,
        "NOTO": iconify,
        "TWEMOJI": {"1f431.svg": SQUARE, "2764.svg": SQUARE},
        "EMOJIBASE": {"en/data.json": json.dumps(entries), **shortcodes},
    }
    answers = {}
    for name, files in contents.items():
        content = archive(files)
        pin = base64.b64encode(hashlib.sha512(content).digest()).decode()
        package = replace(getattr(npm_registry, name), sha512=pin)
        monkeypatch.setattr(emoji_building, name, package)
        answers[package.url] = content

    def urlopen(url, timeout):
        if answers[url] is None:
            raise urllib.error.URLError("no network")
        return io.BytesIO(answers[url])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return answers


def test_the_set_is_built_from_the_packages_with_a_manifest(simulated_registry, monkeypatch):
    monkeypatch.setattr(
        emoji_building, "rasterise", lambda svg: torch.full((4, 128, 128), len(svg), dtype=torch.uint8).numpy()
    )
    built = load_emoji(download=True)
    assert built.names == ("cat face", "red heart")  # no flag
    assert built.subject.tolist() == [0, 0, 0, 1, 1, 1] and built.style.tolist() == [0, 1, 2] * 2
    assert built.keywords == (("cat", "kitty face"), ()) and built.groups == ("animals", "smileys")
    manifest = json.loads(emoji.emoji_file().with_suffix(".manifest.json").read_text())
    assert manifest[2] == {
        "name": "cat face",
        "style": "twemoji",
        "code_points": "1f431",
        "package": "@twemoji/svg@15.0.0",
        "licence": "CC-BY-4.0",
        "credit": npm_registry.TWEMOJI.credit,
    }
    simulated_registry.clear()  # the second time nothing is fetched
    assert torch.equal(load_emoji().images, built.images)


@pytest.mark.parametrize("name", ["FLUENT", "EMOJIBASE"])
def test_a_package_that_is_not_the_pinned_one_is_refused_and_not_kept(simulated_registry, name):
    package = getattr(emoji_building, name)
    simulated_registry[package.url] = simulated_registry[package.url] + b"more"
    with pytest.raises(DamagedDataError, match=rf"{package.name} {package.version}: .* expected sha512-.*Try again"):
        load_emoji(download=True)
    assert not (cache_folder() / "npm" / package.filename).exists() and not emoji.emoji_file().exists()


def test_a_package_cut_short_in_the_cache_names_the_file_to_delete(simulated_registry):
    package = emoji_building.EMOJIBASE
    kept = cache_folder() / "npm" / package.filename
    kept.parent.mkdir(parents=True)
    kept.write_bytes(simulated_registry[package.url][:-10])
    with pytest.raises(DamagedDataError, match=rf"{package.filename} is not .*Delete it"):
        load_emoji(download=True)


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(simulated_registry):
    simulated_registry[emoji_building.EMOJIBASE.url] = None
    with pytest.raises(DataUnavailableError, match=r"emojibase-data 17\.0\.0 cannot be fetched(.|\n)*curl -o "):
        load_emoji(download=True)


def test_the_pins_are_full_sha512_sums_and_the_addresses_npms():
    assert [len(base64.b64decode(package.sha512)) for package in npm_registry.PACKAGES] == [64] * 4
    assert npm_registry.TWEMOJI.url == "https://registry.npmjs.org/@twemoji/svg/-/svg-15.0.0.tgz"


def test_rasterising_crops_to_the_drawing_and_centres_it():
    image = emoji_building.rasterise(SQUARE)
    assert image.shape == (4, 128, 128)
    assert image[:, 8:120, 8:120].min(axis=(1, 2)).tolist() == [255, 0, 0, 255]
    assert image[3].sum() == 112 * 112 * 255


def test_a_mirrored_icon_is_its_parent_turned_over(simulated_registry):
    assert "scale(-1 1)" in emoji_building.iconify_svgs(emoji_building.FLUENT)["1f1e9-1f1ea"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("person: blond hair", "person with blond hair"),
        ("man: bald", "bald man"),
        ("black large square", "black square"),
        ("large blue diamond", "blue diamond"),
        ("piñata", "pinata"),
        ("woman’s hat", "woman's hat"),
        ("T-Rex", "t-rex"),
    ],
)
def test_names_are_as_a_person_types_them(label, name):
    assert clean_name(label) == name


@pytest.mark.parametrize(
    ("one", "several"),
    [("cat", "cats"), ("fox", "foxes"), ("butterfly", "butterflies"), ("monkey", "monkeys"), ("snowman", "snowmen"),
     ("house with garden", "houses with garden"), ("blue bus", "blue buses"), ("person", "people")],
)  # fmt: skip
def test_plurals(one, several):
    assert plural(one) == several


def test_articles_and_what_can_be_counted():
    assert [with_article(word) for word in ("cat", "apple", "unicorn", "hourglass")] == [
        "a cat", "an apple", "a unicorn", "an hourglass",
    ]  # fmt: skip
    countable = [("cat", "animals"), ("wing", "animals"), ("octopus", "animals"), ("bed", "objects")]
    uncountable = [("scissors", "objects"), ("fog", "travel"), ("person running", "people"), ("red square", "symbols")]
    assert all(is_countable(*of) for of in countable) and not any(is_countable(*of) for of in uncountable)


def test_the_kind_of_thing_a_name_says():
    heads = {
        "crying cat": "cat", "cat face": "cat", "black cat": "cat", "grinning face": "grinning", "red apple": "apple",
        "house with garden": "house", "light blue heart": "heart",
    }  # fmt: skip
    assert {name: head(name) for name in heads} == heads
