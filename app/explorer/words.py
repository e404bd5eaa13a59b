"""Show foreign text (of an address, a file, an error, a prompt) literally in Markdown, without any effect."""

import re
import unicodedata

CUT = 40  # the most letters of a value that a note repeats
JOINERS = "\u200c\u200d"  # these join emoji, and letters of some scripts


def literal(text: str) -> str:
    """The text in Markdown that shows every letter as it is, line by line."""
    lines = "".join(letter if letter == "\n" else visible(letter) for letter in text)
    inline = re.sub(r"([\\`*_{}\[\]<>#$~|:!&])", r"\\\1", lines)
    at_begin = re.sub(
        r"(?m)^(\s*\d*)([-+=.)])(?=[\s=-]|$)", r"\1\\\2", inline
    )  # they would otherwise start a list or a heading
    return at_begin.replace("\n", "  \n")


def quoted(text: str, most: int = CUT) -> str:
    """The text as a Markdown code span, cut after `most` letters; no link or formula is recognised in it."""
    shown = "".join(map(visible, text[:most])) + ("…" if len(text) > most else "")
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if len(fence) > 1 or not shown.strip() else f"{fence}{shown}{fence}"


def visible(letter: str) -> str:
    """The letter, or its code (\\uXXXX) if it is invisible or would change the direction of others."""
    unseen = (unicodedata.category(letter)[0] == "C" and letter not in JOINERS) or letter in "\u2028\u2029"
    return f"\\u{ord(letter):04x}" if unseen else letter
