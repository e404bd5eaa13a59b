"""Work that outlasts a run of the page, and the browser that learns of it."""

import threading
import time
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
import streamlit as st
from conftest import eventually
from explorer import jobs, turns
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.testing.v1 import AppTest


def page_with_a_job():
    import time

    import streamlit as st
    from explorer import jobs

    def until_stopped(tell):
        while True:
            tell(0.5)
            time.sleep(0.02)

    jobs.begin(jobs.Job("Work", "kept", until_stopped))
    st.text("before")
    jobs.watch()
    st.text("after")


def places(messages):
    """The delta paths in a browser's order, each checked as Streamlit's browser does: no place beside an empty one."""
    children = {}
    for path in (tuple(message.metadata.delta_path) for message in messages if message.HasField("delta")):
        *parent, index = path
        assert index <= children.setdefault(tuple(parent), 0), f"Bad delta path index: {path}"
        children[tuple(parent)] = max(children[tuple(parent)], index + 1)
        yield path


def test_a_look_that_overtakes_the_page_leaves_no_gap_in_it(monkeypatch):
    """When the browser asks for a rerun before the page was sent, Streamlit drops the rerun that is queued."""
    sent, enqueue = [], ForwardMsgQueue.enqueue
    monkeypatch.setattr(
        ForwardMsgQueue, "enqueue", lambda queue, message: (sent.append(message), enqueue(queue, message))
    )
    at = AppTest.from_function(page_with_a_job).run()
    at.session_state.job.stop()
    reruns = [message.auto_rerun.fragment_id for message in sent if message.HasField("auto_rerun")]
    assert len(reruns) == 1
    whole = list(places(sent))
    unsent = ForwardMsgQueue()
    unsent._queue = sent  # no public way in: `enqueue` is what was replaced
    unsent.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=reruns)
    left = list(places(unsent._queue))
    assert 3 <= len(left) < len(whole), "the page's own are kept, the look's are dropped"


# -- a job has an owner -------------------------------------------------------------------------------------


@pytest.fixture
def desk(monkeypatch):
    """Jobs on a clock and with sessions of the test's own; what is left is stopped."""
    begun = []
    here = SimpleNamespace(now=0.0, session="tab", connected={"tab"})
    monkeypatch.setattr(jobs, "clock", lambda: here.now)
    monkeypatch.setattr(jobs, "session", lambda: here.session)
    monkeypatch.setattr(jobs, "connected", lambda session: session in here.connected)

    def job(name="Work", **options):
        go = threading.Event()

        def work(tell):
            part = 0.25
            while not go.wait(0.01):
                tell(here.part if hasattr(here, "part") else part, "step")
            return name

        begun.append(jobs.Job(name, "kept", work, **options))
        begun[-1].go = go
        return begun[-1]

    here.job = job
    yield here
    for one in begun:
        one.stop()
        one.go.set()
    eventually(lambda: all(one.done for one in begun))


def ended_as_stopped(job):
    eventually(lambda: job.done)
    with pytest.raises((jobs.StoppedError, CancelledError)):
        job.value()


def test_a_job_ends_when_its_tab_is_gone_and_the_next_one_has_its_turn(desk):
    first, second = desk.job("First"), desk.job("Second")
    eventually(lambda: first.doing == "step")
    assert "waiting for its turn, 1 before you" in second.words
    desk.connected.clear()
    eventually(lambda: first._alone_since is not None)
    desk.now = jobs.GRACE - 1
    time.sleep(0.1)
    assert not first.done, "the page may be loading again"
    desk.connected.add("other")
    second.session = "other"
    desk.now = jobs.GRACE + 1
    ended_as_stopped(first)
    eventually(lambda: second.doing == "step")


def test_a_job_that_nobody_looks_at_ends_and_one_that_is_looked_at_once_a_minute_goes_on(desk):
    job = desk.job()
    for desk.now in range(0, 1000, 60):
        job.look()
        time.sleep(0.02)
    assert not job.done
    desk.now += jobs.SILENT + 1
    ended_as_stopped(job)


