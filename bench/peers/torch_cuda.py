# PyTorch on the GPU beside golem: attention by SDPA and FlexAttention, GLM's block and training step through torch.compile.
# SPDX-License-Identifier: Apache-2.0
# torch_cuda.py FOLDER [--device cpu]: reads the shapes from FOLDER's attention.json, block.json and train.json, which bench/cuda has
# written, runs the same shapes, prints rows of a Markdown table, and writes FOLDER/peers.json. Times are medians, by events of the stream.
import argparse
import contextlib
import json
import pathlib
import re
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    sys.exit(f"The peers need PyTorch, and this Python has none ({error}).")

import glm_torch

try:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
except ImportError:
    flex_attention = None

ROTATED_BYTES = 1 << 29  # as bench/cuda/shapes.hpp
SAMPLES, LONG_SAMPLES, SAMPLE_MS = 21, 9, 1.0


class Unavailable(Exception):
    pass


def made_on(device):
    """Where new modules lie; PyTorch 1 can make them on the CPU only."""
    return torch.device(device) if device == "cuda" else contextlib.nullcontext()


class Clock:
    """Times work in turn with a large product, whose rate is the limit; on a CPU, where only the script's sense is tested, by the wall."""

    def __init__(self, device):
        self.device, self.on_gpu = device, device == "cuda"
        self.side = 8192 if self.on_gpu else 64
        self.a, self.b = (torch.rand(self.side, self.side, device=device, dtype=torch.bfloat16) * 2 - 1 for _ in range(2))
        self.limit()

    def limit(self):
        self.a @ self.b

    def mark(self):
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self, start, end):
        if not self.on_gpu:
            return 1e3 * (end - start)
        end.synchronize()
        return start.elapsed_time(end)

    def measure(self, calls, flops, samples=SAMPLES):
        """Median milliseconds of one call, TFLOP/s, and the median share of the product's rate. `calls` take turns, each with tensors of its own."""
        samples = samples if self.on_gpu else 1
        for call in calls:  # compiles
            call()
        start = self.mark()
        calls[0]()
        once = self.ms(start, self.mark())
        count = max(1, min(200, int(SAMPLE_MS / max(once, 1e-3)))) if self.on_gpu else 1
        times, shares, turn = [], [], 0
        for _ in range(samples):
            before = self.mark()
            self.limit()
            start = self.mark()
            for _ in range(count):
                calls[turn % len(calls)]()
                turn += 1
            end = self.mark()
            times.append(self.ms(start, end) / count)
            shares.append(flops / times[-1] / (2.0 * self.side**3 / self.ms(before, start)))
        middle = lambda values: sorted(values)[len(values) // 2]
        return {"ms": middle(times), "TFLOP/s": flops / middle(times) / 1e9, "of_limit": middle(shares)}


def compiled(function, device):
    if device != "cuda":
        return function
    if not hasattr(torch, "compile"):
        raise Unavailable("torch.compile is of PyTorch 2.0 and later")
    return torch.compile(function)


def sdpa(windows, length, device):
    if not hasattr(F, "scaled_dot_product_attention"):
        raise Unavailable("scaled_dot_product_attention is of PyTorch 2.0 and later")
    if len(windows) == 1 and windows[0][2] == 0:
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if len(windows) == 1 and windows[0][2] == length:
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v)
    mask = glm_torch.visible(windows, length, device)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def flex_mask(windows, length, device):
    if flex_attention is None:
        raise Unavailable("FlexAttention is of PyTorch 2.5 and later")
    begin, reach = torch.zeros(length, dtype=torch.int32, device=device), torch.zeros(length, dtype=torch.int32, device=device)
    for first, last, prefix in windows:
        begin[first:last], reach[first:last] = first, first + prefix
    sees = lambda batch, head, i, j: (j >= begin[i]) & ((j <= i) | (j < reach[i]))
    return create_block_mask(sees, None, None, length, length, device=device)


def flex(windows, length, device):
    mask, call = flex_mask(windows, length, device), compiled(flex_attention, device) if flex_attention else None
    return lambda q, k, v: call(q, k, v, block_mask=mask)


def attention_inside(windows, length, device):
    """What a block attends by: FlexAttention, compiled with the rest of it."""
    if device != "cuda":
        return glm_torch.plain_attention(glm_torch.visible(windows, length, device))
    mask = flex_mask(windows, length, device)
    return lambda q, k, v: flex_attention(q, k, v, block_mask=mask)


def attention(row, device, clock, make):
    length, dim, count, prefix = (row["args"][key] for key in ("T", "D", "windows", "prefix"))
    heads, windows = int(row["heads"]), glm_torch.windows_of(length, count, prefix)
    backward, dtype = "backward" in row["case"], torch.float32 if "<float," in row["case"] else torch.bfloat16
    flops = (10 if backward else 4) * glm_torch.visible_pairs(windows) * heads * dim
    attend = make(windows, length, device)
    calls, held = [], 0
    while not calls or held < ROTATED_BYTES and device == "cuda":
        q, k, v, dout = (torch.randn(1, heads, length, dim, device=device, dtype=dtype, requires_grad=i < 3 and backward) for i in range(4))
        held += 8 * q.numel() * q.element_size() if backward else 4 * q.numel() * q.element_size()
        if backward:
            out = attend(q, k, v)
            calls.append(lambda out=out, inputs=(q, k, v), dout=dout: torch.autograd.grad(out, inputs, dout, retain_graph=True))
        else:
            calls.append(lambda inputs=(q, k, v): attend(*inputs))
    return clock.measure(calls, flops)


