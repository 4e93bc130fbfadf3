"""The codec returns the values it was given, and refuses all others."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from trpo_deploy.train.codec import UnsupportedValueError, decode, encode


def test_values_are_decoded_with_their_types() -> None:
    value = {
        "none": None,
        "pair": (1, [2.5, "x", float("inf")]),
        3: np.float32(0.1),
        "array": np.arange(6, dtype=np.int8).reshape(2, 3),
        "bytes": b"\x00\xff",
        "empty": np.zeros((0, 2)),
    }
    back = decode(encode(value))
    np.testing.assert_equal(back, value)
    assert type(decode(encode(OrderedDict(a=1)))) is OrderedDict
    assert type(back[3]) is np.float32
    assert back["array"].dtype == np.int8


def test_the_layout_of_an_array_is_kept() -> None:
    for shape, axes in (((2, 3, 4), (2, 0, 1)), ((1, 4, 4, 1), (0, 3, 1, 2)), ((0, 1), (1, 0))):
        turned = np.arange(np.prod(shape)).reshape(shape).transpose(axes)
        np.testing.assert_array_equal(decode(encode(turned)), turned)
        assert decode(encode(turned)).strides == turned.strides
    gaps = np.arange(24).reshape(4, 6)[::2, 1::2]
    np.testing.assert_array_equal(decode(encode(gaps)), gaps)


def test_a_random_generator_continues() -> None:
    generator = np.random.default_rng(4)
    generator.random(7)
    same = decode(encode(generator))
    assert same.random() == generator.random()


def test_views_are_refused_only_on_request() -> None:
    numbers = np.arange(4)
    back = decode(encode({"all": numbers, "some": numbers[:2]}))
    np.testing.assert_equal(back, {"all": numbers, "some": numbers[:2]})
    with pytest.raises(UnsupportedValueError, match="share memory"):
        encode({"all": numbers, "some": numbers[:2]}, allow_views=False)


def test_other_objects_are_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="object"):
        encode({"a": [object()]})
    with pytest.raises(UnsupportedValueError):
        encode(np.array([object()]))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedValueError, match="contains itself"):
        encode(endless)
