"""The whole network on one stage: maps, what flowed between them, and the path that won."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, Point, Source, coverage, ease
from mnistviz.animate.film import Film
from mnistviz.animate.palette import RAMPS
from mnistviz.animate.stage import EDGE, WIDE, as_maps, footer, input_scale, title
from mnistviz.errors import refuse
from mnistviz.look.paths import Stop, flow, winning_path
from mnistviz.look.trace import Trace, sizes
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array, short

HIGH, TOP, BOTTOM = 620, 108, 548  # of the field between title and footer
MAPS, SIDE, INPUT_SIDE, SCORE_SIDE = 7, 56, 84, 26  # maps of a layer on stage; the sides of one, the digit, a score
ANSWER = 124  # pixels at the right for digits and bars
HEADING = "A digit goes through the network"
THICKEST, LINKS = 5.0, 70  # pixels of the strongest link of a gap, and how many are drawn at most


def mnist_forward_propagation(trace: Trace, *, frames: int = 8) -> Film:
    """`mnist_forward_propagation(trace).save("mnist_forward_propagation.gif")`: a wave, then the path that won.

    Links are coloured by what one channel gave the next, all products w·a summed (`flow`); the path goes
    from the winning score back to one pixel (`winning_path`).
    """
    trace.one_digit()
    path = winning_path(trace)
    stages, links = len(trace.stages()) - 1, "the links between them coloured by what flowed"
    way = f"a green path leads from it back to pixel {path[-1].unit[1:]}"
    alt = f"A digit, maps of {stages} stages, {links}, ten scores; the answer is {path[0].unit[0]}, and {way}."
    return Film(lambda: Stage(trace, path).frames(frames), alt, poster=400)


class Column:
    """What is shown of a layer, one below the other: some of its maps, or all values of a flat layer as a block."""

    def __init__(self, key: str, values: np.ndarray, scale: Scale | None, side: int, shown: list[int]) -> None:
        self.key, self.scale, self.shown, self.flat = key, scale, shown, values.ndim == 1
        self.source: Source = (key,)  # of its numbers, but for the digit and the channel
        self.x, self.columns, room, count = EDGE, 1, BOTTOM - TOP, len(values)
        self.values = as_maps(values)
        if self.flat:
            rows = min(count, 64)
            self.columns = -(-count // rows)
            self.zoom = self.pitch = max(2, min(room // rows, 24))
            self.top = TOP + (room - -(-count // self.columns) * self.zoom) // 2
        else:
            self.pitch = room // max(len(shown), 1)
            self.zoom = max(1, min(side, self.pitch) // max(values.shape[1:]))
            self.top = TOP + (self.pitch - values.shape[1] * self.zoom) // 2
        self.high, self.wide = (n * self.zoom for n in self.values.shape[1:])  # of one map or value
        self.side = self.columns * self.wide

    def corner(self, k: int) -> tuple[int, int]:
        """Where map or value number k of the layer is drawn."""
        row, column = divmod(self.shown.index(k), self.columns)
        return self.x + column * self.wide, self.top + row * self.pitch

    def middle(self, k: int) -> float:
        """The height at which links to and from map or value number k meet it."""
        return self.corner(k)[1] + self.high / 2

    def spot(self, unit: tuple[int, ...]) -> tuple[int, int]:
        """The corner of one unit: a value of a flat layer, or channel, y and x of a map."""
        x, y = self.corner(unit[0])
        return (x, y) if len(unit) == 1 else (x + unit[2] * self.zoom, y + unit[1] * self.zoom)

    def ring(self, canvas: Canvas, unit: tuple[int, ...]) -> None:
        canvas.box(*self.spot(unit), self.zoom, self.zoom, thick=2)

    def draw(self, canvas: Canvas) -> None:
        values, claimed = self.values[self.shown], [(*self.source, 0, k) for k in self.shown]
        canvas.maps(self.x, self.top, values, self.scale, self.zoom, claimed, self.columns, self.pitch - self.high)


class Stage:
    """All columns and links at their places; with `back` for the maps and links through which the error returns."""

    def __init__(self, trace: Trace, path: Sequence[Stop] = (), back: bool = False) -> None:
        self.trace, self.path, self.stages = trace, path, trace.stages()
        self.flows = flows_of(trace, back)
        digit = array(trace.input[0])
        self.columns = [Column("input", digit, input_scale(trace), INPUT_SIDE, list(range(len(digit))))]
        self.columns += [self._column(k) for k in range(len(self.stages))]
        gap = (WIDE - 2 * EDGE - ANSWER - sum(column.side for column in self.columns)) / len(self.stages)
        for before, column in pairwise(self.columns):
            column.x = round(before.x + before.side + gap)

    def _column(self, k: int) -> Column:
        """The column of a stage: its maps that hand on most and the one on the path, or all there is."""
        index = self.trace.result_of(self.stages[k])
        key, result = self.trace.keys[index], self.trace.steps[index].result
        values, scale = array(result[0]), Scale.over([result])
        if k == len(self.stages) - 1:  # each score is a map of one value
            return Column(key, as_maps(values), scale, SCORE_SIDE, list(range(len(values))))
        shown = list(range(len(values)))
        if values.ndim == 3:
            on_path = [stop.unit[0] for stop in self.path if stop.layer == key]
            strongest = np.argsort(-np.abs(self.flows[k + 1]).sum(0), kind="stable").tolist()
            shown = sorted([*on_path, *(c for c in strongest if c not in on_path)][:MAPS])
        return Column(key, values, scale, SIDE, shown)

    def links(self, given: list[np.ndarray] | None = None) -> list[tuple[float, list[Point], float]]:
        """All links, weakest first: strength from −1 to 1 within its gap, the way, how thick."""
        links = []
        for flows, (before, after) in zip(given or self.flows, pairwise(self.columns), strict=True):
            flows = flows[np.ix_(after.shown, before.shown)]
            largest = np.abs(flows).max() or 1.0
            for at in np.argsort(-np.abs(flows), axis=None, kind="stable")[:LINKS]:
                o, i = np.unravel_index(at, flows.shape)
                strength = float(flows[o, i] / largest)
                start = before.x + before.side + 3, before.middle(before.shown[i])
                way = _curve(start, (after.x - 3, after.middle(after.shown[o])))
                links.append((strength, way, max(1.0, THICKEST * abs(strength))))
        return sorted(links, key=lambda link: abs(link[0]))

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas = Canvas(WIDE, HIGH)
        self.open(canvas)
        yield canvas.frame(1000)
        yield from self.forward(canvas, moves, 450)
        yield canvas.frame(1200)
        yield from self._light_up(canvas, moves)

    def open(self, canvas: Canvas) -> None:
        """The digit, and the places of all that will come."""
        title(canvas, HEADING, "each map and each link holds numbers of one recorded forward pass")
        for column in self.columns[1:]:
            for k in column.shown:
                canvas.fill(*column.corner(k), column.wide, column.high, "shade")
        self.columns[0].draw(canvas)
        self._name(canvas, self.columns[0])
        colours = "orange raises, blue lowers; a scale for each gap, as for each layer's maps."
        footer(canvas, f"Links are products w·a, summed: {colours}")

    def forward(self, canvas: Canvas, moves: int, stand: int) -> Iterator[Frame]:
        """The wave, column by column, each of which stands so many milliseconds; then the probabilities."""
        wave = woven(canvas.pixels.shape, self.links(flows_of(self.trace)))
        for stage, (before, column) in zip(self.stages, pairwise(self.columns), strict=True):
            left = drawn = before.x + before.side
            for way in ease(moves):  # the wave runs through the gap
                right = round(left + (column.x - left) * way)
                canvas.weave(wave, drawn, right)
                drawn = right
                yield canvas.frame(50)
            column.draw(canvas)
            self._name(canvas, column)
            result = self.trace.result_of(stage)
            names = " → ".join(self.trace.keys[i] for i in stage if i <= result)
            title(canvas, HEADING, f"{names}   {sizes(self.trace.steps[result].output)}")
            yield canvas.frame(stand)
        shares = array(self.trace.probabilities()[0])
        for grown in ease(moves):
            self._answer(canvas, shares, grown)
            yield canvas.frame(50)

    def _name(self, canvas: Canvas, column: Column) -> None:
        """The layer's name above, and below how many of its maps are shown."""
        middle, count, total = column.x + column.side // 2, len(column.shown), len(column.values)
        x, anchor = (column.x, "ls") if column is self.columns[-1] else (middle, "ms")
        canvas.text(x, TOP - 10, column.key, 16, anchor=anchor, bold=True)
        if column in self.columns[1:-1] and not column.flat:
            text = f"{count} of {total}" if count < total else f"all {total}"
            canvas.text(middle, BOTTOM + 6, text, 15, "faint", "ma")

    def _answer(self, canvas: Canvas, shares: np.ndarray, grown: float) -> None:
        column, best = self.columns[-1], int(shares.argmax())
        x = column.x + column.side + 3
        for k, share in enumerate(shares):
            y = round(column.middle(k))
            canvas.text(x + 14, y, str(k), 20, "ink" if k == best else "faint", "mm", bold=k == best)
            canvas.bar(x + 28, y - 8, 84, 16, float(share) * grown, "blue" if k == best else "grey")
            if grown == 1 and k == best:
                source = ("probability", 0, k)
                canvas.number(x + 70, y + 20, share, source, percent(share), size=16, anchor="mm", bold=True)

    def _light_up(self, canvas: Canvas, moves: int) -> Iterator[Frame]:
        """The winning path, from the score back to the pixel."""
        columns = {column.key: column for column in self.columns}
        stops = [(columns[key], stop.unit) for stop in self.path if (key := stop.layer or "input") in columns]
        heading, pixel = f"What spoke most for {self.path[0].unit[0]}: the winning path", self.path[-1]
        title(canvas, heading, "the largest product at every weighted layer, the true winner at every pool")
        for (column, unit), (after, after_unit) in pairwise(stops):
            column.ring(canvas, unit)
            (x0, y0), (x1, y1) = column.spot(unit), after.spot(after_unit)
            middle = column.zoom / 2, after.zoom / 2
            whole = _curve((x0 + middle[0], y0 + middle[0]), (x1 + middle[1], y1 + middle[1]))
            for way in ease(max(1, moves // 2)):
                sheet = canvas.copy()
                sheet.line(whole[: max(2, round(way * len(whole)))], "accent", 3, halo=True)
                yield sheet.frame(50)
            canvas.line(whole, "accent", 3, halo=True)
            column.ring(canvas, unit)
        stops[-1][0].ring(canvas, pixel.unit)
        place = f"pixel row {pixel.unit[1]}, column {pixel.unit[2]}"
        title(canvas, heading, f"it ends at {place}, whose value is {short(pixel.value)}")
        yield canvas.frame(2500)


def flows_of(trace: Trace, back: bool = False) -> list[np.ndarray]:
    """What each channel gave each of the next stage, gap by gap, or got back; of a flattened map, all its values."""
    before, gaps = trace.input, []
    for stage in trace.stages():
        mixing = [trace.keys[i] for i in stage if trace.steps[i].kind in ("Conv2d", "Linear")]
        refuse(not mixing, "a stage of this network mixes nothing", given=[trace.keys[i] for i in stage])
        flows, result = array(flow(trace, mixing[0], back)), trace.steps[trace.result_of(stage)]
        gaps.append(flows.reshape(len(flows), before.shape[1], -1).sum(2))
        before, fix = result.result, "put its ReLU and pool before the flatten"
        refuse(before.shape[1] != len(flows), f"{mixing[0]!r} and {result.name!r} count channels differently", fix=fix)
    return gaps


def _curve(start: Point, end: Point, steps: int = 24) -> list[Point]:
    """From start to end, level at both."""
    t = np.linspace(0, 1, steps)
    bend = t * t * (3 - 2 * t)
    x, y = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * bend
    return list(zip(x.tolist(), y.tolist(), strict=True))


def woven(shape: tuple[int, ...], links: list[tuple[float, list[Point], float]]) -> np.ndarray:
    """All links as palette numbers on paper; where they cross, the stronger lies above."""
    field = np.zeros(shape)
    for strength, way, thick in links:
        x, y, covered = coverage(way, thick)
        part = field[y : y + covered.shape[0], x : x + covered.shape[1]]
        new = covered / 255 * strength
        np.copyto(part, new, where=np.abs(new) > np.abs(part))
    ramp = RAMPS[True]
    return ramp[np.rint((field + 1) / 2 * (len(ramp) - 1)).astype(int)]
