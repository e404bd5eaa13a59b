"""The captions of the micro model's measurements: the same on every machine, chosen by hashes."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_explained.micro.emoji import STYLES, EmojiSet, hashed
from diffusion_explained.micro.fidelity import colour_shares
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.scenes import LAYOUTS, SceneSampler, composable, held_out_pairs, plain_caption
from diffusion_explained.micro.words import COLOURS, colour_words, is_held_out_colour, with_article

ASKED = tuple(colour for colour in COLOURS if colour != "white")  # white pixels cannot be seen on a white background
MOSTLY = 0.6  # the least share of pixels for an emoji to count as of one colour
LEAST_WORDS = 5


@dataclasses.dataclass(frozen=True)
class Combination:
    """A caption that joins a subject with a word: a colour (index into COLOURS), or a style (into STYLES).

    picture: the emoji of that subject in that style, for a style.
    """

    caption: str
    subject: int
    word: int
    picture: int = -1


def shuffled(items: list, key: Callable[[object], str], most: int) -> list:
    """The first `most` items in the order of their keys' hashes."""
    return sorted(items, key=lambda item: hashed(f"measured {key(item)}"))[:most]


def drawn_subjects(emoji: EmojiSet) -> list[int]:
    """The subjects in training: those with a picture that is not held out."""
    return emoji.subject[~emoji.held_out].unique().tolist()


def things(emoji: EmojiSet) -> list[int]:
    """The subjects that training recolours, counts and places, without those that have a colour in their name."""
    drawn = set(drawn_subjects(emoji))
    return [subject for subject in composable(emoji) if subject in drawn and not colour_words(emoji.names[subject])]


def plain_names(emoji: EmojiSet, most: int) -> Tensor:
    """Subjects, int64 [n], whose names serve as captions."""
    return torch.tensor(shuffled(drawn_subjects(emoji), lambda subject: emoji.names[subject], most))


def colour_pairs(emoji: EmojiSet, most: int, held_out: bool) -> list[Combination]:
    """ "a blue cat": pairs of colour and subject that training never contained (held_out), or did contain."""
    never = set(held_out_pairs(emoji))
    found = [
        Combination(with_article(f"{colour} {emoji.names[subject]}"), subject, COLOURS.index(colour))
        for subject in things(emoji)
        for colour in ASKED
        if ((colour, subject) in never if held_out else not is_held_out_colour(colour, emoji.names[subject]))
    ]
    return shuffled(found, lambda pair: pair.caption, most)


def style_pairs(emoji: EmojiSet, most: int, held_out: bool) -> list[Combination]:
    """ "cat, noto style": subject and style of the held-out pictures (held_out), or of the others."""
    found = []
    for picture in (emoji.held_out == held_out).nonzero().flatten().tolist():
        subject, style = int(emoji.subject[picture]), int(emoji.style[picture])
        found.append(Combination(plain_caption(emoji, subject, STYLES[style]), subject, style, picture))
    return shuffled(found, lambda pair: pair.caption, most)


def pairs_of_things(emoji: EmojiSet, most: int) -> tuple[Tensor, Tensor]:
    """Pairs of two different things, int64 [n] and [n]."""
    one = shuffled(things(emoji), lambda i: f"first {emoji.names[i]}", most)
    other = one[1:] + one[:1]
    return torch.tensor(one), torch.tensor(other)


def natural_colours(emoji: EmojiSet, most: int) -> tuple[Tensor, Tensor]:
    """Things that are mostly of one colour in every style, with no colour in their name: things and colours, int64 "
    "[n]."""
    chosen = shuffled(things(emoji), lambda i: f"natural {emoji.names[i]}", 8 * most)
    subjects, colours = [], []
    for subject in chosen:
        shares = colour_shares(on_white(emoji.images[(emoji.subject == subject) & ~emoji.held_out])).min(dim=0).values
        if float(shares.max()) >= MOSTLY and COLOURS[int(shares.argmax())] in ASKED:
            subjects.append(subject)
            colours.append(int(shares.argmax()))
    return torch.tensor(subjects[:most]), torch.tensor(colours[:most])


@dataclasses.dataclass(frozen=True)
class Counted:
    """Things to count: subjects int64 [n], and their names."""

    subjects: Tensor
    names: list[str]

    def real(self, draw: Callable[..., Tensor], sprites: Tensor, number: int) -> Tensor:
        """Pictures of `number` copies of each of the emoji [n], placed as in training; `draw(sprite, place=)` draws "
        "them."""
        size, centres = LAYOUTS[number][0]
        place = torch.tensor([[x, y, size, 0.0] for x, y in centres])
        return draw(sprites[:, None].expand(-1, number), place=place.expand(len(sprites), number, 4))


def counts(emoji: EmojiSet, most: int) -> Counted:
    """Things to draw one, two or three times."""
    subjects = shuffled(things(emoji), lambda i: f"counted {emoji.names[i]}", most)
    return Counted(torch.tensor(subjects), [emoji.names[i] for i in subjects])


@dataclasses.dataclass(frozen=True)
class Cut:
    """A caption without one of its words: which caption, the word's place in it (the first is 1), and its kind."""

    caption: str
    owner: int
    place: int
    kind: str


def leave_one_out(emoji: EmojiSet, most: int) -> tuple[list[str], list[Cut]]:
    """Long captions as in training, and every version of them without one word."""
    sampler, whole = SceneSampler(emoji, "train", seed=1), {}
    for start in range(0, 100 * most, most):
        found = sampler.batch(range(start, start + most)).captions
        whole |= dict.fromkeys(caption for caption in found if len(caption.split()) >= LEAST_WORDS)
        if len(whole) >= most:
            break
    captions = list(whole)[:most]
    subjects, cuts = {word for name in emoji.names for word in name.split()}, []
    for owner, caption in enumerate(captions):
        words = caption.split()
        for i, word in enumerate(words):
            shorter = " ".join(words[:i] + words[i + 1 :])
            cuts.append(Cut(shorter, owner, i + 1, kind_of(word.strip(","), subjects)))
    return captions, cuts


def kind_of(word: str, subjects: set[str]) -> str:
    """ "colour", "style", "article", "place", "subject" or "other"."""
    kinds = {
        "colour": COLOURS,
        "style": (*STYLES, "style"),
        "article": ("a", "an", "the"),
        "place": ("on", "left", "right", "of", "top", "bottom", "above", "below", "under", "in", "and"),
        "subject": subjects,
    }
    return next((kind for kind, words in kinds.items() if word in words), "other")
