"""What the pages say: each page's name, lead, formulas, tries and question; those of words are in `from_words`.

The order of the pages is here too: the navigation, the path of the start page, and each page's next page follow it.
"""

from explorer.control_words import CONTROL
from explorer.from_words import COMPARE, LATENTS, TEXT_TO_IMAGE
from explorer.page_parts import PageWords, Question, Reader, Try

PATH = {
    "The idea": ("plane", "forward", "reverse", "training", "beyond"),
    "The knobs": ("schedules", "guidance", "samplers", "break_it"),
    "From words": ("text_to_image", "control", "latents", "compare"),
}

READERS = {
    "words": Reader("Words", formulas=False, notes=True, program="hidden"),
    "formulas": Reader("Formulas", formulas=True, notes=True, program="folded"),
    "code": Reader("Code", formulas=True, notes=False, program="open"),
}
USUAL_READER = "formulas"

PLANE = PageWords(
    "The plane",
    ":material/scatter_plot:",
    "Two dimensions: every point on its way from noise. Draw, train.",
    tries=(
        Try(
            "Where the cloud splits",
            "Eight clusters at a middle time, with the arrows: where does each arrow point?",
            {"view": "flow", "toy": "eight_gaussians"},
            {"at": 650, "layers": "density.arrows"},
        ),
        Try(
            "Lines cross, flows do not",
            "Straight pairs of noise and data cross. The flow, their mean, does not.",
            {"view": "paths", "toy": "eight_gaussians", "pairs": "independent", "schedule": "flow"},
            {"at": 500, "layers": "paths"},
        ),
        Try(
            "Train a network now",
            "Move the slider while it learns: at which time is it right first?",
            {"view": "learned", "toy": "moons", "trained": True},
            {"at": 1000, "layers": "data"},
        ),
    ),
    question=Question(
        "Two points start almost at the same place in the noise and follow the exact flow. "
        "Can their paths cross on the way?",
        ("Yes, if their data lie on opposite sides", "No, never"),
        1,
        "No. The flow has one velocity at each place and time: two points at the same place at the same time would "
        "stay together, before and after. (Two trails may cross in the picture; the points pass there at different "
        "times.) Lines of pairs do cross: open **Pairs and flow**.",
    ),
)

FORWARD = PageWords(
    "Forward",
    ":material/blur_on:",
    "An image drowns in noise. When do you lose it?",
    "Forward: from image to noise",
    "Adding noise is fixed, not learned, and takes one line at any time $t$. It makes the training pairs: the noisy "
    "image, and the noise that was added.",
    (
        r"x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon",
        r"\varepsilon\sim\mathcal N(0, I)",
        r"\mathrm{SNR} = \alpha_t^2/\sigma_t^2",
    ),
    (
        Try(
            "Noise at 80%",
            "Cover the other pictures. Can you still name the image? The network can.",
            {"schedule": "cosine"},
            {"frame": 40},
        ),
        Try(
            "Nothing but noise",
            "The histogram is N(0, 1). What is left to predict is the mean of all images that fit: a blur.",
            {},
            {"frame": 50},
        ),
        Try(
            "The same, sooner",
            "At half of the time the linear schedule has already destroyed what cosine still shows.",
            {"schedule": "linear"},
            {"frame": 25},
        ),
    ),
    notes=(
        "The prediction of $x_0$ is the **mean of all images that fit the noisy one**: sharp in little noise, blurred "
        "in much. This blur is why sampling takes many small steps.",
        "The two predictions are one: $x_0$ and $\\varepsilon$ together must give back $x_t$.",
        "For an image of your own, the network predicts the most similar image of the kind that it was trained on.",
        "The network was trained on its own schedule. It can also denoise the $x_t$ of any other, because Gaussian "
        "paths at the same SNR differ only by a factor.",
    ),
)

