# Makes the golden files beside it by running the original's own code, SwissArmyTransformer's class GLM130B, at a tiny size on the CPU.
# SPDX-License-Identifier: Apache-2.0
#
# python make_goldens.py --glm-130b <checkout of THUDM/GLM-130B> --out <folder>
#
# Needs PyTorch (1.13 or newer, any build), NumPy, SciPy and SwissArmyTransformer 0.2.12 (pip install --no-deps). The class and the
# mask builders are imported and run as they are; what they import besides and never use here is stood in for by empty modules.
#
# fp32.safetensors: the class in fp32 with the rotary tables of its fp16 self injected, since .float() would change them.
# fp16.safetensors: the class in fp16, each of its tensor operations computed in fp32 and rounded once to fp16, as a GPU does it (spec
# 1.3): PyTorch's own fp16 on CPUs rounds elsewhere. The order in which a matrix product adds is the only thing that stays open.
# weights.safetensors: random weights, fp16, by the names of the released files; both runs use them.
#
# Tensors of a case: "<case>.tokens", ".positions" (T), ".windows" (n, 5: begin, end, prefix, context_begin, context_end; they are
# checked to be exactly the original's boolean mask), ".hidden" (L, T, C) behind each layer, ".keys", ".values" (L, T, C), rotated, and
# ".logits" (T, V); for multiple choice also ".choices" (tokens), ".ends" (of each choice) and ".scores" (sums of log-probabilities).
import argparse
import importlib.abc
import importlib.machinery
import json
import math
import os
import pathlib
import sys
import tempfile
import types

os.environ["PYTORCH_JIT"] = "0"  # the operations one by one: fusion rounds elsewhere
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a world of one needs no name of this host
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

LAYERS, HIDDEN, HEADS, FFN, VOCAB, CONTEXT = 3, 128, 2, 88, 144, 2048
SPECIAL = {"[MASK]": 130, "[gMASK]": 131, "sop": 134, "eop": 135, "eos": 136}
STAND_INS = ("deepspeed", "tensorboardX", "datasets", "transformers", "torchvision", "sentencepiece", "icetk", "webdataset",
             "lmdb", "nltk", "localAttention", "tqdm", "filelock", "PIL", "regex", "requests", "dataclass_wizard", "cpm_kernels")


class StandIn(types.ModuleType):
    """A module that has any name, and nothing behind it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


class StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STAND_INS else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


class RoundLikeGpu(TorchDispatchMode):
    """Each operation on halves in fp32, its result rounded once: what CUDA's kernels do."""

    ARITHMETIC = {"addmm", "mm", "bmm", "baddbmm", "mul", "add", "sub", "neg", "div", "gelu", "native_layer_norm", "cos", "sin"}
    MOVEMENT = {"view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "transpose", "t", "permute", "expand", "slice", "select", "split", "cat", "stack", "clone",
                "unsqueeze", "squeeze", "detach", "embedding", "index_select", "masked_fill_", "_to_copy", "copy_", "empty", "arange", "alias", "split_with_sizes", "lift_fresh", "index_put_", "fill_"}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        halves = []
        tree_map(lambda x: halves.append(x) if isinstance(x, torch.Tensor) and x.dtype == torch.half else None, (args, kwargs))
        if not halves or name in self.MOVEMENT:
            return func(*args, **kwargs)
        if name not in self.ARITHMETIC:
            raise NotImplementedError(f"say how a GPU rounds aten::{name}")
        wide = lambda x: x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.half else x
        args, kwargs = tree_map(wide, args), tree_map(wide, kwargs)
        if name == "div":  # by a number: times its reciprocal
            number = args[1].item() if isinstance(args[1], torch.Tensor) else args[1]
            out = args[0] * (torch.ones((), dtype=torch.float32) / torch.tensor(number, dtype=torch.float32))
        else:
            out = func(*args, **kwargs)
        return tree_map(lambda x: x.half() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x, out)


class Tokenizer:
    """The ids of the tiny model's special tokens, for the original's mask builders."""

    def get_command(self, name):
        return SPECIAL[name]


def import_original(checkout):
    sys.meta_path.append(StandInFinder())
    sys.path.insert(0, str(checkout))
    cpu = torch.device("cpu")
    torch.cuda.current_device = lambda: cpu
    torch.cuda.set_device = lambda device: None
    folder = tempfile.mkdtemp()
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    import SwissArmyTransformer
    from SwissArmyTransformer import mpu
    from SwissArmyTransformer.model.official.glm130B_model import GLM130B
    mpu.initialize_model_parallel(1)
    import evaluation.dataset as dataset  # of the checkout
    dataset.get_tokenizer = Tokenizer
    return GLM130B, dataset


