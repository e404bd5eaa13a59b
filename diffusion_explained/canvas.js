// What the scripts of the package's canvases share; `film.script` puts it before each of them.

const ICONS = {
  play: '<svg viewBox="0 0 18 18" aria-hidden="true"><path d="M4 2l12 7-12 7z"/></svg>',
  pause: '<svg viewBox="0 0 18 18" aria-hidden="true"><path d="M3 2h4v14H3zM11 2h4v14h-4z"/></svg>',
};

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function bytes(frame) {
  if (typeof frame === "string") return Uint8Array.from(atob(frame), (c) => c.charCodeAt(0));
  return new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength);
}

// A colour of the style sheet, with color-mix and inherited variables resolved, as a canvas takes it.
function resolved(node, colour) {
  const own = node.style.color;
  node.style.color = colour;
  const found = getComputedStyle(node).color;
  node.style.color = own;
  return found;
}

// A colour as three numbers from 0 to 255, whatever notation the browser gives it: a canvas of one pixel has them.
function channels(colour) {
  const pixel = element("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

// A page that is enlarged by its style sheet (CSS zoom): by how much, and the pixels of the screen per pixel of a node.
const enlarged = (node) => node.currentCSSZoom ?? 1;
const screenPixels = (node) => (window.devicePixelRatio || 1) * enlarged(node);

function ticks([from, to]) {
  const rough = (to - from) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.99);
  const values = [];
  for (let v = Math.ceil(from / step - 1e-9) * step; v <= to + step * 1e-6; v += step) values.push(Math.abs(v) < 1e-12 ? 0 : v);
  return values;
}

function logTicks([from, to]) {
  const digits = Math.log10(to / from) < 2.2 ? [1, 2, 5] : [1], values = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power += 1) values.push(...digits.map((digit) => digit * 10 ** power));
  return values.filter((value) => value >= from * 0.999 && value <= to * 1.001);
}

const MARGINS = { left: 42, right: 10, top: 8, bottom: 36 }; // of a chart's axes

// Where a chart of this size shows a value.
function scaleOf(chart, w, h) {
  const { left, right, top, bottom } = MARGINS;
  const part = (value, [from, to], log) => (log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from));
  return {
    X: (x) => left + part(x, chart.x, chart.log?.includes("x")) * (w - left - right),
    Y: (y) => h - bottom - part(y, chart.y, chart.log?.includes("y")) * (h - top - bottom),
  };
}

// A curve's value at x, between its two nearest points; none beyond its ends.
function valueAt({ x, y }, at) {
  const k = x.findIndex((one) => one >= at - 1e-9);
  if (k < 0 || (k === 0 && x[0] > at + 1e-9)) return null;
  return k === 0 ? y[0] : y[k - 1] + ((at - x[k - 1]) / (x[k] - x[k - 1])) * (y[k] - y[k - 1]);
}

// The dots of a series: each has its own shape.
function drawDot(ctx, shape, x, y) {
  const size = 4.5, corners = { 1: [[-1, -1], [1, -1], [1, 1], [-1, 1]], 2: [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]], 3: [[0, -1.3], [1.25, 1], [-1.25, 1]], 4: [[0, 1.3], [1.25, -1], [-1.25, -1]] }[shape % 5];
  ctx.beginPath();
  if (corners) corners.forEach(([a, b], k) => (k ? ctx.lineTo(x + a * size, y + b * size) : ctx.moveTo(x + a * size, y + b * size)));
  else ctx.arc(x, y, size, 0, 2 * Math.PI);
  ctx.closePath();
  ctx.fill();
}

