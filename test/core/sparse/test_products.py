"""The fast routines under the sparse layers agree with torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.sparse import SparseInverseConv3d, SparseTensor, matrix_product
from mosaic3d_core.sparse.coordinates import CoordinateSet
from mosaic3d_core.sparse.finish import Finish, RowFinisher
from mosaic3d_core.sparse.matrix_product import multiply, pack
from mosaic3d_core.sparse.processor import Processor, read_processor, this_processor

#: Sums of up to 300 products in another order; bfloat16 results are rounded to 8 bits.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13, torch.bfloat16: 2**-7}


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 70), st.integers(0, 300), st.integers(0, 40)),
    dtype=st.sampled_from(list(TOLERANCE)),
    packed=st.booleans(),
    into=st.booleans(),
    vendor=st.sampled_from(["AuthenticAMD", "GenuineIntel", ""]),
)
def test_products_equal_those_in_double_precision_on_every_processor(seed, shape, dtype, packed, into, vendor):
    """The routines that other processors take, run on this one."""
    processor = Processor(vendor, frozenset({"avx512f"} if vendor else ()))
    generator = torch.Generator().manual_seed(seed)
    rows, inner, columns = shape
    left = torch.randn(rows, inner, generator=generator).to(dtype)
    right = torch.randn(inner, columns, generator=generator).to(dtype)
    out = torch.full((rows, columns), torch.nan, dtype=dtype) if into else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix_product, "this_processor", lambda: processor)
        found = multiply(left, right, out, pack(right) if packed else None)
    wanted = left.double() @ right.double()
    assert found.dtype == dtype
    assert not into or found.data_ptr() == out.data_ptr()
    scale = max(1.0, float(wanted.abs().max()) if wanted.numel() else 0.0)
    assert torch.allclose(found.double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def test_bfloat16_is_not_packed_where_onednn_refuses_it(monkeypatch):
    """Processors without 512-bit instructions, which this machine may not be."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert pack(torch.ones(8, 4, dtype=torch.bfloat16)) is None


def test_a_processor_is_what_the_kernel_says():
    amd = read_processor("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nflags\t: other\n")
    assert amd.slow_with_mkl
    assert amd.multiplies_bfloat16
    intel = read_processor("vendor_id : GenuineIntel\nflags : avx2 avx512f")
    assert not intel.slow_with_mkl
    assert not intel.multiplies_bfloat16
    arm = read_processor("processor : 0\nFeatures : fp asimd bf16\n")  # of which nothing is known: torch's own choice
    assert arm == read_processor("") == Processor()
    assert not arm.slow_with_mkl
    file = Path("/proc/cpuinfo")
    listed = file.read_text().split() if file.exists() else []
    assert [flag in this_processor().flags for flag in ("avx2", "avx512f")] == [flag in listed for flag in ("avx2", "avx512f")]


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 130),
    dtype=st.sampled_from(list(TOLERANCE)),
    with_bias=st.booleans(),
    with_residual=st.booleans(),
    relu=st.booleans(),
)
def test_finishing_in_one_pass_equals_adding_bias_and_residual_and_relu(seed, width, dtype, with_bias, with_residual, relu):
    generator = torch.Generator().manual_seed(seed)
    products = torch.randn(9, width, generator=generator).to(dtype)
    bias = torch.randn(width, generator=generator) if with_bias else None
    residual = torch.randn(30, width, generator=generator).to(dtype) if with_residual else None
    rows = torch.randperm(30, generator=generator)[:9]
    rows[3] = -1  # a neighbour that does not exist
    out = torch.full((30, width), 7.0, dtype=dtype)
    RowFinisher(Finish(bias, residual, relu), out).write(products, rows.int().numpy())
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    wanted = torch.full((30, width), 7.0, dtype=dtype)
    for product, row in zip(products.to(exact), rows.tolist(), strict=True):
        if row >= 0:
            value = product
            value = value + bias.to(exact) if with_bias else value
            value = value + residual[row].to(exact) if with_residual else value
            wanted[row] = (value.relu() if relu else value).to(dtype)
    assert torch.equal(out, wanted)  # the same operations in the same order, rounded once


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_an_upsampled_level_beside_its_skip_equals_the_concatenation(dtype, device):
    generator = torch.Generator().manual_seed(4)
    cells = torch.randint(-9, 9, (400, 4), generator=generator).int() * torch.tensor([0, 1, 1, 1]).int()
    fine = CoordinateSet(torch.unique(cells, dim=0).to(device))
    layer = SparseInverseConv3d(5, 7).to(device)
    layer.bias = torch.nn.Parameter(torch.randn(7, generator=generator).to(device))
    coarse = SparseTensor(torch.randn(len(fine.coarse()), 5, generator=generator).to(device, dtype), fine.coarse())
    skip = SparseTensor(torch.randn(len(fine), 3, generator=generator).to(device, dtype), fine)
    with torch.no_grad():
        found = layer.infer_beside(coarse, skip, relu=True)
        wanted = torch.cat([layer.infer(coarse, relu=True).features, skip.features], 1)
    assert torch.equal(found.features, wanted)
    assert found.coordinates is fine


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_a_value_that_is_no_number_stays_one(dtype):
    products = torch.tensor([[float("nan"), float("inf"), -float("inf"), 3.0e38]]).to(dtype)
    out = torch.zeros(1, 4, dtype=dtype)
    RowFinisher(Finish(relu=True), out).write(products, torch.zeros(1, dtype=torch.int32).numpy())
    assert out[0, 0].isnan()
    assert out[0, 1:].tolist() == [float("inf"), 0.0, float(torch.tensor(3.0e38).to(dtype))]
