"""Train the classifier that measures spoken words, on voices that the network has not heard, and write its weights.

    python recipes/sound_classifier.py [EPOCHS] [FILE]

It trains on each clip twice: as synthesised, and after Griffin-Lim. It takes a minute on a GPU, and
some minutes on a laptop.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from diffusion_explained.beyond.sound import CLASSIFIER, WORDS, load_spoken_words
from diffusion_explained.beyond.spectrograms import BANDS, FRAMES, log_mel, to_wave
from diffusion_explained.data import ImageDataset, to_float, to_uint8
from diffusion_explained.devices import choose_device, hardware
from diffusion_explained.files import check_file
from diffusion_explained.models import Classifier, ClassifierConfig, count_parameters, network_config
from diffusion_explained.noise import seeded
from diffusion_explained.training.classifier import accuracy, train_classifier
from diffusion_explained.training.classifier_state import ClassifierTrainConfig
from diffusion_explained.weight_files import round_to_fp16, write_weights

MOST_CLIPS = 800


def heard(part: str, device: torch.device, *, also_as_made: bool = False) -> ImageDataset:
    """The first clips of a part after Griffin-Lim, and as they were synthesised if `also_as_made`."""
    words = load_spoken_words(part)
    clips, labels = words.spectrograms[:MOST_CLIPS], words.labels[:MOST_CLIPS]
    images = to_uint8(log_mel(to_wave(to_float(clips).to(device))).cpu())
    if also_as_made:
        images, labels = torch.cat([images, clips]), torch.cat([labels, labels])
    return ImageDataset("spoken words", part, images, labels, WORDS, "the sample bundled with the package")


def main(epochs: int = 40, file: Path = CLASSIFIER) -> None:
    """Train, measure and write."""
    config = ClassifierTrainConfig(epochs=epochs, batch_size=64, learning_rate=0.05, max_shift=6, seed=0)
    shape = ClassifierConfig(image_shape=(1, BANDS, FRAMES), widths=(32, 64, 96, 128), num_classes=len(WORDS))
    device = choose_device("auto")
    network = seeded(config.seed, lambda: Classifier(shape)).to(device)
    for record in train_classifier(network, heard("judge", device, also_as_made=True), config, record_every=50):
        print(f"step {record.step} of {record.num_steps}: loss {record.loss:.3f}", flush=True)
    round_to_fp16(network)
    card = {
        "data": "spoken_words.safetensors, part judge, as synthesised and after Griffin-Lim",
        "training": asdict(config),
        "parameters": count_parameters(network),
        "accuracy": {part: accuracy(network, heard(part, device)) for part in ("judge", "test", "train")},
        "hardware": hardware(device),
        "torch": torch.__version__,
    }
    write_weights(file, network, network_config(network), card)
    print(f"{file}: accuracy {card['accuracy']}")


if __name__ == "__main__":
    try:
        check_file(Path(sys.argv[2]) if len(sys.argv) > 2 else CLASSIFIER, "")
    except OSError as error:
        sys.exit(str(error))
    main(*(int(text) for text in sys.argv[1:2]), *(Path(text) for text in sys.argv[2:3]))
