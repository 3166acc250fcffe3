"""A million digits from CSV files to CSV files: how fast, and that memory does not grow with their number.

python -m benchmarks.bulk            prints the rows; needs 2 GB of room for a while
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import mnistviz as mv
from mnistviz.learn.bulk import predict_files
from mnistviz.learn.data import DigitSet

Row = tuple[str, str, str, str, str]
EACH = 100_000  # digits written at a time


def write(path: Path, digits: mv.Digits, pieces: range) -> None:
    """Of each piece, the 70,000 in turn, moved by up to two pixels in a way of its own."""
    body = path.with_name("piece.csv")
    with open(path, "wb") as whole:
        for piece in pieces:
            few = digits[torch.arange(piece * EACH, (piece + 1) * EACH) % len(digits)]
            moved = few.images.roll((piece % 5 - 2, piece // 5 - 1), (1, 2))  # the border is black
            mv.kaggle.write_csv(body, moved.numpy(), few.known_labels().numpy())
            with open(body, "rb") as file:
                header = file.readline()
                whole.write(header if piece == pieces[0] else b"")
                while block := file.read(1 << 24):
                    whole.write(block)
    body.unlink()


def child(*paths: str) -> None:
    """In a process of its own, after each file: what was done, processor seconds, and the peak of memory so far.

    The peak is the kernel's own (Linux). `getrusage` would begin with that of the parent, which holds more.
    """
    for done in predict_files(paths, "light", device="cpu", progress=False):
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
        print(json.dumps([done.digits, done.rate, done.right, time.process_time(), peak, done.error]), flush=True)


def streaming(digits: DigitSet) -> list[Row]:
    """1,000,000 digits through `predict --csv`, and the peak of memory after 100,000 and after all."""
    images, labels = (torch.cat([getattr(d, n) for d in (digits.train, digits.test)]) for n in ("images", "labels"))
    both = mv.Digits(images, labels, "all 70,000")
    model = mv.load_model("light", "cpu")
    mv.predict(model, both[:2000])
    start, spent = time.perf_counter(), time.process_time()
    mv.predict(model, both)
    alone, each = len(both) / (time.perf_counter() - start), (time.process_time() - spent) / len(both)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, "first.csv"), Path(folder, "rest.csv")]
        write(paths[0], both, range(1))
        write(paths[1], both, range(1, 10))
        size = sum(path.stat().st_size for path in paths) / 1e9
        call = [sys.executable, "-m", "benchmarks.bulk", *map(str, paths)]
        lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    (first, _, _, begun, before, error), (rest, rate, right, ended, after, later) = map(json.loads, lines)
    assert (first, rest, error, later) == (EACH, 9 * EACH, "", "")
    what = f"digits per second, CSV files to answers, `light` ({size:.1f} GB, {right / rest:.2%} right)"
    beside = f"`predict` of {len(both):,} in memory: {alone:,.0f}"
    share = f"{each * rest / (ended - begun):.0%} of the processor time is the model's"
    return [
        (what, f"{rate:,.0f}", beside, share, "most of it"),
        (f"peak memory at {first + rest:,} digits", f"{after:.0f} MiB", f"at {first:,}: {before:.0f} MiB",
         f"{after - before:+.1f} MiB", "within 20 MB"),
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:]:
        child(*sys.argv[1:])
    else:
        from benchmarks.run import table_row

        print("\n".join(map(table_row, streaming(mv.load_digits("mnist")))))
