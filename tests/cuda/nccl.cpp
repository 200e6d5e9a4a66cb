// NCCL's groups on the host's NCCL: collectives and messages of device memory, a trainer and an engine on many ranks.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/on_ranks.hpp"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "golem/golem.cuh"
#include "golem/golem.hpp"
#include "infer/random_weights.hpp"
#include "simt/runtime.hpp"
#include "train/models.hpp"

using namespace cuda_tests;

namespace {

// Heads of 16 dims and a vocabulary that two tensor ranks divide.
struct DealtModel {
  static constexpr auto config = checked({.layers = 3, .hidden = 32, .heads = 2, .ffn = 40, .vocab = 38, .context = 24, .norm = Norm::deep, .embedding_std = 0.5, .dropout = 0.1});
};

constexpr TrainingConfig dealt_training{.learning_rate = {.peak = 1e-2, .min = 1e-3, .warmup_samples = 8, .decay_samples = 60},
                                  .batch = {.full = 4},
                                  .micro_batch = 1,
                                  .shrink = {.alpha = 0.1, .ramp_from = 3, .ramp_steps = 4, .where = EmbeddingShrink::Where::input_and_head}};

// The rows of a data rank: row r of step s of the whole run, whoever asks.
struct DealtRows {
  int data_rank = 0, data_ranks = 1, next = 0;
  Batch batch;
  const Batch& operator()(int rows) {
    batch = models::random_batch(rows, 11, DealtModel::config.vocab, static_cast<std::uint64_t>(data_rank + data_ranks * next++));
    return batch;
  }
};

template <class P>
std::vector<double> losses_of_one(int steps) {
  cpu::Device device({.threads = 1});
  Trainer<DealtModel, P> trainer(device, dealt_training);
  DealtRows series;
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) losses.push_back(trainer.step(series).loss);
  return losses;
}

template <class P, int Tp>
std::vector<double> losses_of(const Layout& layout, TrainingConfig config, int steps) {
  std::vector<double> losses;
  on_ranks(layout, [&](World& world, cuda::Device& device) {
    TrainerCore<DealtModel, P, Tp, cuda::Device> trainer(device, config, world);
    DealtRows series{.data_rank = world.data_rank(), .data_ranks = layout.dp, .next = 0, .batch = {}};
    for (int i = 0; i < steps; ++i) {
      const StepReport report = trainer.step(series);
      if (world.rank() == 0) losses.push_back(report.loss);
    }
  });
  return losses;
}

template <class P, int Tp>
void compare(const Layout& layout, const TrainingConfig& config = dealt_training) {
  const std::vector<double> expected = losses_of_one<P>(3), got = losses_of<P, Tp>(layout, config, 3);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-9));
}

}  // namespace

TEST_CASE("collectives of device memory are NCCL's, of every type; host memory goes the host's way") {
  on_ranks({.dp = 3}, [](World& world, cuda::Device& device) {
    Group& all = world.all();
    const auto rank = static_cast<float>(world.rank());
    OnDevice<float> x(device, {rank, 10 * rank, -rank});
    all.all_reduce(x.view(), Reduce::sum);
    if (x.values() != std::vector<float>{3, 30, -3}) fail("sum");
    OnDevice<bfloat16> low(device, {bfloat16(rank), bfloat16(-rank)});
    all.all_reduce(low.view(), Reduce::max);
    if (float(low.values()[0]) != 2 || float(low.values()[1]) != 0) fail("maximum");

    OnDevice<double> whole(device, {rank, rank + 1, rank + 2, rank + 3, rank + 4, rank + 5});
    all.reduce_scatter(whole.part(2 * world.rank(), 2), whole.view(), Reduce::sum);
    const std::vector<double> sums = whole.values();
    const auto own = static_cast<std::size_t>(2 * world.rank());
    if (sums[own] != 3 + 3.0 * double(own) || sums[own + 1] != 6 + 3.0 * double(own)) fail("reduce-scatter");
    all.all_gather(whole.view(), whole.part(2 * world.rank(), 2));
    if (whole.values() != std::vector<double>{3, 6, 9, 12, 15, 18}) fail("all-gather");

    OnDevice<std::int64_t> from_one(device, {world.rank()});
    all.broadcast(from_one.view(), 1);
    if (from_one.values()[0] != 1) fail("broadcast");

    std::vector<std::int32_t> host{world.rank()};
    all.all_reduce(View<std::int32_t, 1>(host.data(), 1), Reduce::sum);
    if (host[0] != 3) fail("host memory");
    all.barrier();
  });
  CHECK(simt::bytes_in_use() == 0);
}

