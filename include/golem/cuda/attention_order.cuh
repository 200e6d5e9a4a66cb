// The order in which blocks of attention run: long ones first, of as many heads at a time as a GPU's cache has room for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/annotate.hpp"
#include "golem/core/math.hpp"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/launch.hpp"

namespace golem::cuda {

/// GPUs start blocks in the order of their indices, x fastest, each where another has ended. Head after head, the last to start would be any, and the GPU
/// idle while a long one ends: a sixth of the time of GLM-130B's row of 2048 tokens under a causal mask, where 264 blocks run at once. So the blocks of
/// several heads take turns, the first of each, then the second: head x of section z of a row's heads, block y. What passes by the blocks of a head is read
/// by all of them, so that there are no more heads in a section than the cache holds that of.
struct BlockOrder {
  struct Place {
    int block, head, row;
  };

  int blocks, heads;            // of a head, the long ones first; of a row
  int sections, section_heads;  // of a row; heads of one
  std::uint32_t per_section;    // (2^32 - 1) / sections: row z / sections is found by a product, which kernels can make again where they use it, for registers are few

  BlockOrder(std::int64_t blocks, int heads, std::int64_t most_heads)
      : blocks(static_cast<int>(blocks)), heads(heads), sections(static_cast<int>(ceil_div(heads, most_heads))), section_heads(static_cast<int>(ceil_div(heads, sections))),
        per_section(0xffffffff / static_cast<std::uint32_t>(sections)) {}

  /// Where there is no such head, behind the last of a row's, the block has nothing to do.
  GOLEM_HD Place place(unsigned x, unsigned y, unsigned z) const {
    const int row = static_cast<int>((z + 1) * std::uint64_t{per_section} >> 32);  // exact for z and sections of 16 bits
    return {static_cast<int>(y), (static_cast<int>(z) - row * sections) * section_heads + static_cast<int>(x), row};
  }
};

/// The order of `blocks` blocks of each of `heads` heads, which two tensors (T, D) of each of `streamed_heads` heads pass by. A third of the cache is for them,
/// and the rest for what else is read and written, and for the sections before and behind.
template <class T>
BlockOrder order_blocks(const Device& device, const AttentionShape<T>& shape, std::int64_t blocks, int heads, int streamed_heads) {
  const std::int64_t bytes = 2 * std::int64_t{shape.length} * shape.dims * static_cast<std::int64_t>(sizeof(T)) * streamed_heads;  // by all heads of a row
  return {blocks, heads, larger<std::int64_t>(static_cast<std::int64_t>(device.cache_bytes()) / 3 * heads / larger<std::int64_t>(bytes, 1), 1)};
}

/// Of kernels by matrix instructions, which their text must be compiled for.
inline Launch in_order(std::string_view name, const BlockOrder& order, int rows, int threads, std::size_t shared_bytes) {
  return {.name = name, .early = true, .blocks = order.section_heads, .threads = threads, .shared_bytes = shared_bytes, .blocks_y = order.blocks, .blocks_z = std::int64_t{rows} * order.sections, .architecture = 80};
}

}  // namespace golem::cuda
