"""Copies of tensors at random places of shared memory.

The same numbers, strides and gradients, elsewhere each time.
"""

import torch

from runner.calls.placement import ALIGNMENT, SLACK_BYTES, Pools


def tensors():
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(8, 12, generator=random),
        torch.randn(3, 5, 7, generator=random).mT,
        torch.randn(6, generator=random, dtype=torch.float64).requires_grad_(),
        torch.randint(5, (4,), generator=random),
        torch.tensor([True, False, True]),
        torch.randn(2, 2, generator=random, dtype=torch.complex64),
        torch.randn(4, generator=random).bfloat16(),
        torch.empty(0, 3),
        torch.tensor(2.5),
    ]


def test_copies_are_equal_and_lie_as_the_originals_do():
    originals, pools = tensors(), Pools(seed=1)
    pools.reserve(originals)
    for original, copy in zip(originals, pools.place(originals, 0), strict=True):
        assert torch.equal(original, copy)
        assert (copy.dtype, copy.stride()) == (original.dtype, original.stride())
        assert copy.requires_grad == original.requires_grad
        assert copy.is_leaf
        if copy.numel():
            assert copy.data_ptr() != original.data_ptr()
            assert copy.data_ptr() % copy.element_size() == 0


def test_each_place_is_another_and_aligned():
    original, pools = [torch.randn(100)], Pools(seed=1)
    pools.reserve(original)
    addresses = [pools.place(original, 0)[0].data_ptr() for _ in range(50)]
    assert len(set(addresses)) > 40
    assert {address % ALIGNMENT for address in addresses} == {addresses[0] % ALIGNMENT}
    assert max(addresses) - min(addresses) > SLACK_BYTES / 2


def test_sides_with_different_dtypes_share_the_memory_of_the_largest():
    single, double = [torch.ones(1_000)], [torch.ones(1_000, dtype=torch.float64)]
    pools = Pools(seed=1)
    pools.reserve(single)
    pools.reserve(double)
    for _ in range(20):
        assert pools.place(double, 0)[0].sum() == 1_000
        assert pools.place(single, 0)[0].sum() == 1_000


def test_copies_of_one_placing_do_not_overlap():
    originals, pools = [torch.full((50,), float(n)) for n in range(5)], Pools(seed=1)
    pools.reserve(originals)
    copies = pools.place(originals, 3)
    for number, copy in enumerate(copies):
        assert torch.equal(copy, originals[number])
