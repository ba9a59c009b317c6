"""Layers of PyTorch with encoded weights."""

import copy
import io

import numpy as np
import pytest

import qins

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from qins.linear import FusedLinear  # noqa: E402

SCHEMES = ["companded-f32", "q8", "q8g", "q6", "q5", "q4", "q3"]


def linear(rows=96, cols=320, bias=True, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(cols, rows, bias=bias, dtype=dtype).requires_grad_(False)


def nmse(found, right):
    found, right = found.detach(), right.detach()
    return float(((found.double() - right.double()) ** 2).sum() / (right.double() ** 2).sum())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_product_is_that_of_the_decoded_weights(scheme):
    plain = linear()
    layer = qins.Linear.from_linear(plain, scheme)
    x = torch.randn(3, 7, 320)
    weights = torch.from_numpy(layer.matrix().decode())
    torch.testing.assert_close(layer(x), nn.functional.linear(x, weights, plain.bias))
    assert nmse(layer(x), plain(x)) < 0.03


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kernels_agree_within_their_bound(scheme):
    plain = linear(bias=False)
    layer = qins.Linear.from_linear(plain, scheme, kernel="rust")
    x = torch.randn(64, 320)
    exact = x.double() @ layer.decode().double().T
    assert nmse(layer(x), exact) < qins.INTEGER_NMSE
    # Of other weights, by a percent, the product is outside it.
    assert nmse(layer(x * 1.01), exact) > qins.INTEGER_NMSE
    # Weights that are written into are weights of another product.
    before = layer(x)
    layer.weight_packed[0, :4] = 0 if scheme == "companded-f32" else 3
    assert (layer(x) != before).any()


def test_a_kernel_is_checked():
    layer = qins.Linear.from_linear(linear(), "q4", kernel="rust")
    with pytest.raises(qins.PolicyError, match="expected an input on the CPU without gradients, found one with gradients"):
        layer(torch.randn(2, 320, requires_grad=True))
    with pytest.raises(qins.PolicyError, match="kernel: expected one of torch, rust, found `cuda`"):
        layer.kernel = "cuda"


def test_gradients_reach_the_input():
    layer = qins.Linear.from_linear(linear(bias=False), "q4")
    x = torch.randn(2, 320, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0], layer.decode().sum(0))


@pytest.mark.parametrize("change", [torch.nn.Module.bfloat16, torch.nn.Module.double, torch.nn.Module.float])
def test_a_change_of_type_leaves_the_stored_tensors(change):
    layer = qins.Linear.from_linear(linear(), "q8")
    before = layer.decode()
    change(layer)
    assert layer.weight_scale.dtype == torch.float16
    assert torch.equal(layer.decode(), before)
    assert layer.bias.dtype == {"bfloat16": torch.bfloat16, "double": torch.float64, "float": torch.float32}[change.__name__]


def test_a_large_matrix_is_decoded_in_blocks(monkeypatch):
    layer = qins.Linear.from_linear(linear(), "q4")
    x = torch.randn(4, 320)
    whole = layer(x)
    monkeypatch.setattr("qins.linear.BLOCK", 1000)
    torch.testing.assert_close(layer(x), whole)


def test_state_is_the_stored_tensors():
    layer = qins.Linear.from_linear(linear(), "q5")
    state = layer.state_dict()
    assert sorted(state) == sorted(["bias", "weight_shape", *(f"weight_{name}" for name in layer.matrix().parts())])
    other = qins.Linear(320, 96, "q5", bias=True)
    other.load_state_dict(state)
    x = torch.randn(2, 320)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), layer(x))


def test_stored_tensors_are_checked():
    layer = qins.Linear.from_linear(linear(), "q8")
    layer.expect_valid("block")
    for name, wrong, message in [
        ("weight_scale", layer.weight_scale.float(), "expected float16 of shape .96., found float32 of shape .96."),
        ("weight_scale", -layer.weight_scale, "expected finite numbers of at least 0"),
        ("weight_packed", layer.weight_packed[1:], "expected uint8 of shape"),
        ("weight_shape", torch.tensor([95, 320]), r"expected \[96, 320\], found \[95, 320\]"),
    ]:
        changed = copy.deepcopy(layer)
        setattr(changed, name, wrong)
        with pytest.raises(qins.CheckpointError, match=f"block.{name}: {message}"):
            changed.expect_valid("block")


