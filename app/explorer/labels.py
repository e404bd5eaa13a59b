"""What the controls, captions and headings of the pages say; each page's lead, tries and question are in `page_words`.

A page holds no words of its own, so that another language needs this file and the words modules alone. In braces
stands what the page fills in.
"""

from typing import ClassVar

LOADING = "Loading"
DRAWING = "Drawing"
SAMPLING = "Sampling"
DECODING = "Decoding"
DRAWING_TWICE = "Drawing twice"
STEPS = "Steps"
SEED = "Seed"
SCALE = "Guidance scale w"
PROMPT = "Prompt"
NEGATIVE_PROMPT = "Negative prompt"
SAMPLER = "Sampler"
SAMPLERS = "Samplers"
SCHEDULE = "Schedule"
SCHEDULES = "Schedules"
DRAG_YOURS = "Drag yours on **Schedules**"
CLASS = "Class"
TRAINING_STEPS = "Training steps"
SEED_OF_TRAINING = "Seed of the training"
SEED_OF_NOISE = "Seed of the noise"
PICTURES = "Pictures"
OFF = "1 is off."
OFF_OR_NONE = "1 is off, 0 ignores the class."
FILMSTRIP = "The same, as a filmstrip"
YOUR_IMAGE = "Your own image"
MOST_STEPS = "a run has at most {steps} steps"


class Beyond:
    """The page Beyond images."""

    kind = "Kind of data"
    film = "What the film shows"
    adding = "Adding noise"
    save = "Save as {kind}"
    measured = "Measured"


class BreakIt:
    """The page Break it."""

    where = "Faults in"
    fault = "Fault"
    symptom = "**Symptom.** {symptom}"
    head = "| measured here | right | broken |"
    digits = (
        "{count} digits by each loop, {shown} of them shown, from the same noise. The class is that of our own "
        "classifier; diversity is the mean distance between digits of one class."
    )
    reading = "Reading both networks"
    points = (
        "{count:,} points of each network, in {sampling_steps} steps of DDIM from the same noise, each with a label."
    )
    train = "Train both"
    same_loop = "The same loop twice, right and with the fault. About {duration} on one quiet core, at most."
    line = "{words}\n\n**The {which} line**\n```python\n{line}\n```"
    diagnose = (
        "**Is it in your program?** Train it on the eight Gaussians of the plane, and let `diagnose` compare its "
        "outputs with the exact denoiser of each fault:\n```bash\n{diagnose}\n```"
    )
    faults_in = "Faults in {where}"
    notice = "How to notice it"
    cure = "Cure"


class Compare:
    """The page Compare."""

    sampler = "Sampler of both"
    steps = "Steps of both"
    as_recorded = "As in the recorded run: {sampler}, {steps} steps{spacing}."
    no_spacing = "Our network's schedule has no {spacing} spacing for this number of steps, so it uses its own spacing."
    too_many = "The recorded run has {steps} steps; this page compares runs of at most {most_recorded} steps."
    costs = "What each works on, and what it costs"
    ours = "Our network"
    theirs = "Stable Diffusion"
    run = "Run both"
    stand_in = (
        "The stand-in has the stages and latents of Stable Diffusion 1.5, not its size (860 million parameters in the "
        "network, 84 million in the autoencoder, 123 million in the text encoder): its times say nothing about full "
        "Stable Diffusion."
    )


class Control:
    """The page Control."""

    steer = "Steer by"
    known = "The small model knows emoji, in English."
    scale = "Scale of the control"
    scale_help = "What the ControlNet adds is multiplied by it: 0 is the model alone."
    span = "Active in (% of the steps)"
    same_noise = "Both runs start from the same noise."
    kinds: ClassVar = {
        "scribble": "Scribble",
        "edges": "Edges",
        "layout": "Layout",
        "regions": "Two prompts",
        "picture": "A picture",
        "style": "Your style",
    }


class Forward:
    """The page Forward."""

    digit = "Digit"
    which = "Which {noun}"
    formats = "PNG, JPEG, WebP, AVIF, GIF or BMP; scaled to {size} × {size} {colours} pixels."
    invert = "My image is dark ink on white paper"
    refused = "This file cannot be used: {error} The {class_name} above is shown instead."
    asking = "Asking the network"
    lose_it = "Here I lose it"
    predict = "Predict first"
    question = (
        "At which time can **you** no longer tell the {noun}? Look at $x_t$ alone, move the slider from the left, "
        "and press **Here I lose it**."
    )
    strip = "x_t on its way into noise, {schedule} schedule"
    network = "Network that predicts"
    left_out = "your own image"


