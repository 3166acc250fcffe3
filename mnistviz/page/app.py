"""The app, top to bottom, as Streamlit runs it after every stroke: `python -m mnistviz app` opens it."""

import time
from concurrent.futures import Future
from pathlib import Path

import streamlit as st

from mnistviz.errors import MnistvizError
from mnistviz.learn.checkpoint import read_card
from mnistviz.learn.data import Digits
from mnistviz.look.arithmetic import WEIGHTED
from mnistviz.look.trace import Trace, times
from mnistviz.page import reading
from mnistviz.page.drawing import PAGE, SCRIPT, SEVEN, STYLE, digit_of, drawn
from mnistviz.show import figures

PICTURES = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
SCOPES = {"layer": "for the layer", "map": "for each map", "network": "for the whole network"}
INVITED = {
    "Draw": "With mouse, finger or pen. By keyboard: arrow keys move the pen, space puts it down and lifts it.",
    "Picture": "Hand in a picture of one digit: a photograph, a scan, a drawing; dark on light or light on dark.",
}
MOUNT = """
export default function ({ parentElement, data, setStateValue }) {
  if (parentElement.querySelector(".pad-box")) return;
  padBox(parentElement, { ...data, onend: pad => setStateValue("strokes", pad.strokes.map(stroke => [...stroke])) });
}
"""
PAD = {"label": "Drawing pad. Arrow keys move the pen, space puts it down or lifts it.", "hint": "Draw a digit, 0 to 9"}


def main() -> None:
    st.set_page_config("mnistviz", drawn(SEVEN, 64), layout="wide")
    st.html(PAGE / "app.css")
    st.title("What does the network read?")
    left, right = st.columns([2, 3], gap="large")
    with right:
        answer = st.empty()
    path = chosen()
    try:
        with left:
            digit = source()
        if path is not None and digit is not None:
            with answer:  # at once: before any figure is drawn
                trace = reading.passed(path, path.stat().st_mtime, digit.images.numpy().tobytes())
                st.html(reading.as_html(digit, trace.probabilities()[0].numpy()))
            inside(path, digit, trace)
        elif path is not None:
            answer.info(INVITED[st.session_state["way"]], icon=":material/draw:")
    except (MnistvizError, OSError) as error:
        with answer:
            say(error)


def source() -> Digits | None:
    """What is drawn on the pad, or the picture handed in; nothing if neither is a digit."""
    way = st.segmented_control(
        "Where from", list(INVITED), default="Draw", required=True, key="way", label_visibility="collapsed"
    )
    with st.container(key="draw" if way == "Draw" else "hidden"):  # the drawing stays while a picture is looked at
        pad = st.components.v2.component("pad", css=STYLE, js=SCRIPT + MOUNT)
        drawing = st.session_state.get("pad", {}).get("strokes") or []
        pad(key="pad", data=PAD | {"strokes": drawing}, on_strokes_change=lambda: None)
    if way == "Draw":
        return digit_of(drawing) if drawing else None
    about = f"A picture of one digit, up to {reading.MEGABYTES} MB and {reading.MEGAPIXELS} million pixels"
    file = st.file_uploader(about, PICTURES, max_upload_size=reading.MEGABYTES, key="picture")
    return None if file is None else reading.handed_in(file)


def chosen() -> Path | None:
    """The weights that read, and what their card says of them."""
    there = reading.checkpoints()
    with st.sidebar:
        name = st.selectbox("Network", list(there), key="network", help="All weights below models/, dated ones too.")
        if not there:
            st.error("There are no weights below models/. Train some: python -m mnistviz train light")
            return None
        try:
            card = read_card(there[name])
            metrics = card.get("metrics", {})
            facts = [f"architecture **{card['architecture']}**", f"{card.get('parameters', 0):,} parameters"]
            facts += [f"{metrics['val_accuracy']:.2%} right in validation"] if "val_accuracy" in metrics else []
            facts += [f"saved {card['saved'][:10]}"] if "saved" in card else []
            st.caption("  \n".join(facts))
        except (MnistvizError, TypeError, AttributeError):
            st.caption("Its card cannot be read.")
    return there[name]


