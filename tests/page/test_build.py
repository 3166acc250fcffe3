"""What is written into the page, what is refused by name, and the command that writes it."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import content, refused
from torch import nn

import mnistviz as mv
from mnistviz.__main__ import main
from mnistviz.learn import data as sources
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import logits

LIMITS = {"light": 400_000, "deep": 3_600_000}


def inside(path: Path) -> dict[str, Any]:
    """The data of a page."""
    return json.loads(re.search(r'id="network">(.*?)</script>', path.read_text(), re.DOTALL)[1])


@pytest.mark.parametrize("name", LIMITS)
def test_a_page_is_small_and_complete(name, reference, tmp_path):
    path = mv.page(reference[name], tmp_path / "new folder" / "page.html")
    assert path.stat().st_size <= LIMITS[name]
    told = inside(path)
    assert (told["name"], told["title"], told["lapse"]) == (name, name, [])
    assert told["parameters"] == mv.models.count_parameters(reference[name])
    assert [len(told["colours"][kind]) for kind in ("signed", "positive")] == [129, 96]
    assert told["colours"]["signed"][64] == "#ffffff"
    assert [layer["name"] for layer in told["layers"]] == [name for name, _ in reference[name].named_children()]


def test_nothing_is_let_in_but_what_the_page_holds(reference, tmp_path):
    text = mv.page(reference["light"], tmp_path / "page.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        (code,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", text)


def test_the_page_holds_the_first_digits_of_the_test_part_and_pytorchs_answers(networks, engine, mnist):
    tab, few = engine(networks["odd"]), mnist.test[:20]
    held = np.rint(255 * tab.numbers("digitsOf(data.digits).flatMap((d) => Array.from(d))"))
    np.testing.assert_array_equal(held, few.images.flatten())
    assert tab.value("data.digits.labels") == few.labels.tolist()
    expected = logits(networks["odd"], few).flatten()
    np.testing.assert_allclose(tab.numbers("floatsOf(data.reference)"), expected, atol=1e-6)


def test_the_model_stays_as_it_is_and_a_title_is_only_text(tmp_path, open_page):
    model = mv.models.tiny().train()
    model[3].requires_grad_(False)
    torch.manual_seed(5)
    before, drawn = content(dict(model.state_dict())), torch.get_rng_state()
    title = 'ours </script><script>alert("1")</script> {{code}} & "more"'
    tab = open_page(model, title=title)
    assert tab.value("document.title") == title
    assert content(dict(model.state_dict())) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(layer.training for layer in model)


LINEAR, FORGETFUL = nn.Linear(784, 10), nn.BatchNorm2d(1, track_running_stats=False)
REFUSED = {
    "another layer": (nn.Sequential(nn.Flatten(), LINEAR, nn.GELU()), ["layer '2'", "GELU", "Conv2d"]),
    "nested": (nn.Sequential(nn.Sequential(nn.Flatten()), LINEAR), ["layer '0'", "Sequential", "flat"]),
    "no Sequential": (mv.models.Ensemble([nn.Flatten()]), ["Ensemble", "nn.Sequential"]),
    "another size": (nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), ["layer '1'", "1×28×28", "1024"]),
    "colours": (nn.Sequential(nn.Conv2d(3, 10, 28), nn.Flatten()), ["layer '0'", "1×28×28"]),
    "no flatten": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(26, 10)), ["layer '1'", "nn.Flatten()"]),
    "no scores": (nn.Sequential(nn.Conv2d(1, 10, 3)), ["ten scores", "(10, 26, 26)"]),
    "half flat": (nn.Sequential(nn.Conv2d(1, 10, 3), nn.Flatten(2)), ["layer '1'", "(10, 676)"]),
    "batch statistics": (nn.Sequential(FORGETFUL, nn.Flatten(), LINEAR), ["layer '0'", "no statistics"]),
    "a softmax of maps": (nn.Sequential(nn.Softmax(2), nn.Flatten(), LINEAR), ["layer '0'", "Softmax"]),
    "two results": (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), ["layer '0'", "two things"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_page_cannot_compute_is_refused_by_name(what, tmp_path):
    model, words = REFUSED[what]
    refused(lambda: mv.page(model, tmp_path / "page.html"), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_named(value, tmp_path):
    model = mv.models.tiny()
    model.bn2.running_var[3] = value
    (tmp_path / "page.html").write_text("an earlier page")
    refused(lambda: mv.page(model, tmp_path / "page.html"), "bn2.running_var")
    assert (tmp_path / "page.html").read_text() == "an earlier page"


def test_a_lapse_of_another_network_or_of_nothing_is_refused(tmp_path, reference):
    lapse = mv.Timelapse([0, 5])
    refused(lambda: mv.page(reference["light"], tmp_path / "page.html", lapse), "nothing was kept", "fit")
    lapse.checkpoints[0] = reference["compact"].state_dict()
    refused(lambda: mv.page(reference["light"], tmp_path / "page.html", lapse), "do not fit")


def test_train_and_page_with_lapse(project_root, mnist, monkeypatch, capsys, engine):
    few = DigitSet(mnist.train[:600], mnist.test[:50])
    monkeypatch.setattr(sources, "load_mnist", lambda folder: few)
    train = ["train", "tiny", "--epochs", "2", "--device", "cpu", "--out", str(project_root / "mine")]
    weights, out = str(project_root / "mine" / "best_mnist_model.pth"), str(project_root / "page.html")
    assert main([*train, "--lapse", "3"]) == 0
    files = sorted((project_root / "mine" / "lapse").glob("*.pth"))
    steps = [int(file.stem) for file in files]
    assert (len(steps), steps[0]) == (3, 0)
    assert main(["page", "--model", weights, "--out", out, "--lapse"]) == 0
    assert "kB; open it in any browser" in capsys.readouterr().out
    told = inside(Path(out))
    assert [moment["label"] for moment in told["lapse"]] == steps
    assert told["title"] == "tiny"
    tab = engine(mv.load_model(weights))
    for moment, file in zip(told["lapse"], files, strict=True):
        given = {"text": moment["floats"], "x": few.test[0].pixels.flatten()}
        here = tab.numbers("forward(makeNetwork(data, floatsOf(text)), x).logits", **given)
        np.testing.assert_allclose(here, logits(mv.load_model(file), few.test[0])[0], atol=1e-4)
    assert main([*train, "--seed", "7"]) == 0  # without --lapse: what lies there is of the training before
    assert main(["page", "--model", weights, "--out", out, "--lapse"]) == 1
    assert "another training" in capsys.readouterr().err