TRAINING = PageWords(
    "Training",
    ":material/model_training:",
    "A network learns digits from nothing while you watch.",
    "Training: digits from nothing",
    "The network sees a digit with noise, and is asked for the digit, or for the noise. **Nothing else**: after a "
    "minute or two it draws.",
    (
        r"x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon",
        r"L = \mathbb E\,\lVert f_\theta(x_t, t, c) - \text{target}\rVert^2",
    ),
    (
        Try(
            "What it learns first",
            "Train, then look at the first frames: the dark rim and the place of the strokes come before the digit.",
            {"kind": "flow", "lesson": 200, "trained": True},
        ),
        Try(
            "The average of the weights",
            "The average is off now. Go to an early stage, and switch it on: which of the two draws better digits?",
            {"ema": False},
        ),
        Try(
            "Teach another to predict the noise",
            "The same network with another target. When do its digits appear?",
            {"kind": "eps", "lesson": 200, "trained": True},
        ),
    ),
    Question(
        "At which noise level is the prediction of x₀ worst at the end of the training?",
        ("Where there is much noise", "Where there is little noise", "It is the same everywhere"),
        0,
        "Where there is much noise: several digits are possible there, and the best prediction is their mean. No "
        "training makes this error vanish.",
    ),
    (
        "Both pictures are drawn from the same noise at each stage, so what changes is the network.",
        "The three digits in noise were kept out of the training.",
        "The loss stays above 0: from a noisy image nobody can know the noise exactly. Its limit depends on what is "
        "predicted, so compare losses only within one target.",
    ),
)

SCHEDULES = PageWords(
    "Schedules",
    ":material/show_chart:",
    "How fast noise is added: α, σ and the signal-to-noise ratio.",
    "Schedules: the pace of noising",
    "A schedule is two functions of time, α for the signal and σ for the noise. They decide at which noise "
    "levels the network works, and what sampling starts from.",
    (
        r"\textstyle\bar\alpha_t = \prod_{s\le t}(1-\beta_s)",
        r"\alpha_t=\sqrt{\bar\alpha_t},\ \ \sigma_t=\sqrt{1-\bar\alpha_t}",
        r"\text{flow: }\alpha_t = 1-t,\ \ \sigma_t = t",
    ),
    (
        Try(
            "Linear beside cosine",
            "Linear destroys the image early: its last quarter is noise already. Cosine was made to spread the loss "
            "evenly (Nichol & Dhariwal 2021).",
            {"schedules": ["linear", "cosine"], "T": 1000, "zero": False},
            {"frame": 25},
        ),
        Try(
            "T = 100, the same β",
            "Too little noise is added: how much of the image is left at the end?",
            {"schedules": ["linear", "scaled_linear"], "T": 100, "zero": False, "own": False},
        ),
        Try(
            "Draw one that wastes its time",
            "Yours is nearly an image, then nearly noise. At how many of its times is there anything to learn?",
            {"schedules": ["cosine", "yours"], "curve": (11.0, 10.0, 0.0, -10.0, -11.0)},
        ),
    ),
    Question(
        "Stable Diffusion's schedule (scaled linear) was used to train its network with 1,000 timesteps. What does the "
        "network see at the noisiest one?",
        ("Pure noise", "Noise, and a little of the image"),
        1,
        "A little of the image is left: the terminal SNR is not 0. Sampling starts from pure noise all the same, which "
        "the network never saw; the error is largest in overall brightness. Rescaling to zero terminal SNR removes it.",
    ),
)