function drawChart(canvas, chart, index) {
  canvas.redraw = () => drawChart(canvas, chart, index); // for a script that records the drawing
  const ratio = screenPixels(canvas);
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  if (!w) return;
  canvas.width = w * ratio;
  canvas.height = h * ratio;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const colours = Object.fromEntries(["data", "noise", "ink", "muted", "faint", "paper"].map((name) => [name, resolved(canvas, `var(--${name})`)]));
  for (const { role } of chart.curves) colours[role] ??= resolved(canvas, `var(--${role})`);
  const { left, right, top, bottom } = MARGINS, { X, Y } = scaleOf(chart, w, h);
  ctx.font = `12px ${style.fontFamily}`;
  ctx.lineWidth = 1;
  ctx.textAlign = "center";
  for (const v of (chart.log?.includes("x") ? logTicks : ticks)(chart.x)) {
    ctx.strokeStyle = colours.faint;
    ctx.beginPath(); ctx.moveTo(X(v), top); ctx.lineTo(X(v), h - bottom); ctx.stroke();
    ctx.fillStyle = colours.muted;
    const number = String(+v.toPrecision(6));
    ctx.fillText(number, Math.min(X(v), w - ctx.measureText(number).width / 2), h - bottom + 15); // whole at the edge
  }
  ctx.fillText(chart.x_label, (left + w - right) / 2, h - 4);
  ctx.textAlign = "right";
  for (const v of (chart.log?.includes("y") ? logTicks : ticks)(chart.y)) {
    ctx.strokeStyle = colours.faint;
    ctx.beginPath(); ctx.moveTo(left, Y(v)); ctx.lineTo(w - right, Y(v)); ctx.stroke();
    ctx.fillStyle = colours.muted;
    ctx.fillText(String(+v.toPrecision(6)), left - 6, Y(v) + 4);
  }
  ctx.save();
  ctx.beginPath(); ctx.rect(left, top - 6, w - left - right + 6, h - top - bottom + 12); ctx.clip();
  if (chart.bars) {
    const heights = chart.bars[index];
    const span = (chart.x[1] - chart.x[0]) / heights.length;
    ctx.fillStyle = colours.data;
    ctx.globalAlpha = 0.75;
    heights.forEach((height, k) => {
      const x = chart.x[0] + k * span;
      const y = Math.max(Y(height), top);
      ctx.fillRect(X(x), y, Math.max(1, X(x + span) - X(x) - 0.5), Y(0) - y);
    });
    ctx.globalAlpha = 1;
  }
  for (const curve of chart.curves) {
    ctx.strokeStyle = colours[curve.role];
    ctx.lineWidth = 2.2;
    ctx.lineJoin = "round";
    ctx.beginPath();
    curve.x.forEach((x, k) => (k ? ctx.lineTo(X(x), Y(curve.y[k])) : ctx.moveTo(X(x), Y(curve.y[k]))));
    ctx.stroke();
    ctx.fillStyle = colours[curve.role];
    if (curve.dots) curve.x.forEach((x, k) => drawDot(ctx, seriesOf(curve), X(x), Y(curve.y[k])));
  }
  if (chart.cursor) drawCursor(ctx, canvas, chart, index, colours, { X, Y, top, foot: h - bottom });
  if (chart.markers) {
    const [x, y] = chart.markers[index];
    ctx.strokeStyle = colours.muted;
    ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(X(x), top); ctx.lineTo(X(x), h - bottom); ctx.stroke();
    ctx.fillStyle = colours.noise;
    ctx.strokeStyle = colours.paper;
    ctx.lineWidth = 2;
    ctx.beginPath(); ctx.arc(X(x), Y(y), 6, 0, 2 * Math.PI); ctx.fill(); ctx.stroke();
  }
  ctx.restore();
  const points = chart.curves.flatMap((curve) => alongside(curve.x.map(X), curve.y.map(Y)));
  const write = (text, colour, places) => {
    const wide = ctx.measureText(text).width, [x, y] = leastCovering(places(wide), wide, NAME, points);
    Object.assign(ctx, { textAlign: "left", lineWidth: 4, lineJoin: "round", strokeStyle: colours.paper, fillStyle: colour });
    ctx.strokeText(text, x, y + 12);
    ctx.fillText(text, x, y + 12);
    const name = alongside([x, x + wide], [y + 8, y + 8]);
    points.push(...name, ...name, ...name); // the next name avoids this one rather than a curve
  };
  for (const curve of chart.curves.filter((one) => one.name && one.x.length && seriesOf(one) >= 0)) {
    write(curve.name, colours[curve.role], (wide) => besideCurve(curve.x.map(X), curve.y.map(Y), wide, { left, right: w - right, top, foot: h - bottom }));
  }
  for (const { name, role, x } of chart.curves.filter((curve) => curve.name && seriesOf(curve) < 0)) {
    const upright = x.every((one) => one === x[0]), heights = [top + 2, (h - bottom) / 2, h - bottom - NAME - 4];
    write(name, colours[role], (wide) => {
      const sides = upright ? [X(x[0]) + 6, X(x[0]) - 6 - wide].filter((side) => side > left && side + wide < w) : [w - right - 4 - wide, left + 6, (w - wide) / 2];
      const rows = upright ? heights : heights.flatMap((y) => [y, y + NAME, y - NAME]).filter((y) => y >= top && y + NAME <= h - bottom);
      return rows.flatMap((y) => sides.map((side) => [side, y]));
    });
  }
}

