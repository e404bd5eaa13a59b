// The channels of a latent as fields of cells, which a visitor touches: a pointer, or the arrow keys, choose the cell that
// is changed. The cell follows at once; its place goes to Python, which decodes the changed latent.
//
// data: { channels: [[value, row by row]], width, height, limit: the colour map's, colours: its anchors, amount: what is
//         added, whole: to a whole channel or to one cell, channel, x, y: where (from 0), names: each channel's words }

const PAUSE = 350; // milliseconds between two reports of a pointer that moves

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function colour(value, anchors) { // of a value in [-1, 1]
  const place = ((Math.max(-1, Math.min(1, value)) + 1) / 2) * (anchors.length - 1), k = Math.min(anchors.length - 2, Math.floor(place));
  const bytes = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const from = bytes(anchors[k]), to = bytes(anchors[k + 1]);
  return from.map((one, i) => Math.round(one + (place - k) * (to[i] - one)));
}

class Cells {
  constructor(root, data, report) {
    Object.assign(this, { root, report, held: false, reported: 0, sent: "" });
    root.className = "cells";
    this.figures = data.names.map((_, channel) => {
      const canvas = element("canvas", { tabIndex: 0 }), spot = element("span", { className: "spot" });
      canvas.setAttribute("role", "application");
      const figure = element("figure", {}, element("figcaption"), element("div", {}, canvas, spot));
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        this.held = true;
        canvas.setPointerCapture(event.pointerId);
        this.touch(channel, event);
      });
      canvas.addEventListener("pointermove", (event) => { if (this.held && canvas.hasPointerCapture(event.pointerId)) this.touch(channel, event); });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { this.held = false; this.tell(true); });
      canvas.addEventListener("keydown", (event) => this.key(channel, event));
      return { figure, canvas, spot };
    });
    root.replaceChildren(...this.figures.map(({ figure }) => figure));
    this.update(data);
    root.dataset.ready = "true";
  }

  update(data) {
    const { channel, x, y } = this.data ?? data;
    const behind = this.held || (this.sent && this.sent !== [data.channel, data.x, data.y].join("."));
    this.data = behind ? { ...data, channel, x, y } : data; // an answer to an earlier place moves nothing back
    if (!behind) this.sent = "";
    this.draw();
  }

  touch(channel, event) {
    const box = event.target.getBoundingClientRect(), { width, height } = this.data;
    const at = (part, size) => Math.max(0, Math.min(size - 1, Math.floor(part * size)));
    this.move(channel, at((event.clientX - box.left) / box.width, width), at((event.clientY - box.top) / box.height, height));
    this.tell(false);
  }

  key(channel, event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    const { width, height, x, y } = this.data, within = (value, size) => Math.max(0, Math.min(size - 1, value));
    const [dx, dy] = channel === this.data.channel && step ? step : [0, 0]; // the first key chooses the channel
    this.move(channel, within(x + dx, width), within(y + dy, height));
    this.tell(true);
  }

  move(channel, x, y) {
    Object.assign(this.data, { channel, x, y });
    this.draw();
  }

  tell(now) {
    const place = [this.data.channel, this.data.x, this.data.y].join(".");
    if (place === this.sent || (!now && Date.now() - this.reported < PAUSE)) return;
    this.reported = Date.now();
    this.sent = place;
    this.report(place);
  }

  draw() {
    const { width, height, limit, colours, amount, whole, x, y, names } = this.data;
    this.figures.forEach(({ figure, canvas, spot }, channel) => {
      const chosen = channel === this.data.channel, ctx = canvas.getContext("2d");
      Object.assign(canvas, { width, height });
      const picture = ctx.createImageData(width, height);
      this.data.channels[channel].forEach((value, k) => {
        const touched = chosen && (whole || k === y * width + x);
        picture.data.set([...colour((value + (touched ? amount : 0)) / limit, colours), 255], 4 * k);
      });
      ctx.putImageData(picture, 0, 0);
      const added = `${amount > 0 ? "+" : ""}${amount}`, where = whole ? "everywhere" : `at x = ${x}, y = ${y}`;
      figure.firstChild.textContent = names[channel];
      figure.classList.toggle("chosen", chosen);
      canvas.setAttribute("aria-label", `${names[channel]}, ${height} by ${width} numbers${chosen ? `; ${added} ${where}` : ""}. The arrow keys choose the cell that is changed.`);
      spot.hidden = !chosen || whole;
      Object.assign(spot.style, { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`, width: `${100 / width}%`, height: `${100 / height}%` });
    });
  }
}

const mounted = new WeakMap(); // Streamlit calls again at every rerun

export default ({ parentElement, data, setStateValue }) => {
  if (mounted.has(parentElement)) mounted.get(parentElement).update(data);
  else mounted.set(parentElement, new Cells(parentElement.appendChild(element("div")), data, (place) => setStateValue("touched", place)));
  return () => { if (!parentElement.isConnected) mounted.delete(parentElement); };
};
