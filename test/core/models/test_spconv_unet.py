"""Both backends compute the same from one official-layout state dict.

Where there is no GPU this runs spconv's CPU build on one thread; with more its rulebooks are wrong now and then.
"""

from __future__ import annotations

import pytest
import torch
from clouds import room_cells, with_lively_norms

from mosaic3d_core.models.building import build_prompt_driven, build_sparse_unet
from mosaic3d_core.models.runner import build_runner
from mosaic3d_core.models.sparse_unet import fold_batchnorm
from mosaic3d_core.models.spconv_unet import SpconvUNet
from mosaic3d_core.sparse import SparseTensor

pytest.importorskip("spconv", reason="spconv is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def official_nets():
    yield "spunet14a", build_sparse_unet("spunet14a")
    small = {"channels": (8, 8, 16, 16, 16, 8, 8, 8), "base": 8, "out_channels": 16}
    yield "bottleneck", build_sparse_unet("spunet50", blocks=(1, 2, 1, 1, 1, 1, 1, 1), **small)
    yield "conditions", build_prompt_driven("spunet14a", **small)


@pytest.mark.parametrize("name", ["spunet14a", "bottleneck", "conditions"])
def test_both_backends_agree_on_a_state_dict(name):
    torch.manual_seed(0)
    net = with_lively_norms(dict(official_nets())[name])
    if name == "conditions":
        net = net.for_condition("ARKitScenes")
    cells = room_cells(40)
    second = cells + torch.tensor([1, -7, 3, 5], dtype=torch.int32)  # another batch entry, negative cells
    cells = torch.cat([cells, second])
    cells = cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(1))]
    features = torch.rand(len(cells), 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    wanted = fold_batchnorm(net)(SparseTensor(features, cells))
    found = SpconvUNet(net).to(DEVICE)(features.to(DEVICE), cells.to(DEVICE)).cpu()
    # sums of some thousand products in another order
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_an_empty_scene_is_encoded():
    net = SpconvUNet(build_sparse_unet("narrow")).to(DEVICE)
    empty = torch.zeros((0, 4), dtype=torch.int32, device=DEVICE)
    assert net(torch.zeros((0, 3), device=DEVICE), empty).shape == (0, 48)


@pytest.fixture
def spconv_everywhere(monkeypatch):
    """As on CUDA with spconv installed, on whatever device there is (on the CPU this module keeps to one thread)."""
    monkeypatch.setattr("mosaic3d_core.models.runner.choose_backend", lambda name, device: "spconv")


def test_spconv_is_used_where_it_agrees_with_torch(spconv_everywhere, caplog):
    net = with_lively_norms(build_sparse_unet("narrow"))
    runner = build_runner(net, torch.device(DEVICE), None if DEVICE == "cuda" else "float32")
    assert runner.backend == "spconv"
    assert runner.dtype == (torch.float16 if DEVICE == "cuda" else torch.float32)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["wrong", "failing"])
def test_where_spconv_is_wrong_or_fails_torch_is_used_and_a_warning_says_why(spconv_everywhere, caplog, monkeypatch, kind):
    right = SpconvUNet.forward

    def forward(self, features, indices):
        if kind == "failing":
            raise RuntimeError("no kernel image")
        return right(self, features, indices).flip(0)

    monkeypatch.setattr(SpconvUNet, "forward", forward)
    runner = build_runner(with_lively_norms(build_sparse_unet("narrow")), torch.device(DEVICE), "float32")
    assert runner.backend == "torch"
    expected = "its features differ from those of torch" if kind == "wrong" else "it failed (RuntimeError: no kernel image)"
    assert expected in caplog.text


def test_spconv_does_not_take_bfloat16(spconv_everywhere):
    net = build_sparse_unet("narrow")
    assert build_runner(net, torch.device(DEVICE), "bfloat16").backend == "torch"
    with pytest.raises(ValueError, match="does not compute in bfloat16; choose float16"):
        build_runner(net, torch.device(DEVICE), "bfloat16", "spconv")
