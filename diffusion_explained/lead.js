// A film's first panel, of which one image is shown large; beside it the sampler's step as arithmetic, or the same image
// of another run, if the film has them.
//
// lead: { beside: "panels", "charts", "step" or "pair", ends, height, width, columns, gap: of an image in the mosaic,
//         names, pick, weights: [[alpha, sigma] a frame], rests: [a number a frame], sides: [two names of runs], fork }

const SVG = "http://www.w3.org/2000/svg";
const SMALL = 0.005; // a difference of pixel values that is not named
const LETTERS = { state: "x<sub>t</sub>", data: "x̂<sub>0</sub>", noise: "ε̂", next: "x<sub>next</sub>" };

class Lead {
  constructor(film, { pick, onPick }) {
    const { lead } = film;
    this.film = film;
    this.lead = lead;
    this.onPick = onPick;
    this.many = lead.names.length > 1;
    this.choice = element("select", { className: "pick" }, ...lead.names.map((name, k) => element("option", { value: k, textContent: name })));
    this.choice.setAttribute("aria-label", "image that is shown large");
    this.choice.value = this.pick = Math.min(pick ?? lead.pick, lead.names.length - 1);
    this.choice.addEventListener("change", () => this.choose(Number(this.choice.value)));
    if (lead.beside === "pair") {
      this.pair();
      return;
    }
    const step = lead.beside === "step";
    const first = this.figure(step ? "noisy image" : film.titles[0], film.alts[0], step ? "state" : "", step ? LETTERS.state : "");
    if (this.many) first.querySelector("figcaption").append(this.choice);
    this.root = element("div", { className: `lead ${lead.beside}` }, first);
    this.canvases = [[first, 0, 0]];
    if (!step) return;
    const parts = [
      [this.figure("predicted image", film.alts[1], "data", LETTERS.data), 1, 0],
      [this.figure("predicted noise", film.alts[2], "noise", LETTERS.noise), 2, 0],
      [this.figure("next state", "the next state: the weighted sum of the predicted image and the predicted noise", "next", LETTERS.next), 0, 1],
    ];
    this.flow = document.createElementNS(SVG, "svg");
    this.flow.setAttribute("aria-hidden", "true");
    this.sum = element("p", { className: "sum" });
    this.root.append(...parts.map(([figure]) => figure), this.flow);
    this.canvases.push(...parts);
  }

  // a run and its branch side by side: of each the noisy image and the predicted one
  pair() {
    const { film, lead } = this;
    this.canvases = [];
    this.sides = lead.sides.map((words, k) => {
      const figures = [["noisy image", "state"], ["predicted image", "data"]].map(([title, kind], j) => {
        const figure = this.figure(title, film.alts[2 * k + j], kind, LETTERS[kind]);
        this.canvases.push([figure, 2 * k + j, 0]);
        return figure;
      });
      return element("section", { className: k ? "branch" : "run" }, element("div", { className: "name" }, element("span", { textContent: words })), ...figures);
    });
    if (this.many) this.sides[0].firstChild.append(this.choice);
    this.root = element("div", { className: "lead pair" }, ...this.sides);
  }

  figure(title, alt, kind, letter) {
    const canvas = element("canvas", { className: "pixels", width: this.lead.width, height: this.lead.height });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", alt); // until it is drawn
    const words = element("span", { textContent: title });
    const caption = element("figcaption", {}, words, ...(letter ? [element("i", { innerHTML: letter })] : []));
    return Object.assign(element("figure", { className: kind }, caption, canvas), { words: alt });
  }

