""" "The same in Python" for the page The plane: programs whose points are those of its panels."""

from diffusion_explained.schedules import SCHEDULES
from explorer import plane_training as sizes
from explorer.plane import DRAWN, OF_DATA, OF_DRAWING, WIDTH_OF_DATA, Drawing, Movement, strokes_of
from explorer.plane_training import INDEPENDENT, RECTIFIED, TRANSPORT, Lesson, independent

IMPORTS = {  # name -> the module that it is imported from
    "torch": "",
    "one_shot": "comparisons",
    "from_strokes": "data.toys",
    "gaussian_modes": "data.toys",
    "toy": "data.toys",
    "ExactDenoiser": "exact",
    "GaussianMixture": "exact",
    "tilted": "exact",
    "add_noise": "forward",
    "MLP": "models",
    "MLPConfig": "models",
    "randn": "noise",
    "seeded": "noise",
    "stream": "noise",
    "Start": "samplers",
    "euler": "samplers",
    "final": "samplers",
    "run": "samplers",
    "DDPMSchedule": "schedules",
    "EDMSchedule": "schedules",
    "FlowSchedule": "schedules",
    "TrainConfig": "training",
    "train": "training",
    "coupled": "training.coupling",
    "train_gan": "training.gan",
    "PairsConfig": "training.reflow",
    "draw_pairs": "training.reflow",
}


def with_imports(*parts: str) -> str:
    """The parts of a program, after the imports of the names that they use."""
    body = "\n\n".join(part.strip("\n") for part in parts if part)
    words = set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in body).split())
    modules: dict[str, list[str]] = {}
    for name, module in IMPORTS.items():
        if name in words and module:
            modules.setdefault(module, []).append(name)
    lines = [f"from diffusion_explained.{module} import {', '.join(names)}" for module, names in modules.items()]
    first = ["import torch", ""] if "torch" in words else []
    return "\n".join([*first, *lines, "", body])


def data(drawing: Drawing) -> str:
    """The data's distribution: mixture."""
    if drawing.modes is not None:
        made = "mixture = GaussianMixture(means, std, classes=range(len(means)))"
        return f"means, std = gaussian_modes({drawing.toy!r})\n{made}"
    if drawing.toy == DRAWN:
        points = f"strokes = {strokes_of(drawing.strokes)!r}\npoints, labels = from_strokes(strokes, {OF_DRAWING})"
    else:
        points = f"points, labels = toy({drawing.toy!r}, {OF_DATA})"
    return f"{points}\nmixture = GaussianMixture(points, {WIDTH_OF_DATA}, classes=labels)"


def start(movement: Movement) -> str:
    """The noise x_T [N, 2], the schedule and its levels."""
    schedule = SCHEDULES[movement.schedule].__qualname__
    return f"""schedule = {schedule}()
levels = schedule.levels({movement.steps})
generator = stream({movement.seed})
x_T = schedule.init_noise_sigma * randn(({movement.points}, 2), generator)"""


def sampling(movement: Movement, denoise: str, steps: str = "steps") -> str:
    """The run: its steps, and its final points x_0."""
    end = "x_0" if steps == "steps" else f"x_0_{steps.removesuffix('_steps')}"
    return f"""{denoise}
{steps} = list(run({movement.sampler!r}, denoise, Start(x_T, levels, generator)))
{end} = final({steps})"""


def exact(movement: Movement) -> str:
    """The exact denoiser of the run's points."""
    if movement.label is None:
        return "denoise = ExactDenoiser(mixture)"
    labels = f"torch.full((len(x_T),), {movement.label})"
    return f"denoise = ExactDenoiser(mixture, {labels}, guidance_scale={movement.guidance_scale})"


def learned(movement: Movement) -> str:
    """The network as the denoiser of the run's points, at the levels of any schedule."""
    labels = "None" if movement.label is None else f"[{movement.label}] * len(x_T)"
    return f"""network_denoiser = model.denoiser({labels}, guidance_scale={movement.guidance_scale})


def denoise(x_t, level):
    return one_shot(network_denoiser, model.schedule, x_t, level)


generator = stream({movement.seed})
randn(x_T.shape, generator)  # the noise that x_T consists of"""


def training(lesson: Lesson, model: str = "model") -> str:
    """The training of a network: model."""
    classes = lesson.data.num_classes if lesson.classes else None
    config = lesson.config()
    noise = "None"
    labels = "mixture.classes[component]" if lesson.classes else "None"
    pairs = ""
    if lesson.pairs == TRANSPORT:
        noise = "noise"
        pairs = (
            f"x_data = x_data[:{sizes.PAIRS}]\nnoise = coupled(randn(x_data.shape, stream({lesson.seed})), x_data)\n"
        )
    elif lesson.pairs == RECTIFIED:
        noise = "noise"
        pairs = f"""drawing = draw_pairs(
    teacher, PairsConfig({sizes.PAIRS}, num_inference_steps=16, batch_size={sizes.PAIRS}, seed={lesson.seed})
)
try:
    while True:
        next(drawing)
except StopIteration as end:
    x_data, noise = end.value.x_0.float(), end.value.noise.float()
"""
    before = training(independent(lesson), "teacher") + "\n\n" if lesson.pairs == RECTIFIED else ""
    return f"""{before}x_data, component = mixture.sample({sizes.EXAMPLES}, stream({lesson.seed}))
{pairs}network = seeded({lesson.seed}, lambda: MLP(MLPConfig(width={sizes.WIDTH}, num_classes={classes})))
config = TrainConfig(
    images={config.images}, batch_size={config.batch_size}, learning_rate={config.learning_rate},
    precision={config.precision!r}, seed={config.seed},
)
for record in train(
    network, x_data, {labels}, FlowSchedule(), "flow", config, noise={noise}, record_every={sizes.EVERY}
):
    print(record.step, record.loss)
{model} = record.model"""


def pairs(movement: Movement, lesson: Lesson) -> str:
    """The pairs of data and noise, and their lines: x_t [F, N, 2] at the levels of the run."""
    if lesson.pairs == INDEPENDENT:
        made = f"""eps = randn(({movement.points}, 2), stream({movement.seed}))
x_data, _ = mixture.sample({movement.points}, stream({movement.seed + 1}))"""
    else:
        made = f"x_data, eps = x_data[:{movement.points}], noise[:{movement.points}]"
    return f"{made}\nx_t = torch.stack([add_noise(x_data, eps, level) for level in levels])"
