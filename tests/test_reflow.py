"""Rectification: pairs are where the teacher's flow leads, kept on disk, and the second flow's paths are straighter."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusion_explained.data import toy
from diffusion_explained.denoisers import Prediction
from diffusion_explained.measured import read_measured
from diffusion_explained.models import MLP, MLPConfig, UNet, UNetConfig
from diffusion_explained.noise import randn
from diffusion_explained.pretrained import Model, load_pretrained, save_pretrained
from diffusion_explained.samplers import euler, final
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule
from diffusion_explained.training import Record, TrainConfig, reflow, train
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.recipes import Recipe, read_recipe, run_recipe, weights_file
from diffusion_explained.training.reflow import Pairs, PairsConfig, PairsRecord, draw_pairs, straightness

SMALL = UNetConfig(patch_size=4, widths=(8,), blocks=(1,), attention=(False,), head_width=8, embedding_width=16)
FEW = PairsConfig(count=25, num_inference_steps=2, guidance_scale=1.5, batch_size=10)


def small_flow(seed: int = 0) -> Model:
    """A flow model of digits that was never trained, but is not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(SMALL).eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return Model("small", network, FlowSchedule(), "flow", tuple("0123456789"), {})


def draw(
    teacher: Model, config: PairsConfig, folder: Path | None = None, process: Processes | None = None
) -> tuple[list[PairsRecord], Pairs]:
    records, drawing = [], draw_pairs(teacher, config, folder, process)
    while True:
        try:
            records.append(next(drawing))
        except StopIteration as end:
            return records, end.value


