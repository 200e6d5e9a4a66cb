# A PyTorch block of the same shape as bench/cpu/block.cpp: deep norm, fused QKV, rotary positions, prefix mask, GeGLU.
# SPDX-License-Identifier: Apache-2.0
# Prints one JSON line a case: {"name": "block/fp32/768/rows:4/threads:2", "ms": ...}, medians of steps.
import ctypes
import json
import time

import torch

import glm_torch

LENGTH = 512


def set_threads(threads):
    torch.set_num_threads(threads)
    try:  # Debian's OpenBLAS has threads of its own, which do not ask PyTorch
        ctypes.CDLL("libblas.so.3").openblas_set_num_threads(threads)
    except (OSError, AttributeError):
        pass


def measure(hidden, ffn, rows, threads, dtype, steps):
    set_threads(threads)
    torch.manual_seed(1)
    block = glm_torch.Block(hidden, ffn, hidden // 64, 12).to(dtype)
    x = torch.randn(rows, LENGTH, hidden, dtype=dtype, requires_grad=True)
    cos, sin = glm_torch.rotary_tables(LENGTH, 64, "cpu", dtype)
    attend = glm_torch.plain_attention(glm_torch.visible(glm_torch.windows_of(LENGTH, 1, LENGTH // 2), LENGTH, "cpu"))
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        y = block(x, cos, sin, attend)
        y.backward(y.detach())
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[len(times[1:]) // 2]


for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
    for hidden, ffn in ((768, 2048), (1024, 2752)):
        for rows, threads in ((1, 1), (4, 1), (4, 2)):
            ms = 1e3 * measure(hidden, ffn, rows, threads, dtype, 5 if precision == "fp32" else 3)
            print(json.dumps({"name": f"block/{precision}/{hidden}/rows:{rows}/threads:{threads}", "ms": round(ms, 2), "torch": torch.__version__}), flush=True)
