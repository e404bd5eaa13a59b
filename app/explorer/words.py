"""Words of outsiders (an address, a file, an error, a prompt) as Markdown that shows them and does nothing else."""

import re
import unicodedata

CUT = 40  # letters of a value that are repeated in a note
JOINERS = "\u200c\u200d"  # which hold emoji and letters of some scripts together


def literal(text: str) -> str:
    """Words as they are, line by line."""
    lines = "".join(letter if letter == "\n" else visible(letter) for letter in text)
    inline = re.sub(r"([\\`*_{}\[\]<>#$~|:!&])", r"\\\1", lines)
    at_begin = re.sub(r"(?m)^(\s*\d*)([-+=.)])(?=[\s=-]|$)", r"\1\\\2", inline)  # which would make a list or a heading
    return at_begin.replace("\n", "  \n")


def quoted(text: str, most: int = CUT) -> str:
    """Words as a code span, letter by letter and cut: neither a link nor a formula is read into them."""
    shown = "".join(map(visible, text[:most])) + ("…" if len(text) > most else "")
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if len(fence) > 1 or not shown.strip() else f"{fence}{shown}{fence}"


def visible(letter: str) -> str:
    """A letter, or the number of one that would not be seen, or would turn others around."""
    unseen = (unicodedata.category(letter)[0] == "C" and letter not in JOINERS) or letter in "\u2028\u2029"
    return f"\\u{ord(letter):04x}" if unseen else letter
