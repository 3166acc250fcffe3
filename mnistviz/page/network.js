// The network itself: every layer as plain loops over typed arrays. Each step is kept in float32, as PyTorch keeps
// it; sums are made in double precision.

// `floatsOf(data.floats)`: what is embedded in base64, as bytes and as float32 numbers.
function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function floatsOf(text) {
  const view = new DataView(bytesOf(text).buffer), floats = new Float32Array(view.byteLength / 4);
  for (let i = 0; i < floats.length; i++) floats[i] = view.getFloat32(4 * i, true);
  return floats;
}

// The embedded digits, 784 pixels from 0 to 1 each: of a run of zeros only one is stored, and how many there are.
function digitsOf({labels, pixels}) {
  const packed = bytesOf(pixels), all = new Float32Array(784 * labels.length);
  for (let from = 0, to = 0; from < packed.length; from++) {
    if (packed[from]) all[to++] = packed[from] / 255;
    else to += packed[++from];
  }
  return labels.map((_, i) => all.subarray(784 * i, 784 * (i + 1)));
}

// `makeNetwork(data, floats)`: the layers with their weights, and for each that slides a window where it looks.
function makeNetwork(data, floats) {
  let shape = [1, 28, 28];
  const layers = data.layers.map((layer) => {
    const made = {...layer, from: shape, ...layer.settings};
    for (const [name, {shape, at}] of Object.entries(layer.weights)) {
      made[name] = floats.subarray(at, at + shape.reduce((a, b) => a * b, 1));
    }
    if (/Conv|Pool/.test(layer.kind)) made.lines = [0, 1].map((axis) => linesUnder(made, axis));
    shape = layer.shape;
    return made;
  });
  return {layers};
}

const range = (n) => Array.from({length: n}, (_, i) => i);

// For each row (axis 0) or column (axis 1) of a layer's output those of its input under the window; -1 is border.
function linesUnder(layer, axis) {
  const size = layer.from[1 + axis], places = layer.shape[1 + axis];
  if (layer.kind === "AdaptiveAvgPool2d") {
    return range(places).map((i) => {
      const first = Math.floor(i * size / places);
      return range(Math.ceil((i + 1) * size / places) - first).map((k) => first + k);
    });
  }
  const gap = layer.dilation ? layer.dilation[axis] : 1, before = layer.padding[axis][0];
  return range(places).map((i) => range(layer.kernel_size[axis]).map(
    (k) => lineAt(i * layer.stride[axis] + k * gap - before, size, layer.padding_mode)));
}

// Which line of a map stands at a place that may lie beyond its border.
function lineAt(at, size, mode) {
  if (at >= 0 && at < size) return at;
  if (mode === "reflect") return at < 0 ? -at : 2 * size - 2 - at;
  if (mode === "replicate") return at < 0 ? 0 : size - 1;
  if (mode === "circular") return (at + size) % size;
  return -1;
}

// `forward(net, pixels)`: every step of a pass. An edit `{step, channel, scale, shift}` turns that channel's outputs
// v into v * scale + shift.
function forward(net, pixels, edits = []) {
  const steps = [];
  for (let i = 0; i < net.layers.length; i++) {
    const layer = net.layers[i], {name, kind, shape} = layer;
    const values = RUN[kind](layer, i ? steps[i - 1].values : pixels);
    for (const edit of edits) if (edit.step === i) applyEdit(values, shape, edit);
    steps.push({name, kind, shape, values, from: i - 1});
  }
  return {pixels, steps, edits, logits: steps[steps.length - 1].values};
}

function applyEdit(values, shape, {channel, scale, shift}) {
  const size = shape.length === 3 ? shape[1] * shape[2] : 1;
  for (let i = channel * size; i < (channel + 1) * size; i++) {
    values[i] = scale === 0 ? shift : values[i] * scale + shift; // silent even where the value is not a number
  }
}

function softmax(scores) {
  const log = logSumExp(scores);
  return Float64Array.from(scores, (score) => Math.exp(score - log));
}

