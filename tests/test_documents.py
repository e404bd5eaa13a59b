"""What the project says about itself: links and anchors lead somewhere, programs run, and what is said twice agrees."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import diffusion_explained

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = PROJECT["urls"]["Repository"]
RAW = ADDRESS.replace("//github.com", "//raw.githubusercontent.com")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, ROOT / "notebooks" / "README.md"]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A page without its programs."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    texts = (re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def dead_links(page: Path) -> list[str]:
    """The links of a page to files of the repository, relative or by its address, that do not exist."""
    dead = []
    for link in (first or second for first, second in LINK.findall(prose(page))):
        target = link
        for address in (f"{RAW}/main/", f"{ADDRESS}/blob/main/", f"{ADDRESS}/tree/main/"):
            target = target.replace(address, f"{ROOT}/") if target.startswith(address) else target
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path):
    assert dead_links(page) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading: `code`, *and* more\n[a](#a-heading-code-and-more) [b](#no) [c](absent.md)\n"
        f'[d]({ADDRESS}/blob/main/README.md) <img src="{RAW}/main/absent.png">\n```\n[e](in-a-program.md)\n```\n'
        "`[f](in-code.md)` [g](https://example.org)\n"
    )
    assert dead_links(page) == ["#no", "absent.md", f"{RAW}/main/absent.png"]


def test_the_site_shows_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = re.findall(r"[\w/]+\.md", str(site["nav"]))
    assert sorted(named) == sorted(set(named))
    assert set(named) == {path.relative_to(ROOT / "docs").as_posix() for path in DOCS}
    assert site["theme"]["font"] is False, "nothing is fetched from another host"


def test_the_reference_names_modules_that_exist():
    for name in re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE):
        module = ROOT / Path(*name.split("."))
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), name


def test_the_explorers_pages_are_described(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "app")
    words = runpy.run_path(str(ROOT / "app" / "explorer" / "page_words.py"))
    titles = {"Start", *(page.name for page in words["PAGES"].values())}
    table = (ROOT / "docs" / "explorer.md").read_text(encoding="utf-8").split("\n| page |")[1].split("\n\n")[0]
    assert titles == set(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)) and len(titles) > 5


def test_every_notebook_is_in_the_reading_order():
    for page, prefix in ((ROOT / "README.md", "notebooks/"), (ROOT / "docs" / "course.md", "../notebooks/")):
        for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
            assert f"({prefix}{notebook.name})" in page.read_text(encoding="utf-8"), notebook.name


def test_every_extra_is_described():
    table = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) == set(PROJECT["optional-dependencies"])


# The README


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_read_in_one_go_and_its_pictures_are_absolute():
    assert len(README.splitlines()) <= 180
    pictures = re.findall(r'!\[[^\]]*\]\(([^)]+)\)|src="([^"]+)"', README)
    assert len(pictures) >= 3 and all("".join(found).startswith(f"{RAW}/main/assets/") for found in pictures)
    assert not re.search(r"\d[\d,]* tests", README), "a number that rots"


def test_the_addresses_agree():
    """pyproject.toml has the repository's address; whoever names it elsewhere names the same one."""
    pages = [*PAGES, ROOT / "CITATION.cff", ROOT / "mkdocs.yml", *(ROOT / "packages").rglob("*.toml")]
    pages += (ROOT / "packages").rglob("*.md")
    ours = re.compile(r"https://(?:raw\.githubusercontent|github)\.com/[\w-]+/diffusion[-_]explained\b")
    for page in pages:
        assert set(ours.findall(page.read_text(encoding="utf-8"))) <= {ADDRESS, RAW}, relative(page)
    assert f"git clone --depth 1 {ADDRESS} && cd {ADDRESS.rsplit('/', 1)[1]}" in README
    assert all(url.startswith(ADDRESS) for url in PROJECT["urls"].values())


def test_the_commands_of_the_readme_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        found = re.findall(r"`make (\w+)|^make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {a or b for a, b in found} <= set(targets), relative(page)


def programs(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "lines"), [("README.md", 10), ("docs/stable_diffusion.md", 30)], ids=["README", "Stable Diffusion"]
)
def test_the_programs_run_and_print_a_line_per_step(page: str, lines: int, tmp_path: Path):
    program = next(text for text in programs(ROOT / page) if "import" in text)
    assert len(program.splitlines()) <= 12
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == lines and "torch.Size([2, " in run.stdout


# What is said twice


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == diffusion_explained.__version__
    assert citation["repository-code"] == ADDRESS and citation["license"] == PROJECT["license"]
    assert f"## [{diffusion_explained.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_workflow_tests_what_the_classifiers_name():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    tested = set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"])
    named = {word.rsplit(" ", 1)[1] for word in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", word)}
    assert named and named <= tested
    assert min(tested, key=lambda version: int(version.split(".")[1])) == PROJECT["requires-python"].removeprefix(">=")


def test_pre_commit_runs_the_ruff_of_the_constraints():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    ruff = next(repo for repo in hooks if "ruff" in repo["repo"])
    assert f"ruff=={ruff['rev'].removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text()


def test_the_ci_script_runs_the_readmes_test_command():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert re.search(r"^make test\b", README, re.MULTILINE)
