"""Are CIFAR-10 samples copies? How far each is from its nearest training image, in pixels and in features.

    python benchmarks/memorisation.py --device cuda           # 10,000 images per row; diffusion_explained/measured/
    python benchmarks/memorisation.py --n 500                 # on a CPU; mostly for the features of 50,000 images

The samples are compared with unseen real images, which are no copies, and with training images that were mirrored or
moved by a pixel, which are copies: a useful measure distinguishes the two. A row that exists already, for the same
weights, settings and number of images, is not measured again.
"""

import argparse

import torch
from places import tried
from quality import EPS, FINE, FLOW, RECTIFIED, weights_of
from side_by_side import machine, table
from torch import Tensor

from diffusion_explained.data import ImageDataset, load_dataset
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, read_measured, studies, write_measured
from diffusion_explained.metrics import classify, draw, nearest, shipped_classifier
from diffusion_explained.pretrained import in_precision, load_pretrained

SAMPLES = {  # name -> model, and the settings that draw its samples
    "flow, w = 1": (FLOW, {"sampler": "heun", "num_inference_steps": 15, "guidance_scale": 1.0}),
    "flow, w = 2": (FLOW, {"sampler": "heun", "num_inference_steps": 15, "guidance_scale": 2.0}),
    "fine flow, w = 1": (FINE, {"sampler": "heun", "num_inference_steps": 15, "guidance_scale": 1.0}),
    "fine flow, w = 2": (FINE, {"sampler": "heun", "num_inference_steps": 15, "guidance_scale": 2.0}),
    "eps, w = 2": (EPS, {"sampler": "dpm_solver_pp_2m", "num_inference_steps": 30, "guidance_scale": 2.0}),
    "rectified": (RECTIFIED, {"sampler": "euler", "num_inference_steps": 8, "guidance_scale": 1.0}),
}
REAL = {  # name -> the choice of real images
    "unseen real": lambda train, test, chosen: test.batch(chosen)[0],
    "training, mirrored": lambda train, test, chosen: train.batch(chosen)[0].flip(-1),
    "training, moved": lambda train, test, chosen: train.batch(chosen)[0].roll(1, dims=-1),
}
QUANTILES = {"nearest of all": 0.0, "1%": 0.01, "10%": 0.1, "median": 0.5}
BATCH = 1000


def features_of(images: Tensor, classifier: torch.nn.Module) -> Tensor:
    """Features [N, D] of images [N, C, H, W], computed batch by batch."""
    return torch.cat([classify(part, classifier)[0] for part in images.split(BATCH)])


def images_of(name: str, n: int, train: ImageDataset, test: ImageDataset, device: str, folder: str) -> Tensor:
    """The images [n, C, H, W] in [-1, 1] of a name in `REAL` or `SAMPLES`."""
    if name in REAL:
        return REAL[name](train, test, torch.arange(n))
    model_name, settings = SAMPLES[name]
    on_gpu = torch.device(device).type == "cuda"
    model = load_pretrained(weights_of(model_name, folder)[0], device)
    model = in_precision(model, "float16" if on_gpu else "float32", compiled=on_gpu)
    return draw(model, torch.arange(n) % train.num_classes, **settings)


def kept_rows(n: int, weights: dict[str, str], sources: dict[str, str]) -> list[dict]:
    """The rows of an earlier run that are still valid: n images, and the same weights and settings."""
    if "memorisation" not in studies():
        return []
    earlier = read_measured("memorisation")
    redone = {
        who
        for who, (model_name, _) in SAMPLES.items()
        if earlier["weights"].get(model_name) != weights[model_name] or earlier["sources"].get(who) != sources[who]
    }
    return [row for row in earlier["rows"] if row["n"] == n and row["who"] not in redone]


def row(name: str, where: str, distance: Tensor) -> dict:
    """A row: name, space (pixels or features), and quantiles of the distance [n] to the nearest training image."""
    values = {key: distance.quantile(q).item() for key, q in QUANTILES.items()}
    return {"who": name, "where": where, "n": len(distance), **values, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", default="", help="a folder runs/ with the models, instead of the shipped ones")
    options = parser.parse_args()
    tried(parser, check_folder, MEASURED)
    weights = {name: weights_of(name, options.weights)[1] for name, _ in SAMPLES.values()}
    sources = {name: f"{model} {settings}" for name, (model, settings) in SAMPLES.items()}
    rows, order = kept_rows(options.n, weights, sources), [*REAL, *SAMPLES]
    if missing := [name for name in order if name not in {kept["who"] for kept in rows}]:
        train, test = (load_dataset("cifar10", split) for split in ("train", "test"))
        classifier = shipped_classifier("cifar10", options.device)
        of_train = features_of(train.to_float(), classifier).to(options.device)
    for name in missing:
        images = images_of(name, options.n, train, test, options.device, options.weights)
        rows.append(row(name, "pixels", nearest(images.to(options.device), train.images)[1]))
        rows.append(row(name, "features", nearest(features_of(images, classifier).to(options.device), of_train)[1]))
        print(*rows[-2:], sep="\n", flush=True)
    rows.sort(key=lambda measured: order.index(measured["who"]))
    write_measured("memorisation", {"weights": weights, "sources": sources, "rows": rows})
    print(
        table(
            ["who", "distance in", *QUANTILES],
            [[r["who"], r["where"], *(f"{r[q]:.2f}" for q in QUANTILES)] for r in rows],
        )
    )


if __name__ == "__main__":
    main()
