// A board in the plane: data drawn by mouse, pen, finger or keyboard. Its strokes go to Python as a short text.

const VIEW = 2.75; // the half height of what a canvas shows
const SCALE = 1295; // two digits to the base 36 a coordinate, from -4 to 4
const MOST_POINTS = 240;
const written = (v) => Math.round(((Math.max(-4, Math.min(4, v)) + 4) / 8) * SCALE).toString(36).padStart(2, "0");

class Pen {
  constructor(plane) {
    Object.assign(this, { plane, strokes: [], down: false, at: [0, 0] });
    this.canvas = element("canvas", { tabIndex: 0, className: "paper" });
    this.canvas.setAttribute("role", "application");
    this.undo = element("button", { type: "button", textContent: "Undo" });
    this.clear = element("button", { type: "button", textContent: "Clear" });
    this.done = element("button", { type: "button", textContent: "Flow into it", className: "done" });
    this.words = element("span", { className: "hint" });
    plane.stage.style.setProperty("--n", 1);
    plane.stage.classList.remove("many");
    plane.stage.replaceChildren(element("figure", {}, this.canvas), element("div", { className: "tools" }, this.words, this.undo, this.clear, this.done));
    plane.clock.hidden = plane.choices.hidden = true;
    plane.root.dataset.key = "";
    plane.root.dataset.pen = "true";
    this.canvas.addEventListener("pointerdown", (event) => { event.preventDefault(); this.canvas.focus({ preventScroll: true }); this.canvas.setPointerCapture(event.pointerId); this.strokes.push([]); this.down = true; this.add(this.place(event)); });
    this.canvas.addEventListener("pointermove", (event) => { if (this.down && this.canvas.hasPointerCapture(event.pointerId)) for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) this.add(this.place(one)); });
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, () => { this.down = false; });
    this.canvas.addEventListener("keydown", (event) => this.key(event), true);
    this.undo.addEventListener("click", () => { this.strokes.pop(); this.draw(); });
    this.clear.addEventListener("click", () => { this.strokes = []; this.draw(); });
    this.done.addEventListener("click", () => this.flow());
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
    this.draw();
  }

  get scale() { return Math.min(this.canvas.clientWidth, this.canvas.clientHeight) / (2 * VIEW); }

  get count() { return this.strokes.reduce((sum, stroke) => sum + stroke.length, 0); }

  place(event) {
    const box = this.canvas.getBoundingClientRect(), scale = this.scale * enlarged(this.canvas);
    return [(event.clientX - box.left - box.width / 2) / scale, -(event.clientY - box.top - box.height / 2) / scale];
  }

  add(at) {
    const stroke = this.strokes.at(-1), last = stroke.at(-1);
    this.at = at;
    if (this.count < MOST_POINTS && (!last || Math.hypot(at[0] - last[0], at[1] - last[1]) > 0.09)) stroke.push(at);
    this.draw();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, move = moves[event.key];
    if (move) {
      const far = event.shiftKey ? 0.5 : 0.12;
      this.at = [this.at[0] + far * move[0], this.at[1] + far * move[1]];
      if (this.down) this.add(this.at);
    } else if (event.key === " ") {
      this.down = !this.down;
      if (this.down) { this.strokes.push([]); this.add(this.at); }
    } else if (event.key === "Enter") this.flow();
    else if (event.key === "Escape") this.down = false;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  flow() { if (this.count > 1) this.plane.onDrawn?.(this.strokes.filter((stroke) => stroke.length).map((stroke) => stroke.map(([x, y]) => written(x) + written(y)).join("")).join("-")); }

  draw() {
    const { canvas, count } = this, ratio = Math.min(2, screenPixels(canvas)), [w, h] = [canvas.clientWidth, canvas.clientHeight];
    this.done.disabled = count < 2;
    this.undo.disabled = this.clear.disabled = count === 0;
    this.words.textContent = count < MOST_POINTS ? `Draw any shape, in one stroke or several: ${count} of at most ${MOST_POINTS} points` : "That is as much as fits: press “Flow into it”";
    canvas.setAttribute("aria-label", `A board to draw data on, ${count} points in ${this.strokes.length} strokes. Arrow keys move the pen, the space bar lowers and lifts it, Enter lets the noise flow into the drawing.`);
    if (!w || !h) return;
    canvas.width = w * ratio; canvas.height = h * ratio;
    const ctx = canvas.getContext("2d"), style = getComputedStyle(this.plane.root), s = this.scale;
    ctx.setTransform(ratio, 0, 0, ratio, (w * ratio) / 2, (h * ratio) / 2);
    ctx.strokeStyle = style.color; ctx.globalAlpha = 0.1; ctx.lineWidth = 1;
    for (let v = -8; v <= 8; v += 1) { ctx.beginPath(); ctx.moveTo(v * s, -h); ctx.lineTo(v * s, h); ctx.moveTo(-w, v * s); ctx.lineTo(w, v * s); ctx.stroke(); }
    ctx.globalAlpha = 1; ctx.strokeStyle = ctx.fillStyle = style.getPropertyValue("--data").trim() || style.color; ctx.lineWidth = 6; ctx.lineCap = ctx.lineJoin = "round";
    for (const stroke of this.strokes) {
      ctx.beginPath(); stroke.forEach(([x, y], k) => (k ? ctx.lineTo(x * s, -y * s) : ctx.moveTo(x * s, -y * s)));
      if (stroke.length === 1) ctx.lineTo(stroke[0][0] * s, -stroke[0][1] * s);
      ctx.stroke();
    }
    ctx.lineWidth = 1.5; ctx.strokeStyle = style.color;
    ctx.beginPath(); ctx.arc(this.at[0] * s, -this.at[1] * s, 7, 0, 7); ctx.stroke();
  }

  destroy() {
    this.observer.disconnect();
    delete this.plane.root.dataset.pen;
  }
}

