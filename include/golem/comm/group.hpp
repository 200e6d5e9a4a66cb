// Group: a group of ranks whose way of communicating is chosen at run time; one virtual call a collective.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "golem/comm/backend.hpp"

namespace golem {

/// A transfer that was started through a Group. Move-only; the destructor waits.
class Pending {
 public:
  Pending() = default;
  explicit Pending(std::unique_ptr<PendingTransfer> transfer) : transfer_(std::move(transfer)) {}
  /// Returns when the result is there for what the device does next; at once where nothing is pending.
  void wait() {
    if (transfer_) transfer_->wait();
    transfer_.reset();
  }

 private:
  std::unique_ptr<PendingTransfer> transfer_;
};

/// The Communicator over any Backend; copies share it. A default-made one is a group of one, as Self.
class Group {
 public:
  Group() = default;
  explicit Group(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  int rank() const { return backend_ ? backend_->rank() : 0; }
  int size() const { return backend_ ? backend_->size() : 1; }

  template <class T>
  void all_reduce(View<T, 1> x, Reduce how) {
    run(reduction(x, how));
  }
  template <class T>
  void reduce_scatter(View<T, 1> out, View<const std::type_identity_t<T>, 1> in, Reduce how) {
    run(scatter(out, in, how));
  }
  template <class T>
  void all_gather(View<T, 1> out, View<const std::type_identity_t<T>, 1> in) {
    run(gather(out, in));
  }
  template <class T>
  void broadcast(View<T, 1> x, int root) {
    run(Transfer{.kind = Transfer::Kind::broadcast, .out = x.data, .count = x.size(), .type = dtype_of<T>(), .peer = root});
  }
  template <class T>
  void send(View<T, 1> in, int to) {
    run(message_to(in, to));
  }
  template <class T>
  void receive(View<T, 1> out, int from) {
    run(message_from(out, from));
  }
  void barrier() { run({}); }

  /// Whether its transfers can be parts of a graph, and the start of one: see Backend. The group must outlive the graph.
  bool captures() const { return !backend_ || backend_->captures(); }
  void run_graph(function_ref<void()> start) { backend_ ? backend_->run_graph(start) : start(); }

  template <class T>
  Pending start_all_reduce(View<T, 1> x, Reduce how) {
    return start(reduction(x, how));
  }
  template <class T>
  Pending start_reduce_scatter(View<T, 1> out, View<const std::type_identity_t<T>, 1> in, Reduce how) {
    return start(scatter(out, in, how));
  }
  template <class T>
  Pending start_all_gather(View<T, 1> out, View<const std::type_identity_t<T>, 1> in) {
    return start(gather(out, in));
  }
  template <class T>
  Pending start_send(View<T, 1> in, int to) {
    return start(message_to(in, to));
  }
  template <class T>
  Pending start_receive(View<T, 1> out, int from) {
    return start(message_from(out, from));
  }

  /// The ranks of one colour, ordered by key, as a group of their own, called `axis`. All ranks of this group call it. Throws Error for
  /// a colour below 0.
  Group split(int color, int key, std::string_view axis = "group") const {
    require(color >= 0, "a group was to be split by colour ", color, ": colours are 0 and above");
    return backend_ ? Group(backend_->split(color, key, axis)) : Group();
  }

  /// Ends the run of all ranks, for a reason that each of them may find and that is told once. Throws.
  [[noreturn]] void end_run(std::string_view why) {
    if (backend_) backend_->end_run(why);
    fail(why);
  }

  const std::shared_ptr<Backend>& backend() const { return backend_; }

 private:
  template <class T>
  static Transfer reduction(View<T, 1> x, Reduce how) {
    return {.kind = Transfer::Kind::all_reduce, .out = x.data, .count = x.size(), .type = dtype_of<T>(), .how = how};
  }
  template <class T>
  Transfer scatter(View<T, 1> out, View<const std::type_identity_t<T>, 1> in, Reduce how) const {
    require(in.size() == out.size() * size(), "a reduce-scatter over ", size(), " ranks was given ", in.size(), " elements for parts of ",
            out.size());
    return {.kind = Transfer::Kind::reduce_scatter, .out = out.data, .in = in.data, .count = out.size(), .type = dtype_of<T>(), .how = how};
  }
  template <class T>
  Transfer gather(View<T, 1> out, View<const std::type_identity_t<T>, 1> in) const {
    require(out.size() == in.size() * size(), "an all-gather over ", size(), " ranks was given room for ", out.size(), " elements, of ", in.size(),
            " from each");
    return {.kind = Transfer::Kind::all_gather, .out = out.data, .in = in.data, .count = in.size(), .type = dtype_of<T>()};
  }
  template <class T>
  static Transfer message_to(View<T, 1> in, int to) {
    return {.kind = Transfer::Kind::send, .in = in.data, .count = in.size(), .type = dtype_of<std::remove_const_t<T>>(), .peer = to};
  }
  template <class T>
  static Transfer message_from(View<T, 1> out, int from) {
    return {.kind = Transfer::Kind::receive, .out = out.data, .count = out.size(), .type = dtype_of<T>(), .peer = from};
  }

  // In a group of one, parts are the whole; a message has nowhere to go.
  void run_alone(const Transfer& transfer) const {
    const bool message = transfer.kind == Transfer::Kind::send || transfer.kind == Transfer::Kind::receive;
    require(!message, "rank 0 of a group of one was asked to ", name_of(transfer.kind), " with rank ", transfer.peer);
    const bool parts = transfer.kind == Transfer::Kind::reduce_scatter || transfer.kind == Transfer::Kind::all_gather;
    require(!parts || transfer.out == transfer.in, "a group of one rank was asked to ", name_of(transfer.kind), " into other memory: give the same");
  }
  void run(const Transfer& transfer) {
    if (backend_)
      backend_->run(transfer);
    else
      run_alone(transfer);
  }
  Pending start(const Transfer& transfer) {
    if (backend_) return Pending(backend_->start(transfer));
    run_alone(transfer);
    return {};
  }

  std::shared_ptr<Backend> backend_;
};

static_assert(Communicator<Group>);

/// Ends the run where ranks compute in memory that the host cannot read, and their group cannot move it, or does so in the order of another device's work: host
/// transfers would crash on its pointers, and others read what is not there yet.
template <class D, class Ranks>
void require_carrier(const D& device, Ranks& ranks) {
  if constexpr (!D::host_memory && std::is_same_v<Ranks, Group>) {
    if (ranks.size() == 1) return;
    const void* const stream = ranks.backend()->device_stream();
    if (!stream)
      ranks.end_run(sentence(ranks.size(), " ranks were given a device whose memory is not the host's, and a world that cannot move it between them: include <golem/comm/nccl.hpp> and call "
                             "use_nccl(world, device.stream()) before the Trainer or Engine is made, or use one rank"));
    if (stream != device.stream())
      ranks.end_run(sentence("a Trainer or an Engine was given a device, and its world transfers in the order of another one's work: use_nccl(world, device.stream()) takes the stream of the device that they compute on; one world has one"));
  }
}

}  // namespace golem
