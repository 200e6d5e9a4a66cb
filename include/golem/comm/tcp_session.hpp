// tcp::Session: a rank's connection to the hub: requests and their results, and a thread that listens, and says what the rank does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/tcp_hub.hpp"

namespace golem::tcp {

/// Where rank 0 is, and which of how many ranks this is.
struct Address {
  std::string host;
  int port = 0, rank = 0, ranks = 1;
};

/// Shared by all groups of a process. Requests are made by the rank's own thread; results may be awaited in any order.
class Session {
 public:
  Session(const Address& address, double deadline) : address_(address) {
    if (address.rank == 0) hub_ = std::make_unique<Hub>(listen_on(address.port), address.ranks, deadline);
    socket_ = connect_to(address.rank == 0 ? "127.0.0.1" : address.host, address.port, deadline > 0 ? deadline : 600);
    require(notice_loss_after(socket_.file(), deadline), "could not give the connection to rank 0 a deadline of ", deadline, " s: ", std::string_view(std::strerror(errno)));
    send(Frame{.word = Word::hello, .peer = address.rank, .count = address.ranks}, nullptr);
    listener_ = std::thread([this] { listen(); });
  }
  /// The run went well for this rank, unless it is left by an exception. Rank 0 waits for all.
  ~Session() {
    if (std::uncaught_exceptions() > exceptions_) end(Word::failed, "it was left by an exception that nobody told the others of");
    watch_.finish();
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
    }
    send(Frame{.word = Word::finished}, nullptr);
    listener_.join();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Address& address() const { return address_; }
  Watch& watch() { return watch_; }

  /// Asks the hub for something; the number of the call is for result().
  std::int64_t request(Frame frame, const void* data) {
    frame.call = ++calls_;
    tell();
    send(frame, data);
    return frame.call;
  }
  /// Waits for what the hub answers.
  std::vector<char> result(std::int64_t call) {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [&] { return results_.contains(call); });
    return std::move(results_.extract(call).mapped());
  }

  /// Tells the hub why the run must end, and waits for the end.
  [[noreturn]] void end(Word word, std::string_view why) {
    tell();
    send(Frame{.word = word, .bytes = static_cast<std::int64_t>(why.size())}, why.data());
    ::sleep(10);  // the end comes by the listener, or the hub
    std::fprintf(stderr, "rank %d of %d failed: %.*s\n", address_.rank, address_.ranks, static_cast<int>(why.size()), why.data());
    std::_Exit(1);
  }

 private:
  /// What the rank does now.
  void tell() {
    Doing doing = watch_.now();
    doing.since = steady_seconds() - doing.since;  // an age: the clocks of machines differ
    send(Frame{.word = Word::doing, .bytes = sizeof doing}, &doing);
  }

  void send(const Frame& frame, const void* data) {
    const std::lock_guard lock(sending_);
    const bool sent = send_all(socket_.file(), &frame, sizeof frame) && send_all(socket_.file(), data, static_cast<std::size_t>(frame.bytes));
    if (!sent) ::shutdown(socket_.file(), SHUT_RDWR);  // the listener meets the end
  }

  void listen() {
    for (double told = 0;;) {
      pollfd waiting{socket_.file(), POLLIN, 0};
      const int ready = ::poll(&waiting, 1, 50);
      if (const double now = steady_seconds(); now - told > 0.25) {
        {
          const std::lock_guard lock(mutex_);
          if (finished_) return;
        }
        tell();
        told = now;
      }
      if (ready <= 0) continue;
      Frame frame;
      if (!receive_all(socket_.file(), &frame, sizeof frame)) return lost();
      if (frame.magic != Frame::mark || frame.bytes < 0) {
        std::fprintf(stderr, "rank %d of %d: what listens at %s, port %d, is no rank 0 of golem: choose another port in GOLEM_PORT, the same for all ranks\n", address_.rank, address_.ranks,
                     address_.host.c_str(), address_.port);
        std::_Exit(1);
      }
      if (frame.word == Word::ended) std::_Exit(1);  // rank 0 has said why
      if (frame.word == Word::speaker) {
        speaks_ = true;
        continue;
      }
      std::vector<char> data(static_cast<std::size_t>(frame.bytes));
      if (!receive_all(socket_.file(), data.data(), data.size())) return lost();
      const std::lock_guard lock(mutex_);
      results_[frame.call] = std::move(data);
      came_.notify_all();
    }
  }

  /// The hub is gone without a word. Every rank learns of it; one tells.
  void lost() {
    {
      const std::lock_guard lock(mutex_);
      if (finished_) return;
    }
    if (speaks_)
      std::fprintf(stderr, "rank 0 of %d, through which the others talk, was killed, crashed or left without a word, or its machine is down (rank %d %s)\n", address_.ranks, address_.rank, activity_of(watch_.now()).c_str());
    std::fflush(stderr);
    std::_Exit(1);
  }

  const Address address_;
  std::unique_ptr<Hub> hub_;  // of rank 0; goes last, when all have finished
  Socket socket_;
  Watch watch_;
  std::mutex sending_, mutex_;
  std::condition_variable came_;
  std::map<std::int64_t, std::vector<char>> results_;
  std::int64_t calls_ = 0;
  const int exceptions_ = std::uncaught_exceptions();
  bool finished_ = false, speaks_ = false;
  std::thread listener_;
};

}  // namespace golem::tcp
