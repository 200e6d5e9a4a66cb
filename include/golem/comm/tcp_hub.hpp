// tcp::Hub: a thread beside rank 0 through which ranks that talk over TCP meet; it reduces, passes on, watches, and says why a run ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/reduction.hpp"
#include "golem/comm/tcp_wire.hpp"
#include "golem/core/math.hpp"

namespace golem::tcp {

/// One place for all ranks: right for what is small and seldom, such as agreeing, counting and the ids of NCCL; whoever moves gradients
/// on the CPU takes MPI. Reductions are made in the order of ranks.
class Hub {
 public:
  Hub(Socket listener, int ranks, double deadline) : listener_(std::move(listener)), deadline_(deadline), ranks_(static_cast<std::size_t>(ranks)) {
    groups_.push_back({"world", {}, std::vector<std::deque<Request>>(ranks_.size()), {}});
    for (int rank = 0; rank < ranks; ++rank) groups_[0].members.push_back(rank);
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
    Doing doing;
    double heard = 0;
    bool come = false, finished = false;
  };
  struct Request {
    Frame frame;
    std::vector<char> data;
  };
  struct Members {
    std::string axis;
    std::vector<int> members;  // ranks in the world
    std::vector<std::deque<Request>> calls;
    std::map<std::pair<int, int>, std::pair<std::deque<Request>, std::deque<Request>>> channels;  // by sender and receiver: sent, expected
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
        if (failure_ && steady_seconds() - failure_->since > 0.4) end(failure_of(failure_->rank, failure_->why, all_doing()));
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
    rank.socket = std::move(socket), rank.come = true, rank.heard = steady_seconds(), rank.doing.since = rank.heard;
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
    std::vector<Doing> doing = all_doing();
    for (std::size_t i = 0; i < doing.size(); ++i)  // a rank that runs is heard of four times a second
      if (!ranks_[i].finished && now - ranks_[i].heard > smaller(2.0, deadline_ / 2)) doing[i].state = Doing::State::stopped;
    const Stall stall = stalled_rank(doing, deadline_, now);
    if (stall.rank >= 0) end(failure_of(stall.rank, stall.why, doing));
  }

  /// The first rank but 0 that is still at work is the one to tell if rank 0 is lost.
  void name_speaker() {
    std::size_t next = 1;
    while (next < ranks_.size() && ranks_[next].finished) ++next;
    if (next >= ranks_.size() || next == speaker_ || !ranks_[next].come) return;
    speaker_ = next;
    const Frame head{.word = Word::speaker};
    const char* const bytes = reinterpret_cast<const char*>(&head);
    ranks_[next].out.emplace_back(bytes, bytes + sizeof head);
    write(ranks_[next]);
  }

  std::vector<Doing> all_doing() const {
    std::vector<Doing> out;
    for (const Rank& rank : ranks_) out.push_back(rank.doing);
    return out;
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
    rank.heard = steady_seconds();
    const Frame& frame = request.frame;
    switch (frame.word) {
      case Word::doing:
        if (request.data.size() != sizeof rank.doing) return broken(number);
        std::memcpy(static_cast<void*>(&rank.doing), request.data.data(), sizeof rank.doing);
        rank.doing.since = rank.heard - rank.doing.since;
        return;
      case Word::failed: return has_failed(number, std::string(request.data.begin(), request.data.end()));
      case Word::parted: end(std::string(request.data.begin(), request.data.end()));
      case Word::finished:
        rank.finished = true, rank.doing.state = Doing::State::finished, rank.doing.since = rank.heard;
        return name_speaker();
      case Word::transfer: case Word::split: break;
      default: return broken(number);
    }
    const auto g = static_cast<std::size_t>(frame.group);
    if (g >= groups_.size()) return broken(number);
    const std::vector<int>& members = groups_[g].members;
    const auto member = static_cast<std::size_t>(std::find(members.begin(), members.end(), number) - members.begin());
    const bool peer_is_one = frame.word == Word::split || (frame.peer >= 0 && frame.peer < static_cast<int>(members.size()));
    if (member == members.size() || !peer_is_one || (frame.word == Word::transfer && !is_whole(request, static_cast<int>(member), static_cast<int>(members.size())))) return broken(number);
    if (frame.word == Word::transfer && is_message(transfer_of(frame))) return pass_on(g, static_cast<int>(member), std::move(request));
    groups_[g].calls[member].push_back(std::move(request));
    if (std::all_of(groups_[g].calls.begin(), groups_[g].calls.end(), [](const auto& calls) { return !calls.empty(); })) complete(g);
  }

  /// Whether a call came with the data that its kind takes along.
  static bool is_whole(const Request& request, int member, int members) {
    return static_cast<std::int64_t>(request.data.size()) == bytes_sent(transfer_of(request.frame), member, members);
  }

  void answer(int number, std::int64_t call, const void* data, std::size_t bytes) {
    const Frame head{.word = Word::result, .call = call, .bytes = static_cast<std::int64_t>(bytes)};
    std::vector<char> out(sizeof head + bytes);
    std::memcpy(out.data(), &head, sizeof head);
    if (bytes) std::memcpy(out.data() + sizeof head, data, bytes);
    ranks_[static_cast<std::size_t>(number)].out.push_back(std::move(out));
    write(ranks_[static_cast<std::size_t>(number)]);
  }

