"""Breaks central lines of the library, one at a time, and shows that the tests notice.

    python tests/mutations.py              # all of them, some minutes
    python tests/mutations.py learn paths  # those in files whose name holds one of these words

Works on a copy in a temporary folder. Tests that fail without any change would prove nothing, so each is run once
on the copy as it is. The exit status is 1 if a change stays unnoticed, or a line is no longer there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# What is broken: (the file below mnistviz/, the test file below tests/ that must fail): [(text of a line, broken)]
TABLE = {
    ("learn/attacks.py", "learn/test_attacks.py"): [
        ("+ size * slope.sign()", "- size * slope.sign()"),  # down the slope
        ("x - self.epsilon), x + self.epsilon)", "x - 1), x + 1)"),  # as far as it likes
    ],
    ("learn/train.py", "learn/test_train.py"): [
        ("* 100_003 + state.epoch", "* 100_003"),  # every epoch draws the same
        ("min(decay, (1 + int(count)) / (10 + int(count)))", "decay"),  # the average starts too slowly
        ("means[:, -1] *= images / recipe.batch", "pass"),  # a short last batch weighs as much as a whole one
        ("recipe.temperature**2 * divergence", "recipe.temperature * divergence"),  # hot teachers are hardly heard
        ("taught = state.teacher(x)", "taught = state.teacher(x.flip(0))"),  # they speak of other pictures
    ],
    ("device.py", "learn/test_processes.py"): [
        ("(end - first) * self.size / len(x)", "1.0"),  # a small share weighs as much as a large one
        ("nn.parallel.DistributedDataParallel(model)", "model"),  # each process for itself
    ],
    ("learn/models.py", "learn/test_models.py"): [
        (".logsumexp(0) - math.log(len(logs))", ".mean(0)")  # the geometric mean
    ],
    ("learn/data.py", "learn/test_data.py"): [
        ("STAND_IN_SEED = 42", "STAND_IN_SEED = 43")  # the stand-in deals otherwise
    ],
    ("learn/handwriting.py", "learn/test_handwriting.py"): [
        ("20, 28, 14", "20, 28, 13")  # a digit's middle
    ],
    ("learn/checkpoint.py", "learn/test_checkpoint.py"): [
        ("weights_only=True", "weights_only=False"),  # code in a file of weights runs
        ("expected != actual", "not expected"),  # the checksum is not compared
    ],
    ("look/capture.py", "look/test_capture.py"): [
        ("tensor.detach().clone()", "tensor.detach()")  # what is recorded may change later
    ],
    ("look/arithmetic.py", "look/test_arithmetic.py"): [
        ("[row + top for row", "[row for row")  # a patch of a padded input, displaced
    ],
    ("look/field.py", "look/test_field.py"): [
        ("above[0], below[-1]", "above[0], below[0]"),  # a kernel of one pixel
        ('.amax(step.settings["dim"], keepdim=True).expand(reached.shape)', ""),  # a softmax of each score by itself
    ],
    ("look/paths.py", "look/test_paths.py"): [
        ("(slopes * slope * step.input[0])", "(slopes * step.input[0])"),  # whatever comes after, all pushes are up
        ("torch.ones_like(step.input)", "step.input"),  # what flows back is multiplied by values
    ],
    ("look/gradients.py", "look/test_gradients.py"): [
        ("return self.deltas * self.factors", "return -self.deltas * self.factors")  # uphill
    ],
    ("look/graph.py", "look/test_gradients.py"): [
        ("if uses[at] != known[at]", "if False")  # claims what it holds in part
    ],
    ("look/chain_rule.py", "look/test_gradients.py"): [
        ("delta * (step.input > 0)", "delta"),  # a gate that lets everything back
        ("return_indices=True)[1]", "return_indices=True)[1].flip(3)"),  # δ to others than the winners
        ("step.weight.double() * scale", "scale"),  # a batch norm without its γ
        ("- mean - normal * along", "- mean"),  # the batch's variance stands still
    ],
    ("look/update.py", "look/test_update.py"): [
        ('(1 - group["dampening"]) * push', "push"),  # nothing is damped
        ("max(square, held.get", "min(square, held.get"),  # AMSGrad forgets
    ],
    ("look/activity.py", "look/test_activity.py"): [
        ("squares + shift**2 * seen * part / (seen + part)", "squares")  # spreads merged as if means were equal
    ],
    ("look/attribution.py", "look/test_attribution.py"): [
        ("[-2, 0, 2]", "[-1, 0, 1]"),  # another filter than Sobel's
        (".sum()) - explained)", ".sum()))"),  # the residual compares with nothing
    ],
    ("show/scales.py", "show/test_scales.py"): [
        ("-largest if any(", "-largest / 2 if any(")  # white is not zero
    ],
    ("animate/backward_propagation.py", "animate/test_backward_propagation.py"): [
        ("self.trace[column.key].delta)[0]", "self.trace[column.key].result)[0]"),  # values where δ should stand
        ("0.0 - float(one.steps", "0.0 - float(trace.steps"),  # the loss after the step is that before it
    ],
    ("animate/scenes.py", "animate/test_backward_propagation.py"): [
        ("SGD(moved.parameters(), rate)", "SGD(moved.parameters(), rate, maximize=True)")  # up the slope
    ],
    ("animate/palette.py", "animate/test_palette.py"): [
        ("np.rint(shares", "np.floor(shares")  # colours a step too low
    ],
}


def copied(folder: Path) -> None:
    """The library and its tests, and links to the data and weights they read."""
    for name in ("mnistviz", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    for name in ("digit-recognizer", "models"):
        (folder / name).symlink_to(REPOSITORY / name)


def run(folder: Path, test: str) -> tuple[int, float, str]:
    """The exit status of pytest in the copy (0: all passed, 1: some failed), seconds, and its last lines."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{test}"]
    world = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=world | {"MNISTVIZ_ROOT": str(folder)}, capture_output=True, text=True
    )
    return done.returncode, time.perf_counter() - began, (done.stdout + done.stderr)[-1500:]


def verdict(folder: Path, file: str, test: str, line: str, broken: str) -> str:
    """Break the line in the copy, run the test, and mend the line again."""
    path = folder / "mnistviz" / file
    text = path.read_text()
    if text.count(line) != 1:
        return f"NOT FOUND: the line is there {text.count(line)} times"
    path.write_text(text.replace(line, broken))
    status, seconds, output = run(folder, test)
    path.write_text(text)
    outcome = {0: "SURVIVED", 1: "caught"}.get(status, f"NO RESULT from pytest:\n{output}\n")
    return f"{outcome} {seconds:6.1f} s"


def main(words: list[str]) -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        copied(folder)
        for (file, test), mutations in TABLE.items():
            if words and not any(word in file for word in words):
                continue
            status, seconds, output = run(folder, test)
            print(f"{file}: {test} {'passes' if status == 0 else 'FAILS UNCHANGED'} {seconds:6.1f} s", flush=True)
            if status:
                print(output)
                failures += 1
                continue
            for line, broken in mutations:
                result = verdict(folder, file, test, line, broken)
                failures += not result.startswith("caught")
                print(f"  {result}  {line}  →  {broken}", flush=True)
    print(f"{failures} failures" if failures else "every change was caught")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