class TestPairs:
    def test_they_are_where_the_teachers_sampler_leads(self):
        teacher = small_flow()
        records, (noise, x_0, labels) = draw(teacher, FEW)
        assert [(r.step, r.num_steps) for r in records] == [(1, 3), (2, 3), (3, 3)]
        assert noise.dtype == x_0.dtype == torch.float16 and noise.shape == x_0.shape == (25, 1, 28, 28)
        assert labels.tolist() == [i % 10 for i in range(25)]
        assert abs(noise.float().mean()) < 0.05 and abs(noise.float().std() - 1) < 0.05
        assert len({tuple(image.flatten().tolist()) for image in noise}) == 25, "each batch has noise of its own"
        denoise = teacher.denoiser(labels, guidance_scale=1.5)
        expected = final(reflow.SAMPLERS["heun"](denoise, noise.float(), teacher.schedule.levels(2)))
        torch.testing.assert_close(x_0.float(), expected, rtol=2e-3, atol=2e-3)
        plain = draw(teacher, replace(FEW, guidance_scale=1.0))[1].x_0
        assert not torch.allclose(plain, x_0, atol=1e-2), "guidance matters"
        nowhere = draw(teacher, replace(FEW, guidance_interval=(1e6, 1e7)))[1].x_0
        assert torch.equal(nowhere, plain), "guidance in an interval that the sampler does not visit"

    def test_a_seed_is_a_set_of_pairs_and_torchs_generator_is_left_alone(self):
        torch.manual_seed(3)
        expected = torch.randn(2)
        torch.manual_seed(3)
        one, again = draw(small_flow(), FEW)[1], draw(small_flow(), FEW)[1]
        other = draw(small_flow(), replace(FEW, seed=1))[1]
        assert torch.equal(torch.randn(2), expected)
        assert torch.equal(one.noise, again.noise) and torch.equal(one.x_0, again.x_0)
        assert not torch.equal(one.noise, other.noise)

    def test_no_sample_starts_where_a_pair_does(self):
        model = small_flow()
        noise = draw(model, FEW)[1].noise
        assert not torch.isclose(noise[:, None].float(), model.noise(30)[None], atol=1e-3).all(dim=(2, 3, 4)).any()

    def test_what_was_drawn_is_not_drawn_again(self, tmp_path, monkeypatch):
        teacher = small_flow()
        calm = draw(teacher, FEW)[1]
        drawing = draw_pairs(teacher, FEW, tmp_path)
        next(drawing), next(drawing)
        drawing.close()
        assert [path.name for path in sorted(tmp_path.iterdir())] == [f"pairs-0000{i}.safetensors" for i in (0, 1)]
        (tmp_path / "pairs-00001.safetensors").write_bytes(b"cut short")
        drawn, usual = [], reflow.Drawing.__call__
        monkeypatch.setattr(reflow.Drawing, "__call__", lambda *args: drawn.append(len(args[1])) or usual(*args))
        records, pairs = draw(teacher, FEW, tmp_path)
        assert drawn == [10, 5], "the damaged batch, and the missing one"
        assert len(records) == 3 and all(torch.equal(a, b) for a, b in zip(pairs, calm, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(draw(teacher, FEW, tmp_path)[1], calm, strict=True))
        assert drawn == [10, 5]

    def test_pairs_of_another_teacher_or_setting_are_refused(self, tmp_path):
        draw(small_flow(), FEW, tmp_path)
        with pytest.raises(ValueError, match=r"teacher\.sha256 is .* remove this one"):
            draw(small_flow(seed=1), FEW, tmp_path)
        with pytest.raises(ValueError, match=r"pairs\.guidance_scale is 1\.5 there and 3\.0 here"):
            draw(small_flow(), replace(FEW, guidance_scale=3.0), tmp_path)

    def test_several_processes_share_the_drawing(self, tmp_path, monkeypatch):
        """Each its own batches, and the others' are read; here one after the other, for they do not wait."""
        calm = draw(small_flow(), FEW)[1]
        drawn, usual = [], reflow.Drawing.__call__
        monkeypatch.setattr(reflow.Drawing, "__call__", lambda *args: drawn.append(len(args[1])) or usual(*args))
        first, second = (Processes(rank, 2, torch.device("cpu"), accelerator=None) for rank in (0, 1))
        drawing = draw_pairs(small_flow(), FEW, tmp_path, first)
        next(drawing), next(drawing)
        drawing.close()
        assert drawn == [10, 5], "batches 0 and 2 of 3"
        for process in (second, first):
            pairs = draw(small_flow(), FEW, tmp_path, process)[1]
            assert drawn == [10, 5, 10]
            assert all(torch.equal(a, b) for a, b in zip(pairs, calm, strict=True))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"seed": 128}, "of a seed below 128"),
            ({"count": 2**24 + 1}, "at most 16,777,216"),
            ({"count": 0}, "count of the pairs must be 1 or more; got 0"),
            ({"num_inference_steps": 0}, "num_inference_steps of the pairs must be 1 or more"),
            ({"batch_size": -1}, "batch_size of the pairs"),
            ({"guidance_scale": -1.0}, "guidance_scale must be a finite number"),
            ({"guidance_interval": (3.0, 0.2)}, r"guidance_interval must be \(low, high\)"),
            ({"sampler": "hein"}, "did you mean 'heun'"),
            ({"sampler": "ddpm"}, "unknown sampler that draws no noise 'ddpm'"),
            ({"precision": "float61"}, "did you mean 'float16'"),
        ],
    )
    def test_a_setting_that_makes_no_sense_is_refused(self, change, said):
        with pytest.raises(ValueError, match=said):
            replace(FEW, **change)

    def test_only_a_flow_teaches_and_only_finite_images(self):
        teacher = small_flow()
        with pytest.raises(ValueError, match=r"only a flow model can be rectified.*small predicts eps"):
            next(draw_pairs(replace(teacher, kind="eps", schedule=DDPMSchedule.linear()), FEW))
        next(teacher.network.parameters()).fill_(1e30)
        with pytest.raises(ValueError, match="images became NaN or infinite in the step from t="):
            next(draw_pairs(teacher, FEW))

    def test_mirrored_or_unpaired_images_are_refused(self):
        teacher = small_flow()
        noise, x_0, labels = draw(teacher, FEW)[1]
        config = TrainConfig(images=20, batch_size=10)
        teacher.network.requires_grad_(True)  # as a student's
        with pytest.raises(ValueError, match=r"noise must be one eps per image.*\[25, 1, 28, 28\]"):
            next(train(teacher.network, x_0, labels, FlowSchedule(), "flow", config, noise=noise[:-1]))
        with pytest.raises(ValueError, match="flip = false"):
            next(train(teacher.network, x_0, labels, FlowSchedule(), "flow", replace(config, flip=True), noise=noise))


