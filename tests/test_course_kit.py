"""The instructor's kit: its minutes are sums of the notebooks', its quiz is whole, and its numbers are computed."""

import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from diffusion_explained import discrete
from diffusion_explained.beyond import Data
from diffusion_explained.beyond.shapes import measure_clouds
from diffusion_explained.beyond.video import HIGH, LOW, fold
from diffusion_explained.course.notebook_files import course_notebooks, read_notebook, reading_minutes
from diffusion_explained.discrete import Chain, training_loss
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises import exercises
from diffusion_explained.forward import transition
from diffusion_explained.guidance import guide
from diffusion_explained.metrics import frechet_distance
from diffusion_explained.micro.lora import LowRank
from diffusion_explained.predictions import coefficients
from diffusion_explained.samplers import heun
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule, Level
from diffusion_explained.training.few_steps import chord

KIT = Path(__file__).parents[1] / "docs" / "course"
QUIZ = (KIT / "quiz.md").read_text(encoding="utf-8")
LABS = [path.stem[:2] for path in course_notebooks() if path.stem[3:].startswith("lab_")]
NUMBERS = [path.stem[:2] for path in course_notebooks() if path.stem[:2] not in LABS]


@cache
def minutes():
    """(reading, exercises) of each notebook, by number."""
    each = {path.stem[:2]: reading_minutes(read_notebook(path)) for path in course_notebooks()}
    return {
        number: (read, sum(one.minutes for name, one in exercises().items() if name.startswith(f"{number}.")))
        for number, read in each.items()
    }


