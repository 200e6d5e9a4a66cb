# GLM's block and model in PyTorch, as one would write them there: deep norm, fused QKV, rotary positions, GeGLU, a tied head.
# SPDX-License-Identifier: Apache-2.0
import math

import torch
import torch.nn.functional as F


def windows_of(length, count, prefix):
    """`count` windows that share a row evenly, as (begin, end, prefix): the same cut as bench/cuda/counts.hpp makes."""
    cuts = [length * w // count for w in range(count + 1)]
    return [(begin, end, min(prefix, end - begin)) for begin, end in zip(cuts, cuts[1:])]


def visible(windows, length, device):
    """(T, T): whether token i sees token j."""
    mask = torch.zeros(length, length, dtype=torch.bool, device=device)
    for begin, end, prefix in windows:
        mask[begin:end, begin:end] = torch.ones(end - begin, end - begin, dtype=torch.bool, device=device).tril()
        mask[begin:end, begin : begin + prefix] = True
    return mask


def visible_pairs(windows):
    return sum(p * p + ((e - b) * (e - b + 1) - p * (p + 1)) // 2 for b, e, p in windows)


def plain_attention(mask):
    """Scores in memory: what there is without fused kernels."""

    def attend(q, k, v):
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v

    return attend


def rotary_tables(length, dim, device, dtype):
    angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    return [torch.cat((table,) * 2, -1).to(device, dtype) for table in (angle.cos(), angle.sin())]


class Block(torch.nn.Module):
    """x (B, T, C), un-normalised, to the next block's. `attend` takes q, k, v (B, H, T, D)."""

    def __init__(self, hidden, ffn, heads, layers):
        super().__init__()
        self.heads, self.alpha = heads, math.sqrt(2.0 * layers)
        self.norm1, self.norm2 = torch.nn.LayerNorm(hidden), torch.nn.LayerNorm(hidden)
        self.qkv, self.dense = torch.nn.Linear(hidden, 3 * hidden), torch.nn.Linear(hidden, hidden)
        self.up, self.down = torch.nn.Linear(hidden, 2 * ffn), torch.nn.Linear(ffn, hidden)

    def forward(self, x, cos, sin, attend):
        rows, length, hidden = x.shape
        a = self.norm1(x.to(self.norm1.weight.dtype)).to(x.dtype)  # in fp32 where the weights are
        q, k, v = self.qkv(a).view(rows, length, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        turn = lambda t: (t * cos + torch.cat((-t[..., t.shape[-1] // 2 :], t[..., : t.shape[-1] // 2]), -1) * sin).to(v.dtype)
        attended = attend(turn(q), turn(k), v)
        h = self.alpha * a + self.dense(attended.transpose(1, 2).reshape(rows, length, hidden))
        m = self.norm2(h.to(self.norm2.weight.dtype)).to(x.dtype)
        linear, gate = self.up(m).chunk(2, -1)
        return self.alpha * m + self.down(linear * F.gelu(gate))


class Glm(torch.nn.Module):
    """Tokens and targets (B, T) to the mean loss."""

    def __init__(self, layers, hidden, ffn, heads, vocab):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab, hidden)
        torch.nn.init.normal_(self.embedding.weight, std=0.0052)
        self.blocks = torch.nn.ModuleList(Block(hidden, ffn, heads, layers) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(hidden)

    def forward(self, tokens, targets, cos, sin, attend):
        x = self.embedding(tokens).to(torch.bfloat16)  # the residual has 16 bits, as golem's
        for block in self.blocks:
            x = block(x, cos, sin, attend)
        logits = F.linear(self.norm(x.to(self.norm.weight.dtype)), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
