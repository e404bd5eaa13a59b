"""Check that a benchmark can write its results, before it measures for hours."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path


def tried(parser: ArgumentParser, check: Callable[[Path], Path], path: Path) -> Path:
    """Return check(path), for `files.check_folder` or `files.check_file`; its OSError ends the program with code 2."""
    try:
        return check(path)
    except OSError as error:
        parser.error(str(error))
