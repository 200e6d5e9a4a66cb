// The engine against the original's own code: hidden states behind each layer, keys and values, logits, scores of choices.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golden/golden.hpp"
#include "worse.hpp"

using namespace golden;
using tests::worse;

namespace {

/// Of a tensor, or of a layer's part of it: the largest difference, in units of the largest golden value, and the share of elements that are
/// the golden ones to the bit. What was not computed is left out.
struct Agreement {
  double difference = 0, equal = 0;
};

Agreement compare(const std::vector<double>& got, const std::vector<double>& want, std::size_t begin, std::size_t end) {
  double top = 0, difference = 0, equal = 0, count = 0;
  for (std::size_t i = begin; i < end; ++i) {
    top = std::max(top, std::abs(want[i]));
    if (got[i] == not_computed) continue;
    difference = worse(difference, std::abs(got[i] - want[i]));
    equal += got[i] == want[i], ++count;
  }
  REQUIRE(count > 0);
  return {difference / top, equal / count};
}

/// The worst over tensors, and over the first layer's tensors alone.
struct Verdict {
  Agreement all{0, 1}, first_layer{0, 1};
};

Verdict judge(const File& file, const std::string& name, const Seen& seen) {
  Verdict verdict;
  const auto include = [](Agreement& worst, const Agreement& one) { worst = {worse(worst.difference, one.difference), std::min(worst.equal, one.equal)}; };
  seen.visit([&](const std::string& field, const std::vector<double>& got) {
    const auto want = file.values<double>(name + "." + field);
    REQUIRE(got.size() == want.size());
    include(verdict.all, compare(got, want, 0, want.size()));
    if (field != "logits") include(verdict.first_layer, compare(got, want, 0, want.size() / tiny_130b::config.layers));
  });
  return verdict;
}

/// Calls body(engine) for an engine on each device: of each instruction set that this processor has, or CUDA's.
template <class M, class P, class Body>
void on_each_engine(const TensorSource& weights, const Body& body) {
  ops::on_each_device([&](ops::TestDevice& device) {
    Engine<M, P, Layout{}, ops::TestDevice> engine(device, {.sequences = 1, .capacity = 40});
    engine.load_weights(weights);
    body(engine);
  });
}

template <class M, class P, class Check>
void check_all(const File& file, const Check& check) {
  const File weights("weights");
  on_each_engine<M, P>(weights, [&](auto& engine) {
    for (const auto* list : {&generations, &choices})
      for (const std::string& name : *list) {
        INFO(name);
        const Batch batch = file.batch(name);
        check(judge(file, name, whole_row<P>(engine, batch)));
        if (list == &generations) check(judge(file, name, by_token<P>(engine, batch)));
      }
  });
}

/// The model with a rotary table that is not the original's.
struct exact_table {
  static constexpr auto config = tiny_130b::config.with([](auto& c) { c.rope_table = RopeTable::exact; });
};

/// The weights with the halves of the up-projection exchanged: the gate first.
struct GateFirst : TensorSource {
  File weights{"weights"};
  bool has(const std::string& name) const override { return weights.has(name); }
  void read(const TensorState& tensor) const override {
    weights.read(tensor);
    if (tensor.name.find("dense_h_to_4h") == std::string::npos) return;
    auto* bytes = static_cast<std::byte*>(tensor.data);
    std::rotate(bytes, bytes + tensor.bytes / 2, bytes + tensor.bytes);
  }
};

/// The weights with no bias in the linears that split their rows, and, where asked, each matrix as it is behind its quantisation by Q.
template <Quant Q>
struct Unbiased : TensorSource {
  bool dequantized;
  File weights{"weights"};

  explicit Unbiased(bool dequantized) : dequantized(dequantized) {}
  bool has(const std::string& name) const override { return weights.has(name); }
  void read(const TensorState& tensor) const override {
    weights.read(tensor);
    const bool linear = tensor.name.find("attention.") != std::string::npos || tensor.name.find("mlp.") != std::string::npos, matrix = tensor.shape.size() == 2;
    if (!linear) return;
    auto* elements = static_cast<float16*>(tensor.data);
    const auto count = static_cast<std::int64_t>(tensor.bytes / sizeof(float16));
    if (!matrix && (tensor.name.find("query_key_value") != std::string::npos || tensor.name.find("h_to_4h") != std::string::npos)) std::fill_n(elements, count, float16(0.0f));
    if (!matrix || !dequantized) return;
    REQUIRE(tensor.type == DType::f16);
    const std::int64_t columns = tensor.shape[1], rows = count / columns;
    std::vector<float> wide(elements, elements + count);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * Q.row_bytes(columns)));
    std::vector<float16> scales(static_cast<std::size_t>(rows));
    const QuantizedView<Q, std::uint8_t> stored(rows, columns, bytes.data(), scales.data());
    quantize(stored, View<const float, 2>(wide.data(), rows, columns));
    for (std::int64_t i = 0; i < count; ++i) elements[i] = float16(static_cast<float>(stored.integer(i / columns, i % columns)) * stored.scale(i / columns, i % columns));
  }
};