// The number of a series, or -1 for a curve of another role.
function seriesOf({ role }) { return role.startsWith("series-") ? Number(role.slice(7)) : -1; }

// Places of a name beside its own curve, from the right end to the left.
function besideCurve(x, y, wide, { left, right, top, foot }) {
  const places = [];
  for (let part = 1; part >= 0; part -= 0.05) {
    const k = Math.round(part * (x.length - 1));
    for (const [dx, dy] of [[-wide / 2, -NAME - 6], [-wide / 2, 6], [8, -NAME / 2], [-wide - 8, -NAME / 2], [8, -NAME - 4], [-wide - 8, -NAME - 4], [8, 4], [-wide - 8, 4]]) {
      const at = [Math.min(Math.max(x[k] + dx, left + 3), right - wide - 3), y[k] + dy];
      if (at[1] >= top - 6 && at[1] + NAME <= foot) places.push(at);
    }
  }
  return places.length ? places : [[left + 3, top]];
}

// One line through all curves at the frame's x, with a dot on each; the numbers go into the alternative text.
function drawCursor(ctx, canvas, chart, index, colours, { X, Y, top, foot }) {
  const at = chart.cursor[index];
  ctx.strokeStyle = colours.muted;
  ctx.lineWidth = 1.5;
  ctx.beginPath(); ctx.moveTo(X(at), top); ctx.lineTo(X(at), foot); ctx.stroke();
  const found = chart.curves.map((curve) => [curve, valueAt(curve, at)]).filter(([, value]) => value !== null);
  for (const [curve, value] of found) {
    ctx.fillStyle = colours[curve.role];
    ctx.strokeStyle = colours.paper;
    ctx.lineWidth = 2;
    ctx.beginPath(); ctx.arc(X(at), Y(value), 6, 0, 2 * Math.PI); ctx.fill(); ctx.stroke();
  }
  const numbers = found.map(([{ name }, value]) => `${name} ${+value.toPrecision(3)}`).join(", ");
  canvas.setAttribute("aria-label", `${chart.title}: ${chart.alt}. At ${+at.toPrecision(3)}: ${numbers}`);
}

const NAME = 16; // the height of a curve's name, in pixels

// Points of a line, one every four pixels.
function alongside(x, y) {
  return x.slice(1).flatMap((end, k) => {
    const count = Math.ceil(Math.hypot(end - x[k], y[k + 1] - y[k]) / 4) || 1;
    return Array.from({ length: count + 1 }, (_, i) => [x[k] + ((end - x[k]) * i) / count, y[k] + ((y[k + 1] - y[k]) * i) / count]);
  });
}

// Where a text covers the fewest points of the curves: the first such place, [x, y] of its left upper corner.
function leastCovering(places, wide, tall, points) {
  const covered = ([left, top]) => points.filter(([x, y]) => x > left - 4 && x < left + wide + 4 && y > top - 2 && y < top + tall + 2).length;
  return places.map((place) => [covered(place), place]).reduce((best, one) => (one[0] < best[0] ? one : best))[1];
}

// The frame goes into the page's address without an entry in the history, and without a word to Python. A film without a
// name for its frame leaves the address as it is, for the film that will take its place.
function intoAddress({ name, usual }, index) {
  if (!name) return;
  const here = new URL(window.location.href);
  if (index === usual) here.searchParams.delete(name);
  else here.searchParams.set(name, index);
  if (here.href !== window.location.href) window.history.replaceState(window.history.state, "", here);
}
