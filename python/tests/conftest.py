import pathlib
import shutil

import pytest

ATLAS = pathlib.Path(__file__).parents[2] / "crates/qins/assets/atlas"
FAMILIES = pathlib.Path(__file__).parents[2] / "tests/fixtures/families"


@pytest.fixture(scope="session")
def atlas(tmp_path_factory) -> pathlib.Path:
    """The small model of the program as a directory: Phi-3, fused projections."""
    out = tmp_path_factory.mktemp("models") / "atlas"
    out.mkdir()
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(ATLAS / name, out)
    return out
