// A curve that is dragged by a few handles, hosted by st.components.v2 (Streamlit): a visitor's own schedule.
// While a handle moves, the curve and the small pictures below are drawn here; when it rests, Python gets the handles.
// The handles stay in order (each at least `gap` below the one before), so the schedule only ever gains noise.
//
// data: { values: [log SNR at each handle, from data to noise], low, high, gap, chart: of the other curves (canvas.js),
//         role, name: of the own curve, picture: { width, height, channels, x_0: [numbers], eps: [numbers] }, columns }

// Monotone cubic interpolation between evenly spaced values: the slopes are harmonic means, as in Python.
function monotone(values, part) {
  const count = values.length - 1, steps = values.slice(1).map((value, k) => value - values[k]);
  const slope = (k) => (k === 0 ? steps[0] : k === count ? steps[count - 1] : (2 * steps[k - 1] * steps[k]) / (steps[k - 1] + steps[k]));
  const at = Math.min(part * count, count), k = Math.min(Math.floor(at), count - 1), u = at - k;
  const [a, b, c, d] = [(1 + 2 * u) * (1 - u) ** 2, u * (1 - u) ** 2, u * u * (3 - 2 * u), u * u * (u - 1)];
  return a * values[k] + b * slope(k) + c * values[k + 1] + d * slope(k + 1);
}

const GRID = 60; // pieces of the curve
const STEP = 0.25; // of a key, in units of log SNR

class CurveBoard {
  constructor(root, data, report) {
    Object.assign(this, { root, data, report });
    root.className = "scrubber curve";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Your own schedule: its log SNR by five handles, from data to noise");
    this.canvas = element("canvas", { className: "chart" });
    this.canvas.setAttribute("role", "img");
    this.handles = data.values.map((_, k) => this.handle(k));
    this.strip = element("div", { className: "film" });
    this.pictures = Array.from({ length: data.columns + 1 }, (_, k) => {
      const canvas = element("canvas", { className: "pixels", width: data.picture.width, height: data.picture.height });
      canvas.setAttribute("role", "img");
      this.strip.append(element("figure", {}, canvas, element("figcaption", { textContent: k ? `${Math.round((100 * k) / data.columns)}%` : "clean" })));
      return canvas;
    });
    this.stage = element("div", { className: "stage" }, this.canvas, ...this.handles);
    root.replaceChildren(element("div", { className: "heading", textContent: data.chart.title }), this.stage, this.strip);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(root);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.scheme.addEventListener("change", this.redraw);
    this.show(data);
  }

  show(data) {
    this.data = data;
    this.values = [...data.values];
    this.root.style.setProperty("--own", `var(--${data.role})`);
    this.draw();
  }

  handle(k) {
    const node = element("button", { type: "button", className: "handle" });
    node.setAttribute("role", "slider");
    node.setAttribute("aria-orientation", "vertical");
    node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      node.focus({ preventScroll: true });
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      if (!node.hasPointerCapture(event.pointerId)) return;
      const { low, high } = this.data, box = this.canvas.getBoundingClientRect();
      const { bottom, top } = MARGINS, part = (box.bottom - bottom - event.clientY) / (box.height - top - bottom);
      this.move(k, low + part * (high - low));
    });
    for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, () => this.rest());
    node.addEventListener("keydown", (event) => {
      const [least, most] = this.bounds(k), far = event.shiftKey ? 4 * STEP : STEP;
      const to = { ArrowUp: this.values[k] + far, ArrowRight: this.values[k] + far, ArrowDown: this.values[k] - far, ArrowLeft: this.values[k] - far, Home: least, End: most }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(k, to);
      clearTimeout(this.waiting); // a key that is held reports once
      this.waiting = setTimeout(() => this.rest(), 350);
    });
    return node;
  }

  // between its neighbours
  bounds(k) {
    const { low, high, gap } = this.data, last = this.values.length - 1;
    return [k < last ? this.values[k + 1] + gap : low, k ? this.values[k - 1] - gap : high];
  }

  move(k, value) {
    const [least, most] = this.bounds(k);
    this.values[k] = Math.round(Math.min(most, Math.max(least, value)) * 100) / 100;
    this.draw();
  }

  rest() {
    if (this.values.every((value, k) => value === this.data.values[k])) return;
    this.data = { ...this.data, values: [...this.values] };
    this.report(this.values.map((value) => value.toFixed(2)).join("_"));
  }

  draw() {
    const { chart, low, high, role, name, picture, columns } = this.data;
    const x = Array.from({ length: GRID + 1 }, (_, k) => k / GRID), own = { x, y: x.map((part) => monotone(this.values, part)), role, name };
    const whole = { ...chart, y: [low, high], curves: [...chart.curves, own] };
    drawChart(this.canvas, whole, 0);
    this.canvas.setAttribute("aria-label", `${chart.title}: ${chart.alt}; ${name} through ${this.values.join(", ")}`);
    const { clientWidth: w, clientHeight: h } = this.canvas, { X, Y } = scaleOf(whole, w, h);
    this.handles.forEach((node, k) => {
      const part = k / (this.values.length - 1), [least, most] = this.bounds(k);
      Object.assign(node.style, { left: `${X(part)}px`, top: `${Y(this.values[k])}px` });
      node.setAttribute("aria-label", `log SNR at ${Math.round(100 * part)}% of the way to noise`);
      node.setAttribute("aria-valuemin", least);
      node.setAttribute("aria-valuemax", most);
      node.setAttribute("aria-valuenow", this.values[k]);
    });
    this.pictures.forEach((canvas, k) => this.paint(canvas, k ? monotone(this.values, k / columns) : Infinity, picture, k / columns));
    this.root.dataset.values = this.values.join("_");
    this.root.dataset.ready = "true";
  }

  // x_t = alpha x_0 + sigma eps, with alpha^2 = sigmoid(log SNR)
  paint(canvas, logSNR, { width, height, channels: depth, x_0, eps }, part) {
    const share = 1 / (1 + Math.exp(-logSNR)), alpha = Math.sqrt(share), sigma = Math.sqrt(1 - share);
    const ctx = canvas.getContext("2d"), image = ctx.createImageData(width, height), all = width * height;
    for (let p = 0; p < all; p += 1) {
      for (let c = 0; c < 3; c += 1) {
        const from = (depth === 3 ? c : 0) * all + p;
        image.data[4 * p + c] = (alpha * x_0[from] + sigma * eps[from] + 1) * 127.5; // the browser rounds and clips
      }
      image.data[4 * p + 3] = 255;
    }
    ctx.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", `x_t at ${Math.round(100 * part)}% of the way: ${Math.round(100 * share)}% of its variance is image`);
  }

  destroy() {
    clearTimeout(this.waiting);
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }
}

const boards = new WeakMap(); // Streamlit calls again at every rerun

export default ({ parentElement, data, setTriggerValue }) => {
  const here = boards.get(parentElement);
  if (here) here.show(data);
  else {
    const root = parentElement.appendChild(element("div"));
    boards.set(parentElement, new CurveBoard(root, data, (handles) => setTriggerValue("handles", handles)));
  }
  return () => {
    if (parentElement.isConnected) return;
    boards.get(parentElement)?.destroy();
    boards.delete(parentElement);
  };
};
