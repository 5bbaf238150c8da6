"""Empty and one-voxel clouds, unusual coordinates, and input that is refused with a reason."""

from __future__ import annotations

import pytest
import torch

from mosaic3d_core.sparse import PointwiseLinear, SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d


def cells(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_empty_cloud_goes_through_all_layers_and_back(device, dtype):
    features = torch.zeros(0, 4, dtype=dtype, device=device, requires_grad=True)
    x = SparseTensor(features, cells().to(device))
    net = torch.nn.Sequential(SubMConv3d(4, 5), SparseConv3d(5, 6), SparseInverseConv3d(6, 3), PointwiseLinear(3, 2))
    y = net.to(device)(x)
    assert y.features.shape == (0, 2)
    y.features.sum().backward()
    assert features.grad.shape == (0, 4)
    assert net[0].weight.grad.abs().sum() == 0


def test_one_voxel_sees_only_itself(device):
    x = SparseTensor(torch.ones(1, 4, device=device), cells((0, -7, 3, 100000)).to(device))
    layer = SubMConv3d(4, 5).to(device)
    assert torch.allclose(layer(x).features[0], layer.weight[:, 1, 1, 1].sum(-1), atol=1e-6)
    down = SparseConv3d(4, 5).to(device)(x)
    assert down.indices.tolist() == [[0, -4, 1, 50000]]


def test_clouds_of_a_batch_do_not_see_each_other(device):
    layer = SubMConv3d(1, 1).to(device)
    torch.nn.init.ones_(layer.weight)
    x = SparseTensor(torch.ones(3, 1, device=device), cells((0, 0, 0, 0), (1, 0, 0, 1), (1, 0, 0, 0)).to(device))
    assert layer(x).features.flatten().tolist() == [1.0, 2.0, 2.0]


def test_moving_the_cloud_by_whole_coarse_cells_changes_nothing(device):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-9, 9, (400, 3), generator=generator).unique(dim=0).int()
    rows = torch.cat([torch.zeros(len(rows), 1, dtype=torch.int32), rows], 1).to(device)
    features = torch.randn(len(rows), 3, generator=generator).to(device)
    net = torch.nn.Sequential(SubMConv3d(3, 4), SparseConv3d(4, 4), SparseConv3d(4, 4), SubMConv3d(4, 4)).to(device)
    moved = rows + torch.tensor([0, 16, -4096, 65536], dtype=torch.int32, device=device)
    here, there = net(SparseTensor(features, rows)), net(SparseTensor(features, moved))
    assert torch.equal(here.indices + torch.tensor([0, 4, -1024, 16384], device=device), there.indices)
    assert torch.equal(here.features, there.features)


def test_all_layers_of_a_level_share_one_kernel_map():
    x = SparseTensor(torch.ones(2, 4), cells((0, 0, 0, 0), (0, 0, 0, 1)))
    y = SparseInverseConv3d(4, 4)(SparseConv3d(4, 4)(SubMConv3d(4, 4)(x)))
    assert y.coordinates is x.coordinates
    assert y.coordinates.neighbours() is x.coordinates.neighbours()


def test_a_cell_that_occurs_twice_is_refused(device):
    x = SparseTensor(torch.ones(3, 1, device=device), cells((0, 1, 1, 1), (0, 2, 1, 1), (0, 1, 1, 1)).to(device))
    with pytest.raises(ValueError, match="1 cells occur more than once; pool each voxel first"):
        SubMConv3d(1, 1).to(device)(x)


def test_an_extent_that_cannot_be_numbered_is_refused(device):
    far = 2**31 - 8
    x = SparseTensor(torch.ones(2, 1, device=device), cells((0, -far, -far, -far), (0, far, far, far)).to(device))
    with pytest.raises(ValueError, match="more than can be numbered; check the points for outliers"):
        SubMConv3d(1, 1).to(device)(x)


@pytest.mark.parametrize(
    ("features", "indices", "error", "message"),
    [
        (torch.ones(1, 2), torch.zeros(1, 4), TypeError, "indices must be an int32 tensor"),
        (torch.ones(1, 2), torch.zeros(1, 3, dtype=torch.int32), ValueError, r"shape \(N, 4\)"),
        (torch.ones(1, 2, dtype=torch.int64), cells((0, 0, 0, 0)), TypeError, "floating-point"),
        (torch.ones(2, 2), cells((0, 0, 0, 0)), ValueError, r"shape \(1, C\), got \(2, 2\)"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(features, indices, error, message):
    with pytest.raises(error, match=message):
        SparseTensor(features, indices)


def test_wrong_width_and_missing_finer_level_are_refused():
    x = SparseTensor(torch.ones(1, 2), cells((0, 0, 0, 0)))
    with pytest.raises(ValueError, match="SubMConv3d expects 3 channels, got 2"):
        SubMConv3d(3, 4)(x)
    with pytest.raises(ValueError, match="needs a tensor that a SparseConv3d made"):
        SparseInverseConv3d(2, 4)(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_inside_a_larger_tensor_are_read_from_their_place(dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-4, 4, (100, 3), generator=generator).unique(dim=0).int()
    rows = torch.cat([torch.zeros(len(rows), 1, dtype=torch.int32), rows], 1)
    larger = torch.randn(len(rows) * 4 + 1, generator=generator).to(dtype)
    view = larger[1:].view(-1, 4)
    layer = SubMConv3d(4, 3)
    assert torch.equal(layer(SparseTensor(view, rows)).features, layer(SparseTensor(view.clone(), rows)).features)
