"""Thirty at once: turns, what is shared, what is bounded, and what is not begun."""

import gc
import json
import threading
import tomllib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import APP, LARGER, eventually
from explorer import runs, turns
from explorer.cache import Cache, quiet, size_of
from explorer.turns import WEIGHT, WEIGHT_OF_HOLDER, Request, Stopwatch, Turns, computing, held

from diffusion_explained import comparisons
from diffusion_explained.cli import launch


class LeftError(Exception):
    """The visitor is gone."""


def test_no_collection_runs_after_each_look_and_what_is_loaded_is_frozen():
    config = tomllib.loads((APP / ".streamlit/config.toml").read_text())
    assert config["runner"]["postScriptGC"] is False
    assert "--runner.postScriptGC=false" in launch.streamlit_command(8501, browser=True)
    runs._loaded.clear()
    gc.unfreeze()
    runs.model("mnist_unet_flow")
    assert gc.isenabled() and gc.get_freeze_count() > 100_000
    gc.unfreeze()


def test_one_computes_at_a_time_in_the_order_of_arrival_and_the_rest_know_their_place():
    queue, order, said, threads, go = Turns(1), [], {}, [], threading.Event()
    waiting = [(None, f"waiting for its turn, {before} before you") for before in (1, 2)]

    def visitor(name):
        with queue.turn(lambda part, doing: said.setdefault(name, []).append((part, doing))):
            order.append(name)
            eventually(go.is_set)

    for k in range(3):
        threads.append(threading.Thread(target=visitor, args=(k,)))
        threads[-1].start()
        eventually(lambda k=k: queue.busy == k + 1)
    eventually(lambda: [said.get(k, [None])[-1] for k in (1, 2)] == waiting)
    assert order == [0]
    go.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2] and queue.busy == 0


def test_who_leaves_while_waiting_leaves_the_queue():
    queue = Turns(1)

    def gone(part, doing):
        raise LeftError

    def visitor():
        with pytest.raises(LeftError), queue.turn(gone):
            raise AssertionError("it had no turn")

    with queue.turn(quiet):
        thread = threading.Thread(target=visitor)
        thread.start()
        thread.join()
        assert queue.busy == 1
    with queue.turn(quiet) as turn, queue.turn(quiet) as inner:
        assert inner is turn, "a thread that has a turn needs no second one"


def test_a_long_computation_passes_its_turn_on_between_steps():
    now = [0.0]
    queue, order = Turns(1, lambda: now[0]), []

    def short():
        with queue.turn(quiet):
            order.append("short")

    with queue.turn(quiet) as turn:
        thread = threading.Thread(target=short)
        thread.start()
        eventually(lambda: queue.busy == 2)
        turn(0.1)
        order.append("long, within its slice")
        now[0] = 2.0
        turn(0.2)
        order.append("long")
        assert not turn.alone
    thread.join()
    assert order == ["long, within its slice", "short", "long"]
    assert turn.request.held == pytest.approx(2.0)


def test_the_computations_of_one_request_keep_its_place_before_later_visitors():
    now = [0.0]
    queue, order, begun = Turns(1, lambda: now[0]), [], threading.Event()

    def page():
        with computing(Request(lambda: 1.0)):  # asked before the later visitor
            with queue.turn(quiet):
                order.append("first of the page")
                begun.set()
                eventually(lambda: queue.busy == 2)
            with queue.turn(quiet):
                order.append("second of the page")

    def later():
        with computing(Request(lambda: 2.0)), queue.turn(quiet):
            order.append("later visitor")

    with queue.turn(quiet):
        threads = [threading.Thread(target=page), threading.Thread(target=later)]
        for waiting, thread in enumerate(threads, 2):
            thread.start()
            eventually(lambda waiting=waiting: queue.busy == waiting)
    for thread in threads:
        thread.join()
    assert order == ["first of the page", "second of the page", "later visitor"]


def test_a_request_that_has_computed_for_long_lets_later_ones_pass():
    now = [0.0]
    queue, order = Turns(1, lambda: now[0]), []

    def visitor(name, request):
        with computing(request), queue.turn(quiet):
            order.append(name)

    long, short = Request(lambda: 0.0), Request(lambda: 30.0)
    with computing(long), queue.turn(quiet):
        now[0] = 4.0  # it has computed for 4 s, which counts as much as 40 s of waiting
    with queue.turn(quiet):
        threads = [threading.Thread(target=visitor, args=one) for one in (("long", long), ("short", short))]
        for waiting, thread in enumerate(threads, 2):
            thread.start()
            eventually(lambda waiting=waiting: queue.busy == waiting)
    for thread in threads:
        thread.join()
    assert long.held == pytest.approx(4.0) and order == ["short", "long"]


