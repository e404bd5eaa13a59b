"""Training: one loop for every prediction type and every schedule, and the modules that it needs.

| module             | holds                                                                              |
|--------------------|------------------------------------------------------------------------------------|
| `loop`             | `train`: Algorithm 1 of DDPM as a generator of records; `training_loss`            |
| `meter`            | mean loss, time, speed and checkpoints of every training loop                      |
| `config`, `state`  | the settings of a training run, and its state                                      |
| `step`             | one gradient step, and the same step captured once for a GPU to replay             |
| `checkpoints`      | an interrupted training run resumes from its last checkpoint                       |
| `processes`        | several processes that share each batch                                            |
| `folder_lock`      | one training run per folder                                                        |
| `timed`            | training for a given time                                                          |
| `classifier`       | the classifiers whose features the metrics use                                     |
| `reflow`           | pairs of noise and image for rectification                                         |
| `recipes`          | the training runs that made the shipped networks, as files                         |
"""

from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.loop import TRAINABLE, Record, draw, train, training_loss

__all__ = ["TRAINABLE", "Record", "TrainConfig", "draw", "train", "training_loss"]
