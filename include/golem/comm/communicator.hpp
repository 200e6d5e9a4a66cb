// What layers and the trainer ask of a group of ranks, and Self, the group of one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

enum class Reduce : unsigned char { sum, max };

/// A group of ranks that hold pieces of the same thing. Every rank of a group makes the same calls in the same order; send and
/// receive concern their two ranks only. Memory belongs to the device that the group was made for.
///   all_reduce(x, how)            x of every rank becomes the reduction over ranks, in the order of ranks where the group can
///   reduce_scatter(out, in, how)  in (size * n): out (n) becomes the reduction of part `rank` of every in
///   all_gather(out, in)           out (size * n) becomes every rank's in (n), in the order of ranks; in may be its own part of out
///   broadcast(x, root)            x of every rank becomes that of `root`
/// The calls whose names begin with start_ return at once; the memory is the group's until the result's wait() returns.
template <class C>
concept Communicator = requires(C& ranks, View<float, 1> to, View<const float, 1> from, Reduce how, int peer) {
  { ranks.rank() } -> std::convertible_to<int>;
  { ranks.size() } -> std::convertible_to<int>;
  ranks.all_reduce(to, how);
  ranks.reduce_scatter(to, from, how);
  ranks.all_gather(to, from);
  ranks.broadcast(to, peer);
  ranks.send(from, peer);
  ranks.receive(to, peer);
  ranks.barrier();
  ranks.start_all_reduce(to, how).wait();
  ranks.start_reduce_scatter(to, from, how).wait();
  ranks.start_all_gather(to, from).wait();
  ranks.start_send(from, peer).wait();
  ranks.start_receive(to, peer).wait();
};

/// A world of one rank: every collective is the identity, and compiles to nothing.
struct Self {
  struct Done {
    void wait() {}
  };

  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  template <class T>
  void all_reduce(View<T, 1>, Reduce) {}
  template <class T>
  void broadcast(View<T, 1>, int) {}
  void barrier() {}
  template <class T>
  Done start_all_reduce(View<T, 1>, Reduce) {
    return {};
  }

  /// Within a world of one, a shard is the whole: these are only called where both are the same memory.
  template <class T>
  void reduce_scatter(View<T, 1> out, View<const std::type_identity_t<T>, 1> in, Reduce) {
    require(out.data == in.data, "a world of one rank was asked to scatter into other memory: give the same");
  }
  template <class T>
  void all_gather(View<T, 1> out, View<const std::type_identity_t<T>, 1> in) {
    require(out.data == in.data, "a world of one rank was asked to gather into other memory: give the same");
  }
  template <class T>
  Done start_reduce_scatter(View<T, 1> out, View<const std::type_identity_t<T>, 1> in, Reduce how) {
    reduce_scatter(out, in, how);
    return {};
  }
  template <class T>
  Done start_all_gather(View<T, 1> out, View<const std::type_identity_t<T>, 1> in) {
    all_gather(out, in);
    return {};
  }

  template <class T>
  void send(View<T, 1>, int to) {
    fail("rank 0 of a world of one was asked to send to rank ", to);
  }
  template <class T>
  void receive(View<T, 1>, int from) {
    fail("rank 0 of a world of one was asked to receive from rank ", from);
  }
  template <class T>
  Done start_send(View<T, 1> in, int to) {
    send(in, to);
    return {};
  }
  template <class T>
  Done start_receive(View<T, 1> out, int from) {
    receive(out, from);
    return {};
  }
};

static_assert(Communicator<Self>);

}  // namespace golem