class TestStraightness:
    def test_of_paths_that_are_known(self):
        """A straight path walked evenly has 0; one that goes first right, then up, has (1^2 + 1^2) at every time."""

        class TwoLegs:
            def __call__(self, x_t, level):
                v = torch.tensor([[2.0, 0.0] if level.t > 0.5 else [0.0, 2.0]])
                return reflow_prediction(x_t, v, level)

        class Straight:
            def __call__(self, x_t, level):
                return reflow_prediction(x_t, torch.tensor([[3.0, -1.0]]), level)

        x_T, levels = torch.tensor([[0.3, 0.4]]), FlowSchedule().levels(10)
        assert straightness(euler(Straight(), x_T, levels)) == pytest.approx(0, abs=1e-9)
        assert straightness(euler(TwoLegs(), x_T, levels)) == pytest.approx(2, rel=1e-5)

    def test_reflow_straightens_a_flow_in_the_plane(self):
        """One step of the rectified flow does what one of its teacher's cannot, and its paths bend far less."""
        config = TrainConfig(images=500 * 256, batch_size=256, learning_rate=5e-3, precision="float32")
        schedule = FlowSchedule(t_distribution="uniform")
        points, _ = toy("eight_gaussians", 4000)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = MLP(MLPConfig(width=64))
        *_, record = train(network, points, None, schedule, "flow", config)
        teacher = replace(record.model, name="teacher", network=record.model.network)
        pairs = draw(teacher, PairsConfig(count=4000, num_inference_steps=20, batch_size=4000))[1]
        student = MLP(MLPConfig(width=64))
        student.load_state_dict(teacher.network.state_dict())
        *_, record = train(student, pairs.x_0, None, schedule, "flow", config, noise=pairs.noise)

        x_T = randn((500, 2), torch.Generator().manual_seed(1))
        bends = [straightness(euler(model.denoiser(), x_T, schedule.levels(20))) for model in (teacher, record.model)]
        assert bends[1] < 0.2 * bends[0]
        goal = final(euler(teacher.denoiser(), x_T, schedule.levels(50)))
        one_step = [final(euler(m.denoiser(), x_T, schedule.levels(1))) for m in (teacher, record.model)]
        missed = [(ends - goal).norm(dim=1).mean() for ends in one_step]
        assert missed[1] < 0.4 * missed[0]


def reflow_prediction(x_t, v, level):
    """The prediction of a flow with the velocity v: x_0 = x_t - t v, eps = x_0 + v."""
    x_0 = x_t - level.t * v
    return Prediction(x_0, x_0 + v, eps_cond=x_0 + v)


TINY = """
task = "reflow"
name = "tiny_reflow"
dataset = "mnist"
teacher = "tiny"
guidance_scale = 1.0
[pairs]
count = 40
num_inference_steps = 2
guidance_scale = 1.5
batch_size = 16
[schedule]
family = "flow"
t_distribution = "u_shaped"
[training]
images = 240
batch_size = 8
precision = "float32"
"""


@pytest.fixture
def runs(tmp_path) -> Path:
    """A folder of runs with a teacher in it."""
    save_pretrained(tmp_path / "runs" / "tiny" / "tiny.safetensors", replace(small_flow(), name="tiny"))
    return tmp_path / "runs"


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny_reflow.toml"
    path.write_text(TINY)
    return path


