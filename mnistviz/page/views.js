// Pictures and tables of what the network computed: values to colours, maps as tiles, a ledger as tables.

const MOVES = ["Flatten", "Dropout", "Dropout2d"]; // layers whose values are those of the layer before
const minus = (text) => String(text).replace("-", "−");

// A number as short as it can be read: 5.77, −0.42, 3.1e−5, 0.
function short(value, digits = 2) {
  if (!Number.isFinite(value)) return minus(value);
  if (value === 0) return "0";
  if (Math.abs(value) >= 0.01 && Math.abs(value) < 1000) return minus(value.toFixed(digits));
  return minus(value.toExponential(1)).replace("e-", "e−").replace("e+", "e");
}
const percent = (share) => // which never rounds a doubt away
  share >= 0.9995 ? "> 99.9 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
const sizes = (shape) => shape.join(" × ");

// make("button", {type: "button", onclick}, "Undo"): an element with properties, ARIA attributes and children.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const button = (content, onclick, more = {}) => make("button", { type: "button", onclick, ...more }, content);
// ── numbers to colours ──

// The scale of all these numbers: symmetric about 0 if any is negative, else from 0 to the largest.
function scaleOver(arrays) {
  let low = 0, high = 0;
  for (const values of arrays)
    for (let i = 0; i < values.length; i++) {
      const v = values[i];
      if (v < low && v !== -Infinity) low = v; // what is not a number compares with nothing
      if (v > high && v !== Infinity) high = v;
    }
  const largest = Math.max(-low, high);
  return { low: low < 0 ? -largest : 0, high: largest };
}

function inPixel(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0; // as a typed array of 32 bits holds it
}

// A function from a number to a pixel, for the signed or the non-negative scale of the house.
function inks(colours) {
  const tables = { signed: colours.signed.map(inPixel), positive: colours.positive.map(inPixel) };
  const strange = inPixel(colours.nan);
  return ({ low, high }) => {
    const table = low < 0 ? tables.signed : tables.positive;
    const n = table.length, factor = n / (high - low || 1);
    return (v) => (v !== v ? strange : table[Math.min(n - 1, Math.max(0, Math.floor((v - low) * factor)))]);
  };
}

const css = (pixel) => `rgb(${pixel & 255}, ${(pixel >> 8) & 255}, ${(pixel >> 16) & 255})`;
// An element on the colour of its number, with letters that can be read on it.
function tinted(element, pixel) {
  element.className = isDark(pixel) ? "on-dark" : "on-light";
  element.style.backgroundColor = css(pixel);
  return element;
}
const share = (byte) => ((byte & 255) / 255) ** 2.2; // of the light of white
const isDark = (p) => share(p) * 0.2126 + share(p >> 8) * 0.7152 + share(p >> 16) * 0.0722 < 0.179; // white reads best

// ── a layer as tiles: one pixel a value, enlarged by CSS, one pixel between two maps ──

// How many maps stand in a row, and how large a value is drawn, in a given width.
function tiling(shape, width) {
  const flat = shape.length === 1;
  const [c, h, w] = flat ? [shape[0], 1, 1] : shape;
  const zoom = flat ? (c <= 16 ? 26 : c > 600 ? 5 : 9) : w > 20 ? 2 : w > 10 ? 4 : w > 5 ? 7 : w > 1 ? 10 : 14;
  const gap = flat && c > 16 ? 0 : 1;
  const columns = Math.max(1, Math.min(c, Math.floor((width / zoom + gap) / (w + gap))));
  const rows = Math.ceil(c / columns);
  return { c, h, w, zoom, gap, columns, rows, width: columns * (w + gap) - gap, height: rows * (h + gap) - gap };
}

// Column and row, in values, at which a unit is drawn.
function spotOf(t, at) {
  const channel = Math.floor(at / (t.h * t.w)), inside = at % (t.h * t.w);
  const x = (channel % t.columns) * (t.w + t.gap) + (inside % t.w);
  return [x, Math.floor(channel / t.columns) * (t.h + t.gap) + Math.floor(inside / t.w)];
}

// The unit at a column and row, or −1 between maps.
function unitAtSpot(t, x, y) {
  const column = Math.floor(x / (t.w + t.gap)), row = Math.floor(y / (t.h + t.gap));
  const dx = x - column * (t.w + t.gap), dy = y - row * (t.h + t.gap), channel = row * t.columns + column;
  const outside = x < 0 || y < 0 || dx >= t.w || dy >= t.h || column >= t.columns || channel >= t.c;
  return outside ? -1 : (channel * t.h + dy) * t.w + dx;
}

