"""What the pages say that lead from words to a picture."""

from explorer.page_parts import PageWords, Question, Try

TEXT_TO_IMAGE = PageWords(
    "Text to image",
    ":material/draw:",
    "From words to a picture: the whole way, box by box.",
    "From words to a picture",
    "Type, play, and **open any box**. This small model draws **emoji**.",
    (
        r"\hat\varepsilon = \varepsilon_{\text{negative}} + "
        r"w\,(\varepsilon_{\text{prompt}}-\varepsilon_{\text{negative}})",
        r"\text{attention} = \operatorname{softmax}\!\big(q\,k^{\top}/\sqrt d\big)",
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
    ),
    (
        Try(
            "One word, one noise",
            "Two prompts that differ in one word start from the same noise. At which step do the pictures part?",
            {"t2i_prompt": "a red apple", "t2i_beside": "prompt", "t2i_other_prompt": "a purple apple"},
            {"open": ""},
        ),
        Try(
            "Which is on the left",
            "The U-Net is open: choose the words one by one. Where does each act, and when?",
            {"t2i_prompt": "a cat left of a dog", "t2i_beside": "nothing"},
            {"open": "unet"},
        ),
        Try(
            "Guidance off",
            "Run B has w = 1, and follows the words less. How much do the words change?",
            {"t2i_beside": "scale", "t2i_other_w": 1.0},
            {"open": "guidance"},
        ),
    ),
    Question(
        "Four seeds, one prompt: what do the four pictures share?",
        ("What the words say", "The layout: where things stand"),
        0,
        "What all four share comes from the words; the rest comes from the noise.",
    ),
    (
        "**Attention** changes from step to step: opened at the end, the U-Net shows the step where it is most "
        "concentrated. Much of the attention goes to words that say little, and to the padding.",
        "**Two runs** that start from the same noise part because of the words alone. The distance is that of the "
        "latents, as a multiple of the length of A's. Two seeds begin far apart, and the words bring them together.",
        "The default **w = 2** is where the pictures are nearest to real emoji, as measured; more over-sharpens.",
        "**Reads as** comes from the retrieval network, trained separately on real emoji. It chooses among all things "
        "that the model was trained on, without the prompt. Its number is its confidence, and it can be wrong too.",
        "A **negative prompt** replaces the unconditional side, so guidance moves away from it.",
        "**Other seeds** give few other pictures: training had one picture of each thing in each of three styles, and "
        "the model remembers them. With a style named, every seed gives the same picture; with a new colour, or with "
        "two things, seeds differ.",
        "**Refine**: a strength of 0.3 to 0.5 keeps the picture's layout, 0.8 hardly anything. Paint a blob, "
        "and let the words make something of it; or brush a hole, and only the hole is painted anew. **Zoom out**, and "
        "the surroundings are painted.",
    ),
)

LATENTS = PageWords(
    "Latents",
    ":material/compress:",
    "A picture as 48 times fewer numbers: look, change, mix.",
    "Latents: 48 times fewer numbers",
    "An **autoencoder** lets diffusion work on few numbers: its encoder $E$ compresses 8 × 8 pixels into 4 numbers, "
    "and its decoder $D$ turns them back into pixels. This page shows the autoencoder of our small model.",
    (
        r"z = E(x_0)",
        r"\hat x_0 = D(z)\approx x_0",
        r"128\cdot 128\cdot 3 = 48\cdot(16\cdot 16\cdot 4)",
    ),
    tries=(
        Try(
            "Change one latent pixel",
            "Then pull the cell over the latent. More than its own 8 × 8 pixels change: convolutions overlap.",
            {"poke_where": "one latent pixel", "poke_channel": 1, "poke_amount": 6.0},
        ),
        Try(
            "Change a whole channel",
            "Channels are not colours, but they can be read: what does this one stand for?",
            {"poke_where": "a whole channel", "poke_channel": 2, "poke_amount": 4.0},
        ),
        Try(
            "Thin lines",
            "Look at the error: what does the compression lose first?",
            {"emoji": "spider"},
        ),
    ),
    question=Question(
        "Two pictures are mixed half and half, once as pixels and once as latents. What do the latents give?",
        ("Nearly the same double exposure", "One thing between the two"),
        0,
        "Nearly the same: an autoencoder compresses, and does not know what a picture shows. The diffusion "
        "model learns "
        "that.",
    ),
    notes=(
        "The latent is still a **map**: what is on the left of the picture is on the left of the latent. Therefore "
        "convolutions work on it, and a hole can be painted anew.",
        "The error shows what the compression loses: thin lines and small text first.",
    ),
)