def block(row, device, clock):
    hidden, ffn, heads, layers, length = (int(row[key]) for key in ("hidden", "ffn", "heads", "layers", "context"))
    rows, both = row["args"]["rows"], "both" in row["case"]
    with made_on(device):
        module = glm_torch.Block(hidden, ffn, heads, layers).to(torch.bfloat16)
    attend = attention_inside(glm_torch.windows_of(length, 1, length // 2), length, device)
    cos, sin = glm_torch.rotary_tables(length, hidden // heads, device, torch.bfloat16)
    x = torch.randn(rows, length, hidden, device=device, dtype=torch.bfloat16, requires_grad=both)
    dy = torch.randn_like(x)
    run = compiled(module, device)

    def forward():
        with torch.no_grad():
            run(x, cos, sin, attend)

    def forward_backward():
        module.zero_grad(set_to_none=True)
        x.grad = None
        run(x, cos, sin, attend).backward(dy)

    return clock.measure([forward_backward if both else forward], row["flops"])


def step(row, device, clock):
    """fp32 master weights, bf16 products by autocast, fused AdamW, clipping: what golem's bf16_mixed does. Where memory runs out, a smaller micro-batch."""
    hidden, ffn, heads, layers, vocab, length = (int(row[key]) for key in ("hidden", "ffn", "heads", "layers", "vocab", "context"))
    rows, micro_batch = row["args"]["rows"], row["args"]["micro_batch"]
    with made_on(device):
        model = glm_torch.Glm(layers, hidden, ffn, heads, vocab)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, **({"fused": True} if device == "cuda" else {}))
    attend = attention_inside(glm_torch.windows_of(length, 1, length // 2), length, device)
    cos, sin = glm_torch.rotary_tables(length, hidden // heads, device, torch.bfloat16)
    tokens, targets = (torch.randint(0, vocab, (rows, length), device=device) for _ in range(2))
    run = compiled(model, device)

    def train(micro_batch):
        optimizer.zero_grad(set_to_none=True)
        for first in range(0, rows, micro_batch):
            part = slice(first, first + micro_batch)
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = run(tokens[part], targets[part], cos, sin, attend)
            (loss * micro_batch / rows).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    while True:
        try:
            figures = clock.measure([lambda: train(micro_batch)], row["flops"], LONG_SAMPLES)
            return {**figures, "note": f"micro-batch of {micro_batch}"}
        except torch.cuda.OutOfMemoryError:
            if micro_batch == 1:
                raise
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        micro_batch //= 2


def rows_of(path):
    """golem's figures: the case without the library's suffixes, its arguments, and its counters."""
    if not path.exists():
        return []
    rows = []
    for run in json.loads(path.read_text())["benchmarks"]:
        case = re.sub(r"/iterations:.*$", "", run["name"])
        if "ms" in run:
            rows.append({**run, "case": case, "args": {key: int(value) for key, value in re.findall(r"/(\w+):(\d+)", case)}})
    return rows


def main():
    parser = argparse.ArgumentParser(description="PyTorch beside golem, at the shapes that golem has measured")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to test this script at small shapes")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("The peers need a GPU that PyTorch sees, and there is none.")
    torch.manual_seed(1)
    clock = Clock(options.device)
    peers = {
        "attention": {"SDPA": lambda row: attention(row, options.device, clock, sdpa), "FlexAttention": lambda row: attention(row, options.device, clock, flex)},
        "block": {"torch.compile": lambda row: block(row, options.device, clock)},
        "train": {"torch.compile": lambda row: step(row, options.device, clock)},
    }
    if options.device == "cpu":  # where there may be neither
        peers["attention"]["plain"] = lambda row: attention(row, "cpu", clock, lambda *mask: glm_torch.plain_attention(glm_torch.visible(*mask)))
    print("| case | golem, ms | peer | its ms | its TFLOP/s | of its limit | golem is faster by | |\n|---|---|---|---|---|---|---|---|")
    figures, compared, known = [], 0, {}
    for program, named in peers.items():
        for row in rows_of(options.folder / f"{program}.json"):
            if "TFLOP/s" not in row or (program == "attention" and "T" not in row["args"]):  # a cache's: without a peer here
                continue
            for name, run in named.items():
                figure, note = {}, ""
                if hasattr(torch, "_dynamo"):
                    torch._dynamo.reset()  # or the ninth shape would run uncompiled
                same = (program, name, re.sub(r", (cuda::)?(AttentionPath|ProductChoice)::\w+", "", row["case"]))  # to the peer
                try:
                    figure = known[same] = known.get(same) or run(row)
                    note, compared = figure.get("note", ""), compared + 1
                except Unavailable as reason:
                    note = f"left out: {reason}; this is {torch.__version__}"
                except RuntimeError as error:  # out of memory, or a shape that a peer cannot do
                    note = "failed: " + str(error).split("\n")[0]
                figures.append({"case": row["case"], "peer": name, "golem_ms": row["ms"], "torch": torch.__version__, **figure, "note": note})
                shown = [f"{figure[key]:.3f}" if key in figure else "" for key in ("ms", "TFLOP/s", "of_limit")]
                ratio = f"{figure['ms'] / row['ms']:.2f}" if figure else ""
                print(f"| `{row['case']}` | {row['ms']:.3f} | {name} | {' | '.join(shown)} | {ratio} | {note} |", flush=True)
            if options.device == "cuda":
                torch.cuda.empty_cache()
    (options.folder / "peers.json").write_text(json.dumps(figures, indent=1) + "\n")
    if not compared:
        sys.exit("No peer could be measured.")


main()
