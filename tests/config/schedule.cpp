// Proofs of the pipeline schedules, for every number of stages up to 8 and of micro-batches up to 32.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/schedule.hpp"

#include <map>
#include <tuple>

#include "catch.hpp"
#include "golem/config/pipeline_run.hpp"

using namespace golem;

namespace {

using Work = PipelineAction::Work;
using Lists = std::vector<std::vector<PipelineAction>>;

constexpr auto gpipe = PipelineSchedule::gpipe, one_f_one_b = PipelineSchedule::one_f_one_b, interleaved = PipelineSchedule::interleaved,
               zero_bubble = PipelineSchedule::zero_bubble;

/// Every case: visit(kind, stages, chunks, micro_batches).
template <class Visit>
void for_each_pipeline(Visit visit) {
  for (int stages = 1; stages <= 8; ++stages)
    for (int micro_batches = 1; micro_batches <= 32; ++micro_batches) {
      for (const auto kind : {gpipe, one_f_one_b, zero_bubble}) visit(kind, stages, 1, micro_batches);
      if (micro_batches % stages == 0)
        for (int chunks = 2; chunks <= 4; ++chunks) visit(interleaved, stages, chunks, micro_batches);
    }
}

std::string words(PipelineSchedule kind, int stages, int chunks, int micro_batches) {
  return sentence(name_of(kind), ", ", stages, " stages, ", chunks, " chunks, ", micro_batches, " micro-batches");
}

/// Forward to backward as 1 to 2, its halves alike; a chunk is a part of a stage.
double unit_time(const PipelineAction& action, int chunks) { return (action.work == Work::backward ? 2.0 : 1.0) / chunks; }

PipelineRun run_chunks(const Lists& lists, int chunks, int micro_batches, int capacity) {
  return run_pipeline(
      lists, chunks, micro_batches, {.capacity = capacity}, [&](int, const PipelineAction& action) { return unit_time(action, chunks); },
      [](int, int) { return 0.0; });
}

struct KeptPasses {
  int activations = 0, weight_gradients = 0;
};

KeptPasses count_in_flight(const std::vector<PipelineAction>& list) {
  KeptPasses now, most;
  for (const PipelineAction& action : list) {
    if (action.work == Work::forward) ++now.activations;
    if (action.work == Work::backward_input) ++now.weight_gradients;
    most = {larger(most.activations, now.activations), larger(most.weight_gradients, now.weight_gradients)};
    if (action.work == Work::backward_weight) --now.weight_gradients;
    if (action.work == Work::backward || action.work == Work::backward_weight) --now.activations;
  }
  return most;
}

struct Message {
  bool forward;
  int receiver, micro_batch;  // a virtual stage
  bool operator==(const Message&) const = default;
};

/// What rank `from` sends to rank `to`, in the order of the sender, or of the receiver.
enum class Order { of_sender, of_receiver };
std::vector<Message> messages(const Lists& lists, int from, int to, Order order, int chunks) {
  const int stages = static_cast<int>(lists.size()), last = stages * chunks - 1, rank = order == Order::of_sender ? from : to;
  std::vector<Message> result;
  for (const PipelineAction& action : lists[static_cast<std::size_t>(rank)]) {
    if (action.work == Work::backward_weight) continue;
    const bool forward = action.work == Work::forward;
    const int v = action.chunk * stages + rank, step = forward ? 1 : -1, sender = order == Order::of_sender ? v : v - step, receiver = sender + step;
    if (sender < 0 || sender > last || receiver < 0 || receiver > last) continue;
    if (sender % stages == from && receiver % stages == to) result.push_back({forward, receiver, action.micro_batch});
  }
  return result;
}

}  // namespace

TEST_CASE("each stage does each kind of work once with each micro-batch of each chunk, in ascending order, and in order of need") {
  for_each_pipeline([](PipelineSchedule kind, int stages, int chunks, int micro_batches) {
    INFO(words(kind, stages, chunks, micro_batches));
    for (int stage = 0; stage < stages; ++stage) {
      const auto list = pipeline_schedule(kind, stages, chunks, micro_batches, stage);
      std::map<std::tuple<Work, int, int>, std::size_t> when;
      std::map<std::pair<Work, int>, int> previous;
      bool ascending = true, ordered = true;
      for (std::size_t i = 0; i < list.size(); ++i) {
        when.emplace(std::tuple(list[i].work, list[i].chunk, list[i].micro_batch), i);
        const auto [last, first] = previous.emplace(std::pair(list[i].work, list[i].chunk), -1);
        ascending = ascending && list[i].micro_batch > last->second;
        last->second = list[i].micro_batch;
      }
      const std::vector<Work> works =
          kind == zero_bubble ? std::vector{Work::forward, Work::backward_input, Work::backward_weight} : std::vector{Work::forward, Work::backward};
      REQUIRE(list.size() == works.size() * static_cast<std::size_t>(chunks * micro_batches));
      for (int chunk = 0; chunk < chunks; ++chunk)
        for (int m = 0; m < micro_batches; ++m)
          for (std::size_t k = 0; k < works.size(); ++k) {
            const auto found = when.find({works[k], chunk, m});
            REQUIRE(found != when.end());
            ordered = ordered && (k == 0 || when.at({works[k - 1], chunk, m}) < found->second);
          }
      REQUIRE(ascending);
      REQUIRE(ordered);
    }
  });
}

