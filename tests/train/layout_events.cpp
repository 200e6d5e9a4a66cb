// What the ranks of a run do at each moment: what they note for whoever has to say why it ended, and what they communicate meanwhile.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "train/layout_runs.hpp"

using namespace layouts;

namespace {

const TrainingConfig heard_run{.learning_rate = {.peak = 1e-2}, .batch = {.full = 8}, .micro_batch = 2};

/// One transfer, and what the rank that made it had noted.
struct Event {
  std::string axis;
  Transfer::Kind kind;
  std::int64_t step;
  std::string note;
};

/// The transfers of each rank, in its order.
struct Events {
  std::mutex mutex;
  std::vector<std::vector<Event>> ranks;
};

class Listening final : public PassingBackend {
 public:
  Listening(const std::shared_ptr<Backend>& inner, int rank, Events& events) : PassingBackend(inner), rank_(rank), events_(&events) {}
  void run(const Transfer& transfer) override { hear(transfer), inner().run(transfer); }
  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override {
    hear(transfer);
    return inner().start(transfer);
  }
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    return std::make_shared<Listening>(inner().split(color, key, axis), rank_, *events_);
  }

 private:
  void hear(const Transfer& transfer) {
    const Doing doing = watch()->now();
    const std::lock_guard lock(events_->mutex);
    events_->ranks[static_cast<std::size_t>(rank_)].push_back({std::string(axis()), transfer.kind, doing.step, std::string(doing.activity.view())});
  }

  int rank_;
  Events* events_;
};

std::vector<std::vector<Event>> events_of(const Layout& layout, int steps) {
  Events events;
  events.ranks.resize(static_cast<std::size_t>(layout.ranks()));
  const auto wrap = [&](Group all) { return Group(std::make_shared<Listening>(all.backend(), all.rank(), events)); };
  run_fp64({.layout = layout, .training = heard_run, .steps = steps, .wrap = wrap});
  return std::move(events.ranks);
}

}  // namespace

TEST_CASE("each part's gradients are on their way while the backward goes on with the parts before it") {
  for (const auto& events : events_of({.tp = 2, .dp = 2}, 1)) {
    std::vector<std::int64_t> sums_behind;  // what tensor ranks have still to add up in this backward, at the start of each reduction
    for (const Event& event : events) {
      if (event.note.starts_with("backward") && event.axis == "tensor")
        for (std::int64_t& sums : sums_behind) ++sums;
      if (event.step != 1 || event.axis != "data" || event.note == "evaluation") continue;
      CHECK(event.note == "backward of micro-batch 1");  // the last
      sums_behind.push_back(0);
    }
    std::vector<std::int64_t> expected;  // two a block: behind the final norm come all blocks, behind the first block and the embedding none
    for (std::int64_t blocks = Model::config.layers; blocks >= 0; --blocks) expected.push_back(2 * blocks);
    expected.push_back(0);
    CHECK(sums_behind == expected);
  }
}

TEST_CASE("ranks that wait for the one that reads say so, and of which step") {
  for (const auto& events : events_of({.pp = 3}, 2)) {
    std::vector<std::pair<std::int64_t, std::string>> shared;  // the lists' length and the lists, each step; and in the evaluation
    for (const Event& event : events)
      if (event.axis == "model" && event.kind == Transfer::Kind::broadcast) shared.emplace_back(event.step, event.note);
    REQUIRE(shared.size() == 6);
    for (std::size_t i = 0; i < 4; ++i) CHECK(shared[i] == std::pair<std::int64_t, std::string>(1 + static_cast<std::int64_t>(i) / 2, "reading rows"));
  }
}

TEST_CASE("an evaluation is noted as one, on every rank") {
  for (const Layout layout : {Layout{.tp = 2}, Layout{.pp = 2, .dp = 2}})
    for (const auto& events : events_of(layout, 1)) {
      CHECK(events.back().note == "evaluation");  // a run ends with one
      CHECK(events.back().step == 1);
    }
}
