// Panels of a film whose states are no pictures: clips that play, attention, sounds that are heard, clouds and molecules that are turned, letters.
// `film.script` puts this file before scrubber.js, which makes a part for each of film.parts and draws it at each frame.
//
// part: { kind, title, words: [one a frame, what is seen or heard there], content: what the class of this kind reads }

class Part {
  constructor({ kind, title, words }, scrubber) {
    Object.assign(this, { title, words, scrubber, index: 0, ready: Promise.resolve() });
    this.says = element("p", { className: "says" });
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.view = element("div", { className: "view" }, this.canvas);
    this.root = element("figure", { className: `part ${kind}` }, element("figcaption", { textContent: title }), this.view, this.says);
  }

  go(index) {
    this.index = index;
    this.says.textContent = this.words[index];
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.words[index]}`);
    this.draw();
  }

  // the canvas as sharp as the screen, empty; [context, width, height] in the page's pixels, or null while it is hidden
  paper() {
    const { canvas } = this, ratio = Math.min(2, screenPixels(canvas));
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (!w || !h) return null;
    [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    return [ctx, w, h];
  }

  themed() { this.draw(); }
  draw() {}
  destroy() {}
}

// content: { sheets: [one PNG a frame, the clip's frames side by side], frames, side }
class Clip extends Part {
  constructor(part, scrubber) {
    super(part, scrubber);
    this.content = part.content;
    this.canvas.className = "pixels";
    this.canvas.width = this.canvas.height = part.content.side;
    this.strip = element("canvas", { className: "pixels strip", width: part.content.frames * (part.content.side + 1) - 1, height: part.content.side });
    this.strip.setAttribute("aria-hidden", "true");
    this.view.append(this.strip);
    const decode = (sheet) => createImageBitmap(new Blob([bytes(sheet)], { type: "image/png" }));
    this.ready = Promise.all(part.content.sheets.map(decode)).then((sheets) => { this.sheets = sheets; this.draw(); });
  }

  draw() {
    const sheet = this.sheets?.[this.index], { side, frames } = this.content, now = this.scrubber.clip.frame;
    if (!sheet) return;
    this.canvas.getContext("2d").drawImage(sheet, now * side, 0, side, side, 0, 0, side, side);
    const ctx = this.strip.getContext("2d");
    ctx.clearRect(0, 0, this.strip.width, side);
    for (let k = 0; k < frames; k += 1) {
      ctx.globalAlpha = k === now ? 1 : 0.55;
      ctx.drawImage(sheet, k * side, 0, side, side, k * (side + 1), 0, side, side);
    }
  }

  destroy() { this.sheets?.forEach((sheet) => sheet.close()); }
}

const CLIP_PAUSE = 90; // milliseconds per frame of a clip

// All clips of a film play together. Held, a clip shows its first frame; a reader who wants less motion finds it held.
class ClipClock {
  constructor(scrubber, frames) {
    Object.assign(this, { scrubber, frames, frame: 0 });
    this.button = element("button", { type: "button", className: "answer" });
    this.button.addEventListener("click", () => (this.timer ? this.hold() : this.play()));
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) this.hold();
    else this.play();
  }

  show(frame) { this.frame = frame; this.scrubber.parts?.forEach((part) => part.draw()); }

  play() {
    this.timer = setInterval(() => this.show((this.frame + 1) % this.frames), CLIP_PAUSE);
    this.button.textContent = "Hold the clip";
  }

  hold() {
    this.destroy();
    this.show(0);
    this.button.textContent = "Play the clip";
  }

  destroy() { clearInterval(this.timer); this.timer = null; }
}

// content: { levels: [bytes rows x columns a frame], rows, columns, x_ticks, y_ticks: [[place from 0 to 1, words]], x_label, y_label }
class Grid extends Part {
  constructor(part, scrubber) {
    super(part, scrubber);
    this.content = part.content;
  }

  themed() { this.ramp = null; this.draw(); }

  draw() { // the first row below; what is drawn over the grid needs its place
    const paper = this.paper();
    if (!paper) return null;
    const [ctx, w, h] = paper, { rows, columns, x_ticks, y_ticks, x_label, y_label } = this.content, [left, right, top, bottom] = [64, 12, 10, 40];
    const [wide, tall] = [w - left - right, h - top - bottom];
    this.ramp ??= this.shades();
    const small = element("canvas", { width: columns, height: rows }), image = small.getContext("2d").createImageData(columns, rows);
    const levels = bytes(this.content.levels[this.index]);
    for (let row = 0; row < rows; row += 1) for (let k = 0; k < columns; k += 1) {
      image.data.set(this.ramp[levels[row * columns + k]], 4 * ((rows - 1 - row) * columns + k));
    }
    small.getContext("2d").putImageData(image, 0, 0);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(small, left, top, wide, tall);
    ctx.font = `13px ${getComputedStyle(this.canvas).fontFamily}`;
    ctx.fillStyle = resolved(this.canvas, "var(--muted)");
    ctx.textAlign = "center";
    for (const [place, words] of x_ticks) ctx.fillText(words, Math.min(left + place * wide, w - 14), h - bottom + 17);
    ctx.fillText(x_label, left + wide / 2, h - 5);
    ctx.textAlign = "right";
    for (const [place, words] of y_ticks) ctx.fillText(words, left - 6, top + (1 - place) * tall + 4);
    ctx.save();
    ctx.translate(11, top + tall / 2); ctx.rotate(-Math.PI / 2); ctx.textAlign = "center";
    ctx.fillText(y_label, 0, 0);
    ctx.restore();
    return { ctx, left, top, wide, tall };
  }

  shades() { // from the paper for 0, over the colour of data, to the ink
    const [paper, data, ink] = ["paper", "data", "ink"].map((name) => channels(resolved(this.canvas, `var(--${name})`)));
    return Array.from({ length: 256 }, (_, k) => {
      const part = k / 255, [from, to, m] = part < 0.7 ? [paper, data, part / 0.7] : [data, ink, (part - 0.7) / 0.3];
      return [...from.map((v, c) => Math.round(v + m * (to[c] - v))), 255];
    });
  }
}

// content: as a grid's, a row per band of frequencies and a column per moment, and { waves: [a WAV file a frame] }
class Sound extends Grid {
  constructor(part, scrubber) {
    super(part, scrubber);
    this.player = element("audio", { controls: true, preload: "metadata" });
    this.root.insertBefore(this.player, this.says);
    for (const event of ["play", "pause", "ended", "seeked"]) this.player.addEventListener(event, () => this.draw());
    this.follow = () => { if (!this.player.paused) this.draw(); };
  }

  go(index) {
    super.go(index);
    this.player.setAttribute("aria-label", `Listen. ${this.title}: ${this.words[index]}`);
    clearTimeout(this.waits); // the player gets its sound when the slider rests
    this.waits = setTimeout(() => { this.player.src = `data:audio/wav;base64,${this.content.waves[index]}`; }, 150);
  }

  draw() {
    const at = super.draw();
    if (!at) return;
    if (this.player.currentTime > 0 && !this.player.ended) { // where the player is
      const { ctx, left, top, wide, tall } = at, x = left + (this.player.currentTime / this.player.duration) * wide;
      ctx.strokeStyle = resolved(this.canvas, "var(--noise)");
      ctx.lineWidth = 2;
      ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + tall); ctx.stroke();
    }
    if (!this.player.paused) requestAnimationFrame(this.follow);
  }

  destroy() { clearTimeout(this.waits); this.player.pause(); }
}

// content: { places: [16-bit numbers [points, 3] a frame, 32767 for reach], reach, noise: [the share of noise a frame, for the colour] }
const CAMERA = 4.5, HALF = 1.2; // the distance of the eye, and half the picture's shorter side, in the clouds' own unit
const SHADES_OF_DEPTH = 12;

class Cloud extends Part {
  constructor(part, scrubber) {
    super(part, scrubber);
    const { places, reach, noise } = part.content;
    this.part = part;
    this.noise = noise;
    this.places = places.map((text) => Float32Array.from(new Int16Array(bytes(text).slice().buffer), (v) => (v / 32767) * reach));
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown");
    this.canvas.title = "Drag to turn, or use the arrow keys";
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); this.held = [event.clientX, event.clientY]; });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      const [x, y] = this.held;
      this.held = [event.clientX, event.clientY];
      scrubber.turning.by(0.5 * (event.clientX - x), 0.5 * (event.clientY - y));
    });
    for (const event of ["pointerup", "pointercancel"]) this.canvas.addEventListener(event, () => { if (this.held) { this.held = null; scrubber.turning.rest(); } });
    this.canvas.addEventListener("keydown", (event) => {
      const [x, y] = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key] ?? [];
      if (x === undefined) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab's own shortcuts
      scrubber.turning.by(x, y);
      scrubber.turning.rest();
    });
  }

  themed() { this.ramp = null; this.draw(); }

  draw() {
    const paper = this.paper(), places = this.places[this.index], { turn, tilt } = this.scrubber.turning;
    if (!paper) return;
    this.ramp ??= [resolved(this.canvas, "var(--paper)"), ...this.noise.map((part) => resolved(this.canvas, `color-mix(in oklch decreasing hue, var(--noise) ${100 * part}%, var(--data))`))].map(channels);
    const [ctx, w, h] = paper, back = this.ramp[0], near = this.ramp[this.index + 1], scale = Math.min(w, h) / 2 / HALF;
    const [cos, sin, up, over] = [Math.cos(turn * (Math.PI / 180)), Math.sin(turn * (Math.PI / 180)), Math.cos(tilt * (Math.PI / 180)), Math.sin(tilt * (Math.PI / 180))];
    const groups = Array.from({ length: SHADES_OF_DEPTH }, () => []);
    for (let i = 0; i < places.length; i += 3) {
      const x = places[i] * cos - places[i + 1] * sin, away = places[i] * sin + places[i + 1] * cos, z = places[i + 2];
      const depth = away * up - z * over, height = z * up + away * over, closer = CAMERA / Math.max(1, CAMERA + depth);
      const shade = Math.max(0, Math.min(SHADES_OF_DEPTH - 1, Math.floor(((1.2 - depth) / 2.4) * SHADES_OF_DEPTH)));
      groups[shade].push(w / 2 + x * scale * closer, h / 2 - height * scale * closer, closer);
    }
    const radius = Math.max(1.3, scale * 0.014);
    groups.forEach((points, shade) => { // the far ones first, paler
      const m = 0.28 + (0.72 * shade) / (SHADES_OF_DEPTH - 1);
      ctx.fillStyle = `rgb(${back.map((v, c) => Math.round(v + m * (near[c] - v))).join()})`;
      ctx.beginPath();
      for (let i = 0; i < points.length; i += 3) { ctx.moveTo(points[i], points[i + 1]); ctx.arc(points[i], points[i + 1], radius * points[i + 2], 0, 7); }
      ctx.fill();
    });
    this.label();
  }

  label() {
    const { turn, tilt } = this.scrubber.turning;
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.words[this.index]}. Turned by ${turn}°, seen from ${tilt}° above. The arrow keys turn it.`);
  }
}

