"""What excites a filter: the inputs, of a whole set, for which a channel rises highest, and where on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import MnistvizError
from mnistviz.look.capture import capture
from mnistviz.look.field import Field, receptive_field
from mnistviz.look.trace import sizes


@dataclass(frozen=True, eq=False)
class Examples:
    """`examples.rows[c]`: for channel c the inputs with its highest values, highest first."""

    layer: str
    rows: Tensor  # (C, k): which inputs
    values: Tensor  # (C, k): their highest value in that channel
    y: Tensor  # (C, k): where on the map; of a flat layer 0
    x: Tensor
    fields: dict[tuple[int, int], Field]  # of the units that occur: what they see

    def field(self, channel: int, place: int) -> Field:
        """What the winning unit sees of its input."""
        return self.fields[int(self.y[channel, place]), int(self.x[channel, place])]

    def __repr__(self) -> str:
        return (
            f"Examples({self.layer!r}: the {self.rows.shape[1]} strongest inputs for each of {len(self.rows)} channels)"
        )


@torch.no_grad()
def top_examples(model: nn.Module, inputs: Tensor, layer: str, k: int = 9, batch: int = 128) -> Examples:
    """`top_examples(model, digits.pixels, "relu2")`: each input counts once, with its highest unit.

    Of equal values the earlier input wins, and on its map the unit that comes first row by row.
    """
    if not 1 <= k <= len(inputs):
        raise MnistvizError("how many examples", given=k, allowed=f"1 to {len(inputs)}, the inputs there are")
    device = device_of(model)
    best, where = [], []
    for part in inputs.split(batch):
        with capture(model, layer.rpartition(":")[0] or layer) as trace:  # "relu:1" is a call of "relu"
            model(part.to(device))
        if trace[layer].result.ndim not in (2, 4):
            raise MnistvizError(f"the output of {layer!r} has no channels", given=sizes(trace[layer].output))
        values, at = trace[layer].result.contiguous().flatten(2).max(2) if trace[layer].result.ndim == 4 else (
            trace[layer].result, torch.zeros_like(trace[layer].result, dtype=torch.long))  # fmt: skip
        best.append(values)
        where.append(at)
    with capture(model) as geometry:
        model(inputs[:1].to(device))
    values, rows = torch.cat(best).sort(dim=0, descending=True, stable=True)
    rows, values = rows[:k].T.cpu(), values[:k].T.cpu()
    at = torch.cat(where).cpu().gather(0, rows.T).T
    shape = geometry[layer].result.shape[1:]
    if len(shape) == 1:
        return Examples(layer, rows, values, at, at, {(0, 0): receptive_field(geometry, layer)})
    y, x = at // shape[2], at % shape[2]
    places: Sequence[tuple[int, int]] = torch.stack([y, x], 2).flatten(0, 1).unique(dim=0).tolist()
    return Examples(layer, rows, values, y, x, {(i, j): receptive_field(geometry, layer, i, j) for i, j in places})