/// INT8 and INT4 as the original has them: fp16 with the elements of what is stored. The bias of a column-parallel linear joins behind its product (spec 5.1), and is left out here.
template <Quant Q>
void check_quantized_engine() {
  const File file("fp16");
  using P = quantized<Q, fp16_exact>;
  ops::on_each_device([&](ops::TestDevice& device) {
    Engine<tiny_130b, fp16_exact, Layout{}, ops::TestDevice> plain(device, {.sequences = 1, .capacity = 40});
    plain.load_weights(Unbiased<Q>(true));
    const std::int64_t before = device.memory().of("weights");
    Engine<tiny_130b, P, Layout{}, ops::TestDevice> engine(device, {.sequences = 1, .capacity = 40});
    engine.load_weights(Unbiased<Q>(false));
    CHECK(static_cast<double>(device.memory().of("weights") - before) == Approx(static_cast<double>(plan_inference<tiny_130b, P>().weights)).epsilon(0.05));
    for (const std::string& name : {generations[0], generations[1]}) {
      INFO(name);
      const Batch batch = file.batch(name);
      CHECK(whole_row<P>(engine, batch).logits == whole_row<fp16_exact>(plain, batch).logits);
      CHECK(by_token<P>(engine, batch).logits.back() == by_token<fp16_exact>(plain, batch).logits.back());
    }
  });
}

}  // namespace

// Both sides add in fp32, in different orders: 1e-5 is ten times what is measured, and far below what any mistake makes of it.
TEST_CASE("fp32: the original with its fp16 rotary table, to 1e-5 of the largest value") {
  const File file("fp32");
  check_all<tiny_130b, fp32_exact>(file, [](const Verdict& v) { CHECK(v.all.difference < 1e-5); });
}

// The rounding points are the original's, so that the results would be its bits, were it not for the order in which products add in
// fp32: where a sum lies near the middle between two fp16 values, they differ by one unit (2^-11 of the value), and later layers carry
// that on. Hence two bounds: nearly all bits of the first layer, where nothing has been carried on yet, and 2^-8 of the largest value
// for all. Rounding once, as the policy fp16 does, stays inside the second and has a third of the first layer's bits.
TEST_CASE("fp16: the original's rounding points, to the bit but for the order of sums") {
  const File file("fp16");
  check_all<tiny_130b, fp16_exact>(file, [](const Verdict& v) {
    CHECK(v.all.difference < 0x1p-8);
    CHECK(v.first_layer.equal > 0.75);
  });
  const File weights("weights");
  on_each_engine<tiny_130b, fp16>(weights, [&](auto& engine) {
    for (const std::string& name : generations) {
      const Verdict v = judge(file, name, whole_row<fp16>(engine, file.batch(name)));
      CHECK(v.all.difference < 0x1p-8);
      CHECK(v.first_layer.equal < 0.5);
    }
  });
}

TEST_CASE("INT8 and INT4 compute as the original: to the bit what fp16 does with the elements that are stored") {
  check_quantized_engine<Quant{.bits = 8}>();
  check_quantized_engine<Quant{.bits = 4}>();
}

TEST_CASE("the goldens tell: a rotary table of exact angles is wrong at far positions") {
  const File file("fp32"), weights("weights");
  on_each_engine<exact_table, fp32>(weights, [&](auto& engine) { CHECK(judge(file, "far", whole_row<fp32>(engine, file.batch("far"))).all.difference > 1e-2); });
}

TEST_CASE("the goldens tell: the gate is the second half of the up-projection") {
  const File file("fp32");
  on_each_engine<tiny_130b, fp32_exact>(GateFirst{}, [&](auto& engine) { CHECK(judge(file, "mask", whole_row<fp32_exact>(engine, file.batch("mask"))).all.difference > 1e-2); });
}

TEST_CASE("choices are packed and scored as by the original") {
  const File weights("weights"), single("fp32"), half("fp16");
  for (const std::string& name : choices) {
    const Batch want = single.batch(name);
    const auto tokens = single.values<std::int32_t>(name + ".choices"), ends = single.values<std::int32_t>(name + ".ends");
    std::vector<std::vector<std::int32_t>> options;
    for (std::size_t i = 0, begin = 0; i < ends.size(); begin = static_cast<std::size_t>(ends[i++]))
      options.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.begin() + ends[i]);
    const std::int32_t mask = name == "choice" ? golden::special.mask : golden::special.gmask;
    std::vector<std::int32_t> text(want.tokens.begin(), want.tokens.begin() + want.windows[0].end);
    if (name == "choice_gmask") text.pop_back();  // which pack_choices appends again
    const PackedChoices packed = pack_choices(text, options, mask, golden::special);
    const auto length = static_cast<std::size_t>(packed.batch.length);
    CHECK(packed.ends == ends);
    CHECK(packed.batch.windows == want.windows);
    CHECK(packed.batch.tokens == std::vector<std::int32_t>(want.tokens.begin(), want.tokens.begin() + static_cast<std::ptrdiff_t>(length)));
    CHECK(packed.batch.positions == std::vector<std::int32_t>(want.positions.begin(), want.positions.begin() + static_cast<std::ptrdiff_t>(length)));

    on_each_engine<tiny_130b, fp32_exact>(weights, [&](auto& engine) {
      engine.evaluate(packed.batch);
      const auto scores = choice_scores<float>(engine.token_losses(), packed.ends), expected = single.values<float>(name + ".scores");
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(scores[i] == Approx(expected[i]).epsilon(1e-5));
    });
    on_each_engine<tiny_130b, fp16_exact>(weights, [&](auto& engine) {
      engine.evaluate(packed.batch);
      const auto scores = choice_scores<float16>(engine.token_losses(), packed.ends), expected = half.values<float>(name + ".scores");
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(scores[i] == Approx(expected[i]).epsilon(0x1p-9));
    });
  }
}
