"""The command line: `python -m mnistviz train | evaluate | predict | animate | data | models`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import mnistviz as mv
from mnistviz import project, studio
from mnistviz.device import pick_device
from mnistviz.learn import data as sources
from mnistviz.learn.data import Digits


def train(options: argparse.Namespace) -> None:
    recipe = getattr(mv.recipes, options.recipe)(options.model)
    if options.seed is not None:
        recipe = recipe.but(seed=options.seed)
    if options.epochs is not None:
        recipe = recipe.but(epochs=options.epochs)
    torch.manual_seed(recipe.seed)
    digits = mv.load_digits(options.data, limit=options.images)
    part, val = digits.train.split(options.validation, seed=recipe.seed)
    model = mv.models.build(options.model)
    folder = options.out or project.models_folder() / "_mine" / options.model
    print(f"{options.model}, {options.recipe} recipe: {len(part):,} digits to learn from, {len(val):,} to judge by")
    history = mv.fit(model, part, val, recipe, device=options.device, folder=folder, resume=options.resume)
    print(history)
    print(f"{project.shown(folder)}: " + ("go on with --resume" if history.interrupted else "best and final weights"))


def evaluate(options: argparse.Namespace) -> None:
    model = mv.load_model(options.model, pick_device(options.device))
    digits = _test_set(options.data)
    _refuse_seen(options.model, digits)
    report = mv.evaluate(model, digits)
    print(report)
    print(report.per_digit.round(4).to_string())
    print(f"\nThe {min(options.mistakes, len(report.mistakes))} mistakes it was surest of:")
    print(report.mistakes.head(options.mistakes).round(4).to_string(index=False))


def predict(options: argparse.Namespace) -> None:
    model = mv.load_model(options.model, pick_device(options.device))
    if options.submission:
        digits = mv.load_digits("kaggle")
        _refuse_seen(options.model, digits.test)
        mv.kaggle.write_submission(options.submission, mv.predict(model, digits.test).argmax(1))
        print(f"{options.submission}: {len(digits.test):,} rows of ImageId,Label")
    for path in options.pictures:
        probabilities = mv.predict(model, mv.read_digit(path))[0]
        ranked = np.argsort(-probabilities)[:3]
        others = ", ".join(f"{d} {probabilities[d]:.1%}" for d in ranked[1:])
        print(f"{path}: {ranked[0]}  ({probabilities[ranked[0]]:.1%}; then {others})")


def animate(options: argparse.Namespace) -> None:
    digit = mv.read_digit(options.image) if options.image else None
    if options.digit is not None:
        digit = studio.example(options.digit)
    made = mv.animate.film(options.scene, options.model, digit, frames=options.frames)
    out = options.out or project.root() / "animations" / "_mine" / f"{options.scene}.gif"
    path = made.save(out, budget=None if options.any_size else 3_000_000)
    print(
        f"{project.shown(path)}: {path.stat().st_size / 1000:,.0f} kB, and its frames on paper in {path.stem}_sheet.png"
    )
    print(made.alt)


def data(options: argparse.Namespace) -> None:
    mnist = mv.load_digits("mnist")
    for digits in (mnist.train, mnist.test):
        counts = " ".join(f"{d}:{c}" for d, c in enumerate(np.bincount(digits.known_labels(), minlength=10)))
        print(f"{digits!r}\n  {counts}")
    if options.kaggle_csv:
        dealt = sources.stand_in(mnist)
        folder = Path(options.out or project.data_folder() / "stand-in")
        mv.kaggle.write_csv(folder / "train.csv", dealt.train.images.numpy(), dealt.train.known_labels().numpy())
        mv.kaggle.write_csv(folder / "test.csv", dealt.test.images.numpy())
        mv.kaggle.write_submission(folder / "answers.csv", np.asarray(dealt.answers))
        print(f"{project.shown(folder)}: train.csv, test.csv and answers.csv, a stand-in and not Kaggle's own rows")


def models(options: argparse.Namespace) -> None:
    if options.model:
        print(mv.models.layer_table(mv.models.build(options.model)).to_string(float_format="{:,.1f}".format))
        return
    for name, make in mv.models.MODELS.items():
        print(f"{name:<9}{(make.__doc__ or '').splitlines()[0]}")


def _refuse_seen(model: str, digits: Digits) -> None:
    card = mv.read_card(model)
    if not mv.checkpoint.unseen(card, digits):
        learned = card.get("data", {}).get("train", "unknown digits")
        raise mv.MnistvizError(
            "this model may have learned from these very digits; a score would mean nothing",
            given=f"learned from {learned}, to be judged on {digits.source}",
            fix="judge it on the set it was trained on (--data), or train one on yours: python -m mnistviz train",
        )


def _test_set(name: str) -> Digits:
    digits = mv.load_digits(name)
    if digits.test.labels is not None:
        return digits.test
    if digits.answers is None:
        raise mv.MnistvizError("Kaggle's test.csv has no labels to judge by", fix="use --data mnist, or --submission")
    return Digits(digits.test.images, digits.answers, digits.test.source)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="mnistviz", description="Train a small network on handwritten digits and see what it does."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(function, about: str, example: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
        sub = commands.add_parser(
            function.__name__, help=about, description=about, epilog=f"example: python -m mnistviz {example}"
        )
        sub.set_defaults(run=function)
        return sub

    def device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")

    sub = command(train, "train one architecture and keep its weights", "train light --recipe published")
    sub.add_argument("model", help=f"one of {', '.join(mv.models.MODELS)}")
    sub.add_argument("--recipe", choices=("tuned", "published", "robust"), default="tuned", help="default: tuned")
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="kaggle", help="default: kaggle")
    sub.add_argument("--images", type=int, help="learn from at most this many, every digit in proportion")
    sub.add_argument("--validation", type=float, default=0.15, help="share kept for validation (default: 0.15)")
    sub.add_argument("--epochs", type=int, help="instead of the recipe's")
    sub.add_argument("--seed", type=int, help="instead of the recipe's")
    sub.add_argument("--out", type=Path, help="folder for weights, cards and history (default: models/_mine/MODEL)")
    sub.add_argument("--resume", action="store_true", help="go on with a run that was interrupted or killed")
    device(sub)

    sub = command(evaluate, "judge a model on test digits it has not learned from", "evaluate deep --data kaggle")
    sub.add_argument("model", help="the name of reference weights, or a .pth file with its card")
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="kaggle",
                     help="its test part; take the set the model was trained on (default: kaggle)")  # fmt: skip
    sub.add_argument("--mistakes", type=int, default=10, help="how many to list (default: 10)")
    device(sub)

    sub = command(predict, "read digits from pictures, or write a submission", "predict my_seven.png")
    sub.add_argument("pictures", nargs="*", help="PNG or JPEG files, one digit each, any size, light or dark")
    sub.add_argument("--model", default="deep", help="the name of reference weights, or a .pth file (default: deep)")
    sub.add_argument(
        "--submission", type=Path, metavar="CSV", help="predict Kaggle's 28,000 test digits into this file"
    )
    device(sub)

    sub = command(animate, "make an animation of a scene, for any model and any digit",
                  "animate mnist_forward_propagation --image my_seven.png --out mine.gif")  # fmt: skip
    sub.add_argument("scene", help=f"one of {', '.join(studio.SCENES)}")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--digit", type=int, help="the first of this kind among MNIST's test digits (default: 7)")
    which.add_argument("--image", type=Path, help="a picture of a digit of your own")
    sub.add_argument("--model", default="deep", help="the name of reference weights, or a .pth file (default: deep)")
    sub.add_argument(
        "--frames", type=int, default=8, help="of each movement: 2 is quick and small, 8 is smooth (default)"
    )
    sub.add_argument("--out", type=Path, help=".gif, .webp, .png or .mp4 (default: animations/_mine/SCENE.gif)")
    sub.add_argument("--any-size", action="store_true", help="do not stop at 3 MB")

    sub = command(data, "check the digits and say what there is", "data --kaggle-csv")
    sub.add_argument("--kaggle-csv", action="store_true", help="write the stand-in train.csv and test.csv as files")
    sub.add_argument("--out", type=Path, help="where to (default: digit-recognizer/stand-in)")

    sub = command(models, "list the architectures, or show one layer by layer", "models deep")
    sub.add_argument("model", nargs="?", help="show this one's layers")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.run is predict and not options.pictures and not options.submission:
        parser().error("predict needs a picture or --submission CSV")
    try:
        options.run(options)
    except mv.MnistvizError as error:
        print(f"mnistviz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
