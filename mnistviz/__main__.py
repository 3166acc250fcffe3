"""The command line: `python -m mnistviz train | evaluate | predict | study | animate | page | app | data | models`.

It parses first: what a command needs is loaded when the command runs.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mnistviz as mv
from mnistviz import project
from mnistviz.errors import refuse

if TYPE_CHECKING:
    from torch import nn

    from mnistviz.learn.data import Digits

MODEL = f"the name of reference weights, or a .pth file (default: {project.DEFAULT})"
BULK = ("out", "device", "engine", "workers", "address")  # options handed on to predict_files
Options = argparse.Namespace
Parser = argparse.ArgumentParser
MODELS = ("simple", "light", "deep", "compact", "pooled", "sprint", "tiny", "small")
RECIPES = ("tuned", "longer", "published", "robust", "hands", "distilled")
SCENES = ("mnist_data_flow", "forward_propagation", "forward_propagation_demo", "mnist_forward_propagation",
          "backward_propagation", "convolution", "max_pooling", "training_replay", "embedding_evolution")  # fmt: skip


def train(options: Options) -> None:
    import torch

    from mnistviz.device import World, together

    with together(options.device):
        given = {name: getattr(options, name) for name in ("seed", "epochs") if getattr(options, name) is not None}
        recipe = getattr(mv.recipes, options.recipe)(options.model).but(**given)
        torch.manual_seed(recipe.seed)
        # what a student is judged by, its teachers were judged by: they learned with the seed that their split has
        seed = mv.read_card(recipe.teachers[0])["seed"] if recipe.teachers else recipe.seed
        part, val = mv.load_digits(options.data).train.split(options.validation, seed=seed)
        part = part.sample(options.images)  # after the split: `val` is what every lesson takes for it
        model = mv.models.build(options.model)
        folder = options.out or project.models_folder() / "_mine" / options.model
        print(f"{options.model}, {options.recipe} recipe: {len(part):,} digits to learn from, {len(val):,} to judge by")
        settings = {"device": options.device, "folder": folder, "resume": options.resume}
        if options.lapse:
            from mnistviz.page.lapse import keeping

            steps = mv.Timelapse.over(recipe.epochs * math.ceil(len(part) / recipe.batch), options.lapse).at
            settings["callbacks"] = keeping(folder, steps)
        history = mv.fit(model, part, val, recipe, **settings)
        print(history)
        left = "go on with --resume" if history.interrupted else "best and final weights"
        if options.dated and not history.interrupted:
            left += f" in {World.here().of_first(mv.checkpoint.dated, folder)[0].name} and beside it"
        print(f"{project.shown(folder)}: {left}")


def evaluate(options: Options) -> None:
    model = _model(options)
    digits = mv.load_digits(options.data).judged
    _refuse_seen(options.model, digits)
    report = mv.evaluate(model, digits)
    print(report)
    print(report.per_digit.round(4).to_string())
    print(f"\nThe {min(options.mistakes, len(report.mistakes))} mistakes it was surest of:")
    print(report.mistakes.head(options.mistakes).round(4).to_string(index=False))


def predict(options: Options) -> None:
    model = _model(options)
    if options.submission:
        digits = mv.load_digits("kaggle")
        _refuse_seen(options.model, digits.test)
        mv.kaggle.write_submission(options.submission, mv.predict(model, digits.test).argmax(1))
        print(f"{options.submission}: {len(digits.test):,} rows of ImageId,Label")
    folders = [path for path in options.pictures if Path(path).is_dir()]
    for path in (path for path in options.pictures if path not in folders):
        digit = mv.read_digit(path)
        probabilities = mv.predict(model, digit)[0]
        sure = mv.handwriting.how_sure(digit.pixels, probabilities)
        best, *then = (f"{digit} {probabilities[digit]:.1%}" for digit in (-probabilities).argsort()[:3])
        said = sure if sure == mv.handwriting.UNREAD else f"{best[0]}, {sure}"
        print(f"{path}: {said}  ({best}, then {', '.join(then)})")
    if many := [*options.csv, *folders]:
        from mnistviz.learn.bulk import predict_files

        failed = []
        for done in predict_files(many, options.model, **{name: getattr(options, name) for name in BULK}):
            print(done) if not done.error else failed.append(done.error)
        refuse(failed, "\n".join(failed))


def study(options: Options) -> None:
    from mnistviz.learn import study as studies
    from mnistviz.learn.engines import at_once

    if options.dry_run:
        print(studies.planned(options.file, options.out, at_once(options.engine, options.workers)))
        return
    engine = {"engine": options.engine, "workers": options.workers, "address": options.address}
    table = studies.study(options.file, folder=options.out, retry=options.retry, **engine)
    print(studies.summary(table).to_string(index=False))
    for name, error in table["error"].dropna().items():
        print(f"{name} failed: {error}")


def animate(options: Options) -> None:
    from mnistviz.animate import scenes

    digit = mv.read_digit(options.image) if options.image else None
    if options.digit is not None:
        digit = scenes.example(options.digit)
    model = options.model or (project.DEFAULT if options.image else "deep")
    film = mv.animate.film(options.scene, model, digit, frames=options.frames, label=options.label)
    out = options.out or project.root() / "animations" / "_mine" / f"{options.scene}.gif"
    path = film.save(out, budget=None if options.any_size else 3_000_000)
    size = f"{path.stat().st_size / 1000:,.0f} kB"
    print(f"{project.shown(path)}: {size}, and its frames on paper in {path.stem}_sheet.png")
    print(film.alt)


def page(options: Options) -> None:
    from mnistviz.page import build, lapse

    weights = mv.checkpoint.find(options.model)
    looks = lapse.kept(weights) if options.lapse else None
    out = options.out or project.root() / "visualizations" / "_mine" / f"{weights.parent.name}.html"
    title = None if Path(options.model).suffix else options.model
    path = build.page(mv.load_model(options.model), out, looks, title)
    print(f"{project.shown(path)}: {path.stat().st_size / 1000:,.0f} kB; open it in any browser")


def app(options: Options) -> None:
    from mnistviz.page.serve import serve

    serve(options.address, options.port)


def data(options: Options) -> None:
    from mnistviz.learn.data import stand_in

    mnist = mv.load_digits("mnist")
    for digits in (mnist.train, mnist.test):
        counts = digits.known_labels().bincount(minlength=10)
        print(f"{digits!r}\n  {' '.join(f'{digit}:{count}' for digit, count in enumerate(counts))}")
    if options.kaggle_csv:
        dealt = stand_in(mnist)
        folder = Path(options.out or project.data_folder() / "stand-in")
        mv.kaggle.write_csv(folder / "train.csv", dealt.train.images.numpy(), dealt.train.known_labels().numpy())
        mv.kaggle.write_csv(folder / "test.csv", dealt.test.images.numpy())
        mv.kaggle.write_submission(folder / "answers.csv", dealt.judged.known_labels().numpy())
        print(f"{project.shown(folder)}: train.csv, test.csv and answers.csv, a stand-in and not Kaggle's own rows")


def models(options: Options) -> None:
    if options.model:
        print(mv.models.layer_table(mv.models.build(options.model)).to_string(float_format="{:,.1f}".format))
        return
    for name, make in mv.models.MODELS.items():
        print(f"{name:<9}{(make.__doc__ or '').splitlines()[0]}")


def _model(options: Options) -> "nn.Module":
    from mnistviz.device import pick_device

    return mv.load_model(options.model, pick_device(options.device))


def _refuse_seen(model: str, digits: "Digits") -> None:
    card = mv.read_card(model)
    if not mv.checkpoint.unseen(card, digits):
        learned = card.get("data", {}).get("train", "unknown digits")
        what = "this model may have learned from these very digits; a score would mean nothing"
        given = f"learned from {learned}, to be judged on {digits.source}"
        fix = "judge it on the set it was trained on (--data), or train one on yours: python -m mnistviz train"
        raise mv.MnistvizError(what, given=given, fix=fix)


def parser() -> Parser:
    top = Parser(prog="mnistviz", description="Train a small network on handwritten digits and see what it does.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[Options], None], about: str, example: str, device: bool = False) -> Parser:
        epilog = f"example: python -m mnistviz {example}"
        sub = commands.add_parser(run.__name__, help=about, description=about, epilog=epilog)
        sub.set_defaults(run=run)
        if device:
            sub.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
        return sub

    def engines(sub: Parser, usual: str) -> None:
        about = f"where many of them run: here, in several processes, or on a Dask cluster (default: {usual})"
        sub.add_argument("--engine", choices=("here", "processes", "dask"), default=usual, help=about)
        sub.add_argument("--workers", type=int, help="processes at a time (default: one for each core)")
        sub.add_argument("--address", help="of a Dask scheduler, tcp://…; its workers must share this disk")

    sub = command(train, "train one architecture and keep its weights", "train light --recipe published", device=True)
    sub.description = (
        f"{sub.description}. In several processes: torchrun --nproc-per-node=2 -m mnistviz train light. Each computes "
        "its share of every batch, with dropout of its own; batch norm sees the whole batch on cuda, else that share."
    )
    sub.add_argument("model", help=f"one of {', '.join(MODELS)}")
    sub.add_argument("--recipe", choices=RECIPES, default="tuned", help="default: tuned")
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="mnist", help="default: mnist")
    sub.add_argument("--images", type=int, help="learn from at most this many, every digit in proportion")
    sub.add_argument(
        "--validation", type=float, default=0.15, help="share kept to judge by (default: 0.15, as for the teachers)"
    )
    sub.add_argument("--epochs", type=int, help="instead of the recipe's")
    sub.add_argument("--seed", type=int, help="instead of the recipe's")
    sub.add_argument("--out", type=Path, help="folder for weights, cards and history (default: models/_mine/MODEL)")
    about = "name the files by date and time, so that a later run keeps them"
    sub.add_argument("--dated", action="store_true", help=about)
    sub.add_argument("--resume", action="store_true", help="go on with a run that was interrupted or killed")
    about = "keep the weights at so many steps too, below OUT/lapse, for `page --lapse` (12 if no number is given)"
    sub.add_argument("--lapse", type=int, nargs="?", const=12, metavar="STEPS", help=about)

    about, example = "judge a model on test digits it has not learned from", "evaluate deep --data mnist"
    sub = command(evaluate, about, example, device=True)
    sub.add_argument("model", help="the name of reference weights, or a .pth file with its card")
    about = "its test part; take the set the model was trained on (default: mnist)"
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="mnist", help=about)
    sub.add_argument("--mistakes", type=int, default=10, help="how many to list (default: 10)")

    about = "read digits from pictures, folders and CSV files of any length, or write a submission"
    sub = command(predict, about, "predict --csv mine.csv --model light", device=True)
    about = "PNG or JPEG files, one digit each, any size, light or dark; of a folder, all in it and below"
    sub.add_argument("pictures", nargs="*", metavar="PICTURE|FOLDER", help=about)
    about = "files of any length with Kaggle's columns pixel0 … pixel783, with label or without"
    sub.add_argument("--csv", nargs="+", type=Path, default=[], metavar="FILE", help=about)
    about = "for FILE_answers.csv and FOLDER_answers.csv (default: beside FILE.csv and FOLDER); "
    about += "the same call again goes on after an interruption, and leaves alone what is answered"
    sub.add_argument("--out", type=Path, metavar="FOLDER", help=about)
    engines(sub, "here")
    sub.add_argument("--model", default=project.DEFAULT, help=MODEL)
    sub.add_argument("--submission", type=Path, metavar="CSV", help="predict Kaggle's 28,000 test digits to this file")

    about, example = "train all that a file describes, once each", "study studies/tuned.toml --engine processes"
    sub = command(study, about, example)
    sub.add_argument("file", type=Path, help="a study: models, recipes, seeds and data, in TOML")
    engines(sub, "processes")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="for the results (default: beside the file)")
    sub.add_argument("--dry-run", action="store_true", help="say what there is to do and about how long it takes")
    sub.add_argument("--retry", action="store_true", help="also run again what failed")

    example = "animate mnist_forward_propagation --image my_seven.png --out mine.gif"
    sub = command(animate, "make an animation of a scene, for any model and any digit", example)
    sub.add_argument("scene", help=f"one of {', '.join(SCENES)}")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--digit", type=int, help="the first of its kind in the test set (default: 7; to go back, a 4)")
    which.add_argument("--image", type=Path, help="a picture of a digit of your own")
    about = "backward_propagation: the label to go back from, right or wrong (default: the digit's)"
    sub.add_argument("--label", type=int, help=about)
    sub.add_argument("--model", help=MODEL.replace("(default:", "(default: deep; with --image"))
    about = "of each movement: 2 is quick and small, 8 is smooth (default)"
    sub.add_argument("--frames", type=int, default=8, help=about)
    sub.add_argument("--out", type=Path, help=".gif, .webp, .png or .mp4 (default: animations/_mine/SCENE.gif)")
    sub.add_argument("--any-size", action="store_true", help="do not stop at 3 MB")

    about = "write a network as one page that computes it for any drawing"
    sub = command(page, about, "page --model light --out mine.html")
    sub.add_argument("--model", default=project.DEFAULT, help=MODEL)
    sub.add_argument("--out", type=Path, help="the file (default: visualizations/_mine/MODEL.html)")
    about = "with the checkpoints that `train --lapse` kept beside these weights"
    sub.add_argument("--lapse", action="store_true", help=about)

    sub = command(app, "open the app: draw a digit and see it read", "app --port 8600")
    about = "who may reach it (default: localhost, this machine only; 0.0.0.0: everybody in the network)"
    sub.add_argument("--address", default="localhost", help=about)
    sub.add_argument("--port", type=int, default=8501, help="default: 8501")

    sub = command(data, "check the digits and say what there is", "data --kaggle-csv")
    sub.add_argument("--kaggle-csv", action="store_true", help="write the stand-in train.csv and test.csv as files")
    sub.add_argument("--out", type=Path, help="where to (default: digit-recognizer/stand-in)")

    sub = command(models, "list the architectures, or show one layer by layer", "models deep")
    sub.add_argument("model", nargs="?", help="show this one's layers")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.run is predict and not (options.pictures or options.csv or options.submission):
        parser().error("predict needs a picture, a folder, --csv FILE or --submission CSV")
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