class TestRecipe:
    def test_the_shipped_one_is_sound(self):
        recipe = Recipe.from_tables(*read_recipe("cifar10_unet_reflow"))
        assert recipe.guidance_scale == 1.0 < recipe.pairs.guidance_scale
        assert read_recipe(recipe.teacher)[0]["dataset"] == recipe.dataset and recipe.limits and recipe.evaluation
        assert not recipe.training.flip

    def test_a_run_ends_in_weights_that_need_no_guidance(self, recipe, runs):
        records = list(run_recipe(recipe, runs))
        assert [type(r) for r in records] == [PairsRecord] * 3 + [Record] * 3
        model = load_pretrained(weights_file(recipe, runs))
        assert (model.kind, model.default_guidance_scale) == ("flow", 1.0)
        assert asdict(model.network.config) == asdict(SMALL)
        card = model.card
        assert card["data"] == "40 pairs of noise and the images that tiny makes of it"
        assert card["recipe"]["teacher"] == "tiny" and card["recipe"]["pairs"]["guidance_scale"] == 1.5
        assert "network" not in card["recipe"] and card["images_seen"] == 240 and card["task"] == "reflow"
        assert str(runs) not in json.dumps(card)

    def test_it_starts_from_the_teachers_weights(self, recipe, runs):
        recipe.write_text(TINY.replace("precision", "learning_rate = 1e-12\nprecision"))
        list(run_recipe(recipe, runs))
        teacher, student = (load_file(runs / name / f"{name}.safetensors") for name in ("tiny", "tiny_reflow"))
        assert all(torch.equal(teacher[name], student[name]) for name in teacher)

    def test_a_further_leg_starts_from_what_the_first_made(self, recipe, runs):
        list(run_recipe(recipe, runs))
        first = weights_file(recipe, runs)
        still = recipe.with_name("still.toml")
        still.write_text(TINY.replace("precision", "learning_rate = 1e-12\nema_decay = 0.0\nprecision"))
        other = runs.with_name("second")
        save_pretrained(other / "tiny" / "tiny.safetensors", replace(small_flow(), name="tiny"))
        list(run_recipe(still, other, start_from=first))
        before, after = load_file(first), load_file(weights_file(still, other))
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert load_pretrained(weights_file(still, other)).card["started_from"]["images_seen"] == 240

    def test_a_run_that_was_killed_twice_ends_the_same(self, recipe, runs):
        """Once while it drew pairs, and once while it trained."""
        calm = list(run_recipe(recipe, runs))
        expected = load_file(weights_file(recipe, runs))
        (runs / "tiny_reflow").rename(runs / "calm")
        killed = run_recipe(recipe, runs)
        next(killed), killed.close()
        assert len(list((runs / "tiny_reflow" / "pairs").iterdir())) == 1
        killed = run_recipe(recipe, runs, checkpoint_every=7)
        while not isinstance(record := next(killed), Record) or record.step < 20:
            pass
        killed.close()
        last = list(run_recipe(recipe, runs, checkpoint_every=7))
        assert [r.step for r in last if isinstance(r, Record)] == [20, 30]  # it went on from 14
        assert last[-1].loss == pytest.approx(calm[-1].loss)
        found = load_file(weights_file(recipe, runs))
        assert all(torch.equal(expected[name], found[name]) for name in expected)

    def test_a_file_says_the_interval_of_guidance(self, recipe, runs):
        recipe.write_text(TINY.replace("count = 40", "count = 40\nguidance_interval = [0.2, 3.0]"))
        list(run_recipe(recipe, runs))
        assert load_pretrained(weights_file(recipe, runs)).card["recipe"]["pairs"]["guidance_interval"] == [0.2, 3.0]

    def test_a_file_can_teach(self, recipe, runs):
        moved = runs.parent / "mine.safetensors"
        (runs / "tiny" / "tiny.safetensors").rename(moved)
        recipe.write_text(TINY.replace('teacher = "tiny"', f'teacher = "{moved}"'))
        assert isinstance(next(run_recipe(recipe, runs)), PairsRecord)

    @pytest.mark.parametrize(
        ("line", "instead", "said"),
        [
            ('teacher = "tiny"', 'teacher = "mnist_unet_flaw"', "did you mean 'mnist_unet_flow'"),
            ('teacher = "tiny"', "", "lacks teacher"),
            ('teacher = "tiny"', 'teacher = "mnist_unet_eps"', "only a flow model can be rectified"),
            ('teacher = "tiny"', 'teacher = "tiny"\nkind = "flow"', "has no kind"),
            ("count = 40", "cuont = 40", r"unknown key of \[pairs\] 'cuont': did you mean 'count'"),
            ("count = 40", "count = -40", r"tiny_reflow\.toml: count of the pairs"),
            ("count = 40", "", r"tiny_reflow\.toml: .*count"),
            (
                "count = 40",
                "count = 40\nguidance_interval = [3.0, 0.2]",
                r"tiny_reflow\.toml: guidance_interval must be",
            ),
            (
                "count = 40",
                "count = 40\nguidance_interval = [0.2]",
                r"tiny_reflow\.toml: guidance_interval of \[pairs\] must",
            ),
            ("images = 240", "flip = true\nimages = 240", "flip = false"),
            ('task = "reflow"', 'task = "reflw"', "did you mean 'reflow'"),
        ],
    )
    def test_a_wrong_file_is_refused(self, recipe, runs, line, instead, said):
        assert line in TINY
        recipe.write_text(TINY.replace(line, instead, 1))
        with pytest.raises(ValueError, match=said):
            list(run_recipe(recipe, runs))

    def test_it_has_no_split(self, recipe, runs):
        with pytest.raises(ValueError, match="trains on what its teacher draws, and on no split of mnist"):
            next(run_recipe(recipe, runs, split="sample"))
        with pytest.raises(ValueError, match="images"):
            list(run_recipe(recipe, runs, images=1))


