"""English for emoji: names that a person would type, plurals, articles, colour words, and held-out combinations."""

from __future__ import annotations

import re
import unicodedata

from diffusion_explained.checks import typed_arguments
from diffusion_explained.micro.emoji_set import hashed

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
NUMBERS = {2: "two", 3: "three", 4: "four"}
HELD_OUT_COLOURS = 0.08  # the share of all (colour, kind of thing) pairs that training never sees
# Chosen so that the course's examples, "blue cat", "purple apple" and "green dog", are among the held-out pairs,
# and "red cat", "green cat", "blue dog", "blue apple" and "blue car" are not.
SALT = 846
UNFIT = ("middle finger", "cigarette")

# Emojibase lists short names such as ":car:"; these are further words that people type.
EXTRA_KEYWORDS = {
    "cat": ("kitten", "kitty"),
    "dog": ("puppy",),
    "rabbit": ("bunny",),
    "rabbit face": ("bunny",),
    "sauropod": ("dinosaur",),
    "t-rex": ("dinosaur",),
    "deciduous tree": ("tree",),
    "evergreen tree": ("fir tree",),
    "blossom": ("flower",),
    "hibiscus": ("flower",),
    "bouquet": ("flowers",),
    "cherries": ("cherry",),
    "poultry leg": ("chicken leg",),
    "steaming bowl": ("noodles",),
    "hamburger": ("burger",),
    "soft ice cream": ("ice cream cone",),
    "shortcake": ("cake",),
    "glass of milk": ("milk",),
    "hot beverage": ("coffee", "cup of coffee"),
    "beer mug": ("beer",),
    "wine glass": ("wine",),
    "grinning face": ("happy face",),
    "crying face": ("sad face",),
    "loudly crying face": ("sobbing face",),
    "face with tears of joy": ("laughing face",),
    "smiling face with heart-eyes": ("love face",),
    "smiling face with sunglasses": ("cool face",),
    "child": ("kid",),
    "health worker": ("doctor",),
    "mage": ("wizard",),
    "automobile": ("car",),
    "airplane": ("plane",),
    "locomotive": ("steam train",),
    "sailboat": ("boat",),
    "full moon": ("moon",),
    "fire": ("flame",),
    "cloud with rain": ("rain",),
    "high voltage": ("lightning",),
    "wrapped gift": ("present",),
    "video game": ("game controller",),
    "mobile phone": ("phone", "smartphone"),
    "laptop": ("computer",),
    "television": ("tv",),
    "envelope": ("letter",),
    "magnifying glass tilted left": ("magnifying glass",),
    "magnifying glass tilted right": ("magnifying glass",),
    "money bag": ("money",),
    "top hat": ("hat",),
    "military helmet": ("helmet",),
    "handbag": ("bag",),
    "wastebasket": ("trash can",),
    "couch and lamp": ("sofa",),
}

# Emoji that are not pictures of things: letters, digits and words in a box, and the smaller versions of shapes that
# exist in several sizes.
UNDRAWABLE = re.compile(
    r"keycap|blood type|Japanese|input |button.*letter|^(CL|COOL|FREE|ID|NEW|NG|OK|P|SOS|UP!|VS) button|circled M"
    r"|(BACK|END|ON!|SOON|TOP) arrow|(medium|medium-small|small) (square|orange|blue)|small square|^small (orange|blue)"
    r"|^(family|kiss|couple with heart): |facing right|^flag: |hundred points|ZZZ|ATM sign"
)
PLURALS = {
    "man": "men", "woman": "women", "person": "people", "child": "children", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "fish": "fish", "sheep": "sheep", "deer": "deer", "leaf": "leaves",
    "wolf": "wolves", "knife": "knives", "scarf": "scarves", "merman": "mermen", "ox": "oxen", "potato": "potatoes",
    "tomato": "tomatoes", "mango": "mangoes", "blowfish": "blowfish", "jellyfish": "jellyfish",
    "swordfish": "swordfish", "octopus": "octopuses", "lotus": "lotuses", "hippopotamus": "hippopotamuses",
    "cactus": "cactuses", "bus": "buses", "trolleybus": "trolleybuses", "minibus": "minibuses",
    "superhero": "superheroes", "volcano": "volcanoes", "mosquito": "mosquitoes", "buffalo": "buffaloes",
    "bison": "bison", "moose": "moose", "squid": "squid", "shrimp": "shrimp",
}  # fmt: skip
THINGS_IN_ING_AND_ED = {"wing", "ring", "dumpling", "seedling", "building", "bed", "sled"}
UNCOUNTABLE = {
    "hair", "salt", "ice", "fog", "foggy", "milky way", "rice", "butter", "garlic", "broccoli", "bacon", "bread",
    "flatbread", "popcorn", "spaghetti", "sushi", "sake", "mate", "corn", "liquid", "wood", "food", "dizzy", "tennis",
    "lacrosse", "badminton", "hockey", "ping pong", "yarn", "thread", "dashing away", "star-struck", "high voltage",
    "soap", "mount fuji", "statue of liberty", "tokyo tower", "santa claus", "mrs claus", "mx claus", "done", "volume",
    "handball", "selfie", "nail polish", "kiss", "left", "right", "up", "down", "no", "ok", "construction", "luggage",
}  # fmt: skip
# short names that are rude, unclear or unsuitable for a course
UNWANTED = {
    "shit", "wtf", "lmao", "facepunch", "hankey", "man with gua pi mao", "man with chinese cap", "the horns", "mag",
    "mag right", "mega", "medium volumne", "gun", "handicapped", "moyai", "hocho", "sleuth or spy", "sassy man",
    "sassy woman", "upside down", "down",
}  # fmt: skip
AFTER_HEAD = re.compile(
    r" (?:with|of|in|on|without|at|and|wearing|from|blowing|holding|savoring|by|for|but|pointed|over|behind) "
)
ADJECTIVE_FACE = re.compile(r"(.+) face$")


