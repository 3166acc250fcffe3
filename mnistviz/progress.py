"""A log with one live line: it moves while you watch, and only the finished lines are kept."""

import sys
from typing import Any


class Log:
    """`log.live("40 %")` replaces itself; `log.line("epoch 1 …")` stays.

    In a terminal the live line is redrawn in place on standard error. In Jupyter the whole log is one
    updating output, so what a saved notebook holds is the finished lines and nothing else.
    """

    def __init__(self, shown: bool = True) -> None:
        self.lines: list[str] = []
        self._handle: Any = None
        self._jupyter = shown and _in_jupyter()
        self._terminal = shown and not self._jupyter

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.live("")
        if self._terminal:
            print(text, flush=True)

    def live(self, text: str) -> None:
        if self._jupyter:
            from IPython.display import display

            bundle = {"text/plain": "\n".join([*self.lines, text] if text else self.lines)}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            else:
                self._handle.update(bundle, raw=True)
        elif self._terminal and sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{text}")  # back to the start, and clear what stood there
            sys.stderr.flush()

    def close(self) -> None:
        """Take the live line away."""
        self.live("")


def _in_jupyter() -> bool:
    """True in a notebook kernel, False in a script or a terminal IPython."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return type(get_ipython()).__name__ == "ZMQInteractiveShell"  # type: ignore[no-untyped-call]