class TestShipped:
    def test_it_is_its_recipe_and_needs_no_guidance(self):
        model = load_pretrained("cifar10_unet_reflow")
        recipe = Recipe.from_tables(*read_recipe(model.name))
        assert model.default_guidance_scale == recipe.guidance_scale == 1.0
        assert model.card["recipe"]["pairs"] == json.loads(json.dumps(asdict(recipe.pairs)))
        assert model.card["task"] == "reflow"

    def test_its_paths_are_straighter_than_its_teachers(self):
        labels = torch.arange(8)
        bends = []
        for name in ("cifar10_unet_flow", "cifar10_unet_reflow"):
            model = load_pretrained(name)
            bends.append(straightness(model.steps(model.denoiser(labels), len(labels), 8)))
        assert bends[1] < 0.8 * bends[0]

    def test_few_of_its_steps_are_as_good_as_fifty(self):
        """By the measured distances; its teacher's fifty, guided as for the pairs, stay nearer (aim: 10%; 11 +- 5%)."""
        measured = {
            (row["model"], row["evaluations"], row["guidance_scale"]): row["frechet_distance"]
            for row in read_measured("samplers")["rows"]
            if row["sampler"] == "euler"
        }
        own = {count: measured["cifar10_unet_reflow", count, 1.0] for count in (4, 8, 50)}
        assert own[4] <= 1.03 * own[50] and own[8] <= 1.02 * own[50]
        scale = load_pretrained("cifar10_unet_reflow").card["recipe"]["pairs"]["guidance_scale"]
        teachers = {count: measured["cifar10_unet_flow", count, scale] for count in (4, 8, 50)}
        assert own[8] <= 1.12 * teachers[50] and own[4] < 0.3 * teachers[4] and own[8] < 0.7 * teachers[8]
        assert own[8] < 0.75 * measured["cifar10_unet_flow", 50, 2.0], "guided as the explorer does by default"