function logSumExp(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b));
  return largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0));
}

// ── layers ────────────────────────────────────────────────────────────────────────────────────────────────

// Each tap of a kernel is one sweep over a whole map, border included: its weight times what it meets is added to the
// sums of all places at once. The common 3×3 kernel takes its nine taps in one sweep.
function convolution(layer, x) {
  const [outs, rows, columns] = layer.shape, into = layer.from[0] / layer.groups, {weight, bias} = layer;
  const [kh, kw] = layer.kernel_size, [sy, sx] = layer.stride, [dy, dx] = layer.dilation;
  const {field, sums, width, size} = withBorder(layer, x), out = new Float32Array(outs * rows * columns);
  const dense = sy === 1 && sx === 1, nine = dense && kh === 3 && kw === 3 && dy === 1 && dx === 1;
  const length = dense ? (rows - 1) * width + columns : columns;
  for (let o = 0, w = 0, to = 0; o < outs; o++) {
    sums.fill(bias ? bias[o] : 0);
    const first = Math.floor(o * layer.groups / outs) * into;
    for (let c = first; c < first + into; c++) {
      if (nine) sweepNine(sums, length, field, c * size, width, weight, w);
      for (let tap = nine ? 9 : 0; tap < kh * kw; tap++) {
        const at = c * size + Math.floor(tap / kw) * dy * width + tap % kw * dx;
        for (let y = 0; y < (dense ? 1 : rows); y++) {
          sweep(sums, y * width, length, field, at + y * sy * width, sx, weight[w + tap]);
        }
      }
      w += kh * kw;
    }
    for (let y = 0; y < rows; y++) for (let i = 0; i < columns; i++) out[to++] = sums[y * width + i];
  }
  return out;
}

// The input with its border, in double precision, and room for the sums of one map: both are kept for the next pass.
function withBorder(layer, x) {
  const [channels, height, width] = layer.from;
  if (!layer.room) {
    const [ys, xs] = layer.padding.map(([before, after], axis) => range(layer.from[1 + axis] + before + after).map(
      (i) => lineAt(i - before, layer.from[1 + axis], layer.padding_mode)));
    const source = Int32Array.from(ys.flatMap((y) => xs.map((k) => y < 0 || k < 0 ? -1 : y * width + k)));
    const field = new Float64Array(channels * source.length), sums = new Float64Array(layer.shape[1] * xs.length);
    layer.room = {source, field, sums, width: xs.length, size: source.length};
  }
  const {source, field, size} = layer.room;
  for (let c = 0, to = 0, start = 0; c < channels; c++, start += height * width) {
    for (let i = 0; i < size; i++) field[to++] = source[i] < 0 ? 0 : x[start + source[i]];
  }
  return layer.room;
}

function sweep(sums, to, length, x, from, step, weight) {
  for (let end = to + length; to < end; to++, from += step) sums[to] += weight * x[from];
}

// Three rows at once; each value is read once for the three columns that meet it.
function sweepNine(sums, length, x, p, width, w, k) {
  const w0 = w[k], w1 = w[k + 1], w2 = w[k + 2], w3 = w[k + 3], w4 = w[k + 4], w5 = w[k + 5];
  const w6 = w[k + 6], w7 = w[k + 7], w8 = w[k + 8], q = p + width, r = q + width;
  let a0 = x[p], a1 = x[p + 1], b0 = x[q], b1 = x[q + 1], c0 = x[r], c1 = x[r + 1];
  for (let i = 0; i < length; i++) {
    const a2 = x[p + i + 2], b2 = x[q + i + 2], c2 = x[r + i + 2];
    sums[i] += w0 * a0 + w1 * a1 + w2 * a2 + w3 * b0 + w4 * b1 + w5 * b2 + w6 * c0 + w7 * c1 + w8 * c2;
    a0 = a1; a1 = a2; b0 = b1; b1 = b2; c0 = c1; c1 = c2;
  }
}

