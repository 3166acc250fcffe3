"""What the commands of the command line do; commands.py says what can be typed.

It parses first: what a command needs is loaded when the command runs.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import mnistviz as mv
from mnistviz import commands, project
from mnistviz.commands import Options
from mnistviz.errors import MnistvizError, refuse

BULK = ("out", "device", "engine", "workers", "address")  # options handed on to predict_files


def train(options: Options) -> None:
    import torch

    from mnistviz.device import World, together

    with together(options.device):
        given = {name: getattr(options, name) for name in ("seed", "epochs") if getattr(options, name) is not None}
        recipe = getattr(mv.recipes, options.recipe)(options.model).but(**given)
        torch.manual_seed(recipe.seed)
        # what a student is judged by, its teachers were judged by: they learned with the seed that their split has
        teachers = [mv.read_card(name) for name in recipe.teachers]
        seed = teachers[0]["seed"] if teachers else recipe.seed
        part, val = mv.load_digits(options.data).train.split(options.validation, seed=seed)
        judges = f"{len(val):,} images, {val.source}"
        what = "the teachers may have learned from digits that would judge their student"
        other = any(card["data"].get("validation") != judges for card in teachers)
        refuse(other, what, given=judges, fix="leave out --validation and --data")
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
    from mnistviz.device import pick_device

    model = mv.load_model(options.model, pick_device(options.device))
    digits = mv.load_digits(options.data).judged
    _refuse_seen(options.model, digits)
    report = mv.evaluate(model, digits)
    print(report)
    print(report.per_digit.round(4).to_string())
    print(f"\nThe {min(options.mistakes, len(report.mistakes))} mistakes it was surest of:")
    print(report.mistakes.head(options.mistakes).round(4).to_string(index=False))


def predict(options: Options) -> None:
    from mnistviz.device import pick_device

    model = mv.load_model(options.model, pick_device(options.device))
    if options.submission:
        digits = mv.load_digits("kaggle")
        _refuse_seen(options.model, digits.test)
        mv.kaggle.write_submission(options.submission, mv.predict(model, digits.test).argmax(1))
        print(f"{options.submission}: {len(digits.test):,} rows of ImageId,Label")
    failed, folders = [], [path for path in options.pictures if Path(path).is_dir()]
    for path in (path for path in options.pictures if path not in folders):
        try:
            digit = mv.read_digit(path)
        except MnistvizError as error:
            failed.append(str(error))
            continue
        probabilities = mv.predict(model, digit)[0]
        sure = mv.handwriting.how_sure(digit.pixels, probabilities)
        best, *then = (f"{digit} {probabilities[digit]:.1%}" for digit in (-probabilities).argsort()[:3])
        said = sure if sure == mv.handwriting.UNREAD else f"{best[0]}, {sure}"
        print(f"{path}: {said}  ({best}, then {', '.join(then)})")
    if many := [*options.csv, *folders]:
        from mnistviz.learn.bulk import predict_files

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
    failed = [f"{name} failed: {error}" for name, error in table["error"].dropna().items()]
    refuse(failed, "\n".join(failed), fix="look into it, and try again with --retry; all other results are kept")


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


def worksheet(options: Options) -> None:
    from mnistviz.page.worksheet import worksheets

    given = {name: getattr(options, name) for name in ("pupils", "seed", "paper")}
    title = mv.checkpoint.find(options.model).parent.name
    out = options.out or project.root() / "visualizations" / "_mine" / f"{title}_worksheets.pdf"
    path = worksheets(mv.load_model(options.model), out, title=title, **given)
    print(f"{project.shown(path)}: {options.pupils} sheets, and after them the answers")


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


def _refuse_seen(model: str, digits: "mv.Digits") -> None:
    card = mv.read_card(model)
    what = "this model may have learned from these very digits; a score would mean nothing"
    learned = card.get("data", {}).get("train", "unknown digits")
    given = f"learned from {learned}, to be judged on {digits.source}"
    fix = "judge it on the set it was trained on (--data), or train one on yours: python -m mnistviz train"
    refuse(not mv.checkpoint.unseen(card, digits), what, given=given, fix=fix)


COMMANDS = (train, evaluate, predict, study, animate, page, worksheet, app, data, models)


def parser() -> commands.Parser:
    return commands.parser({command.__name__: command for command in COMMANDS})


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
