// CountedGroup: a Backend that counts the calls, payload bytes and seconds of another, for each kind of transfer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "golem/comm/group.hpp"
#include "golem/comm/watch.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// What one rank asked for: bytes are elements at the interface (Transfer::count) times their size.
struct TransferCount {
  std::int64_t calls = 0, bytes = 0;
  double seconds = 0;     // that the host waited: exposed. Through NCCL it is the GPU that waits, and both are next to 0: a profiler tells
  double overlapped = 0;  // seconds that collectives which it had started ran, the wait for later ranks too, before it waited for them: it computed, or
                          // waited for something else, which is counted there. Where the way of communicating can tell
};

/// The transfers of one rank along one axis.
struct AxisCount {
  std::string axis;
  std::array<TransferCount, Transfer::kinds> kinds{};
  std::int64_t copied = 0;  // bytes that this rank has written to memory for them; 0 where the way of communicating cannot tell

  const TransferCount& of(Transfer::Kind kind) const { return kinds[static_cast<std::size_t>(kind)]; }
  TransferCount total() const {
    TransferCount sum;
    for (const TransferCount& one : kinds) sum.calls += one.calls, sum.bytes += one.bytes, sum.seconds += one.seconds, sum.overlapped += one.overlapped;
    return sum;
  }
};

/// Counts what goes through it. Parts that are split off it are counted with it.
class CountedGroup final : public PassingBackend {
 public:
  explicit CountedGroup(const std::shared_ptr<Backend>& inner) : CountedGroup(inner, std::make_shared<AxisCount>()) { count_->axis = inner->axis(); }

  /// What was counted since this was made.
  AxisCount count() const {
    AxisCount out = *count_;
    out.copied = copied() - copied_before_;
    return out;
  }

  void run(const Transfer& transfer) override {
    const Timed timed(add(transfer));
    inner().run(transfer);
  }
  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override {
    TransferCount& counted = add(transfer);
    auto pending = inner().start(transfer);
    if (!pending) return nullptr;
    return std::make_unique<CountedPending>(std::move(pending), count_, counted);
  }
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    return std::shared_ptr<Backend>(new CountedGroup(inner().split(color, key, axis), count_));
  }

 private:
  /// Adds the seconds of its own life.
  class Timed {
   public:
    explicit Timed(TransferCount& count) : count_(count) {}
    ~Timed() { count_.seconds += steady_seconds() - start_; }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

   private:
    TransferCount& count_;
    const double start_ = steady_seconds();
  };

  class CountedPending final : public PendingTransfer {
   public:
    CountedPending(std::unique_ptr<PendingTransfer> inner, std::shared_ptr<AxisCount> owner, TransferCount& count)
        : inner_(std::move(inner)), owner_(std::move(owner)), count_(count) {}
    void wait() override {
      const double start = steady_seconds();
      inner_->wait();
      const double waited = steady_seconds() - start;
      count_.seconds += waited, count_.overlapped += larger(0.0, inner_->seconds() - waited);
    }

   private:
    std::unique_ptr<PendingTransfer> inner_;
    std::shared_ptr<AxisCount> owner_;
    TransferCount& count_;
  };

  CountedGroup(const std::shared_ptr<Backend>& inner, std::shared_ptr<AxisCount> count)
      : PassingBackend(inner), count_(std::move(count)), copied_before_(copied()) {}

  TransferCount& add(const Transfer& transfer) {
    TransferCount& count = count_->kinds[static_cast<std::size_t>(transfer.kind)];
    ++count.calls;
    count.bytes += transfer.count * size_of(transfer.type);
    return count;
  }

  std::shared_ptr<AxisCount> count_;
  std::int64_t copied_before_;
};

}  // namespace golem
