// The engine on the CUDA engine: quantised weights, the pass over one token as a graph, and tokens chosen on the GPU.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "ops/engine.hpp"
// behind it, what needs the engine
#include "infer/random_weights.hpp"

using namespace golem;
using tests::RandomWeights, tests::special;

namespace {

struct Answering {
  static constexpr auto config = checked({.layers = 2, .hidden = 48, .heads = 3, .ffn = 40, .vocab = 37, .context = 24, .embedding_std = 0.5});
};

/// Whose cache is read in several parts, and whose heads share their keys.
struct Long {
  static constexpr auto config = Answering::config.with([](auto& c) { c.context = 160, c.kv_heads = 1; });
};

template <class P>
using OnCuda = Engine<Answering, P, Layout{}, cuda::Device>;

Sampling twenty(Sampling sampling) {
  sampling.max_tokens = sampling.min_tokens = 20;
  return sampling;
}

const Prompt& prompt() {
  static const Prompt made = make_prompt({3, 4, special.mask, 6}, special);
  return made;
}

/// The logits behind the prompt, and behind one token more.
template <class EngineType>
std::vector<double> logits_of(EngineType& engine, std::int32_t slot = 0) {
  std::vector<double> all;
  const auto keep = [&](const SequenceStep& step) {
    const auto logits = engine.forward({&step, 1});
    for (std::int64_t v = 0; v < logits.size(); ++v) all.push_back(static_cast<double>(logits.data[v]));
  };
  keep({.slot = slot, .first = 0, .prefix = prompt().prefix(), .tokens = prompt().tokens, .positions = prompt().positions});
  const std::int32_t token = 7, position = prompt().position(0);
  keep({.slot = slot, .first = static_cast<std::int32_t>(prompt().tokens.size()), .prefix = prompt().prefix(), .tokens = {&token, 1}, .positions = {&position, 1}});
  return all;
}

/// The same model on both engines.
template <class P>
struct Pair {
  explicit Pair(int sequences = 1) : on_cpu(cpu_device, {.sequences = sequences}), on_cuda(cuda_device, {.sequences = sequences}) {
    on_cpu.load_weights(RandomWeights<Answering>());
    on_cuda.load_weights(RandomWeights<Answering>());
  }

  cpu::Device cpu_device{cpu::Device::Options{.threads = 1}};
  cuda::Device cuda_device;
  Engine<Answering, P> on_cpu;
  OnCuda<P> on_cuda;
};

template <class P>
void compare_engines(double tolerance) {
  Pair<P> engines;
  const auto expected = logits_of(engines.on_cpu), got = logits_of(engines.on_cuda);
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  for (const double logit : expected) largest = std::max(largest, std::abs(logit));
  for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(std::abs(got[i] - expected[i]) <= tolerance * largest);
  CHECK(engines.on_cuda.generate(prompt(), twenty(greedy), special) == engines.on_cpu.generate(prompt(), twenty(greedy), special));
}

/// Graphs since this was made, as the host's runtime counts them; a GPU's counts none.
class Graphs {
 public:
#if defined(GOLEM_TEST_GPU)
  void check_captured(std::size_t) const {}
  void check_run(std::size_t) const {}
#else
  void check_captured(std::size_t expected) const { CHECK(simt::counts().captures - captures_ == expected); }
  void check_run(std::size_t expected) const { CHECK(simt::counts().graph_runs - runs_ == expected); }

 private:
  std::size_t captures_ = simt::counts().captures, runs_ = simt::counts().graph_runs;
#endif
};

}  // namespace

TEST_CASE("quantised engines generate what the CPU's do") {
  compare_engines<quantized<Quant{.bits = 8}>>(1e-5);
  compare_engines<quantized<Quant{.bits = 4, .group = 32}, fp16>>(5e-3);
}

TEST_CASE("a prompt of many tokens meets elements of quantised weights, and what follows it the weights as they lie") {
  using P = quantized<Quant{.bits = 4, .group = 32}>;
  const RandomWeights<Long> weights;
  cpu::Device host(cpu::Device::Options{.threads = 1});
  cuda::Device device;
  Engine<Long, P> on_cpu(host);
  Engine<Long, P, Layout{}, cuda::Device> on_cuda(device);
  on_cpu.load_weights(weights);
  on_cuda.load_weights(weights);
  std::vector<std::int32_t> text(fewest_dequantized_tokens + 5, 5);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::int32_t>(7 * i % 29);
  text[100] = special.mask;
  const Prompt many = make_prompt(text, special);
  const auto expected = on_cpu.generate(many, twenty(greedy), special);
  CHECK(expected.size() > 15);
  on_cuda.generate(prompt(), twenty(greedy), special);  // whose graph keeps the workspace that it finds
  CHECK(on_cuda.generate(many, twenty(greedy), special) == expected);
  CHECK(device.memory().of("workspace") == plan_inference<Long, P>().workspace);
}

