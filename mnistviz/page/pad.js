// A drawing pad: strokes are lists of points [x, y], each from 0 to 1, in the order in which they were drawn.
//
//   const pad = makePad(document.querySelector("canvas"), { onend: pad => read(pad.image()) });
//   pad.set([[[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]]);   // a seven
//
// Mouse, finger and pen draw. So does the keyboard: arrow keys move (two at once go slanting), space puts the pen down
// or lifts it, Backspace takes the last stroke away, Delete all of them. The canvas needs a width from its style.

const PAD = { pen: 1 / 14, image: 280 };       // the ink's width as a share of the side; the side of what is read
const TINTS = { ink: "#16161d", pale: "#dcdce2", paper: "#ffffff", cursor: "#0b63c5", hint: "#6a6a72" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function inked(context, strokes, side, colour = TINTS.ink) {
  // a curve through the middles of neighbouring points; a stroke of one point is a dot
  Object.assign(context, { strokeStyle: colour, lineWidth: PAD.pen * side, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    points.slice(1, -1).forEach(([x, y], i) =>
      context.quadraticCurveTo(x, y, (x + points[i + 2][0]) / 2, (y + points[i + 2][1]) / 2));
    context.lineTo(points[points.length - 1][0] + 0.01, points[points.length - 1][1]); // a dot is a line too
    context.stroke();
  }
}

function firstPoints(strokes, count) {
  // The drawing as it was after so many points: firstPoints([[a, b], [c]], 1) is [[a]].
  const starts = strokes.map((_, i) => strokes.slice(0, i).flat().length);
  return strokes.map((stroke, i) => stroke.slice(0, Math.max(0, count - starts[i]))).filter(part => part.length);
}

function makePad(canvas, { onchange = () => {}, onend = () => {}, label = "Drawing pad", hint = "" } = {}) {
  const context = canvas.getContext("2d");
  const sheet = Object.assign(document.createElement("canvas"), { width: PAD.image, height: PAD.image });
  const off = sheet.getContext("2d", { willReadFrequently: true });
  const held = new Set();                      // arrow keys that are down
  let strokes = [], before = [];               // before: what clear() took away, for undo()
  let current = null, cursor = [0.5, 0.5];     // the stroke being drawn, and where the keyboard's pen is
  let shown = Infinity;                        // how many points are shown as drawn; later ones are pale
  let finger = null, keys = false;             // the pointer that draws (a second is ignored); is it the keyboard?

  function draw() {
    const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    context.fillStyle = TINTS.paper;
    context.fillRect(0, 0, side, side);
    if (shown < Infinity) inked(context, strokes, side, TINTS.pale);
    inked(context, firstPoints(strokes, shown), side);
    canvas.style.outline = keys ? "" : "none";  // browsers ring what a script gave the focus, after a mouse too
    canvas.ariaLabel = typeof label === "function" ? label(current !== null) : label;
    if (!strokes.length && !keys) {
      Object.assign(context, { fillStyle: TINTS.hint, font: `${side / 16}px system-ui`, textAlign: "center" });
      context.fillText(hint, side / 2, side / 2, side * 0.9);
    }
    if (!keys) return;
    context.beginPath();
    context.arc(cursor[0] * side, cursor[1] * side, PAD.pen * side / 2, 0, 7);
    Object.assign(context, { strokeStyle: TINTS.cursor, fillStyle: TINTS.cursor, lineWidth: side / 120 });
    context.stroke();
    if (current) context.fill();
  }

  function changed(ended) {
    draw();
    onchange(pad);
    if (ended) onend(pad);
  }

  function begin(point) {
    lift();
    shown = Infinity;
    strokes.push(current = [cursor = point]);
    changed(false);
  }

  function move(point) {
    if (Math.hypot(point[0] - cursor[0], point[1] - cursor[1]) > 0.003) current.push(cursor = point);
  }

  function lift() {
    if (!current) return;
    current = null;
    changed(true);
  }

  function within(value) {                     // the ink stays whole on the paper; four decimals are plenty
    return Math.round(Math.min(1 - PAD.pen / 2, Math.max(PAD.pen / 2, value)) * 1e4) / 1e4;
  }

  function placeOf(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  canvas.addEventListener("pointerdown", event => {
    if (finger !== null || event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(finger = event.pointerId);
    keys = false;
    begin(placeOf(event));
  });
  canvas.addEventListener("pointermove", event => {
    if (event.pointerId !== finger || !current) return;
    const passed = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    (passed.length ? passed : [event]).forEach(each => move(placeOf(each)));
    changed(false);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
    canvas.addEventListener(end, event => {
      if (event.pointerId !== finger) return;
      finger = null;
      lift();
    });
  canvas.addEventListener("keydown", event => {
    const { key } = event;
    if (ARROWS[key] && !event.altKey && !event.ctrlKey && !event.metaKey) {
      keys = held.add(key).size > 0;
      const way = [...held].reduce(([x, y], name) => [x + ARROWS[name][0], y + ARROWS[name][1]], [0, 0]);
      const next = cursor.map((value, i) => within(value + way[i] * (event.shiftKey ? 0.1 : 0.025)));
      if (current) move(next); else cursor = next;
      current ? changed(false) : draw();
    } else if (key === " ") {
      keys = true;
      if (!event.repeat) current ? lift() : begin(cursor);
    } else if (key === "Backspace" || (key === "z" && (event.ctrlKey || event.metaKey))) pad.undo();
    else if (key === "Delete") pad.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();                   // a notebook has commands of its own on these keys
  });
  canvas.addEventListener("keyup", event => held.delete(event.key));
  canvas.addEventListener("focus", () => { keys = canvas.matches(":focus-visible"); draw(); });
  canvas.addEventListener("blur", () => { held.clear(); keys = false; lift(); draw(); });

  function replace(drawing, earlier = []) {
    [current, shown, before, strokes] = [null, Infinity, earlier, drawing];
    changed(true);
  }

  const pad = {
    get strokes() { return strokes; },
    clear() { replace([], strokes.length ? strokes : before); },
    undo() { strokes.length ? replace(strokes.slice(0, -1), before) : before.length && replace(before); },
    set(drawing) { replace(drawing.filter(stroke => stroke.length).map(stroke => stroke.map(([x, y]) => [+x, +y]))); },
    upTo(points) { shown = points; draw(); return firstPoints(strokes, points); },
    image(drawing = strokes) {
      off.fillStyle = TINTS.paper;
      off.fillRect(0, 0, PAD.image, PAD.image);
      inked(off, drawing, PAD.image);
      return off.getImageData(0, 0, PAD.image, PAD.image);
    },
  };
  Object.assign(canvas, { tabIndex: 0, role: "application" });
  Object.assign(canvas.style, { aspectRatio: "1", touchAction: "none", userSelect: "none" });
  new ResizeObserver(draw).observe(canvas);
  addEventListener("resize", draw);            // another zoom or another screen
  return draw(), pad;
}