STABLE_DIFFUSION = PageWords(
    "Stable Diffusion",
    ":material/imagesmode:",
    "From words to a picture, in four stages.",
    "Stable Diffusion: from words to a picture",
    "A text encoder turns the prompt into vectors, one per token. A network, conditioned on them, removes noise from a "
    "small **latent**; the samplers are those that draw our digits. Only the last latent is decoded to pixels.",
    (
        r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
    ),
    (
        Try(
            "From noise to a picture",
            "The slider is at the first step: pull it to the end. Which is decided first, the layout or the edges?",
            moves={"frame": 0},
        ),
        Try(
            "Guidance off",
            "At w = 1 the prediction with the prompt is used as it is. Press Run: what is lost?",
            {"t2i_w": 1.0},
        ),
        Try(
            "Four seeds at once",
            "One prompt, four noises. Press Run: what do the pictures share?",
            {"t2i_count": 4},
        ),
    ),
    Question(
        "How often does the decoder run in one inference of 50 steps?",
        ("50 times, once per step", "Once, at the end"),
        1,
        "Once. Every step works on the small latent; only the last one becomes pixels. (This page also decodes the "
        "prediction of each step, to show it.)",
    ),
    notes=(
        "The words become vectors (77 in Stable Diffusion), and every step uses all of them. Words that do not fit are "
        "cut off, so the usual advice is: the subject first, the style after it.",
        "The **predicted $x_0$** can be decoded at any step. It is decided early, and later only becomes sharper.",
        "The **difference** of the two noises is what the prompt adds; guidance multiplies it by $w$. A scale "
        "of 5 to 15 "
        "is usual: a lower one leaves more freedom, a higher one follows the prompt and over-sharpens.",
        "A **negative prompt** replaces the unconditional side, so guidance moves away from it.",
        "To refine, draw four seeds, pick one, and start from its picture at a strength of 0.3 to 0.5, or paint a part "
        "of it anew.",
        "The stand-in computes all of this with random weights: its numbers and shapes are right, its picture shows "
        "nothing.",
    ),
)

COMPARE = PageWords(
    "Compare",
    ":material/compare:",
    "Our model and Stable Diffusion, at the same step.",
    "Compare: a small model and Stable Diffusion",
    "The same sampler drives both, and **one slider** shows both at the same step. Our model works on the pixels of a "
    "small picture; Stable Diffusion on the latent of a large one, decoded at the end.",
    (
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
        r"512\cdot 512\cdot 3 = 48\cdot(64\cdot 64\cdot 4)",
    ),
    (
        Try(
            "The first step of both",
            "Both are noise. What does each network predict as its clean picture?",
            moves={"frame": 0},
        ),
        Try(
            "Four steps",
            "Press Run both: which of the two is drawn well in four steps?",
            {"compare_steps": 4},
        ),
        Try(
            "Another sampler for both",
            "DPM-Solver++ (2M) reuses the step before. Press Run both, and compare the steps in the middle.",
            {"compare_steps": 12, "compare_sampler": "dpm_solver_pp_2m"},
        ),
    ),
    Question(
        "Both take the same number of steps of the same sampler. Is there the same amount of noise in both at each of "
        "them?",
        ("Yes: the sampler sets the noise", "No: each has its own schedule"),
        1,
        "No. The sampler visits the levels of each model's own schedule; the curves of log SNR differ. What is equal "
        "is the rule that leads from one level to the next.",
    ),
    notes=(
        "Both start from pure noise, predict a clean picture at every step, and end at that prediction. The sampler is "
        "the same function: it never sees which network it drives.",
        "At 512 × 512 a picture is 786,432 values, and its latent 64 × 64 × 4 = 16,384: every step of the "
        "network works "
        "on 48 times fewer values. The decoder runs once, at the end.",
        "The curves show how fast each schedule removes the noise: the same step does not mean the same amount "
        "of noise.",
    ),
)
