// The golden files: what the original's own code computed at a tiny size, read by golem's safetensors reader. make_goldens.py makes them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ops/engine.hpp"
// behind it, for it may bring a stand-in for a GPU
#include "golem/io/safetensors.hpp"

namespace golden {

using namespace golem;

/// The model that make_goldens.py builds.
struct tiny_130b {
  static constexpr auto config = checked(glm_130b::config.with([](auto& c) { c.layers = 3, c.hidden = 128, c.heads = 2, c.ffn = 88, c.vocab = 144; }));
};
inline constexpr SpecialTokens special{.mask = 130, .gmask = 131, .smask = 132, .sop = 134, .eop = 135, .eos = 136, .newline = 137, .pad = 0};

/// The folder of the project: where these tests were compiled, or, on another machine, where GOLEM_TEST_SOURCE says.
inline std::string source() {
  const char* elsewhere = std::getenv("GOLEM_TEST_SOURCE");
  return elsewhere ? elsewhere : GOLEM_TEST_SOURCE;
}

/// Cases whose rows have one window, and cases of packed choices.
inline const std::vector<std::string> generations{"mask", "gmask", "causal", "far"}, choices{"choice", "choice_gmask"};

/// Tensors by name, as whatever type is wanted.
class File : public TensorSource {
 public:
  explicit File(const std::string& name) : file_(source() + "/tests/golden/" + name + ".safetensors") {}

  bool has(const std::string& name) const override { return file_.find(name) != nullptr; }
  void read(const TensorState& wanted) const override {
    require(file_.find(wanted.name) && file_.find(wanted.name)->shape == wanted.shape, "the goldens have no tensor '", wanted.name, "' of the shape wanted");
    if (wanted.type == DType::f16) return fill<float16>(wanted);
    if (wanted.type == DType::f32) return fill<float>(wanted);
    fill<double>(wanted);
  }

  /// All elements, row-major.
  template <class E>
  std::vector<E> values(const std::string& name) const {
    const StoredTensor* tensor = file_.find(name);
    require(tensor != nullptr, "the goldens have no tensor '", name, "'");
    switch (tensor->type) {
      case DType::f16: return converted<E, float16>(*tensor);
      case DType::f32: return converted<E, float>(*tensor);
      default: return converted<E, std::int32_t>(*tensor);
    }
  }

  /// The row of a case; every token is scored.
  Batch batch(const std::string& name) const {
    Batch b{.rows = 1, .tokens = values<std::int32_t>(name + ".tokens"), .positions = values<std::int32_t>(name + ".positions")};
    b.length = static_cast<int>(b.tokens.size());
    b.targets.assign(b.tokens.size(), 0);
    const auto w = values<std::int32_t>(name + ".windows");
    for (std::size_t i = 0; i < w.size(); i += 5) b.windows.push_back({w[i], w[i + 1], w[i + 2], w[i + 3], w[i + 4]});
    b.first_window = {0, static_cast<std::int32_t>(b.windows.size())};
    b.tasks = {Task::blank};
    return b;
  }

 private:
  template <class E>
  void fill(const TensorState& wanted) const {
    const auto from = values<E>(wanted.name);
    std::memcpy(wanted.data, from.data(), wanted.bytes);
  }
  template <class E, class Stored>
  std::vector<E> converted(const StoredTensor& tensor) const {
    const auto bytes = file_.bytes(tensor);
    std::vector<E> out;
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(Stored)) {
      Stored stored;
      std::memcpy(&stored, bytes.data() + at, sizeof stored);
      out.push_back(static_cast<E>(static_cast<double>(stored)));
    }
    return out;
  }

  SafetensorsFile file_;
};

/// Stands where nothing was computed; no engine gives it.
inline constexpr double not_computed = -std::numeric_limits<double>::infinity();

/// What a forward pass showed, laid out as in the files.
struct Seen {
  std::vector<double> hidden, keys, values, logits;

  /// Each tensor by the name that it has in the files.
  template <class Visit>
  void visit(Visit visit) const {
    visit("hidden", hidden), visit("keys", keys), visit("values", values), visit("logits", logits);
  }
};

/// Collects what the blocks of a pass over `count` tokens from `first` on, of rows of `length`, put out.
template <class T, class D>
class Collector {
 public:
  Collector(D& device, Seen& seen, std::size_t first, std::size_t count, std::size_t length) : device_(&device), seen_(&seen), first_(first), count_(count), length_(length) {
    for (auto* tensor : {&seen.hidden, &seen.keys, &seen.values}) tensor->resize(layers * length * width);
  }
  void operator()(const LayerOutput<T>& output) {
    std::vector<T> hidden(count_ * width), heads(3 * count_ * width);
    device_->copy_out(hidden.data(), output.hidden.data, hidden.size() * sizeof(T));
    device_->copy_out(heads.data(), output.qkv.data, heads.size() * sizeof(T));
    for (std::size_t t = 0; t < count_; ++t)
      for (std::size_t i = 0; i < width; ++i) {
        const std::size_t at = (static_cast<std::size_t>(output.layer) * length_ + first_ + t) * width + i, qkv = t * 3 * width + i / dim * 3 * dim + i % dim;
        seen_->hidden[at] = static_cast<double>(hidden[t * width + i]);
        seen_->keys[at] = static_cast<double>(heads[qkv + dim]);
        seen_->values[at] = static_cast<double>(heads[qkv + 2 * dim]);
      }
  }

 private:
  static constexpr std::size_t layers = tiny_130b::config.layers, width = tiny_130b::config.hidden, dim = tiny_130b::config.head_dim();
  D* device_;
  Seen* seen_;
  std::size_t first_, count_, length_;
};

/// A whole row, without the cache.
template <class P, class E>
Seen whole_row(E& engine, const Batch& batch) {
  Seen seen;
  const auto length = static_cast<std::size_t>(batch.length);
  Collector<typename P::compute, std::remove_reference_t<decltype(engine.device())>> collect(engine.device(), seen, 0, length, length);
  const auto logits = engine.logits(batch, collect);
  seen.logits.assign(logits.data, logits.data + logits.size());
  return seen;
}

/// The same by way of the cache: the prefix and the token behind it at once, then token by token. Logits of the prefix stay NaN.
template <class P, class E>
Seen by_token(E& engine, const Batch& batch) {
  Seen seen;
  const std::int32_t length = batch.length, prefix = batch.windows[0].prefix;
  for (std::int32_t first = 0, count = prefix + 1; first < length; first += count, count = 1) {
    Collector<typename P::compute, std::remove_reference_t<decltype(engine.device())>> collect(engine.device(), seen, static_cast<std::size_t>(first), static_cast<std::size_t>(count), static_cast<std::size_t>(length));
    const SequenceStep step{.slot = 0,
                            .first = first,
                            .prefix = prefix,
                            .tokens = {batch.tokens.data() + first, static_cast<std::size_t>(count)},
                            .positions = {batch.positions.data() + first, static_cast<std::size_t>(count)}};
    const auto logits = engine.forward({&step, 1}, collect);
    seen.logits.resize(static_cast<std::size_t>((first + count - 1) * logits.extent(1)), not_computed);
    seen.logits.insert(seen.logits.end(), logits.data, logits.data + logits.size());
  }
  return seen;
}

}  // namespace golden
