// One scrubber for a kept run, hosted by anywidget (JupyterLab) and by st.components.v2 (Streamlit).
// All frames arrive once; after that a move of the slider is one drawImage, with no word to Python.
//
// film: { key, lead: null or how the first panel is shown large (lead.js), width, height, rows: [panels per row], columns: of every row or null, titles, alts, captions, frames: [PNG as base64 or DataView],
//         charts: [{ title, alt, x_label, x: [from, to], y: [from, to], curves: [{ name, role, x, y }],
//                    bars: null or [one list of heights a frame], markers: null or [[x, y] a frame] }],
//         parts: panels whose states are no pictures (parts.js), or none }

class Scrubber {
  constructor(root, film, { index, autoplay, onRest, pick, onPick, ask, turn, onTurn }) {
    this.film = film;
    this.count = film.captions.length;
    this.onRest = onRest;
    this.bitmaps = [];
    this.draws = 0;
    this.root = root;
    root.className = "scrubber";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Scrubber: a run, frame by frame");
    this.play = element("button", { type: "button", className: "play" });
    this.slider = element("input", { type: "range", min: 0, max: this.count - 1, step: 1, value: index });
    this.slider.setAttribute("aria-label", "frame");
    this.label = element("output");
    const beside = film.lead?.beside ?? "", inRow = beside === "row";
    this.lead = film.lead && !inRow ? new Lead(film, { pick, onPick: (chosen) => { this.draw(); onPick?.(chosen); } }) : null;
    this.tree = beside === "pair" ? new Tree(this) : null;
    const alone = this.lead?.many === false; // one image: its large panel is the whole panel
    const figures = film.titles.map((title, k) => {
      const canvas = element("canvas", { className: "pixels", width: film.width, height: film.height });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}: ${film.alts[k]}`);
      return element("figure", {}, element("figcaption", { textContent: title }), canvas);
    });
    this.canvases = figures.map((figure) => figure.querySelector("canvas"));
    this.canvases.forEach((canvas) => this.lead?.choosesIn(canvas));
    let rows = [];
    for (let k = 0, r = 0; k < figures.length; k += film.rows[r], r += 1) {
      const columns = film.columns ?? film.rows[r];
      const row = element("div", { className: `row ${{ 4: "four", 5: "five" }[columns] ?? ""}` }, ...figures.slice(k, k + film.rows[r]));
      row.style.setProperty("--n", columns);
      row.style.setProperty("--most", `${Math.max(220, film.width * 5)}px`);
      rows.push(row);
    }
    this.charts = (film.charts || []).map((chart) => {
      const canvas = element("canvas", { className: "chart" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${chart.title}: ${chart.alt}`);
      return { chart, canvas };
    });
    if (this.charts.length) {
      const row = element("div", { className: "row charts" });
      row.style.setProperty("--n", beside === "charts" ? 1 : inRow ? Math.min(2, this.charts.length) : this.charts.length);
      row.style.setProperty("--most", "1fr");
      row.append(...this.charts.map(({ chart, canvas }) => element("figure", {}, element("figcaption", { textContent: chart.title }), canvas)));
      rows.push(row);
    }
    this.bar = element("div", { className: "bar" }, this.play, this.slider);
    const kinds = (film.parts ?? []).map((part) => part.kind);
    if (kinds.includes("clip")) this.bar.append((this.clip = new ClipClock(this, film.parts[0].content.frames)).button);
    if (kinds.includes("cloud") || kinds.includes("molecule")) this.bar.append((this.turning = new Turning(this, turn, onTurn)).label);
    this.parts = (film.parts ?? []).map((part) => new PARTS[part.kind](part, this));
    if (ask) {
      const answer = element("button", { type: "button", className: "answer", textContent: ask.words });
      answer.addEventListener("click", () => ask.answer(this.index));
      this.bar.append(answer);
    }
    if (this.parts.length) {
      const row = element("div", { className: `parts ${kinds[0]}` }, ...this.parts.map((part) => part.root));
      root.classList.add("led");
      film.ends.forEach((end, k) => root.style.setProperty(`--end-${k}`, `var(--${end})`));
      root.replaceChildren(row, this.bar, this.label);
    } else if (inRow) {
      root.classList.add("led");
      film.lead.ends.forEach((end, k) => root.style.setProperty(`--end-${k}`, `var(--${end})`));
      const charts = rows.filter((row) => row.classList.contains("charts"));
      root.replaceChildren(...rows.filter((row) => !charts.includes(row)), this.bar, this.label, ...charts);
    } else if (!this.lead) root.replaceChildren(this.bar, this.label, ...rows);
    else {
      root.classList.add("led");
      if (film.lead.ends) film.lead.ends.forEach((end, k) => root.style.setProperty(`--end-${k}`, `var(--${end})`));
      if (beside === "panels") this.lead.root.append(element("div", { className: alone ? "beside" : "beside whole" }, ...figures.slice(alone ? 1 : 0)));
      if (beside === "charts") this.lead.root.append(rows.pop());
      if (beside === "panels") rows = rows.filter((row) => row.classList.contains("charts"));
      const below = [this.tree?.canvas, this.lead.sum].filter(Boolean);
      root.replaceChildren(this.lead.root, this.bar, ...below, this.label, ...rows);
    }
    this.slider.addEventListener("input", () => { this.stop(); this.draw(); });
    this.slider.addEventListener("change", () => this.rest());
    // JupyterLab's own shortcuts would swallow the arrow keys
    root.addEventListener("keydown", (event) => this.key(event), true);
    this.play.addEventListener("click", () => (this.timer ? this.rest(this.stop()) : this.start()));
    this.observer = new ResizeObserver(() => { this.drawCharts(); this.lead?.ribbons(); this.tree?.draw(); this.parts.forEach((part) => part.draw()); });
    this.observer.observe(root);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => { this.drawCharts(); this.tree?.draw(); this.parts.forEach((part) => part.themed()); };
    this.scheme.addEventListener("change", this.redraw);
    this.stop();
    this.draw();
    this.load(autoplay && !window.matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  async load(autoplay) {
    const decode = (frame) => createImageBitmap(new Blob([bytes(frame)], { type: "image/png" }));
    this.bitmaps = await Promise.all(this.film.frames.map(decode));
    await Promise.all(this.parts.map((part) => part.ready));
    this.draw();
    this.root.dataset.ready = "true";
    if (!autoplay) return;
    this.go(0);
    this.start();
  }

  get index() { return Number(this.slider.value); }

  go(index) {
    this.slider.value = index;
    this.draw();
  }

  draw() {
    const { film, index } = this;
    this.label.textContent = film.captions[index];
    this.slider.setAttribute("aria-valuetext", film.captions[index]);
    const bitmap = this.bitmaps[index];
    if (bitmap) {
      this.canvases.forEach((canvas, k) => {
        const ctx = canvas.getContext("2d");
        ctx.clearRect(0, 0, film.width, film.height);
        ctx.drawImage(bitmap, 0, k * film.height, film.width, film.height, 0, 0, film.width, film.height);
      });
      this.lead?.draw(this.bitmaps, index);
      this.tree?.draw();
      this.root.dataset.draws = this.draws += 1;
    }
    if (this.parts.length) this.root.dataset.draws = this.draws += 1;
    this.parts.forEach((part) => part.go(index));
    this.root.dataset.frame = index;
    this.drawCharts();
  }

  drawCharts() {
    this.charts.forEach(({ chart, canvas }) => (chart.scales ? drawTriangle : drawChart)(canvas, chart, this.index, this.lead?.pick));
  }

  key(event) {
    if (event.target === this.slider || event.target === this.turning?.slider) event.stopPropagation();
    if (event.target === this.slider && event.key === " ") {
      event.preventDefault();
      this.play.click();
    }
  }

  start() {
    if (this.index >= this.count - 1) this.go(0);
    const pause = Math.min(400, Math.max(50, 3500 / this.count));
    this.timer = setInterval(() => {
      this.go(this.index + 1);
      if (this.index >= this.count - 1) this.rest(this.stop());
    }, pause);
    this.icon("pause", "Pause");
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.icon("play", "Play");
  }

  icon(name, label) {
    this.play.innerHTML = ICONS[name];
    this.play.setAttribute("aria-label", label);
    this.play.title = label;
  }

  rest() { this.onRest?.(this.index); }

  destroy() {
    this.stop();
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    this.bitmaps.forEach((bitmap) => bitmap.close());
    this.clip?.destroy();
    this.parts.forEach((part) => part.destroy());
  }
}

