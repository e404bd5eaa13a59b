// Points in the plane on a canvas, hosted by anywidget (JupyterLab) and by st.components.v2 (Streamlit).
// A film arrives once, as bytes; after that every move of the slider is drawn here, with no word to Python.
//
// film: { key, captions: [one a frame], ends: [left, right], data: places, reach, field, bins, arrows, colours: { light, dark },
//         panels: [{ title, alts: [one a frame], points: places [F, N, 2], density: bytes [F, bins, bins],
//                    arrows, score: signed bytes [F, arrows^2, 2] in 1/80, predicted: places [F, P, 2] }] }
// places: 16-bit numbers, 32767 for reach.

const LAYERS = [
  ["data", "Data"], ["density", "Density"], ["paths", "Paths"], ["arrows", "Arrows"], ["score", "Score"], ["predicted", "Predicted x₀"],
];
const PLACES = 1000; // of the slider, from noise to data
const TRAILS = 56;
const SHADES = 33; // of the colour of time
const SECONDS = 6.5; // of a run that plays
const stagesOf = (globalThis[Symbol.for("diffusion_explained.planes")] ??= new Map()); // of every copy of this module

const numbers = { Int16Array, Int8Array, Uint8Array };
const decoded = (kind, text) => (text ? new numbers[kind](bytes(text).slice().buffer) : null);

function readPanel(panel, reach) {
  const places = (text) => text && Float32Array.from(decoded("Int16Array", text), (v) => (v / 32767) * reach);
  return {
    title: panel.title, alts: panel.alts, frames: panel.alts.length, points: places(panel.points), predicted: places(panel.predicted),
    density: decoded("Uint8Array", panel.density), arrows: decoded("Int8Array", panel.arrows), score: decoded("Int8Array", panel.score),
  };
}

class Plane {
  constructor(root, { name, onRest, onDrawn }) {
    Object.assign(this, { root, name, onRest, onDrawn, panels: [], shades: [], sprites: new Map(), draws: 0, at: PLACES, layers: new Set() });
    root.className = "plane";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Points in the plane, from noise to data");
    this.stage = element("div", { className: "stage" });
    this.slider = element("input", { type: "range", min: 0, max: PLACES, step: 1 });
    this.slider.setAttribute("aria-label", "time, from noise to data");
    this.back = this.button("back", "Play back to noise", ICONS.play);
    this.play = this.button("play", "Play from noise to data", ICONS.play);
    this.label = element("output");
    this.ends = [element("span"), element("span")];
    this.clock = element("div", { className: "clock" }, this.back, this.play, element("div", { className: "track" }, this.slider, element("div", { className: "ends" }, this.ends[0], this.label, this.ends[1])));
    this.toggles = LAYERS.map(([layer, words]) => {
      const toggle = element("button", { type: "button", textContent: words, className: `layer ${layer}` });
      toggle.addEventListener("click", () => { this.layers[this.layers.has(layer) ? "delete" : "add"](layer); this.showLayers(); this.rest(); });
      return toggle;
    });
    this.choices = element("div", { className: "layers" }, ...this.toggles);
    this.choices.setAttribute("role", "group");
    this.choices.setAttribute("aria-label", "Layers of the picture");
    root.replaceChildren(element("div", { className: "top" }, this.stage, this.choices), this.clock);
    this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
    this.slider.addEventListener("change", () => this.rest());
    root.addEventListener("keydown", (event) => this.key(event), true); // before JupyterLab's own shortcuts
    this.play.addEventListener("click", () => this.toggle(1));
    this.back.addEventListener("click", () => this.toggle(-1));
    this.observer = new ResizeObserver(() => this.repaint());
    this.observer.observe(root);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.repaint = this.repaint.bind(this);
    this.scheme.addEventListener("change", this.repaint);
  }

  button(kind, words, icon) {
    const made = element("button", { type: "button", className: kind, innerHTML: icon, title: words });
    made.setAttribute("aria-label", words);
    return made;
  }

  show(film) {
    this.film = film;
    this.data = Float32Array.from(decoded("Int16Array", film.data), (v) => (v / 32767) * film.reach);
    this.panels = film.panels.map((panel) => readPanel(panel, film.reach));
    this.panels.forEach((panel) => { panel.count = panel.points.length / 2 / panel.frames; });
    const figures = this.panels.map((panel) => {
      panel.canvas = element("canvas");
      panel.canvas.setAttribute("role", "img");
      return element("figure", {}, panel.canvas, element("figcaption", { textContent: panel.title }));
    });
    this.stage.style.setProperty("--n", figures.length);
    this.stage.classList.toggle("many", figures.length > 1);
    this.stage.replaceChildren(...figures);
    this.ends.forEach((end, k) => { end.textContent = film.ends[k]; });
    this.clock.hidden = this.choices.hidden = false;
    this.showLayers();
    this.repaint();
    this.say();
    this.root.dataset.key = film.key;
  }

