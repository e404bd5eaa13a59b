// The boxes of the picture of the whole (pipeline.js): what each says, what it shows closed, and what it shows opened.

const SHARES = { tokens: 1.12, encoder: 0.92, latent: 0.86, unet: 1.22, guidance: 0.86, step: 1.22, decoder: 1.16 }; // of the width
const TOKEN = 26; // pixels of a token's row in the text encoder's picture; padding is thinner
const HEAT = [226, 84, 160]; // of attention, over a pale picture on white, in light and dark
const hasFields = (run) => run.panels.includes("with");
const values = (run) => grouped(product(run.shape));

const BOXES = {
  tokens: {
    name: () => "Tokens",
    about: (run) => `One number per word, and padding up to ${run.tokens[0].length}.`,
    tells: (run) => `The prompt is cut into words, each with its number in a fixed vocabulary. The model always reads <b>${run.tokens[0].length} tokens</b>; padding fills the rest, and a longer prompt is cut off.`,
  },
  encoder: {
    name: () => "Text encoder",
    about: (run) => `Each token becomes ${grouped(run.text_shape[1])} numbers.`,
    tells: (run) => `A transformer turns the tokens into <b>${run.text_shape[0]} × ${grouped(run.text_shape[1])} numbers</b>, one row per token. Rows depend on each other, so the same word differs from prompt to prompt. All rows, padding too, go to every step.`,
  },
  latent: {
    name: () => "Latent",
    about: (run) => `${values(run)} numbers; at first noise, from the seed.`,
    tells: (run) => `The run works on <b>${run.shape[1]} × ${run.shape[2]} × ${run.shape[0]} = ${values(run)} numbers</b> in place of the picture's ${run.size[0]} × ${run.size[1]} × 3 = ${grouped(3 * product(run.size))}: ${Math.round((3 * product(run.size)) / product(run.shape))} times fewer. Channels: blue is −3, white 0, red 3.`,
  },
  unet: {
    name: (run) => (hasFields(run) ? "U-Net" : "Denoiser"),
    about: () => "Predicts the noise twice: with the words, and without.",
    tells: (run) => (run.words.length
      ? "At each step a U-Net predicts the noise in the latent, once <b>with the words</b> and once without. Each place of the latent attends to each word: a map is white where the word gets its least attention at this step, and coloured where it gets its most. The percentage is the word's share of all attention."
      : "At each step the network predicts the noise in the latent, once <b>with the words</b> and once without."),
  },
  guidance: {
    name: () => "Guidance",
    about: (run) => (run.sides.length ? `Goes w = ${run.scale} times as far as the words point.` : "Off: w is 1."),
    tells: (run) => (run.sides.length
      ? `The two predictions nearly agree; their small difference is <b>what the words change</b>. Guidance goes w = ${run.scale} times as far in this direction.`
      : "At w = 1 the prediction with the words is used as it is."),
  },
  step: {
    name: () => "Sampler step",
    about: () => "Predicted picture, and less noise than before.",
    tells: () => "The sampler splits the latent into a <b>predicted picture</b> and <b>noise</b>, and adds them again with less noise. This makes the next latent.",
  },
  decoder: {
    name: () => "Decoder",
    about: (run) => `Paints ${Math.round(run.size[0] / run.shape[1])} × ${Math.round(run.size[1] / run.shape[2])} pixels per place of the latent.`,
    tells: () => "Only the last latent is decoded to make the picture. To look inside, this page also decodes the <b>predicted picture of every step</b>: it is decided early, and later steps sharpen it.",
  },
};

