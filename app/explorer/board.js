// A board on which a visitor paints over a picture, by mouse, pen, finger or keyboard: in colours, or a hole to inpaint.
// After each stroke, the painting goes to Python as a PNG of the picture's size, transparent where nothing was painted;
// "" means an empty board.
//
// data: { picture: PNG as base64, painted: a data URL to start with, or "", width, height, hole: bool,
//         paints: [[name, colour]], brush: its width at first or null, words: the board's label }

const UNDO = 20;

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

class Board {
  constructor(root, data, report) {
    Object.assign(this, { root, data, report, undone: [], pen: false, last: null });
    const { width, height, words, hole } = data;
    this.colour = hole ? this.checks() : data.paints[0][1];
    root.className = `board ${hole ? "hole" : ""}`;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", words);
    this.ground = element("img", { src: `data:image/png;base64,${data.picture}`, alt: hole ? "The picture that is brushed over" : "The picture that is painted on", draggable: false });
    this.canvas = element("canvas", { width, height, tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute(
      "aria-label",
      `${words}. Arrow keys move the brush, the space bar lowers and lifts it, Escape lifts it.`,
    );
    this.ctx = this.canvas.getContext("2d", { willReadFrequently: true });
    this.cursor = element("span", { className: "cursor" });
    this.at = [width / 2, height / 2];
    const least = Math.max(2, Math.round(Math.min(width, height) / 40));
    this.size = element("input", { type: "range", min: least, max: least * 14, step: 1, value: data.brush ?? least * (hole ? 7 : 3) });
    this.undo = element("button", { type: "button", textContent: "Undo", disabled: true });
    this.clear = element("button", { type: "button", textContent: "Clear" });
    this.output = element("output");
    this.output.setAttribute("aria-live", "polite");
    const paper = element("div", { className: "paper" }, this.ground, this.canvas, this.cursor);
    paper.style.aspectRatio = `${width} / ${height}`;
    const tools = element("div", { className: "tools" }, element("label", {}, "Brush", this.size), this.undo, this.clear);
    root.replaceChildren(paper, ...this.palette(), tools, this.output);
    this.listen();
    this.place();
    this.restore(data.painted);
  }

  palette() {
    if (this.data.hole) return [];
    const row = element("div", { className: "paints" });
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", "Colour");
    const choose = (button, colour) => {
      this.colour = colour;
      for (const one of row.children) one.setAttribute("aria-pressed", one === button);
      this.place();
    };
    for (const [name, colour] of [...this.data.paints, ["eraser", null]]) {
      const button = element("button", { type: "button", title: name, className: colour ? "" : "eraser" });
      button.setAttribute("aria-label", name);
      button.style.background = colour ?? "";
      button.addEventListener("click", () => choose(button, colour));
      row.append(button);
    }
    choose(row.children[0], this.colour);
    return [row];
  }

  // a chequered hole: no picture looks like it, and nobody has to tell colours apart
  checks() {
    const side = Math.max(2, Math.round(this.data.width / 32));
    const tile = element("canvas", { width: 2 * side, height: 2 * side });
    const ctx = tile.getContext("2d");
    ctx.fillStyle = "#e3e6ea";
    ctx.fillRect(0, 0, 2 * side, 2 * side);
    ctx.fillStyle = "#59636e";
    ctx.fillRect(0, 0, side, side);
    ctx.fillRect(side, side, side, side);
    return ctx.createPattern(tile, "repeat");
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.begin(this.position(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const path = event.getCoalescedEvents?.() ?? [];
      for (const one of path.length ? path : [event]) {
        this.at = this.position(one);
        if (this.last && canvas.hasPointerCapture(event.pointerId)) this.stroke(this.at);
      }
      this.place();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => !this.pen && this.end());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.end());
    this.size.addEventListener("input", () => this.place());
    this.undo.addEventListener("click", () => this.back());
    this.clear.addEventListener("click", () => {
      if (this.empty()) return;
      this.remember();
      this.ctx.clearRect(0, 0, canvas.width, canvas.height);
      this.tell();
    });
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      const far = event.shiftKey ? 1 : Math.max(1, this.diameter / 2);
      const within = (value, most) => Math.min(most - 0.5, Math.max(0.5, value));
      this.at = [within(this.at[0] + move[0] * far, this.canvas.width), within(this.at[1] + move[1] * far, this.canvas.height)];
      if (this.pen) this.stroke(this.at);
    } else if (event.key === " ") {
      if (this.pen) this.end();
      else {
        this.begin(this.at);
        this.pen = true;
      }
    } else if (event.key === "Escape" && this.pen) this.end();
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.back();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.place();
  }

  get diameter() { return Number(this.size.value); }

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  begin(at) {
    this.remember();
    this.last = at;
    this.stroke(at);
  }

  stroke(to) {
    const { ctx } = this;
    ctx.globalCompositeOperation = this.colour === null ? "destination-out" : "source-over";
    ctx.strokeStyle = this.colour ?? "#000";
    ctx.lineCap = ctx.lineJoin = "round";
    ctx.lineWidth = this.diameter;
    ctx.beginPath();
    ctx.moveTo(...this.last);
    ctx.lineTo(to[0] + 0.01, to[1]); // a line of no length would not be drawn
    ctx.stroke();
    this.last = to;
  }

  end() {
    if (!this.last) return;
    this.last = null;
    this.pen = false;
    this.tell();
    this.place();
  }

  remember() {
    this.undone.push(this.ctx.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.undone.length > UNDO) this.undone.shift();
    this.undo.disabled = false;
  }

  back() {
    if (!this.undone.length || this.last) return;
    this.ctx.putImageData(this.undone.pop(), 0, 0);
    this.undo.disabled = !this.undone.length;
    this.tell();
  }

  covered() {
    const { data } = this.ctx.getImageData(0, 0, this.canvas.width, this.canvas.height);
    let count = 0;
    for (let k = 3; k < data.length; k += 4) count += data[k] >= 128;
    return count;
  }

  empty() { return this.covered() === 0; }

  tell() {
    this.say();
    this.report(this.empty() ? "" : this.canvas.toDataURL("image/png"));
  }

  say() {
    const share = (100 * this.covered()) / (this.canvas.width * this.canvas.height);
    this.root.dataset.covered = share.toFixed(1);
    if (share === 0 && this.data.hole) {
      this.output.textContent = "Nothing is brushed yet, so the whole picture will be painted anew.";
      return;
    }
    const amount = share === 0 ? "Nothing" : share < 1 ? "Less than 1 %" : `${Math.round(share)} %`;
    this.output.textContent = `${amount} ${this.data.hole ? "of the picture will be painted anew" : "of the picture is painted"}.`;
  }

  place() {
    const { width, height } = this.canvas;
    const { style } = this.cursor;
    style.left = `${(100 * this.at[0]) / width}%`;
    style.top = `${(100 * this.at[1]) / height}%`;
    style.width = `${(100 * this.diameter) / width}%`;
    this.cursor.classList.toggle("down", this.pen);
  }

  async restore(url) {
    if (url) {
      const image = element("img", { src: url });
      await image.decode();
      this.ctx.drawImage(image, 0, 0);
    }
    this.say();
    this.root.dataset.ready = "true";
  }
}

const mounted = new WeakMap(); // Streamlit calls this again at every rerun; the painting stays

export default ({ parentElement, data, setStateValue }) => {
  if (!mounted.has(parentElement)) {
    const root = parentElement.appendChild(element("div"));
    mounted.set(parentElement, new Board(root, data, (url) => setStateValue("painted", url)));
  }
  return () => { if (!parentElement.isConnected) mounted.delete(parentElement); };
};
