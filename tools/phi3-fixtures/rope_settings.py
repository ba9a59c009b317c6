#!/usr/bin/env python3
"""The rotation settings that Transformers makes of configurations that say them in several places, or in unusual ones.

    rope_settings.py OUT      # tests/fixtures/phi3/rope_settings.json; needs transformers==5.23.0 and numpy, not torch

Each case has the fields that are added to a small configuration, and what Transformers computes with: base, share and frequencies of the
rotation, its factor of cos and sin, and the length at which LongRoPE switches; or null where it raises.
"""

import json
import sys
from types import SimpleNamespace

import numpy as np
from transformers import LlamaConfig, Phi3Config, modeling_rope_utils


class Array(np.ndarray):
    """What LongRoPE's frequencies need of a tensor."""

    def float(self):
        return self.astype(np.float32)

    def __rpow__(self, base):
        return np.power(np.float32(base), np.asarray(self)).view(Array)


def tensor(values, dtype=None, device=None):
    return np.asarray(values, np.float32).view(Array)


def arange(*bounds, dtype=None, device=None):
    return np.arange(*bounds).view(Array)


modeling_rope_utils.torch = SimpleNamespace(tensor=tensor, arange=arange, float32=np.float32, int64=np.int64)

BASE = dict(vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            hidden_act="silu", rms_norm_eps=1e-5, max_position_embeddings=256, pad_token_id=0, eos_token_id=2, bos_token_id=1)
FACTORS = dict(short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
LONG = dict(rope_type="longrope", **FACTORS)
OUTER = dict(original_max_position_embeddings=32)

CASES = [
    ("nothing", "phi3", {}),
    ("a base outside", "phi3", dict(rope_theta=5e5)),
    ("a base inside", "phi3", dict(rope_parameters=dict(rope_theta=5e5, rope_type="default"))),
    ("a base inside and outside", "phi3", dict(rope_theta=1e6, rope_parameters=dict(rope_theta=5e5, rope_type="default"))),
    ("the same base inside and outside", "phi3", dict(rope_theta=5e5, rope_scaling=dict(rope_theta=5e5, rope_type="default"))),
    ("a share inside", "phi3", dict(rope_parameters=dict(partial_rotary_factor=0.5))),
    ("a share outside", "phi3", dict(partial_rotary_factor=0.5)),
    ("a share inside and outside", "phi3", dict(partial_rotary_factor=0.75, rope_parameters=dict(partial_rotary_factor=0.5))),
    ("an empty rope_scaling", "phi3", dict(rope_scaling={}, rope_parameters=dict(rope_theta=5e5))),
    ("equal rope_scaling and rope_parameters", "phi3", dict(OUTER, rope_scaling=LONG, rope_parameters=LONG)),
    ("default beside longrope", "phi3", dict(OUTER, rope_scaling=LONG, rope_parameters=dict(rope_type="default", rope_theta=5e5))),
    ("longrope beside default", "phi3", dict(OUTER, rope_scaling=dict(rope_type="default"), rope_parameters=LONG)),
    ("a base only in the other", "phi3", dict(OUTER, rope_scaling=LONG, rope_parameters=dict(LONG, rope_theta=5e5))),
    ("longrope", "phi3", dict(OUTER, rope_scaling=dict(type="longrope", **FACTORS))),
    ("longrope called su", "phi3", dict(OUTER, rope_scaling=dict(type="su", **FACTORS))),
    ("type and rope_type", "phi3", dict(OUTER, rope_scaling=dict(LONG, type="su"))),
    ("type and rope_type differ", "phi3", dict(OUTER, rope_scaling=dict(FACTORS, type="longrope", rope_type="default"))),
    ("a factor", "phi3", dict(OUTER, rope_parameters=dict(LONG, factor=16.0))),
    ("a factor of 1", "phi3", dict(OUTER, rope_parameters=dict(LONG, factor=1.0))),
    ("a factor below 1", "phi3", dict(OUTER, rope_parameters=dict(LONG, factor=0.5))),
    ("a factor and an attention_factor", "phi3", dict(OUTER, rope_parameters=dict(LONG, factor=16, attention_factor=1.25))),
    ("an attention_factor", "phi3", dict(OUTER, rope_parameters=dict(LONG, attention_factor=1.25))),
    ("an original length inside and outside", "phi3", dict(OUTER, rope_parameters=dict(LONG, original_max_position_embeddings=64))),
    ("an original length inside only", "phi3", dict(rope_parameters=dict(LONG, original_max_position_embeddings=64))),
    ("that of Phi-3 inside only", "phi3", dict(rope_parameters=dict(LONG, original_max_position_embeddings=4096))),
    ("no original length", "phi3", dict(rope_parameters=LONG)),
    ("an unknown key", "phi3", dict(OUTER, rope_parameters=dict(LONG, short_mscale=1.1))),
    ("a factor without a type", "phi3", dict(rope_scaling=dict(factor=8.0))),
    ("a base outside", "llama", dict(rope_theta=5e5)),
    ("a share outside", "llama", dict(partial_rotary_factor=0.5)),
    ("longrope called su", "llama", dict(OUTER, rope_scaling=dict(type="su", **FACTORS))),
    ("longrope", "llama", dict(OUTER, rope_scaling=LONG)),
    ("a factor", "llama", dict(rope_scaling=dict(LONG, factor=16.0, original_max_position_embeddings=16))),
    ("an original length inside only", "llama", dict(rope_parameters=dict(LONG, original_max_position_embeddings=64))),
    ("an original length inside and outside", "llama", dict(OUTER, rope_parameters=dict(LONG, original_max_position_embeddings=64))),
    ("no original length", "llama", dict(rope_parameters=LONG)),
]


def settings(family, fields):
    config = {"phi3": Phi3Config, "llama": LlamaConfig}[family](**BASE, **json.loads(json.dumps(fields)))
    config.standardize_rope_params()
    rope = config.rope_parameters
    # As the models' rotary embeddings: Llama's does not read the share.
    share = rope.get("partial_rotary_factor", 1.0) if family == "phi3" or rope["rope_type"] != "default" else 1.0
    found = dict(rope_theta=rope["rope_theta"], rotary_dim=int(16 * share), attention_factor=1.0, original=None)
    match rope["rope_type"]:
        case "default":
            pass
        case "longrope":
            original = rope["original_max_position_embeddings"]
            short, found["attention_factor"] = modeling_rope_utils._compute_longrope_parameters(config)
            long, _ = modeling_rope_utils._compute_longrope_parameters(config, seq_len=original + 1)
            found.update(original=original, short=[float(f) for f in short], long=[float(f) for f in long])
        case other:
            raise KeyError(other)
    return found


def main():
    cases = []
    for name, family, fields in CASES:
        try:
            found = settings(family, fields)
        except Exception as e:
            print(f"{family}, {name}: {type(e).__name__}: {e}", file=sys.stderr)
            found = None
        cases.append(dict(name=f"{family}: {name}", config=dict(BASE, model_type=family, **fields), transformers=found))
    with open(sys.argv[1], "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
