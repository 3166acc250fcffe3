"""What worker processes do in tests; few imports, so that they start quickly."""

import os
import signal
from itertools import count
from pathlib import Path


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


def study_here(file: str, folder: str, digits: tuple, log: str, die_at: int | None = None) -> None:
    """A study in this process on these digits, which notes every epoch; it may kill itself at its n-th moment."""
    import torch

    from mnistviz.learn import study
    from mnistviz.learn.data import Digits, DigitSet

    images, labels = map(torch.from_numpy, digits)
    small = DigitSet(Digits(images[:400], labels[:400], "few train"), Digits(images[400:], labels[400:], "few test"))
    study.load_digits = lambda name: small
    moments, write, fit = count(1), Path.write_bytes, study.fit

    def deadly(function):
        def wrapped(*args):
            if next(moments) == die_at:
                if function is write:
                    write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args)

        return wrapped

    def noted(model, train, val, recipe, *, callbacks, **settings):
        def note(state) -> None:
            with open(log, "a") as lines:
                lines.write(f"{recipe.model} {recipe.seed} {state.epoch} {os.getpid()}\n")

        return fit(model, train, val, recipe, callbacks=callbacks | {"epoch": [callbacks["epoch"], note]}, **settings)

    study.fit, study.alive = noted, deadly(study.alive)
    if die_at is not None:
        Path.write_bytes = deadly(write)
        os.fsync, os.replace, os.unlink = map(deadly, (os.fsync, os.replace, os.unlink))
    study.study(file, folder=folder, engine="here")
