"""The network in a browser: bytes of its page, and milliseconds from a stroke to all maps and probabilities.

python -m benchmarks.page            prints the rows; needs playwright and Chromium
"""

import shutil
import statistics
import tempfile
from pathlib import Path

import mnistviz as mv
from mnistviz.learn.data import DigitSet

Row = tuple[str, str, str, str, str]  # what, here, beside, ratio, goal
GOALS = {"light": (400, 16), "deep": (3_600, 80)}  # kB, ms
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
SEVEN = [[[0.3, 0.2], [0.7, 0.2], [0.6, 0.5], [0.45, 0.8]], [[0.35, 0.5], [0.6, 0.5]]]
TIMED = """(strokes) => {
  const times = [];
  lab.draw(strokes);
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    lab.read(lab.pad.image());
    lab.update();
    if (i >= 10) times.push(performance.now() - start);
  }
  return times;
}"""


def lab(_: DigitSet) -> list[Row]:
    """`light` and `deep` as pages: their size, and what follows a stroke, in Chromium: reading it, maps, answer."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return [("after a stroke, in the browser", "not measured: needs playwright", "", "", "")]
    rows: list[Row] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        for name, (most, limit) in GOALS.items():
            path = mv.page(mv.load_model(name), Path(folder, f"{name}.html"))
            tab = browser.new_page()
            tab.goto(path.as_uri())
            times = tab.evaluate(TIMED, SEVEN)
            took = f"{statistics.median(times):.3g} ms ({min(times):.3g} to {max(times):.3g})"
            rows.append(
                (f"`{name}` as a page", f"{path.stat().st_size / 1000:,.0f} kB", "", "", f"at most {most:,} kB")
            )
            rows.append((f"after a stroke, all maps of `{name}` in Chromium", took, "", "", f"within {limit} ms"))
        browser.close()
    return rows


if __name__ == "__main__":
    for row in lab(mv.load_digits("mnist")):
        print(" | ".join(row))
