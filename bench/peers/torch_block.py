# A PyTorch block of the same shape as bench/cpu/block.cpp: deep norm, fused QKV, rotary positions, prefix mask, GeGLU.
# SPDX-License-Identifier: Apache-2.0
# Prints one JSON line a case: {"name": "block/fp32/768/rows:4/threads:2", "ms": ...}, medians of steps.
import json
import math
import sys
import time

import torch
import torch.nn.functional as F

LENGTH = 512


class Block(torch.nn.Module):
    def __init__(self, hidden, ffn, heads):
        super().__init__()
        self.heads, self.alpha = heads, math.sqrt(24.0)
        self.norm1, self.norm2 = torch.nn.LayerNorm(hidden), torch.nn.LayerNorm(hidden)
        self.qkv, self.dense = torch.nn.Linear(hidden, 3 * hidden), torch.nn.Linear(hidden, hidden)
        self.up, self.down = torch.nn.Linear(hidden, 2 * ffn), torch.nn.Linear(ffn, hidden)

    def forward(self, x, cos, sin, masked):
        rows, length, hidden = x.shape
        a = self.norm1(x)
        q, k, v = self.qkv(a).view(rows, length, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        turn = lambda t: t * cos + torch.cat((-t[..., t.shape[-1] // 2 :], t[..., : t.shape[-1] // 2]), -1) * sin
        scores = turn(q) @ turn(k).transpose(-1, -2) / math.sqrt(hidden // self.heads)
        p = scores.masked_fill(masked, float("-inf")).softmax(-1)
        h = self.alpha * a + self.dense((p @ v).transpose(1, 2).reshape(rows, length, hidden))
        m = self.norm2(h)
        linear, gate = self.up(m).chunk(2, -1)
        return self.alpha * m + self.down(linear * F.gelu(gate))


def measure(hidden, ffn, rows, threads, dtype, steps):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    block = Block(hidden, ffn, hidden // 64).to(dtype)
    x = torch.randn(rows, LENGTH, hidden, dtype=dtype, requires_grad=True)
    angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, 64, 2) / 64.0)
    cos, sin = torch.cat((angle.cos(),) * 2, -1).to(dtype), torch.cat((angle.sin(),) * 2, -1).to(dtype)
    i, j = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)[None, :]
    masked = ~((j <= i) | (j < LENGTH // 2))
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        y = block(x, cos, sin, masked)
        y.backward(y.detach())
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[len(times[1:]) // 2]


for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
    for hidden, ffn in ((768, 2048), (1024, 2752)):
        for rows, threads in ((1, 1), (4, 1), (4, 2)):
            ms = 1e3 * measure(hidden, ffn, rows, threads, dtype, 5 if precision == "fp32" else 3)
            print(json.dumps({"name": f"block/{precision}/{hidden}/rows:{rows}/threads:{threads}", "ms": round(ms, 2), "torch": torch.__version__}), flush=True)
sys.exit(0)