def test_both_plans_visit_every_notebook_and_their_minutes_are_sums():
    plans = re.split(r"^## ", (KIT / "syllabus.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:3]
    for plan in plans:
        visited, totals = [], [0, 0, 0]
        for row in re.findall(r"^\| (?:\d+|all) \|.*$", plan, re.MULTILINE):
            said = [int(cell) for cell in row.split("|")[4:7]]
            named = re.findall(r"\[(\d\d)\]", row)
            if named:
                read, solve = (sum(minutes()[number][k] for number in named) for k in (0, 1))
                assert said == [read, solve, read + solve], row
                visited += named
                totals = [a + b for a, b in zip(totals, said, strict=True)]
            else:
                assert said == totals, row
        assert sorted(visited) == NUMBERS


def test_every_lab_has_its_hours_and_a_rubric_for_each_open_question():
    table = (KIT / "syllabus.md").read_text(encoding="utf-8").split("\n## Labs")[1].split("\n## ")[0]
    rubrics = (KIT / "answers.md").read_text(encoding="utf-8").split("\n## Labs")[1]
    for path in course_notebooks():
        if (number := path.stem[:2]) in LABS:
            row = next(line for line in table.splitlines() if f"[{number}](../../notebooks/{path.name})" in line)
            read, solve = minutes()[number]
            assert [int(cell) for cell in row.split("|")[4:7]] == [read, solve, read + solve] and 60 <= solve <= 180, (
                row
            )
            asked = re.findall(r"^(\d)\. \*★+ · \d+ minutes", lab_questions(path), re.MULTILINE)
            answered = re.findall(rf"^\*\*{number}, question (\d)\..*\*\*\n\n(?:\d\. .*\n){{4}}", rubrics, re.MULTILINE)
            assert answered == asked and len(asked) >= 2, number


def lab_questions(path):
    """The section of open questions of a lab."""
    text = "\n".join(cell["source"] for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown")
    return text.split("## Open questions")[1].split("\n## ")[0]


def questions():
    """Each question: its number, its text, its right answers and its wrong ones."""
    found = {}
    for block in re.split(r"^\*\*(?=\d\d\.\d · )", QUIZ, flags=re.MULTILINE)[1:]:
        number, text = re.match(r"(\d\d\.\d) · (.*?)\*\*$", block, re.MULTILINE).groups()
        found[number] = (
            text,
            re.findall(r"^- ✓ (.+)$", block, re.MULTILINE),
            re.findall(r"^- ✗ (.+)$", block, re.MULTILINE),
        )
    return found


def test_five_questions_per_notebook_and_lab_with_the_misconception_behind_each_wrong_answer():
    asked = questions()
    assert list(asked) == [f"{number}.{k}" for number in [*NUMBERS, *LABS] for k in range(1, 6)]
    for number, (_, right, wrong) in asked.items():
        assert len(right) == 1 and len(wrong) == 2, number
        assert all("*Behind it: " in one for one in wrong), number


def test_the_numbers_of_the_quiz():
    right = {number: right[0] for number, (_, right, _) in questions().items()}

    def says(number, value):
        assert re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", right[number]), f"{number}: {value}"

    says("00.2", f"{math.hypot(3, 4):g}")
    with pytest.raises(RuntimeError):  # 00.1
        torch.zeros(8, 3, 32, 32) * torch.zeros(8)
    linear = DDPMSchedule.linear()
    at_06 = min(range(1000), key=lambda t: abs(linear.level(t).alpha - 0.6))
    says("01.3", f"{linear.level(at_06).sigma:.1f}")
    says("02.2", f"{Level(0.0, 0.1, 1.0).log_snr:.1f}")
    says("03.3", f"{float(coefficients('score', torch.tensor(1.0), torch.tensor(0.5))[1]):g}")
    exact, evaluated = ExactDenoiser(GaussianMixture(torch.zeros(1, 2), 1.0)), []

    def counted(x_t, level):
        evaluated.append(level)
        return exact(x_t, level)

    list(heun(counted, torch.zeros(1, 2), FlowSchedule().levels(20)))
    says("04.3", f"{len(evaluated)}")
    says("06.2", f"{3 + 1}")  # uncond + (1 + 3) (cond - uncond) = (1 + 3) cond - 3 uncond
    says("07.3", f"{(32 // 2) ** 2}")
    says("07.4", f"{(2**2) ** 2}")
    says("09.2", f"{512 * 512 * 3 // (64 * 64 * 4)}")
    says("09.4", f"{int(30 * 0.5)}")
    says("10.4", f"{math.log(48):.1f}")
    says("11.3", f"{100 * 5 // 100}")
    _, std = transition(Level(2.0, 1.0, 2.0), Level(2.0 + 1e-6, 1.0, 2.0 + 1e-6))
    says("12.1", f"{std**2 / 1e-6:.0f}")
    x_0, eps = chord(torch.tensor([3.0]), torch.tensor([1.0]), FlowSchedule().level(0.8), FlowSchedule().level(0.0))
    says("13.2", f"{float(eps - x_0):g}")
    says("13.4", f"{math.log2(16):g}")
    slope = guide(
        torch.tensor(-1 / 0.25), torch.tensor(-1.0), 3.0
    )  # of the guided score of Gaussians: minus a precision
    says("14.2", f"{-float(slope):g}")
    chain = Chain(3)
    kept = chain.transition(discrete.Level(0.5, 0.5), discrete.Level(0.8, 0.2))
    says("15.1", f"{float(kept[0, 0]):g}")
    half = training_loss(
        chain, torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), 3), torch.tensor([0.5])
    )
    says("15.3", f"{float(half) / math.log(3):.0f}")
    says("16.1", f"{100 * 0.8**2 / (0.8**2 + 0.2**2):.0f}%")  # half of all pictures: q and 1 - q cancel
    change = LowRank(torch.nn.Linear(96, 96), 4, 1.0, torch.Generator().manual_seed(0))
    says("18.1", f"{sum(p.numel() for p in change.parameters())}")
    scale = (HIGH - LOW) / 14  # from 0 .. 14 to LOW .. HIGH
    says("20.1", f"{(float(fold(torch.tensor(17 * scale + LOW))) - LOW) / scale:g}")
    says("20.3", f"{1 + 2 * 20 * math.log10(0.1) / 40:g}")
    clouds = torch.randn(6, 20, 3, generator=torch.Generator().manual_seed(0))
    copies = Data(clouds, torch.zeros(6, dtype=torch.int64))
    says("20.5", f"{100 * measure_clouds(copies, Data(clouds + 1e-4, copies.labels))['one_nn']:g}%")


def test_the_numbers_of_the_quiz_about_the_labs():
    right = {number: right[0] for number, (_, right, _) in questions().items()}

    def says(number, *values):
        assert all(re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", right[number]) for value in values), number

    levels, calls = FlowSchedule().levels(6), []
    exact = ExactDenoiser(GaussianMixture(torch.zeros(1, 2), 1.0))
    list(heun(lambda x_t, level: (calls.append(level), exact(x_t, level))[1], torch.zeros(1, 2), levels))
    says("31.4", "12", "6", f"{len(calls)}")
    tokens = torch.zeros(1, 3, 32, 32).unfold(2, 4, 4).unfold(3, 4, 4)
    says("33.1", f"{tokens.shape[2] * tokens.shape[3]}", f"{3 * 4 * 4}")
    says("34.1", f"{0.5 * (0 + 1 - 1 - math.log(1)):g}")
    says("35.1", f"{math.sqrt(4 * 0.01):g}")
    says("35.3", f"{28 * 28}")


def test_a_small_sample_has_a_larger_frechet_distance():
    """08.1: the bias has this sign."""
    drawn = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(drawn[:100], truth) > 3 * frechet_distance(drawn, truth)


def test_the_standard_error_of_the_rubric():
    said = re.search(
        r"200 pictures: about ([\d.]+) percentage points", (KIT / "answers.md").read_text(encoding="utf-8")
    )
    assert float(said[1]) == round(100 * math.sqrt(0.25 / 200), 1)
