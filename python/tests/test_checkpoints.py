"""Convert, export, inspect and verify."""

import json
import shutil

import numpy as np
import pytest

import qins


def test_a_converted_directory(atlas, tmp_path):
    out = tmp_path / "q4"
    written = qins.convert(atlas, out, scheme="q4", overrides=["down=q8"])
    assert 0.5 < written.bytes_after / written.bytes_before < 0.62
    found = qins.inspect(out, atlas)
    schemes = {tensor.name.split(".")[-2]: tensor.scheme for tensor in found.tensors}
    assert (schemes["v_proj"], schemes["down_proj"], schemes["q_proj"]) == ("q4", "q8", "bf16")
    assert found.file_bytes == written.bytes_after
    checked = qins.verify(out, atlas)
    assert checked.ok, checked.faults
    assert len(checked.modules) == 30
    assert all(module.sqnr_db > 18 for module in checked.modules)
    # A module by itself, against the tensors' shapes.
    matrix = qins.EncodedMatrix.of_module(out, "model.layers.0.mlp.gate_proj")
    assert (matrix.scheme, matrix.shape, matrix.source_dtype) == ("q4", (512, 192), "bfloat16")
    with pytest.raises(qins.CheckpointError, match="already"):
        qins.convert(out, tmp_path / "again")
    with pytest.raises(qins.CheckpointError):
        qins.convert(atlas, out)
    assert not (tmp_path / "again").exists()


def test_damage_is_found(atlas, tmp_path):
    out = tmp_path / "q8"
    qins.convert(atlas, out)
    qins._native.check_intact(out)
    path = out / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert len(qins.verify(out).faults) == 1
    with pytest.raises(qins.CheckpointError, match="expected bytes that match their checksum"):
        qins._native.check_intact(out)


def test_an_archive_gives_its_source_back(atlas, tmp_path):
    qins.convert(atlas, tmp_path / "archive", scheme="lossless", targets="full")
    qins.export(tmp_path / "archive", tmp_path / "plain")
    source, result = [qins.inspect(dir).tensors for dir in [atlas, tmp_path / "plain"]]
    assert source == result
    original = _tensors(atlas / "model.safetensors")
    assert original == _tensors(tmp_path / "plain" / "model.safetensors")
    assert original != _tensors(tmp_path / "archive" / "model.safetensors")


def _tensors(path):
    """The bytes of each tensor of a safetensors file."""
    file = path.read_bytes()
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    return {
        name: file[start:][slice(*tensor["data_offsets"])] for name, tensor in header.items() if name != "__metadata__"
    }


def test_weights_of_which_nothing_is_left_are_a_fault(atlas, tmp_path):
    qins.convert(atlas, tmp_path / "q8")
    assert qins.verify(tmp_path / "q8", atlas).ok
    # A source of the opposite sign.
    shutil.copytree(atlas, tmp_path / "negated")
    path = tmp_path / "negated" / "model.safetensors"
    file = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(file[:8], "little")
    np.frombuffer(file, np.uint16, offset=start)[:] ^= 0x8000
    path.write_bytes(file)
    found = qins.verify(tmp_path / "q8", tmp_path / "negated")
    faults = [fault for fault in found.faults if "expected 0 dB or more, found -6.0" in fault]
    assert len(faults) == len(found.modules) > 0


def test_policies_and_files_are_checked(atlas, tmp_path):
    for arguments, kind, message in [
        ({"scheme": "q9"}, qins.PolicyError, "unknown scheme"),
        ({"targets": "most"}, qins.PolicyError, "unknown target `most`"),
        ({"overrides": ["nothing=q4"]}, qins.PolicyError, "expected an override to match a linear"),
        ({"bits_per_weight": 3}, qins.PolicyError, "bits_per_weight: expected the scheme rate, found"),
    ]:
        with pytest.raises(kind, match=message):
            qins.convert(atlas, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(qins.CheckpointError, match="config.json"):
        qins.inspect(tmp_path)
    config = json.loads((atlas / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "other"}}))
    with pytest.raises(qins.CheckpointError, match="expected quant_method `qins`, found `other`"):
        qins.inspect(tmp_path)