#if defined(GOLEM_TEST_CUDA)
namespace {

struct Deeper {
  static constexpr auto config = Long::config.with([](auto& c) { c.layers = 5; });
};

/// Kernels and products of cuBLASLt that a new token takes, when its sequence has a cache.
template <class M, class P>
std::size_t launches_of_a_token() {
  cuda::Device device({.graphs = false});
  Engine<M, P, Layout{}, cuda::Device> engine(device);
  engine.load_weights(RandomWeights<M>());
  logits_of(engine);
  const std::size_t before = simt::counts().kernels + simt::counts().products;
  const std::int32_t token = 7, position = prompt().position(1);
  const SequenceStep step{.slot = 0, .first = static_cast<std::int32_t>(prompt().tokens.size()) + 1, .prefix = prompt().prefix(), .tokens = {&token, 1}, .positions = {&position, 1}};
  engine.forward({&step, 1});
  return simt::counts().kernels + simt::counts().products - before;
}

}  // namespace

TEST_CASE("a token takes ten kernels a block: four products, rotation into the cache, two of attention, the activation, two sums with the norms behind them") {
  CHECK(launches_of_a_token<Deeper, quantized<Quant{.bits = 4}>>() - launches_of_a_token<Long, quantized<Quant{.bits = 4}>>() == 3 * 10);
  CHECK(launches_of_a_token<Deeper, fp32>() - launches_of_a_token<Long, fp32>() == 3 * 10);
}
#endif

TEST_CASE("a graph of the pass over one token generates what single kernels do, and is captured once") {
  const RandomWeights<Answering> weights;
  cuda::Device plain({.graphs = false}), device;
  OnCuda<fp32> by_kernels(plain), by_graph(device, {.sequences = 2});
  by_kernels.load_weights(weights);
  by_graph.load_weights(weights);
  const Graphs graphs;
  const auto expected = by_kernels.generate(prompt(), twenty(greedy), special);
  graphs.check_captured(0);
  CHECK(expected.size() > 15);
  CHECK(by_graph.generate(prompt(), twenty(greedy), special) == expected);
  graphs.check_captured(1);
  graphs.check_run(expected.size() - 2);  // behind the prompt, and behind the first token's own kernels
  CHECK(by_graph.generate(prompt(), twenty(greedy), special) == expected);
  graphs.check_captured(1);

  device.workspace<std::byte>(2 * workspace_bytes);  // another; the graph keeps its own
  CHECK(by_graph.generate(prompt(), twenty(greedy), special) == expected);
  CHECK_THROWS_WITH(device.workspace<std::byte>(std::int64_t{1} << 40), Catch::Matchers::Contains("out of memory"));  // which has cost the device's
  CHECK(by_graph.generate(prompt(), twenty(greedy), special) == expected);
  graphs.check_captured(1);
}

TEST_CASE("a graph that reads the cache in parts goes on where one more is needed") {
  const RandomWeights<Long> weights;
  cpu::Device host(cpu::Device::Options{.threads = 1});
  cuda::Device plain({.graphs = false}), device;
  Engine<Long, fp32> on_cpu(host);
  Engine<Long, fp32, Layout{}, cuda::Device> by_kernels(plain), by_graph(device);
  on_cpu.load_weights(weights);
  by_kernels.load_weights(weights);
  by_graph.load_weights(weights);
  std::vector<std::int32_t> text(24, 5);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::int32_t>(7 * i % 29);
  text[20] = special.mask;
  const Prompt long_prompt = make_prompt(text, special);
  const auto expected = by_kernels.generate(long_prompt, twenty(greedy), special);
  CHECK(expected.size() > 15);
  CHECK(on_cpu.generate(long_prompt, twenty(greedy), special) == expected);
  const Graphs graphs;
  CHECK(by_graph.generate(long_prompt, twenty(greedy), special) == expected);
  graphs.check_captured(1);
}

TEST_CASE("another number of sequences is another graph") {
  const RandomWeights<Answering> weights;
  cuda::Device plain({.graphs = false}), device;
  OnCuda<fp32> by_kernels(plain, {.sequences = 2}), by_graph(device, {.sequences = 2});
  by_kernels.load_weights(weights);
  by_graph.load_weights(weights);
  const auto run = [](OnCuda<fp32>& engine) {
    std::vector<double> all = logits_of(engine, 0);
    logits_of(engine, 1);
    for (std::int32_t i = 1; i < 5; ++i) {
      const std::int32_t tokens[]{i, 30 - i}, position = prompt().position(i), first = static_cast<std::int32_t>(prompt().tokens.size()) + i;
      const SequenceStep steps[]{{.slot = 1, .first = first, .prefix = prompt().prefix(), .tokens = {tokens, 1}, .positions = {&position, 1}},
                                 {.slot = 0, .first = first, .prefix = prompt().prefix(), .tokens = {tokens + 1, 1}, .positions = {&position, 1}}};
      const auto logits = engine.forward(steps);
      all.insert(all.end(), logits.data, logits.data + logits.size());
    }
    return all;
  };
  const auto expected = run(by_kernels);
  const Graphs graphs;
  CHECK(run(by_graph) == expected);
  graphs.check_captured(2);  // for one sequence and for two
}