TEST_CASE("ranks that are threads open their GPUs' memory pools to each other; ranks that share a GPU need not") {
  const simt::MachineRestored restored;
  simt::machine().devices = 3;
  run_ranks(3, [&](Group all) {
    World world(std::move(all), Layout{.dp = 3});
    cuda::Device device({.index = world.rank() / 2});  // 0, 0, 1
    use_nccl(world, device.stream());
  });
  CHECK(simt::machine().opened_pools == std::set<std::pair<int, int>>{{0, 1}, {1, 0}});
}

TEST_CASE("messages go round a ring both ways at once, started before any is awaited") {
  on_ranks({.pp = 3}, [](World& world, cuda::Device& device) {
    Group& ring = world.pipeline();
    const int next = (ring.rank() + 1) % 3, before = (ring.rank() + 2) % 3;
    const auto rank = static_cast<float>(ring.rank());
    for (int round = 0; round < 3; ++round) {
      OnDevice<float> forward(device, {rank, 1}), backward(device, {rank, 2}), from_before(device, {0, 0}), from_next(device, {0, 0});
      // The first messages of two directions meet one after the other, as those of a pipeline do.
      Pending sent = ring.rank() == 0 ? ring.start_send(View<const float, 1>(forward.view()), next) : Pending();
      Pending received = ring.start_receive(from_before.view(), before);
      if (ring.rank() != 0) sent = ring.start_send(View<const float, 1>(forward.view()), next);
      Pending back = ring.rank() == 0 ? ring.start_send(View<const float, 1>(backward.view()), before) : Pending();
      Pending got = ring.start_receive(from_next.view(), next);
      if (ring.rank() != 0) back = ring.start_send(View<const float, 1>(backward.view()), before);
      sent.wait(), received.wait(), back.wait(), got.wait();
      if (from_before.values() != std::vector<float>{static_cast<float>(before), 1}) fail("from before");
      if (from_next.values() != std::vector<float>{static_cast<float>(next), 2}) fail("from next");
    }
  });
}

TEST_CASE("the stages of a pipeline, ring or not, make their ways to each other before any step") {
  for (const int chunks : {1, 2})
    for (const int stages : {2, 3, 4})
      on_ranks({.pp = stages}, [&](World& world, cuda::Device& device) {
        const std::size_t meetings = simt::counts().meetings;
        world.all().barrier();
        StageLinks<float, cuda::Device> links(device, world, chunks, 8);
        world.all().barrier();
        const std::size_t made = simt::counts().meetings - meetings, both_ways = 2 * static_cast<std::size_t>(chunks > 1 ? stages : stages - 1);
        if (made != 2 * both_ways) fail("not as many ways as the stages have, each with two ends: ", made);
      });
  CHECK(simt::bytes_in_use() == 0);
}

TEST_CASE("ranks that meet while a transfer of one waits for what the other does behind the meeting are refused by the host's NCCL") {
  const auto says = Catch::Matchers::Contains("a transfer of this rank waits for one that comes behind the meeting");
  CHECK_THROWS_WITH(on_ranks({.pp = 2},
                             [](World& world, cuda::Device& device) {
                               Group& forward = world.pipeline();
                               Group backward = forward.split(0, world.stage(), "pipeline");
                               OnDevice<float> activation(device, {1}), gradient(device, {1});
                               const auto send = [&] { return forward.start_send(View<const float, 1>(activation.view()), 1); };
                               if (world.stage() == 0) {
                                 send().wait();
                                 Pending second = send();
                                 backward.receive(gradient.view(), 1);  // the two meet here
                                 second.wait();
                               } else {
                                 forward.receive(activation.view(), 0);
                                 backward.start_send(View<const float, 1>(gradient.view()), 0).wait();
                                 forward.receive(activation.view(), 0);
                               }
                             }),
                    says);
}

