// Engines load released checkpoints: plain and quantised, of any degree, they compute what an engine computes from golem's own checkpoint.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/open_weights.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/core/random.hpp"
#include "golem/golem.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/io/checkpoint_target.hpp"
#include "golem/io/sat_target.hpp"
#include "io/files.hpp"

using golem::float16, golem::ReshardPlan;

namespace {

struct tiny {
  static constexpr auto config = golem::checked(
      golem::glm_130b::config.with([](auto& c) { c.layers = 2, c.hidden = 64, c.heads = 4, c.ffn = 96, c.vocab = 80, c.context = 32; }));
};

class RandomWeights : public golem::TensorSource {
 public:
  bool has(const std::string& name) const override { return !name.ends_with("_scale"); }
  void read(const golem::TensorState& wanted) const override {
    const golem::MatrixExtent extent = golem::matrix_extent(wanted.shape, wanted.name);
    const golem::Random random{.seed = 5, .stream = golem::stream_of(wanted.name)};
    const float middle = wanted.name.ends_with("layernorm.weight") ? 1.0f : 0.0f;
    for (const auto& block : golem::SliceBlocks(wanted.slice.value_or(golem::whole_slice(extent))))
      for (std::int64_t r = 0; r < block.rows.count; ++r)
        for (std::int64_t c = 0; c < block.columns.count; ++c) {
          const auto i = static_cast<std::uint64_t>((block.rows.begin + r) * extent.columns + block.columns.begin + c);
          static_cast<float16*>(wanted.data)[block.offset + r * block.stride + c] = float16(middle + 0.1f * static_cast<float>(random.normal(i)));
        }
  }
};

/// Logits after a prompt.
template <class P, golem::Layout layout = golem::Layout{}>
std::vector<float> logits(const std::string& path) {
  std::vector<float> all;
  golem::run_world(layout, [&](golem::World& world) {
    golem::cpu::Device device({.threads = 1});
    golem::Engine<tiny, P, layout> engine(device, world);
    engine.load_weights(*golem::open_weights(path, tiny::config, layout.tp, world.rank()));
    const std::vector<std::int32_t> tokens{1, 5, 33, 79, 2}, positions{0, 1, 2, 3, 4};
    const golem::SequenceStep step{.slot = 0, .first = 0, .prefix = 3, .tokens = tokens, .positions = positions};
    const auto found = engine.forward({&step, 1});
    if (world.rank() == 0) all.assign(found.data, found.data + found.extent(1));
  });
  return all;
}

const auto quantize8 = [](const float16* weights, std::int64_t rows, std::int64_t columns, std::uint8_t* bytes, float16* scales) {
  constexpr golem::Quant eight{.bits = 8};
  golem::quantize(golem::QuantizedView<eight, std::uint8_t>(rows, columns, bytes, scales), golem::View<const float16, 2>(weights, rows, columns));
};

void write(const std::string& to, const ReshardPlan& plan) {
  golem::SatTarget target(to, "49300", plan, "a test");
  golem::reshard(RandomWeights(), plan, target);
}

using int8 = golem::quantized<golem::Quant{.bits = 8}>;
constexpr golem::Layout two{.tp = 2};

}  // namespace

TEST_CASE("an engine's logits are the same from released shards of any degree and from golem's own checkpoint") {
  const test::Folder folder;
  const ReshardPlan plan{.config = tiny::config};
  golem::CheckpointTarget own(folder / "own", 49300, plan, "a test");
  golem::reshard(RandomWeights(), plan, own);
  write(folder / "four", {.config = tiny::config, .tp = 4});
  write(folder / "one", {.config = tiny::config, .tp = 1});
  const std::vector<float> expected = logits<golem::fp32>(folder / "own");
  REQUIRE(expected.size() == 80);
  CHECK(expected[0] != expected[1]);
  CHECK(logits<golem::fp32>(folder / "four") == expected);
  CHECK(logits<golem::fp32>(folder / "one") == expected);
  CHECK(logits<golem::fp32, two>(folder / "four") == logits<golem::fp32, two>(folder / "own"));
  CHECK(logits<int8>(folder / "four") == logits<int8>(folder / "own"));
  constexpr auto shallow = tiny::config.with([](auto& c) { c.layers = 1; });
  CHECK(test::has(test::error_of([&] { golem::open_weights(folder / "own", shallow); }), "was saved for another model: it says 'layers 2, "));
  CHECK(golem::open_weights(folder / "own", shallow, 1, 0, {.model = golem::describe(tiny::config)})->has("transformer.final_layernorm.bias"));
}

TEST_CASE("a checkpoint that says nothing of its model, as golem::save leaves it, is known by its shapes") {
  struct state {
    std::vector<float> memory = std::vector<float>(2 * 96 * 64, 0.5f);
    void visit_state(golem::StateVisitor& visitor) {
      golem::for_each_parameter(tiny::config, golem::whole(tiny::config), [&](const golem::Parameter& p, int layer) {
        std::vector<std::int64_t> shape{p.rows};
        if (p.columns > 0) shape.push_back(p.columns);
        REQUIRE(static_cast<std::size_t>(p.size()) <= memory.size());
        visitor.tensor({.name = golem::full_name(p, layer), .type = golem::DType::f32, .shape = shape, .data = memory.data(), .bytes = static_cast<std::size_t>(p.size()) * 4});
      });
    }
  } saved;
  const test::Folder folder;
  golem::save(folder / "run", 7, saved);
  const std::unique_ptr<golem::TensorSource> weights = golem::open_weights(folder / "run", tiny::config);
  std::vector<float> bias(64);
  weights->read({.name = "transformer.final_layernorm.bias", .type = golem::DType::f32, .shape = {64}, .data = bias.data(), .bytes = 256});
  CHECK(bias == std::vector<float>(64, 0.5f));
  constexpr auto shallow = tiny::config.with([](auto& c) { c.layers = 1; });
  CHECK(test::has(test::error_of([&] { golem::open_weights(folder / "run", shallow); }), "has layers 2, expected 1: it is of another model"));
  CHECK(test::has(test::error_of([&] { golem::open_weights(folder / "run", tiny::config, 1, 0, {.model = "mine"}); }), "was saved for another model: it says ''"));
}

TEST_CASE("an engine loads shards that were quantised for its ranks, with each rank's own scales") {
  const test::Folder folder;
  write(folder / "plain", {.config = tiny::config, .tp = 4});
  write(folder / "two", {.config = tiny::config, .tp = 2, .format = {.bits = 8, .quantize = quantize8}});
  write(folder / "one", {.config = tiny::config, .tp = 1, .format = {.bits = 8, .quantize = quantize8}});
  CHECK(logits<int8>(folder / "one") == logits<int8>(folder / "plain"));  // quantised when loaded
  CHECK(logits<int8, two>(folder / "two") == logits<int8, two>(folder / "plain"));
  CHECK(test::has(test::error_of([&] { logits<int8>(folder / "two"); }), "was quantised for 2 ranks, and cannot be loaded by 1"));
  CHECK(test::has(test::error_of([&] { golem::open_weights(folder / "one", golem::glm_tiny::config); }), ", expected "));
}
