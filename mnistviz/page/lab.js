// The lab: one drawing or digit, one pass of the network, and everything on the page shown from them.

const $ = (id) => document.getElementById(id);
const MEGAPIXELS = 16, ROWS = 8; // the largest picture that is read; sums shown before "all"

// How sure an answer is, by the rule of `handwriting.how_sure`: its probability, and how much ink there is.
function howSure(pixels, probabilities) {
  const best = Math.max(...probabilities), share = pixels.reduce((a, b) => a + b) / pixels.length;
  if (!(best >= 0.8 && share >= 0.02 && share <= 0.32)) return "unread";
  return best >= 0.99 ? "sure" : best >= 0.9 ? "fairly" : "unsure";
}

function startLab() {
  const data = JSON.parse($("network").textContent);
  const trained = makeNetwork(data, floatsOf(data.floats)), digits = digitsOf(data.digits);
  const reference = floatsOf(data.reference), inkOf = inks(data.colours), paper = new Float32Array(SIDE * SIDE);
  const grey = () => (v) => (0xff000000 | (Math.round(Math.min(1, Math.max(0, v)) * 255) * 0x10101)) >>> 0;
  const state = { net: trained, pixels: paper, reason: "empty", edits: [], scope: "layer", trail: [],
    path: null, pointed: null, pass: null, plain: null, limit: ROWS, stages: [] };

  // ── small helpers ──
  const digitStep = () => ({ name: words.digit, kind: "", shape: [1, SIDE, SIDE], values: state.pixels });
  const stepOf = (i) => (i < 0 ? digitStep() : state.pass.steps[i]);
  const unitName = (i, at) => `${stepOf(i).name}[${placeOf(stepOf(i).shape, at).join(", ")}]`;
  const chosen = () => state.trail[state.trail.length - 1];
  const settle = (i) => {
    while (i >= 0 && MOVES.includes(stepOf(i).kind)) i = stepOf(i).from; // a flatten keeps flat indices
    return i;
  };
  const largestOf = (values) => values.reduce((best, v, i) => (v > values[best] ? i : best), 0);
  const pixelText = (at) => {
    const [, y, x] = placeOf([1, SIDE, SIDE], at);
    return say(words.pixel, { y, x, value: short(state.pixels[at], 4) });
  };
  const kindOf = ({ kind, settings }) => say(words.kinds[kind], { size: sizes(settings.kernel_size || []) });

  // Work through n items in slices, so that the page stays alive; a later job of the same name replaces this one.
  const jobs = {};
  function slowly(name, n, work, after) {
    const mine = (jobs[name] = {});
    let i = 0;
    const slice = () => {
      for (const end = performance.now() + 14; jobs[name] === mine && i < n && performance.now() < end; i++) work(i);
      if (jobs[name] !== mine) return;
      after(i, n);
      if (i < n) setTimeout(slice);
    };
    setTimeout(slice);
  }

  // ── what is read ──
  const raised = (image) => {
    try {
      return { ...readInk(image), reason: null };
    } catch (error) {
      if (!error.reason) throw error;
      return { pixels: paper, stages: [], reason: error.reason };
    }
  };
  function show(read) {
    $("trouble").textContent = "";
    Object.assign(state, { stages: [], ...read });
    update();
  }
  const read = (strokes) => raised(pad.image(strokes));
  let frame = 0; // at most one reading between two pictures of the screen
  const pad = makePad($("pad"), {
    label: words.pad,
    hint: words.padHint,
    onchange() {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => show(read()));
    },
    onend: () => strokesChanged(), // which needs the pad
  });

  // ── one pass, and everything that shows it ──
  function update() {
    state.pass = forward(state.net, state.pixels, state.edits);
    state.plain = state.edits.length ? forward(state.net, state.pixels) : state.pass;
    paint();
    showAnswer();
    if (state.path) state.path = pathNow();
    showLedger();
    mark();
    readByCheckpoints();
  }

  const pathNow = () => winningPath(state.net, state.pass, largestOf(state.pass.logits));

  const chances = ({ logits }) => Array.from(state.net.layers.at(-1).kind === "Softmax" ? logits : softmax(logits));
  function answer() {
    const probabilities = chances(state.pass), digit = largestOf(probabilities);
    const reason = state.reason || (probabilities.some(Number.isNaN) ? "notNumbers" : null);
    const sure = reason ? "unread" : howSure(state.pixels, probabilities);
    if (sure !== "unread") return { digit, probabilities, sure, reason };
    return { digit: null, probabilities: reason ? null : probabilities, sure, reason: reason || "strange" };
  }

  const bars = [...Array(10).keys()].map((digit) => {
    const bar = make("i"), ghost = make("i", { className: "ghost" }), share = make("span");
    const rail = make("div", { className: "rail" }, bar, ghost);
    $("bars").append(make("li", {}, make("b", {}, String(digit)), rail, share));
    return { bar, ghost, share };
  });
  function showAnswer() {
    const { digit, probabilities, sure, reason } = answer(), plain = chances(state.plain);
    const second = probabilities && largestOf(probabilities.map((p, i) => (i === digit ? 0 : p)));
    const why = reason === "empty" ? words.nothing : `${words.unread} ${words.reasons[reason]}`;
    const text = reason ? why : say(words[sure], { second }), compared = state.edits.length && !state.reason;
    $("digit").textContent = digit ?? "?";
    $("sure").textContent = text;
    bars.forEach(({ bar, ghost, share }, i) => {
      bar.style.width = `${100 * (probabilities ? probabilities[i] : 0)}%`;
      bar.classList.toggle("best", i === digit);
      ghost.hidden = !compared || plain[i] < 0.005;
      ghost.style.left = `${100 * plain[i]}%`;
      share.textContent = probabilities ? percent(probabilities[i]) : "–";
    });
    const first = largestOf(plain), untouched = { digit: first, percent: percent(plain[first]) };
    $("before").textContent = compared ? say(words.before, untouched) : "";
    clearTimeout(jobs.speak);
    const answered = { digit, sure: text, percent: percent((probabilities || plain)[digit]) };
    const spoken = digit === null ? text : say(words.spoken, answered);
    jobs.speak = setTimeout(() => $("spoken").textContent !== spoken && ($("spoken").textContent = spoken), 500);
  }

  // ── maps ──
  const views = new Map(); // step → {view, bar}
  const point = (unit) => ((state.pointed = unit), mark());
  const listen = (step, first = 0, trail = () => []) => ({
    point: (at) => point({ step, at: first + at }),
    leave: () => point(null),
    choose: (at) => choose(step, first + at, trail()),
  });
  function build() {
    const input = tilesView([1, SIDE, SIDE], words.digitAbout, listen(-1));
    $("input").append(input.element, make("p", { className: "note" }, words.digitAbout));
    views.set(-1, { view: input });
    forward(trained, paper).steps.forEach((step, i) => {
      const kind = kindOf(data.layers[i]), shape = sizes(step.shape);
      const title = make("h3", {}, step.name, make("small", {}, ` ${kind}, ${shape}`));
      const section = make("section", { className: "layer" }, title);
      $("layers").append(section);
      const passes = `: ${words.passes[step.kind] || words.passes.other}`;
      if (MOVES.includes(step.kind)) return title.append(make("small", {}, passes));
      const view = tilesView(step.shape, say(words.layer, { name: step.name, kind, shape }), listen(i));
      const bar = make("p", { className: "legend" });
      section.append(bar, view.element);
      return views.set(i, { view, bar });
    });
  }
  let width = 600; // of the maps' column; asked for only when the window changes
  function paint() {
    const steps = state.pass.steps, shared = state.scope === "network";
    const all = shared ? scaleOver(steps.map((step) => step.values)) : null;
    for (const [i, { view, bar }] of views) {
      if (i < 0) {
        view.paint(state.pixels, grey, 0, 8);
        continue;
      }
      const { values, shape } = steps[i], size = values.length / shape[0];
      const scale = all || scaleOver([values]);
      const own = state.scope === "map" && shape.length === 3;
      const colour = inkOf(scale);
      const ofMap = (c) => inkOf(scaleOver([values.subarray(c * size, (c + 1) * size)]));
      view.paint(values, own ? ofMap : () => colour, width);
      const name = words.scopes[own || shared ? state.scope : "layer"];
      if (own) bar.textContent = words.each;
      else writeLegend(bar, scale, name);
    }
    if ($("stages").open) paintStages();
  }
  function paintStages() {
    const figures = state.stages.map(({ name, width, height, values }) => {
      const canvas = make("canvas", { role: "img", "aria-label": words.stageNames[name] });
      paintTiles(canvas, values, { c: 1, h: height, w: width, gap: 0, columns: 1, width, height }, grey);
      return make("figure", {}, canvas, make("figcaption", {}, words.stageNames[name]));
    });
    $("stages").lastElementChild.replaceChildren(...figures);
  }

  // ── what is pointed at lights up everywhere ──
  function mark() {
    const boxes = new Map([...views.keys()].map((i) => [i, []]));
    for (const { step, at } of state.path || []) if (boxes.has(step)) boxes.get(step).push({ at, strong: true });
    const unit = state.pointed || chosen(), add = (i, box) => boxes.has(i) && boxes.get(i).push(box);
    let text = "";
    if (unit) {
      const { step, at } = unit;
      add(step, { at, strong: true });
      if (step >= 0) {
        const account = explain(state.net, state.pass, step, at), source = settle(state.pass.steps[step].from);
        const groups = account.groups || [{ at: account.inputs.map((input) => input.at) }];
        for (const { at: under } of groups.length <= 256 ? groups : []) {
          const inside = under.filter((i) => i >= 0);
          if (inside.length) add(source, { at: inside[0], to: inside[inside.length - 1] });
        }
        if (account.form === "max") add(source, { at: account.winner, strong: true });
        const field = fieldOf(state.net, state.pass, step, at), value = short(account.value, 4);
        if (field) add(-1, { at: field.top * SIDE + field.left, to: field.bottom * SIDE + field.right });
        text = say(field ? words.pointed : words.blind, { name: unitName(step, at), value, ...field });
      } else text = pixelText(at);
    }
    if ($("pointed").textContent !== text) $("pointed").textContent = text; // said aloud only when it is new
    for (const [i, { view }] of views) view.mark(boxes.get(i));
  }

  // ── the ledger of one value, down to the pixels ──
  function choose(step, at, trail) {
    Object.assign(state, { trail: [...trail, { step, at }], limit: ROWS, pointed: null });
    document.body.classList.add("open");
    showLedger(true);
    mark();
  }
  // New parts for a piece of the ledger: a focus in it goes to what now stands at its place.
  function renew(id, ...parts) {
    const stops = () => [...$(id).querySelectorAll("button, input, summary, .tiles")];
    const at = stops().indexOf(document.activeElement);
    $(id).replaceChildren(...parts);
    if (at >= 0) (stops()[at] || $("ledger-title")).focus({ preventScroll: true });
  }
  const down = (from) => (at) => choose(settle(stepOf(from).from), at, state.trail);
  function showLedger(fresh = false) {
    const links = state.trail.flatMap(({ step, at }, k) => {
      const link = button(unitName(step, at), () => choose(step, at, state.trail.slice(0, k)));
      if (k === state.trail.length - 1) link.setAttribute("aria-current", "true");
      return [link, " ← "];
    });
    renew("trail", ...links.slice(0, -1));
    renew("account", ...(chosen() ? accounts(chosen()) : [make("p", {}, words.ledgerHelp)]));
    if (fresh) operatingTable();
    else tally();
  }
  function accounts({ step, at }) {
    const shown = [], { shape } = stepOf(step), place = placeOf(shape, at);
    if (place.length === 3 && shape[2] > 1) shown.push(enlarged(step, place, shape));
    for (let i = step, unit = at; i >= 0; i = settle(stepOf(i).from)) {
      const account = explain(state.net, state.pass, i, unit), edit = editOf(i, placeOf(stepOf(i).shape, unit)[0]);
      shown.push(make("h3", {}, `${unitName(i, unit)} = ${short(account.value, 4)}`));
      if (edit) shown.push(make("p", { className: "edit" }, editText(edit)));
      if (account.form === "sum") {
        const source = settle(stepOf(i).from), single = account.groups[0].patch.length === 1;
        const nameOf = ({ at: [unit], channel }) => (single ? unitName(source, unit) : say(words.channel, { channel }));
        const all = () => ((state.limit = Infinity), showLedger());
        shown.push(sumView(account, inkOf, nameOf, down(i), state.limit, all));
        break;
      }
      const bare = edit ? forward(state.net, state.pixels, state.edits.filter((e) => e !== edit)) : state.pass;
      shown.push(make("p", { className: "formula" }, formulaOf(explain(state.net, bare, i, unit))));
      if (account.window) shown.push(windowView(account, inkOf, down(i)));
      if (account.window || account.form.includes("softmax")) break;
      unit = account.inputs[0].at;
    }
    if (step < 0) shown.push(make("p", {}, pixelText(at)));
    return shown;
  }
  function enlarged(step, [channel], [, h, w]) {
    const first = channel * h * w, { name, values } = stepOf(step);
    const on = listen(step, first, () => state.trail.slice(0, -1));
    const view = tilesView([1, h, w], say(words.map, { channel, name }), on, chosen().at - first);
    const map = values.subarray(first, first + h * w), whole = state.pass.steps.map((other) => other.values);
    const scale = scaleOver({ map: [map], layer: [values], network: whole }[state.scope]);
    view.paint(map, step < 0 ? grey : () => inkOf(scale), 0, Math.min(16, Math.floor(252 / w)));
    view.mark([{ at: chosen().at - first, strong: true }]);
    return make("div", {}, make("p", { className: "note" }, say(words.map, { channel, name })), view.element);
  }

  // ── the operating table ──
  const editOf = (step, channel) => state.edits.find((edit) => edit.step === step && edit.channel === channel);
  const editText = ({ step, channel, scale, shift }) =>
    say(words.edited, { name: stepOf(step).name, channel, scale: short(scale), shift: short(shift) });
  function operate(edits) {
    state.edits = edits;
    update();
    strokesChanged($("moment").value);
    operatingTable();
  }
  function operatingTable() {
    const back = (e) => button(words.takeBack, () => operate(state.edits.filter((other) => other !== e)));
    const list = make("ul", {}, ...state.edits.map((e) => make("li", {}, `${editText(e)} `, back(e))));
    const all = state.edits.length > 1 ? button(words.takeAllBack, () => operate([])) : "";
    const form = chosen() && chosen().step >= 0 ? channelForm(chosen()) : [];
    renew("table", ...form, ...(state.edits.length ? [list, all, make("p", { id: "accuracy", role: "status" })] : []));
    return tally();
  }
  function channelForm({ step, at }) {
    const channel = placeOf(stepOf(step).shape, at)[0], edit = editOf(step, channel) || { scale: 1, shift: 0 };
    const set = (scale, shift) => operate([...state.edits.filter((e) => e !== edit), { step, channel, scale, shift }]);
    const field = (name, value) => make("input", { type: "text", size: 5, value, "aria-label": words[name] });
    const fields = [field("times", edit.scale), field("plus", edit.shift)], wrong = make("p", { role: "alert" });
    const silence = button(words.silence, () => set(0, 0)), apply = make("button", {}, words.apply);
    const form = make("form", { className: "row" }, silence, "×", fields[0], "+", fields[1], apply);
    form.onsubmit = (event) => {
      event.preventDefault();
      const numbers = fields.map(({ value }) => Number(value.trim().replace("−", "-").replace(",", ".") || NaN));
      if (numbers.every(Number.isFinite)) set(...numbers);
      else wrong.textContent = words.notNumber;
    };
    return [make("h3", {}, say(words.table, { channel, name: stepOf(step).name })), form, wrong];
  }
  // Count the embedded digits that are read right, operated and untouched.
  let counted = null;
  function tally() {
    const { net, edits } = state, labels = data.digits.labels;
    if (counted && counted.net === net && counted.edits === edits) return sayTally();
    if (!edits.length) return (counted = jobs.tally = null);
    counted = { net, edits, now: 0, n: 0 };
    const right = (pass, i) => Number(largestOf(pass.logits) === labels[i]);
    net.right = net.right || [];
    return slowly("tally", labels.length, (i) => {
      if (net.right[i] === undefined) net.right[i] = right(forward(net, digits[i]), i);
      counted.now += right(forward(net, digits[i], edits), i);
      counted.n = i + 1;
    }, sayTally);
  }
  function sayTally() {
    const before = counted.net.right.slice(0, counted.n).reduce((a, b) => a + b, 0);
    if ($("accuracy")) $("accuracy").textContent = say(words.now, { now: counted.now, counted: counted.n, before });
  }

  // ── stroke by stroke ──
  function strokeLedger(strokes = pad.strokes) {
    const logits = (pixels) => Array.from(forward(state.net, pixels, state.edits).logits), base = logits(paper);
    let last = base;
    const added = strokes.map((_, k) => {
      const now = logits(read(strokes.slice(0, k + 1)).pixels), gain = now.map((v, i) => v - last[i]);
      last = now;
      return gain;
    });
    return { base, added, total: last };
  }
  function strokesChanged(at = null) {
    const strokes = pad.strokes, points = strokes.reduce((n, stroke) => n + stroke.length, 0);
    $("strokes").hidden = !strokes.length;
    $("strokes-about").textContent = strokes.length ? words.strokesAbout : words.strokesHelp;
    if (!strokes.length) return ((jobs.along = null), $("added").replaceChildren());
    const { base, added, total } = strokeLedger(), columns = [base, ...added], colour = inkOf(scaleOver(added));
    const head = [words.score, words.empty, ...added.map((_, i) => say(words.strokeNumber, { i: i + 1 })), words.sum];
    const rows = total.map((sum, digit) => {
      const cells = columns.map((column, i) => {
        const cell = make("td", {}, short(column[digit]));
        return i ? tinted(cell, colour(column[digit])) : cell;
      });
      const last = make("td", { className: "total" }, short(sum));
      return make("tr", {}, make("th", { scope: "row" }, String(digit)), ...cells, last);
    });
    const names = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
    $("added").replaceChildren(make("thead", {}, names), make("tbody", {}, ...rows));
    $("moment").max = points;
    sayMoment(($("moment").value = at ?? points));
    const n = Math.min(24, points), runs = [];
    slowly("along", n, (k) => {
      const { pixels, reason } = read(firstPoints(strokes, Math.ceil(((k + 1) / n) * points)));
      const digit = reason ? "–" : largestOf(forward(state.net, pixels, state.edits).logits);
      if (digit !== runs[runs.length - 1]) runs.push(digit);
    }, () => ($("answers").textContent = `${words.answersAlong} ${runs.join(" → ")}`));
  }
  const sayMoment = (i) => ($("moment-says").textContent = say(words.moment, { i, n: $("moment").max }));
  $("moment").oninput = () => {
    const strokes = pad.upTo(Number($("moment").value));
    sayMoment($("moment").value);
    show(read(strokes));
  };

  // ── the weights kept during training ──
  const lapse = data.lapse.map(({ label, floats }) => ({ label, floats, net: null }));
  const netAt = (i) => (lapse[i].net = lapse[i].net || makeNetwork(data, floatsOf(lapse[i].floats)));
  function readByCheckpoints() {
    if (!lapse.length) return;
    const answers = [], last = state.reason ? 0 : lapse.length, pixels = state.pixels;
    const now = Number($("checkpoint").value), pair = (digit, i) => make(i === now ? "b" : "span", {}, `${digit} `);
    slowly("lapse", last, (i) => answers.push(largestOf(forward(netAt(i), pixels).logits)),
      () => $("checkpoints").replaceChildren(words.checkpoints, " ", ...answers.map(pair)));
  }
  const sayCheckpoint = (i) =>
    ($("checkpoint-says").textContent = say(words.checkpoint, { label: lapse[i].label, i: i + 1, n: lapse.length }));

  // ── controls ──
  for (const [name, hues] of Object.entries(data.colours).slice(0, 2))
    document.documentElement.style.setProperty(`--${name}`, `linear-gradient(to right, ${hues.join()})`);
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words[element.dataset.word];
  const parameters = data.parameters.toLocaleString("en"), layers = data.layers.length;
  $("about").textContent = say(words.about, { parameters, layers });
  $("trail").setAttribute("aria-label", words.trail);
  $("samples").setAttribute("aria-label", words.samples);
  $("added").parentElement.setAttribute("aria-label", words.added);
  for (const [value, text] of Object.entries(words.scopes)) $("scope").append(make("option", { value }, text));
  $("scope").value = state.scope;
  $("scope").onchange = () => ((state.scope = $("scope").value), paint(), showLedger(), mark());
  $("undo").onclick = () => pad.undo();
  $("clear").onclick = () => clear();
  $("open").onclick = () => $("file").click();
  $("stages").ontoggle = paintStages;
  const shut = () => {
    const from = $("ledger").contains(document.activeElement) && state.trail[0];
    document.body.classList.remove("open");
    state.trail = [];
    showLedger(true);
    mark();
    if (from) views.get(from.step).view.element.focus();
  };
  $("close").onclick = shut;
  const togglePath = () => {
    state.path = state.path ? null : pathNow();
    $("path").ariaPressed = String(state.path !== null);
    mark();
  };
  $("path").onclick = togglePath;
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^w$/i.test(event.key) && event.target.closest("#pad, #maps")) togglePath();
    if (event.key === "Escape") shut();
  });
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const otherTheme = () => ((root.dataset.theme || (dark.matches && "dark")) === "dark" ? "light" : "dark");
  const sayTheme = () => ($("theme").textContent = words[otherTheme()]);
  $("theme").onclick = () => ((root.dataset.theme = otherTheme()), sayTheme());
  dark.onchange = sayTheme;
  sayTheme();
  const measure = () => (width = $("layers").clientWidth - 2);
  addEventListener("resize", () => (measure(), paint(), mark()));
  $("file").onchange = () => {
    const [file] = $("file").files, trouble = (text) => ($("trouble").textContent = text);
    if (file) openPicture(file).then(trouble, () => trouble(words.badPicture));
    $("file").value = "";
  };
  async function openPicture(file) {
    const picture = await createImageBitmap(file), { width, height } = picture, size = (width * height) / 1e6;
    if (size > MEGAPIXELS) return say(words.bigPicture, { size: Number(size.toFixed(1)), limit: MEGAPIXELS });
    const context = make("canvas", { width, height }).getContext("2d");
    context.drawImage(picture, 0, 0);
    instead(raised(context.getImageData(0, 0, width, height)));
    return "";
  }
  function instead(read) { // of the drawing, which undo brings back
    pad.clear();
    cancelAnimationFrame(frame);
    show(read);
  }
  const clear = () => instead({ pixels: paper, reason: "empty" });
  const take = (i) => instead({ pixels: digits[i], reason: null });
  let deal = 0;
  function dealSamples() {
    const { labels } = data.digits, buttons = [];
    for (let digit = 0; digit < 10; digit++) {
      const of = labels.map((label, i) => [label, i]).filter(([label]) => label === digit);
      const [, i] = of[deal % of.length], canvas = make("canvas", { "aria-hidden": "true" });
      paintTiles(canvas, digits[i], { c: 1, h: SIDE, w: SIDE, gap: 0, columns: 1, width: SIDE, height: SIDE }, grey);
      const name = say(words.sample, { digit });
      buttons.push(button(canvas, () => take(i), { className: "sample", title: name, "aria-label": name }));
    }
    const more = button(words.more, () => {
      deal += 1;
      dealSamples();
      $("samples").lastChild.focus();
    });
    $("samples").replaceChildren(make("p", {}, words.samples), ...buttons, more);
  }

  build();
  measure();
  dealSamples();
  if (lapse.length) {
    $("training").hidden = false;
    $("checkpoint").max = $("checkpoint").value = lapse.length - 1;
    sayCheckpoint(lapse.length - 1);
    $("checkpoint").oninput = () => {
      const i = Number($("checkpoint").value);
      sayCheckpoint(i);
      state.net = netAt(i);
      operate(state.edits);
    };
  }
  take(0);

  // ── the proof ──
  $("proof").textContent = words.checking;
  let largest = 0;
  trained.right = [];
  slowly("proof", data.digits.labels.length, (i) => {
    const { logits } = forward(trained, digits[i]);
    logits.forEach((v, k) => (largest = Math.max(largest, Math.abs(v - reference[10 * i + k]))));
    trained.right[i] = Number(largestOf(logits) === data.digits.labels[i]);
  }, (n, all) => {
    const text = say(largest < 1e-3 ? words.proof : words.disproof, { difference: short(largest), n });
    if (n === all) $("proof").textContent = text;
  });

  return {
    pad, take, clear, answer, update, operate, choose, strokes: strokeLedger, largest: () => largest,
    forward: (pixels, edits) => forward(trained, Float32Array.from(pixels), edits),
    read: (image) => readInk(image).pixels,
    draw: (strokes) => (pad.set(strokes), cancelAnimationFrame(frame), show(read())),
  };
}

try {
  window.lab = startLab();
} catch (error) {
  document.querySelector("main").prepend(make("p", { role: "alert" }, say(words.broken, { error: error.message })));
  throw error;
}
