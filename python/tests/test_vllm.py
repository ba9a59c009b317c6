"""vLLM's own layers with encoded weights, on the CPU: in one process, and in two that share the work.

Serving needs a GPU, and is not tested here.
"""

import json
import queue
import socket

import numpy as np
import pytest

pytest.importorskip("vllm")
torch = pytest.importorskip("torch")

import torch.multiprocessing as mp  # noqa: E402

HEADS, KV_HEADS, SIZE, MIDDLE = 6, 2, 32, 320
HIDDEN = HEADS * SIZE
VOCAB = 130
BLOCK = "model.layers.0."
ROWS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * SIZE, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * SIZE, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (MIDDLE, HIDDEN),
    "mlp.up_proj": (MIDDLE, HIDDEN),
    "mlp.down_proj": (HIDDEN, MIDDLE),
}


def checkpoint(scheme: str, plain: set[str]):
    """The tensors of a block, its `quantization_config`, and its decoded weights."""
    import qins
    from qins.linear import encode, storage_of
    from qins.storage import Quantization

    tensors, dense, quantization = {}, {}, Quantization()
    shapes = {**{BLOCK + name: shape for name, shape in ROWS.items()}, "model.embed_tokens": (VOCAB, HIDDEN)}
    for i, (name, shape) in enumerate(shapes.items()):
        w = torch.from_numpy((np.random.default_rng(i).standard_normal(shape) / 16).astype(np.float32))
        if name.rpartition(".")[2] in plain:
            tensors[f"{name}.weight"], dense[name] = w, w
            quantization.ignore.append(name)
            continue
        matrix = encode(w, scheme)
        tensors |= {f"{name}.weight_{part}": torch.from_numpy(array) for part, array in matrix.parts().items()}
        tensors[f"{name}.weight_shape"] = torch.tensor(shape)
        quantization.modules[name], dense[name] = storage_of(matrix), torch.from_numpy(matrix.decode())
    assert qins.FORMAT_VERSION == 3
    return tensors, json.loads(json.dumps(quantization.to_dict())), dense


def block(config):
    """A block of vLLM's layers, without attention, as the models have it."""
    from vllm.model_executor.layers import linear as layers
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    common = {"bias": False, "quant_config": config, "return_bias": False}
    module = torch.nn.ModuleDict({
        "qkv_proj": layers.QKVParallelLinear(
            HIDDEN, SIZE, HEADS, KV_HEADS, prefix=BLOCK + "self_attn.qkv_proj", **common
        ),
        "o_proj": layers.RowParallelLinear(HIDDEN, HIDDEN, prefix=BLOCK + "self_attn.o_proj", **common),
        "gate_up_proj": layers.MergedColumnParallelLinear(
            HIDDEN, [MIDDLE, MIDDLE], prefix=BLOCK + "mlp.gate_up_proj", **common
        ),
        "up_proj": layers.ColumnParallelLinear(HIDDEN, MIDDLE, prefix=BLOCK + "mlp.up_proj", **common),
        "down_proj": layers.RowParallelLinear(MIDDLE, HIDDEN, prefix=BLOCK + "mlp.down_proj", **common),
        "embed_tokens": VocabParallelEmbedding(VOCAB, HIDDEN, quant_config=config, prefix="model.embed_tokens"),
        "lm_head": ParallelLMHead(VOCAB, HIDDEN, quant_config=config, prefix="lm_head"),
    })
    module["lm_head"] = module["lm_head"].tie_weights(module["embed_tokens"])
    return module


def load(module, tensors) -> None:
    """As vLLM's loader: joined layers by shard; a tensor goes to the loader of the parameter of its name."""
    shards = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "gate_proj": 0, "up_proj": 1}
    for name, tensor in tensors.items():
        path, _, part = name.rpartition(".")
        leaf = path.rpartition(".")[2]
        layer = module["qkv_proj" if leaf[0] in "qkv" else "gate_up_proj" if leaf in shards else leaf]
        param = getattr(layer, part)
        param.weight_loader(param, tensor, *([shards[leaf]] if leaf in shards else []))
        # The same linear by itself.
        if leaf == "up_proj":
            param = getattr(module[leaf], part)
            param.weight_loader(param, tensor)
    for layer in module.values():
        layer.quant_method.process_weights_after_loading(layer)