  // a network that learns is shown at every slider's place by a few points, until its own film arrives
  live({ panel: index, points, frames, caption, title }) {
    const panel = this.panels[index];
    if (!panel) return;
    panel.points = Float32Array.from(decoded("Int16Array", points), (v) => (v / 32767) * this.film.reach);
    Object.assign(panel, { frames, count: panel.points.length / 2 / frames, arrows: null, score: null, predicted: null, trails: null, alts: Array(frames).fill(caption) });
    panel.canvas.nextSibling.textContent = title;
    this.draw();
  }

  showLayers() {
    this.toggles.forEach((toggle, k) => {
      const layer = LAYERS[k][0];
      toggle.setAttribute("aria-pressed", this.layers.has(layer));
      toggle.hidden = !(["data", "paths"].includes(layer) || this.panels.some((panel) => panel[layer]));
    });
    this.draw();
  }

  repaint() {
    if (!this.film) return;
    const style = getComputedStyle(this.root);
    const paper = channels(resolved(this.label, "var(--paper)"));
    this.dark = paper[0] + paper[1] + paper[2] < 384;
    const { data, noise } = this.film.colours[this.dark ? "dark" : "light"];
    this.root.style.setProperty("--data", data);
    this.root.style.setProperty("--noise", noise);
    this.root.classList.toggle("dark", this.dark);
    this.shades = Array.from({ length: SHADES }, (_, k) => channels(resolved(this.label, `color-mix(in oklch decreasing hue, ${noise} ${100 - (100 * k) / (SHADES - 1)}%, ${data})`)));
    this.ink = channels(style.color).join();
    this.sprites.clear();
    this.draw();
  }

  shade(part) { return this.shades[Math.round(part * (SHADES - 1))].join(); }

  dot(colour, radius, alpha) {
    const id = `${colour} ${radius} ${alpha}`;
    if (!this.sprites.has(id)) {
      const side = Math.ceil(radius * 2 + 2);
      const sprite = element("canvas", { width: side, height: side });
      const ctx = sprite.getContext("2d");
      ctx.fillStyle = `rgba(${colour},${alpha})`;
      ctx.beginPath(); ctx.arc(side / 2, side / 2, radius, 0, 7); ctx.fill();
      this.sprites.set(id, sprite);
    }
    return this.sprites.get(id);
  }

  draw() {
    if (!this.film || !this.shades.length) return;
    const part = this.at / PLACES;
    const frame = Math.round(part * (this.film.captions.length - 1));
    this.slider.value = this.at;
    this.label.textContent = this.film.captions[frame];
    this.slider.setAttribute("aria-valuetext", this.film.captions[frame]);
    for (const panel of this.panels) this.drawPanel(panel, part);
    clearTimeout(this.words);
    this.words = setTimeout(() => this.say(), 120);
    this.root.dataset.at = this.at;
    this.root.dataset.draws = this.draws += 1;
  }

  say() { // the canvases' words follow when the slider rests
    const named = LAYERS.filter(([layer]) => this.layers.has(layer)).map(([, words]) => words.toLowerCase());
    for (const panel of this.panels) {
      const alt = panel.alts[Math.round((this.at / PLACES) * (panel.frames - 1))];
      panel.canvas.setAttribute("aria-label", `${panel.title}. ${alt}. Layers: ${named.join(", ") || "points only"}.`);
    }
  }

  drawPanel(panel, part) {
    const { canvas, points, count, frames } = panel;
    const ratio = Math.min(2, screenPixels(canvas));
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (!w || !h) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
    const ctx = canvas.getContext("2d");
    const at = part * (frames - 1);
    const k = Math.min(Math.floor(at), frames - 2), m = at - k;
    const scale = (ratio * Math.min(w, h)) / (2 * VIEW);
    const [cx, cy] = [canvas.width / 2, canvas.height / 2];
    const X = (x) => cx + x * scale, Y = (y) => cy - y * scale;
    const colour = this.shade(part);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    if (this.layers.has("density") && panel.density) this.drawDensity(ctx, panel, k, m, colour, X, Y);
    if (this.layers.has("data")) {
      const sprite = this.dot(this.shade(1), 2.1 * ratio, 0.5), half = sprite.width / 2;
      for (let i = 0; i < this.data.length; i += 2) ctx.drawImage(sprite, X(this.data[i]) - half, Y(this.data[i + 1]) - half);
    }
    for (const layer of ["arrows", "score"]) if (this.layers.has(layer) && panel[layer]) this.drawArrows(ctx, panel[layer], k, m, layer, ratio, X, Y);
    if (this.layers.has("paths")) this.drawPaths(ctx, panel, at, scale, ratio, cx, cy);
    const place = (from, i) => { const a = from + 2 * i, b = a + 2 * count; return [points[a] + m * (points[b] - points[a]), points[a + 1] + m * (points[b + 1] - points[a + 1])]; };
    const sprite = this.dot(colour, (w < 500 ? 1.45 : 1.8) * ratio, 0.62), half = sprite.width / 2, from = 2 * k * count;
    for (let i = 0; i < count; i += 1) { const [x, y] = place(from, i); ctx.drawImage(sprite, X(x) - half, Y(y) - half); }
    if (this.layers.has("predicted") && panel.predicted) this.drawPredicted(ctx, panel, k, m, ratio, X, Y, (i) => place(from, i));
  }

