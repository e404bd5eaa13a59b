"""Does `diagnose` name the fault of a network that was trained with it?

    python benchmarks/diagnosis.py                     # every fault with two seeds, about six minutes on one core
    python benchmarks/diagnosis.py "off by one" none   # one fault, and the right networks; nothing is written

Each network is an MLP trained on the eight Gaussians by `training.faults.learn`, in which one line is wrong. The right
ones have four prediction types and four schedules. Write diffusion_explained/measured/diagnosis.json.
"""

import argparse
import math

from places import tried
from side_by_side import machine, table

from diffusion_explained.data import toy
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.metrics.diagnosis import Diagnosis, diagnose
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule, Schedule
from diffusion_explained.training.faults import FAULTS, learn

DATA, EXAMPLES, CLASSES = "eight_gaussians", 20_000, 8
NONE = "none"
UNSEEN = ("last step never trained", "no EMA")  # which no output at one level shows
LINEAR = DDPMSchedule.linear()
TWENTY = DDPMSchedule.cosine(num_train_timesteps=20)  # one step of 1,000 is less than a small network resolves
RIGHT: list[tuple[str, Schedule]] = [
    ("eps", LINEAR),
    ("eps", DDPMSchedule.cosine()),
    ("eps", TWENTY),
    ("v", DDPMSchedule.cosine()),
    ("x_0", DDPMSchedule.linear(num_train_timesteps=200)),
    ("flow", FlowSchedule()),
    ("v", FlowSchedule()),
]


def row(fault: str, kind: str, schedule: Schedule, seeds: int, steps: int) -> dict[str, object]:
    """The networks of one fault, one per seed, and what was named."""
    points, classes = toy(DATA, EXAMPLES)
    found: list[Diagnosis] = []
    for seed in range(seeds):
        network = learn(points, classes, schedule, kind, fault=None if fault == NONE else fault, steps=steps, seed=seed)
        found.append(diagnose(network, DATA, schedule, kind, num_classes=CLASSES))
    named = [one.fault or NONE for one in found]
    return {
        "fault": fault,
        "target": kind,
        "schedule": str(schedule.to_config().get("name", schedule.to_config()["family"])),
        "T": getattr(schedule, "num_train_timesteps", None),
        "right": sum(one == fault for one in named),
        "of": seeds,
        "least_errors": [next(iter(one.errors.values()), math.nan) if one.errors else None for one in found],
        "named_instead": sorted({one for one in named if one != fault}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help="names of faults, or `none`; all by default, and written")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1200, help="of each training")
    options = parser.parse_args()
    tried(parser, check_folder, MEASURED)
    cases = [(NONE, kind, schedule) for kind, schedule in RIGHT]
    cases += [(name, "eps", TWENTY if "off by one" in name else LINEAR) for name in FAULTS if name not in UNSEEN]
    rows = []
    for fault, kind, schedule in cases:
        if not options.faults or fault in options.faults:
            rows.append(row(fault, kind, schedule, options.seeds, options.steps))
            print(rows[-1], flush=True)
    values = {"data": DATA, "steps": options.steps, "machine": machine(), "rows": rows}
    if not options.faults:
        write_measured("diagnosis", values)
    cells = [
        [str(one["fault"]), str(one["target"]), f"{one['schedule']}{', T = ' + str(one['T']) if one['T'] else ''}",
         f"{one['right']} of {one['of']}", ", ".join(f"{error:.4f}" for error in one["least_errors"] if error)]
        for one in rows
    ]  # fmt: skip
    print(values["machine"])
    print(table(["fault", "target", "schedule", "named right", "least errors"], cells))
    for title, some in (
        ("right networks without an alarm", [one for one in rows if one["fault"] == NONE]),
        ("faulty networks named right", [one for one in rows if one["fault"] != NONE]),
    ):
        print(f"{title}: {sum(one['right'] for one in some)} of {sum(one['of'] for one in some)}")


if __name__ == "__main__":
    main()
