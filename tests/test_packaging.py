"""The files that install the project agree with one another, and its modules keep to the shape that was chosen."""

import ast
import graphlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import diffusion_explained

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffusion_explained"
CIFAR10 = ROOT / "packages" / "diffusion-explained-cifar10"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {PROJECT["name"], CIFAR10.name}


def requirements(*extras: str, core: bool = True) -> dict[str, Requirement]:
    """The direct dependencies, and those of the extras, by their canonical name; an extra's extras are looked up."""
    found, waiting, seen = {}, list(extras), set()
    lines = list(PROJECT["dependencies"]) if core else []
    while waiting:
        extra = waiting.pop()
        if extra not in seen:
            seen.add(extra)
            lines += PROJECT["optional-dependencies"][extra]
            waiting += [e for r in map(Requirement, lines) if r.name == PROJECT["name"] for e in r.extras]
    for requirement in map(Requirement, lines):
        if requirement.name not in OURS:
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pins(path: Path) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def constraints() -> dict[str, Requirement]:
    return pins(ROOT / "constraints.txt")


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
    tested = constraints()
    for name, requirement in requirements(*PROJECT["optional-dependencies"]).items():
        assert name in tested, f"{name} of pyproject.toml is not in constraints.txt"
        version = str(tested[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{name} {version} is outside {requirement}"


def test_one_package_has_one_lower_bound():
    bounds: dict[str, set[str]] = {}
    for extra in ((), *((name,) for name in PROJECT["optional-dependencies"])):
        for name, requirement in requirements(*extra, core=not extra).items():
            bounds.setdefault(name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


VERSIONS = os.environ.get("VERSIONS", "tested")  # "lowest" by `make lowest`, "newest" by the workflow's weekly run


def test_what_runs_here_is_what_was_chosen():
    """The versions of constraints.txt; or, for `make lowest`, the very lower bounds, so that these are true.

    The newest versions are whatever they are that day.
    """
    chosen = constraints()
    for name, requirement in requirements("all", "test").items():
        installed = importlib.metadata.version(name).split("+")[0]  # a build of torch says +cpu or +cu130
        if VERSIONS == "tested":
            assert chosen[name].specifier.contains(installed), f"{name} {installed} is installed, {chosen[name]} tested"
        elif VERSIONS == "lowest" and name != "torch":  # a lower torch would come as a build for CUDA, of gigabytes
            lowest = next(bound.version for bound in requirement.specifier)
            assert Version(installed).release[: lowest.count(".") + 1] == Version(lowest).release, (
                f"{requirement} is not true: what else is installed needs {name} {installed}"
            )


@pytest.mark.skipif(VERSIONS != "tested", reason="the versions of constraints.txt are not installed")
def test_what_the_dependencies_bring_is_pinned_too():
    pins, seen, waiting = constraints(), set(), list(requirements("all", "test").values())
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
    assert pip == {"pip": ["-c constraints.txt", "-e ./packages/diffusion-explained-cifar10", "-e .[all]"]}


def outside_of_extras(path: Path) -> set[str]:
    """What a file imports at any place but inside `with extra(...)` or `if TYPE_CHECKING`."""
    optional = {
        child
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr).startswith("extra("))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in imports_of(node)
    }
    return imported(path) - optional


def imports_of(tree: ast.AST) -> set[str]:
    """The modules that are named by the import statements of a tree."""
    nodes = list(ast.walk(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def test_third_party_imports_are_declared():
    distributions = importlib.metadata.packages_distributions()
    core, peers = set(requirements()), set(pins(ROOT / "benchmarks" / "requirements.txt"))
    checked = {  # the folders, what they may import anywhere, and what inside `with extra(...)`
        (PACKAGE,): (core, set(requirements("all", "molecules"))),
        (ROOT / "recipes",): (core | set(requirements("molecules")), set(requirements("all"))),
        (ROOT / "app",): (set(requirements("app")), set()),
        (ROOT / "notebooks", ROOT / "tests"): (set(requirements("all", "test")), set()),
        (ROOT / "benchmarks",): (set(requirements("all", "benchmark")) | peers, set()),
    }
    for folders, (anywhere, optional) in checked.items():
        for path in modules(*folders):
            plain = outside_of_extras(path) if optional else imported(path)
            # what lies beside a script, beside the explorer's main.py or among the tests has a bare name to import
            near = (path.parent, ROOT / "app", *([ROOT / "tests"] if path.is_relative_to(ROOT / "tests") else []))
            local = {PACKAGE.name, *(one.stem for folder in near for one in folder.iterdir())}
            for module in imported(path):
                declared = anywhere if module in plain else anywhere | optional
                top = module.split(".")[0]
                if top in sys.stdlib_module_names or top in local:
                    continue
                owners = {canonicalize_name(owner) for owner in distributions.get(top, [top])}
                assert owners & declared, f"{relative(path)} imports {top}, which pyproject.toml does not name"


def test_the_benchmarks_peers_are_pinned_as_they_were_measured():
    for name, pin in pins(ROOT / "benchmarks" / "requirements.txt").items():
        assert re.fullmatch(r"==[\d.]+", str(pin.specifier)), name
    assert "torchvision" not in (ROOT / "constraints.txt").read_text(), "its wheels replace a CPU build of torch"


# What is built

MOST = 100e6  # bytes; PyPI takes no file over 100 MiB, 104.9e6 bytes


def test_the_two_distributions_have_one_version():
    weights = tomllib.loads((CIFAR10 / "pyproject.toml").read_text())["project"]
    assert weights["version"] == diffusion_explained.__version__
    assert PROJECT["optional-dependencies"]["cifar10"] == [f"{weights['name']}=={weights['version']}"]
    assert (CIFAR10 / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, for setuptools leaves a build folder in it."""
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "site", "__pycache__", "runs")
    kept = {".streamlit", ".ci", ".github", ".pre-commit-config.yaml"}
    target = tmp_path_factory.mktemp("source") / "tree"
    return shutil.copytree(ROOT, target, ignore=lambda path, names: ignored(path, names) - kept)


def build(folder: Path, target: Path, kind: str) -> Path:
    """The wheel or sdist of a project, made without the network."""
    target.mkdir(exist_ok=True)
    call = f"print(setuptools.build_meta.build_{kind}({str(target)!r}))"
    command = [sys.executable, "-c", f"import setuptools.build_meta; {call}"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return target / run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(source: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(build(source, source.parent / "built", "wheel"))


@pytest.fixture(scope="module")
def weights_wheel(source: Path) -> zipfile.ZipFile:
    folder = source / "packages" / CIFAR10.name
    if not (folder / "diffusion_explained_cifar10").is_dir():
        pytest.skip("a source distribution does not carry the other distribution's weights")
    return zipfile.ZipFile(build(folder, source.parent / "built", "wheel"))


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    return build(source, source.parent / "built", "sdist")


def test_every_file_that_is_published_is_small_enough(wheel, weights_wheel, sdist: Path, source: Path):
    weights = build(source / "packages" / CIFAR10.name, source.parent / "built", "sdist")
    sizes = {Path(f).name: Path(f).stat().st_size for f in (wheel.filename, weights_wheel.filename, sdist, weights)}
    assert len(sizes) == 4
    assert {name: size for name, size in sizes.items() if size > MOST} == {}


def test_the_wheel_of_weights_carries_them_and_nothing_else(weights_wheel: zipfile.ZipFile):
    inside = {name for name in weights_wheel.namelist() if ".dist-info/" not in name}
    files = {path.name for path in (CIFAR10 / "diffusion_explained_cifar10").iterdir() if path.is_file()}
    assert inside == {f"diffusion_explained_cifar10/{name}" for name in files}
    assert sum(name.endswith(".safetensors") for name in files) == 6


def test_the_sdist_is_whole(sdist: Path, tmp_path: Path):
    """Everything that git would check out travels in it, but the other distribution's weights; tests collect there."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(tmp_path.iterdir())
    for path in (path for top in SOURCE_TREE for path in [ROOT / top, *(ROOT / top).rglob("*")]):
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts):
            assert (root / path.relative_to(ROOT)).is_file(), f"{relative(path)} is not in the sdist"
    # a file of each folder, with what its conftest imports; the asserts stay as they are, for none is run
    some = ("tests/test_minimal.py", "tests/app/test_browser.py", "tests/notebooks/test_notebooks.py")
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "--assert=plain", "-p", "no:cacheprovider"]
    run = subprocess.run([*command, *some], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert all(name in run.stdout for name in some)


SOURCE_TREE = {
    ".ci", ".github", "app", "assets", "benchmarks", "diffusion_explained", "docs", "examples", "notebooks", "recipes",
    "tests", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt",
    "environment.yml", "mkdocs.yml", "pyproject.toml",
}  # fmt: skip


def test_wheel_carries_the_course_the_explorer_the_recipes_and_the_weights(wheel: zipfile.ZipFile):
    inside = set(wheel.namelist())
    homes = {
        "app": ("_app", ("*.py", ".streamlit/config.toml")),
        "notebooks": ("_notebooks", ("*.ipynb",)),
        "recipes": ("_recipes", ("*",)),
        "diffusion_explained": (".", ("*.py", "py.typed", "*.safetensors", "*.npz", "*.js", "*.css")),
    }
    for folder, (home, patterns) in homes.items():
        files = [path for pattern in patterns for path in (ROOT / folder).rglob(pattern) if path.is_file()]
        files = [path for path in files if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)]
        assert files, f"nothing in {folder}/ to carry"
        for path in files:
            name = (Path("diffusion_explained") / home / path.relative_to(ROOT / folder)).as_posix()
            assert name in inside, f"{relative(path)} is not in the wheel"


def test_every_package_is_listed():
    """A folder that is not listed travels only as data, which setuptools warns of and will not do for ever."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert folders == set(listed) - {f"{PACKAGE.name}.{name}" for name in ("_app", "_notebooks", "_recipes")}


def test_wheel_carries_nothing_else(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    version = diffusion_explained.__version__
    assert tops == {"diffusion_explained", f"diffusion_explained-{version}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".pyc", ".part"))]


def test_the_two_wheels_alone_have_everything(wheel: zipfile.ZipFile, weights_wheel: zipfile.ZipFile, tmp_path: Path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*pip, "--target", str(site), wheel.filename, weights_wheel.filename], check=True)
    code = """if True:
        from pathlib import Path
        from diffusion_explained import load_pretrained
        from diffusion_explained import files
        from diffusion_explained.cli import launch
        from diffusion_explained.training.recipes import recipe_names
        from diffusion_explained.pretrained import cifar10_folder
        assert not files.in_repository()
        assert Path(launch.streamlit_command(8501, browser=False)[4]).is_file()
        load_pretrained("mnist_unet_flow")
        load_pretrained("cifar10_unet_flow")
        assert cifar10_folder().parent == files.PACKAGE.parent, cifar10_folder()
        print(files.PACKAGE, *launch.copy_course(Path("course")).new, *recipe_names(), sep="\\n")
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
    """The names of all modules in a fresh interpreter that asked the package for all its names but `plots`."""
    code = (
        "import sys, diffusion_explained as d; [getattr(d, n) for n in d.__all__ if n != 'plots']; print(*sys.modules)"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("heavy", ["diffusers", "transformers", "streamlit", "ipywidgets", "matplotlib", "pandas"])
def test_importing_the_package_does_not_import(heavy: str, loaded_by_the_package: set[str]):
    assert {"torch", "diffusion_explained.pretrained"} <= loaded_by_the_package
    assert heavy not in loaded_by_the_package


@cache
def imported(path: Path) -> frozenset[str]:
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
    return frozenset(found)


@cache
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


CORE = ["schedules", "predictions", "guidance", "denoisers", "samplers"]
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


RUNS_READERS_CODE = "diffusion_explained/course/worker.py"  # what `course grade` is for, in a process apart
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "pickle.load", "pickle.loads", "joblib.load"}


@pytest.mark.parametrize("path", modules(PACKAGE, ROOT / "app", ROOT / "recipes", ROOT / "notebooks"), ids=relative)
def test_nothing_that_was_loaded_is_run(path: Path):
    assert not imported(path) & {"pickle", "dill", "cloudpickle", "joblib"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
            called = ast.unparse(node.func)
            if called == "exec" and relative(path) == RUNS_READERS_CODE:
                continue
            assert called not in FORBIDDEN_CALLS or safe.get("weights_only") == "True", f"line {node.lineno}"
            assert safe.get("allow_pickle") != "True", f"line {node.lineno}"


# How the rooms stand


def structure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structure", ROOT / "assets" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_room_is_built_on_one_above_it():
    assert structure().faults() == []


def test_the_picture_of_the_rooms_is_drawn_anew():
    assert structure().PAGE.read_text(encoding="utf-8") == structure().page(), "make structure"
