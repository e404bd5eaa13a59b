"""At how much noise does a classifier still recognise an image: in x_t itself, and in the network's prediction of x_0?

    python benchmarks/recognised.py                            # minutes on a CPU; diffusion_explained/measured/

Real test images are noised to levels of equal distance in log SNR, on the cosine schedule, whose x_t keeps its
variance. The classifier was trained on clean images. The network predicts x_0 in one evaluation, without the class.
"""

import argparse

import torch
from places import tried
from quality import weights_of
from side_by_side import machine

from diffusion_explained.comparisons import levels_of_same_snr, one_shots
from diffusion_explained.data import load_dataset
from diffusion_explained.files import check_folder
from diffusion_explained.forward import add_noise
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.metrics import class_accuracy, shipped_classifier
from diffusion_explained.noise import generators, randn
from diffusion_explained.pretrained import load_pretrained
from diffusion_explained.schedules import DDPMSchedule, Level

MODELS = {"mnist": "mnist_unet_flow", "cifar10": "cifar10_unet_flow"}
LOG_SNRS = torch.linspace(6, -6, 13, dtype=torch.float64)
BATCH = 40


def rows_of_data(data: str, n: int) -> list[dict[str, object]]:
    """One row per level: the share of n images that the classifier assigns to their class."""
    model, classifier, test = load_pretrained(MODELS[data]), shipped_classifier(data), load_dataset(data, "test")
    x_0, labels = test.batch(torch.cat([(test.labels == k).nonzero().flatten()[: n // 10] for k in range(10)]))
    eps, denoise = randn(x_0.shape, generators(len(x_0), 0)), model.denoiser(None, guidance_scale=1.0)
    rows: list[dict[str, object]] = []
    for alpha_2 in torch.sigmoid(LOG_SNRS).tolist():
        wanted = Level(0.0, alpha_2**0.5, (1 - alpha_2) ** 0.5)
        level = levels_of_same_snr(DDPMSchedule.cosine(), [wanted])[0]
        x_t = add_noise(x_0, eps, level)
        predicted = [one_shots(denoise, model.schedule, x, [level] * len(x)).x_0 for x in x_t.split(BATCH)]
        in_x_t, in_x_0 = (class_accuracy(x.clamp(-1, 1), labels, classifier) for x in (x_t, torch.cat(predicted)))
        rows.append(
            {"part": data, "log_snr": round(level.log_snr, 6) + 0.0, "x_t": in_x_t, "predicted": in_x_0, "n": len(x_0)}
        )
        print(rows[-1], flush=True)
    _, checksum = weights_of(MODELS[data], "")
    return [{**row, "model": MODELS[data], "weights": checksum} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="images per data set, a multiple of 10")
    arguments = parser.parse_args()
    tried(parser, check_folder, MEASURED)
    rows = [row for data in MODELS for row in rows_of_data(data, arguments.n)]
    write_measured("recognised", {"unseen": "images of the test split", "machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
