"""The explorer's pages: start them with `diffusion-explained app`, or with `streamlit run app/server.py`."""

from pathlib import Path

import streamlit as st
from explorer import address, jobs, page, visitors
from explorer.turns import Request, computing

# our own icon file: Streamlit would fetch a named icon from another host
st.set_page_config(
    page_title="Diffusion, explained", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide"
)

PAGES = [
    st.Page("pages_/start.py", title="Start", icon=":material/home:", default=True),
    st.Page("pages_/plane.py", title="The plane", icon=":material/scatter_plot:", url_path="plane"),
    st.Page("pages_/forward.py", title="Forward", icon=":material/blur_on:", url_path="forward"),
    st.Page("pages_/schedules.py", title="Schedules", icon=":material/show_chart:", url_path="schedules"),
    st.Page("pages_/reverse.py", title="Reverse", icon=":material/auto_awesome:", url_path="reverse"),
    st.Page("pages_/guidance.py", title="Guidance", icon=":material/tune:", url_path="guidance"),
    st.Page("pages_/samplers.py", title="Samplers", icon=":material/speed:", url_path="samplers"),
    st.Page("pages_/text_to_image.py", title="Text to image", icon=":material/draw:", url_path="text_to_image"),
    st.Page("pages_/latents.py", title="Latents", icon=":material/compress:", url_path="latents"),
    st.Page(
        "pages_/stable_diffusion.py",
        title="Stable Diffusion",
        icon=":material/imagesmode:",
        url_path="stable_diffusion",
    ),
    st.Page("pages_/compare.py", title="Compare", icon=":material/compare:", url_path="compare"),
]

page.dress()
visitors.admit()
jobs.recognise()
jobs.turn_page()
chosen = st.navigation(PAGES, position="top")
with computing(Request()), address.kept(chosen.url_path):
    chosen.run()
