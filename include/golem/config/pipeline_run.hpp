// Runs a pipeline schedule on paper: actions in their order, each when what it needs is there, messages in channels in order.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "golem/config/schedule.hpp"

namespace golem {

/// One action and when it ran, in seconds since the step began.
struct TimedAction {
  PipelineAction action;
  double start = 0, end = 0;
};

/// What became of a schedule.
struct PipelineRun {
  std::vector<std::vector<TimedAction>> stages;
  double seconds = 0;  // until the last stage ended
  double busy = 0;     // of all stages together
  double bubble() const { return seconds > 0 ? 1 - busy / (seconds * static_cast<double>(stages.size())) : 0; }
};

/// The channels between neighbours: one forward and one backward for each rank, which sends to the rank after or before it, and
/// the last to the first where there are chunks. A message waits in its channel until its receiver begins the action that needs it.
struct PipelineChannels {
  int capacity = 0;  // messages that a channel holds until a sender has to wait; 0: any number
};

/// Runs the lists of actions of all stages of a pipeline. seconds(stage, action) is how long an action takes, travel(from, to)
/// how long a message is on its way; both in seconds. Throws Error where an action can never begin, where a message is not the
/// one that its receiver takes next, or where an action comes before what it needs of its own rank.
template <class Seconds, class Travel>
class PipelineClock {
 public:
  PipelineClock(int chunks, int micro_batches, PipelineChannels channels, const Seconds& seconds, const Travel& travel)
      : chunks_(chunks), micro_batches_(micro_batches), capacity_(channels.capacity), seconds_(seconds), travel_(travel) {}

  PipelineRun run(const std::vector<std::vector<PipelineAction>>& lists) {
    ranks_ = static_cast<int>(lists.size());
    clocks_.assign(lists.size(), {});
    channels_.assign(2 * lists.size(), {});
    done_.assign(lists.size() * static_cast<std::size_t>(chunks_ * micro_batches_), 0);
    PipelineRun run;
    run.stages.resize(lists.size());
    for (std::size_t rank = 0; rank < lists.size(); ++rank) run.stages[rank].reserve(lists[rank].size());
    for (bool moved = true; moved;) {
      moved = false;
      for (int rank = 0; rank < ranks_; ++rank)
        while (step(lists[at(rank)], rank, run)) moved = true;
    }
    for (int rank = 0; rank < ranks_; ++rank) {
      const Clock& clock = clocks_[at(rank)];
      if (clock.next < lists[at(rank)].size() || clock.sending) stuck(lists[at(rank)], rank);
      run.seconds = larger(run.seconds, clock.now);
    }
    return run;
  }

 private:
  using Work = PipelineAction::Work;
  struct Clock {
    std::size_t next = 0;  // action
    double now = 0;
    bool sending = false;  // the action before `next` has ended, and its channel was full
  };
  struct Message {
    int virtual_stage = 0, micro_batch = 0;
    double arrival = 0;
  };
  struct Channel {
    std::vector<Message> sent;
    std::vector<double> taken;  // when each was
  };

  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  int last_stage() const { return ranks_ * chunks_ - 1; }
  int virtual_stage(int rank, const PipelineAction& action) const { return action.chunk * ranks_ + rank; }
  Channel& channel(int sender, bool forward) { return channels_[at(2 * sender + forward)]; }
  unsigned char& done(int v, int micro_batch) { return done_[at(v) * at(micro_batches_) + at(micro_batch)]; }
  static unsigned char bit(Work work) { return static_cast<unsigned char>(1 << static_cast<int>(work)); }

  /// Whether this action needs, or gives, something of the virtual stage before (forward) or behind (backward).
  bool receives(int v, Work work) const { return work == Work::forward ? v > 0 : work != Work::backward_weight && v < last_stage(); }
  bool sends(int v, Work work) const { return work == Work::forward ? v < last_stage() : work != Work::backward_weight && v > 0; }