  // A click on a mosaic chooses the image there.
  choosesIn(canvas) {
    if (!this.many) return;
    canvas.classList.add("choices");
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect(), { lead, film } = this;
      const column = Math.floor(((event.clientX - box.left) / box.width) * film.width / (lead.width + lead.gap));
      const row = Math.floor(((event.clientY - box.top) / box.height) * film.height / (lead.height + lead.gap));
      const pick = row * lead.columns + Math.min(column, lead.columns - 1);
      if (pick < lead.names.length) this.choose(pick);
    });
  }

  choose(pick) {
    this.pick = pick;
    this.choice.value = pick;
    this.onPick(pick);
  }

  draw(bitmaps, index) {
    const { film, lead } = this, { height, width } = lead, last = bitmaps.length - 1;
    const left = (this.pick % lead.columns) * (width + lead.gap), top = Math.floor(this.pick / lead.columns) * (height + lead.gap);
    const at = lead.beside === "step" ? Math.min(index, last - 1) : index; // the last frame is the last step's result
    this.canvases.forEach(([figure, panel, later], k) => {
      const canvas = figure.querySelector("canvas"), bitmap = bitmaps[(k ? at : index) + later];
      const ctx = canvas.getContext("2d");
      ctx.clearRect(0, 0, width, height);
      if (bitmap) ctx.drawImage(bitmap, left, panel * film.height + top, width, height, 0, 0, width, height);
      const name = lead.names[this.pick];
      canvas.setAttribute("aria-label", `${figure.words}${name && `, the one of ${name}`}: ${film.captions[Math.min(index + later, last)]}`);
    });
    if (this.flow) this.arithmetic(at);
    this.sides?.[1].classList.toggle("same", index < lead.fork);
  }

  arithmetic(at) {
    const { weights, rests } = this.lead;
    const number = (value) => value.toFixed(2);
    const [[alpha, sigma], [after, less]] = [weights[at], weights[at + 1]];
    const letter = (kind) => `<i class="${kind}">${LETTERS[kind]}</i>`;
    const parts = (a, s) => `<b class="data">${number(a)}</b> ${letter("data")} + <b class="noise">${number(s)}</b> ${letter("noise")}`;
    const rest = rests[at] > SMALL ? ` + <b>what the sampler adds</b> (${number(rests[at])} per pixel)` : "";
    this.sum.innerHTML = `<span>${letter("state")} = ${parts(alpha, sigma)}</span><span>${letter("next")} = ${parts(after, less)}${rest}</span>`;
    this.shares = [alpha, sigma, after, less];
    this.ribbons();
  }

  // Each ribbon is as wide as its weight; they run to the right, or downwards on a narrow screen.
  ribbons() {
    if (!this.flow || !this.shares || !this.root.clientWidth) return;
    const whole = this.root.getBoundingClientRect(), zoom = enlarged(this.root);
    const [state, data, noise, next] = this.canvases.map(([figure]) => {
      const box = figure.querySelector("canvas").getBoundingClientRect();
      return { x: [box.left - whole.left, box.right - whole.left].map((x) => x / zoom), y: [box.top - whole.top, box.bottom - whole.top].map((y) => y / zoom) };
    });
    const down = data.y[0] > state.y[1] - 1, [along, across] = down ? ["y", "x"] : ["x", "y"];
    const [alpha, sigma, after, less] = this.shares;
    const unit = Math.min(state[across][1] - state[across][0], data[across][1] - data[across][0]) / 2;
    const middle = (box) => (box[across][0] + box[across][1]) / 2;
    const point = (a, c) => (down ? `${c.toFixed(1)} ${a.toFixed(1)}` : `${a.toFixed(1)} ${c.toFixed(1)}`);
    const parts = [];
    const ribbon = (kind, from, to, begin, end, weight) => {
      const wide = Math.max(1.5, weight * unit), [a, b] = [from[along][1] + 4, to[along][0] - 4], half = (a + b) / 2;
      const edge = (sign, p, q, to) => `C${point(half, p + (sign * wide) / 2)} ${point(half, q + (sign * wide) / 2)} ${point(to, q + (sign * wide) / 2)}`;
      parts.push(`<path class="${kind}" d="M${point(a, begin - wide / 2)}${edge(-1, begin, end, b)}L${point(b, end + wide / 2)}${edge(1, end, begin, a)}Z"/>`);
      const place = point(half, (begin + end) / 2 + (down ? 0 : 5)).split(" ");
      parts.push(`<text class="${kind}" x="${place[0]}" y="${place[1]}" text-anchor="middle">${weight.toFixed(2)}</text>`);
    };
    const pair = (box, a, s) => [middle(box) - (s * unit) / 2 - 1, middle(box) + (a * unit) / 2 + 1]; // side by side, centred
    const [leaveData, leaveNoise] = pair(state, alpha, sigma), [reachData, reachNoise] = pair(next, after, less);
    ribbon("data", state, data, leaveData, middle(data), alpha);
    ribbon("noise", state, noise, leaveNoise, middle(noise), sigma);
    ribbon("data", data, next, middle(data), reachData, after);
    ribbon("noise", noise, next, middle(noise), reachNoise, less);
    this.flow.innerHTML = parts.join("");
  }
}

