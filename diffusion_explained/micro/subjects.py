"""A list of everything that micro was trained on: each subject with its synonyms, by group.

The package includes this whole list, but only a sample of the pictures.

    load_subjects()["animals"]["cat"]             # ("kitten", "kitty")

`write_subjects(load_emoji())` makes the file, from the names and keywords of emojibase-data (MIT).
"""

from __future__ import annotations

import json
from pathlib import Path

from diffusion_explained import data
from diffusion_explained.data.hub import DamagedDataError
from diffusion_explained.files import atomic_path, read_json
from diffusion_explained.micro.emoji import EmojiSet

SUBJECTS_FILE = Path(data.__file__).with_name("emoji_subjects.json")
Subjects = dict[str, dict[str, tuple[str, ...]]]


def write_subjects(emoji: EmojiSet, path: Path = SUBJECTS_FILE) -> Path:
    """Write the subjects of an emoji set, in alphabetical order."""
    groups: Subjects = {}
    for name, group, keywords in sorted(zip(emoji.names, emoji.groups, emoji.keywords, strict=True)):
        groups.setdefault(group, {})[name] = keywords
    with atomic_path(path) as part:
        part.write_text(json.dumps(groups, indent=1) + "\n", encoding="utf-8")
    return path


def load_subjects(path: Path = SUBJECTS_FILE) -> Subjects:
    """Load {group: {subject: its synonyms}}. Raises DamagedDataError, an OSError."""
    try:
        groups = read_json(path, "list of subjects")
        return {
            group: {name: tuple(map(str, synonyms)) for name, synonyms in names.items()}
            for group, names in groups.items()
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DamagedDataError(f"{path} is missing or damaged: {error}. Install the package again.") from error
