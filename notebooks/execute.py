"""Execute the notebooks in order, showing where they are; `make run` and `make release` call this.

Executed copies go to `notebooks/_full/` (or `_quick/`); with --in-place they replace the notebooks.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from mnistviz import project

HERE = Path(__file__).resolve().parent


class Visible(NotebookClient):
    """A client that shows what a cell prints while it runs."""

    printed = 0  # lines of the cell's updating log that stand for good
    last = ""  # its last line, which may still be replaced
    interrupted = False

    async def async_start_new_kernel(self, **options):  # type: ignore[no-untyped-def]
        task = asyncio.current_task()

        def interrupt():  # type: ignore[no-untyped-def]
            self.interrupted = True
            task.cancel()

        if os.name != "nt":  # in place of nbclient's own handler of Ctrl-C, which reports a dead kernel
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        await super().async_start_new_kernel(**options)

    def process_message(self, msg, cell, cell_index):  # type: ignore[no-untyped-def]
        content = msg["content"]
        if msg["msg_type"] == "stream":
            say(content["text"])
        elif "text/plain" in content.get("data", {}) and "transient" in content and content["transient"]:
            lines = content["data"]["text/plain"].splitlines()
            for line in lines[self.printed : -1]:
                say(line)
            self.printed, self.last = max(self.printed, len(lines) - 1), lines[-1] if lines else ""
            live(self.last)
        return super().process_message(msg, cell, cell_index)

    def cell_done(self, **_):  # type: ignore[no-untyped-def]
        if self.last:
            say(self.last)
        self.printed, self.last = 0, ""


def say(text: str) -> None:
    live("")
    for line in text.splitlines():
        print(f"    {line}", flush=True)


def live(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + (f"    {text}" if text else ""))
        sys.stderr.flush()


def execute(path: Path, target: Path) -> float:
    """Run one notebook top to bottom and write it to `target`; the seconds it took."""
    book = nbformat.read(path, as_version=4)
    codes = [i for i, cell in enumerate(book.cells) if cell.cell_type == "code"]

    def started(cell, cell_index, **_):  # type: ignore[no-untyped-def]
        if cell.cell_type == "code":
            live(f"cell {codes.index(cell_index) + 1} of {len(codes)}")

    start = time.perf_counter()
    where = {"metadata": {"path": str(path.parent)}}
    client = Visible(book, timeout=None, kernel_name="python3", resources=where, extra_arguments=["--log-level=ERROR"])
    client.on_cell_start = started
    client.on_cell_executed = client.cell_done
    try:
        client.execute()
    except (DeadKernelError, asyncio.CancelledError):
        if client.interrupted:
            raise KeyboardInterrupt from None
        raise
    live("")
    tidy(book)
    if path == target:
        keep_stills(book)
    else:
        relink(book, path, target)
    with project.atomic(target) as part:
        nbformat.write(book, part)
    return time.perf_counter() - start


def tidy(book: nbformat.NotebookNode) -> None:
    """Leave out what differs from run to run without meaning anything."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.get("outputs"):  # a live line that was taken away leaves an empty one
            cell.outputs = [output for output in cell.outputs if output.get("data") != {"text/plain": ""}]
        for output in cell.get("outputs", []):  # a live slider; its plain picture stays
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def keep_stills(book: nbformat.NotebookNode) -> None:
    """What is shipped keeps of each film its last frame, a plain picture; executed copies keep the films too."""
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/plain", "").startswith("Film:"):
                output.data.pop("text/html", None)


def relink(book: nbformat.NotebookNode, path: Path, target: Path) -> None:
    """Let the links of a copy in another folder lead where they led before; lessons have copies there too."""

    def moved(match: re.Match[str]) -> str:
        link, mark, anchor = match[1].partition("#")
        aim = (path.parent / link).resolve()
        if ":" in link or not link or aim.is_relative_to(HERE):
            return match[0]
        return f"]({Path(os.path.relpath(aim, target.parent)).as_posix()}{mark}{anchor})"

    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\(([^)\s]+)\)", moved, cell.source)


def stated(path: Path, profile: str) -> int:
    """Seconds that a lesson's header states for one slow core; 0 for solutions, whose headers state none."""
    header = nbformat.read(path, as_version=4).cells[0].source
    time = re.search(rf"{profile} (\d+) (s|minutes)", header)
    return int(time[1]) * (60 if time[2] == "minutes" else 1) if time else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="names or numbers, such as 03; default: all, in order")
    parser.add_argument("--in-place", action="store_true", help="replace the notebooks by their executed selves")
    options = parser.parse_args()
    os.environ.setdefault("MNISTVIZ_PROFILE", "full")
    profile = os.environ["MNISTVIZ_PROFILE"]

    books = sorted(p for p in HERE.glob("**/*.ipynb") if not any(x.startswith((".", "_")) for x in p.parts))
    chosen = [p for p in books if not options.notebooks or any(p.name.startswith(n) for n in options.notebooks)]
    if not chosen:
        print(f"no notebook matches {options.notebooks}; there are: {', '.join(p.stem for p in books)}")
        return 2
    times = {path: stated(path, profile) for path in chosen}
    lessons, folder = [path for path in chosen if times[path]], HERE if options.in_place else HERE / f"_{profile}"
    if len(chosen) > 1:
        print(f"{len(lessons)} lessons and {len(chosen) - len(lessons)} notebooks of solutions, profile {profile!r}.")
        print(f"By their headers the lessons take {sum(times.values()) / 60:.0f} minutes of one slow core; solutions,")
        print(f"which state no time, come on top. Executed copies go to {project.shown(folder)}/; Ctrl-C stops.\n")
    for i, path in enumerate(chosen, 1):
        target = folder / path.relative_to(HERE)
        said = f", {times[path]} s by its header" if times[path] else ""
        print(f"[{i}/{len(chosen)}] {path.relative_to(HERE).as_posix()}{said}", flush=True)
        try:
            seconds = execute(path, target)
        except CellExecutionError as error:
            print(f"{error}\n{path.name} stopped here; the notebooks after it were not run")
            return 1
        except KeyboardInterrupt:
            live("")
            print(f"interrupted in {path.name}; it and the notebooks after it were not written")
            return 130
        print(f"    done in {seconds:.0f} s, written to {project.shown(target)}", flush=True)
    print(f"\nTo read them: `make lab`, or `jupyter lab {project.shown(folder / chosen[0].relative_to(HERE))}`")
    if not options.in_place:
        print(f"Their films are in animations/_{profile}/, their figures in visualizations/_{profile}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