def outputs(module, rank: int, size: int):
    """Each layer's whole output: that of row-parallel layers is summed by vLLM, that of the others is joined here."""
    from vllm.distributed import tensor_model_parallel_all_gather

    x = torch.from_numpy(np.random.default_rng(99).standard_normal((5, HIDDEN)).astype(np.float32))
    middle = torch.from_numpy(np.random.default_rng(98).standard_normal((5, MIDDLE)).astype(np.float32))
    found = {}
    for name, width in [("qkv_proj", [HIDDEN, KV_HEADS * SIZE, KV_HEADS * SIZE]), ("gate_up_proj", [MIDDLE, MIDDLE])]:
        pieces = torch.split(module[name](x), [n // size for n in width], -1)
        found[name] = torch.cat([tensor_model_parallel_all_gather(piece.contiguous(), -1) for piece in pieces], -1)
    found["up_proj"] = tensor_model_parallel_all_gather(module["up_proj"](x).contiguous(), -1)
    for name, whole in [("o_proj", x), ("down_proj", middle)]:
        n = whole.shape[1] // size
        found[name] = module[name](whole[:, rank * n : (rank + 1) * n].contiguous())
    ids = torch.tensor([0, 1, 70, VOCAB - 1])
    found["embed_tokens"] = module["embed_tokens"](ids)
    head = module["lm_head"]
    logits = tensor_model_parallel_all_gather(head.quant_method.apply(head, x).contiguous(), -1)
    found["lm_head"] = logits[:, :VOCAB]
    return found


def expected(dense):
    x = torch.from_numpy(np.random.default_rng(99).standard_normal((5, HIDDEN)).astype(np.float32))
    middle = torch.from_numpy(np.random.default_rng(98).standard_normal((5, MIDDLE)).astype(np.float32))
    join = lambda *names: torch.cat([dense[BLOCK + name] for name in names])  # noqa: E731
    table = dense["model.embed_tokens"]
    return {
        "qkv_proj": x @ join("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj").T,
        "gate_up_proj": x @ join("mlp.gate_proj", "mlp.up_proj").T,
        "up_proj": x @ dense[BLOCK + "mlp.up_proj"].T,
        "o_proj": x @ dense[BLOCK + "self_attn.o_proj"].T,
        "down_proj": middle @ dense[BLOCK + "mlp.down_proj"].T,
        "embed_tokens": table[[0, 1, 70, VOCAB - 1]],
        "lm_head": x @ table.T,
    }


def start(rank: int, size: int, port: int) -> None:
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform

    # The wheel is built for GPUs, and finds none here.
    vllm.platforms._current_platform = CpuPlatform()
    from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    config = set_current_vllm_config(VllmConfig(device_config=DeviceConfig(device="cpu")))
    config.__enter__()
    init_distributed_environment(size, rank, f"tcp://127.0.0.1:{port}", rank, backend="gloo")
    initialize_model_parallel(size)
    return config


def run(rank: int, size: int, port: int, cases, results) -> None:
    torch.set_num_threads(1)
    held = start(rank, size, port)  # noqa: F841
    from qins.vllm_plugin import QinsVllmConfig

    for case in cases:
        tensors, entry, dense = checkpoint(*case)
        module = block(QinsVllmConfig.from_config(entry))
        load(module, tensors)
        found, right = outputs(module, rank, size), expected(dense)
        errors = {name: float((found[name] - right[name]).abs().max() / right[name].abs().max()) for name in right}
        results.put((rank, case, errors, {name: y.numpy() for name, y in found.items()}))
    results.close()
    results.join_thread()


CASES = [(scheme, plain) for scheme in ["q8", "q4"] for plain in [frozenset(), frozenset({"q_proj", "k_proj"})]]


def of_processes(size: int):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=run, args=(rank, size, port, CASES, results)) for rank in range(size)]
    [process.start() for process in processes]
    found = []
    while len(found) < size * len(CASES):
        try:
            found.append(results.get(timeout=1))
        except queue.Empty:
            assert all(process.exitcode in (None, 0) for process in processes), "a process failed; its output says why"
    [process.join(60) for process in processes]
    return {(rank, case): (errors, outputs) for rank, case, errors, outputs in found}


@pytest.fixture(scope="module")
def one():
    return of_processes(1)


@pytest.fixture(scope="module")
def two():
    return of_processes(2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'mixed' if case[1] else 'all'}")
def test_layers_multiply_by_the_decoded_weights(one, case):
    errors, _ = one[0, case]
    assert len(errors) == 7
    assert all(error < 1e-5 for error in errors.values()), errors


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'mixed' if case[1] else 'all'}")
def test_two_processes_equal_one(one, two, case):
    _, alone = one[0, case]
    for rank in range(2):
        _, shared = two[rank, case]
        for name, y in alone.items():
            assert np.abs(shared[name] - y).max() < 1e-4, name


def test_other_weights_are_noticed(one):
    """What one scheme gives is not what the other gives: the bounds above are between the two."""
    for name, y in one[0, CASES[0]][1].items():
        assert np.abs(one[0, CASES[2]][1][name] - y).max() > 1e-3, name
