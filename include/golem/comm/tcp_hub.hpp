// tcp::Hub: a thread beside rank 0 through which ranks that talk over TCP meet; it listens, answers, watches, and says why a run ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/tcp_exchange.hpp"
#include "golem/comm/tcp_socket.hpp"
#include "golem/comm/tcp_wire.hpp"
#include "golem/core/math.hpp"

namespace golem::tcp {

/// One place for all ranks: right for what is small and seldom, such as agreeing, counting and the ids of NCCL; whoever moves gradients
/// on the CPU takes MPI.
class Hub {
 public:
  Hub(Socket listener, int ranks, double deadline) : listener_(std::move(listener)), deadline_(deadline), ranks_(static_cast<std::size_t>(ranks)), doing_(ranks_.size()), exchange_(doing_) {
    thread_ = std::thread([this] { work(); });
  }
  ~Hub() { thread_.join(); }
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

 private:
  struct Rank {
    Socket socket;
    std::vector<char> in;
    std::deque<std::vector<char>> out;
    std::size_t written = 0;  // of the first
    double heard = 0;
    bool come = false, finished = false;
  };
  struct Failure {
    int rank = 0;
    std::string why;
    double since = 0;
  };

  void work() {
    try {
      while (std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return !rank.finished || !rank.out.empty(); })) {
        turn();
        if (failure_ && steady_seconds() - failure_->since > 0.4) end(failure_of(failure_->rank, failure_->why, doing_));
      }
    } catch (const std::exception& error) {
      end(error.what());
    }
  }

  /// Lets in whoever waits at the door.
  void let_in() {
    Socket socket(::accept4(listener_.file(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) {
      const int cause = errno;
      if (cause != EINTR && cause != ECONNABORTED && cause != EAGAIN)
        end(sentence("rank 0 cannot let another rank in: ", std::string_view(std::strerror(cause)), "; raise its limit of open files (ulimit -n) above ", ranks_.size() + 64));
      return;
    }
    const timeval patience{2, 0};  // for whoever is no rank of ours
    ::setsockopt(socket.file(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    Frame hello;
    if (!receive_all(socket.file(), &hello, sizeof hello) || hello.magic != Frame::mark || hello.word != Word::hello || hello.bytes != 0) return;
    const bool known = hello.count == static_cast<std::int64_t>(ranks_.size()) && hello.peer >= 0 && hello.peer < static_cast<int>(ranks_.size());
    if (!known || ranks_[static_cast<std::size_t>(hello.peer)].come)
      end(sentence("rank ", hello.peer, " of ", hello.count, " came to the rank 0 of ", ranks_.size(), known ? ", where there is one already" : "", ": start all ranks of a run together, and each run with a MASTER_PORT of its own"));
    send_promptly(socket.file());
    ::fcntl(socket.file(), F_SETFL, O_NONBLOCK);
    Rank& rank = ranks_[static_cast<std::size_t>(hello.peer)];
    rank.socket = std::move(socket), rank.come = true, rank.heard = steady_seconds(), doing_[static_cast<std::size_t>(hello.peer)].since = rank.heard;
    name_speaker();
  }

  void turn() {
    std::vector<pollfd> files;
    for (const Rank& rank : ranks_) files.push_back({rank.socket.file(), static_cast<short>(POLLIN | (rank.out.empty() ? 0 : POLLOUT)), 0});
    std::vector<int> missing;
    for (std::size_t i = 0; i < ranks_.size(); ++i)
      if (!ranks_[i].come) missing.push_back(static_cast<int>(i));
    files.push_back({missing.empty() ? -1 : listener_.file(), POLLIN, 0});
    ::poll(files.data(), files.size(), 100);
    if (files.back().revents & POLLIN) let_in();
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      if (files[i].revents & POLLOUT) write(ranks_[i]);
      if (files[i].revents & (POLLIN | POLLHUP | POLLERR)) read(static_cast<int>(i));
    }
    if (deadline_ <= 0 || failure_) return;
    const double now = steady_seconds();
    if (!missing.empty()) {
      if (now - start_ > deadline_) end(sentence(list_of_ranks(missing), " of ", ranks_.size(), " did not come to rank 0 within ", deadline_, " s: see what they say"));
      return;
    }
    std::vector<Doing> doing = doing_;
    for (std::size_t i = 0; i < doing.size(); ++i)  // a rank that runs is heard of four times a second
      if (!ranks_[i].finished && now - ranks_[i].heard > smaller(2.0, deadline_ / 2)) doing[i] = stopped_since(doing[i], ranks_[i].heard);
    const Stall stall = stalled_rank(doing, deadline_, now);
    if (stall.rank >= 0) end(failure_of(stall.rank, stall.why, doing));
  }

  /// The first rank but 0 that is still at work is the one to tell if rank 0 is lost.
  void name_speaker() {
    std::size_t next = 1;
    while (next < ranks_.size() && ranks_[next].finished) ++next;
    if (next >= ranks_.size() || next == speaker_ || !ranks_[next].come) return;
    speaker_ = next;
    send(ranks_[next], {.word = Word::speaker}, {});
  }

  void send(Rank& rank, const Frame& head, const std::vector<char>& data) {
    const char* const bytes = reinterpret_cast<const char*>(&head);
    std::vector<char>& out = rank.out.emplace_back(bytes, bytes + sizeof head);
    out.insert(out.end(), data.begin(), data.end());
    write(rank);
  }

  void write(Rank& rank) {
    while (!rank.out.empty()) {
      const std::vector<char>& front = rank.out.front();
      const ssize_t sent = ::send(rank.socket.file(), front.data() + rank.written, front.size() - rank.written, MSG_NOSIGNAL);
      if (sent <= 0) return;  // full; where the rank is gone, reading says so
      rank.written += static_cast<std::size_t>(sent);
      if (rank.written < front.size()) return;
      rank.out.pop_front(), rank.written = 0;
    }
  }

  void read(int number) {
    Rank& rank = ranks_[static_cast<std::size_t>(number)];
    char some[65536];
    for (;;) {
      const ssize_t got = ::recv(rank.socket.file(), some, sizeof some, 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (got <= 0) {
        rank.socket.close(), rank.out.clear();
        if (!rank.finished) has_failed(number, "its process was killed, crashed or left without a word");
        return;
      }
      rank.in.insert(rank.in.end(), some, some + got);
      if (got < static_cast<ssize_t>(sizeof some)) break;
    }
    std::size_t at = 0;
    Frame frame;
    for (; rank.in.size() - at >= sizeof frame; at += sizeof frame + static_cast<std::size_t>(frame.bytes)) {
      std::memcpy(&frame, rank.in.data() + at, sizeof frame);
      if (frame.magic != Frame::mark || frame.bytes < 0 || frame.count < 0 || frame.count > (std::int64_t{1} << 48)) return broken(number);
      if (rank.in.size() - at - sizeof frame < static_cast<std::size_t>(frame.bytes)) break;
      const auto data = rank.in.begin() + static_cast<std::ptrdiff_t>(at + sizeof frame);
      take(number, {frame, {data, data + static_cast<std::ptrdiff_t>(frame.bytes)}});
    }
    rank.in.erase(rank.in.begin(), rank.in.begin() + static_cast<std::ptrdiff_t>(at));
  }

  /// What comes from a rank is not what golem sends.
  void broken(int number) {
    ranks_[static_cast<std::size_t>(number)].socket.close();
    has_failed(number, "it sent what golem does not send: is it of another version?");
  }

  void take(int number, Request request) {
    Rank& rank = ranks_[static_cast<std::size_t>(number)];
    Doing& doing = doing_[static_cast<std::size_t>(number)];
    rank.heard = steady_seconds();
    switch (request.frame.word) {
      case Word::doing:
        if (request.data.size() != sizeof doing) return broken(number);
        std::memcpy(static_cast<void*>(&doing), request.data.data(), sizeof doing);
        doing.since = rank.heard - doing.since;
        return;
      case Word::failed: return has_failed(number, std::string(request.data.begin(), request.data.end()));
      case Word::parted: end(std::string(request.data.begin(), request.data.end()));
      case Word::finished:
        rank.finished = true, doing.state = Doing::State::finished, doing.since = rank.heard;
        return name_speaker();
      case Word::transfer: case Word::split: break;
      default: return broken(number);
    }
    const std::optional<std::vector<Answer>> answers = exchange_.take(number, std::move(request));
    if (!answers) return broken(number);
    for (const Answer& answer : *answers) {
      const Frame head{.word = Word::result, .call = answer.call, .bytes = static_cast<std::int64_t>(answer.data.size())};
      send(ranks_[static_cast<std::size_t>(answer.rank)], head, answer.data);
    }
  }

  /// The run ends because of one rank, once the others have had the time to say what they do.
  void has_failed(int rank, const std::string& why) {
    if (!failure_) failure_ = {rank, why, steady_seconds()};
  }

  /// Tells the sentence once, ends the other ranks, and then this one.
  [[noreturn]] void end(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::fflush(stderr);
    for (std::size_t i = 1; i < ranks_.size(); ++i)  // rank 0 is of this process
      if (ranks_[i].socket && !ranks_[i].finished) send(ranks_[i], {.word = Word::ended}, {});
    // A socket that closes with something unread takes back what it sent: so all are read until they close.
    for (const double start = steady_seconds(); steady_seconds() - start < 2;) {
      bool open = false;
      for (std::size_t i = 1; i < ranks_.size(); ++i) {
        Rank& rank = ranks_[i];
        if (!rank.socket || rank.finished) continue;
        write(rank);
        char some[65536];
        const ssize_t got = ::recv(rank.socket.file(), some, sizeof some, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) rank.socket.close();
        else open = true;
      }
      if (!open) break;
      ::usleep(2'000);
    }
    std::_Exit(1);
  }

  Socket listener_;
  double deadline_;
  std::vector<Rank> ranks_;
  std::vector<Doing> doing_;  // of each rank
  Exchange exchange_;
  std::size_t speaker_ = 0;
  const double start_ = steady_seconds();
  std::optional<Failure> failure_;  // the first
  std::thread thread_;
};

}  // namespace golem::tcp
