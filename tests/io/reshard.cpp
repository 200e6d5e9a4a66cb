// Resharding: any degree to any other, both layouts and back, bit for bit; stopped anywhere, it goes on; scales are those of each rank's rows.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/reshard.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/core/random.hpp"
#include "golem/io/checkpoint_target.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "golem/io/sat_target.hpp"
#include "golem/io/sat_weights.hpp"
#include "golem/quant/absmax.hpp"
#include "io/files.hpp"

using golem::DType, golem::float16, golem::ReshardPlan, golem::SatCheckpoint, golem::SatWeights;
using test::content, test::error_of, test::has;

namespace {

/// Divisible by 1, 2, 3, 4, 6, 8 and 12.
constexpr golem::ModelConfig divisible =
    golem::glm_130b::config.with([](auto& c) { c.layers = 2, c.hidden = 48, c.heads = 24, c.ffn = 72, c.vocab = 96; });

/// A model without files: element i of each tensor by its name; counts how often each element is read.
class Formula : public golem::TensorSource {
 public:
  static float16 element(const std::string& name, std::int64_t i) {
    return float16(
        (static_cast<float>(golem::Random{.seed = 3, .stream = golem::stream_of(name)}.below(static_cast<std::uint64_t>(i), 2001)) - 1000.0f) / 8192);
  }
  bool has(const std::string&) const override { return true; }
  void read(const golem::TensorState& wanted) const override {
    const golem::MatrixExtent extent = golem::matrix_extent(wanted.shape, wanted.name);
    const golem::Slice slice = wanted.slice.value_or(golem::whole_slice(extent));
    golem::check_slice(slice, extent, wanted.name);
    REQUIRE(wanted.bytes == static_cast<std::size_t>(slice.size()) * 2);
    largest = std::max(largest, wanted.bytes);
    for (const auto& block : golem::SliceBlocks(slice))
      for (std::int64_t r = 0; r < block.rows.count; ++r)
        for (std::int64_t c = 0; c < block.columns.count; ++c) {
          const std::int64_t i = (block.rows.begin + r) * extent.columns + block.columns.begin + c;
          static_cast<float16*>(wanted.data)[block.offset + r * block.stride + c] = element(wanted.name, i);
          ++reads;
        }
  }
  mutable std::int64_t reads = 0;
  mutable std::size_t largest = 0;
};

void convert(const golem::TensorSource& source, const ReshardPlan& plan, const std::string& to,
             const golem::ReshardOptions& options = {.block = 1000}) {
  golem::SatTarget target(to, "49300", plan, "a test", {}, 3000);
  golem::reshard(source, plan, target, options);
}

/// Every tensor of a source, as one rank has it.
std::map<std::string, std::vector<std::uint16_t>> all_of(const golem::TensorSource& source) {
  std::map<std::string, std::vector<std::uint16_t>> all;
  golem::for_each_parameter(divisible, golem::whole(divisible), [&](const golem::Parameter& p, int layer) {
    std::vector<std::int64_t> shape{p.rows};
    if (p.columns > 0) shape.push_back(p.columns);
    auto& values = all[golem::full_name(p, layer)];
    values.resize(static_cast<std::size_t>(p.size()));
    source.read({.name = golem::full_name(p, layer), .type = DType::f16, .shape = shape, .data = values.data(), .bytes = values.size() * 2});
  });
  return all;
}

std::map<std::string, std::vector<std::uint16_t>> all_of_sat(const std::string& path) {
  const SatCheckpoint checkpoint(path);
  return all_of(SatWeights(checkpoint, golem::sat_model(checkpoint, divisible.heads)));
}

const auto quantize4 = [](const float16* weights, std::int64_t rows, std::int64_t columns, std::uint8_t* bytes, float16* scales) {
  constexpr golem::Quant four{.bits = 4};
  golem::quantize(golem::QuantizedView<four, std::uint8_t>(rows, columns, bytes, scales), golem::View<const float16, 2>(weights, rows, columns));
};

}  // namespace