  void pass_on(std::size_t g, int member, Request request) {
    const bool sends = request.frame.kind == Transfer::Kind::send;
    const std::pair<int, int> route = sends ? std::pair(member, request.frame.peer) : std::pair(request.frame.peer, member);
    auto& [sent, expected] = groups_[g].channels[route];
    (sends ? sent : expected).push_back(std::move(request));
    if (sent.empty() || expected.empty()) return;
    const Frame &from = sent.front().frame, &to = expected.front().frame;
    const CallOfRank one{transfer_of(from), groups_[g].members[static_cast<std::size_t>(route.first)]}, other{transfer_of(to), groups_[g].members[static_cast<std::size_t>(route.second)]};
    const Doing& doing = ranks_[static_cast<std::size_t>(other.rank)].doing;
    if (from.count > to.count && from.type == to.type)
      end(sentence("rank ", one.rank, " sent more to rank ", other.rank, " on the ", groups_[g].axis, " axis than the ", to.count, ' ', name_of(to.type), " that it expected", place_of(doing)));
    if (from.count != to.count || from.type != to.type) end(different_message(groups_[g].axis, doing, one, other));
    answer(other.rank, to.call, sent.front().data.data(), sent.front().data.size());
    sent.pop_front(), expected.pop_front();
  }

  /// All members have made a call: runs it.
  void complete(std::size_t g) {
    std::vector<Request> calls;
    for (auto& queue : groups_[g].calls) calls.push_back(std::move(queue.front())), queue.pop_front();
    const std::vector<int> members = groups_[g].members;
    std::vector<Transfer> transfers;
    for (const Request& call : calls) transfers.push_back(transfer_of(call.frame));
    const bool splits = calls[0].frame.word == Word::split;
    for (std::size_t i = 1; i < calls.size(); ++i) {
      const Doing& doing = ranks_[static_cast<std::size_t>(members[0])].doing;
      if (calls[i].frame.word != calls[0].frame.word)
        end(sentence("the ranks of the ", groups_[g].axis, " axis made different calls", place_of(doing), ": of ranks ", members[0], " and ", members[i], " one split the group, and the other did not"));
      if (!splits && !same_call(transfers[0], transfers[i])) end(different_calls(groups_[g].axis, doing, {transfers[0], members[0]}, {transfers[i], members[i]}));
    }
    if (splits) return split(members, calls);
    const Transfer& t = transfers[0];
    const auto bytes = static_cast<std::size_t>(t.count * size_of(t.type));
    std::vector<char> result;
    using Kind = Transfer::Kind;
    if (t.kind == Kind::all_gather)
      for (const Request& call : calls) result.insert(result.end(), call.data.begin(), call.data.end());
    if (t.kind == Kind::broadcast) result = calls[static_cast<std::size_t>(t.peer)].data;
    if (t.kind == Kind::all_reduce || t.kind == Kind::reduce_scatter) {
      const std::size_t parts = t.kind == Kind::reduce_scatter ? members.size() : 1;
      result.resize(bytes * parts);
      std::vector<const void*> in;
      for (const Request& call : calls) in.push_back(call.data.data());
      void* const out[]{result.data()};
      with_element(t.type, [&]<class T>(T) { reduce_elements<T>(out, in, 0, t.count * static_cast<std::int64_t>(parts), t.how); });
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const bool scatters = t.kind == Kind::reduce_scatter;
      answer(members[i], calls[i].frame.call, result.data() + (scatters ? i * bytes : 0), scatters ? bytes : result.size());
    }
  }

  /// Answers with the number of the new group and its members; colours are in `count`, keys in `peer`.
  void split(const std::vector<int>& members, const std::vector<Request>& calls) {
    std::map<std::int64_t, std::vector<std::size_t>> colors;
    for (std::size_t i = 0; i < calls.size(); ++i) colors[calls[i].frame.count].push_back(i);
    for (auto& [color, who] : colors) {
      std::stable_sort(who.begin(), who.end(), [&](std::size_t a, std::size_t b) { return calls[a].frame.peer < calls[b].frame.peer; });
      std::vector<std::int32_t> reply{static_cast<std::int32_t>(groups_.size())};
      Members made{std::string(calls[who[0]].data.begin(), calls[who[0]].data.end()), {}, std::vector<std::deque<Request>>(who.size()), {}};
      for (const std::size_t i : who) made.members.push_back(members[i]), reply.push_back(members[i]);
      groups_.push_back(std::move(made));
      for (const std::size_t i : who) answer(members[i], calls[i].frame.call, reply.data(), reply.size() * sizeof reply[0]);
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
    const Frame head{.word = Word::ended};
    std::vector<char> out(sizeof head);
    std::memcpy(out.data(), &head, sizeof head);
    for (Rank& rank : ranks_)
      if (rank.socket && !rank.finished) rank.out.push_back(out);
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
  std::vector<Members> groups_;  // by number
  std::size_t speaker_ = 0;
  const double start_ = steady_seconds();
  std::optional<Failure> failure_;  // the first
  std::thread thread_;
};

}  // namespace golem::tcp
