"""The pad in a notebook: draw a digit, and the next cell has it."""

from pathlib import Path
from typing import Any

from PIL import Image

from mnistviz import project
from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits
from mnistviz.page.drawing import SCRIPT, SEVEN, STYLE, Strokes, digit_of, drawn
from mnistviz.show.picture import Picture, bare, page
from mnistviz.show.tiles import draw_grey

try:
    from anywidget import AnyWidget
    from traitlets import Bool, List
except ImportError as error:
    fix = 'python -m pip install "mnistviz[notebooks]"'
    raise MnistvizError("a pad in a notebook needs anywidget", fix=fix) from error

RENDER = """
export default {
  render({ model, el }) {
    const note = Object.assign(document.createElement("div"), { className: "pad-note" });
    const say = () => { note.textContent = model.get("stored") ? "The stored drawing; draw over it." : ""; };
    padBox(el, {
      strokes: model.get("strokes"),
      stored: model.get("stored"),
      label: "Drawing pad. Arrow keys move the pen, space puts it down or lifts it.",
      onend: pad => {
        model.set("strokes", pad.strokes.map(stroke => [...stroke]));
        model.set("stored", false);
        model.save_changes();
        say();
      },
    });
    say();
    el.append(note);
  },
};
"""


class Pad(AnyWidget):
    """What is drawn on it: `pad.strokes`, `pad.picture`, and `pad.digit`, ready for `predict`.

    Where nobody can draw, a page that is only read or a notebook run by a program, a stored drawing stands in.
    """

    _esm = SCRIPT + RENDER
    _css = STYLE
    strokes: Any = List().tag(sync=True)
    stored: Any = Bool().tag(sync=True)

    @property
    def picture(self) -> Image.Image:
        return drawn(self.strokes)

    @property
    def digit(self) -> Digits:
        return digit_of(self.strokes, "the stored drawing" if self.stored else "your drawing")

    def save(self, path: str | Path) -> Path:
        """`pad.save("my_digit.png")`: the drawing as a file, which `read_digit` reads to the same digit."""
        with project.atomic(path) as part:
            self.picture.save(part, "PNG")
        return Path(path)

    def told(self) -> Picture:
        """The drawing and what the network gets of it, as a plain picture: it stays where no pad can be."""
        digit = self.digit
        picture, (left, right) = page(5.2, 3.1, columns=2)
        bare(left).imshow(drawn(self.strokes, 400))
        left.spines[:].set(visible=True, color="#b0b0b0")
        left.set_title(digit.source)
        draw_grey(right, digit.images[0], "as MNIST has it: 28×28", white=255)
        words = "The stored drawing, not yours: draw on the pad, then run the next cell." if self.stored else ""
        picture.caption(words)
        return picture.told(f"A drawing pad with {digit.source}, and beside it the same digit as MNIST would have it.")

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, about = self.told()._repr_mimebundle_()
        live = super()._repr_mimebundle_(**options)
        return (live[0] if live else {}) | data, about


def pad(strokes: Strokes | None = None) -> Pad:
    """`pad = mv.pad()` in one cell, drawn on; `mv.predict(model, pad.digit)` in the next."""
    return Pad(strokes=SEVEN if strokes is None else strokes, stored=strokes is None)
