"""The files that install the project agree with one another, and its modules keep to the shape that was chosen."""

import ast
import graphlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffusion_explained"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """The direct dependencies, and those of the extras, by their canonical name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def modules(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# What is installed


def test_constraints_pin_one_public_version_each():
    for name, pin in constraints().items():
        assert re.fullmatch(r"==\d+(\.\d+)*(\.post\d+)?", str(pin.specifier)), f"{name}: {pin}"
        assert not (pin.url or pin.marker or pin.extras), f"{name} is more than a version: {pin}"
    assert str(constraints()["torch"].specifier) == "==2.13.0"


def test_every_direct_dependency_is_pinned_inside_its_bounds():
    pins = constraints()
    for name, requirement in requirements("test", "benchmark").items():
        assert name in pins, f"{name} of pyproject.toml is not in constraints.txt"
        version = str(pins[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{name} {version} is outside {requirement}"


def test_what_runs_here_is_what_the_constraints_say():
    pins = constraints()
    for name in requirements("test"):
        installed = importlib.metadata.version(name).split("+")[0]  # a build of torch says +cpu or +cu130
        assert pins[name].specifier.contains(installed), f"{name} {installed} is installed, {pins[name]} is tested"


def test_what_the_dependencies_bring_is_pinned_too():
    pins, seen, waiting = constraints(), set(), list(requirements("test").values())
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add((name, frozenset(requirement.extras)))
        assert name in pins or sys.platform != "linux", f"{name} is not in constraints.txt"
        for line in importlib.metadata.requires(name) or []:
            child = Requirement(line)
            if any(child.marker is None or child.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(child)


def test_conda_environment_agrees_with_pyproject_and_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    specs = dict(re.fullmatch(r"([\w-]+)(?:=([\d.]+))?", spec).groups() for spec in conda)
    assert SpecifierSet(PROJECT["requires-python"]).contains(specs.pop("python"))
    assert specs == {"pip": None}, "libraries come from pyproject.toml, by pip"
    assert pip == {"pip": ["-c constraints.txt", "-e ."]}


# The one module that may need an extra: it asks for it where it is used, and says which when it is missing.
NEEDS_EXTRA = {PACKAGE / "micro" / "building.py": "micro"}


def test_third_party_imports_are_declared():
    distributions = importlib.metadata.packages_distributions()
    checked = {
        (): [PACKAGE, ROOT / "app", ROOT / "recipes"],
        ("test",): [ROOT / "tests", ROOT / "notebooks"],
        ("test", "benchmark"): [ROOT / "benchmarks"],
    }
    for extras, folders in checked.items():
        for path in modules(*folders):
            declared = set(requirements(*extras, *([NEEDS_EXTRA[path]] if path in NEEDS_EXTRA else [])))
            # what lies beside a script, beside the explorer's main.py or among the tests has a bare name to import
            near = (path.parent, ROOT / "app", *([ROOT / "tests"] if "test" in extras else []))
            local = {PACKAGE.name, *(one.stem for folder in near for one in folder.iterdir())}
            for module in imported(path):
                top = module.split(".")[0]
                if top in sys.stdlib_module_names or top in local:
                    continue
                owners = {canonicalize_name(owner) for owner in distributions.get(top, [top])}
                assert owners & declared, f"{relative(path)} imports {top}, which pyproject.toml does not name"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tree (setuptools leaves a build folder), made without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "runs")
    source = shutil.copytree(ROOT, folder / "source", ignore=lambda path, names: ignored(path, names) - {".streamlit"})
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_carries_the_course_the_explorer_the_recipes_and_the_weights(wheel: zipfile.ZipFile):
    inside = set(wheel.namelist())
    homes = {
        "app": ("_app", ("*.py", ".streamlit/config.toml")),
        "notebooks": ("_notebooks", ("*.ipynb",)),
        "recipes": ("_recipes", ("*",)),
        "diffusion_explained": (".", ("*.py", "*.safetensors", "*.npz", "*.js", "*.css")),
    }
    for folder, (home, patterns) in homes.items():
        files = [path for pattern in patterns for path in (ROOT / folder).rglob(pattern) if path.is_file()]
        files = [path for path in files if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)]
        assert files, f"nothing in {folder}/ to carry"
        for path in files:
            name = (Path("diffusion_explained") / home / path.relative_to(ROOT / folder)).as_posix()
            assert name in inside, f"{relative(path)} is not in the wheel"


def test_wheel_carries_nothing_else(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    version = PROJECT["version"]
    assert tops == {"diffusion_explained", f"diffusion_explained-{version}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".pyc", ".part"))]


def test_the_wheel_alone_has_everything(wheel: zipfile.ZipFile, tmp_path: Path):
    site = tmp_path / "site"
    wheel.extractall(site)
    code = """if True:
        from pathlib import Path
        from diffusion_explained import launch, load_pretrained
        from diffusion_explained.recipes import recipe_names
        assert not launch.in_repository()
        assert Path(launch.streamlit_command(8501, browser=False)[4]).is_file()
        load_pretrained("mnist_unet_flow")
        print(launch.PACKAGE, *launch.copy_course(Path("course")).new, *recipe_names(), sep="\\n")
    """
    python = [sys.executable, "-c", code]
    run = subprocess.run(
        python, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    package, *names = run.stdout.splitlines()
    assert Path(package) == site / "diffusion_explained"
    course = [path.name for path in (ROOT / "notebooks").iterdir() if path.suffix in (".ipynb", ".md")]
    assert names == sorted(course) + sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


# What is imported


@pytest.fixture(scope="module")
def loaded_by_the_package() -> set[str]:
    """The names of all modules in a fresh interpreter that asked the package for everything that it names."""
    code = "import sys, diffusion_explained as d; [getattr(d, name) for name in d.__all__]; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("heavy", ["diffusers", "transformers", "streamlit", "ipywidgets", "matplotlib", "pandas"])
def test_importing_the_package_does_not_import(heavy: str, loaded_by_the_package: set[str]):
    assert {"torch", "diffusion_explained.pretrained"} <= loaded_by_the_package
    assert heavy not in loaded_by_the_package


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or later; `from a import b` counts a, and a.b where that is ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; name the module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = {name for name in names if name in module_names()}
            found |= submodules if submodules == names else {node.module, *submodules}
    return found


def module_names() -> dict[str, Path]:
    """The package's modules by their dotted name."""
    names = {}
    for path in modules(PACKAGE):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def reaches(start: str) -> set[str]:
    """The package's modules that `start` needs, directly or not."""
    names, found, waiting = module_names(), set(), [start]
    while waiting:
        for module in imported(names[waiting.pop()]) & names.keys() - found:
            found.add(module)
            waiting.append(module)
    return found


def test_no_module_needs_itself_in_a_circle():
    names = module_names()
    graphlib.TopologicalSorter({name: imported(path) & names.keys() for name, path in names.items()}).prepare()


CORE = ["schedules", "predictions", "denoisers", "samplers"]
ABOVE_THE_CORE = ["training", "pretrained", "metrics", "film", "figures", "plots", "widgets", "cli", "stable_diffusion"]


@pytest.mark.parametrize("module", CORE)
def test_core_depends_one_way(module: str):
    later = CORE[CORE.index(module) + 1 :] + ABOVE_THE_CORE
    assert all(f"diffusion_explained.{name}" in module_names() for name in CORE)
    needed = {name.split(".")[1] for name in reaches(f"diffusion_explained.{module}") if "." in name}
    assert not needed & set(later), f"{module} needs {sorted(needed & set(later))}, which are built on it"


def test_samplers_never_see_a_network():
    needed = reaches("diffusion_explained.samplers")
    assert not [name for name in needed if name.startswith("diffusion_explained.models")]


def test_only_the_explorer_imports_streamlit_and_nothing_imports_the_explorer():
    app_modules = {path.stem for path in modules(ROOT / "app")}
    for path in modules(PACKAGE):
        assert not {"streamlit", "app"} & {name.split(".")[0] for name in imported(path)}, relative(path)
    for path in modules(ROOT / "app"):
        assert "diffusion_explained.widgets" not in imported(path), f"{relative(path)}: that is for notebooks"
    assert "main" in app_modules


def test_diffusers_has_one_door():
    doors = [relative(path) for path in modules(PACKAGE, ROOT / "app") if "diffusers" in imported(path)]
    assert doors == ["diffusion_explained/stable_diffusion/backend.py"]


# What the code keeps to


@pytest.mark.parametrize("path", modules(PACKAGE, ROOT / "app"), ids=relative)
def test_module_is_one_room_with_a_name(path: Path):
    assert path.stem not in {"util", "utils", "helper", "helpers", "misc", "common"}
    assert path.stat().st_size < 25_000, "too long for one reading: is it more than one idea?"


FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "pickle.load", "pickle.loads", "joblib.load"}


@pytest.mark.parametrize("path", modules(PACKAGE, ROOT / "app", ROOT / "recipes", ROOT / "notebooks"), ids=relative)
def test_nothing_that_was_loaded_is_run(path: Path):
    assert not imported(path) & {"pickle", "dill", "cloudpickle", "joblib"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN_CALLS or safe.get("weights_only") == "True", f"line {node.lineno}"
            assert safe.get("allow_pickle") != "True", f"line {node.lineno}"
