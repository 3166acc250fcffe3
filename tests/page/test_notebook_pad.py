"""The pad: what is drawn on it in a browser, what Python makes of the same strokes, and its place in a notebook."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import refused
from strokes import RECORDED, drag

import mnistviz as mv
from mnistviz.page.drawing import PAGE, SEVEN, digit_of, drawn

Opened = Callable[..., Any]
BODY = "<!doctype html><style>body { margin: 0; } canvas { display: block; width: %dpx; }</style><canvas></canvas>"
MAKE = """
window.said = [];
window.pad = makePad(document.querySelector("canvas"), {
  onchange: () => said.push("change"), onend: () => said.push("end"), label: down => down ? "down" : "up",
});
"""


@pytest.fixture(scope="module")
def blank(browser) -> Opened:
    """`blank(width, scale)`: a tab with nothing but a pad of that width, on a screen of that density."""

    def opened(width: int = 280, scale: float = 1, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": 640, "height": 640}, device_scale_factor=scale, **options)
        page.set_content(BODY % width)
        page.add_script_tag(content=(PAGE / "pad.js").read_text() + MAKE)
        return page

    return opened


def image(page: Any, code: str = "pad.image()") -> np.ndarray:
    """As letters, since numbers one by one take seconds."""
    letters = "Array.from(data, (value) => String.fromCharCode(value)).join('')"
    text = page.evaluate(f"(({{data}}) => btoa({letters}))({code})")
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(280, 280, 4)


def test_a_drawing_is_the_same_picture_on_every_screen_and_in_python(blank):
    screens = {(width, scale): blank(width, scale) for width, scale in ((280, 1), (150, 2), (612, 1.5))}
    for (width, scale), page in screens.items():
        assert page.evaluate("document.querySelector('canvas').width") == round(width * scale)
    for strokes in RECORDED.values():
        pictures = []
        for page in screens.values():
            page.evaluate("strokes => pad.set(strokes)", strokes)
            pictures.append(image(page))
        assert all(np.array_equal(pictures[0], other) for other in pictures[1:])
        assert (pictures[0][..., 3] == 255).all()
        away = np.abs(np.asarray(drawn(strokes)).astype(int) - pictures[0][..., :3])
        assert away.mean() < 0.6  # grey levels; the edges are softened differently
        assert (away.max(2) > 128).mean() < 1e-3


def test_mouse_touch_undo_clear_and_scrubbing(blank):
    page = blank(has_touch=True)
    drag(page, RECORDED[4])
    drawing = page.evaluate("pad.strokes")
    assert [len(stroke) for stroke in drawing] == [len(stroke) for stroke in RECORDED[4]]
    assert np.allclose(np.concatenate(drawing), np.concatenate(RECORDED[4]), atol=0.005)
    assert page.evaluate("said.filter(word => word === 'end').length") == 2
    whole = image(page)
    assert page.evaluate("pad.upTo(3)") == [drawing[0][:3]]
    assert np.array_equal(image(page), whole)  # what is read does not change by looking back
    assert np.array_equal(image(page, "pad.image([pad.strokes[0]])"), image(page, "(pad.undo(), pad.image())"))
    page.evaluate("pad.clear()")
    assert (image(page)[..., :3] == 255).all()
    page.evaluate("pad.undo()")  # a clear can be taken back
    assert page.evaluate("pad.strokes") == drawing[:1]
    touch = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [(0, 0)]), ("touchMove", [(140, 200)]), ("touchEnd", [])):
        fingers = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    begin, *_, end = page.evaluate("pad.strokes[1]")
    assert begin == pytest.approx([1 / 28] * 2, abs=1e-3)  # half a pen from the edge: all ink is on the paper
    assert end == pytest.approx([0.5, 200 / 280], abs=0.005)


def test_a_digit_is_drawn_by_keyboard_alone_and_read(blank, reference):
    page = blank()
    page.keyboard.press("Tab")
    name = "document.querySelector('canvas').ariaLabel"
    assert page.evaluate(name) == "up"
    for key, times in {"ArrowUp": 11, "ArrowLeft": 7, " ": 1, "ArrowRight": 14}.items():
        for _ in range(times):
            page.keyboard.press(key)
    assert page.evaluate(name) == "down"
    page.keyboard.down("ArrowLeft")
    for i in range(22):  # two arrows at once go slanting, one alone goes straight down
        page.keyboard.down("ArrowDown")
        if i % 3 == 2:
            page.keyboard.up("ArrowLeft")
        elif i % 3 == 0:
            page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    page.keyboard.up("ArrowDown")
    page.keyboard.press(" ")
    strokes = page.evaluate("pad.strokes")
    assert len(strokes) == 1
    assert mv.predict(reference["light"], digit_of(strokes)).argmax() == 7
    page.keyboard.press("Backspace")
    assert page.evaluate("pad.strokes") == []


def test_the_recorded_drawings_are_read_rightly(reference):
    for digit, strokes in RECORDED.items():
        assert mv.predict(reference["light"], digit_of(strokes)).argmax() == digit
    assert mv.predict(reference["light"], mv.pad().digit).argmax() == 7


def test_the_digit_of_a_pad_is_what_read_digit_makes_of_its_file(tmp_path):
    pad = mv.pad()
    assert pad.digit.source == "the stored drawing"
    pad.strokes, pad.stored = RECORDED[3], False
    assert pad.digit.source == "your drawing"
    assert np.array_equal(pad.digit.images, mv.read_digit(pad.save(tmp_path / "three.png")).images)
    with (tmp_path / "three.png").open("rb") as file:
        assert np.array_equal(pad.digit.images, mv.read_digit(file).images)


def test_what_is_stored_of_a_pad_is_a_plain_picture_with_words():
    data, about = mv.pad()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "stored drawing" in about["image/png"]["alt"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    told = mv.pad().told()
    assert told._supxlabel.get_text().startswith("The stored drawing, not yours")
    assert mv.pad(RECORDED[0]).told()._supxlabel.get_text() == ""


def test_an_empty_pad_a_dot_and_nonsense_are_refused_in_words():
    refused(lambda: digit_of([]), "the pad is empty", "draw a digit")
    refused(lambda: digit_of([[(0.5, 0.5), (0.52, 0.51)]]), "this is a dot", "2% of the pad", "larger")
    for nonsense in ([[(0.5, 7)]], [[(0.1,)]], [["a"]], 3, [[(float("nan"), 0.5)]], [[(0.5, 0.5)] * 30_000]):
        refused(lambda given=nonsense: digit_of(given), "strokes", "[x, y]")


def test_the_widget_hands_over_what_is_drawn_and_nothing_of_the_stored_drawing(browser):
    page = browser.new_page()
    page.set_content("<!doctype html><main></main>")
    module, stored = str(mv.pad()._esm), {"strokes": SEVEN, "stored": True}
    page.evaluate(
        """async ([code, state]) => {
          const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
          window.state = state;
          window.saved = 0;
          const model = { get: name => state[name], set: (name, value) => { state[name] = value; },
                          save_changes: () => saved++ };
          module.default.render({ model, el: document.querySelector("main") });
        }""",
        [module, stored],
    )
    assert "stored drawing" in page.locator("main").inner_text()
    assert page.evaluate("saved") == 0
    drag(page, RECORDED[3])
    state = page.evaluate("state")
    assert (state["stored"], len(state["strokes"])) == (False, 1)
    assert len(state["strokes"][0]) == len(RECORDED[3][0])
    assert "stored drawing" not in page.locator("main").inner_text()