TEST_CASE("from any degree to any other a model stays what it is, element by element") {
  const test::Folder folder;
  const Formula formula;
  const auto expected = all_of(formula);
  std::map<int, std::map<std::string, std::string>> direct;
  for (const int tp : {1, 2, 3, 8, 12}) {
    formula.reads = 0, formula.largest = 0;
    convert(formula, {divisible, tp}, folder / golem::sentence(tp));
    CHECK(formula.reads == golem::parameter_count(divisible));  // each element once
    CHECK(formula.largest <= 1000);
    CHECK(all_of_sat(folder / golem::sentence(tp)) == expected);
    direct[tp] = content(folder / golem::sentence(tp));
    CHECK(direct[tp].size() == static_cast<std::size_t>(tp) + 1);
  }
  for (const auto& [from, to] : std::vector<std::pair<int, int>>{{8, 3}, {3, 8}, {8, 12}, {12, 8}, {2, 8}, {8, 1}, {1, 3}, {3, 2}}) {
    const SatCheckpoint source(folder / golem::sentence(from));
    convert(SatWeights(source, golem::sat_model(source, divisible.heads)), {divisible, to}, folder / "again");
    CHECK(content(folder / "again") == direct[to]);
    std::filesystem::remove_all(folder / "again");
  }
  const SatCheckpoint source(folder / "8");
  CHECK(has(error_of([&] { golem::require_divisible(divisible, 5, "no"); }),
            "5 ranks do not divide this model's 24 heads, feed-forward of 72 and vocabulary of 96"));
  CHECK(has(error_of([&] { convert(formula, {divisible, 3}, folder / "3"); }), "exists already"));
}

TEST_CASE("the GLU's halves are cut each by itself") {
  const test::Folder folder;
  convert(Formula(), {divisible, 3}, folder / "three");
  const SatCheckpoint three(folder / "three");
  const std::string name =
      "transformer.layers.1.mlp.dense_h_to_4h.bias";  // 144 rows: on rank 1, 24 .. 47 of the linear half and 96 .. 119 of the gate
  const golem::SatTensor& part = *three.shard(1).find(name);
  REQUIRE(part.extent.rows == 48);
  for (std::int64_t i = 0; i < 48; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, part.data + 2 * i, 2);
    CHECK(bits == Formula::element(name, i < 24 ? 24 + i : 72 + i).bits);
  }
}

TEST_CASE("golem's own checkpoints are written and read, and both ways lead back") {
  const test::Folder folder;
  const Formula formula;
  const ReshardPlan plan{divisible, 1};
  {
    golem::CheckpointTarget target(folder / "golem", 49300, plan, "a test", {}, 20000);
    golem::reshard(formula, plan, target, {.block = 1000});
  }
  const golem::CheckpointWeights weights(folder / "golem", {.model = golem::describe(divisible)});
  CHECK(weights.reader().state().step == 49300);
  CHECK(all_of(weights) == all_of(formula));
  CHECK(std::filesystem::exists(folder / "golem/step-00049300/model.safetensors.index.json"));
  convert(weights, {divisible, 8}, folder / "eight");
  CHECK(all_of_sat(folder / "eight") == all_of(formula));
}

TEST_CASE("what cannot be written is refused before anything of an interrupted conversion is touched") {
  const test::Folder folder;
  {
    golem::CheckpointTarget target(folder / "half", 49300, {divisible, 1}, "a test", {}, 5000);
    const auto stop = [](std::uint64_t done, std::uint64_t) { return done < 25000; };
    CHECK(has(error_of([&] { golem::reshard(Formula(), {divisible, 1}, target, {.block = 1000, .on_progress = stop}); }), "stopped"));
  }
  const auto before = content(folder / ".half.unfinished");
  REQUIRE(before.size() > 2);
  for (const char* name : {"half", "none"}) {
    const std::string error = error_of([&] { golem::CheckpointTarget(folder / name, 49300, {divisible, 2}, "a test"); });
    CHECK(has(error, "cannot be written for 2 ranks"));
    CHECK(has(error, "leave --tp out, or choose --layout sat"));
  }
  for (const char* iteration : {"", ".", "..", ".x", "a/b", "49300 ", "step-00000100"})
    CHECK(has(error_of([&] { golem::SatTarget(folder / "half", iteration, {divisible, 2}, "a test"); }),
              golem::sentence("cannot have its shards in a folder '", iteration, "', which its file 'latest' is to name")));
  const golem::ModelConfig shared = divisible.with([](auto& c) { c.kv_heads = 1; });
  CHECK(has(error_of([&] { golem::SatTarget(folder / "half", "49300", {shared, 1}, "a test"); }), "has a key and a value for every head, and this model has 1 key heads for"));
  const auto saying = [&](auto change) { return error_of([&] { golem::SatTarget(folder / "half", "49300", {.config = divisible, .model = golem::describe(divisible.with(change))}, "a test"); }); };
  CHECK(has(saying([](auto& c) { c.rope_table = golem::RopeTable::exact; }), "takes position rope 10000 fp16, while this model says position rope 10000 exact: choose golem's own layout"));
  CHECK(has(saying([](auto& c) { c.norm = golem::Norm::pre; }), "while this model says norm pre 1e-05"));
  CHECK(has(saying([](auto& c) { c.mask = golem::Mask::causal; }), "while this model says mask causal"));
  CHECK(content(folder / ".half.unfinished") == before);
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{".half.unfinished"});
}