class Guidance:
    """The page Guidance."""

    per_class = "Images per class"
    bounds = "a sweep has at most {per_class} images per class and {steps} steps"
    rectified = "{no_guidance} Choose another network to sweep the scale."
    measuring = "Measuring real images"
    strip = "images of each class at one guidance scale"
    sweeping = "Sweeping the guidance scale"
    measures = (
        "{images} images at each scale. Class accuracy: the share of images that our own classifier assigns to the "
        "class that they were drawn for. Diversity: the mean distance between images of one class; it would be 0 "
        "if all of them were equal."
    )
    all_scales = "All scales at once"
    read_down = "Images of the class above each column, from the same noise: read down a column."


class Latents:
    """The page Latents."""

    encoding = "Encoding"
    emoji = "Emoji"
    upload = "or your own picture"
    scaled = "Scaled to {side} × {side} pixels."
    touch = "**Touch a cell** of the latent, and pull: the decoded picture follows."
    add_to = "Add to"
    amount = "Amount"
    channel = "Channel"
    across = "From left to right."
    down = "From top to bottom."
    picture = "the picture x₀"
    picture_alt = "The picture: {named}"
    decoded = "decoded: {psnr:.1f} dB"
    decoded_alt = "What the decoder makes of the latent"
    error = "its error, ±{error_range:g}"
    error_alt = "The decoded picture minus the original, the mean of red, green and blue"
    after = "decoded after the touch"
    after_alt = "The decoded picture after {what}"
    change = "the change, ±{error_range:g}"
    change_alt = "The picture after the touch minus before, the mean of red, green and blue"
    values = "Values of the latent"
    sizes = (
        "{side} × {side} × 3 = {values:,} numbers became {height} × {width} × {channels} = {latent_values:,}: "
        "{times:.0f} times fewer. The decibels (PSNR) measure how close the decoded picture is to the original: 10 "
        "log₁₀(2² / mean squared error). In the error, blue is too dark and red too bright."
    )
    mix = "Mix two pictures"
    other = "With"
    saves = "What it saves"
    head = "| compared | {ours} | Stable Diffusion 1.5 |"
    counted = (
        "Sizes come from the configurations; the work per picture of one forward pass is counted from the shapes "
        "(convolutions and matrix products; a multiplication and an addition count as two). Nothing ran at full "
        "size. {others}"
    )
    everywhere = "everywhere"
    at = "at x = {x}, y = {y}"
    what = "{amount:+g} in channel {channel} {at}"
    changed = "{what}: {share:.1%} of the pixels change by more than {seen}."
    inside = "{inside:.0%} of all change is on the {times} × {times} pixels that this latent pixel stands for."
    left_out = "your own picture"
    refused = "This file cannot be used: {error} The {emoji} is shown instead."
    your_own = "your own"
    micro = "micro"
    stand_in = "the stand-in"


class Plane:
    """The page The plane."""

    title = "The plane"
    view = "View"
    data = "Data"
    again = "Draw again"
    draw = "Draw a shape on the board, then press **Flow into it**. The exact denoiser needs no training."
    pairs = "Pairs of noise and data"
    pace = "Pace"
    moving = "Moving the points"
    quality = "Measure quality against steps, sampler by sampler"
    drawn = "Draw your own"


class Reverse:
    """The page Reverse."""

    more = "More"
    negative = "Negative class"
    negative_help = "Replaces the unconditional side: guidance moves away from this class."
    rescale = "Guidance rescale φ"
    middle = "Guide only where {low:g} ≤ σ/α ≤ {high:g}"
    middle_help = "Guides at middle noise levels only. Keeps more variety, with less contrast."
    clip = "Clip predicted x₀ to [−1, 1]"
    branch = "Branch here"
    blank = "Where guidance is off, the network is not evaluated without the class, and two panels are blank."
    counts = "{images} images · {evaluations} network evaluation{plural}{sides}"
    unguided = "Guidance is off at w = 1, so there is no unconditional prediction, and no difference to show."
    both_sides = " of both sides"
    both_where_guided = " of both sides, where guided"


