// Text to image as one picture: words, tokens, text encoder, the loop of U-Net, guidance and step, decoder.
// One run, or two on one timeline, hosted by anywidget (JupyterLab) and by st.components.v2 (Streamlit). All frames arrive
// once; after that the slider, the playing and the opening of a box are drawn here, with no word to Python.
//
// film: a film (scrubber.js) of the first run's predicted x_0, and with it { key, apart: [a distance a frame] or [],
//   runs: [{ name, pictures: film, that of the first run left out, fields: film of latent size, panels: its panels' names, steps: [a number a step], count, tokens: [{ encoder, chips: [{ word, ids, special }], length, used, cut }],
//            embeds: PNG or null, words, shares: [[a share a word] a frame], noun, clearest, weights: [[alpha, sigma] a frame],
//            rests, sides: [[length, along, across] a frame], scale, shape: [C, h, w], size: [H, W], text_shape: [L, D], limit }] }

const STATIONS = ["tokens", "encoder", "latent", "unet", "guidance", "step", "decoder"];
const LOOP = [2, 5]; // the first and the last station of a step
const RAIL = { height: 66, y: 48, top: 13 };
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const grouped = (count) => count.toLocaleString("en");
const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

class Pipeline {
  constructor(root, film, { index, open, word, autoplay, stays, onRest, onOpen, onWord }) {
    Object.assign(this, { root, film, onRest, onOpen, onWord, word, runs: film.runs, last: film.captions.length - 1, views: [], opened: [], draws: 0 });
    this.runs[0].pictures ??= film;
    this.index = index;
    this.reach = STATIONS.map(() => index);
    root.className = film.runs.length > 1 ? "pipeline two" : "pipeline";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Text to image as one picture: seven boxes from the words to the picture, of which each opens; a slider over the steps");
    this.says = element("p", { className: "says" });
    this.rail = document.createElementNS(SVG, "svg");
    this.rail.setAttribute("aria-hidden", "true");
    this.rail.classList.add("rail");
    this.train = element("canvas", { className: "train", width: 16, height: 16, hidden: true });
    this.train.setAttribute("aria-hidden", "true");
    this.boxes = STATIONS.map((name, k) => this.box(name, k));
    const line = element("div", { className: "boxes" }, ...this.boxes.map((box) => box.root));
    this.stage = element("div", { className: "stage" }, element("div", { className: "round" }), this.rail, line, this.train);
    this.play = element("button", { type: "button", className: "play" });
    this.slider = element("input", { type: "range", min: 0, max: this.last, step: 1, value: index });
    this.slider.setAttribute("aria-label", "step, from the words to the picture");
    this.strips = this.runs.map((run) => this.strip(run));
    this.river = this.runs.length > 1 ? element("canvas", { className: "river" }) : null;
    this.river?.setAttribute("role", "img");
    this.label = element("output");
    const film_ = element("div", { className: "strips" }, this.strips[0], ...(this.river ? [this.river, this.strips[1]] : []), this.slider);
    this.time = element("div", { className: "time" }, this.play, film_);
    root.replaceChildren(this.says, this.stage, this.time, this.label);
    this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
    this.slider.addEventListener("change", () => this.onRest?.(this.index));
    this.play.addEventListener("click", () => (this.timer ? this.rest() : this.start()));
    root.addEventListener("keydown", (event) => this.key(event), true); // before JupyterLab's own shortcuts
    this.observer = new ResizeObserver(() => this.layout());
    [root, ...this.boxes.map((box) => box.root)].forEach((node) => this.observer.observe(node));
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => { this.layout(); this.draw(); };
    this.scheme.addEventListener("change", this.redraw);
    this.icon("play", "Play");
    this.open(STATIONS.includes(open) ? open : "", !stays);
    this.load(autoplay && !window.matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  async load(autoplay) {
    const decode = (frame) => createImageBitmap(new Blob([bytes(frame)], { type: "image/png" }));
    await Promise.all(this.runs.map(async (run) => {
      [run.bitmaps, run.small, [run.vectors]] = await Promise.all([
        Promise.all(run.pictures.frames.map(decode)), Promise.all(run.fields.frames.map(decode)), Promise.all([run.embeds && decode(run.embeds)]),
      ]);
    }));
    if (!this.root.isConnected) return;
    this.redraw();
    this.root.dataset.ready = "true";
    if (autoplay) this.start();
  }

  // -- the boxes ------------------------------------------------------------------------------------------

  box(name, k) {
    const words = BOXES[name];
    const button = element("button", { type: "button", className: "name" }, element("i"), element("span", { textContent: words.name(this.runs[0]) }), element("b", { textContent: "+" }));
    button.lastChild.setAttribute("aria-hidden", "true");
    const short = element("div", { className: "short" }), long = element("div", { className: "long", hidden: true });
    const root = element("section", { className: `box ${name}` }, button, short, long);
    button.addEventListener("click", () => this.opens(this.name === name ? "" : name));
    this.runs.forEach((run, r) => short.append(this.lane(r, SHORT[name](this, run, k))));
    short.append(element("p", { className: "about", textContent: words.about(this.runs[0]) }));
    return { name, root, button, short, long };
  }

  lane(r, content) {
    const badge = this.runs.length > 1 ? [element("b", { className: `badge run-${r}`, textContent: "AB"[r], title: this.runs[r].name })] : [];
    return element("div", { className: "lane" }, ...badge, ...content);
  }

  // A canvas that is drawn again at each frame of its station: draw(canvas, frame), alt(frame).
  view(station, className, draw, alt, into = this.views) {
    const canvas = element("canvas", { className });
    canvas.setAttribute("role", "img");
    into.push({ canvas, station, draw, alt });
    return canvas;
  }

  field(station, run, panel, what, into) {
    const place = run.panels.indexOf(panel), { height, width } = run.fields;
    if (place < 0) return null;
    return this.view(station, "field", (canvas, frame) => {
      fit(canvas, width, height);
      crop(canvas, run.small?.[frame], place, width, height);
    }, (frame) => `${what}${this.of(run)}, ${run.pictures.captions[frame]}`, into);
  }

  picture(station, run, what, into) {
    const { height, width } = run.pictures;
    return this.view(station, "picture", (canvas, frame) => {
      fit(canvas, width, height);
      crop(canvas, run.bitmaps?.[frame], 0, width, height);
    }, (frame) => `${frame === this.last ? "the finished picture" : what}${this.of(run)}, ${run.pictures.captions[frame]}`, into);
  }

  of(run) { return this.runs.length > 1 ? ` of run ${"AB"[this.runs.indexOf(run)]}` : ""; }

  // seeks: whether the U-Net, opened at the end, shows the step where its attention is clearest.
  open(name, seeks = true) {
    this.name = name;
    this.opened = [];
    this.root.dataset.open = name;
    const wide = STATIONS.map((one) => (name === "" ? SHARES[one] : one === name ? 9 : one === "decoder" ? 1.5 : 0.55));
    this.stage.style.setProperty("--columns", wide.map((share) => `minmax(0, ${share}fr)`).join(" "));
    this.boxes.forEach((box, k) => {
      const here = box.name === name;
      box.root.classList.toggle("opened", here);
      box.button.setAttribute("aria-expanded", here);
      box.button.querySelector("b").textContent = here ? "×" : "+";
      box.long.hidden = !here;
      if (!here) return box.long.replaceChildren();
      const halves = this.runs.map((run, r) => element("div", { className: "half" }, ...this.lane(r, LONG[name](this, run, k)).childNodes));
      box.long.replaceChildren(element("p", { className: "tells", innerHTML: BOXES[name].tells(this.runs[0]) }), element("div", { className: "halves" }, ...halves));
    });
    if (seeks && name === "unet" && this.index === this.last && this.runs[0].words.length) {
      this.stop();
      this.go(this.runs[0].clearest);
      this.onRest?.(this.index);
    } else this.draw();
  }

  opens(name) {
    this.open(name);
    this.onOpen?.(name);
  }

  choose(word) {
    this.word = word;
    this.onWord?.(word);
    this.draw();
  }

  wordOf(run) { return Math.min(this.word ?? run.noun, run.words.length - 1); }

  // -- the time -------------------------------------------------------------------------------------------

  strip(run) {
    const canvas = element("canvas", { className: "strip" });
    canvas.addEventListener("click", (event) => {
      const { left } = canvas.getBoundingClientRect(), { half, slot } = this.slots();
      this.stop();
      this.go(Math.max(0, Math.min(this.last, Math.round(((event.clientX - left) / enlarged(canvas) - half) / slot))));
      this.onRest?.(this.index);
    });
    canvas.setAttribute("role", "img");
    return canvas;
  }

  slots() {
    const wide = this.strips[0].clientWidth, side = Math.max(16, Math.min(54, wide / (this.last + 1) - 5)), half = side / 2 + 5;
    return { wide, side, half, slot: this.last ? (wide - 2 * half) / this.last : 0 };
  }

  go(index) {
    this.runs[0].pictures ??= film;
    this.index = index;
    this.reach = STATIONS.map(() => index);
    this.draw();
  }

  draw() {
    const { film, index } = this;
    this.slider.value = index;
    this.label.textContent = film.captions[index];
    this.slider.setAttribute("aria-valuetext", film.captions[index]);
    this.says.innerHTML = this.sentence();
    for (const { canvas, station, draw, alt } of [...this.views, ...this.opened]) {
      const frame = this.reach[station];
      canvas.classList.toggle("blank", frame < 0);
      canvas.setAttribute("aria-label", frame < 0 ? "not computed yet" : alt(frame));
      if (frame >= 0) draw(canvas, frame);
    }
    for (const one of this.root.querySelectorAll("[data-says]")) one.innerHTML = this.numbers(one.dataset.says, Number(one.dataset.run));
    this.root.dataset.frame = index;
    this.root.dataset.draws = this.draws += 1;
    this.drawStrips();
    this.light();
  }

  // Words that hold numbers of the present frame.
  numbers(what, r) {
    const run = this.runs[r], frame = this.reach[5] < 0 ? 0 : this.reach[5], at = Math.min(frame, this.last - 1);
    const [[alpha, sigma], [after, less]] = [run.weights[at], run.weights[at + 1]], two = (x) => x.toFixed(2);
    if (what === "norms" || what === "apart") {
      const [length, along, across] = run.sides[frame] ?? [0, 0, 0];
      if (!run.sides.length) return "";
      return what === "apart" ? `${Math.hypot(along, across).toFixed(3)} apart, per value` : `without words ${two(length)}<br>with words ${two(Math.hypot(length + along, across))}`;
    }
    if (what === "mix") return `<b class="data">${two(after)}</b> × picture + <b class="noise">${two(less)}</b> × noise`;
    const letter = (kind) => `<i class="${kind}">${LETTERS[kind]}</i>`, sum = (a, s) => `<b class="data">${two(a)}</b> ${letter("data")} + <b class="noise">${two(s)}</b> ${letter("noise")}`;
    const rest = (run.rests[at] ?? 0) > SMALL ? ` + <b>what the sampler adds</b> (${two(run.rests[at])} per value)` : "";
    return `<span>${letter("state")} = ${sum(alpha, sigma)}</span><span>${letter("next")} = ${sum(after, less)}${rest}</span>`;
  }

  sentence() {
    const [run] = this.runs, round = Math.min(this.index, this.last - 1) + 1, [, sigma] = run.weights[Math.min(this.index, this.last)];
    const what = this.passing !== undefined ? PASSING[STATIONS[this.passing]](run, run.weights[round]) : this.index === this.last ? PASSING.decoder(run) : STANDING(run, sigma);
    const begin = (this.passing ?? 6) < 2 ? "" : this.index === this.last || this.passing === 6 ? `<b>After ${plural(run.count, "step")}.</b> ` : `<b>Step ${run.steps[round - 1]} of ${run.count}.</b> `;
    return begin + what;
  }

  drawStrips() {
    const { wide, side, half, slot } = this.slots();
    if (!wide) return;
    this.slider.style.marginInline = `${half - 12}px`;
    this.slider.style.width = `calc(100% - ${2 * half - 24}px)`;
    const tall = side + 8, skip = Math.max(1, Math.ceil((side + 2) / Math.max(slot, 0.1)));
    const ink = resolved(this.label, "var(--ink)"), faint = resolved(this.label, "var(--faint)");
    this.strips.forEach((canvas, r) => {
      const run = this.runs[r], ctx = sharp(canvas, tall);
      for (let k = 0; k <= this.last; k += 1) {
        const bitmap = run.bitmaps?.[k], here = k === this.index;
        if (!bitmap || (k % skip && !here)) continue;
        const grown = here ? side + 4 : side, x = half + k * slot - grown / 2, y = (tall - grown) / 2;
        ctx.save();
        ctx.globalAlpha = k <= this.index ? 1 : 0.3;
        ctx.beginPath();
        ctx.roundRect(x, y, grown, grown, side / 7);
        ctx.clip();
        const within = grown / Math.max(bitmap.width, bitmap.height), [w, h] = [within * bitmap.width, within * bitmap.height];
        ctx.drawImage(bitmap, x + (grown - w) / 2, y + (grown - h) / 2, w, h);
        ctx.restore();
        ctx.lineWidth = here ? 3 : 1;
        ctx.strokeStyle = here ? ink : faint;
        ctx.stroke(); // the clip's own path
      }
      canvas.setAttribute("aria-label", `the predicted picture${this.of(run)} at each of ${plural(run.count, "step")}, and the finished one`);
    });
    if (this.river) this.drawRiver(half, slot);
  }

  // Two lines from one place: their distance is that of the two runs.
  drawRiver(half, slot) {
    const { apart } = this.film, ctx = sharp(this.river, 34), most = Math.max(...apart, 1e-6), colour = resolved(this.label, "var(--state)");
    const X = (k) => half + k * slot, Y = (k, sign) => 17 + (sign * 14 * apart[k]) / most, frames = apart.map((_, k) => k);
    ctx.fillStyle = ctx.strokeStyle = colour;
    ctx.globalAlpha = 0.16;
    ctx.beginPath();
    frames.forEach((k) => ctx.lineTo(X(k), Y(k, -1)));
    frames.toReversed().forEach((k) => ctx.lineTo(X(k), Y(k, 1)));
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.lineWidth = 2;
    for (const sign of [-1, 1]) { ctx.beginPath(); frames.forEach((k) => ctx.lineTo(X(k), Y(k, sign))); ctx.stroke(); }
    ctx.lineWidth = 1.5;
    ctx.beginPath(); ctx.moveTo(X(this.index), 0); ctx.lineTo(X(this.index), 34); ctx.stroke();
    const words = `${apart[this.index].toFixed(2)} × A's length apart`, { fontFamily } = getComputedStyle(this.root);
    ctx.font = `600 13px ${fontFamily}`;
    const wide = ctx.measureText(words).width, right = X(this.index) + wide + 16 < this.river.clientWidth;
    Object.assign(ctx, { textAlign: right ? "left" : "right", lineWidth: 4, lineJoin: "round", strokeStyle: resolved(this.label, "var(--paper)"), fillStyle: resolved(this.label, "var(--ink)") });
    const x = X(this.index) + (right ? 8 : -8);
    ctx.strokeText(words, x, 21.5);
    ctx.fillText(words, x, 21.5);
    this.river.setAttribute("aria-label", `The distance of the two runs at ${this.film.captions[this.index]}: ${apart[this.index].toFixed(2)} times A's length; at first ${apart[0].toFixed(2)}, at the end ${apart[this.last].toFixed(2)}`);
  }

  key(event) {
    if (event.target === this.slider) event.stopPropagation();
    if (event.target === this.slider && event.key === " ") { event.preventDefault(); this.play.click(); }
    if (event.key !== "Escape" || !this.name) return;
    const { button } = this.boxes.find((box) => box.name === this.name);
    this.opens("");
    button.focus();
  }

  // -- playing --------------------------------------------------------------------------------------------

  start() {
    const from = this.index >= this.last ? 0 : this.index, calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const plan = from === 0 ? [[0, 1, -1, 900], [1, 2, -1, 900]] : []; // [station, next station, frame, milliseconds]
    for (let k = from; k < this.last; k += 1) {
      const pace = k === from ? 620 : k === from + 1 ? 380 : Math.max(45, 1700 / this.last);
      plan.push([2, 3, k, pace], [3, 4, k, pace], [4, 5, k, pace], k < this.last - 1 ? [5, 2, k, pace] : [5, 6, k, 700]);
    }
    this.plan = calm ? plan.filter(([station]) => station === 2).map((one) => [-1, -1, one[2], 400]) : plan;
    this.root.classList.add("playing");
    this.icon("pause", "Pause");
    if (from === 0) this.reach = STATIONS.map(() => -1);
    this.part = -1;
    this.began = performance.now();
    const tick = (now) => {
      let left = now - this.began, part = 0;
      while (part < this.plan.length && left >= this.plan[part][3]) { left -= this.plan[part][3]; part += 1; }
      if (part >= this.plan.length) { this.index = this.last; return this.rest(); }
      for (; this.part < part; ) this.pass(this.plan[(this.part += 1)], this.part === part);
      this.moveTrain(this.plan[part], left / this.plan[part][3]);
      this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
  }

  // The train leaves a station: what the station computes is there from now on.
  pass([station, , frame], drawn) {
    if (station < 0) return this.go(frame);
    this.passing = station;
    if (frame >= 0) this.index = frame;
    this.reach[station] = Math.max(frame, 0);
    if (station === 5) this.reach[6] = frame;
    if (drawn) this.draw();
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = null;
    this.passing = undefined;
    this.train.hidden = true;
    this.root.classList.remove("playing");
    this.icon("play", "Play");
  }

  rest() {
    this.stop();
    this.go(this.index);
    this.onRest?.(this.index);
  }

  icon(name, label) {
    this.play.innerHTML = ICONS[name];
    this.play.setAttribute("aria-label", label);
    this.play.title = label;
  }

  moveTrain([from, to, frame], part) {
    if (from < 0 || !this.stations || this.narrow) return;
    const path = this.rail.querySelector(`[data-from="${from}"][data-to="${to}"]`);
    if (!path) return;
    const { x, y } = path.getPointAtLength(part * path.getTotalLength()), [run] = this.runs;
    this.train.hidden = false;
    this.train.style.transform = `translate(${x - 19}px, ${y - 19}px)`;
    const cargo = `${from} ${frame}`;
    if (this.cargo === cargo) return;
    this.cargo = cargo;
    fit(this.train, 16, 16);
    const ctx = this.train.getContext("2d"), { height, width } = run.fields;
    ctx.clearRect(0, 0, 16, 16);
    const panel = run.panels.indexOf({ 3: "with", 4: "guided" }[from] ?? "latent");
    if (from < 2 || !run.small) { ctx.fillStyle = resolved(this.label, "var(--words)"); ctx.fillRect(3, 3, 10, 10); } // words
    else ctx.drawImage(run.small[Math.min(this.last, frame + (from === 5))], 0, Math.max(0, panel) * height, width, height, 0, 0, 16, 16);
  }

  // -- the rail above the boxes ---------------------------------------------------------------------------

  layout() {
    const box = this.stage.getBoundingClientRect();
    this.narrow = getComputedStyle(this.rail).display === "none";
    if (box.width && !this.narrow) {
      const zoom = enlarged(this.stage), { y, top } = RAIL;
      const rects = this.boxes.map(({ root }) => root.getBoundingClientRect()).map(({ left, right }) => ({ left: (left - box.left) / zoom, right: (right - box.left) / zoom }));
      const x = rects.map(({ left, right }) => (left + right) / 2), [begin, end] = LOOP;
      this.stations = x;
      const round = this.stage.firstChild;
      round.style.left = `${rects[begin].left - 7}px`;
      round.style.width = `${rects[end].right - rects[begin].left + 14}px`;
      const path = (kind, from, to, d) => `<path class="${kind}" data-from="${from}" data-to="${to}" d="${d}"/>`;
      const [up, down] = [x[2] - x[1], x[3] - x[2]].map((far) => Math.min(44, far / 2));
      const r = Math.min(14, (x[end] - x[begin]) / 2);
      const parts = [
        path("words", 0, 1, `M${x[0]} ${y}H${x[1]}`),
        path("words way", 1, 2, `M${x[1]} ${y}H${x[2]}`),
        path("words over", 1, 3, `M${x[1]} ${y}H${x[2] - 2 * up}C${x[2] - up} ${y} ${x[2] - up} ${y - 17} ${x[2]} ${y - 17}C${x[2] + down} ${y - 17} ${x[2] + down} ${y} ${x[2] + 2 * down} ${y}H${x[3]}`),
        path("state", 2, 3, `M${x[2]} ${y}H${x[3]}`),
        path("noise", 3, 4, `M${x[3]} ${y}H${x[4]}`),
        path("guided", 4, 5, `M${x[4]} ${y}H${x[5]}`),
        path("state loop", 5, 2, `M${x[5]} ${y}V${top + r}Q${x[5]} ${top} ${x[5] - r} ${top}H${x[2] + r}Q${x[2]} ${top} ${x[2]} ${top + r}V${y}`),
        path("data", 5, 6, `M${x[5]} ${y}H${x[6]}`),
      ];
      const dots = x.map((at, k) => `<circle class="${STATIONS[k]}" cx="${at}" cy="${y}" r="6"/>`);
      const middle = (x[begin] + x[end]) / 2;
      this.rail.innerHTML = `${parts.join("")}${dots.join("")}<rect x="${middle - 62}" y="1" width="124" height="24" rx="12"/><text x="${middle}" y="17.5" text-anchor="middle"></text>`;
      this.light();
    }
    this.drawStrips();
    for (const { canvas, station, draw } of this.opened) if (this.reach[station] >= 0) draw(canvas, this.reach[station]);
  }

  // What the train has passed in this step is lit; where nothing plays, what this frame consists of.
  light() {
    const { passing, index, last, runs: [run] } = this, finished = passing === undefined && index === last;
    const lit = (from, to) => {
      if (passing === undefined) return finished ? from < 2 || to === 6 : to !== 6;
      return from < 2 || (passing === 6 ? to === 6 : from >= 2 && from <= passing && (to !== 2 || passing === 5) && (to !== 6 || index === last - 1));
    };
    this.rail.querySelectorAll("path").forEach((path) => path.classList.toggle("on", lit(Number(path.dataset.from), Number(path.dataset.to))));
    this.boxes.forEach(({ root }, k) => root.classList.toggle("now", k === (passing ?? (finished ? 6 : -1))));
    const text = this.rail.querySelector("text");
    if (text) text.textContent = `↻ ${finished ? plural(run.count, "step") : `step ${run.steps[Math.min(index, last - 1)]} of ${run.count}`}`;
  }

  destroy() {
    this.stop();
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    for (const run of this.runs) for (const bitmap of [...(run.bitmaps ?? []), ...(run.small ?? [])]) bitmap.close();
  }
}

const pipelines = new WeakMap(); // Streamlit calls again at every rerun: an unchanged run stays as it is

function pipelineInStreamlit({ parentElement, data }) {
  const { film, frame, autoplay, token } = data;
  let here = pipelines.get(parentElement);
  const moved = here && here.token !== token; // a button of the page has set the slider
  if (here?.key !== film.key) {
    const before = here?.shown, first = !before || !here.data.name; // a run without a name only waited for this one
    const stays = !first && !moved && before.last === film.captions.length - 1;
    before?.destroy();
    const root = here?.root ?? parentElement.appendChild(element("div"));
    here = { key: film.key, root, data };
    here.shown = new Pipeline(root, film, {
      index: stays ? before.index : frame,
      open: before && !moved ? before.name : data.open.value, // a box stays open for another run
      word: data.word.value ?? undefined,
      autoplay: autoplay && first,
      stays,
      onRest: (at) => intoAddress(here.data, at),
      onOpen: (name) => intoAddress(here.data.open, name),
      onWord: (word) => intoAddress(here.data.word, word),
    });
    pipelines.set(parentElement, here);
  } else if (moved) {
    here.shown.stop();
    here.shown.go(frame);
    here.shown.open(data.open.value);
    intoAddress(data, here.shown.index);
    intoAddress(data.open, data.open.value);
  }
  here.data = data;
  here.token = token;
  here.shown.redraw();
  return () => {
    if (parentElement.isConnected) return;
    here.shown.destroy();
    pipelines.delete(parentElement);
  };
}

function pipelineInJupyter({ model, el }) {
  const root = el.appendChild(element("div"));
  const shown = new Pipeline(root, model.get("film"), { index: model.get("frame"), onRest: (index) => { model.set("frame", index); model.save_changes(); } });
  model.on("change:frame", () => { if (shown.index !== model.get("frame")) { shown.stop(); shown.go(model.get("frame")); } });
  return () => shown.destroy();
}

export default (component) => (component ? pipelineInStreamlit(component) : { render: pipelineInJupyter });
