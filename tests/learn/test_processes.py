"""Two processes train as one: torchrun starts this very file, and the weights are those of one process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mnistviz as mv
from mnistviz.__main__ import main
from mnistviz.device import World
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.checkpoint import FINAL, weights
from mnistviz.learn.history import Fit
from mnistviz.learn.recipes import Recipe

MOVED = Augment(rotation=10, shift=0.07, zoom=0.1)
SMALL = {"epochs": 2, "batch": 50, "precision": "float32"}
COMMAND = ["train", "sprint", "--images", "205", "--epochs", "3", "--device", "cpu", "--validation", "0.01"]
CASES = {  # model, digits and recipe: 205 leave a last batch of 2 + 3, and of 203 each process takes the last 3 whole
    "still compact, averaged": ("compact", 205, mv.recipes.tuned("compact").but(**SMALL, average=0.9, augment=MOVED)),
    "sprint, labels mixed": ("sprint", 203, mv.recipes.tuned("sprint").but(**SMALL, augment=Augment(mixup=0.4))),
    "sprint, attacked": ("sprint", 101, Recipe("sprint", **SMALL, schedule="plateau", attack=Attack(0.1, steps=2))),
    "light, taught": ("light", 101, mv.recipes.distilled("light").but(**SMALL)),
    "pooled": ("pooled", 102, mv.recipes.tuned("pooled").but(**SMALL)),
}


def training(case: str, digits: mv.Digits) -> tuple[dict, dict]:
    """Final weights and history of one case, computed by as many processes as there are."""
    name, count, recipe = CASES[case]
    torch.manual_seed(0)
    model = mv.models.build(name)
    for layer in model:
        if case.startswith("still") and isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    history = mv.fit(model, digits[:count], digits[300:400], recipe, device="cpu", progress=False)
    return weights(model), history.table.drop(columns="seconds").to_dict("list")


def worker(folder: Path, *options: str) -> None:
    """What each process does: the command, whose first try does the cases above and then loses process 1."""
    fit, rank = mv.fit, int(os.environ["RANK"])

    def killed(state: Fit) -> None:
        if rank == 1 and (state.epoch, state.step) == (2, 2):
            os.kill(os.getpid(), signal.SIGKILL)

    def first_try(*args, **more) -> None:
        assert World.here() == (rank, 2)
        mv.fit = fit
        digits = mv.load_digits().train[:400]
        torch.save({case: training(case, digits) for case in CASES}, folder / f"{rank}.pt")
        fit(*args, **more, callbacks={"step": killed})

    torch.cpu.get_capabilities = dict  # no bfloat16: in two halves its sums round otherwise than in one
    mv.fit = fit if options else first_try
    sys.exit(main([*COMMAND, "--out", str(folder / "run"), *options]))


@pytest.fixture(scope="module")
def two(tmp_path_factory, repository) -> tuple[Path, str]:
    """The folder that two processes wrote, and what they printed: in a first try, and in one that goes on from it."""
    folder, said = tmp_path_factory.mktemp("two"), ""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, folder]
    world = os.environ | {"OMP_NUM_THREADS": "1", "MNISTVIZ_ROOT": str(repository), "PYTHONPATH": str(repository)}
    for options, lost in (([], "Signal 9 (SIGKILL)"), (["--resume"], "")):
        done = subprocess.run([*command, *options], env=world, capture_output=True, text=True, timeout=900, check=False)
        assert (done.returncode != 0) == bool(lost), done.stderr[-3000:]
        assert lost in done.stderr
        said += done.stdout
    return folder, said


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(case, two, mnist):
    """To 1e-4, in steps of up to 0.01. Batch norm and dropout differ: then both still have the same weights."""
    (first, second), alone = (torch.load(two[0] / f"{rank}.pt")[case] for rank in (0, 1)), training(case, mnist.train)
    assert all(torch.equal(first[0][name], value) for name, value in second[0].items())
    assert first[1] == second[1]
    assert first[0].keys() == alone[0].keys()
    if case != "pooled":
        torch.testing.assert_close(first[0], alone[0], rtol=0, atol=1e-4)
        assert first[1].keys() == alone[1].keys()
        for name, values in first[1].items():
            assert values == pytest.approx(alone[1][name], abs=1e-5)


def test_the_command_goes_on_after_one_process_was_killed(two, tmp_path, capsys, monkeypatch):
    """To the weights of an unbroken run by one process; and only the first process prints and saves."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert main([*COMMAND, "--out", str(tmp_path)]) == 0
    alone, joined = (mv.load_model(folder / FINAL).state_dict() for folder in (tmp_path, two[0] / "run"))
    torch.testing.assert_close(joined, alone, rtol=0, atol=1e-4)
    assert {path.name for path in (two[0] / "run").iterdir()} == {path.name for path in tmp_path.iterdir()}
    assert [two[1].count(f"epoch  {epoch}/3") for epoch in (1, 2, 3)] == [1, 1, 1]
    assert two[1].count("205 digits to learn from") == 2  # of two tries


@pytest.mark.parametrize("count", [1, 3, 4, 7, 128])
def test_the_shares_are_disjoint_and_their_weights_make_the_mean(count):
    values, places = torch.rand(count, generator=torch.Generator().manual_seed(count)), torch.arange(count)
    shares = [World(rank, 3).share(values, places) for rank in range(3)]
    mean = sum(weight * part.mean() for part, _, weight in shares) / 3
    assert mean == pytest.approx(values.mean())
    taken = torch.cat([part for _, part, _ in shares])
    assert sorted(taken.tolist()) == (list(range(count)) if count >= 6 else sorted([*range(count)] * 3))


def test_synchronised_batch_norm_shares_the_weights_of_the_model_it_stands_for(monkeypatch):
    """Where each process has a GPU of its own; here only what it is made of."""
    monkeypatch.setattr("mnistviz.device.device_of", lambda model: torch.device("cuda"))
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model: model)
    model = mv.models.pooled()
    twin = World(0, 2).joined(model)
    assert [type(layer) for layer in model] == [type(layer) for layer in mv.models.pooled()]
    assert [type(twin.get_submodule(f"bn{i}")) for i in (1, 2, 3, 4)] == [nn.SyncBatchNorm] * 4
    shared = {name: value.data_ptr() for name, value in model.state_dict().items()}
    assert {name: value.data_ptr() for name, value in twin.state_dict().items()} == shared
    assert {id(p) for p in twin.parameters()} == {id(p) for p in model.parameters()}


if __name__ == "__main__":
    worker(Path(sys.argv[1]), *sys.argv[2:])
