"""The pages hold no words of their own: labels and the words modules do, so that another language can follow."""

import ast
import re
import string

import pytest
from conftest import APP
from explorer import labels, part_labels

PHRASE = re.compile(r"^[^<]*[^\W\d_]{2,}\W* \W*[^\W\d_]{2,}")  # two words, and not in a tag of HTML
ALLOWED = {  # values of settings, as the address has them; the model's own language is English
    "break_it": {"cond and uncond swapped"},
    "latents": {"one latent pixel", "a whole channel"},
    "reverse": {"one of each"},
    "schedules": {"log SNR"},  # a key of the curves
}
PROMPTS = {"EXAMPLES", "OTHER_PROMPT"}
CONTROLS = {"number", "slider", "span", "steps", "choice", "pills", "many", "segments", "switch", "text"}
WIDGETS = {"button", "caption", "download_button", "error", "expander", "header", "info", "markdown", "progress",
           "spinner", "success", "title", "warning"}  # fmt: skip
PAGES = {path.stem: ast.parse(path.read_text("utf-8")) for path in sorted((APP / "pages_").glob("*.py"))}
PARTS = {path.stem: tree for path in sorted((APP / "explorer").glob("*.py"))
         if "part_labels" in ast.unparse(tree := ast.parse(path.read_text("utf-8")))}  # fmt: skip


def all_words():
    """name -> words of every label, as a page writes it: "labels.Reverse.more"."""
    found = {f"labels.{name}": words for name, words in vars(labels).items() if name.isupper()}
    for module, name in ((labels, "labels"), (part_labels, "part_labels")):
        for page, own in vars(module).items():
            if isinstance(own, type) and own.__module__ == module.__name__:
                words = {one: text for one, text in vars(own).items() if not one.startswith("__")}
                found |= {f"{name}.{page}.{one}": text for one, text in words.items()}
    return found


def no_words(tree):
    """The nodes of a page that hold other strings than words for a visitor: docstrings, programs, types, prompts."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.FunctionDef) and isinstance(body[0], ast.Expr):
            yield body[0].value
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("programs."):
            yield from ast.walk(node)
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield from ast.walk(node.returns)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in PROMPTS:
            yield from ast.walk(node)


def shown_by(call):
    """The arguments of a call that a visitor reads: the label of a control or of a widget, and its help."""
    _, _, name = ast.unparse(call.func).rpartition(".")
    if ast.unparse(call.func) in {f"controls.{one}" for one in CONTROLS}:
        yield from call.args[1:2]
    elif name in WIDGETS:
        yield from call.args[:1]
    yield from (keyword.value for keyword in call.keywords if keyword.arg in ("label", "help", "ask"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_words_of_its_own(page):
    tree, allowed, found = PAGES[page], ALLOWED.get(page, ()), []
    skipped = {id(node) for node in no_words(tree)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PHRASE.search(node.value):
            found.append(node.value)
        if isinstance(node, ast.Call):
            found += [one.value for one in shown_by(node) if isinstance(one, ast.Constant) and len(str(one.value)) > 3]
    assert set(found) <= set(allowed), "to be named in app/explorer/labels.py"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_pages_shows_no_words_of_its_own(part):
    calls = [node for node in ast.walk(PARTS[part]) if isinstance(node, ast.Call)]
    literals = [one for call in calls for one in shown_by(call)]
    pieces = [piece for one in literals for piece in (one.values if isinstance(one, ast.JoinedStr) else [one])]
    texts = [piece.value for piece in pieces if isinstance(piece, ast.Constant)]
    found = [text for text in texts if isinstance(text, str) and PHRASE.search(text)]
    assert found == [], "to be named in app/explorer/part_labels.py"


def test_each_label_is_shown_with_what_its_braces_ask_for():
    known, used = all_words(), set()
    for page, tree in (PAGES | PARTS).items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        given = {id(call.func.value): {keyword.arg for keyword in call.keywords} for call in calls
                 if isinstance(call.func, ast.Attribute) and call.func.attr == "format"}  # fmt: skip
        for node in ast.walk(tree):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in known:
                used.add(name)
                fields = {field for _, field, _, _ in string.Formatter().parse(str(known[name])) if field}
                assert not isinstance(known[name], str) or given.get(id(node), set()) == fields, (page, name)
    assert used == set(known), "a label that no page shows"
