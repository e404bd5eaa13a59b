"""Work that outlasts a run of the page, and the browser that is told of it."""

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
    """When the browser asks for a look before the page was sent, Streamlit drops the look that is queued."""
    sent, enqueue = [], ForwardMsgQueue.enqueue
    monkeypatch.setattr(
        ForwardMsgQueue, "enqueue", lambda queue, message: (sent.append(message), enqueue(queue, message))
    )
    at = AppTest.from_function(page_with_a_job).run()
    at.session_state.job.stop()
    looks = [message.auto_rerun.fragment_id for message in sent if message.HasField("auto_rerun")]
    assert len(looks) == 1
    whole = list(places(sent))
    unsent = ForwardMsgQueue()
    unsent._queue = sent  # no public way in: `enqueue` is what was replaced
    unsent.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=looks)
    left = list(places(unsent._queue))
    assert 3 <= len(left) < len(whole), "the page's own are kept, the look's are dropped"