TEST_CASE("beams, whose number changes, find on the GPU what they find on the CPU") {
  Pair<fp32> engines(3);
  const BeamSearchOptions options{.beams = 3, .min_tokens = 6, .max_tokens = 8};
  const auto expected = generate_beams(engines.on_cpu, prompt(), options, special), found = generate_beams(engines.on_cuda, prompt(), options, special);
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].tokens == expected[i].tokens);
}

TEST_CASE("prompts that are answered together get the CPU's answers") {
  Pair<fp32> engines(2);
  const std::vector<Prompt> prompts{prompt(), make_prompt({9, 2, 2, 5}, special), make_prompt({special.mask, 5}, special)};
  for (const Sampling& sampling : {greedy, Sampling{.temperature = 0.8f, .answer = 3}})
    CHECK(generate_batch(engines.on_cuda, prompts, twenty(sampling), special) == generate_batch(engines.on_cpu, prompts, twenty(sampling), special));
}

TEST_CASE("tokens that are sampled on the GPU are the CPU's") {
  Pair<fp32> engines;
  const std::int32_t invalid[]{5, 9};
  for (const Sampling& sampling : {Sampling{.temperature = 0.8f}, Sampling{.temperature = 0.8f, .answer = 3}, Sampling{.top_k = 5, .top_p = 0.9f, .invalid = invalid}, Sampling{.top_k = 3, .rules = SamplingRules::original}}) {
    const auto expected = engines.on_cpu.generate(prompt(), twenty(sampling), special);
    CHECK(expected.size() > 15);
    CHECK(engines.on_cuda.generate(prompt(), twenty(sampling), special) == expected);
  }
  CHECK_THROWS_WITH(engines.on_cuda.generate(prompt(), {.invalid = std::vector<std::int32_t>{37}}, special), Catch::Matchers::Contains("the vocabulary has 37"));
}

TEST_CASE("what is captured as a graph neither allocates nor waits, and a failure leaves the device as it was") {
  cuda::Device device;
  cuda::Device::Recording recording;
  int runs = 0;
  device.replay(recording, 1, [&] { ++runs; });
  CHECK_THROWS_WITH(device.replay(recording, 1, [&] { device.allocate(64, "test"); }), Catch::Matchers::Contains("tried to allocate memory"));
  CHECK_THROWS_WITH(device.replay(recording, 1, [&] { device.synchronize(); }), Catch::Matchers::Contains("tried to wait for the GPU"));
  CHECK_THROWS_WITH(device.replay(recording, 1, [&] { device.copy_out(&runs, &runs, sizeof runs); }), Catch::Matchers::Contains("tried to copy to the host"));
  const Buffer<float, cuda::Device> buffer(device, 3, "test");
  device.replay(recording, 1, [&] { device.clear(buffer.data(), buffer.bytes()); });
  device.replay(recording, 1, [&] { ++runs; });  // the graph instead
  device.synchronize();
  CHECK(runs == 1);
}

TEST_CASE("a graph keeps the workspace that it was captured with; what finds less than before begins again as it is") {
  cuda::Device device;
  int runs = 0;
  {
    cuda::Device::Recording recording;
    const Buffer<float, cuda::Device> result(device, 4, "test");
    const auto work = [&] {
      ++runs;
      float* space = device.workspace<float>(4);
      device.clear(space, 4 * sizeof(float));
      device.copy(result.data(), space, 4 * sizeof(float));
    };
    device.replay(recording, 1, work);
    CHECK_THROWS_WITH(device.workspace<std::byte>(std::int64_t{1} << 40), Catch::Matchers::Contains("out of memory"));  // which has cost it
    device.replay(recording, 1, work);
    CHECK(runs == 2);
    device.replay(recording, 1, work);  // captured
    device.workspace<std::byte>(1024);
    CHECK(device.memory().of("workspace") == 16 + 1024);
    device.replay(recording, 1, work);
    CHECK(runs == 3);
    float values[4]{1, 1, 1, 1};
    device.copy_out(values, result.data(), sizeof values);
    CHECK(values[3] == 0);
  }
  CHECK(device.memory().of("workspace") == 1024);
}