  bool step(const std::vector<PipelineAction>& list, int rank, PipelineRun& run) {
    Clock& clock = clocks_[at(rank)];
    if (clock.sending) return finish(list[clock.next - 1], rank);
    if (clock.next == list.size()) return false;
    const PipelineAction& action = list[clock.next];
    const bool forward = action.work == Work::forward;
    const int v = virtual_stage(rank, action);
    double start = clock.now;
    if (receives(v, action.work) && ranks_ > 1) {
      Channel& from = channel((rank + (forward ? ranks_ - 1 : 1)) % ranks_, forward);
      if (from.taken.size() == from.sent.size()) return false;
      const Message& message = from.sent[from.taken.size()];
      require(message.virtual_stage == v && message.micro_batch == action.micro_batch, "stage ", rank, " of a pipeline waits for micro-batch ",
              action.micro_batch, " of virtual stage ", v, ", but the next message of its channel is micro-batch ", message.micro_batch,
              " of virtual stage ", message.virtual_stage, ": let both send and receive in one order");
      start = larger(start, message.arrival);
      from.taken.push_back(start);
    }
    check_own(rank, v, action);
    const double spent = seconds_(rank, action);
    clock.now = start + spent;
    run.busy += spent;
    run.stages[at(rank)].push_back({action, start, clock.now});
    done(v, action.micro_batch) |= bit(action.work);
    ++clock.next;
    clock.sending = sends(v, action.work) && ranks_ > 1;
    if (clock.sending) finish(action, rank);
    return true;
  }

  /// Hands over what an action made. False where the channel is full.
  bool finish(const PipelineAction& action, int rank) {
    const bool forward = action.work == Work::forward;
    Clock& clock = clocks_[at(rank)];
    Channel& to = channel(rank, forward);
    const std::size_t before = to.sent.size(), room = at(capacity_);
    if (capacity_ > 0 && before >= room) {
      if (to.taken.size() <= before - room) return false;
      clock.now = larger(clock.now, to.taken[before - room]);
    }
    const int v = virtual_stage(rank, action) + (forward ? 1 : -1);
    to.sent.push_back({v, action.micro_batch, clock.now + travel_(rank, v % ranks_)});
    clock.sending = false;
    return true;
  }

  /// What an action needs of its own rank: the forward before any backward, the input's gradient before the weights', and where
  /// one rank is the whole pipeline, the chunk before or behind.
  void check_own(int rank, int v, const PipelineAction& action) {
    const Work work = action.work;
    const bool forward = work == Work::forward;
    const unsigned char seen = done(v, action.micro_batch), backward = bit(Work::backward) | bit(Work::backward_input);
    bool ready =
        !(seen & bit(work)) && (forward || (seen & bit(Work::forward))) && (work != Work::backward_weight || (seen & bit(Work::backward_input)));
    if (ranks_ == 1 && receives(v, work))
      ready = ready && (done(forward ? v - 1 : v + 1, action.micro_batch) & (forward ? bit(Work::forward) : backward));
    require(ready, "stage ", rank, " of a pipeline does micro-batch ", action.micro_batch, " of its chunk ", action.chunk,
            " before what it needs, or twice: forward, then backward_input, then backward_weight, each once");
  }

  [[noreturn]] void stuck(const std::vector<PipelineAction>& list, int rank) {
    const Clock& clock = clocks_[at(rank)];
    const PipelineAction& action = list[clock.next - (clock.sending ? 1 : 0)];
    fail("a pipeline of ", ranks_, " stages stands still: stage ", rank, clock.sending ? " cannot send what it made of" : " waits for",
         " micro-batch ", action.micro_batch, action.work == Work::forward ? " forward" : " backward", " in chunk ", action.chunk, ", its action ",
         clock.next, ": correct the schedule", clock.sending ? " or give its channels more room" : "");
  }

  int chunks_, micro_batches_, capacity_, ranks_ = 0;
  const Seconds& seconds_;
  const Travel& travel_;
  std::vector<Clock> clocks_;
  std::vector<Channel> channels_;
  std::vector<unsigned char> done_;  // (virtual stage, micro-batch): kinds of work
};

/// The schedules of all stages.
inline std::vector<std::vector<PipelineAction>> pipeline_schedules(PipelineSchedule kind, int stages, int chunks, int micro_batches) {
  std::vector<std::vector<PipelineAction>> lists;
  for (int stage = 0; stage < stages; ++stage) lists.push_back(pipeline_schedule(kind, stages, chunks, micro_batches, stage));
  return lists;
}

template <class Seconds, class Travel>
PipelineRun run_pipeline(const std::vector<std::vector<PipelineAction>>& lists, int chunks, int micro_batches, PipelineChannels channels,
                         const Seconds& seconds, const Travel& travel) {
  return PipelineClock<Seconds, Travel>(chunks, micro_batches, channels, seconds, travel).run(lists);
}

}  // namespace golem