class Samplers:
    """The page Samplers."""

    most = "Most steps"
    bounds = "a sampler has at most {steps} steps, and a race takes at most about {duration}"
    choose = "Choose at least one sampler below."
    timing = "Timing the network"
    solving = "Solving exactly"
    racing = "Racing"
    progress = "{sampler}, {count} step{plural}"
    distance = (
        "{images} {noun}s at once. The exact solution is Heun's with {num_inference_steps} steps. Distance is the "
        "root mean square difference of pixel values; from black to white is 2. Samplers that add noise (DDPM, "
        "Euler ancestral) end at another image by design: their distance does not go to 0."
    )
    time = (
        "Time: one evaluation of the network took {median:.3g} ms here, the median of {repeats} measurements from "
        "{low:.3g} to {high:.3g} ms after a warm-up; a run takes this time multiplied by its number of evaluations."
    )
    disturbed = " **Other work disturbed this measurement**, so it will be repeated."
    ends = "Where they end"
    strip = "the final image, by number of steps"
    distances = "Distance to the exact solution"
    evaluations = "network evaluations"
    against_time = "The same, against time"
    milliseconds = "network time in milliseconds"


class Schedules:
    """The page Schedules."""

    training_timesteps = "T, training timesteps"
    shift = "shift (flow)"
    own = "My own β range"
    own_help = "For linear, scaled linear and sigmoid."
    zero = "Rescale to zero terminal SNR"
    beta_start = "β start"
    beta_end = "β end"
    falling = ":material/info: β end is below β start: the noise is added fastest at the beginning."
    choose = "Choose at least one schedule below."
    drag = "Drag your own"
    drag_lead = (
        "Drag a handle: the higher it is, the more of the image is left at that time. The pictures follow, and so "
        "does **Yours** everywhere on this page."
    )
    terminal = (
        ":material/info: **{name}** ends with a terminal SNR of {snr:.2g}: its last level still holds {share:.1%} "
        "of the image. Sampling starts from pure noise, which the network never saw in training. Rescale to zero "
        "terminal SNR to remove the difference."
    )
    edm = "EDM's x_t grows with its noise, up to σ = 80; it is shown divided by its own standard deviation."
    strip = "x_t from data to noise"


class Start:
    """The page Start."""

    title = "Every image starts as noise"
    lead = (
        "A network is given pure noise and predicts the image in it. A sampler removes a little of the noise, and "
        "asks again. **Nothing here is a recording**: these images were just drawn on this machine."
    )
    bounds = "no folder of its machine can be opened, nothing is downloaded, and the size of files and runs is limited"
    other_noise = "From other noise"
    loading = "Loading the network"
    drawn = (
        "One image of each class ({classes}) by {network}, in {num_inference_steps} steps with guidance "
        "{guidance_scale:g}."
    )
    inside = "Look inside"
    thumbnail = "From the page {name}"


class TextToImage:
    """The page Text to image."""

    search = "Search"
    found = "{count} of {all_of_them} things match."
    all_things = "{all_of_them} things, and the words that describe them."
    examples = "Examples"
    beside = "Compare with"
    other_prompt = "Prompt of run B"
    other_seed = "Seed of run B"
    other_scale = "Guidance scale w of run B"
    settings = "Settings"
    negative_help = "What guidance moves away from; may be empty."
    scale_help = "1 is off. A larger scale follows the prompt more closely, until it over-sharpens."
    preview = "{preview} are a quick preview."
    first_seed = "First seed"
    bounds = "a run has at most {steps} steps and {pictures} pictures (seeds)"
    other_seeds = "Other seeds"
    inside = "Looking inside"
    unknown = (
        "The model does not know **{word}**. It reads the word in pieces, which change the picture little: {pieces}."
    )
    it_knows = "It knows"
    reading = "Reading the pictures"
    picture = "{of_prompt}, seed {number}, {label}"
    seed = "seed {number}"
    picked = "Picked"
    pick = "Pick this one"
    refine = "Refine seed {chosen}"
    refine_help = "Start from this picture: paint on it, brush a hole, or draw variants of it."
    save = "Save seed {chosen} as PNG"
    below = "Below"
    walk = "A walk starts from pure noise, without the picture."
    grid = "Drawing the grid"
    known_words = "The words it knows"
    sides: ClassVar = {
        "nothing": "One run",
        "prompt": "Another prompt",
        "seed": "Another seed",
        "scale": "Another scale",
    }
    no_words = "no words"
    reads = " · reads as: {thing} {confidence:.2f}"


class Training:
    """The page Training."""

    kind = "It predicts"
    digit = "A digit in noise"
    average = "Sample with the average of the weights (EMA)"
    average_help = "The moving average of the last few hundred steps' weights. Off: the weights of the last step."
    before = "Drawing before the first step"
    ready = "Your network is ready."
    use = "Use it on the other pages"
    save = "Save its weights"
    save_help = 'A file for load_pretrained("...") in Python.'
    two_cores = "two quiet cores"
