"""The live line moves while one watches; what stays is the finished lines."""

import io
import sys
from typing import Any

import IPython
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistviz import progress
from mnistviz.progress import Log


class Screen(io.StringIO):
    """A terminal that knows new lines, carriage returns and how to clear a line, as both standard streams."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.column = [""], 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for letter in text.replace("\033[K", "\0"):
            if letter == "\0":
                self.rows[-1] = self.rows[-1][: self.column]
                continue
            if letter == "\n":
                self.rows.append("")
            if letter in "\r\n":
                self.column = 0
                continue
            row = self.rows[-1].ljust(self.column)
            self.rows[-1] = row[: self.column] + letter + row[self.column + 1 :]
            self.column += 1
        return len(text)

    def shows(self) -> list[str]:
        return [row.rstrip() for row in self.rows]


words = st.text("abc 123%", min_size=1, max_size=12).map(lambda text: f"<{text}>")
steps = st.lists(st.tuples(st.sampled_from(["live", "line"]), words), max_size=12)


@given(steps)
def test_a_terminal_ends_with_the_finished_lines_alone(steps):
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        log = Log()
        for kind, text in steps:
            getattr(log, kind)(text)
            if kind == "live":
                assert screen.shows()[-1] == text  # nothing of a longer line before it stays behind
        log.close()
    finished = [text for kind, text in steps if kind == "line"]
    assert screen.shows() == [*finished, ""]
    assert log.lines == finished


def two_epochs(**options: bool) -> Log:
    log = Log(**options)
    log.live("40 %")
    log.line("epoch 1")
    log.live("50 %")
    log.line("epoch 2")
    log.live("60 %")
    log.close()
    return log


def test_a_file_holds_the_finished_lines_alone(capsys):
    two_epochs()
    assert capsys.readouterr() == ("epoch 1\nepoch 2\n", "")


def test_a_silent_log_prints_nothing_and_remembers(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    assert two_epochs(shown=False).lines == ["epoch 1", "epoch 2"]
    assert screen.rows == [""]


@pytest.fixture
def notebook(monkeypatch) -> list[dict[str, Any]]:
    """What a kernel sends to its notebook, message by message."""
    sent: list[dict[str, Any]] = []
    kernel = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)
    monkeypatch.setattr("IPython.core.interactiveshell.InteractiveShell.initialized", lambda: True)
    monkeypatch.setattr(
        "IPython.core.display_functions.publish_display_data",
        lambda data, metadata=None, *, transient=None, update=False, **_: sent.append(
            {"text": data["text/plain"], "id": (transient or {}).get("display_id"), "update": update}
        ),
    )
    return sent


def test_a_notebook_has_one_output_that_is_updated(notebook, capsys):
    two_epochs()
    both = "epoch 1\nepoch 2"  # the last is what a saved notebook holds
    texts = [message["text"] for message in notebook]
    assert texts == ["40 %", "epoch 1", "epoch 1\n50 %", both, f"{both}\n60 %", both]
    assert [message["update"] for message in notebook] == [False, True, True, True, True, True]
    assert len({message["id"] for message in notebook}) == 1
    assert notebook[0]["id"]
    assert capsys.readouterr() == ("", "")


def test_two_logs_in_a_notebook_do_not_overwrite_each_other(notebook):
    for _ in range(2):
        Log().line("epoch 1")
    assert notebook[0]["id"] != notebook[1]["id"]
    assert not any(message["update"] for message in notebook)


def test_a_notebook_is_told_from_a_script_and_a_terminal(monkeypatch):
    for shell, expected in (("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False), ("NoneType", False)):
        monkeypatch.setattr(IPython, "get_ipython", lambda shell=shell: type(shell, (), {})())
        assert progress._in_jupyter() is expected
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("ZMQInteractiveShell", (), {})())
    monkeypatch.delitem(sys.modules, "IPython")
    assert progress._in_jupyter() is False
