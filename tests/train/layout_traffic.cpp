// What a step transfers along each axis is what the formulas say, call by call and byte by byte; and what breaks a layout is seen.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/config/stages.hpp"
#include "train/counted_run.hpp"
#include "worse.hpp"

using namespace layouts;

namespace {

constexpr std::int64_t scored_in_a_row = 10;

struct Expected {
  std::int64_t calls = 0, bytes = 0;
  void add(std::int64_t times, std::int64_t elements) { calls += times, bytes += times * elements * element; }
};

void check(const std::vector<AxisCount>& counts, const std::string& axis, Transfer::Kind kind, const Expected& expected) {
  INFO(axis << " " << golem::name_of(kind));
  CHECK(counted(counts, axis, kind).calls == expected.calls);
  CHECK(counted(counts, axis, kind).bytes == expected.bytes);
}

/// Changes what the ranks of one axis do with all-reduces.
class Altered final : public PassingBackend {
 public:
  using Change = void (*)(Backend&, const Transfer&);
  Altered(const std::shared_ptr<Backend>& inner, std::string axis, Change change) : PassingBackend(inner), axis_(std::move(axis)), change_(change) {}
  void run(const Transfer& transfer) override {
    if (inner().axis() == axis_ && transfer.kind == Transfer::Kind::all_reduce && transfer.how == Reduce::sum) change_(inner(), transfer);
    else inner().run(transfer);
  }
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    return std::make_shared<Altered>(inner().split(color, key, axis), axis_, change_);
  }

 private:
  std::string axis_;
  Change change_;
};

double largest_difference(const Outcome& a, const Outcome& b) {
  double largest = 0;
  for (const auto& [name, x] : a.state.tensors) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < x.size(); ++i) difference += std::pow(x[i] - b.state.tensors.at(name)[i], 2), norm += x[i] * x[i];
    largest = tests::worse(largest, std::sqrt(difference / norm));
  }
  return largest;
}

double difference_with(const Layout& layout, const char* axis, Altered::Change change) {
  Run run{.layout = layout, .training = counted_run};
  run.training.batch.full = 8;
  run.training.clip = 0.1;
  const Outcome one = run_fp64({.training = run.training}), right = run_fp64(run);
  CHECK(largest_difference(one, right) < 1e-9);
  const auto wrap = [&](Group all) { return Group(std::make_shared<Altered>(all.backend(), axis, change)); };
  run.wrap = wrap;
  return largest_difference(one, run_fp64(run));
}

}  // namespace

TEST_CASE("tensor ranks exchange four sums a block, or as many scatters and gathers of parts") {
  using Kind = Transfer::Kind;
  const ModelConfig& c = Model::config;
  const std::int64_t batches = rows / micro_batch, tokens = micro_batch * length, blocks = c.layers, scored = micro_batch * scored_in_a_row;
  for (const int tp : {2, 4})
    for (const bool sequence_parallel : {false, true}) {
      INFO("tp " << tp << (sequence_parallel ? ", sequence parallel" : ""));
      const Outcome outcome = run_fp64({.layout = {.tp = tp, .sequence_parallel = sequence_parallel}, .training = counted_run, .steps = 1});
      const std::int64_t chunks = (scored + head_chunk(c) - 1) / head_chunk(c);
      for (const auto& counts : outcome.counts) {
        Expected reduced, scattered, gathered;
        for (int chunk = 0; chunk < chunks; ++chunk) {
          const std::int64_t n = std::min(head_chunk(c), scored - chunk * head_chunk(c));
          reduced.add(3 * batches, n);           // largest logit, sum of exponentials, the target's
          reduced.add(batches, n * c.hidden);    // gradient of the hidden state
        }
        if (!sequence_parallel) {
          reduced.add(batches * (4 * blocks + 1), tokens * c.hidden);  // two a block in each direction, and the embedding
        } else {
          const std::int64_t part = tokens / tp * c.hidden;
          scattered.add(batches * (4 * blocks + 1), part);
          gathered.add(batches * (2 * blocks + 1), part);      // forward: before qkv and up; before the head
          gathered.add(batches * (4 * blocks + 1), part);      // backward: behind both branches, qkv's and up's inputs again; before the embedding
          reduced.add(2 * 2 * blocks + 2, c.hidden);           // gradients of the norms, once a step
        }
        check(counts, "tensor", Kind::all_reduce, reduced);
        check(counts, "tensor", Kind::reduce_scatter, scattered);
        check(counts, "tensor", Kind::all_gather, gathered);
      }
    }
}

