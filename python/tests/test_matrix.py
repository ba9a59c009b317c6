"""Encode, decode and multiply NumPy arrays."""

import threading

import numpy as np
import pytest

import qins

SHAPES = [(1, 1), (3, 5), (7, 31), (5, 33), (4, 300), (64, 256)]
# `lossless` and `rate` are for files; their matrices decode all the same.
SCHEMES = qins.SCHEMES


def weights(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, cols)) / 50).astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_are_the_whole_matrix(scheme, shape):
    matrix = qins.EncodedMatrix.encode(weights(*shape), scheme)
    assert (matrix.shape, matrix.scheme, matrix.source_dtype) == (shape, scheme, "float32")
    again = qins.EncodedMatrix.from_parts(matrix.parts(), scheme, shape, alpha=matrix.alpha)
    assert again == matrix
    np.testing.assert_array_equal(again.decode(), matrix.decode())
    # Another code is another matrix.
    parts = matrix.parts()
    parts["packed"].view(np.uint8).flat[0] ^= 1
    assert qins.EncodedMatrix.from_parts(parts, scheme, shape, alpha=matrix.alpha) != matrix


@pytest.mark.parametrize(("scheme", "least"), [("q8", 42), ("q8g", 46), ("q6", 34), ("q5", 29), ("q4", 22), ("q3", 16)])
def test_decoded_weights_are_near(scheme, least):
    w = weights(64, 512)
    decoded = qins.EncodedMatrix.encode(w, scheme).decode()
    noise = np.square(decoded - w).sum() / np.square(w).sum()
    assert least < -10 * np.log10(noise) < least + 4


def test_lossless_and_companded_keep_bf16_weights():
    bf16 = (weights(9, 70).view(np.uint32) & 0xFFFF0000).view(np.float32)
    for scheme in ["lossless", "companded-f32"]:
        matrix = qins.EncodedMatrix.encode(bf16, scheme, source_dtype="bfloat16")
        np.testing.assert_array_equal(matrix.decode().view(np.uint32), bf16.view(np.uint32))
    assert (qins.EncodedMatrix.encode(bf16, "q8", source_dtype="bfloat16").decode() != bf16).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_product_is_within_its_bound(scheme):
    matrix = qins.EncodedMatrix.encode(weights(96, 320), scheme)
    x = np.random.default_rng(1).standard_normal((3, 17, 320)).astype(np.float32)
    exact = x.astype(np.float64) @ matrix.decode().astype(np.float64).T
    y = matrix.matmul(x)
    assert y.shape == (3, 17, 96)
    bound = qins.INTEGER_NMSE
    assert np.square(y - exact).sum() < bound * np.square(exact).sum()
    # The bound notices other weights.
    other = qins.EncodedMatrix.encode(weights(96, 320) * 1.01, scheme).matmul(x)
    assert np.square(other - exact).sum() > bound * np.square(exact).sum()


def test_a_row_gives_the_same_bits_alone():
    matrix = qins.EncodedMatrix.encode(weights(96, 320), "q4")
    x = np.random.default_rng(1).standard_normal((17, 320)).astype(np.float32)
    np.testing.assert_array_equal(matrix.matmul(x[5]), matrix.matmul(x)[5])


def test_outputs_are_written_in_place():
    matrix = qins.EncodedMatrix.encode(weights(6, 40), "q4")
    x, y, w = np.ones((2, 40), np.float32), np.empty((2, 6), np.float32), np.empty((6, 40), np.float32)
    assert matrix.matmul(x, y) is y
    assert matrix.decode(w) is w
    np.testing.assert_array_equal(y, matrix.matmul(x))
    np.testing.assert_array_equal(matrix.decode(rows=(2, 5)), w[2:5])


def test_nothing_is_converted_silently():
    matrix = qins.EncodedMatrix.encode(weights(6, 40), "q8")
    x = np.ones((2, 40), np.float32)
    faults = [
        (lambda: matrix.matmul(x.astype(np.float64)), "x: expected a C-contiguous NumPy array of float32, found float64"),
        (lambda: matrix.matmul(np.asfortranarray(x)), "found float32 in another order"),
        (lambda: matrix.matmul([1.0]), "found list"),
        (lambda: matrix.matmul(x[:, :39].copy()), r"x: expected shape \[..., 40\], found \[2, 39\]"),
        (lambda: matrix.matmul(x, np.empty((2, 7), np.float32)), r"out: expected shape \[2, 6\], found \[2, 7\]"),
        (lambda: matrix.decode(rows=(3, 7)), r"rows: expected a range of 6 rows, found \(3, 7\)"),
        (lambda: qins.EncodedMatrix.encode(x[0], "q8"), r"expected shape \[out, in\], found \[40\]"),
    ]
    for call, message in faults:
        with pytest.raises(ValueError, match=message):
            call()
    readonly = np.empty((6, 40), np.float32)
    readonly.flags.writeable = False
    with pytest.raises(ValueError, match="out: expected an array to write into"):
        matrix.decode(readonly)


def test_options_and_weights_are_checked():
    w = weights(2, 40)
    encode = qins.EncodedMatrix.encode
    for call, kind, message in [
        (lambda: encode(w, "q7"), qins.PolicyError, "unknown scheme `q7`: expected one of"),
        (lambda: encode(w, "q8", source_dtype="int8"), qins.PolicyError, "source_dtype: expected one of"),
        (lambda: encode(w, "q4", alpha=1.0), qins.EncodeError, "expected no fixed α for q4"),
        (lambda: encode(w * np.nan, "q4"), qins.EncodeError, "expected finite weights, found NaN at row 0, column 0"),
        (lambda: encode(w, "q8", bits_per_weight=3), qins.PolicyError, "bits_per_weight: expected the scheme rate, found q8"),
        (lambda: encode(w, "rate", bits_per_weight=99), qins.PolicyError, "bits per weight, found 99"),
        (lambda: encode(w, "q8", importance=np.ones(3, np.float32)), qins.EncodeError, "expected 40 elements"),
    ]:
        with pytest.raises(kind, match=message) as raised:
            call()
        assert isinstance(raised.value, qins.QinsError)


def test_parts_are_checked():
    matrix = qins.EncodedMatrix.encode(weights(2, 40), "q8")
    parts = matrix.parts()
    build = lambda parts: qins.EncodedMatrix.from_parts(parts, "q8", (2, 40))  # noqa: E731
    with pytest.raises(ValueError, match="expected the parts"):
        build({"packed": parts["packed"]})
    with pytest.raises(ValueError, match=r"scale: expected float16 of shape \[2\], found float32 of shape \[2\]"):
        build({**parts, "scale": parts["scale"].astype(np.float32)})
    with pytest.raises(qins.EncodeError, match="expected a finite scale of at least 0, found NaN in row 1"):
        build({**parts, "scale": np.array([1, np.nan], np.float16)})


def test_a_file_of_one_matrix(tmp_path):
    matrix = qins.EncodedMatrix.encode(weights(5, 100), "q5")
    path = tmp_path / "matrix.safetensors"
    matrix.save(path)
    assert qins.EncodedMatrix.load(path) == matrix
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(qins.CheckpointError, match="expected bytes that match their checksum"):
        qins.EncodedMatrix.load(path)


def test_products_run_beside_each_other():
    matrix = qins.EncodedMatrix.encode(weights(256, 512), "q4")
    x = np.random.default_rng(2).standard_normal((8, 512)).astype(np.float32)
    expected, found = matrix.matmul(x), []
    threads = [threading.Thread(target=lambda: found.append(matrix.matmul(x))) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 4
    assert all((y == expected).all() for y in found)
