// The panel Share: what only the browser knows of the page (its address, what its canvases show), to copy or to save.
//
// data: { page: the page's name for files, cell: the page's program as a notebook cell, or "", left_out: a sentence, or "" }

const STILL = 2; // pixels of a saved PNG per pixel of the page
const FRAME = 60, HOLD = 1200, MOST = 100; // milliseconds of a film's frame, and of its last; frames
const KINDS = ["video/webm;codecs=vp9", "video/webm", "video/mp4"];

// -- what a part of the page shows: pictures, paths and words, with their places ------------------------------

function items(root) {
  const box = root.getBoundingClientRect(), found = [];
  const place = (rect) => ({ x: rect.left - box.left, y: rect.top - box.top, w: rect.width, h: rect.height });
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) words(node);
    else if (node.nodeType !== Node.ELEMENT_NODE || !node.checkVisibility() || node.matches("button, select, input, audio, label")) return;
    else if (node.matches("canvas, img")) {
      const style = getComputedStyle(node);
      if (node.width) found.push({ kind: "picture", node, ...place(node.getBoundingClientRect()), sharp: style.imageRendering === "pixelated" });
    } else if (node.matches("path")) {
      const style = getComputedStyle(node), at = node.ownerSVGElement.getBoundingClientRect();
      found.push({ kind: "path", d: node.getAttribute("d"), x: at.left - box.left, y: at.top - box.top, fill: style.fill, opacity: style.opacity });
    } else for (const child of node.childNodes) visit(child);
  };
  const words = (node) => {
    const style = getComputedStyle(node.parentElement), range = document.createRange();
    const inSvg = node.parentElement instanceof SVGElement;
    for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const rect = range.getBoundingClientRect();
      if (rect.width) found.push({ kind: "word", word, ...place(rect), size: parseFloat(style.fontSize), weight: style.fontWeight, slant: style.fontStyle, family: style.fontFamily, fill: inSvg ? style.fill : style.color });
    }
  };
  visit(root);
  return { found, width: Math.ceil(box.width), height: Math.ceil(box.height), paper: getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor };
}

function paint(ctx, { found, width, height, paper }) {
  ctx.fillStyle = paper;
  ctx.fillRect(0, 0, width, height);
  for (const one of found) {
    ctx.globalAlpha = Number(one.opacity ?? 1);
    if (one.kind === "picture") {
      ctx.imageSmoothingEnabled = !one.sharp;
      ctx.drawImage(one.node, one.x, one.y, one.w, one.h);
      continue;
    }
    ctx.fillStyle = one.fill;
    if (one.kind === "path") {
      ctx.save();
      ctx.translate(one.x, one.y);
      ctx.fill(new Path2D(one.d));
      ctx.restore();
      continue;
    }
    ctx.font = `${one.slant} ${one.weight} ${one.size}px ${one.family}`;
    ctx.textBaseline = "middle";
    ctx.fillText(one.word, one.x, one.y + one.h / 2);
  }
  ctx.globalAlpha = 1;
}

function still(shown, scale) {
  const canvas = element("canvas", { width: shown.width * scale, height: shown.height * scale });
  const ctx = canvas.getContext("2d");
  ctx.scale(scale, scale);
  paint(ctx, shown);
  return canvas;
}

// -- SVG ------------------------------------------------------------------------------------------------------

const number = (value) => String(+value.toFixed(2));
const quoted = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

// Records what a chart's canvas is told to draw, as SVG. The canvas draws all the same.
class Recorder {
  constructor(canvas) {
    this.ctx = canvas.getContext("2d");
    this.size = () => [canvas.width, canvas.height];
    this.begin();
    const context = new Proxy(this.ctx, {
      get: (ctx, name) => (typeof ctx[name] !== "function" ? ctx[name] : (...given) => { this[name]?.(...given); return ctx[name](...given); }),
      set: (ctx, name, value) => { ctx[name] = value; return true; },
    });
    canvas.getContext = () => context;
  }

