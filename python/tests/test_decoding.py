"""Decoding in PyTorch gives the bits that Rust gives."""

import pathlib

import numpy as np
import pytest

import qins

torch = pytest.importorskip("torch")

from qins.decoding import DTYPES, decode  # noqa: E402
from qins.storage import Storage  # noqa: E402

SHAPES = [(1, 1), (2, 31), (3, 32), (5, 33), (4, 128), (3, 129), (7, 257), (2, 300), (33, 576)]


def vectors():
    """The test vectors of docs/format.md: scheme, parts, and the decoded bits."""
    document = (pathlib.Path(__file__).parents[2] / "docs/format.md").read_text()
    for line in document.rpartition("## Test vectors")[2].splitlines():
        words, arrow, decoded = line.strip().partition(" -> ")
        if arrow:
            scheme, *parts = words.split()
            yield scheme, dict(part.split("=") for part in parts), [int(word, 16) for word in decoded.split()]


@pytest.mark.parametrize("vector", list(vectors()), ids=lambda vector: vector[0])
def test_vectors_of_the_document(vector):
    name, parts, expected = vector
    storage = Storage("companded-f32", "bfloat16") if name == "f32" else Storage(name)
    arrays = {
        part: np.frombuffer(bytearray.fromhex(parts[part]), dtype).reshape(shape)
        for part, (dtype, shape) in storage.parts(1, 5).items()
    }
    matrix = qins.EncodedMatrix.from_parts(arrays, storage.scheme, (1, 5), source_dtype=storage.source_dtype)
    assert bits(matrix.decode()).tolist() == [expected]
    assert bits(in_torch(matrix, arrays)).tolist() == [expected]


def test_every_scheme_in_memory_has_a_vector():
    assert [scheme for scheme, *_ in vectors()] == ["f32", "q8g", "q8", "q6", "q5", "q4", "q3"]


def encoded(shape, scheme, source="float32", seed=0, **options):
    rng = np.random.default_rng(seed)
    w = rng.standard_t(4, shape).astype(np.float32) / 30
    # Zeros of both signs, and rows of nothing else.
    w[rng.random(shape) < 0.05] = -0.0
    w[-1] = 0.0
    w = torch.from_numpy(w).to(DTYPES[source]).float().numpy()
    return qins.EncodedMatrix.encode(w, scheme, source_dtype=source, **options)


def in_torch(matrix, parts=None):
    storage = Storage(matrix.scheme, matrix.source_dtype, matrix.alpha)
    rows, cols = matrix.shape
    parts = matrix.parts() if parts is None else parts
    assert {name: (str(part.dtype), part.shape) for name, part in parts.items()} == storage.parts(rows, cols)
    return decode({name: torch.from_numpy(part) for name, part in parts.items()}, storage, cols).numpy()


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


@pytest.mark.parametrize("source", list(DTYPES))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", qins.SCHEMES)
def test_bits_are_those_of_rust(scheme, shape, source):
    matrix = encoded(shape, scheme, source)
    np.testing.assert_array_equal(bits(in_torch(matrix)), bits(matrix.decode()))


@pytest.mark.parametrize(("scheme", "alpha"), [("companded-f32", 0.37), ("companded-f32", 3.0), ("q8", 1.0), ("q8", 20.0)])
def test_a_fixed_alpha(scheme, alpha):
    matrix = encoded((5, 70), scheme, alpha=alpha)
    np.testing.assert_array_equal(bits(in_torch(matrix)), bits(matrix.decode()))


@pytest.mark.parametrize("scheme", ["q8", "q8g", "q6", "q5", "q4", "q3"])
def test_any_codes_and_parameters(scheme):
    """Every code, sign, curve and size of a scale, those that no encoder writes too."""
    rows, cols = 64, 320
    rng = np.random.default_rng(3)
    parts = {}
    for name, (dtype, shape) in Storage(scheme).parts(rows, cols).items():
        if dtype == "float16":
            # Subnormal to large, and zero.
            parts[name] = (2.0 ** rng.uniform(-24, 4, shape)).astype(np.float16) * (rng.random(shape) > 0.1)
            parts[name] = parts[name].astype(np.float16)
        else:
            parts[name] = rng.integers(0, 256, shape, dtype=np.uint8).view(dtype)
    matrix = qins.EncodedMatrix.from_parts(parts, scheme, (rows, cols))
    np.testing.assert_array_equal(bits(in_torch(matrix, parts)), bits(matrix.decode()))


@pytest.mark.parametrize("scheme", qins.SCHEMES)
def test_a_flipped_bit_is_another_weight(scheme):
    """The comparison above would notice it: each part, in turn, changes what is decoded, as it changes it in Rust."""
    matrix = encoded((4, 64), scheme)
    parts = matrix.parts()
    for name in parts:
        changed = {other: part.copy() for other, part in parts.items()}
        changed[name].view(np.uint8).reshape(-1)[0] ^= 1
        found = bits(in_torch(matrix, changed))
        if name == "selector" or (name == "curvature" and scheme not in ("q8",)):
            # The first group may choose another curve of the same levels; Rust says what is right.
            pass
        else:
            assert (found != bits(matrix.decode())).any(), name
        again = qins.EncodedMatrix.from_parts(changed, scheme, matrix.shape, alpha=matrix.alpha)
        np.testing.assert_array_equal(found, bits(again.decode()))


@pytest.mark.parametrize("scheme", ["q8", "q4"])
def test_some_rows_are_rows_of_the_whole(scheme):
    matrix = encoded((9, 100), scheme)
    storage = Storage(scheme)
    some = {
        name: torch.from_numpy(part[3:6] if storage.is_by_rows(name) else part) for name, part in matrix.parts().items()
    }
    np.testing.assert_array_equal(bits(decode(some, storage, 100).numpy()), bits(matrix.decode()[3:6]))
