#!/usr/bin/env python3
"""Makes the released layout of a tiny GLM with torch.save itself: two shards, with what real checkpoints have beside tensors.

SPDX-License-Identifier: Apache-2.0
Made with PyTorch 1.13.0 and Python 3.11: python3 make.py. The test that reads the files is tests/io/sat_checkpoint.cpp.
"""
import argparse
import collections
import os
import random

import numpy
import torch

LAYERS, HIDDEN, HEADS, FFN, VOCAB, TP = 2, 16, 2, 24, 32, 2


def whole(number, *shape):
    """Element i of tensor `number` is ((31 i + 7 number) mod 2001 - 1000) / 1024, which fp16 holds exactly."""
    count = int(numpy.prod(shape))
    values = (31 * torch.arange(count) + 7 * number) % 2001 - 1000
    return (values.float() / 1024).half().reshape(*shape)


def parameters():
    yield "transformer.word_embeddings.weight", (VOCAB, HIDDEN), "rows"
    for i in range(LAYERS):
        layer = f"transformer.layers.{i}."
        yield layer + "input_layernorm.weight", (HIDDEN,), None
        yield layer + "input_layernorm.bias", (HIDDEN,), None
        yield layer + "attention.query_key_value.weight", (3 * HIDDEN, HIDDEN), "rows"
        yield layer + "attention.query_key_value.bias", (3 * HIDDEN,), "rows"
        yield layer + "attention.dense.weight", (HIDDEN, HIDDEN), "columns"
        yield layer + "attention.dense.bias", (HIDDEN,), None
        yield layer + "post_attention_layernorm.weight", (HIDDEN,), None
        yield layer + "post_attention_layernorm.bias", (HIDDEN,), None
        yield layer + "mlp.dense_h_to_4h.weight", (2 * FFN, HIDDEN), "glu"
        yield layer + "mlp.dense_h_to_4h.bias", (2 * FFN,), "glu"
        yield layer + "mlp.dense_4h_to_h.weight", (HIDDEN, FFN), "columns"
        yield layer + "mlp.dense_4h_to_h.bias", (HIDDEN,), None
    yield "transformer.final_layernorm.weight", (HIDDEN,), None
    yield "transformer.final_layernorm.bias", (HIDDEN,), None


def part(tensor, rule, rank):
    """Not cloned: columns and rows stay views into the storage of the whole tensor, with offsets and strides."""
    if rule == "rows":
        return tensor.chunk(TP, dim=0)[rank]
    if rule == "columns":
        return tensor.chunk(TP, dim=1)[rank]
    if rule == "glu":
        chunks = tensor.chunk(2 * TP, dim=0)
        return torch.cat([chunks[rank], chunks[TP + rank]], dim=0)
    return tensor


def main():
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    os.makedirs("49300", exist_ok=True)
    for rank in range(TP):
        module = collections.OrderedDict()
        module._metadata = collections.OrderedDict([("", {"version": 1})])  # as Module.state_dict() leaves it
        for number, (name, shape, rule) in enumerate(parameters()):
            module[name] = part(whole(number, *shape), rule, rank)
        for i in range(LAYERS):
            module[f"transformer.layers.{i}.attention.rotary_emb.inv_freq"] = torch.ones(4, dtype=torch.half)
        rest = {
            "iteration": 49300,
            "args": argparse.Namespace(num_layers=LAYERS, lr=1e-5, fp16=True, name="glm", split=None, betas=(0.9, 0.95), big=2**80, dtype=torch.float16),
            "random_rng_state": random.getstate(),
            "np_rng_state": numpy.random.get_state()[2:],
            "torch_rng_state": torch.get_rng_state()[:8].clone(),
            "device": torch.device("cpu"),
            "sizes": torch.Size([2, 3]),
        }
        torch.save({"module": module, **rest}, f"49300/mp_rank_{rank:02d}_model_states.pt")
    with open("latest", "w") as file:
        file.write("49300")
    torch.save({"module": {"weight": torch.ones(2), "bad": os.system}}, "names_os_system.pt")


if __name__ == "__main__":
    main()
