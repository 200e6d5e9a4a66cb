// Why a run of many ranks ended, as one sentence: which rank, in which step and operation, and what the others waited for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/watch.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// What ends the ranks that did not fail themselves; nobody reports it again.
class RunEnded : public Error {
 public:
  using Error::Error;
};

/// "ranks 0, 2 to 5 and 7".
inline std::string list_of_ranks(const std::vector<int>& ranks) {
  std::vector<std::string> runs;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (last - i < 2) last = i;
    runs.push_back(last > i ? sentence(ranks[i], " to ", ranks[last]) : sentence(ranks[i]));
    i = last + 1;
  }
  std::string out = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < runs.size(); ++i) out += (i == 0 ? "" : i + 1 < runs.size() ? ", " : " and ") + runs[i];
  return out;
}

/// "in step 17, in forward of micro-batch 3"; as much of it as was noted.
inline std::string place_of(const Doing& doing) {
  std::string out;
  if (doing.step >= 0) out += sentence(" in step ", doing.step);
  if (!doing.activity.view().empty()) out += sentence(out.empty() ? " in " : ", in ", doing.activity.view());
  return out;
}

/// "all_reduce of 4096 bytes on the tensor axis", "receive of 12 bytes from rank 3".
inline std::string transfer_of(const Doing& doing) {
  std::string out = name_of(doing.kind);
  if (doing.kind != Transfer::Kind::barrier && doing.kind != Transfer::Kind::split) out += sentence(" of ", doing.bytes, " bytes");
  if (doing.peer >= 0) out += sentence(doing.kind == Transfer::Kind::receive ? " from rank " : " to rank ", doing.peer);
  return sentence(out, " on the ", doing.axis.view(), " axis");
}

/// What a rank does, behind "rank 3 ".
inline std::string activity_of(const Doing& doing) {
  if (doing.state == Doing::State::finished) return "had ended";
  if (doing.state == Doing::State::stopped) return "stood still" + place_of(doing);
  if (doing.state == Doing::State::waiting) return sentence("waited in ", transfer_of(doing), place_of(doing));
  return "worked" + place_of(doing);
}

/// What all ranks but `failed` did, ranks that did the same together; "" where there is none.
inline std::string others_than(int failed, const std::vector<Doing>& ranks) {
  struct Same {
    std::string activity;
    std::vector<int> ranks;
  };
  std::vector<Same> same;
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    if (rank == failed) continue;
    std::string activity = activity_of(ranks[static_cast<std::size_t>(rank)]);
    std::size_t i = 0;
    while (i < same.size() && same[i].activity != activity) ++i;
    if (i == same.size()) same.push_back({std::move(activity), {}});
    same[i].ranks.push_back(rank);
  }
  std::string out;
  int shown = 0;
  for (const auto& [activity, who] : same) {
    if (shown++ == 8) return sentence(out, "; and ", same.size() - 8, " more groups of ranks did other things");
    out += sentence(out.empty() ? "" : "; ", list_of_ranks(who), ' ', activity);
  }
  return out;
}

/// The sentence for a rank that failed by itself.
inline std::string failure_of(int failed, std::string_view why, const std::vector<Doing>& ranks) {
  const Doing& doing = ranks[static_cast<std::size_t>(failed)];
  const std::string others = others_than(failed, ranks);
  const std::string where = doing.state == Doing::State::waiting ? sentence(place_of(doing), ", in ", transfer_of(doing)) : place_of(doing);
  return sentence("rank ", failed, " of ", ranks.size(), " failed", where, ": ", why, others.empty() ? "" : " (", others, others.empty() ? "" : ")");
}

/// A transfer, and the rank in the world that asked for it.
struct CallOfRank {
  Transfer call;
  int rank;
};

/// The sentence for ranks whose calls on one axis do not belong together; `doing` is any one's.
inline std::string different_calls(std::string_view axis, const Doing& doing, const CallOfRank& one, const CallOfRank& other) {
  return sentence("the ranks of the ", axis, " axis made different calls", place_of(doing), ": rank ", one.rank, ' ', call_of(one.call), ", rank ",
                  other.rank, ' ', call_of(other.call));
}
inline std::string different_message(std::string_view axis, const Doing& doing, const CallOfRank& sent, const CallOfRank& expected) {
  return sentence("rank ", sent.rank, " sent ", sent.call.count, ' ', name_of(sent.call.type), " to rank ", expected.rank, " on the ", axis,
                  " axis, which expected ", expected.call.count, ' ', name_of(expected.call.type), place_of(doing));
}

/// What a rank does that runs no more, whatever it did before: it stands still since it was last heard of.
inline Doing stopped_since(Doing doing, double heard) {
  doing.state = Doing::State::stopped;
  doing.since = larger(doing.since, heard);
  return doing;
}

/// A rank that others have waited for too long, or that has not been heard of; rank < 0 where there is none.
struct Stall {
  int rank = -1;
  std::string why;
};

/// The rank that the run waits for in vain, once it has done the same thing for longer than `deadline` seconds. It is one that does not run at all,
/// whatever it did before, and until then nobody else; else, of the ranks that wait for nobody, the one that has worked longest: while that one gets on, the others may wait.
/// Where all wait, they wait for each other, and the one that waits longest is named.
inline Stall stalled_rank(const std::vector<Doing>& ranks, double deadline, double now) {
  int stopped = -1, working = -1, waiting = -1, finished = -1;
  const auto since = [&](int rank) { return ranks[static_cast<std::size_t>(rank)].since; };
  const auto older = [&](int rank, int than) { return than < 0 || since(rank) < since(than) ? rank : than; };
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    switch (ranks[static_cast<std::size_t>(rank)].state) {
      case Doing::State::stopped: stopped = older(rank, stopped); break;
      case Doing::State::working: working = older(rank, working); break;
      case Doing::State::waiting: waiting = older(rank, waiting); break;
      case Doing::State::finished: finished = older(rank, finished); break;
    }
  }
  const auto late = [&](int rank) { return rank >= 0 && now - since(rank) > deadline; };
  const auto seconds = [&](int rank) { return static_cast<std::int64_t>((now - since(rank)) * 10) / 10.0; };
  const auto silent = [&](int rank, const char* why) { return Stall{rank, sentence("it has not been heard of for ", seconds(rank), " s, with a deadline of ", deadline, " s: ", why)}; };
  if (late(stopped)) return silent(stopped, "its process was stopped, or its machine stands still");
  if (stopped >= 0) return {};  // it may be why others get on no more: it comes back, or is named
  if (late(working)) return silent(working, "it is stuck, or the deadline is too short");
  if (working >= 0 || !late(waiting)) return {};
  if (finished >= 0) return {waiting, sentence("it has waited ", seconds(waiting), " s, and ", list_of_ranks({finished}), " has ended and will not come")};
  return {waiting, sentence("it has waited ", seconds(waiting), " s, and all others wait too: the ranks made different calls, or the same in another order")};
}

}  // namespace golem
