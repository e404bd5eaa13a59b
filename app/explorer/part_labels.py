"""What the parts that several pages share say: see `labels`."""


class StableSections:
    """`stable_sections`."""

    model = "Model"
    name = "Its name, a folder or a file"
    name_help = (
        "owner/model on the Hugging Face hub, a folder in diffusers' format, a .safetensors file of Stable "
        "Diffusion or FLUX.1, or a folder with several models, as ComfyUI's. Choosing it fetches nothing."
    )
    checker = "Safety checker"
    checker_help = (
        "A network that some models ship: the pictures that it flags become black. Off: it is neither downloaded "
        "nor loaded, so a model whose safety checker is missing or pickled can run."
    )
    unchecked = "It is left out: no picture is checked."
    recorded = "A recorded run"
    recorded_help = (
        "A .safetensors file of at most {megabytes} MB that this page saved, or `diffusion-explained record`."
    )
    save_first = (
        "Save a run on a machine with a GPU, on this page or with `diffusion-explained record`; then open it here."
    )
    refused = "This file cannot be used: {error}"
    give_name = "Give the model's name, its folder or its file."
    download = "Download {gigabytes:.1f} GB"
    download_help = "From the Hugging Face hub, once. Nothing is fetched unless you press this."
    no_gpu = "There is no GPU here, and on a CPU one picture takes minutes. Loading also measures how many."
    load = "Load it, and measure"
    longer = "These settings take longer than usual, so nothing has begun: press {words}."
    in_progress = "The run in progress has other settings{prompt}. {words} stops it, and starts one with these."
    other_settings = "The result below was made with other settings than these{prompt}."
    absent = "Full Stable Diffusion: what is missing here, and what to do"
    cut_off = "Too long: **cut off, without effect:** {cut}"
    no_channels = "A recorded run keeps the latents in colours only, not channel by channel."
    channels = "Its {count} channels: blue is −{eps_range:g}, white is 0, red is {eps_range:g}."
    by_map = "In colours, by a linear map."
    sizes = (
        "{height} × {width} × {depth} = {values:,} values for a picture of {picture_height} × {picture_width} × 3 "
        "= {of_picture:,}: {times:.0f} times fewer."
    )
    seed = "seed {seed}"
    empty = "The prompt is empty: without a negative prompt both sides of guidance are the same, and w has no effect."
    save = "Save this run"
    save_help = "Its tokens, norms and pictures; this page opens the file as a recorded run on a machine without a GPU."


class LargerModels:
    """`larger_models`."""

    negative_help = "It replaces the empty prompt on the unconditional side of guidance."
    scale_help = "1 is off; 5 to 15 is usual for full Stable Diffusion. A model card's 0.0 means off: it is 1 here."
    width = "Width"
    height = "Height"
    bounds = "a run has at most {steps} steps and {pictures} pictures (seeds) of {side} × {side} pixels"
    latent = "The first latent"
    picture = "The picture"
    pictures = "The pictures"
    no_tokens = "This model's pipeline reads the prompt within instructions of its own, so its tokens are not shown."
    without_prompt = (
        "Below 1 the picture moves away from the prompt: 0 is the prediction without it. Where a model's card says "
        "0.0, it means no guidance, which is 1 here."
    )
    batch = "One batch: this seed and the ones after it."


class StartPictures:
    """`start_pictures`."""

    start = "Start from"
    which = "Which picture"
    zoom = "Zoom"
    zoom_help = "How much smaller the picture gets."
    strength = "Strength"
    resampling = "With the sampler DDPM, a hole can also be filled by resampling (RePaint)."
    resamplings = "Resamplings"
    upload = "Your own picture"
    scaled = "Scaled to the run's size."
    choose = "Choose a file; until then the run starts from pure noise."
    emoji = "Emoji"
    real = "32 × 32 pixels, {real}; enlarged."
    hole = "The hole"
    brush = "Brush over what is to be painted anew; the rest then stays as it is."
    mask = "A mask, white where to paint anew"
    invert = "My mask is black where to paint anew"
    mask_title = "the hole, white"
    mask_alt = "The mask as it was read: white is painted anew"
    rectangle = "Without a file, a rectangle in the middle is painted anew."
    across = "From left to right (%)"
    down = "From top to bottom (%)"


