"""The whole network on one stage: maps, what flowed between them, and the path that won."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, coverage, ease
from mnistviz.animate.film import Film
from mnistviz.animate.palette import RAMPS
from mnistviz.animate.stage import EDGE, WIDE, footer, input_scale, softmax, title
from mnistviz.errors import MnistvizError
from mnistviz.look.paths import Stop, flow, winning_path
from mnistviz.look.trace import Trace, sizes
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array, short

HIGH, TOP, BOTTOM = 620, 108, 548  # of the field between title and footer
MAPS, SIDE = 7, 56  # how many maps of a layer are on stage, and how large they are
ANSWER = 124  # pixels at the right for digits and bars
THICKEST, LINKS = 5.0, 70  # pixels of the strongest link of a gap, and how many are drawn at most


def mnist_forward_propagation(trace: Trace, *, frames: int = 8) -> Film:
    """`mnist_forward_propagation(trace).save("mnist_forward_propagation.gif")`: the pass as a wave, then the path that won.

    Links are coloured by what one channel gave the next, all products w·a summed (`flow`); the path goes
    from the winning score back to one pixel (`winning_path`).
    """
    trace.one_digit()
    path = winning_path(trace)
    alt = (
        f"A digit, maps of {len(trace.stages()) - 1} stages, the links between them coloured by what flowed, ten "
        f"scores; the answer is {path[0].unit[0]}, and a green path leads from it back to pixel {path[-1].unit[1:]}."
    )
    return Film(lambda: _Stage(trace, path).frames(frames), alt, poster=400)


class _Column:
    """A stage of the network: the maps or units on the screen, and where each of them is."""

    def __init__(self, trace: Trace, index: int, x: int, shown: list[int] | None, out: bool = False) -> None:
        self.index, self.x, self.out = index, x, out
        source = trace.input if index < 0 else trace.steps[index].result
        self.key = "input" if index < 0 else trace.keys[index]
        self.values = array(source[0])
        self.flat = self.values.ndim == 1
        self.scale = input_scale(trace) if index < 0 else Scale.over([source])
        self.shown = list(range(len(self.values))) if shown is None else shown
        room = BOTTOM - TOP
        if out:
            self.zoom, self.pitch = 26, room // len(self.values)
        elif self.flat:
            rows = 64 if len(self.values) > 64 else len(self.values)
            self.columns = -(-len(self.values) // rows)
            self.zoom = max(2, min(room // rows, 24))
        else:
            side = 84 if index < 0 else SIDE
            self.zoom = max(1, side // max(self.values.shape[1:]))
            self.pitch = room // max(len(self.shown), 1)
        self.side = (
            self.values.shape[2] * self.zoom if not self.flat else self.zoom if out else self.columns * self.zoom
        )

    def corner(self, k: int) -> tuple[int, int]:
        """Where map or unit number k of the layer is drawn."""
        if self.flat and not self.out:
            top = TOP + (BOTTOM - TOP - -(-len(self.values) // self.columns) * self.zoom) // 2
            return self.x + k % self.columns * self.zoom, top + k // self.columns * self.zoom
        high = self.zoom if self.out else self.values.shape[1] * self.zoom
        return self.x, TOP + self.shown.index(k) * self.pitch + (self.pitch - high) // 2

    def port(self, k: int, right: bool) -> tuple[float, float]:
        """Where links of k leave (right) or arrive."""
        _, y = self.corner(k)
        high = self.zoom if self.flat else self.values.shape[1] * self.zoom
        return (self.x + self.side + 3 if right else self.x - 3), y + high / 2

    def spot(self, unit: tuple[int, ...]) -> tuple[int, int]:
        """The corner of one unit: a number of a flat layer, or channel, y and x of a map."""
        x, y = self.corner(unit[0])
        return (x, y) if self.flat else (x + unit[2] * self.zoom, y + unit[1] * self.zoom)

    def draw(self, canvas: Canvas) -> None:
        if self.flat and not self.out:
            canvas.cells(*self.corner(0), self.values, self.scale, self.zoom, self.columns, self.key)
            return
        for k in self.shown:
            value = self.values[k].reshape(1, 1, 1) if self.out else self.values[k : k + 1]
            canvas.maps(*self.corner(k), value, self.scale, self.zoom, [(self.key, 0, k)])


class _Stage:
    """All columns and links at their places."""

    def __init__(self, trace: Trace, path: list[Stop]) -> None:
        self.trace, self.path = trace, path
        stages = trace.stages()
        results = [trace.result_of(stage) for stage in stages]
        self.flows = [_flow(trace, stages, k) for k in range(len(stages))]
        on_path = {stop.layer: stop.unit[0] for stop in path}
        self.columns = [_Column(trace, -1, EDGE, None)]
        for k, index in enumerate(results):
            last = k == len(stages) - 1
            shown = None
            if not last and trace.steps[index].result.ndim == 4:
                given = np.abs(self.flows[k + 1]).sum(0)  # what each map hands on
                strongest = np.argsort(-given, kind="stable").tolist()
                must = [on_path[trace.keys[index]]] if trace.keys[index] in on_path else []
                shown = sorted((must + [c for c in strongest if c not in must])[:MAPS])
            self.columns.append(_Column(trace, index, 0, shown, last))
        gap = (WIDE - 2 * EDGE - ANSWER - sum(column.side for column in self.columns)) / len(stages)
        for before, column in pairwise(self.columns):
            column.x = round(before.x + before.side + gap)
        self.names = ["the digit", *(" → ".join(trace.keys[i] for i in stage if i <= r)
                                     for stage, r in zip(stages, results, strict=True))]  # fmt: skip

    def links(self) -> list[tuple[float, list[tuple[float, float]], float]]:
        """All links, weakest first: strength from −1 to 1 within its gap, the way, how thick."""
        drawn = []
        for k, (before, after) in enumerate(pairwise(self.columns)):
            flows = self.flows[k][np.ix_(after.shown, before.shown)]
            largest = np.abs(flows).max() or 1.0
            for at in np.argsort(-np.abs(flows), axis=None, kind="stable")[:LINKS]:
                o, i = np.unravel_index(at, flows.shape)
                strength = float(flows[o, i] / largest)
                way = _curve(before.port(before.shown[i], True), after.port(after.shown[o], False))
                drawn.append((strength, way, max(1.0, THICKEST * abs(strength))))
        return sorted(drawn, key=lambda link: abs(link[0]))

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas = Canvas(WIDE, HIGH)
        title(
            canvas,
            "A digit goes through the network",
            "each map and each link holds numbers of one recorded forward pass",
        )
        wave = _woven(canvas.pixels.shape, self.links())
        for column in self.columns[1:]:
            for k in column.shown:
                side = (column.zoom, column.zoom) if column.flat else [n * column.zoom for n in column.values.shape[1:]]
                canvas.fill(*column.corner(k), side[1], side[0], "shade")
        self.columns[0].draw(canvas)
        self._name(canvas, 0)
        colours = "orange raises, blue lowers; a scale for each gap, as for each layer's maps."
        footer(canvas, f"Links are products w·a, summed: {colours}")
        yield canvas.frame(1000)
        for k in range(1, len(self.columns)):
            before, column = self.columns[k - 1], self.columns[k]
            left, right = before.x + before.side, column.x
            shown = left
            for way in ease(moves):  # the wave runs through the gap
                upto = round(left + (right - left) * way)
                canvas.weave(shown, wave[:, shown:upto])
                shown = upto
                yield canvas.frame(50)
            column.draw(canvas)
            self._name(canvas, k)
            stage = f"{self.names[k]}   {sizes(self.trace.steps[column.index].output)}"
            title(canvas, "A digit goes through the network", stage)
            yield canvas.frame(450)
        shares = softmax(self.trace)[0]
        for grown in ease(moves):
            self._answer(canvas, shares, grown)
            yield canvas.frame(50)
        yield canvas.frame(1200)
        yield from self._light(canvas, moves)

    def _name(self, canvas: Canvas, k: int) -> None:
        column = self.columns[k]
        middle = column.x + column.side // 2
        place = (column.x, "ls") if column.out else (middle, "ms")
        canvas.text(place[0], TOP - 10, column.key, 16, anchor=place[1], bold=True)
        count, total = len(column.shown), len(column.values)
        if not column.flat and k:
            canvas.text(
                middle, BOTTOM + 6, f"{count} of {total}" if count < total else f"all {total}", 15, "faint", "ma"
            )

    def _answer(self, canvas: Canvas, shares: np.ndarray, grown: float) -> None:
        column, best = self.columns[-1], int(shares.argmax())
        for k, share in enumerate(shares):
            x, y = column.port(k, True)
            top = round(y)
            canvas.text(round(x) + 14, top, str(k), 20, "ink" if k == best else "faint", "mm", bold=k == best)
            canvas.bar(round(x) + 28, top - 8, 84, 16, float(share) * grown, "blue" if k == best else "grey")
        if grown == 1:
            (x, y), share = column.port(best, True), float(shares[best])
            source = ("probability", 0, best)
            canvas.number(round(x) + 70, round(y) + 20, share, source, percent(share), size=16, anchor="mm", bold=True)

    def _light(self, canvas: Canvas, moves: int) -> Iterator[Frame]:
        """The winning path, from the score back to the pixel."""
        places = {column.key: column for column in self.columns}
        stops = [(places[stop.layer or "input"], stop) for stop in self.path if (stop.layer or "input") in places]
        stops = [(c, s) for c, s in stops if c.flat == (len(s.unit) == 1)]
        answer, pixel = self.path[0].unit[0], self.path[-1]
        title(canvas, f"What spoke most for {answer}: the winning path",
              "the largest product at every weighted layer, the true winner at every pool")  # fmt: skip
        middle = [(c.spot(s.unit)[0] + c.zoom / 2, c.spot(s.unit)[1] + c.zoom / 2) for c, s in stops]
        for k, (start, end) in enumerate(pairwise(middle)):
            _ring(canvas, *stops[k])
            whole = _curve(start, end)
            for way in ease(max(1, moves // 2)):
                sheet = canvas.copy()
                sheet.line(whole[: max(2, round(way * len(whole)))], "accent", 3, halo=True)
                yield sheet.frame(50)
            canvas.line(whole, "accent", 3, halo=True)
            _ring(canvas, *stops[k])
        _ring(canvas, *stops[-1])
        seen = f"it ends at pixel row {pixel.unit[1]}, column {pixel.unit[2]}, whose value is {short(pixel.value)}"
        title(canvas, f"What spoke most for {answer}: the winning path", seen)
        yield canvas.frame(2500)


def _ring(canvas: Canvas, column: _Column, stop: Stop) -> None:
    canvas.box(*column.spot(stop.unit), column.zoom, column.zoom, thick=2)


def _flow(trace: Trace, stages: list[list[int]], k: int) -> np.ndarray:
    """What each channel of stage k−1 gave each of stage k; of a map that was flattened, its values together."""
    mixing = next((i for i in stages[k] if trace.steps[i].kind in ("Conv2d", "Linear")), None)
    if mixing is None:
        raise MnistvizError("a stage of this network mixes nothing", given=[trace.keys[i] for i in stages[k]])
    flows = array(flow(trace, trace.keys[mixing]))
    before = trace.input if k == 0 else trace.steps[trace.result_of(stages[k - 1])].result
    return flows.reshape(len(flows), before.shape[1], -1).sum(2)


def _curve(start: tuple[float, float], end: tuple[float, float], steps: int = 24) -> list[tuple[float, float]]:
    """From start to end, level at both."""
    t = np.linspace(0, 1, steps)
    bend = t * t * (3 - 2 * t)
    return list(
        zip(
            (start[0] + (end[0] - start[0]) * t).tolist(), (start[1] + (end[1] - start[1]) * bend).tolist(), strict=True
        )
    )


def _woven(shape: tuple[int, ...], links: list[tuple[float, list[tuple[float, float]], float]]) -> np.ndarray:
    """All links as palette numbers on paper; where they cross, the stronger lies above."""
    field = np.zeros(shape)
    for strength, way, thick in links:
        x, y, soft = coverage(way, thick)
        part = field[y : y + soft.shape[0], x : x + soft.shape[1]]
        new = soft / 255 * strength
        np.copyto(part, new, where=np.abs(new) > np.abs(part))
    ramp = RAMPS[True]
    return ramp[np.rint((field + 1) / 2 * (len(ramp) - 1)).astype(int)]
