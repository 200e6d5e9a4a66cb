#!/usr/bin/env python3
# Prints what tests/data expects of GLM-130B's training rows: the original's rules (spec 2.5, 2.6, 2.8) by Python's own random module alone.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import itertools
import math
import random
import struct

MASK, GMASK, SOP, EOP = 150000, 150001, 150004, 150005
LENGTHS = [math.exp(k * math.log(3) - math.lgamma(k + 1) - 3) for k in range(1, 40)]


def digest(values):
    return hashlib.sha256(struct.pack("<%di" % len(values), *values)).hexdigest()[:16]


def padded(values, length):
    return (values + [0] * length)[:length]


def span_length(rng):
    return rng.choices(range(1, 40), weights=LENGTHS)[0]


def blank_window(text, rng):
    """Tokens, labels, loss mask, positions and division of one [MASK] window."""
    if rng.random() < 0.02:
        text = text[: rng.randrange(32, len(text))]
    if rng.random() < 0.02:
        lengths = [span_length(rng)]
    else:
        lengths = []
        while sum(lengths) < int(0.15 * len(text)):
            lengths.append(span_length(rng))
    rng.shuffle(lengths)
    room = len(text) - sum(lengths) - len(lengths) + 1
    places = sorted(rng.randrange(room + 1) for _ in lengths)
    spans, shift = [], 0
    for place, length in zip(places, lengths):
        spans.append((shift + place, shift + place + length))
        shift += length + 1
    inside = {i for begin, end in spans for i in range(begin + 1, end)}
    position = [p - 1 for p in itertools.accumulate(0 if i in inside else 1 for i in range(len(text)))]
    rng.shuffle(spans)
    source, source_positions, last = [], [], 0
    for begin, end in sorted(spans):
        source += text[last:begin] + [MASK]
        source_positions += position[last : begin + 1]
        last = end
    source += text[last:]
    source_positions += position[last:]
    tokens, labels, positions = [], [], []
    for begin, end in spans:
        tokens += [SOP] + text[begin:end]
        labels += text[begin:end] + [EOP]
        positions += [position[begin]] * (end - begin + 1)
    parts = source + tokens, source + labels, [0] * len(source) + [1] * len(tokens), source_positions + positions
    return [padded(part, 512) for part in parts], len(source)


def text_row(text, row):
    rng = random.Random(random.Random(row).randint(0, 2**32 - 1))
    if rng.random() < 1 - 0.7:
        out, divisions = [[], [], [], []], []
        for w in range(4):
            parts, division = blank_window(text[500 * w : 500 * w + 500], rng)
            out = [a + b for a, b in zip(out, parts)]
            divisions.append(division)
        return out + [divisions]
    generated = rng.randint(400, 2000)
    d = 2000 - generated
    parts = text[:d] + [GMASK, SOP] + text[d:1999], text[:d] + [GMASK] + text[d:], [0] * (d + 1) + [1] * generated
    return [padded(part, 2048) for part in parts] + [list(range(2048)), [d + 1]]


def numpy_random(i, key=0):
    """RandomState of sixteen words: the same generator as random.Random of the number that they make."""
    seeds = random.Random(i)
    words = [key ^ seeds.randint(0, 2**32 - 1) for _ in range(16)]
    assert words[-1] != 0
    return random.Random(sum(word << (32 * j) for j, word in enumerate(words)))


def item(i, n, key=0):
    rng = numpy_random(i, key)
    while n > 1:
        drawn = rng.getrandbits(32) & ((1 << (n - 1).bit_length()) - 1)
        if drawn < n:
            return drawn
    return 0


def chance(i):
    return numpy_random(i).random()


def mixed(sample, text, rows, key=0, ratio=1.0, part=0.05):
    """What a sample is drawn as, of so many rows of text and of instructions; whether the ramp leaves it to the former set."""
    weight = part * text / (rows * (1 - part))
    drawn = item(sample, text + int(rows * weight), key)
    if drawn < text:
        return "text", drawn
    row = (drawn - text) % rows
    return "instructions", row, chance(row) < 1 - ratio


def pair(i):
    return [20100 + (i * 1000 + j) % 100000 for j in range(37 * i % 700 + 1)], [30100 + (i * 777 + j) % 100000 for j in range(91 * i % 600)]


def instruction_window(text, target):
    if len(text) + len(target) + 2 > 512:
        text = text[: max(128, 512 - len(target) - 2)]
    if len(text) + len(target) + 2 > 512:
        target = target[: 512 - len(text) - 2]
    parts = text + [MASK, SOP] + target, text + [MASK] + target + [EOP], [0] * (len(text) + 1) + [1] * (len(target) + 1)
    return [padded(part, 512) for part in parts], len(text) + 1


whole, source = hashlib.sha256(), [20100 + i for i in range(2000)]
for row in range(3000):
    for part in text_row(source, row):
        whole.update(struct.pack("<%di" % len(part), *part))
print("3000 rows of text:", whole.hexdigest())
print("chances:", chance(0), chance(12345))
for row in (0, 1, 7, 500):
    pairs = [item(4 * row + w, 53) for w in range(4)]
    windows = [instruction_window(*pair(i)) for i in pairs]
    tokens, labels, scored = (sum((parts[k] for parts, _ in windows), []) for k in range(3))
    print("instructions", row, pairs, [prefix for _, prefix in windows], sum(scored), digest(tokens), digest(labels))


def ramp(sample):
    return min(1, max(0, (sample - 500) / 1000))


reseeded = random.Random(99).randint(0, 2**32 - 1)
for name, pairs, key, ratio in (("53 pairs", 53, 0, None), ("2 pairs", 2, 0, None), ("reseeded", 53, reseeded, None), ("a ramp", 53, 0, ramp), ("a ramp from 17 pairs", 17, 0, ramp)):
    drawn = [mixed(s, 9490, pairs * 200 // 4, key, ratio(s) if ratio else 1.0) for s in range(2000)]
    mine = [(s, d[1], d[2]) for s, d in enumerate(drawn) if d[0] == "instructions"]
    print(name, "of 2000:", len(mine), "new:", sum(not m[2] for m in mine), "first:", [d[1] for d in drawn[:4]], mine[:6], "from 900:", [m for m in mine if m[0] > 900][:8])