class Spacings:
    """`spacings`."""

    spacing = "Spacing"
    help = (
        "How the noise levels of the steps are distributed from noise to image: leading, linspace and trailing space "
        "the timesteps; karras, exponential and beta space the noise ratio σ/α. Spacings for which this model's "
        "schedule has no levels at this number of steps are not in the list."
    )
    help_of_yours = "Yours takes the noise levels of your own schedule, which you drag on the page Schedules."
    refused = "{error} The model's own spacing is used."
    first_level = (
        ":material/info: The first level of **yours** holds {alpha:.1%} of the image; the noise that a run starts "
        "from holds none."
    )


class StylePanel:
    """`style_panel`."""

    origin = "A style from"
    least = "Give at least {least} pictures, and the training can begin."
    trained = "What is trained"
    say = "Say “{word} style” for your style."
    seed = "Seed of the picture"
    steps = "Sampling steps"
    nothing = (
        "Nothing is taught yet. The model knows no word “{word}”: after the training, “{prompt}” is drawn in the "
        "style of the pictures, though no rocket is among them."
    )
    scales = "Drawing at eleven scales"
    save = "Save the LoRA ({kilobytes:.0f} KB)"
    save_help = 'A file that diffusers and ComfyUI read; here: load("micro").load_lora("zorb.safetensors").'
    second = "A second LoRA"
    second_help = (
        "Added to the weights beside your own style, each at its own scale. Two ship with the package: "
        "Outlines were taught with the word “zorb” and Mosaics with “quib”."
    )
    second_file = "Its file"
    second_file_help = "A .safetensors file of micro: one that this page saved, or `diffusion-explained lora`."
    own_scale = "Scale of your style"
    second_scale = "Scale of the second LoRA"
    together = "Two LoRAs at once"
    drawing_four = "Drawing with each LoRA and with both"
    together_names = ("the base", "with your style", "with the second LoRA", "with both")
    together_alt = "{prompt}, drawn from the same noise, {name}"
    learned = "How it was learned, and which weights have changed"
    draw = "Draw a"
    drawn = "{done} of {all} are drawn. They are kept until you close the page."
    files = "At least {least} pictures"
    files_help = (
        "Each file is named after what it shows: cat.png, fire_truck.png. Scaled to {side} × {side} pixels, "
        "transparent parts white."
    )
    given = "{count} of at least {least} pictures."
    alt = "{name}, one of the pictures to learn from"


class PicturePanel:
    """`picture_panel`."""

    of = "A picture of"
    look = "Its look"
    made = "Made-up style number"
    upload = "or your own picture"
    shown = "the picture that is shown"
    shown_alt = "The reference picture, {side} by {side} pixels"
    prompt_help = (
        "Name another thing, and it takes the picture's style. Leave it empty, and the picture's thing is drawn."
    )
    scale = "Scale of the picture"
    scale_help = "The attention to the picture is multiplied by it: 0 is the words alone."
    refused = "This file cannot be used: {error} The {name} is shown instead."
    same_noise = (
        "Both runs start from the same noise. Beside each layer: how large the attention to the picture is, relative "
        "to that to the words."
    )
    what = "What is added"


class ControlParts:
    """`control_parts`."""

    save = "Save as PNG"


class RegionPanel:
    """`region_panel`."""

    whole = "One prompt, for the run without regions"
    prompts = ("First prompt", "Second prompt")
    places = "Say the places"
    places_help = (
        "Adds to each prompt where its region is, such as “on the left”. Without these words each prompt asks for one "
        "thing in the middle of the picture, and its region shows a part of that thing."
    )
    scale = "Separation"
    scale_help = "1: each prompt counts in its own region only. 0: both count equally everywhere."
    recognised = (
        "Asked which of the two is where, the retrieval network says **{first}** in the first region and **{second}** "
        "in the second; of the picture by one prompt, **{plain_first}** and **{plain_second}**. Both runs start from "
        "the same noise."
    )
    what = "How two prompts are joined"


