// What ranks that talk over TCP send to each other: frames of a fixed head and some bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/comm/backend.hpp"

namespace golem::tcp {

/// What a frame says. To the hub: hello, transfer, split, doing, failed, parted, finished; from it: result, ended; and speaker, to
/// the rank that is to tell if the hub is lost.
enum class Word : std::uint8_t { hello, transfer, split, doing, failed, parted, finished, result, ended, speaker };

/// The head of a frame, as it lies in memory: all ranks are machines of one kind.
struct Frame {
  static constexpr std::uint32_t mark = 0x676f6c65;
  std::uint32_t magic = mark;
  Word word = Word::hello;
  Transfer::Kind kind = Transfer::Kind::barrier;
  DType type = DType::u8;
  Reduce how = Reduce::sum;
  std::int32_t group = 0, peer = 0;     // peer: also the rank in hello, and the key in split
  std::int64_t count = 0, call = 0;     // call: the number that the result carries; count: also the ranks in hello, and the colour in split
  std::int64_t bytes = 0;               // that follow
};

inline Frame frame_of(const Transfer& t, std::int32_t group, std::int64_t call, std::int64_t bytes) {
  return {.word = Word::transfer, .kind = t.kind, .type = t.type, .how = t.how, .group = group, .peer = t.peer, .count = t.count, .call = call, .bytes = bytes};
}
/// Bytes that member `member` of `members` sends along with a call.
inline std::int64_t bytes_sent(const Transfer& t, int member, int members) {
  using Kind = Transfer::Kind;
  const std::int64_t bytes = t.count * size_of(t.type);
  if (t.kind == Kind::receive || t.kind == Kind::barrier || (t.kind == Kind::broadcast && t.peer != member)) return 0;
  return t.kind == Kind::reduce_scatter ? bytes * members : bytes;
}

inline Transfer transfer_of(const Frame& f) { return {.kind = f.kind, .count = f.count, .type = f.type, .how = f.how, .peer = f.peer}; }

}  // namespace golem::tcp
