// tcp::Exchange: which calls of ranks that talk over TCP belong together, and what each gets back; it knows no sockets.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/reduction.hpp"
#include "golem/comm/tcp_wire.hpp"

namespace golem::tcp {

struct Request {
  Frame frame;
  std::vector<char> data;
};

/// What a rank gets for the call of this number.
struct Answer {
  int rank = 0;
  std::int64_t call = 0;
  std::vector<char> data;
};

/// Reductions are made in the order of ranks. Group 0 is the world; others come of splits.
class Exchange {
 public:
  /// `doing`: of each rank, for what an Error says of them.
  explicit Exchange(const std::vector<Doing>& doing) : doing_(doing) {
    std::vector<int> all(doing.size());
    for (std::size_t rank = 0; rank < all.size(); ++rank) all[rank] = static_cast<int>(rank);
    groups_.emplace_back("world", std::move(all));
  }

  /// A transfer or a split that `rank` asks for. Returns what is complete now, and nothing at all where no golem would ask so.
  /// Throws Error where calls of several ranks do not belong together.
  std::optional<std::vector<Answer>> take(int rank, Request request) {
    const Frame& frame = request.frame;
    const auto g = static_cast<std::size_t>(frame.group);
    if (g >= groups_.size()) return {};
    Members& group = groups_[g];
    const int ranks = static_cast<int>(group.ranks.size());
    const auto member = static_cast<int>(std::find(group.ranks.begin(), group.ranks.end(), rank) - group.ranks.begin());
    if (member == ranks) return {};
    if (frame.word == Word::transfer) {
      const Transfer transfer = transfer_of(frame);
      if (frame.peer < 0 || frame.peer >= ranks || static_cast<std::int64_t>(request.data.size()) != bytes_sent(transfer, member, ranks)) return {};
      if (is_message(transfer)) return pass_on(group, member, std::move(request));
    }
    group.calls[static_cast<std::size_t>(member)].push_back(std::move(request));
    if (std::any_of(group.calls.begin(), group.calls.end(), [](const auto& calls) { return calls.empty(); })) return std::vector<Answer>{};
    return complete(group);
  }

 private:
  struct Members {
    Members(std::string name, std::vector<int> who) : axis(std::move(name)), ranks(std::move(who)), calls(ranks.size()) {}

    std::string axis;
    std::vector<int> ranks;  // in the world
    std::vector<std::deque<Request>> calls;
    std::map<std::pair<int, int>, std::pair<std::deque<Request>, std::deque<Request>>> channels;  // by sender and receiver: sent, expected
  };

  const Doing& doing_of(int rank) const { return doing_[static_cast<std::size_t>(rank)]; }

  std::vector<Answer> pass_on(Members& group, int member, Request request) {
    const bool sends = request.frame.kind == Transfer::Kind::send;
    const std::pair<int, int> route = sends ? std::pair(member, request.frame.peer) : std::pair(request.frame.peer, member);
    auto& [sent, expected] = group.channels[route];
    (sends ? sent : expected).push_back(std::move(request));
    if (sent.empty() || expected.empty()) return {};
    const Frame &from = sent.front().frame, &to = expected.front().frame;
    const CallOfRank one{transfer_of(from), group.ranks[static_cast<std::size_t>(route.first)]}, other{transfer_of(to), group.ranks[static_cast<std::size_t>(route.second)]};
    const Doing& doing = doing_of(other.rank);
    if (from.count > to.count && from.type == to.type)
      fail("rank ", one.rank, " sent more to rank ", other.rank, " on the ", group.axis, " axis than the ", to.count, ' ', name_of(to.type), " that it expected", place_of(doing));
    if (from.count != to.count || from.type != to.type) fail(different_message(group.axis, doing, one, other));
    std::vector<Answer> answers;
    answers.push_back({other.rank, to.call, std::move(sent.front().data)});
    sent.pop_front(), expected.pop_front();
    return answers;
  }

  /// All members have made a call: runs it.
  std::vector<Answer> complete(Members& group) {
    std::vector<Request> calls;
    for (auto& queue : group.calls) calls.push_back(std::move(queue.front())), queue.pop_front();
    const Doing& doing = doing_of(group.ranks[0]);
    const bool splits = calls[0].frame.word == Word::split;
    for (std::size_t i = 1; i < calls.size(); ++i) {
      const CallOfRank first{transfer_of(calls[0].frame), group.ranks[0]}, own{transfer_of(calls[i].frame), group.ranks[i]};
      if (calls[i].frame.word != calls[0].frame.word)
        fail("the ranks of the ", group.axis, " axis made different calls", place_of(doing), ": of ranks ", first.rank, " and ", own.rank, " one split the group, and the other did not");
      if (!splits && !same_call(first.call, own.call)) fail(different_calls(group.axis, doing, first, own));
    }
    return splits ? split(group.ranks, calls) : results(group.ranks, calls);
  }

  static std::vector<Answer> results(const std::vector<int>& ranks, const std::vector<Request>& calls) {
    using Kind = Transfer::Kind;
    const Transfer t = transfer_of(calls[0].frame);
    const auto bytes = static_cast<std::size_t>(t.count * size_of(t.type));
    const bool scatters = t.kind == Kind::reduce_scatter;
    std::vector<char> result;
    if (t.kind == Kind::all_gather)
      for (const Request& call : calls) result.insert(result.end(), call.data.begin(), call.data.end());
    if (t.kind == Kind::broadcast) result = calls[static_cast<std::size_t>(t.peer)].data;
    if (t.kind == Kind::all_reduce || scatters) {
      const std::size_t parts = scatters ? ranks.size() : 1;
      result.resize(bytes * parts);
      std::vector<const void*> in;
      for (const Request& call : calls) in.push_back(call.data.data());
      void* const out[]{result.data()};
      with_element(t.type, [&]<class T>(T) { reduce_elements<T>(out, in, 0, t.count * static_cast<std::int64_t>(parts), t.how); });
    }
    std::vector<Answer> answers;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const auto part = result.begin() + static_cast<std::ptrdiff_t>(scatters ? i * bytes : 0);
      answers.push_back({ranks[i], calls[i].frame.call, {part, scatters ? part + static_cast<std::ptrdiff_t>(bytes) : result.end()}});
    }
    return answers;
  }

  /// Answers with the number of the new group and its members; colours are in `count`, keys in `peer`.
  std::vector<Answer> split(std::vector<int> ranks, const std::vector<Request>& calls) {
    std::map<std::int64_t, std::vector<std::size_t>> colors;
    for (std::size_t i = 0; i < calls.size(); ++i) colors[calls[i].frame.count].push_back(i);
    std::vector<Answer> answers;
    for (auto& [color, who] : colors) {
      std::stable_sort(who.begin(), who.end(), [&](std::size_t a, std::size_t b) { return calls[a].frame.peer < calls[b].frame.peer; });
      std::vector<std::int32_t> reply{static_cast<std::int32_t>(groups_.size())};
      for (const std::size_t i : who) reply.push_back(ranks[i]);
      groups_.emplace_back(std::string(calls[who[0]].data.begin(), calls[who[0]].data.end()), std::vector<int>(reply.begin() + 1, reply.end()));
      const char* const bytes = reinterpret_cast<const char*>(reply.data());
      for (const std::size_t i : who) answers.push_back({ranks[i], calls[i].frame.call, {bytes, bytes + reply.size() * sizeof reply[0]}});
    }
    return answers;
  }

  const std::vector<Doing>& doing_;
  std::vector<Members> groups_;  // by number
};

}  // namespace golem::tcp
