"""Images from anywhere, cut into batches: nothing lost, nothing asked for too early."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.errors import MismatchError
from bacmac.host.runtime.batching import device_batches, rebatch

SHAPE = (2, 3, 1)


def numbered(n, first=0):
    """Images of which each is its own number everywhere."""
    return np.broadcast_to(
        np.arange(first, first + n, dtype=np.uint8)[:, None, None, None], (n, *SHAPE)
    )


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_a_batch_is_split_into_as_few_and_as_equal_parts_as_can_be(n, largest):
    sizes = device_batches(n, largest)

    assert sum(sizes) == n
    assert len(sizes) == -(-n // largest)
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=12),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_any_cut_of_the_source_gives_the_same_images_in_the_same_batches(parts, sizes):
    source, first = [], 0
    for n in parts:  # None: a single image without the first axis
        source.append(numbered(1, first)[0] if n is None else numbered(n, first))
        first += 1 if n is None else n

    from_parts = list(rebatch(iter(source), SHAPE, sizes))
    from_array = list(rebatch(numbered(first), SHAPE, sizes))

    lengths = [len(block) for block in from_parts]
    assert lengths == [len(block) for block in from_array]
    full = list(itertools.islice(itertools.cycle(sizes), len(lengths)))
    assert lengths[:-1] == full[:-1]
    assert all(0 < length <= size for length, size in zip(lengths, full, strict=True))
    seen = [int(image[0, 0, 0]) for block in from_parts for image in block]
    assert seen == list(range(first))
    assert all(block.shape[1:] == SHAPE for block in from_parts)


def test_no_more_images_are_asked_for_than_the_next_batch_needs():
    asked = []

    def camera():
        for number in itertools.count():
            asked.append(number)
            yield numbered(1, number)[0]

    blocks = rebatch(camera(), SHAPE, (4, 3))
    next(blocks)
    after_first = len(asked)
    next(blocks)

    assert (after_first, len(asked)) == (4, 7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 2, 1), np.uint8), r"image 3: shape: found \(1, 2, 2, 1\)"),
        (np.zeros((1, *SHAPE), np.float64), "image 3: dtype: found float64; expected uint8"),
        (np.zeros((1, *SHAPE), np.float32), "image 3: dtype: found float32; .*before it"),
        ([[0]], "image 3: type: found list; expected a NumPy array"),
    ],
)
def test_an_image_that_does_not_fit_is_named_by_its_number(wrong, message):
    with pytest.raises(MismatchError, match=message):
        list(rebatch([numbered(2), numbered(1)[0], wrong], SHAPE, (5,)))
