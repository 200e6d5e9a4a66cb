// StageLinks: what a pipeline stage receives from its neighbours and sends to them: activations forward, their gradients backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/comm/world.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"

namespace golem {

/// One direction of a pipeline. Two messages may be under way before the next one has to wait: the proofs of
/// config/schedule.hpp need no more. Each direction has a group of its own, so that its messages keep their order.
template <class T, Device D>
class StageLink {
 public:
  StageLink(D& device, const Group& group, int from, int to, std::int64_t elements) : group_(group), from_(from), to_(to) {
    if (group_.size() == 1) return;
    for (Buffer<T, D>& buffer : outgoing_) buffer = Buffer<T, D>(device, elements, "pipeline");
  }

  /// Memory (rows, columns) for the next message; waits until the one before the last has left it.
  View<T, 2> space(std::int64_t rows, std::int64_t columns) {
    if (group_.size() == 1) return {};
    pending_[next_].wait();
    return outgoing_[next_].view_at(0, rows, columns);
  }
  /// Sends what the last space() was filled with.
  void send(View<T, 2> message) {
    pending_[next_] = group_.start_send(View<const T, 1>(message.flat()), to_);
    next_ = 1 - next_;
  }
  void receive(View<T, 2> message) { group_.receive(message.flat(), from_); }

 private:
  Group group_;
  int from_, to_, next_ = 0;
  Buffer<T, D> outgoing_[2];
  Pending pending_[2];
};

/// Both directions of a rank, and which of its chunks are the ends. Chunk c of rank r is virtual stage c * stages + r; after
/// the last rank comes the first, with the next chunk.
template <class T, Device D>
class StageLinks {
 public:
  StageLinks(D& device, World& world, int chunks, std::int64_t elements)
      : stages_(world.layout().pp),
        chunks_(chunks),
        stage_(world.stage()),
        forward(device, world.pipeline(), before(), behind(), elements),
        backward(device, world.pipeline().split(0, world.stage(), "pipeline"), behind(), before(), elements) {
    if (stages_ == 1) return;
    incoming_ = Buffer<T, D>(device, elements, "pipeline");
    if constexpr (!D::host_memory) open_ways(device);
  }

  bool first(int chunk) const { return stage_ == 0 && chunk == 0; }
  bool last(int chunk) const { return stage_ == stages_ - 1 && chunk == chunks_ - 1; }

  /// The gradient of a chunk's output, from the stage behind; valid until the next.
  View<T, 2> receive_gradient(std::int64_t rows, std::int64_t columns) {
    const View<T, 2> d_output = incoming_.view_at(0, rows, columns);
    backward.receive(d_output);
    return d_output;
  }

 private:
  /// Sends an element each way. Two GPUs make their way to each other with their first message, and may wait there for all that they do: in the
  /// midst of a step, also for messages that wait for that one in turn. Odd stages receive first, so that no ring waits for itself.
  void open_ways(D& device) {
    const bool ring = chunks_ > 1, from_before = ring || stage_ > 0, to_behind = ring || stage_ < stages_ - 1;
    const auto open = [&](StageLink<T, D>& link, bool sends, bool receives) {
      const auto send = [&] {
        const View<T, 2> element = link.space(1, 1);
        device.clear(element.data, sizeof(T));
        link.send(element);
      };
      if (sends && stage_ % 2 == 0) send();
      if (receives) link.receive(incoming_.view_at(0, 1, 1));
      if (sends && stage_ % 2 != 0) send();
    };
    open(forward, to_behind, from_before);
    open(backward, from_before, to_behind);
    device.synchronize();
  }

  int before() const { return (stage_ + stages_ - 1) % stages_; }
  int behind() const { return (stage_ + 1) % stages_; }

  int stages_, chunks_, stage_;
  Buffer<T, D> incoming_;

 public:
  StageLink<T, D> forward, backward;
};

}  // namespace golem
