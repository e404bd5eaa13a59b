"""Where a benchmark writes is tried before it measures for hours."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path


def tried(parser: ArgumentParser, check: Callable[[Path], Path], path: Path) -> Path:
    """The path after `files.check_folder` or `files.check_file`; a refusal ends the program with exit code 2."""
    try:
        return check(path)
    except OSError as error:
        parser.error(str(error))
