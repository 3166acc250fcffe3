"""The command line: `python -m mnistviz train | evaluate | predict | study | animate | page | worksheet | app …`."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from mnistviz import project

Options = argparse.Namespace
Parser = argparse.ArgumentParser
MODEL = f"the name of reference weights, or a .pth file (default: {project.DEFAULT})"
MODELS = ("simple", "light", "deep", "compact", "pooled", "sprint", "tiny", "small")
RECIPES = ("tuned", "longer", "published", "robust", "hands", "distilled")
SCENES = ("mnist_data_flow", "forward_propagation", "forward_propagation_demo", "mnist_forward_propagation",
          "backward_propagation", "convolution", "max_pooling", "training_replay", "embedding_evolution")  # fmt: skip


def parser(runs: Mapping[str, Callable[[Options], None]]) -> Parser:
    """All that can be typed after `python -m mnistviz`: the name of each command says which of `runs` it is."""
    top = Parser(prog="mnistviz", description="Train a small network on handwritten digits and see what it does.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, about: str, example: str, device: bool = False) -> Parser:
        sub = commands.add_parser(name, help=about, description=about, epilog=f"example: python -m mnistviz {example}")
        sub.set_defaults(run=runs[name])
        if device:
            sub.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
        return sub

    def engines(sub: Parser, usual: str) -> None:
        about = f"where many of them run: here, in several processes, or on a Dask cluster (default: {usual})"
        sub.add_argument("--engine", choices=("here", "processes", "dask"), default=usual, help=about)
        sub.add_argument("--workers", type=int, help="processes at a time (default: one for each core)")
        sub.add_argument("--address", help="of a Dask scheduler, tcp://…; its workers must share this disk")

    sub = command("train", "train one architecture and keep its weights", "train light --recipe published", device=True)
    sub.description = (
        f"{sub.description}. In several processes: torchrun --nproc-per-node=2 -m mnistviz train light. Each computes "
        "its share of every batch, with dropout of its own; batch norm sees the whole batch on cuda, else that share."
    )
    sub.add_argument("model", help=f"one of {', '.join(MODELS)}")
    sub.add_argument("--recipe", choices=RECIPES, default="tuned", help="default: tuned")
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="mnist", help="default: mnist")
    sub.add_argument("--images", type=int, help="learn from at most this many, every digit in proportion")
    about = "share kept to judge by (default: 0.15, as for the teachers)"
    sub.add_argument("--validation", type=float, default=0.15, help=about)
    sub.add_argument("--epochs", type=int, help="instead of the recipe's")
    sub.add_argument("--seed", type=int, help="instead of the recipe's")
    sub.add_argument("--out", type=Path, help="folder for weights, cards and history (default: models/_mine/MODEL)")
    about = "name the files by date and time, so that a later run keeps them"
    sub.add_argument("--dated", action="store_true", help=about)
    sub.add_argument("--resume", action="store_true", help="go on with a run that was interrupted or killed")
    about = "keep the weights at so many steps too, below OUT/lapse, for `page --lapse` (12 if no number is given)"
    sub.add_argument("--lapse", type=int, nargs="?", const=12, metavar="STEPS", help=about)

    about, example = "judge a model on test digits it has not learned from", "evaluate deep --data mnist"
    sub = command("evaluate", about, example, device=True)
    sub.add_argument("model", help="the name of reference weights, or a .pth file with its card")
    about = "its test part; take the set the model was trained on (default: mnist)"
    sub.add_argument("--data", choices=("mnist", "kaggle"), default="mnist", help=about)
    sub.add_argument("--mistakes", type=int, default=10, help="how many to list (default: 10)")

    about = "read digits from pictures, folders and CSV files of any length, or write a submission"
    sub = command("predict", about, "predict --csv mine.csv --model light", device=True)
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
    sub = command("study", about, example)
    sub.add_argument("file", type=Path, help="a study: models, recipes, seeds and data, in TOML")
    engines(sub, "processes")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="for the results (default: beside the file)")
    sub.add_argument("--dry-run", action="store_true", help="say what there is to do and about how long it takes")
    sub.add_argument("--retry", action="store_true", help="also run again what failed")

    example = "animate mnist_forward_propagation --image my_seven.png --out mine.gif"
    sub = command("animate", "make an animation of a scene, for any model and any digit", example)
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
    sub = command("page", about, "page --model light --out mine.html")
    sub.add_argument("--model", default=project.DEFAULT, help=MODEL)
    sub.add_argument("--out", type=Path, help="the file (default: visualizations/_mine/MODEL.html)")
    about = "with the checkpoints that `train --lapse` kept beside these weights"
    sub.add_argument("--lapse", action="store_true", help=about)

    about = "print exercises in a network's own numbers, and the answers"
    sub = command("worksheet", about, "worksheet --model light --pupils 30 --out worksheets.pdf")
    sub.add_argument("--model", default=project.DEFAULT, help=MODEL)
    sub.add_argument("--pupils", type=int, default=30, help="1 to 200, each with other numbers (default: 30)")
    sub.add_argument("--out", type=Path, help="the file, a .pdf (default: visualizations/_mine/MODEL_worksheets.pdf)")
    sub.add_argument("--seed", type=int, default=0, help="another one draws other numbers (default: 0)")
    sub.add_argument("--paper", choices=("a4", "letter"), default="a4", help="default: a4")

    sub = command("app", "open the app: draw a digit and see it read", "app --port 8600")
    about = "who may reach it (default: localhost, this machine only; 0.0.0.0: everybody in the network)"
    sub.add_argument("--address", default="localhost", help=about)
    sub.add_argument("--port", type=int, default=8501, help="default: 8501")

    sub = command("data", "check the digits and say what there is", "data --kaggle-csv")
    sub.add_argument("--kaggle-csv", action="store_true", help="write the stand-in train.csv and test.csv as files")
    sub.add_argument("--out", type=Path, help="where to (default: digit-recognizer/stand-in)")

    sub = command("models", "list the architectures, or show one layer by layer", "models deep")
    sub.add_argument("model", nargs="?", help="show this one's layers")
    return top
