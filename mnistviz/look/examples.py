"""What excites a filter: the inputs, of a whole set, for which a channel rises highest, and where on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import refuse
from mnistviz.look.capture import record
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
        channels, k = self.rows.shape
        return f"Examples({self.layer!r}: the {k} strongest inputs for each of {channels} channels)"


@torch.no_grad()
def top_examples(model: nn.Module, inputs: Tensor, layer: str, k: int = 9, batch: int = 128) -> Examples:
    """`top_examples(model, digits.pixels, "relu2")`: each input counts once, with its highest unit.

    Of equal values the earlier input wins, and on its map the unit that comes first row by row.
    """
    refuse(not 1 <= k <= len(inputs), "how many examples", given=k, allowed=f"1 to {len(inputs)}, the inputs there are")
    device = device_of(model)
    highest = []
    for chunk in inputs.split(batch):
        trace = record(model, chunk.to(device), layer.rpartition(":")[0] or layer)  # "relu:1" is a call of "relu"
        result = trace[layer].result
        refuse(result.ndim not in (2, 4), f"the output of {layer!r} has no channels", given=sizes(result))
        units = result.contiguous().flatten(2) if result.ndim == 4 else result.unsqueeze(2)
        highest.append(units.max(2))
    geometry = record(model, inputs[:1].to(device))
    values, places = (torch.cat(part) for part in zip(*highest, strict=True))
    values, rows = values.sort(dim=0, descending=True, stable=True)
    rows, values, at = rows[:k].T.cpu(), values[:k].T.cpu(), places.gather(0, rows[:k]).T.cpu()
    width = result.shape[3] if result.ndim == 4 else 1
    y, x = at // width, at % width
    occurring = set(zip(y.flatten().tolist(), x.flatten().tolist(), strict=True))
    fields = {unit: receptive_field(geometry, layer, *unit[: result.ndim - 2]) for unit in occurring}
    return Examples(layer, rows, values, y, x, fields)