TEST_CASE("data ranks exchange each gradient once, and with ZeRO-1 each weight once more") {
  using Kind = Transfer::Kind;
  const ModelConfig& c = Model::config;
  for (const int zero : {0, 1}) {
    Run run{.layout = {.dp = 4}, .training = counted_run, .steps = 1};
    run.training.zero = zero;
    const FlatLayout layout(c, {whole(c)}, 1, zero ? 4 : 1);
    Expected reduced, scattered, gathered;
    for (const FlatPart& part : layout.parts())
      if (zero) scattered.add(1, part.extent / 4), gathered.add(1, part.extent / 4);
      else reduced.add(1, part.extent);
    CHECK(layout.size() - parameter_count(c) < 64 * (zero ? 4 : 1) * static_cast<std::int64_t>(layout.tensors().size()));  // little more than the parameters
    for (const auto& counts : run_fp64(run).counts) {
      check(counts, "data", Kind::all_reduce, reduced);
      check(counts, "data", Kind::reduce_scatter, scattered);
      check(counts, "data", Kind::all_gather, gathered);
    }
  }
}

TEST_CASE("stages send activations forward and gradients back, once for each micro-batch and chunk, and add up the tied embedding") {
  using Kind = Transfer::Kind;
  const ModelConfig& c = Model::config;
  for (const int chunks : {1, 2}) {
    Run run{.layout = {.pp = 4}, .training = counted_run, .steps = 1};
    run.training.schedule = chunks > 1 ? PipelineSchedule::interleaved : PipelineSchedule::zero_bubble;
    run.training.chunks = chunks;
    const Outcome outcome = run_fp64(run);
    for (int stage = 0; stage < 4; ++stage) {
      INFO("stage " << stage << " of 4, chunks " << chunks);
      const std::int64_t inner = 2 * chunks - (stage == 0 || stage == 3);  // sides that have a neighbour
      Expected message, tied;
      message.add(rows / micro_batch * inner, micro_batch * length * c.hidden);
      if (stage == 0 || stage == 3) tied.add(1, std::int64_t{c.vocab} * c.hidden);
      const auto& counts = outcome.counts[static_cast<std::size_t>(stage)];
      check(counts, "pipeline", Kind::send, message);
      check(counts, "pipeline", Kind::receive, message);
      check(counts, "tied", Kind::all_reduce, tied);
    }
  }
}

TEST_CASE("a tied gradient that is not reduced breaks the equality with one rank") {
  CHECK(difference_with({.pp = 2}, "tied", [](Backend&, const Transfer&) {}) > 1e-6);
}

TEST_CASE("a norm counted twice breaks the equality with one rank") {
  CHECK(difference_with({.dp = 2}, "world", [](Backend& inner, const Transfer& transfer) {
          inner.run(transfer);
          for (std::int64_t i = 0; i < transfer.count; ++i) static_cast<double*>(transfer.out)[i] *= 2;
        }) > 1e-6);
}

TEST_CASE("a constant that a second rank adds to each sum, as a bias on every rank would, breaks the equality with one rank") {
  CHECK(difference_with({.tp = 2}, "tensor", [](Backend& inner, const Transfer& transfer) {
          if (inner.rank() == 1 && transfer.count == micro_batch * length * Model::config.hidden)
            for (std::int64_t i = 0; i < transfer.count; ++i) static_cast<double*>(transfer.out)[i] += 1e-3;
          inner.run(transfer);
        }) > 1e-6);
}

TEST_CASE("a rank whose weights go astray is found, with the tensor's name") {
  for (const Layout layout : {Layout{.dp = 2}, Layout{.tp = 2}}) {
    Run run{.layout = layout, .training = counted_run, .steps = 4};
    run.training.check_every = 2;
    const auto after_step = [](World& world, View<double, 1> weights) {
      if (world.rank() == 1) weights.data[weights.size() - 64] += 1e-13;  // the last norm's shift
    };
    run.after_step = after_step;
    CHECK_THROWS_WITH(run_fp64(run), Catch::Matchers::Contains("after step 2, 'transformer.final_layernorm.bias' of " + std::string(layout.dp > 1 ? "data" : "tensor") + " rank 1 differs"));
  }
}

