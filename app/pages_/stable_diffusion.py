"""The page Stable Diffusion of earlier releases, now a part of Text to image: its addresses open there."""

import streamlit as st
from explorer import stable

NEW_NAMES = {"prompt": "t2i_prompt", "negative": "t2i_negative", "count": "t2i_count"} | {
    f"sd_{name}": f"t2i_{name}" for name in ("w", "sampler", "steps", "spacing", "seed")
}

given = {NEW_NAMES.get(key, key): st.query_params.get_all(key) for key in st.query_params}
earlier = {"sd_model": [stable.first_choice()]}  # the defaults of that page
(name,) = given.get("sd_model", earlier["sd_model"])[-1:]
if name == stable.MICRO:
    usual = stable.usual(name)
    earlier |= {
        "t2i_prompt": [usual.prompt],
        "t2i_steps": [str(usual.num_inference_steps)],
        "t2i_w": [str(usual.guidance_scale)],
        "t2i_count": ["1"],
    }
st.switch_page("pages_/text_to_image.py", query_params=earlier | given)