// The sentence above the boxes: at rest, and while data passes a station.
const STANDING = (run, sigma) => `The latent is ${sigma > 0.995 ? "pure noise" : `${Math.round(100 * sigma)}% noise`}. The denoiser predicts the noise with and without the words${run.sides.length ? `, guidance goes ${run.scale} times as far` : ""}, and the sampler removes a little of the noise.`;
const PASSING = {
  tokens: (run) => `The words become <b>tokens</b>: ${plural(run.tokens[0].used, "number")}, and padding.`,
  encoder: (run) => `The <b>text encoder</b> turns each token into ${grouped(run.text_shape[1])} numbers.`,
  latent: (run) => `The <b>latent</b>: ${values(run)} numbers, at first pure noise.`,
  unet: () => "The denoiser predicts the noise <b>twice</b>: with the words, and without.",
  guidance: (run) => (run.sides.length ? `<b>Guidance</b> goes ${run.scale} times as far as the words point.` : "Guidance is off: w is 1."),
  step: (run, [alpha, sigma]) => `A cleaner latent: <b class="data">${alpha.toFixed(2)} × picture</b> + <b class="noise">${sigma.toFixed(2)} × noise</b>.`,
  decoder: (run) => `The latent is clean, and the decoder turns its ${values(run)} numbers into ${grouped(3 * product(run.size))}: the picture.`,
};

function chipsOf({ chips }, most = Infinity) {
  const shown = chips.length > most ? [...chips.slice(0, most - 1), { word: `… ${chips.length - most + 1} more`, ids: [], special: true }] : chips;
  return element("div", { className: "chips" }, ...shown.map(({ word, ids, special }) =>
    element("span", { className: special ? "chip special" : "chip" }, element("b", { textContent: word }), element("i", { textContent: ids.join(" ") }))));
}

const labelled = (node, words, kind = "") => element("figure", { className: kind }, node, element("figcaption", { innerHTML: words }));
const sign = (words) => element("span", { className: "sign", innerHTML: words });

// A paragraph whose numbers follow the frame (Pipeline.numbers).
function saysOf(what, pipe, run, kind = "") {
  const node = element("p", { className: `numbers ${kind}` });
  node.dataset.says = what;
  node.dataset.run = pipe.runs.indexOf(run);
  return node;
}

const SHORT = {
  tokens: (pipe, run) => [chipsOf(run.tokens[0], 7)],
  encoder: (pipe, run, k) => [run.embeds ? vectors(pipe, run, k, pipe.views, false) : element("p", { className: "numbers", textContent: run.text_shape.map(grouped).join(" × ") })],
  latent: (pipe, run, k) => [pipe.field(k, run, "latent", "the latent, in colours")],
  unet: (pipe, run, k) => (hasFields(run)
    ? [element("div", { className: "pair" }, ...[["with", "with the words"], ["without", "without"]].map(([panel, words]) => [pipe.field(k, run, panel, `the noise predicted ${words === "without" ? "without the words" : words}`), words]).filter(([canvas]) => canvas).map(([canvas, words]) => labelled(canvas, words)))]
    : [saysOf("norms", pipe, run)]),
  guidance: (pipe, run, k) => (hasFields(run) && run.sides.length ? [element("div", { className: "pair" }, sign(`<b class="guided">${run.scale} ×</b>`), pipe.field(k, run, "difference", "what the words change"))] : [saysOf("apart", pipe, run)]),
  step: (pipe, run, k) => [
    element("div", { className: "pair" }, pipe.picture(k, run, "the predicted picture"), ...(hasFields(run) ? [sign("+"), pipe.field(k, run, run.panels.includes("guided") ? "guided" : "with", "the predicted noise")] : [])),
    saysOf("mix", pipe, run),
  ],
  decoder: (pipe, run, k) => [pipe.picture(k, run, "the predicted picture, decoded")],
};

