// The network itself: every layer as plain loops over typed arrays. Each step is kept in float32, as PyTorch keeps
// it; sums are made in double precision.

// `floatsOf(text)`: float32 numbers out of base64.
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
    if (shape.length === 3 && layer.shape.length === 3 && WINDOWS.has(layer.kind)) {
      made.lines = [0, 1].map((axis) => linesUnder(made, axis));
    }
    shape = layer.shape;
    return made;
  });
  return {name: data.name, layers, parameters: data.parameters};
}

const WINDOWS = new Set(["Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"]);
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
// v into v * scale + shift. With `earlier`, a pass of the same pixels, the steps before layer `from` are taken from it.
function forward(net, pixels, edits = [], from = 0, earlier = null) {
  const steps = earlier ? earlier.steps.slice(0, from) : [];
  for (let i = steps.length; i < net.layers.length; i++) {
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
  const largest = scores.reduce((a, b) => Math.max(a, b)), shares = Float64Array.from(scores, (s) => Math.exp(s - largest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

// ── layers ────────────────────────────────────────────────────────────────────────────────────────────────

function convolution(layer, x) {
  const [channels, height, width] = layer.from, [outs, rows, columns] = layer.shape;
  const {lines, weight, bias, kernel_size: [kh, kw], groups} = layer;
  const into = channels / groups, size = height * width, out = new Float32Array(outs * rows * columns);
  for (let o = 0, at = 0, w0 = 0; o < outs; o++, w0 += into * kh * kw) {
    const first = Math.floor(o * groups / outs) * into;
    for (const ys of lines[0]) {
      for (const xs of lines[1]) {
        let sum = bias ? bias[o] : 0;
        for (let c = 0, w = w0; c < into; c++) {
          for (const y of ys) {
            for (const column of xs) {
              if (y >= 0 && column >= 0) sum += weight[w] * x[(first + c) * size + y * width + column];
              w++;
            }
          }
        }
        out[at++] = sum;
      }
    }
  }
  return out;
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

// What a pool makes of each window: `put(out, at, x, channel's offset, rows, columns, divisor)`.
function overWindows(layer, x, take) {
  const [channels, height, width] = layer.from, out = new Float32Array(channels * layer.shape[1] * layer.shape[2]);
  const [rows, columns] = layer.lines.map((axis) => axis.map((line) => line.filter((i) => i >= 0)));
  for (let c = 0, at = 0; c < channels; c++) {
    rows.forEach((ys, i) => columns.forEach((xs, j) => {
      out[at++] = take(x, c * height * width, width, ys, xs, i, j);
    }));
  }
  return out;
}

function maxPool(layer, x) {
  return overWindows(layer, x, (x, start, width, ys, xs) => {
    let largest = -Infinity;
    for (const y of ys) for (const k of xs) largest = Math.max(largest, x[start + y * width + k]);
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
  const sd = Math.sqrt(layer.running_var[c] + layer.eps);
  return {mean: layer.running_mean[c], sd, weight: layer.weight?.length ? layer.weight[c] : 1, bias: layer.bias?.length ? layer.bias[c] : 0};
}

const each = (f) => (layer, x) => x.map((v) => f(v, layer));
const same = (layer, x) => x.slice();
const RUN = {
  Normalise: each((v, {mean, sd}) => (v - mean) / sd),
  Conv2d: convolution,
  BatchNorm2d: batchNorm,
  BatchNorm1d: batchNorm,
  MaxPool2d: maxPool,
  AvgPool2d: averagePool,
  AdaptiveAvgPool2d: averagePool,
  Linear: linear,
  ReLU: each((v) => v > 0 ? v : 0),
  LeakyReLU: each((v, {negative_slope}) => v > 0 ? v : v * negative_slope),
  Sigmoid: each((v) => 1 / (1 + Math.exp(-v))),
  Tanh: each(Math.tanh),
  Softmax: (layer, x) => Float32Array.from(softmax(x)),
  LogSoftmax: (layer, x) => Float32Array.from(softmax(x), Math.log),
  Flatten: same,
  Dropout: same,
  Dropout2d: same,
};
