"""The network in a browser: bytes of its page, and milliseconds from a digit to all maps and scores.

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
TIMED = """(pixels) => {
  const x = Float32Array.from(pixels), times = [];
  for (let i = 0; i < 10; i++) lab.forward(x);
  for (let i = 0; i < 40; i++) {
    const start = performance.now();
    lab.forward(x);
    times.push(performance.now() - start);
  }
  return times;
}"""


def lab(digits: DigitSet) -> list[Row]:
    """`light` and `deep` as pages: their size, and a forward pass in Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return [("a forward pass in the browser", "not measured: needs playwright", "", "", "")]
    rows, pixels = [], digits.test[0].pixels.flatten().tolist()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        for name, (most, limit) in GOALS.items():
            path = mv.page(mv.load_model(name), Path(folder, f"{name}.html"))
            tab = browser.new_page()
            tab.goto(path.as_uri())
            times = tab.evaluate(TIMED, pixels)
            took = f"{statistics.median(times):.3g} ms ({min(times):.3g} to {max(times):.3g})"
            rows.append(
                (f"`{name}` as a page", f"{path.stat().st_size / 1000:,.0f} kB", "", "", f"at most {most:,} kB")
            )
            rows.append((f"a forward pass of `{name}` in Chromium", took, "", "", f"within {limit} ms"))
        browser.close()
    return rows


if __name__ == "__main__":
    for row in lab(mv.load_digits("mnist")):
        print(" | ".join(row))