TEST_CASE("no schedule stands still, whether its channels hold two messages or any number") {
  for_each_pipeline([](PipelineSchedule kind, int stages, int chunks, int micro_batches) {
    INFO(words(kind, stages, chunks, micro_batches));
    const Lists lists = pipeline_schedules(kind, stages, chunks, micro_batches);
    for (const int capacity : {0, 2}) {
      INFO("channels hold " << capacity);
      const PipelineRun result = run_chunks(lists, chunks, micro_batches, capacity);
      for (std::size_t stage = 0; stage < lists.size(); ++stage) REQUIRE(result.stages[stage].size() == lists[stage].size());
    }
  });
}

// Also where two stages are each other's neighbours on both sides, and forward and backward share one pair of ranks.
TEST_CASE("the order in which a stage sends is the order in which its neighbour receives") {
  for_each_pipeline([](PipelineSchedule kind, int stages, int chunks, int micro_batches) {
    INFO(words(kind, stages, chunks, micro_batches));
    const Lists lists = pipeline_schedules(kind, stages, chunks, micro_batches);
    std::size_t sent = 0;
    for (int from = 0; from < stages; ++from)
      for (int to = 0; to < stages; ++to) {
        const auto in_order = messages(lists, from, to, Order::of_sender, chunks);
        REQUIRE(in_order == messages(lists, from, to, Order::of_receiver, chunks));
        sent += in_order.size();
      }
    REQUIRE(sent == static_cast<std::size_t>(2 * (stages * chunks - 1) * micro_batches));
  });
}

TEST_CASE("a stage holds the activations that are stated, and no more") {
  for_each_pipeline([](PipelineSchedule kind, int stages, int chunks, int micro_batches) {
    INFO(words(kind, stages, chunks, micro_batches));
    for (int stage = 0; stage < stages; ++stage) {
      const KeptPasses most = count_in_flight(pipeline_schedule(kind, stages, chunks, micro_batches, stage));
      REQUIRE(most.activations == activations_in_flight(kind, stages, chunks, micro_batches, stage));
      REQUIRE(most.weight_gradients == weight_gradients_in_flight(kind, stages, chunks, micro_batches, stage));
      if (kind == one_f_one_b) REQUIRE(most.activations == smaller(micro_batches, stages - stage));
      if (kind == zero_bubble) REQUIRE(most.activations <= activations_in_flight(one_f_one_b, stages, 1, micro_batches, 0));
    }
  });
}

TEST_CASE("the bubble is the formula's") {
  for_each_pipeline([](PipelineSchedule kind, int stages, int chunks, int micro_batches) {
    if (kind == zero_bubble && micro_batches < stages) return;
    INFO(words(kind, stages, chunks, micro_batches));
    REQUIRE(run_chunks(pipeline_schedules(kind, stages, chunks, micro_batches), chunks, micro_batches, 0).bubble() ==
            Approx(bubble(kind, stages, chunks, micro_batches)).margin(1e-12));
  });
  CHECK(bubble(one_f_one_b, 8, 1, 176) == Approx(7.0 / 183));  // GLM-130B: 3.8%, spec 4.1
}

TEST_CASE("a schedule that does not exist is refused with what to change") {
  CHECK_THROWS_WITH(pipeline_schedule(interleaved, 4, 2, 6, 0), Catch::Matchers::Contains("a multiple of the stages, 8 say"));
  CHECK_THROWS_WITH(pipeline_schedule(interleaved, 4, 1, 8, 0), Catch::Matchers::Contains("set chunks to 2, 3 or 4"));
  CHECK_THROWS_WITH(pipeline_schedule(interleaved, 4, 5, 8, 0), Catch::Matchers::Contains("set chunks to 2, 3 or 4"));
  CHECK_THROWS_WITH(pipeline_schedule(one_f_one_b, 4, 2, 8, 0), Catch::Matchers::Contains("set chunks to 1"));
  CHECK_THROWS_WITH(pipeline_schedule(gpipe, 4, 1, 0, 0), Catch::Matchers::Contains("at least 1"));
  CHECK_THROWS_WITH(pipeline_schedule(gpipe, 4, 1, 8, 4), Catch::Matchers::Contains("stage 4 of 4"));
  CHECK_THROWS_WITH(schedule_named("gpip"), Catch::Matchers::Contains("name one of gpipe, 1f1b"));
  for (const auto kind : {gpipe, one_f_one_b, interleaved, zero_bubble}) CHECK(schedule_named(name_of(kind)) == kind);
}
