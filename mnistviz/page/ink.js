// From a picture to a digit as MNIST has them, step for step as `mnistviz.read_digit` does it: the ink on light or dark
// paper is cut out, fitted into 20×20 pixels, and its centre of mass put in the middle of 28×28.

const BOX = 20, SIDE = 28, MIDDLE = 14;

// `readInk(imageData)`: the 784 pixels, 0 to 1, and what each stage made. An error has a `reason`: there is nothing on
// the paper ("empty"), hardly anything ("faint"), or a speck too small to have a form ("tiny").
function readInk({data, width, height}) {
  const grey = greyOf(data), ink = inkOf(grey, width, height), cut = cutOut(ink, width, height), small = fitted(cut);
  const pixels = centred(small), last = {width: SIDE, height: SIDE, values: pixels}, whole = {width, height};
  for (let i = 0; i < grey.length; i++) grey[i] /= 255;
  const stages = {grey: {...whole, values: grey}, ink: {...whole, values: ink}, cut, small, centred: last};
  return {pixels, stages: Object.entries(stages).map(([name, stage]) => ({name, ...stage}))};
}

const unreadable = (reason) => Object.assign(new Error(`no digit found: ${reason}`), {reason});

// Grey levels over white paper, or over black if there are light strokes on a page that is mostly transparent.
function greyOf(data) {
  const grey = new Float32Array(data.length / 4);
  let light = 0, opaque = 0;
  for (let i = 0; i < data.length; i += 4) {
    grey[i / 4] = levelOf(data[i], data[i + 1], data[i + 2]);
    light += grey[i / 4] * data[i + 3];
    opaque += data[i + 3];
  }
  const paper = light > 128 * opaque && opaque < 128 * grey.length ? 0 : 255;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] === 255) continue;
    const [red, green, blue] = [0, 1, 2].map((k) => over(data[i + k], data[i + 3], paper));
    grey[i / 4] = levelOf(red, green, blue);
  }
  return grey;
}

const levelOf = (red, green, blue) => 19595 * red + 38470 * green + 7471 * blue + 32768 >> 16;

function over(level, alpha, paper) { // rounded as Pillow rounds
  const sum = (level * alpha + paper * (255 - alpha) + 128) << 7;
  return ((sum >> 8) + sum >> 8) >> 7;
}

// How much ink each pixel holds, 0 to 1: the border is taken for paper, what differs from it for ink.
function inkOf(grey, width, height) {
  const n = grey.length, border = new Uint32Array(256), counts = new Uint32Array(1021), ink = new Float32Array(n);
  const mark = (i) => border[grey[i]]++;
  for (let x = 0; x < width; x++) mark(x), mark(n - width + x);
  for (let y = 0; y < height; y++) mark(y * width), mark((y + 1) * width - 1);
  const paper = quantile(border, 2 * (width + height), 0.5);
  let sum = 0, most = -255;
  for (let i = 0; i < n; i++) sum += grey[i];
  const sign = paper > sum / n ? -1 : 1;
  for (let i = 0; i < n; i++) {
    const away = sign * (grey[i] - paper);
    counts[2 * away + 510]++;
    if (away > most) most = away;
  }
  const usual = n < 500 ? most : (quantile(counts, n, 0.998) - 510) / 2; // a few bright specks are no ink
  const strongest = Math.fround(Math.max(usual, most * 0.5)), least = Math.fround(0.2);
  if (strongest < 25) throw unreadable(strongest > 8 ? "faint" : "empty");
  for (let i = 0; i < n; i++) {
    const share = Math.fround(sign * (grey[i] - paper) / strongest);
    ink[i] = share < least ? 0 : Math.min(share, 1); // less is paper grain and shadows
  }
  return ink;
}

// The value below which a share of n numbers lies, interpolated; `counts` says how often each of them occurs.
function quantile(counts, n, share) {
  const place = share * (n - 1), below = Math.floor(place), at = (index) => {
    let slot = 0;
    for (let seen = counts[0]; seen <= index; seen += counts[slot]) slot++;
    return slot;
  };
  return at(below) + (place - below) * (at(Math.min(below + 1, n - 1)) - at(below));
}

function cutOut(ink, width, height) {
  let top = height, bottom = 0, left = width, right = 0;
  for (let i = 0; i < ink.length; i++) {
    if (ink[i] <= Math.fround(0.3)) continue;
    bottom = Math.floor(i / width);
    top = Math.min(top, bottom);
    left = Math.min(left, i % width);
    right = Math.max(right, i % width);
  }
  const w = right - left + 1, h = bottom - top + 1, values = new Float32Array(w * h);
  if (Math.max(w, h) < 4) throw unreadable("tiny");
  for (let y = 0; y < h; y++) values.set(ink.subarray((top + y) * width + left, (top + y) * width + left + w), y * w);
  return {width: w, height: h, values};
}

// Fitted into 20×20: each new pixel is a mean of the old ones below it, weighed by a box or by a tent.
function fitted({width, height, values}) {
  const scale = BOX / Math.max(width, height), sides = [width, height].map((side) => side * scale);
  const [w, h] = sides.map((side) => Math.max(1, toEven(side)));
  const small = resized(resized(values, width, height, w, scale), height, w, h, scale);
  const most = small.reduce((a, b) => Math.max(a, b));
  return {width: w, height: h, values: small.map((value) => Math.fround(value / most))};
}

// The rows of a map brought to another length, as Pillow does it, and turned into columns.
function resized(values, width, height, size, scale) {
  const step = width / size, spread = Math.max(step, 1), reach = scale < 0.5 ? 0.5 * spread : spread;
  const weigh = scale < 0.5 ? (x) => x > -0.5 && x <= 0.5 ? 1 : 0 : (x) => Math.max(1 - Math.abs(x), 0);
  const out = new Float32Array(size * height);
  for (let x = 0; x < size; x++) {
    const centre = (x + 0.5) * step, first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const weights = range(Math.min(Math.trunc(centre + reach + 0.5), width) - first).map(
      (k) => weigh((k + first - centre + 0.5) / spread));
    const sum = weights.reduce((a, b) => a + b);
    for (let y = 0; y < height; y++) {
      let value = 0;
      for (let k = 0; k < weights.length; k++) value += values[y * width + first + k] * (weights[k] / sum);
      out[x * height + y] = value;
    }
  }
  return out;
}

// `toEven(2.5)` is 2 and `toEven(3.5)` is 4: halves go to the even neighbour, as in Python.
function toEven(value) {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

function centred({width, height, values}) {
  let mass = 0, down = 0, across = 0;
  values.forEach((ink, i) => {
    mass += ink;
    down += ink * Math.floor(i / width);
    across += ink * (i % width);
  });
  const top = Math.min(Math.max(toEven(MIDDLE - down / mass), 0), SIDE - height);
  const left = Math.min(Math.max(toEven(MIDDLE - across / mass), 0), SIDE - width);
  const pixels = new Float32Array(SIDE * SIDE);
  values.forEach((ink, i) => {
    pixels[(top + Math.floor(i / width)) * SIDE + left + i % width] = toEven(Math.fround(ink * 255)) / 255;
  });
  return pixels;
}