function linear({weight, bias, shape: [outs]}, x) {
  const out = new Float32Array(outs), n = x.length;
  for (let o = 0, w = 0; o < outs; o++) {
    let sum = bias ? bias[o] : 0;
    for (let i = 0; i < n; i++) sum += weight[w++] * x[i];
    out[o] = sum;
  }
  return out;
}

// What a pool makes of each window: `take(x, start of the channel, width, rows, columns, place)`.
function overWindows(layer, x, take) {
  const [channels, height, width] = layer.from, [, rows, columns] = layer.shape;
  const [ys, xs] = layer.lines.map((axis) => axis.map((line) => line.filter((i) => i >= 0)));
  const out = new Float32Array(channels * rows * columns);
  for (let c = 0, at = 0; c < channels; c++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) out[at++] = take(x, c * height * width, width, ys[i], xs[j], i, j);
    }
  }
  return out;
}

function maxPool(layer, x) {
  return overWindows(layer, x, (x, start, width, ys, xs) => {
    let largest = -Infinity;
    for (let i = 0; i < ys.length; i++) {
      for (let j = 0, row = start + ys[i] * width; j < xs.length; j++) largest = Math.max(largest, x[row + xs[j]]);
    }
    return largest;
  });
}

function averagePool(layer, x) {
  return overWindows(layer, x, (x, start, width, ys, xs, i, j) => {
    let sum = 0;
    for (const y of ys) for (const k of xs) sum += x[start + y * width + k];
    return sum / divisorOf(layer, i, j);
  });
}

// By how much the sum of a window is divided: by what it covers, its border included unless that is not wanted.
function divisorOf(layer, row, column) {
  if (layer.divisor_override) return layer.divisor_override;
  const [height, width] = [row, column].map((place, axis) => {
    const inside = layer.lines[axis][place].filter((line) => line >= 0).length;
    if (!layer.count_include_pad) return inside;
    const [before, after] = layer.padding[axis], start = place * layer.stride[axis] - before;
    return Math.min(start + layer.kernel_size[axis], layer.from[1 + axis] + after) - start;
  });
  return height * width;
}

function batchNorm(layer, x) {
  const size = layer.shape.length === 3 ? layer.shape[1] * layer.shape[2] : 1, out = new Float32Array(x.length);
  for (let c = 0, at = 0; c < layer.shape[0]; c++) {
    const {mean, sd, weight, bias} = normOf(layer, c);
    for (let i = 0; i < size; i++, at++) out[at] = (x[at] - mean) / sd * weight + bias;
  }
  return out;
}

// Mean, standard deviation, weight and bias of one channel: its value is (x - mean) / sd * weight + bias.
function normOf(layer, c) {
  if (layer.kind === "Normalise") return {mean: layer.mean, sd: layer.sd, weight: 1, bias: 0};
  const {running_mean, running_var, weight, bias} = layer, sd = Math.sqrt(running_var[c] + layer.eps);
  return {mean: running_mean[c], sd, weight: weight ? weight[c] : 1, bias: bias ? bias[c] : 0};
}

const each = (f) => (layer, x) => x.map((v) => f(v, layer));
const same = (layer, x) => x.slice();
const RUN = {
  Normalise: each((v, {mean, sd}) => (v - mean) / sd),
  Conv2d: convolution, Linear: linear, BatchNorm2d: batchNorm, BatchNorm1d: batchNorm,
  MaxPool2d: maxPool, AvgPool2d: averagePool, AdaptiveAvgPool2d: averagePool,
  Flatten: same, Dropout: same, Dropout2d: same,
  ReLU: each((v) => v < 0 ? 0 : v),
  LeakyReLU: each((v, {negative_slope}) => v > 0 ? v : v * negative_slope),
  Sigmoid: each((v) => 1 / (1 + Math.exp(-v))),
  Tanh: each(Math.tanh),
  Softmax: (layer, x) => Float32Array.from(softmax(x)),
  LogSoftmax: (layer, x) => {
    const log = logSumExp(x);
    return x.map((score) => score - log);
  },
};