const LONG = {
  tokens: (pipe, run) => run.tokens.flatMap((one) => [
    ...(run.tokens.length > 1 ? [element("p", { className: "numbers", textContent: `${one.encoder}, ${one.length} tokens` })] : []), chipsOf(one),
    ...(one.cut ? [element("p", { className: "numbers", textContent: `Cut off, without effect: ${one.cut}` })] : [])]),
  encoder: (pipe, run, k) => [run.embeds ? vectors(pipe, run, k, pipe.opened, true) : element("p", { className: "numbers", textContent: `${run.text_shape.map(grouped).join(" × ")} numbers; a recorded run does not keep them.` })],
  latent: (pipe, run, k) => {
    const channels = run.panels.filter((panel) => panel.startsWith("channel"));
    return [element("div", { className: "row" },
      labelled(pipe.field(k, run, "latent", "the latent, in colours", pipe.opened), "in colours", "large"),
      ...channels.map((panel) => labelled(pipe.field(k, run, panel, panel, pipe.opened), panel)))];
  },
  unet: (pipe, run, k) => {
    const noises = hasFields(run) ? ["with", "without"].map((panel) => [pipe.field(k, run, panel, `the noise predicted ${panel} the words`, pipe.opened), `${LETTERS.noise} ${panel} the words`]).filter(([canvas]) => canvas) : [];
    if (!run.words.length) return [element("div", { className: "row" }, ...noises.map(([canvas, words]) => labelled(canvas, words))), ...(noises.length ? [] : [element("div", { className: "row charts" }, ...charts(pipe, run, k))])];
    const large = pipe.view(k, "picture attention", (canvas, frame) => heat(pipe, canvas, run, frame, pipe.wordOf(run), 256),
      (frame) => `where the picture attends to ${run.words[pipe.wordOf(run)]}${pipe.of(run)}, over the predicted picture, ${run.pictures.captions[frame]}`, pipe.opened);
    const words = run.words.map((word, place) => {
      const small = pipe.view(k, "picture", (canvas, frame) => {
        heat(pipe, canvas, run, frame, place, 96);
        button.setAttribute("aria-pressed", place === pipe.wordOf(run));
        button.lastChild.lastChild.textContent = ` ${share(run.shares[frame][place])}`;
      }, (frame) => `where the picture attends to ${word}: ${share(run.shares[frame][place])} of all attention`, pipe.opened);
      const button = element("button", { type: "button", className: "word" }, small, element("span", {}, element("b", { textContent: word }), element("small")));
      button.addEventListener("click", () => pipe.choose(place));
      return button;
    });
    return [element("div", { className: "looking" }, large, element("div", {}, element("div", { className: "words" }, ...words), element("div", { className: "noises" }, ...noises.map(([canvas, caption]) => labelled(canvas, caption)))))];
  },
  guidance: (pipe, run, k) => {
    if (!run.sides.length) return [];
    const sum = hasFields(run) ? [element("div", { className: "row sum" },
      labelled(pipe.field(k, run, "without", "the noise predicted without the words", pipe.opened), "without the words"), sign(`+ <b class="guided">${run.scale} ×</b>`),
      labelled(pipe.field(k, run, "difference", "what the words change", pipe.opened), `difference, ±${run.limit}`), sign("="),
      labelled(pipe.field(k, run, "guided", "the noise after guidance", pipe.opened), "guided"))] : [];
    const triangle = { title: "The predictions as arrows", alt: "without the words, with them, and guided, drawn to measure", condition: "words", scales: run.sides.map(() => run.scale), sides: run.sides.map((one) => [one]) };
    const arrows = pipe.view(k, "chart", (canvas, frame) => drawTriangle(canvas, triangle, frame), () => "", pipe.opened);
    pipe.opened.at(-1).alt = () => arrows.getAttribute("aria-label") || triangle.title; // drawTriangle says its numbers itself
    return [...sum, element("div", { className: "row charts" }, labelled(arrows, triangle.title), ...(pipe.runs.length > 1 ? [] : charts(pipe, run, k)))];
  },
  step: (pipe, run, k) => {
    const next = pipe.view(k, "field", (canvas, frame) => {
      const { height, width } = run.fields;
      fit(canvas, width, height);
      crop(canvas, run.small?.[Math.min(frame + 1, pipe.last)], 0, width, height);
    }, () => `the next latent${pipe.of(run)}, in colours`, pipe.opened);
    return [element("div", { className: "row sum" },
      labelled(pipe.field(k, run, "latent", "the latent, in colours", pipe.opened), "latent now", "state"), sign("→"),
      labelled(pipe.picture(k, run, "the predicted picture", pipe.opened), "predicted picture", "data"),
      ...(hasFields(run) ? [sign("+"), labelled(pipe.field(k, run, run.panels.includes("guided") ? "guided" : "with", "the predicted noise", pipe.opened), "predicted noise", "noise")] : []),
      sign("="), labelled(next, "next latent", "state")), saysOf("sum", pipe, run, "sum")];
  },
  decoder: (pipe, run, k) => [element("div", { className: "row sum" },
    labelled(pipe.field(k, run, "latent", "the latent, in colours", pipe.opened), `${run.shape[1]} × ${run.shape[2]} × ${run.shape[0]}`), sign("→"),
    labelled(pipe.picture(k, run, "the predicted picture, decoded", pipe.opened), `${run.size[0]} × ${run.size[1]} × 3`, "large"))],
};