// A canvas that keeps its size keeps its memory too.
function resize(canvas, width, height) {
  if (canvas.width === width && canvas.height === height) return false;
  Object.assign(canvas, { width, height });
  return true;
}

// Draw a step's values on its canvas. `colourOf(channel)` gives each map's function from number to pixel.
function paintTiles(canvas, values, t, colourOf) {
  const context = canvas.getContext("2d");
  if (resize(canvas, t.width, t.height) || !canvas.image) canvas.image = context.createImageData(t.width, t.height);
  const pixels = new Uint32Array(canvas.image.data.buffer);
  for (let channel = 0, at = 0; channel < t.c; channel++) {
    const colour = colourOf(channel);
    let start = Math.floor(channel / t.columns) * (t.h + t.gap) * t.width + (channel % t.columns) * (t.w + t.gap);
    for (let y = 0; y < t.h; y++, start += t.width)
      for (let x = 0; x < t.w; x++) pixels[start + x] = colour(values[at++]);
  }
  context.putImageData(canvas.image, 0, 0);
}

// A layer's maps with a transparent sheet above for what is pointed at.
function tilesView(shape, label, on, first = 0) {
  const canvas = make("canvas", { className: "values" }), over = make("canvas", { className: "over" });
  const properties = { className: "tiles", tabIndex: 0, role: "application", "aria-label": label };
  const element = make("div", properties, canvas, over);
  let t = tiling(shape, 600), cursor = first, touched = false, marked = false, fitted = -1;
  const unitOf = (event) => {
    const box = canvas.getBoundingClientRect(), zoom = box.width / t.width;
    return unitAtSpot(t, Math.floor((event.clientX - box.left) / zoom), Math.floor((event.clientY - box.top) / zoom));
  };
  const go = (at, act) => at >= 0 && act((cursor = at));
  element.onpointermove = (event) => go(unitOf(event), on.point);
  element.onpointerleave = () => on.leave();
  element.onpointerdown = () => (touched = true);
  element.onclick = (event) => go(unitOf(event), on.choose);
  element.onfocus = () => !touched && on.point(cursor);
  element.onblur = () => ((touched = false), on.leave());
  element.onkeydown = (event) => {
    if (event.key === "Enter") on.choose(cursor);
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = spotOf(t, cursor), next = (k) => unitAtSpot(t, x + k * step[0], y + k * step[1]);
    go(next(1) < 0 ? next(1 + t.gap) : next(1), on.point); // over the line between two maps
  };
  return {
    element,
    paint(values, colourOf, width, zoom = null) {
      if (width !== fitted) {
        t = { ...tiling(shape, zoom ? Infinity : width), ...(zoom && { zoom }) };
        fitted = width;
        for (const sheet of [canvas, over]) {
          sheet.style.width = `${t.width * t.zoom}px`;
          sheet.style.height = `${t.height * t.zoom}px`;
        }
        const dense = t.zoom * (window.devicePixelRatio || 1);
        resize(over, Math.round(t.width * dense), Math.round(t.height * dense));
      }
      paintTiles(canvas, values, t, colourOf);
    },
    // boxes: [{at, to, strong}], each around the units from `at` to `to` of one map
    mark(boxes) {
      if (!boxes.length && !marked) return;
      const pen = over.getContext("2d"), zoom = over.width / t.width;
      pen.clearRect(0, 0, over.width, over.height);
      marked = boxes.length > 0;
      for (const { at, to = at, strong } of boxes) {
        const [x, y] = spotOf(t, at), [x2, y2] = spotOf(t, to), w = (x2 - x + 1) * zoom, h = (y2 - y + 1) * zoom;
        for (const [style, thick] of [["#fff", strong ? 5 : 3], [strong ? "#00795a" : "#1d2433", strong ? 2.5 : 1.2]]) {
          pen.strokeStyle = style;
          pen.lineWidth = thick;
          pen.strokeRect(x * zoom - 0.5, y * zoom - 0.5, w + 1, h + 1);
        }
      }
    },
  };
}

// A legend: a colour bar with its ends, and what shares it.
function writeLegend(element, { low, high }, text) {
  const bar = make("i", { className: low < 0 ? "scale signed" : "scale" });
  element.replaceChildren(short(low), bar, ...[short(high), text].map((said) => make("span", {}, said)));
}

// ── tables ──

