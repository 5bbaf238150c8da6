"""Both backends compute the same from one official-layout state dict.

Where there is no GPU this runs spconv's CPU build on one thread; with more its rulebooks are wrong now and then.
"""

from __future__ import annotations

import pytest
import torch
from clouds import room_cells, with_lively_norms

from mosaic3d_core.models.building import build_prompt_driven, build_sparse_unet
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