def test_a_request_that_others_wait_for_gives_way_less_readily():
    lock, request = threading.Lock(), Request(lambda: 0.0)
    request.held = 4.0
    before = request.rank
    with computing(request), held(lock, quiet, "waiting"):
        assert lock.locked() and before - request.rank == pytest.approx((WEIGHT - WEIGHT_OF_HOLDER) * 4.0)
    assert not lock.locked() and request.rank == before


def test_waiting_is_no_work():
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    for now[0], part in ((0.0, 0.0), (1.0, 0.1), (2.0, None), (50.0, None), (60.0, 0.2)):
        watch.report(part)
    now[0] = 61.0
    assert watch.seconds == pytest.approx(3.0)
    watch.report(0.0)
    assert watch.seconds == 0


def test_two_who_ask_alike_share_one_computation_and_both_see_how_far_it_is():
    kept, asked, said, go = Cache(4), [], [], threading.Event()

    def make(tell):
        asked.append(1)
        tell(0.5, "step 1 of 2")
        eventually(go.is_set)
        return "value"

    values = []
    threads = [threading.Thread(target=lambda: values.append(kept.get("key", make, quiet)))]
    threads[0].start()
    eventually(lambda: asked)
    follow = threading.Thread(
        target=lambda: values.append(kept.get("key", make, lambda part, doing: said.append((part, doing))))
    )
    follow.start()
    eventually(lambda: said)
    go.set()
    threads[0].join(), follow.join()
    assert values == ["value", "value"] and len(asked) == 1 and said[0] == (0.5, "step 1 of 2")
    assert not kept._making


def test_when_the_one_who_computes_leaves_another_goes_on():
    kept = Cache(4)

    def leave(tell):
        raise LeftError

    with pytest.raises(LeftError):
        kept.get("key", leave)
    assert kept.get("key", lambda tell: 3) == 3


@dataclass(frozen=True)
class Held:
    pictures: torch.Tensor
    rest: tuple


def test_a_shelf_is_bounded_by_bytes_and_keeps_the_newest():
    assert size_of(Held(torch.zeros(100), (np.zeros(10), b"abc", {"x": "de"}))) == 400 + 80 + 3 + 2
    kept = Cache(100, megabytes=1)
    for k in range(10):
        kept.get(k, lambda tell: torch.zeros(100_000))
    assert len(kept) == 2 and 9 in kept and 0 not in kept
    kept.get("large", lambda tell: torch.zeros(1_000_000))
    assert len(kept) == 1 and "large" in kept


@pytest.fixture
def readings(monkeypatch):
    """readings([...]) -> the timings that the explorer's measurements give, one after the other."""

    def given(timings):
        each = iter(timings)
        monkeypatch.setattr(runs, "time_evaluation", lambda *args: next(each))
        runs.named_cache("timings").clear()

    yield given
    runs.named_cache("timings").clear()


def test_a_timing_that_was_disturbed_is_not_for_the_next_visitor(readings, monkeypatch):
    steady, unsteady = comparisons.Timing(1.0, 0.9, 1.1, 9), comparisons.Timing(5.0, 1.0, 9.0, 9, disturbed=True)
    settings = runs.race_settings("mnist_unet_flow", 1.0, 0)
    readings([unsteady, steady])
    assert [runs.timed(settings, quiet).seconds for _ in range(3)] == [5.0, 1.0, 1.0]
    readings([steady, steady])
    with turns.LIGHT.turn(quiet):  # another page is being computed
        assert runs.timed(settings, quiet).disturbed
    assert not runs.timed(settings, quiet).disturbed


@pytest.mark.parametrize(
    "name, address, button",
    [
        ("reverse", {"steps": "1000"}, "Begin"),
        ("guidance", {"per_class": "16", "sweep_steps": "50"}, "Begin"),
        ("samplers", {"most": "48", "race_w": "4.0", "model": "mnist_dit_flow"}, "Begin"),
        ("text_to_image", {"t2i_steps": "50", "t2i_sampler": "heun"}, "Begin"),
        (LARGER, {"t2i_steps": "100", "t2i_count": "4"}, "Run"),
    ],
)
def test_nothing_long_starts_by_itself_from_an_address(open_page, network_calls, name, address, button):
    at = open_page(name, **address)
    assert any("nothing has begun" in info.value for info in at.info), [info.value for info in at.info]
    assert button in [one.label for one in at.button]
    assert sum(network_calls) <= 1, "one evaluation, by which the work is counted"
    assert not at.get("progress") and "job" not in at.session_state


def test_the_clock_of_the_samplers_runs_forwards(open_page, monkeypatch):
    monkeypatch.setitem(runs.REFERENCE_STEPS, "digits", 12)
    at = open_page("samplers", most="4", seed="91")
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    _, clock = [message["charts"] for message in messages if "charts" in message][-1]
    assert len(clock["curves"]) == 5
    for curve in clock["curves"]:
        assert all(one < other for one, other in pairwise(curve["x"]))
    assert "the median of 9 measurements from" in " ".join(caption.value for caption in at.caption)
