"""Training: one loop for every kind of prediction and every schedule, and what goes around it.

| module             | holds                                                                              |
|--------------------|------------------------------------------------------------------------------------|
| `loop`             | `train`: Algorithm 1 of DDPM as a generator of records; `training_loss`            |
| `meter`            | mean loss, time, speed and checkpoints of every training loop                      |
| `config`, `state`  | the settings of a training, and the moment at which it is                          |
| `step`             | one gradient step, and the same step captured once for a GPU to replay             |
| `checkpoints`      | a training that was interrupted resumes from its last checkpoint                   |
| `processes`        | several processes that share each batch                                            |
| `folder_lock`      | one training per folder                                                            |
| `timed`            | training for a given time                                                          |
| `classifier`       | the classifiers whose features the metrics use                                     |
| `reflow`           | pairs of noise and image for rectification                                         |
| `recipes`          | the trainings that made the shipped networks, as files                             |
"""

from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.loop import TRAINABLE, Record, draw, train, training_loss

__all__ = ["TRAINABLE", "Record", "TrainConfig", "draw", "train", "training_loss"]
