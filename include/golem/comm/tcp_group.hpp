// TcpGroup: the Backend of ranks that are processes and talk through a hub beside rank 0, over TCP.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/tcp_session.hpp"

namespace golem {

/// One rank of a group. What is sent is copied, so that a send never waits.
class TcpGroup final : public Backend, public std::enable_shared_from_this<TcpGroup> {
 public:
  /// `members`: the ranks of the group in the world.
  TcpGroup(std::shared_ptr<tcp::Session> session, std::int32_t number, std::vector<std::int32_t> members, std::string_view axis)
      : session_(std::move(session)), number_(number), members_(std::move(members)), axis_(axis),
        rank_(static_cast<int>(std::find(members_.begin(), members_.end(), session_->address().rank) - members_.begin())) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  std::string_view axis() const override { return axis_; }
  Watch* watch() override { return &session_->watch(); }
  void fail_rank(const std::exception& why) override { session_->end(tcp::Word::failed, why.what()); }
  [[noreturn]] void end_run(std::string_view why) override { session_->end(tcp::Word::parted, why); }

  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override {
    check_peer(transfer, rank(), size(), axis_);
    using Kind = Transfer::Kind;
    const void* const data = transfer.kind == Kind::all_reduce || transfer.kind == Kind::broadcast ? transfer.out : transfer.in;
    const std::int64_t sent = tcp::bytes_sent(transfer, rank_, size());
    const std::int64_t call = session_->request(tcp::frame_of(transfer, number_, 0, sent), data);
    if (transfer.kind == Kind::send) return nullptr;  // copied
    return std::make_unique<Started>(shared_from_this(), transfer, call);
  }

  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    const Waiting waiting = wait_in({.kind = Transfer::Kind::split});
    const std::int64_t call = session_->request({.word = tcp::Word::split, .group = number_, .peer = key, .count = color, .bytes = static_cast<std::int64_t>(axis.size())}, axis.data());
    const std::vector<char> result = session_->result(call);
    std::vector<std::int32_t> numbers(result.size() / sizeof(std::int32_t));
    std::memcpy(numbers.data(), result.data(), result.size());
    return std::make_shared<TcpGroup>(session_, numbers[0], std::vector<std::int32_t>(numbers.begin() + 1, numbers.end()), axis);
  }

 private:
  class Started final : public PendingTransfer {
   public:
    Started(std::shared_ptr<TcpGroup> group, const Transfer& transfer, std::int64_t call) : group_(std::move(group)), transfer_(transfer), call_(call) {}
    ~Started() override {
      // Whoever leaves by an exception makes no more calls, so that what was started may never end.
      if (group_ && std::uncaught_exceptions() == exceptions_) wait();
    }
    void wait() override {
      const auto group = std::exchange(group_, nullptr);
      const Waiting waiting = group->wait_in(transfer_);
      const std::vector<char> result = group->session_->result(call_);
      if (!result.empty()) std::memcpy(transfer_.out, result.data(), result.size());
    }

   private:
    std::shared_ptr<TcpGroup> group_;
    const Transfer transfer_;
    const std::int64_t call_;
    const int exceptions_ = std::uncaught_exceptions();
  };

  Waiting wait_in(const Transfer& transfer) { return {*watch(), transfer, axis_, is_message(transfer) ? members_[static_cast<std::size_t>(transfer.peer)] : -1}; }

  std::shared_ptr<tcp::Session> session_;
  std::int32_t number_;
  std::vector<std::int32_t> members_;
  std::string axis_;
  int rank_;
};

}  // namespace golem