REVERSE = PageWords(
    "Reverse",
    ":material/auto_awesome:",
    "Noise becomes an image: one step is plain arithmetic.",
    "Reverse: from noise to image",
    "The network splits the noisy image into a predicted image and the noise around it. The sampler adds the two "
    "again, with more image and less noise.",
    (
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
        r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
    ),
    (
        Try(
            "Look at step 3",
            "Cover the predicted image. Can you name what is in the noise? The network has decided.",
            {"fork": False},
            {"frame": 2},
        ),
        Try(
            "Two steps only",
            "Two large steps instead of many: what is lost?",
            {"steps": 2, "sampler": "euler", "fork": False},
            {"frame": 2},
        ),
        Try(
            "Change the class on the way",
            "From step 3 on the class is another. Begin the branch at later steps: when is it too late?",
            {"steps": 10, "sampler": "euler", "fork": True, "fork_step": 3, "fork_what": "class"},
            {"frame": 10},
        ),
    ),
    Question(
        "Euler with 10 steps and Heun with 10 steps start from the same noise. What do they draw?",
        ("Nearly the same images", "Other images of the same classes"),
        0,
        "Nearly the same: both solve one differential equation, which leads each noise to one image. Samplers that add "
        "noise (DDPM, Euler ancestral) end at other images.",
    ),
    (
        "The **predicted image** is decided early and only sharpened later; $x_t$ follows it.",
        "The **difference** of the two noises is what the class adds: large where the class decides, small at the end.",
        "Choose a negative class: guidance then moves away from that class.",
        "**Branch**: the class is decided early. Of ten digits drawn in 10 steps, all become an 8 if the class changes "
        "at step 3, seven if it changes at step 4, and only the 8 itself is one if it changes at step 6.",
    ),
)

BEYOND = PageWords(
    "Beyond images",
    ":material/view_in_ar:",
    "The same sampler draws clips, sounds, shapes, molecules and text.",
    "Beyond images: the same sampler",
    "To a sampler, clips, speech, shapes and molecules are tensors, as digits are.",
    (
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
        r"\begin{aligned}\text{letters: }q(x_t\mid x_0) = {}&\alpha_t\,[x_t = x_0]\\"
        r"&{}+ (1-\alpha_t)\,[x_t = \text{mask}]\end{aligned}",
    ),
    (
        Try(
            "Turn it while it is noise",
            "Drag the cloud. From which step on has it a front and a back? Compare the prediction.",
            {"data_kind": "shapes", "shapes_task": "draw", "shape": "chair", "seed": 0},
            {"frame": 25, "turn": 120, "tilt": 20},
        ),
        Try(
            "Hear a word come out of noise",
            "Press play at half of the way, left and right. Where is the word?",
            {"data_kind": "sound", "sound_task": "draw", "word": "seven", "sound_steps": 20, "seed": 0},
            {"frame": 10},
        ),
        Try(
            "Fill the gaps of a sentence",
            "Which gaps are filled first, and which last? Then type a sentence of your own.",
            {"data_kind": "text", "text_task": "fill", "text_steps": 50, "text_sampler": "most_certain_first"},
            {"frame": 12},
        ),
    ),
    Question(
        "Clips, sounds, shapes and molecules are drawn by the sampler that draws digits. What was changed in it?",
        ("Nothing", "Its noise, for each kind of data"),
        0,
        "Nothing. It scales and adds tensors, of any shape. What changes is the network, which must know what lies "
        "beside what: pixels, moments, or points and atoms in no order. Only letters need another chain, because half "
        "an a and half a b is no letter.",
    ),
    (
        "Watch the **predicted $x_0$**: what of a clip, a word, a chair is decided first, and what is only sharpened?",
        "The sound is as loud at each step, and the noise of a spectrogram is no hiss: it is bursts at random moments "
        "and frequencies.",
    ),
)

GUIDANCE = PageWords(
    "Guidance",
    ":material/tune:",
    "Follow the class more closely, and lose diversity.",
    "Guidance: class accuracy against diversity",
    "The network predicts the noise twice, with the class and without, and guidance amplifies the difference. "
    "Each scale starts from **the same noise**.",
    (
        r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
        r"w=0:\text{ no class},\ \ w=1:\text{ no guidance}",
    ),
    (
        Try("w = 0: no class", "The same noise, and no class. What does the network draw?", moves={"scale": 0.0}),
        Try("w = 3: the class is clear", "Compare with w = 1: what did guidance change?", moves={"scale": 3.0}),
        Try("The largest scale", "What became harder, and what was lost?", moves={"scale": 100.0}),
    ),
    question=Question(
        "From w = 1 to a larger scale more images are of the right class. What is the price?",
        ("Diversity, and twice the computation", "Twice the computation only", "Nothing"),
        0,
        "Both. Images of one class become alike, as the curve shows; and as soon as w is neither 0 nor 1, each step "
        "evaluates the network twice, with the class and without.",
    ),
    notes=(
        "At $w = 0$ the class is ignored: one image in ten is right by chance, and images of one column mix all ten "
        "classes, hence the high diversity.",
        "Very large scales push pixels out of range: the image is over-sharpened, and details are lost.",
    ),
)