TEST_CASE("a weight that the wanted type cannot hold stops a conversion") {
  class Overflow : public Formula {
    void read(const golem::TensorState& wanted) const override {
      Formula::read(wanted);
      if (wanted.name == "transformer.final_layernorm.bias") static_cast<float16*>(wanted.data)[3] = float16(1e6f);
    }
  };
  const test::Folder folder;
  CHECK(has(error_of([&] {
              convert(Overflow(), {divisible, 2}, folder / "two");
            }),
            "tensor 'transformer.final_layernorm.bias' has a value that f16 cannot hold: convert it to a wider type"));
  CHECK(!std::filesystem::exists(folder / "two"));
}

TEST_CASE("a conversion that stops goes on, and what it leaves is what an uninterrupted one leaves") {
  const test::Folder folder;
  const Formula formula;
  const bool sat = GENERATE(true, false);
  const ReshardPlan plan{divisible, sat ? 3 : 1, DType::f16, {.bits = 4, .quantize = quantize4}};
  const auto attempt = [&](const std::string& to, std::uint64_t stop) {
    std::unique_ptr<golem::ReshardTarget> target;
    if (sat)
      target = std::make_unique<golem::SatTarget>(to, "49300", plan, "a test", golem::FileStep{}, 3000);
    else
      target = std::make_unique<golem::CheckpointTarget>(to, 49300, plan, "a test", golem::FileStep{}, 5000);
    const std::size_t before = target->completed();
    const auto go_on = [&](std::uint64_t done, std::uint64_t) { return done < stop; };
    const std::string error = error_of([&] { golem::reshard(formula, plan, *target, {.block = 1000, .on_progress = go_on}); });
    CHECK((error == "no error" || has(error, "the same command goes on from there")));
    return before;
  };
  attempt(folder / "straight", ~0ull);
  std::size_t last = 0, resumed = 0;
  for (std::uint64_t stop = 1000; !std::filesystem::exists(folder / "stopped"); stop += 2500) {
    const std::size_t before = attempt(folder / "stopped", stop);
    CHECK(before >= last);
    resumed += before > last, last = before;
    REQUIRE(stop < 1000000);
  }
  CHECK(resumed >= 3);
  CHECK(content(folder / "stopped") == content(folder / "straight"));
  CHECK(!std::filesystem::exists(folder / ".stopped.unfinished"));

  // What lies there of another conversion, or is damaged, is begun anew.
  attempt(folder / "other", 25000);
  const std::string journal = folder / ".other.unfinished/journal", noted = test::read(journal);
  REQUIRE(std::count(noted.begin(), noted.end(), '\n') > 1);
  std::string older = noted;  // another version writes another pickle, and maybe other weights
  const std::size_t number = noted.find(golem::sentence("golem ", golem::version.major, ".", golem::version.minor, "."));
  REQUIRE(number == 0);
  older[6] = '9';
  for (const std::string& text : {older, "golem conversion of something else\n" + noted.substr(noted.find('\n') + 1), noted.substr(0, noted.size() - 2),
                                  noted + "nonsense\n", noted + "1 2", std::string(), std::string("x")}) {
    std::filesystem::remove_all(folder / ".again.unfinished");
    std::filesystem::copy(folder / ".other.unfinished", folder / ".again.unfinished", std::filesystem::copy_options::recursive);
    test::write(folder / ".again.unfinished/journal", text);
    const std::size_t before = attempt(folder / "again", ~0ull);
    CHECK((before == 0 || text != older));
    CHECK(content(folder / "again") == content(folder / "straight"));
    std::filesystem::remove_all(folder / "again");
  }
}