// content: as a cloud's, with nine places a frame, and { elements: [a letter per atom, a frame], bonds: [[[atom, atom, order], ...] a frame] }
const ATOM_COLOURS = { C: "var(--muted)", N: "var(--data)", O: "var(--noise)", F: "var(--accent)" };

class Molecule extends Cloud {
  draw() {
    const paper = this.paper(), places = this.places[this.index], { turn, tilt } = this.scrubber.turning;
    if (!paper) return;
    this.ramp ??= Object.fromEntries(["C", "N", "O", "F", "paper"].map((name) => [name, resolved(this.canvas, ATOM_COLOURS[name] ?? `var(--${name})`)]));
    const [ctx, w, h] = paper, scale = Math.min(w, h) / 2 / HALF, radius = Math.max(9, 0.11 * scale);
    const [cos, sin, up, over] = [Math.cos(turn * (Math.PI / 180)), Math.sin(turn * (Math.PI / 180)), Math.cos(tilt * (Math.PI / 180)), Math.sin(tilt * (Math.PI / 180))];
    const atoms = [...this.part.content.elements[this.index]].map((name, i) => {
      const [px, py, z] = places.subarray(3 * i, 3 * i + 3), x = px * cos - py * sin, away = px * sin + py * cos;
      const depth = away * up - z * over, closer = CAMERA / Math.max(1, CAMERA + depth);
      return { name, depth, closer, x: w / 2 + x * scale * closer, y: h / 2 - (z * up + away * over) * scale * closer };
    });
    const bonds = this.part.content.bonds[this.index].map(([a, b, order]) => ({ order, from: atoms[a], to: atoms[b], depth: (atoms[a].depth + atoms[b].depth) / 2 }));
    ctx.lineCap = "round";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (const one of [...atoms, ...bonds].sort((p, q) => q.depth - p.depth)) { // the far ones first, paler
      ctx.globalAlpha = Math.max(0.35, Math.min(1, 0.75 - 0.4 * one.depth)) * (1 - 0.5 * this.noise[this.index]);
      if (one.order) {
        const { from, to, order } = one, [dx, dy] = [to.x - from.x, to.y - from.y], long = Math.hypot(dx, dy) || 1;
        ctx.strokeStyle = this.ramp.C;
        ctx.lineWidth = Math.max(2, 0.3 * radius);
        for (let k = 0; k < order; k += 1) {
          const aside = 0.62 * radius * (k - (order - 1) / 2);
          const [ax, ay] = [(-dy / long) * aside, (dx / long) * aside];
          ctx.beginPath(); ctx.moveTo(from.x + ax, from.y + ay); ctx.lineTo(to.x + ax, to.y + ay); ctx.stroke();
        }
      } else {
        const size = radius * one.closer;
        ctx.fillStyle = this.ramp[one.name];
        ctx.beginPath(); ctx.arc(one.x, one.y, size, 0, 7); ctx.fill();
        ctx.globalAlpha = 1;
        ctx.fillStyle = this.ramp.paper;
        ctx.font = `600 ${Math.round(1.15 * size)}px ${getComputedStyle(this.canvas).fontFamily}`;
        ctx.fillText(one.name, one.x, one.y + 0.5);
      }
    }
    this.label();
  }
}