class Config:
    hidden_size, num_attention_heads, num_key_value_heads, intermediate_size = 64, 4, 2, 96


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.config = Config()
        self.embed_tokens = nn.Embedding(50, 64)
        self.qkv_proj = nn.Linear(64, 128, bias=False)
        self.o_proj = nn.Linear(64, 64)
        self.gate_up_proj = nn.Linear(64, 192, bias=False)
        self.lm_head = nn.Linear(64, 50, bias=False)
        self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids):
        x = self.embed_tokens(ids)
        return self.lm_head(self.o_proj(self.qkv_proj(x)[..., :64])), self.gate_up_proj(x)


def test_queries_and_keys_are_told_by_their_rows():
    plain, ids = Block(), torch.arange(12).view(3, 4)
    model = qins.convert_linear_to_qins(copy.deepcopy(plain), "q8", "safe")
    fused = model.qkv_proj
    assert isinstance(fused, FusedLinear)
    assert [type(part) for part in fused.children()] == [nn.Linear, nn.Linear, qins.Linear]
    assert torch.equal(fused.k_proj.weight, plain.qkv_proj.weight[64:96])
    assert fused.v_proj.rows == 32
    x = torch.randn(5, 64)
    torch.testing.assert_close(fused(x)[:, :96], plain.qkv_proj(x)[:, :96])
    assert 1e-8 < nmse(fused(x)[:, 96:], plain.qkv_proj(x)[:, 96:]) < 1e-3
    assert isinstance(model.lm_head, nn.Linear) and isinstance(model.embed_tokens, nn.Embedding)
    for found, right in zip(model(ids), plain(ids), strict=True):
        assert 0 < nmse(found, right) < 1e-3


def test_every_linear_and_a_tied_head():
    plain, ids = Block(), torch.arange(12).view(3, 4)
    model = qins.convert_linear_to_qins(copy.deepcopy(plain), "q8", "full", ["o_proj=none", "gate=q4"])
    assert isinstance(model.o_proj, nn.Linear) and isinstance(model.embed_tokens, qins.Embedding)
    assert (model.gate_up_proj.gate_proj.storage.scheme, model.gate_up_proj.up_proj.storage.scheme) == ("q4", "q8")
    # The head has no weights of its own.
    assert not [name for name in model.state_dict() if name.startswith("lm_head")]
    x = torch.randn(2, 64)
    torch.testing.assert_close(model.lm_head(x), x @ model.embed_tokens.decode().T)
    assert torch.equal(model.embed_tokens(ids), model.embed_tokens.decode()[ids])
    assert 0 < nmse(model(ids)[0], plain(ids)[0]) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "q7"}, "unknown scheme `q7`"),
        ({"scheme": "rate"}, "expected a scheme for matrices in memory, found `rate`"),
        ({"targets": "most"}, "unknown target `most`"),
        ({"targets": ["down_proj"]}, "to match a linear of the model, found none"),
        ({"overrides": ["k_proj"]}, "expected PATTERN=SCHEME"),
        ({"overrides": ["nothing=q4"]}, "expected `nothing=q4` to match a linear of the model, found none"),
    ],
)
def test_a_policy_is_checked(arguments, message):
    with pytest.raises(qins.PolicyError, match=message):
        qins.convert_linear_to_qins(Block(), **{"scheme": "q8", **arguments})


def test_weights_are_checked():
    model = Block()
    model.o_proj.weight.data[0, 3] = np.nan
    before = list(model.named_modules())
    with pytest.raises(qins.EncodeError, match="expected finite weights, found NaN at row 0, column 3"):
        qins.convert_linear_to_qins(model, "q8")
    # The model is as it was.
    assert list(model.named_modules()) == before
