"""What the page Control says."""

from explorer.page_parts import PageWords, Question, Try

CONTROL = PageWords(
    "Control",
    ":material/gesture:",
    "Draw a few lines, and the model draws along them.",
    "Control: draw the lines, the model draws the picture",
    "Small networks beside one that stays as it was. A **ControlNet** reads a picture of yours; what it computes "
    "passes convolutions $Z$ that were zero before training, and is added. **Two prompts** may each hold in a "
    "region. An **IP-Adapter** is shown a picture as a prompt. A **LoRA** learns a style from your pictures. Both "
    "pictures shown here start from **the same noise**.",
    (
        r"y_c = F(x) + w\,Z_2\big(F_c(x + Z_1(c))\big)",
        r"\text{before training: } Z = 0,\ \ y_c = y",
    ),
    (
        Try(
            "Turn it down",
            "At scale 0 the two pictures are equal, to the bit. From which scale on are your lines followed?",
            {"control_scale": 0.5},
        ),
        Try(
            "Let go halfway",
            "The control acts in the first half of the steps only. Is the shape kept?",
            {"control_scale": 1.0, "control_span": (0, 50)},
            {"frame": 0},
        ),
        Try(
            "One above the other",
            "A layout: red is the first thing of the prompt, blue the second. Would the model alone draw them so?",
            {"control_kind": "layout", "places": "first below", "control_scale": 1.0, "control_span": (0, 100)},
        ),
    ),
    Question(
        "Just before training every convolution Z is zero. What does the model with this ControlNet draw then?",
        ("Noise, until the ControlNet has learned", "Exactly what it draws without it"),
        1,
        "Exactly what it draws without it: what is added is zero. So training begins from a model that draws well, and "
        "the gradient of Z is not zero, so Z opens at the first step.",
    ),
    (
        "In the film: what each block adds, in orange over the picture, and beside its name how large that is relative "
        "to what was there. Look at the first steps: where things are is decided there.",
        "The ControlNet was trained with three kinds of pictures and tells them apart by what they look like: thin "
        "white lines, thick ones, and areas.",
        "A scribble says a shape, not a thing: ask for another thing in the same outline. What the model remembers in "
        "one pose follows a foreign outline in part only: try a fox in the outline of a cat.",
    ),
)

REGION_TRIES = (
    Try(
        "Move them together",
        "At separation 0 both prompts count equally everywhere. What is drawn where, and from which separation on are "
        "there two things?",
        {"regions_scale": 0.5},
    ),
    Try(
        "Leave the places out",
        "Each prompt now asks for one thing in the middle of the picture. What does its region show?",
        {"regions_scale": 1.0, "regions_said": False},
    ),
    Try(
        "Say it in one prompt",
        "“A rocket left of a dog” says the places too, without regions. Over ten seeds, which picture keeps them?",
        {"regions_whole": "a rocket left of a dog", "regions": "first on the right", "regions_said": True},
    ),
)
REGION_NOTE = (
    "At each step both prompts are asked about the same noisy picture, and each prediction counts where its mask is: "
    "$D(x_t) = \\sum_k M_k D_k(x_t) \\,/\\, \\sum_k M_k$ (MultiDiffusion, Eq. 5). Nothing is trained, and the work is "
    "twice that of one prompt. The lower pictures show what each prompt predicts **of the whole picture**: in the grey "
    "part it sees what the other prompt draws there, and does not decide."
)

PICTURE_TRIES = (
    Try(
        "Turn it down",
        "At scale 0 the two pictures are equal, to the bit. From which scale on is the style there, and from which on "
        "is the rocket lost?",
        {"picture_scale": 0.5},
    ),
    Try(
        "Say nothing",
        "With an empty prompt the picture is all that is said. Is the same thing drawn again?",
        {"picture_prompt": "", "picture_look": "as it is", "picture_scale": 1.0},
    ),
    Try(
        "A style that it never saw",
        "Its training had many made-up styles, and no mosaics. Is a mosaic followed like the outlines?",
        {"picture_prompt": "rocket", "picture_look": "mosaic", "picture_scale": 1.0},
    ),
)
PICTURE_NOTE = (
    "An **IP-Adapter** turns the picture into a few tokens, here of its whole and of 16 parts. Each cross-attention "
    "layer compares the query $q$ of a position with the words, and beside that with the picture's tokens, by weights "
    "$W'_k, W'_v$ of their own: $\\mathrm{out} = \\mathrm{softmax}(q k^\\top\\!/\\sqrt d)\\,v + "
    "s\\;\\mathrm{softmax}(q k'^\\top\\!/\\sqrt d)\\,v'$. Only they were trained; the model itself is as it was."
)

STYLE_TRIES = (
    Try(
        "Turn it down",
        "At scale 0 the weights are those of the base, to the bit. From which scale on is the style there?",
        {"style_prompt": "rocket, zorb style"},
        {"frame": 5},
    ),
    Try(
        "Leave the word out",
        "The same weights, a prompt without “zorb style”. Is the picture the base's, or does the style leak into it?",
        {"style_prompt": "rocket"},
    ),
    Try(
        "Stop early",
        "A LoRA of 100 steps instead of 300, taught from the same pictures: which comes first, colours or shapes?",
        {"style_steps": 100},
    ),
    Try(
        "Two at once",
        "Your style and mosaics, each at half its scale, and both words in the prompt. Is it of both kinds, or "
        "does one of them win?",
        {
            "style_prompt": "rocket, zorb style, quib style",
            "style_second": "mosaic",
            "own_scale": 0.5,
            "second_scale": 0.5,
        },
    ),
)
STYLE_NOTE = (
    "A **LoRA** leaves the weights $W$ of the model as they are and adds to each projection of attention a product of "
    "two thin matrices, $W x + s\\,\\tfrac{\\alpha}{r} B A x$. Before training $B = 0$. It is $r = 4$ wide, so its "
    "file is small, and it is added at any scale $s$, and taken away again to the bit."
)