// All clouds of a film turn together: `turn` about the upright axis, `tilt` the height of the eye, in degrees.
class Turning {
  constructor(scrubber, { turn = 30, tilt = 20 } = {}, onRest) {
    Object.assign(this, { scrubber, turn, tilt, onRest });
    this.slider = element("input", { type: "range", min: -180, max: 180, step: 1, className: "turn" });
    this.slider.setAttribute("aria-label", "turn, in degrees");
    this.label = element("label", { className: "turning" }, "Turn", this.slider);
    this.slider.addEventListener("input", () => this.to(Number(this.slider.value), this.tilt));
    this.slider.addEventListener("change", () => this.rest());
    this.to(turn, tilt);
  }

  by(across, down) { this.to(this.turn + across, this.tilt + down); }

  to(turn, tilt) {
    this.turn = Math.round(((((turn + 180) % 360) + 360) % 360) - 180);
    this.tilt = Math.round(Math.max(-90, Math.min(90, tilt)));
    this.slider.value = this.turn;
    this.slider.setAttribute("aria-valuetext", `${this.turn}°, seen from ${this.tilt}° above`);
    this.scrubber.root.dataset.turn = `${this.turn} ${this.tilt}`;
    this.scrubber.parts?.forEach((part) => part.draw());
  }

  rest() { this.onRest?.({ turn: this.turn, tilt: this.tilt }); }
}

// content: { texts: [one a frame], marks: [per letter "h" hidden, "f" new at this frame, "g" given, "." older],
//            sure: null or [per letter 0 to 9, how probable it is] }
class Letters extends Part {
  constructor(part, scrubber) {
    super(part, scrubber);
    this.content = part.content;
    this.letters = [...part.content.texts[0]].map(() => element("span"));
    const page = element("div", { className: part.content.sure ? "page" : "page written" }, ...this.letters);
    page.setAttribute("role", "img");
    this.canvas.replaceWith(page);
    this.canvas = page; // a page of letters needs no canvas
  }

  draw() {
    const { texts, marks, sure } = this.content, text = [...texts[this.index]];
    this.letters.forEach((letter, k) => {
      const mark = marks[this.index][k];
      letter.textContent = mark === "h" ? "" : text[k];
      letter.className = { h: "hidden", f: "fresh", g: "given" }[mark] ?? "";
      if (sure) letter.style.setProperty("--sure", `${10 + 10 * Number(sure[this.index][k])}%`);
    });
  }
}

const PARTS = { clip: Clip, attention: Grid, sound: Sound, cloud: Cloud, molecule: Molecule, letters: Letters };