  begin() { Object.assign(this, { out: [], path: "", clips: [], clipped: "", whole: true }); }
  at(x, y) { const { a, b, c, d, e, f } = this.ctx.getTransform(); return `${number(a * x + c * y + e)} ${number(b * x + d * y + f)}`; }
  get scaled() { return this.ctx.getTransform().a; }
  put(tag, attributes, inside = "") { this.out.push(`<${tag} ${attributes}${this.clipped}${this.ctx.globalAlpha < 1 ? ` opacity="${this.ctx.globalAlpha}"` : ""}>${inside}</${tag}>`); }
  save() { this.clips.push(this.clipped); }
  restore() { this.clipped = this.clips.pop() ?? ""; }
  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${this.at(x, y)}`; }
  lineTo(x, y) { this.path += `${this.path ? "L" : "M"}${this.at(x, y)}`; }
  closePath() { this.path += "Z"; }
  rect(x, y, w, h) { this.path += `M${this.at(x, y)}L${this.at(x + w, y)}L${this.at(x + w, y + h)}L${this.at(x, y + h)}Z`; }
  arc(x, y, r, from, to) { // as two halves, since an SVG arc that ends where it began is not drawn
    const on = (turn) => this.at(x + r * Math.cos(turn), y + r * Math.sin(turn)), radius = number(r * this.scaled), end = Math.min(to, from + 2 * Math.PI);
    this.path += `${this.path ? "L" : "M"}${on(from)}A${radius} ${radius} 0 0 1 ${on((from + end) / 2)}A${radius} ${radius} 0 0 1 ${on(end)}`;
  }
  clip() {
    const id = `clip${this.out.length}-${Math.random().toString(36).slice(2, 8)}`; // several charts may share a document
    this.out.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath>`);
    this.clipped = ` clip-path="url(#${id})"`;
  }
  fill(path) { if (path instanceof Path2D) this.whole = false; else this.put("path", `d="${this.path}" fill="${this.ctx.fillStyle}"`); }
  stroke(path) {
    if (path instanceof Path2D) { this.whole = false; return; }
    const dashes = this.ctx.getLineDash().map((one) => number(one * this.scaled)).join(" ");
    this.put("path", `d="${this.path}" fill="none" stroke="${this.ctx.strokeStyle}" stroke-width="${number(this.ctx.lineWidth * this.scaled)}" stroke-linejoin="${this.ctx.lineJoin}"${dashes ? ` stroke-dasharray="${dashes}"` : ""}`);
  }
  fillRect(x, y, w, h) { const path = this.path; this.path = ""; this.rect(x, y, w, h); this.fill(); this.path = path; }
  drawImage() { this.whole = false; }
  putImageData() { this.whole = false; }
  text(word, x, y, colours) {
    const { font, textAlign, textBaseline } = this.ctx, [px, py] = this.at(x, y).split(" ");
    const larger = font.replace(/([\d.]+)px/, (_, size) => `${number(size * this.scaled)}px`);
    const anchor = { center: "middle", right: "end", end: "end" }[textAlign] ?? "start", baseline = { middle: "central", top: "hanging" }[textBaseline] ?? "auto";
    this.put("text", `x="${px}" y="${py}" text-anchor="${anchor}" dominant-baseline="${baseline}" style="font: ${quoted(larger)}" ${colours}`, quoted(String(word)));
  }
  fillText(word, x, y) { this.text(word, x, y, `fill="${this.ctx.fillStyle}"`); }
  strokeText(word, x, y) { this.text(word, x, y, `fill="none" stroke="${this.ctx.strokeStyle}" stroke-width="${number(this.ctx.lineWidth * this.scaled)}" stroke-linejoin="round"`); }
}

// The charts of a part of the page, drawn once more and recorded: canvas -> its drawing as SVG, where all of it is lines and words.
function recorded(root) {
  const film = root.closest(FILMS) ?? root, slider = sliderOf(film), drawings = new Map();
  const charts = [...root.querySelectorAll("canvas.chart"), ...(root.matches("canvas.chart") ? [root] : [])];
  const recorders = charts.map((canvas) => [canvas, new Recorder(canvas)]);
  if (slider) moveTo(slider, slider.value);
  else for (const canvas of charts) canvas.redraw?.();
  for (const [canvas, recorder] of recorders) {
    delete canvas.getContext;
    if (recorder.whole && recorder.out.length) drawings.set(canvas, { inside: recorder.out.join(""), size: recorder.size() });
  }
  return drawings;
}

function svg(root) {
  const drawings = recorded(root), { found, width, height, paper } = items(root);
  const parts = found.map((one) => {
    if (one.kind === "path") return `<path transform="translate(${number(one.x)} ${number(one.y)})" d="${one.d}" fill="${one.fill}" opacity="${one.opacity}"/>`;
    const at = `x="${number(one.x)}" y="${number(one.y)}"`;
    if (one.kind === "word") return `<text ${at.replace(/y=".*"/, `y="${number(one.y + one.h / 2)}"`)} dominant-baseline="central" fill="${one.fill}" style="font: ${quoted(`${one.slant} ${one.weight} ${one.size}px ${one.family}`)}">${quoted(one.word)}</text>`;
    const size = `width="${number(one.w)}" height="${number(one.h)}"`, drawing = drawings.get(one.node);
    if (drawing) return `<svg ${at} ${size} viewBox="0 0 ${drawing.size.join(" ")}" preserveAspectRatio="none">${drawing.inside}</svg>`;
    const url = one.node instanceof HTMLCanvasElement ? one.node.toDataURL() : one.node.src;
    return `<image ${at} ${size} preserveAspectRatio="none" href="${url}"${one.sharp ? ' style="image-rendering: pixelated"' : ""}/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"><rect width="100%" height="100%" fill="${paper}"/>${parts.join("")}</svg>`;
}

// -- the film -------------------------------------------------------------------------------------------------

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A film plays through once and is recorded as the browser records video, without a server; the slider then returns.
async function recordFilm(root, kind) {
  const slider = sliderOf(root), before = slider.value, last = Number(slider.max), frames = Math.min(MOST, last + 1);
  moveTo(slider, 0);
  const { width, height } = items(root), canvas = element("canvas", { width: width - (width % 2), height: height - (height % 2) }), ctx = canvas.getContext("2d");
  paint(ctx, items(root));
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: kind, videoBitsPerSecond: 8e6 }), pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const ended = new Promise((done) => { recorder.onstop = done; });
  recorder.start();
  for (let k = 0; k < frames; k += 1) {
    moveTo(slider, Math.round((k * last) / Math.max(1, frames - 1)));
    paint(ctx, items(root));
    await pause(Math.max(FRAME, 3000 / frames));
  }
  await pause(HOLD);
  recorder.stop();
  await ended;
  moveTo(slider, before);
  return new Blob(pieces, { type: kind });
}