SAMPLERS = PageWords(
    "Samplers",
    ":material/speed:",
    "A race from the same noise: which needs the fewest evaluations?",
    "Samplers: a race from the same noise",
    "Deterministic samplers all solve the same differential equation. Each starts from **the same noise** and uses the "
    "same network; the plots show how close it comes to the exact solution with how many network evaluations.",
    (
        r"\text{Euler: error} \propto h",
        r"\text{Heun, DPM-Solver++: error} \propto h^2",
    ),
    (
        Try(
            "First against second order",
            "Twice as many steps halve Euler's error and should quarter Heun's. See how far the rule holds.",
            {"samplers": ["euler", "heun", "dpm_solver_pp_2m"], "race_w": 1.0},
        ),
        Try(
            "Two names, one method",
            "On the straight path of flow matching DDIM is Euler: the curves coincide.",
            {"samplers": ["ddim", "euler"], "race_w": 1.0},
        ),
        Try(
            "Raise the guidance scale",
            "The path bends more, and every sampler needs more steps.",
            {"samplers": ["euler", "heun", "dpm_solver_pp_2m"], "race_w": 4.0},
        ),
    ),
    Question(
        "Heun evaluates the network twice per step, DPM-Solver++ (2M) once. Both are of second order. How?",
        ("DPM-Solver++ reuses the prediction of the step before", "DPM-Solver++ takes steps of half the size"),
        0,
        "It extrapolates from the step before, whose prediction is still there. Heun's second evaluation is new.",
    ),
)

BREAK_IT = PageWords(
    "Break it",
    ":material/bug_report:",
    "The field's real faults as switches: see, notice, cure.",
    "Break it: one wrong line",
    "A diffusion program with one wrong line still runs, and often draws something. Each switch is a fault that real "
    "programs had: **right and broken start from the same noise**.",
    (
        r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
        r"\hat x_0 = (x_t - \sigma_t\,\hat\varepsilon)/\alpha_t",
        r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
    ),
    (
        Try(
            "The levels off by one",
            "One index of alphas_cumprod. At which step does the broken run part from the right one?",
            {"where": "sampling", "fault": "off by one", "break_steps": 10},
            {"frame": 1},
        ),
        Try(
            "A fault without a symptom",
            "Sampling begins at the wrong timestep. Can you see it? Can the numbers?",
            {"where": "sampling", "fault": "leading spacing", "break_steps": 10},
            {"frame": 10},
        ),
        Try(
            "A network that learns the wrong data",
            "Press Train both: the training runs as smoothly as the right one.",
            {"where": "training", "taught": "range 0 to 1"},
        ),
    ),
    Question(
        "Guidance is counted twice: 1 + w in place of w. What does the class accuracy say?",
        ("It falls", "It does not fall: the diversity does"),
        1,
        "Stronger guidance follows the class at least as closely, so the class accuracy hides the fault. The images of "
        "one class become alike: the diversity shows it.",
    ),
    (
        "One number never shows all faults: look at the class, the pixels, the diversity, and the pictures.",
        "Faults in training change the data, the noise levels or the target that a network learns; it learns the exact "
        "denoiser of *another* problem. This is how `diagnose` names them.",
    ),
)

PAGES = {
    "plane": PLANE,
    "forward": FORWARD,
    "reverse": REVERSE,
    "training": TRAINING,
    "beyond": BEYOND,
    "schedules": SCHEDULES,
    "guidance": GUIDANCE,
    "samplers": SAMPLERS,
    "break_it": BREAK_IT,
    "text_to_image": TEXT_TO_IMAGE,
    "control": CONTROL,
    "latents": LATENTS,
    "compare": COMPARE,
}
