"""Beyond images: other kinds of data, drawn from noise by the same samplers as digits.

| module             | holds                                                                              |
|--------------------|------------------------------------------------------------------------------------|
| `kinds`            | `Kind`: what a kind of data must say; `measured`: samples beside real data, chance |
| `shelf`            | the kinds that there are, and `load_beyond`                                        |
| `sound`            | ten spoken words, and a classifier that names what is heard                         |
| `spectrograms`     | a second of sound as a log-mel spectrogram, and back by Griffin-Lim; WAV files      |
| `video`, `clips`   | moving digits; a first frame continued, attention over time                        |
| `shapes`           | point clouds, and how two sets of them are compared                                |
| `part_films`       | the runs as films for a browser: clips play, sounds are heard, clouds are turned    |
| `molecules`        | small molecules without their hydrogens, and what of them is valid, new and asked for |
| `bonds`, `sdf`     | bonds from the distances of atoms; SDF files, and names by RDKit                   |
| `balls_and_sticks` | molecules as a figure                                                               |
| `training`         | the training of a kind's network, from a recipe of recipes/beyond/                 |
"""

from typing import TYPE_CHECKING

from diffusion_explained.beyond.kinds import Data, Kind, measured
from diffusion_explained.beyond.shelf import KINDS, kind_of, load_beyond
from diffusion_explained.extras import modules_at_first_use

__all__ = ["KINDS", "Data", "Kind", "kind_of", "load_beyond", "measured"]

if not TYPE_CHECKING:  # a type checker finds the modules itself, and tells a name that does not exist
    __getattr__ = modules_at_first_use(__name__, __path__)