// -- the panel ------------------------------------------------------------------------------------------------

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// What can be saved as a picture: each film as a whole, and each figure by its title.
function figures() {
  const films = seen(FILMS).map((root, k) => ({ root, name: k ? `The whole film ${k + 1}` : "The whole picture" }));
  const parts = seen("figure, .strip, .curve .stage, .plane > canvas.chart").filter((root) => (root.matches("canvas") || root.querySelector("canvas, img")) && !root.closest(".st-key-path"));
  const named = parts.map((root) => {
    const words = root.querySelector("figcaption")?.firstChild?.textContent || root.querySelector("img")?.alt || (root.querySelector("canvas") ?? root).getAttribute("aria-label") || "Figure";
    return { root, name: words.trim().length > 60 ? `${words.trim().slice(0, 59)}…` : words.trim() };
  });
  return [...films, ...named];
}

class Panel {
  constructor(root, data) {
    this.data = data;
    root.className = "panel";
    this.said = element("output");
    this.said.setAttribute("aria-live", "polite");
    this.link = element("input", { type: "text", readOnly: true, hidden: true, className: "wide" });
    this.link.setAttribute("aria-label", "The page's address");
    this.note = element("p", { className: "wide" });
    this.pick = element("select");
    this.pick.setAttribute("aria-label", "Figure");
    this.found = figures();
    const kind = KINDS.find((one) => globalThis.MediaRecorder?.isTypeSupported(one));
    const film = this.found.find(({ root: one }) => one.matches(FILMS));
    const whole = (words, act, disabled = "") => {
      const button = this.button(words, act, disabled);
      button.className = "wide";
      return button;
    };
    const sections = [
      element("section", {}, whole("Copy the link", () => this.copy(window.location.href, "The link is copied.")), this.link, this.note),
      element("section", {}, this.pick, this.button("PNG", () => this.png(), !this.found.length), this.button("SVG", () => this.svg(), !this.found.length)),
    ];
    if (film) sections.push(element("section", {}, whole(kind?.includes("mp4") ? "Film (MP4)" : "Film (WebM)", () => this.film(film.root, kind), kind ? "" : "This browser cannot record a film.")));
    this.cell = whole("Copy as a notebook cell", () => this.copy(this.data.cell, "The cell is copied: it needs only the package."));
    sections.push(element("section", {}, this.cell));
    root.replaceChildren(...sections, this.said);
    this.update(data);
  }

  update(data) {
    this.data = data;
    this.found = figures();
    this.pick.replaceChildren(...this.found.map(({ name }, k) => element("option", { value: k, textContent: name })));
    this.note.textContent = `It opens this page with its settings${data.left_out ? `, without ${data.left_out}` : ""}.`;
    this.cell.hidden = !data.cell;
  }

  button(words, act, why = "") {
    const button = element("button", { type: "button", textContent: words, disabled: Boolean(why), title: why === true ? "" : why });
    button.addEventListener("click", act);
    return button;
  }

  say(words) { this.said.textContent = words; }

  async copy(text, words) {
    try {
      await navigator.clipboard.writeText(text);
      this.say(words);
    } catch { // without https a browser gives a page no clipboard: the text is shown, ready to be copied by hand
      this.link.value = text;
      this.link.hidden = false;
      this.link.select();
      this.say("This browser does not let a page copy: press Ctrl+C.");
    }
  }

  get chosen() { return this.found[Number(this.pick.value)].root; }
  name(ending) { return `${this.data.page}.${ending}`; }

  png() { still(items(this.chosen), STILL).toBlob((blob) => { save(blob, this.name("png")); this.say("Saved as PNG."); }); }

  svg() {
    save(new Blob([svg(this.chosen)], { type: "image/svg+xml" }), this.name("svg"));
    this.say("Saved as SVG.");
  }

  async film(root, kind) {
    this.say("Recording: the film plays through once.");
    save(await recordFilm(root, kind), this.name(kind.includes("mp4") ? "mp4" : "webm"));
    this.say("Saved as a film.");
  }
}

const mounted = new WeakMap(); // Streamlit calls again at every rerun

export default ({ parentElement, data }) => {
  if (mounted.has(parentElement)) mounted.get(parentElement).update(data);
  else mounted.set(parentElement, new Panel(parentElement.appendChild(element("div")), data));
  return () => { if (!parentElement.isConnected) mounted.delete(parentElement); };
};