const share = (part) => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)}%`;

// The run's charts (of its norms), which follow the slider.
function charts(pipe, run, k) {
  return (run.pictures.charts ?? []).map((chart) => labelled(
    pipe.view(k, "chart", (canvas, frame) => drawChart(canvas, chart, frame), (frame) => `${chart.title}: ${chart.alt}, ${run.pictures.captions[frame]}`, pipe.opened), chart.title));
}

// The text encoder's rows: opened, those of the words are tall and named.
function vectors(pipe, run, k, into, named) {
  const { chips, used, length } = run.tokens[0], [rows, columns] = run.text_shape;
  const names = chips.flatMap(({ word, ids, special }) => (special && word.startsWith("padding") ? [] : ids.map((_, i) => (i ? "" : word))));
  return pipe.view(k, named ? "vectors named" : "vectors", (canvas) => {
    if (!run.vectors) return;
    if (!named) { fit(canvas, columns, rows); crop(canvas, run.vectors, 0, columns, rows); return; }
    const left = 84, rest = Math.min(90, 3 * (length - used)), ctx = sharp(canvas, used * TOKEN + rest + 4), wide = canvas.clientWidth - left;
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(run.vectors, 0, 0, columns, used, left, 0, wide, used * TOKEN);
    if (rest) ctx.drawImage(run.vectors, 0, used, columns, rows - used, left, used * TOKEN + 4, wide, rest);
    ctx.font = `600 14px ${getComputedStyle(canvas).fontFamily}`;
    Object.assign(ctx, { textAlign: "right", fillStyle: resolved(canvas, "var(--ink)") });
    names.slice(0, used).forEach((name, row) => ctx.fillText(name, left - 10, row * TOKEN + 18, left - 12));
    ctx.fillStyle = resolved(canvas, "var(--muted)");
    if (rest > 12) ctx.fillText("padding", left - 10, used * TOKEN + 17);
  }, () => `the text encoder's output${pipe.of(run)}: ${rows} rows of ${columns} numbers; blue is below the mean, red above`, into);
}

// A word's attention over the predicted picture in grey.
function heat(pipe, canvas, run, frame, word, side) {
  fit(canvas, side, side);
  const ctx = canvas.getContext("2d"), { height, width } = run.fields, place = run.panels.indexOf(`word ${word}`);
  ctx.clearRect(0, 0, side, side);
  if (!run.bitmaps || place < 0) return;
  ctx.fillStyle = "#fff";
  ctx.fillRect(0, 0, side, side);
  Object.assign(ctx, { filter: "grayscale(1)", globalAlpha: 0.55 });
  ctx.drawImage(run.bitmaps[frame], 0, 0, side, side);
  Object.assign(ctx, { filter: "none", globalAlpha: 1, globalCompositeOperation: "multiply" });
  const small = element("canvas", { width, height }), own = small.getContext("2d", { willReadFrequently: true });
  own.drawImage(run.small[frame], 0, place * height, width, height, 0, 0, width, height);
  const image = own.getImageData(0, 0, width, height);
  for (let i = 0; i < image.data.length; i += 4) image.data.set([...HEAT, image.data[i]], i);
  own.putImageData(image, 0, 0);
  ctx.drawImage(small, 0, 0, side, side);
  ctx.globalCompositeOperation = "source-over";
}

function fit(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

function crop(canvas, bitmap, panel, width, height) {
  const ctx = canvas.getContext("2d");
  ctx.clearRect(0, 0, width, height);
  if (bitmap) ctx.drawImage(bitmap, 0, panel * height, width, height, 0, 0, width, height);
}

// The context of a canvas of this height, in the screen's pixels.
function sharp(canvas, tall) {
  const ratio = screenPixels(canvas);
  canvas.style.height = `${tall}px`;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = tall * ratio;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  return ctx;
}