TEST_CASE("a stop notes what is complete, and never a matrix without its scales") {
  const test::Folder folder;
  const ReshardPlan plan{divisible, 2, DType::f16, {.bits = 4, .quantize = quantize4}};
  const auto make = [&](const std::string& to) { return golem::SatTarget(to, "49300", plan, "a test"); };  // notes each GiB
  {
    golem::SatTarget target = make(folder / "straight");
    golem::reshard(Formula(), plan, target);
  }
  const std::vector<golem::ReshardedTensor> tensors = golem::resharded_tensors(plan);
  for (std::uint64_t stop = 1; stop < 60000; stop += 4001) {
    const std::string to = folder / golem::sentence("stopped ", stop);
    std::uint64_t written = 0;
    {
      golem::SatTarget target = make(to);
      const auto go_on = [&](std::uint64_t done, std::uint64_t) { return written = done, done < stop; };
      if (error_of([&] { golem::reshard(Formula(), plan, target, {.block = 500, .on_progress = go_on}); }) == "no error") break;
    }
    golem::SatTarget target = make(to);
    std::uint64_t kept = 0;
    for (std::size_t i = 0; i < target.completed(); ++i) kept += tensors[i].local.bytes * 2;
    CHECK(kept < written);
    CHECK(kept + tensors[target.completed()].local.bytes * 2 + 1000 >= written);  // all but the tensor begun, or its scales
    CHECK(!tensors[target.completed()].scales);
    golem::reshard(Formula(), plan, target);
    CHECK(content(to) == content(folder / "straight"));
  }
}

TEST_CASE("quantised while converting: each rank's rows have their own scales, as the original's quantiser stores them") {
  const test::Folder folder;
  const Formula formula;
  const int tp = 3;
  convert(formula, {divisible, tp, DType::f16, {.bits = 4, .quantize = quantize4}}, folder / "int4");
  const SatCheckpoint checkpoint(folder / "int4");
  const golem::SatModel model = golem::sat_model(checkpoint, divisible.heads);
  CHECK(model.bits == 4);
  CHECK(model.config == divisible);
  const std::string name = "transformer.layers.1.mlp.dense_4h_to_h.weight";  // (48, 24) on a rank
  for (int rank = 0; rank < tp; ++rank) {
    const golem::SatTensor &packed = *checkpoint.shard(rank).find(name), &scales = *checkpoint.shard(rank).find(name + "_scale");
    REQUIRE((packed.type == DType::i8 && packed.extent.rows == 48 && packed.extent.columns == 12 && scales.type == DType::f16 &&
             scales.shape == std::vector<std::int64_t>{48}));
    for (std::int64_t row = 0; row < 48; ++row) {
      std::vector<float16> weights;
      for (std::int64_t column = 0; column < 24; ++column) weights.push_back(Formula::element(name, row * 72 + rank * 24 + column));
      std::vector<std::uint8_t> bytes(12);
      float16 scale;
      quantize4(weights.data(), 1, 24, bytes.data(), &scale);
      CHECK(std::memcmp(packed.data + row * 12, bytes.data(), 12) == 0);
      CHECK(std::memcmp(scales.data + row * 2, &scale, 2) == 0);
    }
    const SatWeights weights(checkpoint, model, tp, rank);
    CHECK(weights.has(name + "_scale"));
    CHECK(!weights.has("transformer.final_layernorm.weight_scale"));
    std::vector<std::uint8_t> bytes(48 * 12);
    weights.read({.name = name, .type = DType::i8, .shape = {48, 12}, .data = bytes.data(), .bytes = bytes.size()});
    CHECK(std::memcmp(packed.data, bytes.data(), bytes.size()) == 0);
    CHECK(has(error_of([&] {
                weights.read({.name = name, .type = DType::i8, .shape = {48, 24}, .data = bytes.data(), .bytes = 48 * 24});
              }),
              "it is of shape (48, 12) in 4 bits, expected (48, 24)"));
  }
  CHECK(has(error_of([&] { SatWeights(checkpoint, model, 1); }), "was quantised for 3 ranks, and cannot be loaded by 1"));
}
