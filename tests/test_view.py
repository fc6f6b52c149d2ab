"""What is known of an array by its address, shape and strides: the same as NumPy knows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_device import memory

from fastsoftmax.cuda.view import View


def view_of(array):
    pointer = array.__array_interface__["data"][0]
    return View(pointer, array.dtype.name, array.shape, array.strides, array.itemsize)


@st.composite
def laid(draw):
    """An array in any layout: sliced, turned round, with axes of length 1 and of stride 0."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -2])) for _ in shape]
    base = np.arange(np.prod([n * abs(s) for n, s in zip(shape, steps, strict=True)] or [1]))
    whole = base.reshape([n * abs(s) for n, s in zip(shape, steps, strict=True)])
    array = whole[(*(slice(None, None, step) for step in steps), ...)]
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    if array.ndim and draw(st.booleans()):
        spread = draw(st.integers(0, array.ndim - 1))
        array = np.broadcast_to(array.take([0], spread), array.shape)
    return array


@st.composite
def shapes_of(draw, size):
    """A shape of so many elements."""
    shape = []
    while size > 1:
        length = draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0]))
        shape.append(length)
        size //= length
    for _ in range(draw(st.integers(0, 2))):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


def reshaped_without_copy(array, shape):
    """What NumPy makes of it by `shape=`, which never copies; None where that cannot be."""
    moved = array.reshape(shape)
    return moved if np.may_share_memory(moved, array) else None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_reshape_is_numpys_and_copies_nothing(data):
    array = data.draw(laid())
    shape = data.draw(shapes_of(array.size))
    wanted, got = reshaped_without_copy(array, shape), view_of(array).reshape(shape)
    assert (got is None) == (wanted is None)
    if got is not None:
        np.testing.assert_array_equal(memory(got), wanted)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_transpose_and_broadcast_are_numpys(data):
    array = data.draw(laid())
    order = data.draw(st.permutations(range(array.ndim)))
    moved = array.transpose(order)
    np.testing.assert_array_equal(memory(view_of(array).transpose(order)), moved)
    lead = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    shape = lead + tuple(5 if n == 1 else n for n in moved.shape)
    spread = view_of(moved).broadcast(shape)
    np.testing.assert_array_equal(memory(spread), np.broadcast_to(moved, shape))


def test_an_array_without_elements_has_any_shape_without_elements():
    got = view_of(np.zeros((3, 0))).reshape((0, 7))
    assert (got.shape, got.size) == ((0, 7), 0)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (np.s_[:], np.s_[:], True),
        (np.s_[:3], np.s_[3:], False),
        (np.s_[:4], np.s_[3:], True),
        (np.s_[::2], np.s_[1::2], False),
        (np.s_[:, :2], np.s_[:, 2:], False),
        (np.s_[:, ::-1], np.s_[:, :1], True),
        (np.s_[:0], np.s_[:], False),
    ],
)
def test_arrays_overlap_where_they_have_an_element_in_common(one, other, shared):
    base = np.zeros((6, 4), np.float32)
    assert view_of(base[one]).overlaps(view_of(base[other])) is shared


def test_a_search_for_a_common_element_that_takes_too_long_counts_as_one(monkeypatch):
    monkeypatch.setattr("fastsoftmax.cuda.view._WORK", 1)
    base = np.zeros((40, 40, 40), np.float32)
    assert view_of(base[::3, ::5, ::7]).overlaps(view_of(base[1::4, 2::6, 3::9]))


def test_the_same_memory_is_the_same_elements_in_the_same_places():
    base = np.zeros((4, 4), np.float32)
    assert view_of(base).same_memory(view_of(base[:]))
    assert view_of(base[:1]).same_memory(view_of(base[:1].reshape(1, 4)))
    assert view_of(base[:, :1]).same_memory(view_of(base[:, :1]))
    assert not view_of(base).same_memory(view_of(base.T))
    assert not view_of(base).same_memory(view_of(base.view(np.int32)))
    assert not view_of(base[1:]).same_memory(view_of(base[:3]))
