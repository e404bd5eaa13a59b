"""What every page offers to share: a notebook, a film, charts, a trace; what the browser adds is in test_browser.py."""

import io
import json

import nbformat
import torch
from explorer import share_panel
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load

PROGRAM = "x_0 = 1"


def offered(at, name):
    """What the page of this name offers; all of it must be made, and be what it says."""
    offer, labels = at.session_state.offers, [one.label for one in at.get("download_button")]
    (panel,) = [one for one in (json.loads(e.proto.json) for e in at.get("bidi_component")) if "cell" in one]
    assert offer.page == panel["page"] == name
    assert panel["cell"] == share_panel.cell(offer.program, offer.picture)
    assert "Notebook" in labels
    assert ("Film (GIF)" in labels) == bool(offer.films)
    if offer.films:
        with Image.open(io.BytesIO(share_panel.film_as_gif(offer))) as film:
            frames = next(iter(offer.films.values())).frames  # of equal frames a GIF keeps one
            assert film.format == "GIF" and 1 <= film.n_frames <= len(frames)
    assert ("Trace: tensors and settings" in labels) == (offer.numbers is not None)
    if offer.numbers is not None:
        assert load(share_panel.trace(offer, "steps=2")), "there are tensors"
    return offer


def test_a_cell_ends_with_the_picture_and_imports_what_it_uses():
    assert share_panel.cell(PROGRAM, "") == PROGRAM and share_panel.cell("", "x") == ""
    cell = share_panel.cell(PROGRAM, "mosaic(pixels(torch.cat([x_0])), 5)")
    assert cell.startswith(PROGRAM) and cell.endswith("\nImage.fromarray(mosaic(pixels(torch.cat([x_0])), 5))")
    assert cell.count("import torch\n") == 1
    assert share_panel.cell(f"import torch\n{PROGRAM}", "torch.cat([x_0])").count("import torch\n") == 1


def test_a_notebook_is_one_that_jupyter_opens():
    read = nbformat.reads(share_panel.notebook("x = 'é'\nx").decode(), as_version=4)
    nbformat.validate(read)
    assert [cell.source for cell in read.cells] == ["x = 'é'\nx"]


def test_a_trace_has_the_tensors_and_says_where_they_come_from(tmp_path):
    x_t = torch.arange(24.0).reshape(2, 3, 4).transpose(0, 1)  # whose memory is in another order
    offer = share_panel.Offers("reverse", program=PROGRAM, numbers=lambda: {"x_t": x_t})
    file = tmp_path / "reverse.safetensors"
    file.write_bytes(share_panel.trace(offer, "steps=4&seed=3"))
    with safe_open(file, "pt") as content:
        assert content.metadata() == {"page": "reverse", "settings": "steps=4&seed=3", "program": PROGRAM}
        assert torch.equal(content.get_tensor("x_t"), x_t)


def test_a_trace_of_a_run_is_that_run(open_page):
    at = open_page("reverse", steps="1", seed="4")
    (panel,) = [one for one in (json.loads(e.proto.json) for e in at.get("bidi_component")) if "cell" in one]
    assert panel["left_out"] == "" and at.session_state.offers.films.keys() == {"run"}
    trace = load(share_panel.trace(offered(at, "reverse"), ""))
    assert trace["x_t"].shape == (2, 10, 1, 28, 28) and trace["predicted x_0"].shape == (1, 10, 1, 28, 28)
    assert torch.equal(trace["x_t"][-1], at.session_state.offers.numbers()["x_t"][-1])