TEST_CASE("a master weight or a moment that goes astray is found before the weights show it") {
  using Core = TrainerCore<layouts::Model, bf16_mixed, 1, cpu::Device>;
  const auto stray = [](const char* what, int zero) {
    run_ranks(2, [&](Group all) {
      World world(all, {.dp = 2});
      cpu::Device device({.threads = 1});
      TrainingConfig config = counted_run;
      config.check_every = 1, config.zero = zero;
      Core trainer(device, config, world);
      Samples samples{.rank = world.data_rank(), .ranks = 2};
      trainer.step(samples);
      const FlatTensor& tensor = trainer.state().layout().tensors()[3];
      const bool master = what == std::string("master");
      float* numbers = (master ? trainer.state().owned_master(tensor) : trainer.state().owned_moments(tensor)[1]).data;
      for (int i = 0; i < 16 && world.rank() == 1; ++i) numbers[i] *= master ? 1 + 1e-6f : 1 + 1e-4f;
      trainer.step(samples);
    });
  };
  for (const char* what : {"master", "moment"}) {
    CHECK_THROWS_WITH(stray(what, 0), Catch::Matchers::Contains("after step 2, 'transformer.layers.0.attention.query_key_value.weight' of data rank 1 differs"));
    CHECK_NOTHROW(stray(what, 1));  // each rank has its own
  }
}

TEST_CASE("ranks that were made for different runs are told apart before the first step") {
  CHECK_THROWS_WITH(run_ranks(2,
                              [](Group all) {
                                World world(all, {.dp = 2});
                                cpu::Device device({.threads = 1});
                                TrainingConfig config = counted_run;
                                config.seed += static_cast<std::uint64_t>(world.rank());
                                TrainerCore<layouts::Model, fp64, 1, cpu::Device> trainer(device, config, world);
                              }),
                    Catch::Matchers::Contains("the training configuration"));
}

TEST_CASE("a batch whose lists are not of its shape is not sent to the ranks that share it") {
  CHECK_THROWS_WITH(run_ranks(2,
                              [](Group all) {
                                cpu::Device device({.threads = 1});
                                BatchExchange<cpu::Device> exchange(device, all);
                                std::vector<Batch> batches;
                                if (exchange.reads()) batches.push_back(models::random_batch(2, 13, Model::config.vocab, 1)), batches[0].positions.pop_back();
                                exchange.share(batches);
                              }),
                    Catch::Matchers::Contains("a batch of 2 x 13 tokens came with 26 tokens, 25 positions"));
}

TEST_CASE("layouts, schedules and batches that do not go together are refused with a sentence") {
  const auto refused = [](Layout layout, auto change, const char* words) {
    Run run{.layout = layout, .training = counted_run, .steps = 1};
    change(run.training);
    CHECK_THROWS_WITH(run_fp64(run), Catch::Matchers::Contains(words));
  };
  const auto nothing = [](TrainingConfig&) {};
  refused({.pp = 9}, nothing, "lower pp or chunks");
  refused({.dp = 3}, nothing, "cannot be dealt out to 3 data ranks");
  refused({.dp = 2}, [](TrainingConfig& c) { c.batch = {.full = 8, .start = 2, .increment = 3, .ramp_samples = 100}; }, "every size that its ramp goes through");
  refused({}, [](TrainingConfig& c) { c.batch = {.full = 8, .start = 2, .increment = 0, .ramp_samples = 100}; }, "increment must be at least 1");
  refused({.pp = 3}, [](TrainingConfig& c) { c.schedule = PipelineSchedule::interleaved, c.chunks = 2; }, "a multiple of the stages");
  refused({.pp = 2}, [](TrainingConfig& c) { c.chunks = 2; }, "set chunks to 1, or the schedule to interleaved");
  refused({}, [](TrainingConfig& c) { c.schedule = PipelineSchedule::interleaved, c.chunks = 2; }, "without a pipeline");
  refused({.dp = 2}, [](TrainingConfig& c) { c.zero = 2; }, "ZeRO stage 2");
  refused({.dp = 2}, [](TrainingConfig& c) { c.add_like.data_ranks = 2; }, "add_like is for a run on one rank");
  refused({}, [](TrainingConfig& c) { c.add_like.data_ranks = 0; }, "at least 1");
  refused({.dp = 2}, [](TrainingConfig& c) { c.micro_batch = 0; }, "micro_batch must be at least 1");
}
