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
| `few_steps`        | what the methods for few-step models share: they train on a chord of the path      |
| `progressive`      | progressive distillation: one step in place of two of the teacher's                |
| `consistency`      | consistency models: from every point of a path to its end                          |
| `shortcut`         | shortcut models: a network that is given the end of its step                       |
| `coupling`         | pairs of noise and data by optimal transport within minibatches                    |
| `gan`              | a generative adversarial network for points in the plane, as a baseline            |
| `faults`           | a plain loop whose one line may be wrong, as in real programs: for `metrics.diagnose` |
| `text`             | the text models: masked and uniform diffusion, and their autoregressive twin       |
| `recipes`          | the training runs that made the shipped networks, as files                         |
"""

from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.consistency import Consistency
from diffusion_explained.training.few_steps import chord
from diffusion_explained.training.loop import TRAINABLE, Record, draw, train, training_loss
from diffusion_explained.training.progressive import Progressive
from diffusion_explained.training.shortcut import Shortcut

__all__ = [
    "TRAINABLE",
    "Consistency",
    "Progressive",
    "Record",
    "Shortcut",
    "TrainConfig",
    "chord",
    "draw",
    "train",
    "training_loss",
]