def make_model(GLM130B, fp16, weights):
    args = argparse.Namespace(num_layers=LAYERS, hidden_size=HIDDEN, num_attention_heads=HEADS, inner_hidden_size=FFN, vocab_size=VOCAB,
                              max_sequence_length=CONTEXT, layernorm_order="post", model_parallel_size=1, skip_init=True, fp16=fp16, hidden_dropout=0.1,
                              attention_dropout=0.1, hidden_size_per_attention_head=None, checkpoint_activations=False, checkpoint_num_layers=1,
                              use_gpu_initialization=False)
    model = GLM130B(args).eval()
    model = model.half() if fp16 else model.float()
    own = dict(model.named_parameters())
    assert set(own) == set(weights), (sorted(set(own) ^ set(weights)))
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    return model


def random_weights():
    """By name, fp16: every term counts, attention is peaked, and no tensor is symmetric."""
    generator = torch.Generator().manual_seed(20221025)
    shapes = {"transformer.word_embeddings.weight": (VOCAB, HIDDEN), "transformer.final_layernorm.weight": (HIDDEN,), "transformer.final_layernorm.bias": (HIDDEN,)}
    for i in range(LAYERS):
        p = f"transformer.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[p + norm + ".weight"] = shapes[p + norm + ".bias"] = (HIDDEN,)
        for name, shape in {"attention.query_key_value": (3 * HIDDEN, HIDDEN), "attention.dense": (HIDDEN, HIDDEN), "mlp.dense_h_to_4h": (2 * FFN, HIDDEN),
                            "mlp.dense_4h_to_h": (HIDDEN, FFN)}.items():
            shapes[p + name + ".weight"], shapes[p + name + ".bias"] = shape, shape[:1]
    weights = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            x = x if "embeddings" in name else x * (1.3 / math.sqrt(shape[1]))
        else:
            x = 1 + 0.2 * x if "layernorm.weight" in name else 0.3 * x
        weights[name] = x.half()
    return weights


def expand(windows, length):
    seen = np.zeros((length, length), dtype=bool)
    for begin, end, prefix, context_begin, context_end in windows:
        for i in range(begin, end):
            seen[i, begin:max(i + 1, min(begin + prefix, end))] = True
            seen[i, context_begin:context_end] = True
    return seen


def make_cases(dataset):
    """Tokens, positions and masks as the original's evaluation code makes them."""
    rng = np.random.default_rng(130)
    words = lambda n: [int(t) for t in rng.integers(0, 128, n)]
    generation, choice = dataset.GenerationTaskDataset.build_generation_sample, dataset.MultiChoiceTaskDataset.build_multiple_choice_sample

    def generated(text, answer, use_task_mask, unidirectional=False, positions=None):
        s = generation(text, max_gen_length=len(answer), use_task_mask=use_task_mask, unidirectional=unidirectional)
        c, n = s["context_length"], len(answer)
        mask = np.tril(np.ones((c + n, c + n), dtype=bool))  # generated tokens copy the row of the last context token, and are causal
        mask[:c, :c] = s["attention_mask"]
        mask[c:, :c] = s["attention_mask"][c - 1]
        position = np.concatenate((s["position_id"], s["target_position_id"])) if positions is None else positions
        return {"tokens": list(s["token"]) + answer, "positions": position, "mask": mask, "windows": [(0, c + n, 0 if unidirectional else c - 1, 0, 0)]}

    def choices(text, options, use_task_mask, tile):
        s = choice(text, options, is_single_token=False, use_task_mask=use_task_mask)
        n, context = len(s["token"]), len(s["token"]) - sum(map(len, options))
        length = (n + tile - 1) // tile * tile  # the original's tile is 32
        tokens, positions, mask = dataset.pad_batch(s["token"], s["position_id"], s["attention_mask"], length)
        windows, begin = [(0, context, context, 0, 0)], context
        for option in options:
            windows.append((begin, begin + len(option), 0, 0, context))
            begin += len(option)
        return {"tokens": tokens, "positions": positions, "mask": mask > 0.5, "windows": windows, "options": options, "targets": s["choice_target_ids"]}

    text = words(9)
    blank = text[:4] + [SPECIAL["[MASK]"]] + text[4:]
    high = [0, 3, 255, 256, 700, 1021, 1022, 1537, 2021, 2022, 2045, 2046, 2047]  # rows of the table are gathered: any will do
    return {
        "mask": generated(blank, words(4), use_task_mask=False),
        "gmask": generated(words(8), words(4), use_task_mask=True),
        "causal": generated(words(9), [], use_task_mask=True, unidirectional=True),
        "far": generated(words(8), words(3), use_task_mask=True, positions=np.array(high)),
        "choice": choices(words(5) + [SPECIAL["[MASK]"]] + words(3), [words(3), words(1), words(5)], use_task_mask=False, tile=32),
        "choice_gmask": choices(words(4), [words(2), words(4)], use_task_mask=True, tile=1),
    }


