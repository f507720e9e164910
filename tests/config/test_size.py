"""Sizes as users type them: every accepted form, every refused one, and cutting down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config.size import Size, parse_size, shape_text
from runner.errors import ConfigError

ALLOWED = (
    "allowed: 256 (256x256), 64x1024x1024, or named dimensions such as {m: 64, k: 128}, "
    "each of 1 or more, and 64 dimensions at most"
)
LENGTHS = st.integers(1, 10**12)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (256, Size(square=256)),
        (1, Size(square=1)),
        ("256", Size(square=256)),
        (" 7 ", Size(square=7)),
        ("64x1024", Size(shape=(64, 1024))),
        ("64x1024x1024", Size(shape=(64, 1024, 1024))),
        (" 64 x  32", Size(shape=(64, 32))),
        ("1x1", Size(shape=(1, 1))),
        ([64, 1024], Size(shape=(64, 1024))),
        ((2, 3, 4), Size(shape=(2, 3, 4))),
        ([64], Size(shape=(64,))),
        ("64x128 n=32", Size(shape=(64, 128), further=(("n", (32,)),))),
        ("64 batch=2x3 n=4", Size(shape=(64,), further=(("batch", (2, 3)), ("n", (4,))))),
        ({"m": 64, "k": 128}, Size(named=(("k", (128,)), ("m", (64,))))),
        ({"batch": [2, 3], "m": 4}, Size(named=(("batch", (2, 3)), ("m", (4,))))),
        ({"batch": "2x3", "m": "4"}, Size(named=(("batch", (2, 3)), ("m", (4,))))),
    ],
)
def test_parse_size_accepts(value, size):
    assert parse_size(value) == size


def test_parse_size_does_not_depend_on_the_order_of_names():
    assert parse_size({"m": 1, "k": 2}) == parse_size({"k": 2, "m": 1})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-3, "-3"),
        ("1024y1024", "1024y1024"),
        ("0x4", "0x4"),
        ("4x0", "4x0"),
        ("0", "0"),
        ("-4", "-4"),
        ("4x", "4x"),
        ("x4", "x4"),
        ("4xx5", "4xx5"),
        ("64 32", "64 32"),
        ("64x32 n=", "64x32 n="),
        ("1.5x2", "1.5x2"),
        ("x".join("1" * 65), "x".join("1" * 65)),
        ([1] * 65, str([1] * 65)),
        ("", "''"),
        (" ", "' '"),
        ([], "[]"),
        ([4, 0], "[4, 0]"),
        ([4, -1], "[4, -1]"),
        ([4, 1.5], "[4, 1.5]"),
        ([4, True], "[4, True]"),
        ([4, "5"], "[4, '5']"),
        ([[4, 5]], "[[4, 5]]"),
        ({}, "{}"),
        ({"m": 0}, "{'m': 0}"),
        ({"m": -1}, "{'m': -1}"),
        ({"m": 4, "k": True}, "{'m': 4, 'k': True}"),
        ({"m": 1.5}, "{'m': 1.5}"),
        ({"m": None}, "{'m': None}"),
        ({"m": []}, "{'m': []}"),
        ({"batch": [2, 0]}, "{'batch': [2, 0]}"),
        ({"batch": "2y3"}, "{'batch': '2y3'}"),
        ({"m": ""}, "{'m': ''}"),
        (True, "True"),
        (False, "False"),
        (1.5, "1.5"),
        (4.0, "4.0"),
        (None, "None"),
    ],
)
def test_parse_size_refuses_and_says_what_is_allowed(value, shown):
    with pytest.raises(ConfigError) as raised:
        parse_size(value)
    assert str(raised.value) == f"size={shown} is not a size; {ALLOWED}"


def test_a_list_of_sizes_is_told_from_one_size_of_several_lengths():
    with pytest.raises(ConfigError) as raised:
        parse_size(["8x512x768", {"batch": 4096, "i": 768}])
    sizes = "8x512x768,{batch: 4096, i: 768}"
    assert str(raised.value) == (
        f"size=[{sizes}] is a list, and a cell has one size; several are given with commas and -m: "
        f"size={sizes}"
    )


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        (256, 16),
        (8, 8),
        ("256x8", "16x8"),
        ("256", 16),
        ([256], [16]),
        ("9x1x256x300", "2x1x16x16"),
        ({"batch": [9, 1], "m": 256, "k": 8}, {"batch": [2, 1], "m": 16, "k": 8}),
    ],
)
def test_at_most_cuts_inner_dimensions_to_inner_and_others_to_outer(value, cut):
    assert parse_size(value).at_most(inner=16, outer=2) == parse_size(cut)


@given(st.lists(LENGTHS, min_size=1, max_size=6), st.integers(1, 50), st.integers(1, 50))
def test_at_most_of_a_shape_is_the_smaller_length_everywhere(shape, inner, outer):
    cut = parse_size(shape).at_most(inner, outer).shape
    bounds = [outer] * max(0, len(shape) - 2) + [inner] * min(2, len(shape))
    assert cut == tuple(map(min, shape, bounds))


@pytest.mark.parametrize(("shape", "text"), [((), "scalar"), ((7,), "7"), ((64, 1024), "64x1024")])
def test_shape_text(shape, text):
    assert shape_text(shape) == text


@given(st.lists(LENGTHS, min_size=2, max_size=6).map(tuple))
def test_shape_text_is_read_back_as_the_same_shape(shape):
    assert parse_size(shape_text(shape)) == Size(shape=shape)


@given(LENGTHS)
def test_shape_text_of_a_vector_is_read_back_as_its_length(length):
    assert parse_size(shape_text((length,))) == Size(square=length)
