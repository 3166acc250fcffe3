"""The device is the best there is or the one insisted on, and bfloat16 is used where it is native."""

import pytest
import torch
from helpers import refused

from mnistviz.device import Precision, pick_device, pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    def has(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(("cuda", "mps", "best"), [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda")])
def test_the_best_device_is_taken(machine, cuda, mps, best):
    machine(cuda, mps)
    assert pick_device().type == best
    assert pick_device("cpu").type == "cpu"
    assert pick_device(torch.device(best)).type == best


def test_a_device_that_is_not_there_is_refused_and_graphics_cards_are_counted(machine):
    machine()
    for name in ("cuda", "cuda:0", "mps", "meta", "gpu", "", "cpu:x"):
        refused(lambda name=name: pick_device(name), "not available here", f"given:   {name!r}", "allowed: cpu\n")
    machine(cuda=2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    refused(lambda: pick_device("cuda:2"), "cuda:2")


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_chosen_where_it_is_native_and_given_where_it_is_asked_for(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert pick_precision("auto", CPU) == (torch.bfloat16 if native else None, torch.channels_last)
    assert pick_precision("auto", CUDA).autocast == (torch.bfloat16 if native else None)
    assert pick_precision("float32", CPU).autocast is None
    assert pick_precision("bfloat16", CPU).autocast is torch.bfloat16


def test_an_unknown_processor_trains_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert pick_precision("auto", CPU).autocast is None
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert pick_precision("auto", CPU).autocast is None
    assert pick_precision("auto", torch.device("mps")).autocast is None


def test_a_precision_reads_as_words_and_an_unknown_one_lists_the_known():
    assert str(Precision(torch.bfloat16, torch.channels_last)) == "bfloat16 autocast, channels_last"
    assert str(Precision(None, torch.contiguous_format)) == "float32, contiguous_format"
    refused(lambda: pick_precision("float16", CPU), "allowed: auto, float32, bfloat16")