  drawDensity(ctx, panel, k, m, colour, X, Y) {
    const { bins, field } = this.film;
    this.shadow ??= element("canvas", { width: bins, height: bins });
    const small = this.shadow.getContext("2d"), image = small.createImageData(bins, bins), [r, g, b] = colour.split(",").map(Number);
    const from = k * bins * bins, next = from + bins * bins;
    for (let row = 0, i = 0; row < bins; row += 1) {
      let out = (bins - 1 - row) * bins * 4;
      for (let column = 0; column < bins; column += 1, i += 1, out += 4) {
        const value = (1 - m) * panel.density[from + i] + m * panel.density[next + i];
        image.data[out] = r; image.data[out + 1] = g; image.data[out + 2] = b;
        image.data[out + 3] = 110 * Math.sqrt(value / 255);
      }
    }
    small.putImageData(image, 0, 0);
    ctx.imageSmoothingQuality = "high";
    ctx.drawImage(this.shadow, X(-field), Y(field), X(field) - X(-field), Y(-field) - Y(field));
  }

  drawArrows(ctx, field, k, m, layer, ratio, X, Y) {
    const side = this.film.arrows, step = (2 * this.film.field) / side, from = k * side * side * 2, next = from + side * side * 2;
    ctx.strokeStyle = layer === "arrows" ? `rgba(${this.ink},0.62)` : `rgba(${this.shade(1)},0.9)`;
    ctx.lineWidth = 1.25 * ratio;
    ctx.beginPath();
    for (let i = 0; i < side * side; i += 1) {
      const a = from + 2 * i, b = next + 2 * i;
      const [dx, dy] = [0, 1].map((c) => (((1 - m) * field[a + c] + m * field[b + c]) / 80) * step * 0.8);
      const size = Math.hypot(dx, dy);
      if (size < step * 0.03) continue;
      const x = X(((i % side) + 0.5) * step - this.film.field), y = Y((Math.floor(i / side) + 0.5) * step - this.film.field);
      const tx = x + (X(dx) - X(0)), ty = y + (Y(dy) - Y(0)), turn = Math.atan2(ty - y, tx - x), head = Math.min(5 * ratio, Math.hypot(tx - x, ty - y) * 0.5);
      ctx.moveTo(x, y); ctx.lineTo(tx, ty);
      ctx.moveTo(tx - head * Math.cos(turn - 0.5), ty - head * Math.sin(turn - 0.5)); ctx.lineTo(tx, ty);
      ctx.lineTo(tx - head * Math.cos(turn + 0.5), ty - head * Math.sin(turn + 0.5));
    }
    ctx.stroke();
  }

  drawPaths(ctx, panel, at, scale, ratio, cx, cy) {
    const { points, count, frames } = panel, trails = Math.min(TRAILS, count);
    panel.trails ??= Array.from({ length: frames - 1 }, (_, k) => {
      const path = new Path2D();
      for (let i = 0; i < trails; i += 1) { const a = 2 * (k * count + i), b = a + 2 * count; path.moveTo(points[a], points[a + 1]); path.lineTo(points[b], points[b + 1]); }
      return path;
    });
    ctx.setTransform(scale, 0, 0, -scale, cx, cy);
    ctx.lineWidth = (1.3 * ratio) / scale;
    panel.trails.forEach((path, k) => {
      ctx.strokeStyle = `rgba(${this.shade((k + 0.5) / (frames - 1))},${k < at ? 0.75 : 0.28})`;
      ctx.stroke(path);
    });
    ctx.setTransform(1, 0, 0, 1, 0, 0);
  }

  drawPredicted(ctx, panel, k, m, ratio, X, Y, place) {
    const some = panel.predicted.length / 2 / panel.frames;
    ctx.lineWidth = ratio;
    for (let i = 0; i < Math.min(some, panel.count, 40); i += 1) {
      const a = 2 * (k * some + i), b = a + 2 * some, [x, y] = place(i);
      const [px, py] = [panel.predicted[a] + m * (panel.predicted[b] - panel.predicted[a]), panel.predicted[a + 1] + m * (panel.predicted[b + 1] - panel.predicted[a + 1])];
      ctx.strokeStyle = `rgba(${this.ink},0.3)`;
      ctx.beginPath(); ctx.moveTo(X(x), Y(y)); ctx.lineTo(X(px), Y(py)); ctx.stroke();
      ctx.strokeStyle = `rgb(${this.shade(1)})`;
      ctx.beginPath(); ctx.arc(X(px), Y(py), 3 * ratio, 0, 7); ctx.stroke();
    }
  }

