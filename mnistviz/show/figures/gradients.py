"""Figures of the way back: δ of a layer, the sum that is one gradient, and how large gradients are layer by layer."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from mnistviz.errors import choose, one_of, refuse, some
from mnistviz.look.gradients import GradientLedger
from mnistviz.look.trace import Trace, times
from mnistviz.show.colours import BLUE, ORANGE, curve
from mnistviz.show.figures.arithmetic import product_bars
from mnistviz.show.figures.maps import maps_beside
from mnistviz.show.picture import Picture, an, page
from mnistviz.show.scales import Scale, array, short
from mnistviz.show.tiles import draw_map


def gradient_maps(trace: Trace, layer: str, channels: Iterable[int] | None = None, digit: int = 0) -> Picture:
    """`gradient_maps(trace, "conv2", digit=3)`: δ = ∂loss/∂output of a layer for a digit; "input" is ∂loss/∂pixel."""
    delta = trace.delta if layer == "input" and layer not in trace.known else None
    delta = trace.delta_of(layer) if delta is None else delta
    one_of("digit", digit, count := len(delta))
    name, title = f"digit {digit}" if count > 1 else "input", f"δ of {layer or 'the model'}: {times(delta.shape[1:])}"
    of, scale = f" of the batch of {count}" * (count > 1), Scale.about_zero(delta[digit])
    facts = f"The loss{of}, {trace.loss:.3g}, rises with an orange value and falls with a blue one."
    picture = maps_beside(trace.input[[digit]], delta[digit], layer, title, scale, facts, channels)
    picture.axes[0].set_title(name if trace.labels is None else f"{name}: {an(trace.labels[digit])}")
    return picture.told(f"δ, the gradient of the loss: {picture.alt}")


def gradient_ledger(account: GradientLedger, digit: int = 0) -> Picture:
    """`gradient_ledger(mv.backward_ledger(trace, "conv2", weight=(5, 0, 1, 1)), digit=3)`: its products, added up."""
    some(account.products.flatten(), "products", "ask another unit: behind a closed ReLU nothing rises")
    by = {"unit": "slope", "bias": "1"}.get(account.what, "input" if len(account.index) > 1 else "x̂")
    parts = {"δ": account.deltas, f"× {by}": account.factors, "= products": account.products}
    name, count = f"{account.layer}, {account.what} {', '.join(map(str, account.index))}", account.products.numel()
    total = f"sum of {count:,} product{'s' * (count != 1)} = {account.total:+z.4g}, autograd: {account.recorded:+z.4g}"
    if account.deltas.ndim == 1:
        labels = [f"{at} {i or ''}" for at, i in account.fed] or [f"digit {i % account.digits}" for i in range(count)]
        picture = product_bars(account.deltas, account.factors, labels, f"{name}: δ × {by}", most=12)
        picture.caption(f"{name}: {total}." + " Named: layer (digit, channel, y, x)." * bool(account.fed))
    else:
        one_of("digit", digit, n := len(account.deltas))
        sums, ratios = array(account.products.flatten(1).sum(1)), [1, 1, 1] + [1.7] * (n > 1)
        picture, axes = page(2.2 * sum(ratios), 3.0, columns=len(ratios), width_ratios=ratios)
        for ax, (title, part) in zip(axes, parts.items(), strict=False):
            values = part[digit].reshape(-1, part.shape[-1])
            scale = Scale.over([values], "map") if title[0] == "×" else Scale.about_zero(values, "map")
            draw_map(ax, values, scale)
            ax.set(title=title, xlabel=f"{'±' if scale.signed else '0 to '}{short(scale.high)}")
        if n > 1:
            order, ticks = np.argsort(-np.abs(sums), kind="stable"), range(0, n, -(-n // 8))
            largest = [i for i in order[:3] if abs(sums[i]) > 0.05 * abs(sums[order[0]])]  # others lie too close
            bars = axes[3].bar(range(n), sums, max(0.8, n / 200), color=np.where(sums < 0, BLUE, ORANGE))
            axes[3].bar_label(bars, [str(i) if i in largest else "" for i in range(n)], padding=2, fontsize=9)
            axes[3].set(title="sum of each digit", xlabel="digit; the largest are named", xticks=ticks, ymargin=0.12)
        picture.caption(f"{name}: {total}. Maps of digit {digit} (sum {short(sums[digit])}), each on its own scale.")
    return picture.told(f"The gradient of {name} as a {total}.")


def gradient_sizes(groups: Mapping[str, Trace | Iterable[Trace]], of: str = "outputs") -> Picture:
    """`gradient_sizes({"sigmoid": traces, "ReLU": others})`: how large δ is layer by layer; `of="weights"`, theirs."""
    symbol = choose("gradient", of, {"outputs": "δ", "weights": "∂loss/∂weight"})
    some(groups, "traces to compare", 'gradient_sizes({"deep": trace})')
    picture, ax = page(8.2, 3.9)
    ax.set(yscale="log", ylabel=f"root mean square of {symbol}", xlabel="weighted layers, from the input on")
    ends, lost, names = [], [], {}
    for k, (name, traces) in enumerate(groups.items()):
        table = pd.DataFrame([_sizes(trace, of) for trace in ([traces] if isinstance(traces, Trace) else traces)])
        x, middle, low, high = range(1, table.shape[1] + 1), table.median(), table.min(), table.max()
        some(shown := middle.dropna(), f"gradients in {name!r}", "give traces that recorded layers with weights")
        (line,) = ax.plot(x, middle.where(middle > 0), **curve(k), markersize=6, label=name.lstrip("_"))
        ax.fill_between(x, low.where(high > 0), high, color=line.get_color(), alpha=0.18, linewidth=0)
        ends.append(f"{name} from {short(shown.iloc[0])} to {short(shown.iloc[-1])}")
        for fault, size in (("all zero", 0.0), ("infinite", np.inf)):
            lost += [f"{fault} at {at} of {name} ({n} of {len(table)})" for at, n in (table == size).sum().items() if n]
        names[tuple(map(str, table))] = x
    ax.tick_params(axis="y", which="both", labelsize=13)  # so that exponents have 9 points
    ticks = max(names.values(), key=len)
    labels = list(*names) if len(names) == 1 else list(map(str, ticks))
    ax.set_xticks(ticks, labels, rotation=90 if len("  ".join(labels)) > 90 else 0)
    ax.legend(fontsize=9.5)
    what = "Over all digits and numbers of a layer; of several traces: the median, in a band from least to most."
    picture.caption(f"{what} Not on this scale: {'; '.join(lost)}." if lost else what)
    return picture.told(f"Root mean square of {symbol}, first to last weighted layer: {'; '.join(ends)}.")


def _sizes(trace: Trace, of: str) -> dict[str, float]:
    """The root mean square of each weighted layer's gradients; NaN where none arrived."""
    refuse(trace.loss is None, "nobody has gone back through this trace yet", fix="backward(trace, labels=[7])")
    layers = trace.of_kind("Conv2d", "Linear").items()
    found = {key: step.delta if of == "outputs" else step.gradients.get("weight") for key, step in layers}
    return {key: np.nan if g is None else float(g.double().square().mean().sqrt()) for key, g in found.items()}