@typed_arguments
def clean_name(label: str) -> str:
    """An emojibase label as a person would type it: lower-case ASCII, "man: bald" as "bald man".

    >>> clean_name("person: blond hair"), clean_name("black large square"), clean_name("woman’s hat")
    ('person with blond hair', 'black square', "woman's hat")
    """
    text = unicodedata.normalize("NFKD", label.replace("’", "'")).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"^(\w+): bald$", r"bald \1", text)
    text = re.sub(r"^(man|woman|person): ", r"\1 with ", text)
    text = re.sub(r"^large (?=orange|blue)| large(?= square)", "", text)
    return " ".join(re.sub(r"[^a-z0-9' -]", " ", text).split())


def is_drawable(label: str, group: str) -> bool:
    """Whether an emoji is kept: no component pieces, country flags, boxed letters, or families in 25 combinations.

    Two emoji that do not suit a class, those in UNFIT, are left out too.
    """
    return group != "components" and not UNDRAWABLE.search(label) and label not in UNFIT


def tidy_keyword(word: str) -> str:
    """A short name as words ("game_die" is "game die"), or "" if it is not English, unsuitable, or contains a colour.

    A colour in a short name may be wrong in one of the three sets, but every colour word in a caption must be true.
    """
    text = word.replace("_", " ").replace("-", " ").strip()
    english = re.fullmatch(r"[a-z]{3,}( [a-z]+)*", text) and not re.search(r"oclock|^lower left|mans ", text)
    return text if english and not colour_words(text) and text not in UNWANTED and len(text) <= 30 else ""


@typed_arguments
def colour_words(name: str) -> list[str]:
    """The colour words of a name, in order: ["red"] for "red heart"; "gray" is grey, "golden" is not a colour."""
    return [word for word in re.findall(r"[a-z]+", name.replace("gray", "grey")) if word in COLOURS]


@typed_arguments
def without_colour(name: str) -> str:
    """A name without its own colour: "heart" for "red heart" and for "light blue heart"."""
    words = [word for word in name.split() if word not in COLOURS]
    return " ".join(words[1:] if "light blue" in name else words)


@typed_arguments
def head(name: str) -> str:
    """The kind of thing that a name describes: "cat" for "crying cat" and "cat face", "house" for "house with garden".

    For a face that is not an animal's it is the feeling: "grinning" for "grinning face".
    """
    noun = AFTER_HEAD.split(without_colour(name))[0]
    face = ADJECTIVE_FACE.match(noun)
    words = (face[1] if face else noun).split()
    return words[-1] if words else name


def is_countable(name: str, group: str) -> bool:
    """Whether "two ..." and "a ..." are correct: a single thing whose name ends in (or begins with) its noun."""
    words = AFTER_HEAD.split(name)[0].split()
    noun = words[-1]
    plural = noun.endswith("s") and not noun.endswith(("ss", "us", "os")) and noun not in PLURALS
    verb = noun.endswith(("ing", "ed")) and noun not in THINGS_IN_ING_AND_ED
    counted = words[0] in {*NUMBERS.values(), "clapping", "raising", "folded"} or "o'clock" in words
    uncountable = noun in UNCOUNTABLE or name in UNCOUNTABLE
    return group not in {"symbols", "flags"} and not (plural or verb or counted or uncountable)


@typed_arguments
def plural(name: str) -> str:
    """The plural of a name: "cats", "cherry blossoms", "houses with garden", "men".

    >>> plural("house with garden"), plural("butterfly"), plural("fox"), plural("policewoman")
    ('houses with garden', 'butterflies', 'foxes', 'policewomen')
    """
    rest = AFTER_HEAD.search(name)
    before, after = (name[: rest.start()], name[rest.start() :]) if rest else (name, "")
    *adjectives, noun = before.split(" ")
    if noun in PLURALS:
        noun = PLURALS[noun]
    elif noun.endswith("man"):
        noun = noun[:-2] + "en"
    elif re.search(r"[^aeiou]y$", noun):
        noun = noun[:-1] + "ies"
    else:
        noun += "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return " ".join([*adjectives, noun]) + after


@typed_arguments
def with_article(phrase: str) -> str:
    """A phrase with its indefinite article: "a cat", "an apple", "an orange cat", "a unicorn", "an hourglass"."""
    vowel = phrase[0] in "aeiou" and not re.match(r"(uni|use|ufo|euro|one|ewe)", phrase)
    return ("an " if vowel or phrase.startswith(("hour", "x-ray", "mri")) else "a ") + phrase


@typed_arguments
def is_held_out_colour(colour: str, name: str) -> bool:
    """Whether this colour of this kind of thing is held out from training. A hash of both decides, so all sets agree.

    The kind is the `head` of the name, so that if "blue cat" is held out, "blue crying cat" is held out too.
    """
    return hashed(f"{SALT}: {colour} {head(name)}") < HELD_OUT_COLOURS