  // -- time ------------------------------------------------------------------------------------------------

  go(at) { this.at = Math.max(0, Math.min(PLACES, Math.round(at))); this.draw(); }

  toggle(direction) {
    if (this.playing === direction) { this.stop(); this.rest(); } else this.start(direction);
  }

  start(direction) {
    this.stop();
    const end = direction > 0 ? PLACES : 0;
    if (this.at === end) this.go(PLACES - end);
    this.playing = direction;
    const [from, began] = [this.at, performance.now()];
    const tick = (now) => {
      this.go(from + (direction * PLACES * Math.max(0, now - began)) / (1000 * SECONDS));
      if (this.at === end) { this.stop(); this.rest(); } else this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
    this.icons();
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.playing = 0;
    this.icons();
  }

  icons() {
    for (const [button, direction, words] of [[this.play, 1, "Play from noise to data"], [this.back, -1, "Play back to noise"]]) {
      const runs = this.playing === direction;
      button.innerHTML = runs ? ICONS.pause : ICONS.play;
      button.title = runs ? "Pause" : words;
      button.setAttribute("aria-label", button.title);
    }
  }

  key(event) {
    if (event.target !== this.slider) return;
    const step = PLACES / (this.film.captions.length - 1);
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 8, PageDown: -8 };
    event.stopPropagation();
    if (event.key === " ") this.toggle(1);
    else if (event.key in moves) { this.stop(); this.go((Math.round(this.at / step) + moves[event.key]) * step); this.rest(); }
    else return;
    event.preventDefault();
  }

  rest() { this.onRest?.({ at: this.at, layers: LAYERS.map(([layer]) => layer).filter((layer) => this.layers.has(layer)).join(".") || "none" }); }

  destroy() {
    this.stop();
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    stagesOf.delete(this.name);
  }
}

// -- the two hosts ---------------------------------------------------------------------------------------------

function inJupyter({ model, el }) {
  const root = el.appendChild(element("div"));
  const plane = new Plane(root, { onRest: ({ at }) => { model.set("at", at); model.save_changes(); } });
  plane.layers = new Set(model.get("layers"));
  plane.at = model.get("at");
  plane.show(model.get("film"));
  model.on("change:at", () => { if (plane.at !== model.get("at")) plane.go(model.get("at")); });
  return () => plane.destroy();
}

const mounted = new WeakMap(); // Streamlit calls again at every rerun: an unchanged film stays as it is

function inStreamlit({ parentElement, data, setStateValue }) {
  if (data.live) return liveInStreamlit(parentElement, data);
  let here = mounted.get(parentElement);
  if (!here) {
    const root = parentElement.appendChild(element("div"));
    here = { plane: new Plane(root, { name: data.name, onRest: (state) => { intoAddress(here.data.at, state.at); intoAddress(here.data.layers, state.layers); } }) };
    mounted.set(parentElement, here);
  }
  const { plane } = here, first = here.token === undefined;
  stagesOf.set(data.name, plane);
  here.data = data;
  plane.onDrawn = (strokes) => setStateValue("strokes", strokes);
  if (data.pen) {
    if (!here.pen) { plane.stop(); here.pen = new Pen(plane); }
    return undefined;
  }
  here.pen?.destroy();
  const drawn = Boolean(here.pen), renewed = here.token !== data.token;
  here.pen = null;
  here.token = data.token;
  if (renewed) {
    plane.layers = new Set(data.layers.value === "none" ? [] : data.layers.value.split("."));
    plane.at = data.at.value;
  }
  if (plane.root.dataset.key !== data.film.key) plane.show(data.film);
  else if (renewed) plane.showLayers();
  if (renewed && !first) plane.rest();
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (((renewed && data.autoplay) || drawn) && !calm) { plane.go(0); plane.start(1); }
  return () => {
    if (parentElement.isConnected) return;
    plane.destroy();
    mounted.delete(parentElement);
  };
}

function liveInStreamlit(parentElement, { live, chart }) {
  const canvas = parentElement.querySelector("canvas") ?? parentElement.appendChild(element("div", { className: "plane" })).appendChild(element("canvas", { className: "chart" }));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${chart.title}: ${chart.alt}`);
  drawChart(canvas, chart, 0);
  if (live.points) stagesOf.get(live.stage)?.live(live);
}

// anywidget calls the default export without arguments for its hooks; Streamlit calls it with the component.
export default (component) => (component ? inStreamlit(component) : { render: inJupyter });