function inJupyter({ model, el }) {
  const root = element("div");
  el.append(root);
  const options = () => ({ index: model.get("frame"), onRest: (index) => { model.set("frame", index); model.save_changes(); } });
  let scrubber = new Scrubber(root, model.get("film"), options());
  model.on("change:frame", () => { if (scrubber.index !== model.get("frame")) scrubber.go(model.get("frame")); });
  model.on("change:film", () => { scrubber.destroy(); scrubber = new Scrubber(root, model.get("film"), options()); });
  return () => scrubber.destroy();
}

const mounted = new WeakMap(); // Streamlit calls again at every rerun: an unchanged film stays as it is

function inStreamlit({ parentElement, data, setTriggerValue }) {
  const { film, frame, autoplay, keep, token, image, ask, turn } = data;
  let here = mounted.get(parentElement);
  const moved = here && here.token !== token; // a button of the page has set the slider
  if (here?.key !== film.key) {
    const stays = keep && !moved && here?.scrubber.count === film.captions.length;
    const index = stays ? here.scrubber.index : frame;
    here?.scrubber.destroy();
    const root = here?.root ?? parentElement.appendChild(element("div"));
    here = { key: film.key, root };
    here.scrubber = new Scrubber(root, film, {
      index,
      autoplay,
      onRest: (at) => intoAddress(here.data, at),
      pick: image?.value,
      onPick: (pick) => image && intoAddress(here.data.image, pick),
      ask: ask && { words: ask, answer: (at) => setTriggerValue("answer", at) },
      turn: here.scrubber?.turning ?? (turn && { turn: turn.turn.value, tilt: turn.tilt.value }), // another cloud stays turned
      onTurn: (at) => { for (const name of ["turn", "tilt"]) if (here.data.turn) intoAddress(here.data.turn[name], at[name]); },
    });
    mounted.set(parentElement, here);
    if (!autoplay) intoAddress(data, index);
  } else if (moved) {
    here.scrubber.stop();
    here.scrubber.go(frame);
    intoAddress(data, frame);
  }
  here.data = data;
  here.token = token;
  if (moved && turn && here.scrubber.turning) here.scrubber.turning.to(turn.turn.value, turn.tilt.value);
  here.scrubber.redraw();
  return () => {
    if (parentElement.isConnected) return;
    here.scrubber.destroy();
    mounted.delete(parentElement);
  };
}

// anywidget calls the default export without arguments for its hooks; Streamlit calls it with the component.
export default (component) => (component ? inStreamlit(component) : { render: inJupyter });
