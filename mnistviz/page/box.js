// A pad with its buttons, for places that have no page of their own: a notebook, the app.

function padBox(parent, { strokes, stored = false, onend, label, hint, undo = "Undo", clear = "Clear" }) {
  // A stored drawing is shown pale; the first stroke of the reader's own takes its place.
  const [box, canvas, row] = ["div", "canvas", "div"].map(name => document.createElement(name));
  let ready = false;                           // putting up what was drawn before is no news
  const pad = makePad(canvas, { label, hint, onend: () => { if (ready && !stored) onend(pad); } });
  const fresh = ({ button, key }) => {
    if (button !== 0 && ![" ", "Backspace", "Delete"].includes(key)) return;
    if (stored) pad.set([]);
    stored = false;
  };
  for (const event of ["pointerdown", "keydown"]) canvas.addEventListener(event, fresh, true);
  for (const [name, act] of [[undo, pad.undo], [clear, pad.clear]]) {
    const button = Object.assign(document.createElement("button"), { textContent: name, type: "button" });
    button.addEventListener("click", () => { stored = false; act(); });
    row.append(button);
  }
  box.className = "pad-box";
  box.append(canvas, row);
  parent.append(box);
  pad.set(strokes);
  if (stored) pad.upTo(0);
  ready = true;
  return pad;
}