def inside(path: Path, digit: Digits, trace: Trace) -> None:
    """How it came to that: only what is looked at is drawn."""
    parts = {"Maps": maps, "One value": one_value, "Nearest digits": nearest, "Film": film}
    for tab, draw in zip(st.tabs(list(parts), on_change="rerun", key="part"), parts.values(), strict=True):
        if tab.open:
            with tab:
                try:
                    draw(path, digit, trace)
                except MnistvizError as error:
                    say(error)


def maps(path: Path, digit: Digits, trace: Trace) -> None:
    left, right = st.columns(2)
    first = next((i for i, step in enumerate(trace.steps) if step.kind == "ReLU"), 0)
    layer = left.selectbox("Layer", trace.keys, index=first, key=f"layer of {path}")
    scope = right.selectbox("One scale of colours", list(SCOPES), format_func=SCOPES.__getitem__, key="scope")
    show("maps", reading.figure(figures.feature_maps, trace, layer, scope))


def one_value(path: Path, digit: Digits, trace: Trace) -> None:
    columns = st.columns(4)
    layer = columns[0].selectbox("Layer", list(trace.of_kind(*WEIGHTED)), key=f"sum of {path}")
    shape = trace[layer].result.shape[1:]
    best, names = reading.strongest(trace, layer), ("channel", "y", "x") if len(shape) == 3 else ("unit",)
    unit = [
        column.number_input(f"{name}, 0 to {size - 1}", 0, size - 1, at, key=f"{name} of {layer} of {path}")
        for column, name, size, at in zip(columns[1:], names, shape, best, strict=False)
    ]
    st.caption(f"{layer} gives {times(shape)} values. The largest for this digit: {', '.join(map(str, best))}.")
    show("sum", reading.figure(reading.sums, trace, layer, *unit))


def nearest(path: Path, digit: Digits, trace: Trace) -> None:
    show("nearest", reading.figure(reading.neighbours, path, path.stat().st_mtime, trace))


def film(path: Path, digit: Digits, trace: Trace) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    scene = left.selectbox("Film", reading.ONE_PASS, format_func=lambda name: name.replace("_", " "), key="scene")
    made = st.session_state.setdefault("films", {})
    what = (scene, path, digit.fingerprint())
    if right.button("Make it", type="primary", width="stretch"):
        with st.spinner("Drawing its frames …"):
            st.session_state["films"] = made = {what: reading.filmed(scene, path, digit)}
    if what in made:
        content, alt = made[what]
        st.html(f"<figure tabindex=0>{reading.tagged(content, alt, 'gif')}</figure>")
        st.download_button("Download", content, f"{scene}.gif", "image/gif", icon=":material/download:")
    else:
        st.caption("Of this very drawing. It takes some seconds.")


def show(name: str, figure: Future[str]) -> None:
    """A figure, as soon as it is drawn; until then the one before it, pale. A new stroke interrupts the waiting."""
    place, before = st.empty(), st.session_state.get(f"shown {name}", "<p>Drawing …</p>")
    while not figure.done():
        place.html(f"<figure class=stale>{before}</figure>")
        time.sleep(0.05)
    st.session_state[f"shown {name}"] = figure.result()
    place.html(f"<figure tabindex=0>{figure.result()}</figure>")


def say(error: Exception) -> None:
    first, *others = str(error).splitlines()
    begins = first[:1].upper() if first.partition(" ")[0].isalpha() else first[:1]  # but the name of a file
    lines = [f"**{begins}{first[1:]}.**", *(line.strip() for line in others)]
    st.warning("  \n".join(lines), icon=":material/info:")


if __name__ == "__main__":
    main()
