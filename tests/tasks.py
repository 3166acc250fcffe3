"""What worker processes do in tests; few imports, so that they start quickly."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
HEAVY = ["torch._dynamo", "sklearn.model_selection", "matplotlib.pyplot", "hypothesis", "pytest"]
PROCESSES.set_forkserver_preload(["mnistviz.learn.study", "mnistviz.learn.bulk", *HEAVY])


def square(number: int) -> int:
    return number * number


def refuse_two(number: int) -> int:
    from mnistviz.errors import MnistvizError

    if number == 2:
        raise MnistvizError("no room for this number", given=number)
    return number


def die_at_two(number: int) -> int:
    if number == 2:
        os._exit(1)
    return number


def die_once(task: tuple[int, str]) -> int:
    """The second task kills its worker the first time that it is done."""
    number, mark = task
    if number == 2 and not os.path.exists(mark):
        Path(mark).touch()
        os._exit(1)
    return number


def deadly(at: int) -> Callable[[Callable], Callable]:
    """From here on this process kills itself at its n-th write, of which half may be on the disk."""
    moments, write = count(1), Path.write_bytes

    def wrap(function: Callable) -> Callable:
        def wrapped(*args, **more):
            if next(moments) == at:
                if function is write:
                    write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return wrapped

    Path.write_bytes = wrap(write)
    os.fsync, os.replace, os.unlink = map(wrap, (os.fsync, os.replace, os.unlink))
    return wrap


def deaths(task: Callable[..., None], *args: object) -> Iterator[int]:
    """`task(*args, n)` in a process of its own that dies at its n-th write, for n = 1, 2 … until one lives."""
    for at in count(1):
        process = PROCESSES.Process(target=task, args=(*args, at))
        process.start()
        process.join()
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
        yield at


def study_here(file: str, folder: str, digits: tuple, log: str, die_at: int | None = None) -> None:
    """A study in this process on these digits, which notes every epoch; it may kill itself at its n-th moment."""
    import torch

    from mnistviz.learn import study
    from mnistviz.learn.data import Digits, DigitSet

    images, labels = map(torch.from_numpy, digits)
    small = DigitSet(Digits(images[:400], labels[:400], "few train"), Digits(images[400:], labels[400:], "few test"))
    study.load_digits, fit = lambda name: small, study.fit

    def noted(model, train, val, recipe, *, callbacks, **settings):
        def note(state) -> None:
            with open(log, "a") as lines:
                lines.write(f"{recipe.model} {recipe.seed} {state.epoch} {os.getpid()}\n")

        return fit(model, train, val, recipe, callbacks=callbacks | {"epoch": [callbacks["epoch"], note]}, **settings)

    study.fit = noted
    if die_at is not None:
        study.alive = deadly(die_at)(study.alive)
    study.study(file, folder=folder, engine="here")
