// Where each number comes from: the inputs that made it, with their weights, and the way from there to the digit.

// `placeOf([2, 7, 7], 50)` is `[1, 0, 1]`: channel, row and column of a flattened value; of a flat layer its number.
function placeOf(shape, at) {
  if (shape.length === 1) return [at];
  const [, height, width] = shape;
  return [Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width];
}

// `explain(net, pass, step, at)`: one value taken apart. Every form has `inputs`, each with the weight that this value
// gives it: of a sum the weight itself, of a curve its slope there.
function explain(net, pass, step, at) {
  const layer = net.layers[step], place = placeOf(layer.shape, at), x = inputOf(pass, step);
  const {name, kind} = layer, value = pass.steps[step].values[at];
  return {layer: name, kind, step, at, place, value, ...FORMS[kind]({net, layer, step, at, place, x})};
}

function inputOf(pass, step) {
  return step ? pass.steps[step - 1].values : pass.pixels;
}

const input = (x, at, weight) => ({at, value: x[at], weight, product: x[at] * weight});
const total = (numbers) => numbers.reduce((a, b) => a + b, 0);

// ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────

function convolved({layer, place: [out, row, column], x}) {
  const [channels, height, width] = layer.from, [h, w] = layer.kernel_size, into = channels / layer.groups;
  const first = Math.floor(out * layer.groups / layer.shape[0]) * into, taps = underWindow(layer, row, column);
  return summed(layer, out, range(into).map((i) => {
    const at = taps.map((tap) => tap < 0 ? -1 : tap + (first + i) * height * width);
    return groupOf(first + i, at, slab(layer.weight, out * into + i, h * w), h, w, x);
  }), x);
}

// Where on one map of its input a window looks, row by row; -1 is border.
function underWindow(layer, row, column) {
  const columns = layer.lines[1][column], width = layer.from[2];
  return layer.lines[0][row].flatMap((y) => columns.map((k) => y < 0 || k < 0 ? -1 : y * width + k));
}

function weighed({net, layer, step, place: [out], x}) {
  const [channels, h, w] = mapsBehind(net, step) || [x.length, 1, 1], size = h * w;
  return summed(layer, out, range(channels).map((c) => {
    return groupOf(c, range(size).map((i) => c * size + i), slab(layer.weight, out * channels + c, size), h, w, x);
  }), x);
}

const slab = (weight, i, size) => weight.subarray(i * size, (i + 1) * size);

// The maps that were laid end to end for a linear layer, if each number that it reads is still of one of them.
function mapsBehind(net, step) {
  for (let i = step - 1; i >= 0 && !/Linear|Softmax/.test(net.layers[i].kind); i--) {
    if (net.layers[i].kind === "Flatten" && net.layers[i].from.length === 3) return net.layers[i].from;
  }
  return null;
}

function groupOf(channel, at, kernel, h, w, x) {
  const patch = Float32Array.from(at, (i) => i < 0 ? 0 : x[i]);
  const products = Float64Array.from(patch, (value, i) => value * kernel[i]);
  return {channel, at, patch, kernel, products, sum: total(products), h, w};
}

function summed(layer, out, groups, x) {
  const weights = new Map(), bias = layer.bias ? layer.bias[out] : 0; // where a border repeats it, a pixel has several
  for (const {at, kernel} of groups) {
    at.forEach((i, k) => i >= 0 && weights.set(i, (weights.get(i) || 0) + kernel[k]));
  }
  const inputs = Array.from(weights, ([at, weight]) => input(x, at, weight));
  return {form: "sum", groups, bias, total: total(groups.map(({sum}) => sum)) + bias, inputs};
}

function affine({layer, place: [channel], at, x}) {
  const norm = normOf(layer, channel);
  return {form: "affine", x: x[at], ...norm, inputs: [input(x, at, norm.weight / norm.sd)]};
}

function windowOf({layer, place: [channel, row, column], x}) {
  const start = channel * layer.from[1] * layer.from[2];
  return underWindow(layer, row, column).filter((i) => i >= 0).map((i) => ({at: start + i, value: x[start + i]}));
}

