"""The explorer's pages: start them with `diffusion-explained app`, or with `streamlit run app/server.py`."""

from pathlib import Path

import streamlit as st
from explorer import address, jobs, page, share_panel, tour, visitors
from explorer.page_words import PAGES, PATH
from explorer.turns import Request, computing

# our own icon file: Streamlit would fetch a named icon from another host
st.set_page_config(
    page_title="Diffusion, explained", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide"
)

START = st.Page("pages_/start.py", title="Start", icon=":material/home:", default=True)
FORMER = st.Page("pages_/stable_diffusion.py", url_path="stable_diffusion", visibility="hidden")  # of earlier addresses
GROUPS = {
    "": [START, FORMER],
    **{
        group: [
            st.Page(f"pages_/{name}.py", title=PAGES[name].name, icon=PAGES[name].icon, url_path=name) for name in names
        ]
        for group, names in PATH.items()
    },
}

page.dress()
visitors.admit()
jobs.recognise()
jobs.turn_page()
chosen = st.navigation(GROUPS, position="top")
with computing(Request()), address.kept(chosen.url_path), share_panel.offered(chosen.url_path):
    tour.guide(chosen.url_path)
    chosen.run()
