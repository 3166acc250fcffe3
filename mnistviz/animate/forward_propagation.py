"""The whole forward pass, layer by layer: every map, every value of a flat layer, ten probabilities."""

from collections.abc import Iterator

from mnistviz.animate.canvas import Canvas, Frame, ease, width_of
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, as_maps, bars, fitting, input_scale, rounded, title
from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.field import receptive_field
from mnistviz.look.trace import Step, Trace, sizes, times
from mnistviz.show.scales import Scale, array

HIGH = 574
LEFT, TOP = 190, 96  # of the field where the layers appear
FIELD = (WIDE - LEFT - EDGE, 418)


def forward_propagation(trace: Trace, *, frames: int = 8) -> Film:
    """`forward_propagation(trace).save("forward_propagation.gif")`: every layer of the pass, one after another.

    What only changes the form of its input, or does nothing outside training, is named and not drawn again.
    """
    trace.one_digit()
    end = f"then ten probabilities; the answer is {trace.probabilities()[0].argmax()}"
    alt = f"A digit goes through {', '.join(_shown(trace))}: all maps of every layer light up, {end}."
    return Film(lambda: _frames(trace, frames), alt, poster=400)


def _shown(trace: Trace) -> list[str]:
    return [key for key, step in trace.items() if not step.kind.startswith(("Dropout", "Flatten", "Identity"))]


def _frames(trace: Trace, moves: int) -> Iterator[Frame]:
    canvas, shares, shown = Canvas(WIDE, HIGH), array(trace.probabilities()[0]), _shown(trace)
    rail = ["digit", *shown, "answer"]
    below = "every value of every layer, from one recorded forward pass"
    title(canvas, "A digit on its way through the network", below)
    _digit(canvas, trace)
    _rail(canvas, rail, 0)
    yield canvas.frame(1200)
    passed: list[str] = []
    for key, step in trace.items():
        if key not in shown:
            passed.append(key)
            continue
        after = f"   (after {' and '.join(passed)}, which change{'s' * (len(passed) < 2)} no number)" if passed else ""
        passed = []
        title(canvas, f"{key} · {step.kind}", _about(step) + after)
        _rail(canvas, rail, shown.index(key) + 1)
        _digit(canvas, trace, key)
        yield from _light_up(canvas, key, step, moves)
        yield canvas.frame(640)
    title(canvas, f"The answer is {int(shares.argmax())}", "softmax turns the ten scores into probabilities")
    _rail(canvas, rail, len(rail) - 1)
    _digit(canvas, trace)
    for grown in ease(moves):
        bars(canvas, LEFT + 60, TOP + 6, shares, width=420, pitch=36, grown=grown)
        yield canvas.frame(60)


def _digit(canvas: Canvas, trace: Trace, key: str = "") -> None:
    """An empty stage with the digit at its left; on it, what one value from the middle of a layer sees."""
    canvas.fill(0, TOP, WIDE, HIGH - 46 - TOP)
    zoom, top = 140 // max(trace.input.shape[2:]), TOP + 40
    canvas.text(EDGE, TOP + 12, "the digit")
    canvas.maps(EDGE, top, array(trace.input[0, :1]), input_scale(trace), zoom, [("input", 0, 0)])
    if not key:
        return
    try:
        field = receptive_field(trace, key, *(n // 2 for n in trace[key].result.shape[2:]))
    except MnistvizError:  # a network with parts that are no modules
        return
    canvas.box(EDGE + field.left * zoom, top + field.top * zoom, field.width * zoom, field.height * zoom, thick=2)
    canvas.text(EDGE, TOP + 196, "one value here sees", 15, "faint")
    canvas.text(EDGE, TOP + 216, f"{times((field.height, field.width))} of its pixels", 15, "faint")


def _about(step: Step) -> str:
    product = f" = {step.result[0].numel():,}" if step.result.ndim > 2 else ""
    learned = f"{step.parameters:,} learned weights" if step.parameters else "nothing learned"
    return f"{sizes(step.output)}{product} numbers, {learned}"


def _light_up(canvas: Canvas, key: str, step: Step, moves: int) -> Iterator[Frame]:
    """The maps or values of a layer, row by row as one reads; sixteen values or fewer with their numbers."""
    maps, scale, flat = as_maps(step.result[0]), Scale.over([step.result]), step.result.ndim != 4
    count, height, width = maps.shape
    few = flat and count <= 16
    if flat:
        columns = count if few else 16 if count < 256 else 32 if count <= 2048 else 128
        rows = -(-count // columns)
        pitch = min(FIELD[0] // columns, (FIELD[1] - 40) // rows, 64)
        gap = min(3, pitch - 1)
        zoom, top = pitch - gap, TOP + max((FIELD[1] - 40 - rows * pitch) // 2, 0)
    else:
        for gap in (4, 1):
            columns, zoom = fitting(count, height, width, FIELD[0], FIELD[1] - 40, gap)
            rows, top = -(-count // columns), TOP
            if fits := rows * (height * zoom + gap) <= FIELD[1] - 40 + gap:
                break
        refuse(not fits, f"the {count} maps of {key!r} have no room in a frame", fix="capture other layers")
    down, across = height * zoom + gap, width * zoom + gap
    left = LEFT + (FIELD[0] - columns * across) // 2
    canvas.scale(LEFT, TOP + FIELD[1] - 28, scale, words=f"one scale for all of {key}")
    for k in range(0 if flat else count):
        canvas.fill(left + k % columns * across, top + k // columns * down, width * zoom, height * zoom, "shade")
    together = max(1, count // moves) if few else columns * -(-rows // moves)
    for start in range(0, count, together):
        part = range(start, min(start + together, count))
        x, y = left + start % columns * across, top + start // columns * down
        claimed = [(key, 0, k) for k in part]
        canvas.maps(x, y, maps[start : part.stop], scale, zoom, claimed, min(columns, len(part)), gap)
        for k in part if few else ():
            middle, value = left + k * across + across // 2, float(maps[k, 0, 0])
            canvas.text(middle, top - 18, str(k), 18, "faint", "mm")
            canvas.number(middle, top + down + 17, value, (key, 0, k), rounded(value, 1), size=17, anchor="mm")
        yield canvas.frame(80)


def _rail(canvas: Canvas, names: list[str], now: int) -> None:
    """The layers as a row of names at the bottom, as many as have room around the one that is shown."""
    canvas.fill(0, HIGH - 42, WIDE, 42)
    lengths = [width_of(name, 16, bold=k == now) + 22 for k, name in enumerate(names)]
    first, x = 0, EDGE
    while sum(lengths[first : now + 3]) > WIDE - 2 * EDGE:
        first += 1
    for k in range(first, len(names)):
        if x + lengths[k] > WIDE - 8:
            break
        ink = "ink" if k == now else "faint" if k < now else "grey"
        canvas.text(x, HIGH - 20, names[k], 16, ink, "lm", bold=k == now)
        if k == now:
            canvas.fill(x, HIGH - 8, lengths[k] - 22, 3, "accent")
        x += lengths[k]
