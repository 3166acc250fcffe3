"""One exception for everything a reader can put right."""

from collections.abc import Callable, Iterable, Mapping, Sized
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


class MnistvizError(ValueError):
    """`raise MnistvizError("unknown model", given="depp", allowed=["deep", "light"], fix="…")`

    The message names the thing, the value given, the values allowed and the way out, a line each.
    """

    def __init__(
        self, what: str, *, given: object = None, allowed: str | Iterable[object] | None = None, fix: str | None = None
    ) -> None:
        text = allowed if isinstance(allowed, str | None) else ", ".join(map(str, allowed))
        parts = {"given": repr(given) if isinstance(given, str) else given, "allowed": text, "fix": fix or None}
        lines = [f"  {name + ':':<9}{part}" for name, part in parts.items() if part is not None]
        super().__init__("\n".join([what, *lines]))


def refuse(condition: object, what: str, **details: Any) -> None:
    """`refuse(frames < 1, "frames for a movement", given=frames, allowed="1 or more")`: an error if that is so."""
    if condition:
        raise MnistvizError(what, **details)


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`choose("model", "deep", MODELS)` is `MODELS["deep"]`, or an error that lists what there is."""
    if name in table:
        return table[name]
    near = get_close_matches(str(name), table, n=1)
    allowed, fix = list(table), f"did you mean {near[0]!r}?" if near else f"choose one of the {kind}s listed above"
    raise MnistvizError(f"unknown {kind}", given=name, allowed=allowed, fix=fix)


def check(kind: str, record: object, names: str, fine: Callable[[Any], bool], allowed: str) -> None:
    """`check("recipe setting", self, "epochs batch", lambda n: n >= 1, "1 or more")`: all of these settings."""
    for name in names.split():
        value = getattr(record, name)
        refuse(not fine(value), f"{kind} {name!r} is out of range", given=value, allowed=allowed)


def some(things: Sized, what: str, fix: str | None = None) -> None:
    """`some(layers, "layers to show")` raises "there are no layers to show" if that is so."""
    refuse(not len(things), f"there are no {what}", fix=fix)


def one_of(kind: str, numbers: int | Iterable[int], count: int) -> None:
    """`one_of("channel in 'conv1'", 40, 32)`, or several, raises: no such channel, and how they are counted."""
    several = [numbers] if isinstance(numbers, int) else list(numbers)
    wrong = [number for number in several if not 0 <= number < count]
    given = wrong[0] if len(wrong) == 1 else wrong or "none"
    refuse(wrong or not several, f"no such {kind}", given=given, allowed=f"0 to {count - 1}, counted from 0")