// Numbers in a grid, coloured on a scale; `onpick(i)` makes those of them buttons for which `at[i]` is a unit.
function numberGrid(title, values, w, colour, at = null, onpick = null) {
  const body = make("tbody");
  for (let y = 0; y < values.length / w; y++) {
    const row = make("tr");
    for (let i = y * w; i < (y + 1) * w; i++) {
      const text = minus(values[i].toFixed(2)).replace(/^−?0\.00$/, "0"); // as many digits as there is room for
      const cell = tinted(make("td", { title: String(values[i]) }), colour(values[i]));
      if (!onpick) cell.append(text);
      else if (at[i] < 0) cell.append(make("span", { title: words.border }, "·"));
      else cell.append(button(text, () => onpick(at[i])));
      row.append(cell);
    }
    body.append(row);
  }
  return make("table", { className: `grid w${Math.min(w, 6)}` }, make("caption", {}, title), body);
}

// What one channel gives to a sum: patch, kernel and products, value by value.
function groupDetails(group, running, name, inkOf, onpick, open) {
  const summary = make("summary", {}, make("span", {}, name), make("b", {}, short(group.sum, 3)),
    make("span", {}, short(running, 3)));
  const details = make("details", { open }, summary);
  const fill = () => {
    if (!details.open || details.childElementCount > 1) return;
    const { patch, kernel, products, at, w } = group;
    const [p, k, m] = [patch, kernel, products].map((values) => inkOf(scaleOver([values])));
    details.append(make("div", { className: `grids w${Math.min(w, 6)}` },
      numberGrid(words.patch, patch, w, p, at, onpick), make("span", { className: "sign" }, "×"),
      numberGrid(words.kernel, kernel, w, k), make("span", { className: "sign" }, "="),
      numberGrid(words.product, products, w, m)));
  };
  details.ontoggle = fill;
  fill();
  return details;
}

// A weighted sum, heaviest first, with its running sum, the bias and the total.
function sumView(account, inkOf, nameOf, onpick, limit, onall) {
  const order = [...account.groups].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
  const single = order[0].patch.length === 1, view = make("div", { className: "sum" });
  const count = account.groups.reduce((n, group) => n + group.products.length, 0);
  const line = (name, sum, running) => make("p", { className: "line" }, make("span", {}, name),
    make("b", {}, sum), make("span", {}, running));
  view.append(make("p", {}, say(words.products, { n: count })), line("", "", words.running));
  let running = 0;
  order.slice(0, limit).forEach((group, i) => {
    running += group.sum;
    const name = nameOf(group);
    if (!single) return view.append(groupDetails(group, running, name, inkOf, onpick, i === 0));
    const text = `${name}  ${short(group.patch[0], 3)} × ${short(group.kernel[0], 3)}`;
    return view.append(line(button(text, () => onpick(group.at[0])), short(group.sum, 3), short(running, 3)));
  });
  if (order.length > limit) {
    const rest = order.slice(limit).reduce((sum, group) => sum + group.sum, 0);
    running += rest;
    view.append(line(say(words.others, { n: order.length - limit }), short(rest, 3), short(running, 3)),
      button(say(words.all, { n: order.length }), onall));
  }
  view.append(line(words.bias, short(account.bias, 3), short(running + account.bias, 3)));
  view.append(line(words.total, "", short(account.total, 5)));
  return view;
}

// One line of arithmetic for the layers that are not sums.
function formulaOf(account) {
  const { form, kind, value, x, window, divisor } = account, s = (v) => short(v, 4);
  if (form === "affine" && kind === "Normalise")
    return say(words.normalise, { x: s(x), mean: s(account.mean), sd: s(account.sd), value: s(value) });
  if (form === "affine") {
    const { mean, sd, weight, bias } = account;
    const values = { x: s(x), mean: s(mean), sd: s(sd), weight: s(weight), bias: s(bias), value: s(value) };
    return say(words.affine, values);
  }
  if (kind === "ReLU") return say(account.open ? words.open_ : words.shut, { x: s(x), value: s(value) });
  if (form === "gate") return say(words.gate, { kind: words.kinds[kind], x: s(x), value: s(value) });
  if (form === "max" || form === "mean") return say(words[form], { n: divisor || window.length, value: s(value) });
  if (form.includes("softmax")) return say(words[form], { x: s(x), sum: s(account.sum), value: s(value) });
  return say(words.move, { x: s(x) });
}

// The values under the window of a pool, each a button, the winner marked.
function windowView(account, inkOf, onpick) {
  const colour = inkOf(scaleOver([account.window.map(({ value }) => value)]));
  const cells = account.window.map(({ at, value }) => {
    const won = account.form === "max" && at === account.winner;
    return tinted(button(short(value) + (won ? " ✓" : ""), () => onpick(at)), colour(value));
  });
  return make("div", { className: "window" }, ...cells);
}