def run(model, case):
    tokens, positions = (torch.tensor(np.array(case[field]), dtype=torch.int64)[None] for field in ("tokens", "positions"))
    masked = torch.tensor(~case["mask"])[None, None]
    with torch.no_grad():
        logits, *layers = model(tokens, positions, masked, output_hidden_states=True)
    kv = torch.stack([layer["mem_kv"][0] for layer in layers])
    hidden = torch.stack([layer["hidden_states"][:, 0] for layer in layers])
    return {"hidden": hidden, "keys": kv[..., :HIDDEN], "values": kv[..., HIDDEN:], "logits": logits[0]}


def scores(case, logits):
    """Spec 7.2 and 7.3: log_softmax in the type of the logits, gathered and added in it."""
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).to(logits.dtype)
    sums = [log_probabilities[torch.tensor(at), torch.tensor(option)].float().sum().to(logits.dtype) for option, at in zip(case["options"], case["targets"])]
    return torch.stack(sums).float()


def save(path, tensors, metadata):
    names = {torch.float32: "F32", torch.float16: "F16", torch.int32: "I32"}
    header, offset, parts = {"__metadata__": metadata}, 0, []
    for name, tensor in tensors.items():
        data = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--glm-130b", type=pathlib.Path, required=True, help="checkout of THUDM/GLM-130B, for its mask builders")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    GLM130B, dataset = import_original(options.glm_130b)
    weights, cases = random_weights(), make_cases(dataset)

    half = make_model(GLM130B, True, weights)
    single = make_model(GLM130B, False, {name: value.float() for name, value in weights.items()})
    with RoundLikeGpu():
        rotary = half.get_mixin("rotary-embedding").rotary_emb
        rotary(torch.empty(0, dtype=torch.half), seq_len=torch.tensor(CONTEXT))
    injected = single.get_mixin("rotary-embedding").rotary_emb
    injected.cos_cached, injected.sin_cached, injected.max_seq_len_cached = rotary.cos_cached.float(), rotary.sin_cached.float(), CONTEXT

    results = {"fp32": {}, "fp16": {}}
    for name, case in cases.items():
        assert (expand(case["windows"], len(case["tokens"])) == case["mask"]).all(), name
        for tensors in results.values():
            for field in ("tokens", "positions", "windows"):
                tensors[f"{name}.{field}"] = torch.tensor(np.array(case[field]), dtype=torch.int32)
            if "options" in case:
                tensors[f"{name}.choices"] = torch.tensor(sum(case["options"], []), dtype=torch.int32)
                tensors[f"{name}.ends"] = torch.tensor(np.cumsum([len(o) for o in case["options"]]), dtype=torch.int32)
        with RoundLikeGpu():
            out16 = run(half, case)
        to_half, torch.Tensor.half = torch.Tensor.half, lambda self: self  # the class rounds probabilities by .half()
        out32 = run(single, case)
        torch.Tensor.half = to_half
        for precision, out in (("fp16", out16), ("fp32", out32)):
            results[precision].update({f"{name}.{field}": value for field, value in out.items()})
            if "options" in case:
                results[precision][f"{name}.scores"] = scores(case, out["logits"])
        print(name, len(case["tokens"]), "tokens; fp16 from fp32:", float((out16["logits"].float() - out32["logits"]).abs().max() / out32["logits"].abs().max()))

    sizes = dict(layers=LAYERS, hidden=HIDDEN, heads=HEADS, ffn=FFN, vocab=VOCAB, context=CONTEXT)
    metadata = {"made_by": f"SwissArmyTransformer 0.2.12 GLM130B, PyTorch {torch.__version__}, on the CPU", "sizes": json.dumps(sizes)}
    save(options.out / "weights.safetensors", weights, metadata)
    for precision, tensors in results.items():
        save(options.out / f"{precision}.safetensors", tensors, metadata)


main()
