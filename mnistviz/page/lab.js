const data = JSON.parse(document.getElementById("network").textContent);
const net = makeNetwork(data, floatsOf(data.floats));

window.lab = {
  data, net,
  forward: (pixels, edits) => forward(net, Float32Array.from(pixels), edits),
  read: (imageData) => readInk(imageData).pixels,
  explain: (pixels, step, at) => explain(net, forward(net, Float32Array.from(pixels)), step, at),
};
