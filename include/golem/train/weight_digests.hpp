// Digests of weights: of what ranks hold alike, so that a rank that went astray is found; and of the model, the same on every layout.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "golem/comm/world.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/number.hpp"
#include "golem/core/slice.hpp"
#include "golem/train/flat_state.hpp"

namespace golem {

/// A number that differs, but for one chance in 2^64, where the bytes do.
inline std::uint64_t digest_of(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  std::uint64_t digest = 0x9E3779B97F4A7C15u ^ bytes;
  for (std::size_t i = 0; i < bytes; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, next + i, bytes - i < 8 ? bytes - i : 8);
    digest = (digest ^ word) * 0xFF51AFD7ED558CCDu;
    digest ^= digest >> 32;
  }
  return digest;
}

/// What each rank of a group has in `own`, in the order of ranks.
template <Device D>
std::vector<std::int64_t> gathered(D& device, Group& group, const std::vector<std::int64_t>& own) {
  const std::size_t count = own.size(), ranks = static_cast<std::size_t>(group.size());
  const Buffer<std::int64_t, D> mine(device, static_cast<std::int64_t>(count), "batch"), all(device, static_cast<std::int64_t>(count * ranks), "batch");
  std::vector<std::int64_t> everyone(count * ranks);
  device.copy_in(mine.data(), own.data(), count * sizeof(std::int64_t));
  group.all_gather(all.view(), View<const std::int64_t, 1>(mine.view()));
  device.copy_out(everyone.data(), all.data(), everyone.size() * sizeof(std::int64_t));
  return everyone;
}

/// Throws Error, on every rank of the group where it is so, if a tensor that two ranks should hold alike differs after step
/// `step`: all weights over the data ranks, replicated ones over the tensor ranks, the embedding over first and last stage. Master
/// weights and moments count with the weights; over the data ranks, unless these own parts of them.
template <TrainingPrecision P, Device D>
void compare_replicas(D& device, const FlatState<P, D>& state, World& world, std::int64_t step) {
  using T = typename P::compute;
  using A = typename P::master;
  const std::vector<FlatTensor>& tensors = state.layout().tensors();
  const std::size_t count = tensors.size();
  std::vector<std::int64_t> weights, everything;  // digests
  std::vector<std::byte> host;
  for (const FlatTensor& tensor : tensors) {
    const auto digest = [&](const void* data, std::int64_t elements, std::size_t element) {
      host.resize(static_cast<std::size_t>(elements) * element);
      device.copy_out(host.data(), data, host.size());
      return digest_of(host.data(), host.size());
    };
    const std::uint64_t whole = digest(state.weights().data + tensor.offset, tensor.size, sizeof(T));
    const auto [moment1, moment2] = state.owned_moments(tensor);
    std::uint64_t all[]{whole, 0, 0, 0};
    int next = 1;
    for (const View<A, 1>& owned : {moment1, moment2, has_master_copy<P> ? state.owned_master(tensor) : View<A, 1>{}})
      if (owned.size()) all[next++] = digest(owned.data, owned.size(), sizeof(A));
    weights.push_back(static_cast<std::int64_t>(whole)), everything.push_back(static_cast<std::int64_t>(digest_of(all, sizeof all)));
  }

  const auto compare = [&](Group& group, const char* axis, const std::vector<std::int64_t>& digests, auto alike) {
    if (group.size() == 1) return;
    const auto ranks = static_cast<std::size_t>(group.size());
    const std::vector<std::int64_t> everyone = gathered(device, group, digests);
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t rank = 1; rank < ranks; ++rank)
        require(!alike(tensors[i]) || everyone[rank * count + i] == everyone[i], "after step ", step, ", '", full_name(tensors[i].parameter, tensors[i].layer), "' of ", axis, " rank ",
                rank, " differs from that of ", axis, " rank 0, of stage ", world.stage(), ": hardware, or a program that changes the weights of one rank; go on from the last checkpoint");
  };
  compare(world.data(), "data", state.layout().shards() == 1 ? everything : weights, [](const FlatTensor&) { return true; });
  compare(world.tensor(), "tensor", everything, [](const FlatTensor& tensor) { return tensor.parameter.shard == Shard::replicated; });
  if (world.tied().size() == 1) return;

  std::int64_t embedding = everything.front();  // on the first stage; on the last it is in whatever chunk has the head
  for (std::size_t i = 0; i < count; ++i)
    if (tensors[i].number == 0) embedding = everything[i];
  const std::vector<std::int64_t> pair = gathered(device, world.tied(), {embedding});
  require(pair[0] == pair[1], "after step ", step, ", '", embedding_parameter({}).name, "' of the last stage differs from that of the first: go on from the last checkpoint");
}

/// A number for the whole model's weights in the master type: the same for the same numbers, however they lie on ranks. All
/// ranks call it.
template <TrainingPrecision P, Device D>
std::uint64_t digest_of(D& device, const FlatState<P, D>& state, World& world) {
  using A = typename P::master;
  const Place& place = state.place();
  std::uint64_t sum = 0;  // of a number for each element: in any order
  std::vector<A> host;
  for (const FlatTensor& tensor : state.layout().tensors()) {
    const Parameter& p = tensor.parameter;
    if (!state.speaks_for(tensor)) continue;
    const View<const A, 1> owned = state.owned_master(tensor);
    const FlatLayout::Piece piece = state.layout().piece(tensor, place.data_rank);
    host.resize(static_cast<std::size_t>(owned.size()));
    device.copy_out(host.data(), owned.data, host.size() * sizeof(A));
    const std::int64_t columns = p.columns ? p.columns : 1;
    for (const SliceBlocks::Block& block : SliceBlocks(slice_of(p, place.tp, place.tensor_rank, piece.begin, piece.count)))
      for (std::int64_t r = 0; r < block.rows.count; ++r)
        for (std::int64_t c = 0; c < block.columns.count; ++c) {
          const std::int64_t element[3]{tensor.number, (block.rows.begin + r) * columns + block.columns.begin + c,
                                        bits_as<std::int64_t>(static_cast<double>(host[static_cast<std::size_t>(block.offset + r * block.stride + c)]))};
          sum += digest_of(element, sizeof element);
        }
  }
  if (world.all().size() == 1) return sum;
  std::uint64_t total = 0;
  for (const std::int64_t part : gathered(device, world.all(), {static_cast<std::int64_t>(sum)})) total += static_cast<std::uint64_t>(part);
  return total;
}

}  // namespace golem