TEST_CASE("trainers on many GPUs compute what one rank computes") {
  compare<fp64, 2>({.tp = 2, .pp = 2, .dp = 1});
  compare<fp64, 1>({.tp = 1, .pp = 2, .dp = 2});
  TrainingConfig sharded = dealt_training;
  sharded.zero = 1, sharded.schedule = PipelineSchedule::zero_bubble;
  compare<fp64, 1>({.tp = 1, .pp = 2, .dp = 2}, sharded);
  sharded.schedule = PipelineSchedule::interleaved, sharded.chunks = 2;
  compare<fp64, 1>({.tp = 1, .pp = 2, .dp = 1}, sharded);
  sharded.schedule = PipelineSchedule::one_f_one_b, sharded.chunks = 1;
  compare<fp64, 2>({.tp = 2, .pp = 1, .dp = 2, .sequence_parallel = true}, sharded);
}

TEST_CASE("an engine on two GPUs, each with half of the vocabulary, draws one rank's tokens, by one graph on each") {
  const tests::RandomWeights<DealtModel> weights;
  const Prompt prompts[]{make_prompt({3, 4, tests::special.mask, 6}, tests::special), make_prompt({3, 4, tests::special.mask, 6, 7, 8, 9, 3, 5}, tests::special)};
  for (const Sampling& sampling : {Sampling{.top_k = 1, .max_tokens = 6, .min_tokens = 6}, Sampling{.top_p = 0.9f, .max_tokens = 6, .min_tokens = 6}}) {
    cpu::Device cpu_device({.threads = 1});
    Engine<DealtModel, fp64> one(cpu_device);
    one.load_weights(weights);
    std::vector<std::vector<std::int32_t>> expected;
    for (const Prompt& prompt : prompts) expected.push_back(one.generate(prompt, sampling, tests::special));
    const std::size_t captures = simt::counts().captures, runs = simt::counts().graph_runs;
    on_ranks({.tp = 2}, [&](World& world, cuda::Device& device) {
      Engine<DealtModel, fp64, Layout{.tp = 2}, cuda::Device> engine(device, world);
      engine.load_weights(weights);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        if (engine.generate(prompts[i], sampling, tests::special) != expected[i]) fail("rank ", world.rank(), " drew other tokens");
        device.workspace<std::byte>(workspace_bytes + (static_cast<std::int64_t>(2 * i + 1) << (20 + world.rank())));  // which grows at other times on other ranks, for whatever else they do
      }
    });
    CHECK(simt::counts().captures == captures + 2);  // the pass over one token, on each rank
    CHECK(simt::counts().graph_runs == runs + 2 * (expected[0].size() + expected[1].size() - 3));
  }
}

TEST_CASE("an engine on two GPUs draws the tokens of several sequences at once, from logits that it puts together there") {
  const tests::RandomWeights<DealtModel> weights;
  const std::vector<Prompt> prompts{make_prompt({3, 4, tests::special.mask, 6}, tests::special), make_prompt({3, 4, 5, tests::special.mask}, tests::special), make_prompt({9, tests::special.gmask}, tests::special)};
  const Sampling sampling{.top_p = 0.9f, .max_tokens = 7, .min_tokens = 5};
  cpu::Device cpu_device({.threads = 1});
  Engine<DealtModel, fp64> one(cpu_device, {.sequences = 2});
  one.load_weights(weights);
  const auto expected = generate_batch(one, prompts, sampling, tests::special);
  on_ranks({.tp = 2}, [&](World& world, cuda::Device& device) {
    Engine<DealtModel, fp64, Layout{.tp = 2}, cuda::Device> engine(device, world, {.sequences = 2});
    engine.load_weights(weights);
    const auto plan = plan_inference<DealtModel, fp64>(2, 0, 2);
    const std::int64_t head = device.memory().of("head");
    if (head < plan.head * 95 / 100 || head > plan.head * 105 / 100) fail(head, " bytes were allocated for the head, and ", plan.head, " planned");
    for (int round = 0; round < 2; ++round)
      if (generate_batch(engine, prompts, sampling, tests::special) != expected) fail("rank ", world.rank(), " drew other tokens");
  });
}

