// A run and its branch as two rows of small predicted images under the slider, each with its end: where they part.
// A press on a row moves the slider to the step there.

class Tree {
  constructor(scrubber) {
    this.scrubber = scrubber;
    this.canvas = element("canvas", { className: "tree" });
    this.canvas.setAttribute("role", "img");
    this.canvas.addEventListener("click", (event) => {
      const { slider, count } = scrubber, [from, to] = this.reach();
      const part = (event.clientX - this.canvas.getBoundingClientRect().left - from) / (to - from);
      scrubber.stop();
      scrubber.go(Math.min(count - 1, Math.max(0, Math.round(part * (count - 1)))));
      slider.focus({ preventScroll: true });
      scrubber.rest();
    });
  }

  // where the slider's first and last places are, so that each small image stands under its own
  reach() {
    const left = this.canvas.getBoundingClientRect().left, track = this.scrubber.slider.getBoundingClientRect();
    return [track.left - left + 12, track.right - left - 12];
  }

  draw() {
    const { film, bitmaps, index, count, lead } = this.scrubber, { canvas } = this;
    const { fork, sides, names, columns, gap, height, width } = film.lead, name = names[lead.pick];
    canvas.setAttribute("aria-label", `The predicted images of ${sides[0]}, step by step, and below them those of the branch: ${sides[1]}${name && `; the image of ${name}`}. The branch begins in frame ${fork + 1} of ${count}. The slider is at: ${film.captions[index]}`);
    const ratio = window.devicePixelRatio || 1, [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (!w || !bitmaps.length) return;
    canvas.width = w * ratio;
    canvas.height = h * ratio;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    ctx.imageSmoothingEnabled = false;
    const colours = Object.fromEntries(["ink", "muted", "edge", "guided", "paper"].map((one) => [one, resolved(canvas, `var(--${one})`)]));
    const end = (h - 18) / 2, small = Math.round(end * 0.6), last = count - 1, [from, to] = this.reach();
    const place = (k) => from + ((to - from) * k) / last, finish = Math.min(to + small / 2, w - end / 2 - 3);
    const every = Math.max(1, Math.ceil((small + 4) / ((to - from) / last)));
    const tile = (k, panel, x, y, side, colour, wide) => {
      const left = (lead.pick % columns) * (width + gap), top = Math.floor(lead.pick / columns) * (height + gap);
      ctx.fillStyle = colours.paper;
      ctx.fillRect(x - side / 2, y - side / 2, side, side);
      ctx.drawImage(bitmaps[k], left, panel * film.height + top, width, height, x - side / 2, y - side / 2, side, side);
      ctx.strokeStyle = colour;
      ctx.lineWidth = wide;
      ctx.strokeRect(x - side / 2, y - side / 2, side, side);
    };
    const line = (colour, ...points) => {
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2.5;
      ctx.beginPath();
      points.forEach((point, k) => (k ? ctx.lineTo(...point) : ctx.moveTo(...point)));
      ctx.stroke();
    };
    const row = (panel, first, y, colour) => {
      line(colour, [place(first), y], [finish, y]);
      const fits = (k) => place(k) + small / 2 < finish - end / 2 - 3;
      for (let k = first; k < last && fits(k); k += every) tile(k, panel, place(k), y, small, colour, 1);
      if (index >= first && index < last && fits(index)) tile(index, panel, place(index), y, small + 4, colours.ink, 3);
      tile(last, panel, finish, y, end, index === last ? colours.ink : colour, index === last ? 3 : 2);
    };
    const [above, below] = [end / 2 + 3, h - end / 2 - 3];
    line(colours.guided, [place(fork), above], [place(fork), below]);
    row(1, 0, above, colours.edge);
    row(3, fork, below, colours.guided);
    ctx.fillStyle = colours.guided;
    ctx.beginPath(); ctx.arc(place(fork), above + small / 2 + 3, 5, 0, 2 * Math.PI); ctx.fill();
    ctx.font = `600 14px ${getComputedStyle(canvas).fontFamily}`;
    const room = place(fork) - small / 2 - 10;
    if (ctx.measureText(sides[1]).width > room) return;
    ctx.textAlign = "right";
    ctx.fillText(sides[1], room, below + 5);
  }
}