// The predictions with and without the class, and the guided one, as arrows from one origin: their tips, to measure.
// triangle: { scales: [w a frame], sides: [[[length, along, across] an image] a frame], condition: "words", or none for "class" }
function drawTriangle(canvas, triangle, index, image = 0) {
  const ratio = screenPixels(canvas), [w, h] = [canvas.clientWidth, canvas.clientHeight], what = triangle.condition ?? "class";
  if (!w) return;
  canvas.width = w * ratio;
  canvas.height = h * ratio;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  const probe = (name) => {
    canvas.style.color = `var(--${name})`;
    const colour = getComputedStyle(canvas).color;
    canvas.style.color = "";
    return colour;
  };
  const colours = Object.fromEntries(["noise", "state", "guided", "ink", "muted", "faint", "paper"].map((name) => [name, probe(name)]));
  const scale = triangle.scales[index], [length, along, across] = triangle.sides[index][image], apart = Math.hypot(along, across);
  const farthest = Math.max(...triangle.sides.map((sides, k) => Math.max(1, triangle.scales[k]) * Math.hypot(sides[image][1], sides[image][2])));
  const unit = Math.min((w - 150) / Math.max(farthest, 1e-6), h / 0.05), left = 30, top = h * 0.42;
  const at = (x, y) => [left + unit * x, top - unit * y];
  const origin = at(0, -length), tips = { noise: at(0, 0), state: at(across, along), guided: at(scale * across, scale * along) };
  const family = getComputedStyle(canvas).fontFamily, facts = `the arrows are ${length.toFixed(2)} long, their tips ${apart.toFixed(3)} apart`;
  const bar = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01].find((size) => unit * size < w / 3) ?? 0.005, measure = `${bar} per pixel`;
  ctx.font = `12px ${family}`;
  const narrow = ctx.measureText(facts).width + ctx.measureText(measure).width + unit * bar + 40 > w, foot = narrow ? 42 : 26;
  ctx.font = `600 13px ${family}`;
  const arrow = (from, to, colour, width, dash = []) => {
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = width;
    ctx.setLineDash(dash);
    ctx.beginPath(); ctx.moveTo(...from); ctx.lineTo(...to); ctx.stroke();
    ctx.setLineDash([]);
    const size = Math.min(11, Math.hypot(to[0] - from[0], to[1] - from[1])), turn = Math.atan2(to[1] - from[1], to[0] - from[0]);
    ctx.beginPath(); ctx.moveTo(...to);
    for (const side of [0.42, -0.42]) ctx.lineTo(to[0] - size * Math.cos(turn + side), to[1] - size * Math.sin(turn + side));
    ctx.closePath(); ctx.fill();
  };
  ctx.save();
  ctx.beginPath(); ctx.rect(0, 0, w, h - foot); ctx.clip();
  ctx.fillStyle = colours.faint;
  ctx.beginPath(); ctx.moveTo(...origin); ctx.lineTo(...tips.noise); ctx.lineTo(...tips.guided); ctx.closePath(); ctx.fill();
  arrow(origin, tips.noise, colours.noise, 2.5);
  arrow(origin, tips.state, colours.state, 2.5);
  arrow(origin, tips.guided, colours.guided, 3.5);
  ctx.restore();
  if (scale > 0) arrow(tips.noise, tips.guided, colours.guided, 2, [2, 5]);
  for (let k = 2; k < scale; k += 1) { // a mark after each length of the difference
    ctx.beginPath(); ctx.arc(...at(k * across, k * along), 2, 0, 2 * Math.PI); ctx.fill();
  }
  if (unit * apart > 3) arrow(tips.noise, tips.state, colours.ink, 2);
  const label = (text, [x, y], colour, align) => {
    ctx.textAlign = align;
    ctx.lineWidth = 4; ctx.lineJoin = "round"; ctx.strokeStyle = colours.paper; ctx.strokeText(text, x, y);
    ctx.fillStyle = colour; ctx.fillText(text, x, y);
  };
  label(scale === 0 ? `ε without ${what} = guided` : `ε without ${what}`, [left - 22, tips.noise[1] - 30], colours.noise, "left");
  const right = Math.min(Math.max(tips.guided[0], tips.state[0]) + 10, w - 100);
  const free = tips.guided[0] - tips.state[0] > 110; // room for the words between the two arrows
  label(`ε with ${what}`, free ? [tips.state[0] + 9, tips.state[1] + 44] : [right, Math.max(tips.guided[1], tips.state[1]) + 24], colours.state, "left");
  if (scale > 0) label(`guided, w = ${scale}`, [right, tips.guided[1] - 10], colours.guided, "left");
  const end = w - 8;
  ctx.strokeStyle = colours.muted; ctx.lineWidth = 1.5;
  ctx.beginPath(); ctx.moveTo(end - unit * bar, h - 18); ctx.lineTo(end - unit * bar, h - 12); ctx.lineTo(end, h - 12); ctx.lineTo(end, h - 18); ctx.stroke();
  ctx.font = `12px ${family}`;
  label(measure, [end - unit * bar - 8, h - 10], colours.muted, "right");
  label(facts, [0, narrow ? h - 28 : h - 10], colours.muted, "left");
  canvas.setAttribute("aria-label", `${triangle.title}, ${triangle.alt}: at w = ${scale} the predictions with and without the ${what} are ${length.toFixed(2)} long and ${apart.toFixed(3)} apart; the guided one is ${(scale * apart).toFixed(3)} from the one without`);
}