function largest(unit) {
  const window = windowOf(unit), winner = window.reduce((a, b) => b.value > a.value ? b : a).at; // of equals the first
  return {form: "max", window, winner, inputs: window.map(({at}) => input(unit.x, at, at === winner ? 1 : 0))};
}

function mean(unit) {
  const window = windowOf(unit), divisor = divisorOf(unit.layer, unit.place[1], unit.place[2]);
  return {form: "mean", window, divisor, inputs: window.map(({at}) => input(unit.x, at, 1 / divisor))};
}

function gate(slope) {
  return ({layer, at, x}) => {
    const weight = slope(x[at], RUN[layer.kind](layer, x.slice(at, at + 1))[0], layer);
    return {form: "gate", x: x[at], open: !/ReLU/.test(layer.kind) || x[at] > 0, inputs: [input(x, at, weight)]};
  };
}

function shares(form, slope) {
  return ({at, x}) => {
    const p = softmax(x), inputs = range(x.length).map((i) => input(x, i, slope(p, at, i)));
    return {form, x: x[at], sum: total(Array.from(x, Math.exp)), inputs};
  };
}

const move = ({at, x}) => ({form: "move", x: x[at], inputs: [input(x, at, 1)]});
const FORMS = {
  Conv2d: convolved, Linear: weighed, Normalise: affine, BatchNorm1d: affine, BatchNorm2d: affine,
  MaxPool2d: largest, AvgPool2d: mean, AdaptiveAvgPool2d: mean, Flatten: move, Dropout: move, Dropout2d: move,
  ReLU: gate((x) => x > 0 ? 1 : 0),
  LeakyReLU: gate((x, y, {negative_slope}) => x > 0 ? 1 : negative_slope),
  Sigmoid: gate((x, y) => y * (1 - y)),
  Tanh: gate((x, y) => 1 - y * y),
  Softmax: shares("softmax", (p, i, j) => p[i] * ((i === j) - p[j])),
  LogSoftmax: shares("logsoftmax", (p, i, j) => (i === j) - p[j]),
};

// ── ways back ─────────────────────────────────────────────────────────────────────────────────────────────

// The smallest box of the digit around all that can change a value; null if it sees only border.
function fieldOf(net, pass, step, at) {
  const linesAt = (shape) => placeOf(shape, at).slice(1).map((line) => [line]);
  let lines = step < 0 ? linesAt([1, 28, 28]) : linesAt(net.layers[step].shape);
  for (let i = step; i >= 0; i--) {
    const {from, shape, lines: under} = net.layers[i];
    if (from.length === 3 && shape.length === 1) lines = i === step ? linesAt(from) : from.slice(1).map(range);
    else if (under) lines = lines.map((seen, axis) => linesBehind(under[axis], seen));
  }
  if (!lines.every((seen) => seen.length)) return null;
  const [[top, bottom], [left, right]] = lines.map((seen) => [Math.min(...seen), Math.max(...seen)]);
  return {top, bottom, left, right};
}

function linesBehind(under, seen) {
  return [...new Set(seen.flatMap((line) => under[line]))].filter((line) => line >= 0);
}

// From a digit's score back to one pixel, by what pushed it up most: the largest product at a weighted layer, the
// winner at a pool, and through a gate if it is open. `slope` is how strongly the score rises with each value.
function winningPath(net, pass, digit) {
  let at = digit, slope = 1;
  const path = [{step: net.layers.length - 1, at, value: pass.logits[at], slope}];
  for (let step = net.layers.length - 1; step >= 0; step--) {
    if (net.layers[step].kind !== "LogSoftmax") { // which only shifts scores
      const reached = explain(net, pass, step, at).inputs.filter(({weight}) => weight !== 0);
      const push = ({weight, value}) => weight * slope * value;
      const most = reached.reduce((a, b) => a && push(a) >= push(b) ? a : b, null);
      if (!most && /Conv|Linear/.test(net.layers[step].kind)) break; // all its weights are 0
      slope *= most ? most.weight : 0;
      at = most ? most.at : at;
    }
    path.push({step: step - 1, at, value: inputOf(pass, step)[at], slope});
  }
  return path;
}
