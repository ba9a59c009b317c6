"""Transformers loads encoded directories, and writes them again."""

import json
import shutil

import numpy as np
import pytest

import qins

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from conftest import FAMILIES  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

IDS = torch.tensor([[3, 17, 5, 88, 42, 7]])


def load(dir, **options):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        dir, dtype=torch.float32, output_loading_info=True, **options
    )
    assert not any(report.values()), report
    return model


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def exported(dir, tmp_path):
    """The plain model of an encoded directory's weights, in float32, by the library's export."""
    plain = tmp_path / f"{dir.name}-plain"
    qins.export(dir, plain, dtype="float32")
    return load(plain)


@pytest.mark.parametrize(("scheme", "targets"), [("q8", "safe"), ("q4", "all"), ("q3", "full"), ("companded-f32", "full")])
def test_a_fused_model(atlas, tmp_path, scheme, targets):
    dir = tmp_path / "encoded"
    qins.convert(atlas, dir, scheme=scheme, targets=targets)
    config = json.loads((dir / "config.json").read_text())
    config["quantization_config"]["goal"] = "kl=0.05"
    (dir / "config.json").write_text(json.dumps(config))
    model = load(dir)
    attention = model.model.layers[0].self_attn
    kinds = {name: isinstance(part, qins.Linear) for name, part in attention.qkv_proj.named_children()}
    assert kinds == {"q_proj": targets != "safe", "k_proj": targets != "safe", "v_proj": True}
    # What the export gives is rounded to no other type: the same numbers, summed in the same order.
    torch.testing.assert_close(logits(model), logits(exported(dir, tmp_path)), rtol=0, atol=1e-4)
    if scheme != "companded-f32":
        assert (logits(model) - logits(load(atlas))).abs().max() > 1e-3
    # In float32 the norms are other tensors; the encoded ones are not.
    model.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert written["quantization_config"]["goal"] == "kl=0.05"
    assert qins.verify(tmp_path / "again").ok
    torch.testing.assert_close(logits(load(tmp_path / "again")), logits(model), rtol=0, atol=0)


def expect_same(dir, again):
    """Two encoded directories have the same tensors, and the library reads both."""
    assert qins.verify(again).ok, qins.verify(again).faults
    first, second = (qins.inspect(each) for each in (dir, again))
    assert first == second
    a, b = (load_file(each / "model.safetensors") for each in (dir, again))
    assert a.keys() == b.keys()
    assert all(a[name].dtype == b[name].dtype for name in a)
    bits = lambda tensor: tensor.contiguous().reshape(-1).view(torch.uint8)  # noqa: E731
    changed = [name for name in a if not torch.equal(bits(a[name]), bits(b[name]))]
    assert not changed


@pytest.mark.parametrize("options", [{"scheme": "q5"}, {"scheme": "q8", "targets": "v,down"}, {"scheme": "q3", "targets": "full"}])
def test_a_directory_written_in_bfloat16_is_the_source(atlas, tmp_path, options):
    dir = tmp_path / "encoded"
    qins.convert(atlas, dir, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(dir)
    assert model.dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "again")
    expect_same(dir, tmp_path / "again")


@pytest.mark.parametrize("family", ["llama_bias_tied", "gemma3", "qwen2", "llama_linear"])
def test_unfused_families_and_tied_heads(family, tmp_path):
    source = FAMILIES / family
    dir = tmp_path / "encoded"
    qins.convert(source, dir, scheme="q6", targets="full")
    model = load(dir)
    assert not [n for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Embedding))]
    torch.testing.assert_close(logits(model), logits(exported(dir, tmp_path)), rtol=0, atol=2e-4)
    model.save_pretrained(tmp_path / "again")
    assert qins.verify(tmp_path / "again").ok
    torch.testing.assert_close(logits(load(tmp_path / "again")), logits(model), rtol=0, atol=0)


def test_the_kernel_on_codes(atlas, tmp_path):
    dir = tmp_path / "encoded"
    qins.convert(atlas, dir, scheme="q8", targets="full")
    model = load(dir)
    decoded = logits(model)
    for module in model.modules():
        if isinstance(module, qins.Linear):
            module.kernel = "rust"
    difference = (logits(model) - decoded).square().mean() / decoded.square().mean()
    assert 0 < difference < 1e-6


def test_encoded_while_loading(atlas, tmp_path):
    model = load(atlas, quantization_config=qins.QinsConfig("q8", targets="safe"))
    qins.convert(atlas, tmp_path / "encoded", scheme="q8")
    # float32 weights and bfloat16 ones have the same codes, but are not stored as the same type.
    torch.testing.assert_close(logits(model), logits(load(tmp_path / "encoded")), rtol=0, atol=0)
    model.save_pretrained(tmp_path / "again")
    assert qins.verify(tmp_path / "again").ok
    torch.testing.assert_close(logits(load(tmp_path / "again")), logits(model), rtol=0, atol=0)


def test_shards(atlas, tmp_path):
    qins.convert(atlas, tmp_path / "encoded", scheme="q4")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "encoded")
    again = tmp_path / "again"
    model.save_pretrained(again, max_shard_size="1MB")
    assert len(list(again.glob("*.safetensors"))) > 2
    checked = qins.verify(again)
    assert checked.ok, checked.faults
    torch.testing.assert_close(logits(load(again)), logits(load(tmp_path / "encoded")), rtol=0, atol=0)


def test_damage_is_found_before_anything_is_decoded(atlas, tmp_path):
    dir = tmp_path / "encoded"
    qins.convert(atlas, dir, scheme="q8")
    path = dir / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(qins.CheckpointError, match="expected bytes that match their checksum"):
        load(dir)


def test_what_cannot_be_loaded_is_said(atlas, tmp_path):
    qins.convert(atlas, tmp_path / "coded", scheme="q8", entropy=True)
    with pytest.raises(qins.CheckpointError, match="expected parts that are not entropy-coded, as Transformers reads no others"):
        load(tmp_path / "coded")
    qins.convert(atlas, tmp_path / "newer", scheme="q8")
    config = json.loads((tmp_path / "newer/config.json").read_text())
    config["quantization_config"]["format_version"] = 99
    (tmp_path / "newer/config.json").write_text(json.dumps(config))
    with pytest.raises(qins.CheckpointError, match="expected format_version 3, found 99"):
        load(tmp_path / "newer")
    config["quantization_config"]["format_version"] = 3
    for change, message in [
        ({"config_groups": []}, "config_groups: expected an object"),
        ({"config_groups": {"group_0": {"scheme": "q8", "targets": ["a"]}}}, "group_0: source_dtype: expected a text, found None"),
        ({"goal": 7}, "goal: expected a text, found 7"),
    ]:
        damaged = {**config, "quantization_config": {**config["quantization_config"], **change}}
        (tmp_path / "newer/config.json").write_text(json.dumps(damaged))
        with pytest.raises(qins.CheckpointError, match=message):
            load(tmp_path / "newer")
    with pytest.raises(qins.PolicyError, match="found 'target'"):
        qins.QinsConfig("q4", target="full")


def test_generation_is_reproducible(atlas, tmp_path):
    dir = tmp_path / "encoded"
    qins.convert(atlas, dir, scheme="q8", targets="all")
    shutil.copy(atlas / "generation_config.json", dir)
    make = lambda model: model.generate(IDS, max_new_tokens=12, do_sample=False).tolist()  # noqa: E731
    made = make(load(dir))
    assert np.shape(made)[1] > IDS.shape[1]
    assert made == make(exported(dir, tmp_path))