TEST_CASE("an engine whose transfers are counted decodes without a graph, which would hide them") {
  const tests::RandomWeights<DealtModel> weights;
  const Prompt prompt = make_prompt({3, 4, tests::special.mask, 6}, tests::special);
  const std::size_t captures = simt::counts().captures;
  on_ranks({.tp = 2}, [&](World& world, cuda::Device& device) {
    world.count();
    Engine<DealtModel, fp64, Layout{.tp = 2}, cuda::Device> engine(device, world);
    engine.load_weights(weights);
    const auto calls = [&](Transfer::Kind kind) {
      for (const AxisCount& axis : world.counts())
        if (axis.axis == "tensor") return axis.of(kind).calls;
      return std::int64_t{-1};
    };
    const auto tokens = static_cast<std::int64_t>(engine.generate(prompt, {.top_k = 1, .max_tokens = 6, .min_tokens = 6}, tests::special).size());
    if (calls(Transfer::Kind::all_gather) != tokens) fail(calls(Transfer::Kind::all_gather), " all-gathers of the logits of ", tokens, " tokens were counted");
    if (calls(Transfer::Kind::broadcast) != 1) fail(calls(Transfer::Kind::broadcast), " broadcasts were counted where rank 0 has nobody to ask behind a token");
    int heard = 0;  // rank 0's word counts, and is heard behind each token
    engine.generate(prompt, {.top_k = 1, .max_tokens = 6, .min_tokens = 6}, tests::special, [&](std::int32_t) { return ++heard < (world.rank() == 0 ? 3 : 1); });
    if (heard != 3 || calls(Transfer::Kind::broadcast) != 1 + 1 + 3) fail(heard, " tokens were heard, and ", calls(Transfer::Kind::broadcast), " broadcasts counted");
  });
  CHECK(simt::counts().captures == captures);
}

TEST_CASE("ranks on GPUs that nothing lets reach each other are told so, before the first transfer") {
  const auto error_of = [](const Layout& layout, auto make) {
    try {
      run_ranks(layout.ranks(), [&](Group all) {
        World world(std::move(all), layout);
        cuda::Device device;
        make(device, world);
      });
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto says = Catch::Matchers::Equals("2 ranks were given a device whose memory is not the host's, and a world that cannot move it between them: include <golem/comm/nccl.hpp> and call "
                                            "use_nccl(world, device.stream()) before the Trainer or Engine is made, or use one rank");
  CHECK_THAT(error_of({.dp = 2}, [](cuda::Device& device, World& world) { TrainerCore<DealtModel, fp64, 1, cuda::Device>(device, dealt_training, world); }), says);
  CHECK_THAT(error_of({.tp = 2},
                      [](cuda::Device& device, World& world) {
                        world.count();
                        Engine<DealtModel, fp64, Layout{.tp = 2}, cuda::Device>(device, world);
                      }),
             says);
  CHECK_THAT(error_of({.dp = 2},
                      [](cuda::Device& device, World& world) {
                        use_nccl(world, device.stream());
                        cuda::Device other;
                        TrainerCore<DealtModel, fp64, 1, cuda::Device>(other, dealt_training, world);
                      }),
             Catch::Matchers::Contains("its world transfers in the order of another one's work: use_nccl(world, device.stream()) takes the stream of the device that they compute on"));
  CHECK(error_of({.tp = 2}, [](cuda::Device& device, World& world) {  // counted on top of the carrier
          use_nccl(world, device.stream());
          world.count();
          Engine<DealtModel, fp64, Layout{.tp = 2}, cuda::Device>(device, world);
        }) == "");
}