@pytest.mark.parametrize("name", ["start", "schedules", "forward"])
def test_a_visitor_who_reads_another_page_is_not_silent(desk, open_page, name):
    job = desk.job()
    at = open_page(name)
    at.session_state["job"] = job
    at.run()
    desk.now += 10 * jobs.SILENT
    time.sleep(0.1)
    assert not job.done
    watching = AppTest.from_function(page_that_watches)
    watching.session_state["job"] = job
    watching.run()
    desk.now += jobs.SILENT - 1
    time.sleep(0.1)
    assert not job.done, "the page that shows it has just looked"
    desk.now += 2
    ended_as_stopped(job)


def test_a_visitor_who_reads_another_page_and_closes_the_tab_is_gone(desk, open_page):
    job = desk.job()
    at = open_page("schedules")
    at.session_state["job"] = job
    at.run()
    desk.connected.clear()
    eventually(lambda: job._alone_since is not None)
    desk.now += jobs.GRACE + 1
    ended_as_stopped(job)


@pytest.mark.parametrize("name", ["start", "forward", "schedules", "latents"])
def test_every_page_that_is_loaded_again_keeps_the_job_of_its_tab(desk, open_page, name, monkeypatch):
    """The new session takes the job over, which would otherwise end with the old one's connection."""
    job = desk.job()
    jobs._desk().of_visitor["a word of this tab"] = job
    job.session, desk.session, desk.connected = "before", "after", {"after"}
    component = st.components.v2.component

    def of_tab(name, **options):
        made = component(name, **options)
        return (lambda **_: SimpleNamespace(visitor="a word of this tab")) if name.endswith("visitor") else made

    monkeypatch.setattr(st.components.v2, "component", of_tab)
    at = open_page(name)
    assert at.session_state["job"] is job and job.session == "after"
    desk.now += jobs.GRACE + 1
    time.sleep(0.1)
    desk.now += 10 * jobs.SILENT
    time.sleep(0.1)
    assert not job.done, "no page of this tab shows the job, and the tab is open"


def test_a_job_that_waits_says_its_place_and_about_how_long(desk):
    first = desk.job("First", expected=40.0)
    eventually(lambda: first.doing == "step")
    second, third = desk.job("Second", expected=10.0), desk.job("Third")
    assert second.words == "Second · waiting for its turn, 1 before you, about 30 s"
    assert third.words == "Third · waiting for its turn, 2 before you, about 40 s"
    second.stop()
    eventually(lambda: second.done)
    assert "1 before you" in third.words


def test_a_job_that_waited_for_the_worker_computes_with_the_rank_of_when_it_was_asked(desk):
    first, arrived = desk.job("First"), []
    eventually(lambda: first.doing == "step")

    def work(tell):
        with turns.HEAVY.turn(tell) as turn:
            arrived.append(turn.request.arrived)
            assert turn.request.holding == 1, "the jobs behind it wait for the worker"

    before = time.monotonic()
    second = jobs.Job("Second", "kept", work)
    after = time.monotonic()
    time.sleep(0.05)
    first.go.set()
    eventually(lambda: second.done)
    second.value()
    assert before <= arrived[0] <= after


def test_a_forecast_does_not_grow_while_a_job_waits(desk):
    job = desk.job()
    eventually(lambda: job.doing == "step")
    desk.now = 4.0
    assert "about 12 s left" in job.words
    desk.part = None
    eventually(lambda: job.waits)
    desk.now = 400.0
    job.look()
    assert "left" not in job.words and job.left_to_do == pytest.approx(12.0)
    del desk.part
    eventually(lambda: not job.waits)
    assert "about 12 s left" in job.words


def page_that_watches():
    import streamlit as st
    from explorer import jobs

    jobs.recognise()
    jobs.turn_page()
    jobs.watch()
    st.text(st.session_state.get("kept", "nothing"))


def test_a_page_that_is_loaded_again_finds_its_own_job_and_nobody_elses(desk):
    work = desk.job()
    jobs._desk().of_visitor["a word of this tab"] = work
    work.session = "gone"
    for word, own in (("another word", False), ("a word of this tab", True)):
        at = AppTest.from_function(page_that_watches).run()
        assert not at.get("progress")
        at.session_state["visitor"] = word
        if own:
            at.session_state["job"] = jobs._desk().of_visitor[word]
        at.run()
        assert bool(at.get("progress")) == own
    assert work.session == "tab"
    work.go.set()
    eventually(lambda: work.done)
    assert at.run().text[-1].value == "Work"