class Loading:
    """`loading`."""

    how = "How it is loaded"
    dtype = "Type of numbers"
    dtype_help = "{automatic}: {usual} here. float16 and bfloat16 take half of the memory of float32."
    offload = "Offload"
    offload_help = "Keep on the GPU only the part that computes. {automatic}: only if the model fits no other way."
    prediction = "Prediction type"
    prediction_help = (
        "{automatic}: as the file says. Some files of Stable Diffusion 2.x do not say: v for models of 768 × 768 "
        "pixels, eps for those of 512 × 512."
    )
    unavailable = "{words} is not available: {why}"


class Additions:
    """`additions`."""

    scale = "LoRA scale"
    remove = "Remove the LoRA"
    new_word = "New word: **{word}**"
    refiner = "The refiner begins after"
    refiner_help = "The share of the way from noise to picture that the model itself takes."


class DrawIt:
    """`draw_it`."""

    title = "Draw it"
    lead = "Make a blob, with a finger or the mouse. The network finishes it."
    finish_as = "Finish it as"
    strength = "Strength"
    strength_help = "How much noise is added to the blob. 1 leaves nothing of it."
    nothing = ":material/gesture: Nothing is drawn yet: a stroke, a ring or a cross is enough."
    finishing = "Finishing it"
    read = "{count} times from other noise. Our classifier reads them as {read}."


class Variations:
    """`variations`."""

    walk = "Walk"
    to = "To the prompt"
    walking = "Walking"
    whole_walk = "The whole walk"
    jumps = (
        "The noise, or the prompt, changes evenly; the picture does not. Where the curve is high, the picture "
        "jumps from one thing that the model can draw to another."
    )
    seed = "seed {seed}"
    grid = "Pictures by guidance scale and seed"
    grid_note = "Down a column the noise is the same: what changes is how far guidance goes. w = 1 is off."


class BeyondKinds:
    """`beyond_kinds`."""

    digit = "Digit"
    speed = "Speed"
    digits = "Digits"
    gaps = "Only the masked chain can fill gaps: the uniform one does not know which letters are given."
    chain = "Chain"


class ControlKinds:
    """`control_kinds`."""

    begin = "Begin with"
    outline = "Outline of"
    edges = "Edges of"
    upload = "or of your own picture"
    scaled = "Scaled to {side} × {side} pixels."
    where = "Where"
    layout_board = "Your layout: paint where the first thing and the second thing of the prompt are"
    regions_board = "Your regions: paint where the first prompt and the second prompt hold"
    reads = "what the network reads"
    reads_alt = "The control picture: white lines or coloured areas on black"


class Branches:
    """`branches`."""

    branch = "Branch"
    branch_help = "Only the steps from there on are computed."
    one_thing = "From any step on, change one thing, and see both ends."
    step = "From step"
    change = "Change"
    to = "to"
    to_w = "to w"
    seed = "Seed of the new noise"


class LessonJobs:
    """`lesson_jobs`."""

    forecast = "About {duration} on {cores}."
    other_seed = "Train with another seed"


class Tries:
    """`tries`."""

    title = "Try"
    question = "Predict first"
    next = "Next: **{name}**. {short}"


class Tour:
    """`tour`."""

    begin = "**Take the tour**: {stops} stops, about {minutes} minutes"
    leave = "Leave"
    end = "The end: start"


class OnDisk:
    """`on_disk`."""

    unusable = "Not usable: {count}"
    here = "In this folder"
    none = "There is no {kind} in this folder."


class PlaneQuality:
    """`plane_quality`."""

    measuring = "Measuring"
    progress = "{words}, {count} step{plural}"
    spread = (
        "{samples:,} points and {draws} draws of noise for each dot; two draws of the data are {floor:.3f} apart, "
        "so no sampler comes closer. Heun evaluates the denoiser twice per step."
    )


class Pictures:
    """`pictures`."""

    real = "The picture is real: CIFAR-10's training split is on this machine."
    not_real = (
        "CIFAR-10 is not on this machine, so this picture is **not real: our own network made it** (400 of them "
        "ship with the package, none picked)."
    )
    download = "Download CIFAR-10 ({megabytes:.0f} MB)"
    download_help = "The training split, from the Hugging Face hub, once. Nothing is fetched unless you press this."
    failed = "CIFAR-10 could not be downloaded: {error}"
