"""Sparse layers compute what dense convolution computes, forward and backward.

1e-4 relative is the promise for float32: up to 27 * 8 products are added in another order; float64: 1e-10.
"""

from __future__ import annotations

import dense_oracle
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosaic3d_core.sparse import SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d

CLOUDS = 32  # per example; 3 x 60 examples make 5760 clouds
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
widths = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, params=["spatial order", "sorted by taps"])
def small_chunks(request, monkeypatch):
    """Small chunks, so that small clouds go through several threads too, in the order of small sets and in that of large ones."""
    monkeypatch.setattr("mosaic3d_core.sparse.backend_torch._CPU_CHUNK_ROWS", (128, 128))
    monkeypatch.setattr("mosaic3d_core.sparse.tap_order._CHUNK_ROWS", 64)
    monkeypatch.setattr("mosaic3d_core.sparse.coordinates.MIN_ROWS", 1 if request.param == "sorted by taps" else 1 << 60)


def assert_same(found, wanted, dtype) -> None:
    relative = 1e-4 if dtype == torch.float32 else 1e-10
    for one, other in zip(found, wanted):
        scale = other.abs().max().item() if other.numel() else 0.0
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=relative, atol=relative * max(scale, 1e-6))


def both_gradients(found, wanted, inputs, generator):
    grad = torch.randn(found.shape, generator=generator, dtype=found.dtype).to(found.device)
    return torch.autograd.grad(found, inputs, grad), torch.autograd.grad(wanted, inputs, grad)


def make(seed, channels, dtype, device):
    generator = torch.Generator().manual_seed(seed)
    cells = dense_oracle.random_cells(generator, CLOUDS)
    features = torch.randn(len(cells), channels, generator=generator, dtype=dtype)
    return generator, cells.to(device), features.to(device).requires_grad_()


@many
@given(seed=seeds, channels=widths, out=widths, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_submanifold_equals_dense(device, seed, channels, out, dtype):
    generator, cells, features = make(seed, channels, dtype, device)
    layer = SubMConv3d(channels, out).to(device, dtype)
    found = layer(SparseTensor(features, cells)).features
    wanted = dense_oracle.submanifold(features, cells, CLOUDS, layer.weight)
    assert_same([found], [wanted], dtype)
    assert_same(*both_gradients(found, wanted, (features, layer.weight), generator), dtype)


@many
@given(seed=seeds, channels=widths, out=widths, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_strided_equals_dense(device, seed, channels, out, dtype):
    generator, cells, features = make(seed, channels, dtype, device)
    layer = SparseConv3d(channels, out).to(device, dtype)
    result = layer(SparseTensor(features, cells))
    expected_cells = torch.unique(torch.cat([cells[:, :1], cells[:, 1:].div(2, rounding_mode="floor")], 1), dim=0)
    assert torch.equal(result.indices, expected_cells.int())
    wanted = dense_oracle.strided(features, cells, CLOUDS, layer.weight, result.indices)
    assert_same([result.features], [wanted], dtype)
    assert_same(*both_gradients(result.features, wanted, (features, layer.weight), generator), dtype)


@many
@given(seed=seeds, channels=widths, out=widths, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_inverse_equals_dense(device, seed, channels, out, dtype):
    generator, cells, fine = make(seed, 1, dtype, device)
    level = SparseTensor(fine, cells).coordinates.coarse()
    features = torch.randn(len(level), channels, generator=generator, dtype=dtype).to(device).requires_grad_()
    layer = SparseInverseConv3d(channels, out).to(device, dtype)
    result = layer(SparseTensor(features, level))
    assert torch.equal(result.indices, cells)
    wanted = dense_oracle.inverse(features, level.indices, CLOUDS, layer.weight, cells)
    assert_same([result.features], [wanted], dtype)
    assert_same(*both_gradients(result.features, wanted, (features, layer.weight), generator), dtype)


def test_gradients_agree_with_finite_differences(device):
    generator = torch.Generator().manual_seed(5)
    cells = dense_oracle.random_cells(generator, 2, side=3).to(device)
    features = torch.randn(len(cells), 2, generator=generator, dtype=torch.float64).to(device).requires_grad_()
    layers = [SubMConv3d(2, 3), SparseConv3d(3, 2), SubMConv3d(2, 2), SparseInverseConv3d(2, 2)]
    net = torch.nn.Sequential(*layers).to(device, torch.float64)

    def run(rows, *weights):
        for layer, weight in zip(layers, weights):
            layer.weight.data = weight.data
        return net(SparseTensor(rows, cells)).features

    assert torch.autograd.gradcheck(run, (features, *(layer.weight for layer in layers)))


def test_both_devices_and_any_number_of_threads_agree(device, monkeypatch):
    _, cells, features = make(11, 6, torch.float32, device)
    layer = SubMConv3d(6, 7).to(device)
    several = layer(SparseTensor(features, cells)).features
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = layer(SparseTensor(features, cells)).features
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(several, alone, rtol=1e-6, atol=1e-7)


def test_bfloat16_is_close_to_float32(device):
    _, cells, features = make(3, 16, torch.float32, device)
    layer = SubMConv3d(16, 32).to(device)
    exact = layer(SparseTensor(features, cells)).features
    rough = layer(SparseTensor(features.bfloat16(), cells)).features
    assert rough.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(exact, rough.float(), dim=1)
    assert cosine.min() > 0.999
    exact.square().sum().backward()
    exact_grad, layer.weight.grad = layer.weight.grad, None
    rough.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact_grad.flatten(), layer.weight.grad.flatten(), dim=0) > 0.999
