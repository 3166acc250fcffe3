// Starts a deck: linear keys, room for every slide, films from their first frame.
"use strict";

// A slide that is too full (outputs of your own run may be) gets smaller type until it fits.
function fit(slide) {
  const size = Number(slide.dataset.size || 30);
  slide.style.fontSize = "";
  for (let scale = 0.95; scale > 0.4 && tooFull(slide); scale -= 0.05) slide.style.fontSize = `${size * scale}px`;
}

function tooFull(slide) {
  return slide.scrollHeight > slide.clientHeight + 1 || slide.scrollWidth > slide.clientWidth + 1;
}

Reveal.on("ready", ({ currentSlide }) => fit(currentSlide));
Reveal.on("pdf-ready", () => document.querySelectorAll("section[data-layout]:not(.stack)").forEach(fit));
Reveal.on("slidechanged", ({ currentSlide }) => {
  fit(currentSlide);
  for (const film of currentSlide.querySelectorAll("img[data-film]")) {
    const source = film.getAttribute("src");
    film.src = "";
    film.src = source;
  }
});

Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  center: false,
  display: "flex",
  hash: true,
  slideNumber: "c/t",
  controls: false,
  navigationMode: "linear",
  keyboard: { 36: () => Reveal.slide(0, 0) }, // Home
  transition: "none",
  pdfMaxPagesPerSlide: 1,
  pdfSeparateFragments: false,
  plugins: [RevealNotes],
});
