"""Figures for the notebooks and the explorer: every function draws one figure and returns a matplotlib Figure.

In a notebook, call a function and then `plt.show()`; elsewhere `png(fig)` returns the figure as a PNG file.
`alt_text(fig)` describes in words what a figure shows; a notebook shows the text with the figure. The colours are in
`palette`. In a Jupyter kernel, importing this package sets matplotlib's defaults and its inline backend.

| module      | draws                                                                                   |
|-------------|-----------------------------------------------------------------------------------------|
| `notebook`  | how a figure appears in a notebook: its alt text, whatever the reader's environment     |
| `style`     | what all plots share: an empty figure, the style of axes, legends, alt text, PNG files  |
| `words`     | the sentences of alt texts: curves, points and tables with their numbers                |
| `images`    | grids and films of images, schedules, losses, comparisons of samplers, guidance scales  |
| `points`    | two-dimensional data: densities, trajectories, vector fields                            |
| `point_films` | runs in the plane as films of points, which a browser draws                           |
| `text_films` | runs of text models, letter by letter                                                  |
| `beyond_films` | clips of a video and clouds of points, step by step                                  |
| `lines`     | curves and panels of points, for the course's measurements                              |
| `measured`  | the measurements of the benchmarks                                                      |
| `inside`    | features and attention inside a network                                                 |
| `attention` | the words of a prompt, each as an attention map over the image                          |
| `latent`    | figures that only latent diffusion needs                                                |
"""

from diffusion_explained.plots.attention import word_maps
from diffusion_explained.plots.beyond_films import clip_film, cloud_film, cloud_sheet, frame_film
from diffusion_explained.plots.images import (
    QUANTITIES,
    filmstrip,
    guidance_sweep,
    image_grid,
    loss_curve,
    path_levels,
    pixel_histogram,
    sampler_race,
    schedule_curves,
    step_table,
)
from diffusion_explained.plots.inside import (
    attention_panels,
    heat_panels,
    map_rows,
    shape_diagram,
    similarity_panels,
    token_panels,
)
from diffusion_explained.plots.latent import (
    latent_strip,
    norm_panels,
    poke_panels,
    reach_map,
    token_chips,
    walked_levels,
    work_dots,
)
from diffusion_explained.plots.lines import curves, point_panels
from diffusion_explained.plots.measured import (
    PANELS,
    case_panels,
    exponent,
    extrapolation,
    guidance_panels,
    line_of,
    neighbour_curves,
    quality_curves,
    scaling_panels,
)
from diffusion_explained.plots.notebook import ignore_environment
from diffusion_explained.plots.points import (
    density,
    density_panels,
    plane,
    trajectories,
    trajectory_panels,
    vector_field,
)
from diffusion_explained.plots.style import alt_text, dress, figure, legend, legend_below, png
from diffusion_explained.plots.text_films import text_film

__all__ = [
    "PANELS",
    "QUANTITIES",
    "alt_text",
    "attention_panels",
    "case_panels",
    "clip_film",
    "cloud_film",
    "cloud_sheet",
    "curves",
    "density",
    "density_panels",
    "dress",
    "exponent",
    "extrapolation",
    "figure",
    "filmstrip",
    "frame_film",
    "guidance_panels",
    "guidance_sweep",
    "heat_panels",
    "image_grid",
    "latent_strip",
    "legend",
    "legend_below",
    "line_of",
    "loss_curve",
    "map_rows",
    "neighbour_curves",
    "norm_panels",
    "path_levels",
    "pixel_histogram",
    "plane",
    "png",
    "point_panels",
    "poke_panels",
    "quality_curves",
    "reach_map",
    "sampler_race",
    "scaling_panels",
    "schedule_curves",
    "shape_diagram",
    "similarity_panels",
    "step_table",
    "text_film",
    "token_chips",
    "token_panels",
    "trajectories",
    "trajectory_panels",
    "vector_field",
    "walked_levels",
    "word_maps",
    "work_dots",
]

ignore_environment()
