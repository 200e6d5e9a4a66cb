// Backend: what a way of communicating implements for one rank of one group: transfers as values, started and awaited.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "golem/comm/communicator.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// One communication, as one rank sees it.
struct Transfer {
  enum class Kind : std::uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, send, receive, barrier, split };
  static constexpr std::size_t kinds = 7;  // but split, which moves nothing: it is a kind so that ranks can compare it with what others call
  Kind kind = Kind::barrier;
  void* out = nullptr;       // what is written; all_reduce and broadcast read it too
  const void* in = nullptr;  // what is read
  std::int64_t count = 0;    // elements: of x, of what is sent or received; of one rank's part in reduce_scatter and all_gather
  DType type = DType::u8;
  Reduce how = Reduce::sum;
  int peer = 0;  // the root, the receiver or the sender
};

constexpr const char* name_of(Transfer::Kind kind) {
  constexpr const char* names[]{"all_reduce", "reduce_scatter", "all_gather", "broadcast", "send", "receive", "barrier", "split"};
  return names[static_cast<int>(kind)];
}

constexpr bool is_message(const Transfer& transfer) { return transfer.kind == Transfer::Kind::send || transfer.kind == Transfer::Kind::receive; }

/// Throws Error where a root, receiver or sender is no rank of the group, or a message is to the rank itself.
inline void check_peer(const Transfer& transfer, int rank, int size, std::string_view axis) {
  if (!is_message(transfer) && transfer.kind != Transfer::Kind::broadcast) return;
  require(transfer.peer >= 0 && transfer.peer < size, "rank ", rank, " of ", size, " on the ", axis, " axis was asked to ", name_of(transfer.kind),
          " with rank ", transfer.peer);
  require(!is_message(transfer) || transfer.peer != rank, "rank ", rank, " on the ", axis, " axis was asked to ", name_of(transfer.kind),
          " with itself");
}

/// "all_reduce (sum) of 12 f32".
inline std::string call_of(const Transfer& transfer) {
  using Kind = Transfer::Kind;
  std::string out = name_of(transfer.kind);
  if (transfer.kind == Kind::barrier || transfer.kind == Kind::split) return out;
  if (transfer.kind == Kind::all_reduce || transfer.kind == Kind::reduce_scatter) out += transfer.how == Reduce::sum ? " (sum)" : " (max)";
  if (transfer.kind == Kind::broadcast) out += sentence(" from rank ", transfer.peer);
  return sentence(out, " of ", transfer.count, ' ', name_of(transfer.type));
}

/// Whether two ranks made the same call.
inline bool same_call(const Transfer& a, const Transfer& b) {
  using Kind = Transfer::Kind;
  const bool reduces = a.kind == Kind::all_reduce || a.kind == Kind::reduce_scatter;
  return a.kind == b.kind && a.count == b.count && a.type == b.type && (!reduces || a.how == b.how) &&
         (a.kind != Kind::broadcast || a.peer == b.peer);
}

/// The first rank whose call differs from that of rank 0; -1 where there is none.
template <class Calls>
int first_that_differs(const Calls& calls) {
  for (std::size_t rank = 1; rank < calls.size(); ++rank)
    if (!same_call(calls[0], calls[rank])) return static_cast<int>(rank);
  return -1;
}

/// A transfer that was started. Destroying it without wait() waits too.
class PendingTransfer {
 public:
  virtual ~PendingTransfer() = default;
  /// Returns when the result is there for what the device does next. Throws Error where the group failed.
  virtual void wait() = 0;
  /// Seconds that the transfer ran, whether it was waited for or not; known behind wait(). 0 where the way of communicating cannot tell.
  virtual double seconds() const { return 0; }
};

class Watch;

/// One rank of one group. Not to be used by two threads at once.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// What the group is called in errors and counts: "tensor".
  virtual std::string_view axis() const = 0;
  /// Where this rank notes what it does; null where nobody watches.
  virtual Watch* watch() { return nullptr; }
  /// Bytes that this rank has written so far, to its own memory or another's; 0 where the way of communicating cannot tell.
  virtual std::int64_t copied() const { return 0; }
  /// The stream of a GPU that it moves memory in the order of, which the host cannot read; null: it cannot.
  virtual const void* device_stream() const { return nullptr; }
  /// Whether transfers of such memory can be captured as parts of a graph; what a graph does passes by whoever counts or changes transfers.
  virtual bool captures() const { return false; }
  /// Calls start(), which starts a graph with transfers of this group in it: they are under way then, as any others.
  virtual void run_graph(function_ref<void()> start) { start(); }
  /// Whether the run has ended because some rank failed, as far as this rank's process knows; any thread may ask.
  virtual bool ended() const { return false; }
  /// The transfers of a group run in the order of their starts, but sends and receives, which are in order for each pair of
  /// ranks and direction. Null where the transfer is done already.
  virtual std::unique_ptr<PendingTransfer> start(const Transfer& transfer) = 0;
  virtual void run(const Transfer& transfer) {
    if (const auto pending = start(transfer)) pending->wait();
  }
  /// Ends the run because this rank failed, where ranks are processes: does not return then. Threads end by what they throw.
  virtual void fail_rank(const std::exception&) {}
  /// Ends the run of all ranks, for a reason that is no single rank's and that each of them may find: it is told once. Throws.
  [[noreturn]] virtual void end_run(std::string_view why) { fail(why); }
  /// The ranks of one colour, ordered by key: a group of their own, called `axis`. All ranks of this group call it.
  virtual std::shared_ptr<Backend> split(int color, int key, std::string_view axis) = 0;
};

/// Passes everything on to another Backend; one that counts or changes transfers overrides what it must, and split().
class PassingBackend : public Backend {
 public:
  explicit PassingBackend(std::shared_ptr<Backend> inner) : inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string_view axis() const override { return inner_->axis(); }
  Watch* watch() override { return inner_->watch(); }
  std::int64_t copied() const override { return inner_->copied(); }
  const void* device_stream() const override { return inner_->device_stream(); }
  bool ended() const override { return inner_->ended(); }
  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override { return inner_->start(transfer); }
  void run(const Transfer& transfer) override { inner_->run(transfer); }
  void fail_rank(const std::exception& why) override { inner_->fail_rank(why); }
  [[noreturn]] void end_run(std::string_view why) override {
    inner_->end_run(why);
    fail(why);
  }

 protected:
  Backend& inner() const { return *inner_; }

 private:
  std::shared_ptr<Backend> inner_;
};

}  // namespace golem
