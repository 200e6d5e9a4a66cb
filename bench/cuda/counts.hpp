// What work there is in a benchmark: pairs that attention's mask leaves, flops of a block and of a training step; and the chip's datasheet.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "golem/config/flops.hpp"
#include "golem/config/hardware.hpp"
#include "golem/core/batch.hpp"

namespace bench {

/// `count` windows that share a row of `length` tokens evenly; `prefix` tokens of each are seen by all of it.
inline std::vector<golem::Window> windows_of(std::int64_t length, int count, std::int64_t prefix) {
  std::vector<golem::Window> windows;
  for (int w = 0; w < count; ++w) {
    const std::int64_t begin = length * w / count, end = length * (w + 1) / count;
    windows.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end), static_cast<std::int32_t>(prefix < end - begin ? prefix : end - begin)});
  }
  return windows;
}

/// Pairs of tokens of which one sees the other: token i of a window of n sees max(i + 1, prefix) of it.
inline double visible_pairs(const std::vector<golem::Window>& windows) {
  double pairs = 0;
  for (const golem::Window& w : windows) {
    const double n = w.end - w.begin, prefix = w.prefix, context = w.context_end - w.context_begin;
    pairs += prefix * prefix + (n * (n + 1) - prefix * (prefix + 1)) / 2 + n * context;
  }
  return pairs;
}

// A multiply and an add count as two. Attention: two products of pairs x dims forward, five backward, since scores are made again.
inline constexpr double attention_forward_flops = 4, attention_backward_flops = 10;  // of one pair, for each element of a head

enum class Pass : std::uint8_t { forward, both };  // both: forward and backward

/// Of one block, for a batch of `tokens` whose masks leave `pairs`.
inline double block_flops(const golem::ModelConfig& c, Pass pass, double tokens, double pairs) {
  const double linear = tokens * golem::linear_flops(c), attention = pairs * c.hidden;
  return pass == Pass::forward ? linear + attention_forward_flops * attention : 3 * linear + (attention_forward_flops + attention_backward_flops) * attention;
}

/// Of a training step, as MFU counts: backward is twice the forward, and what is made again is not counted. `scored` tokens have logits.
inline double step_flops(const golem::ModelConfig& c, double tokens, double scored, double pairs) {
  return 3 * (c.layers * block_flops(c, Pass::forward, tokens, pairs) + scored * golem::head_flops(c));
}

/// The machine that a device says it is, by a word of its name ("NVIDIA H100 80GB HBM3"); null where there is no description of it.
inline const golem::Hardware* datasheet_of(std::string_view device_name) {
  for (const golem::Hardware* hardware : golem::all_hardware) {
    std::string_view name = hardware->name;
    name = name.substr(0, name.find('-'));
    const std::size_t at = device_name.find(name);
    if (at == std::string_view::npos) continue;
    const std::size_t end = at + name.size();
    if ((at == 0 || device_name[at - 1] == ' ') && (end == device_name.size() || device_name[end] == ' ' || device_name[end] == '-')) return hardware;
  }
  return nullptr;
}

}  // namespace bench
