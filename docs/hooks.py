"""MkDocs hooks. The pages link to the repository's files by relative paths, as on GitHub (`../notebooks/01.ipynb`); the
site has its own copy of the pictures, and turns every other link that leaves docs/ into one to the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add assets/ to the site."""
    for path in sorted((ROOT / "assets").iterdir()):
        if path.suffix in {".png", ".gif"}:
            files.append(File(f"assets/{path.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the site's pictures, or to the repository."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def pointed(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        if target.startswith("docs/"):
            return link[0]
        if target.startswith("assets/"):
            return f"]({posixpath.relpath(posixpath.join('docs', target), folder)}"
        return f"]({config.repo_url}/blob/main/{target}"

    return re.sub(r"\]\((\.\./[^)#]*)", pointed, markdown)
