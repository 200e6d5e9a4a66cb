// What the tensors of a checkpoint say of its model, in whichever layout it is: how many blocks and heads, and in what it is another model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// The blocks that have a tensor among the names added, as full_name() makes them, whichever of its tensors are missing.
class StoredLayers {
 public:
  void add(std::string_view name) {
    constexpr std::string_view before = "transformer.layers.";
    if (!name.starts_with(before)) return;
    const char *const from = name.data() + before.size(), *const end = name.data() + name.size();
    int layer = -1;
    const auto [behind, error] = std::from_chars(from, end, layer);
    if (error != std::errc() || layer < 0 || behind == end || *behind != '.') return;
    for (const Parameter& parameter : block_parameters(glm_130b::config))
      if (name.substr(static_cast<std::size_t>(behind + 1 - name.data())) == parameter.name) layers_.insert(layer);
  }
  /// One may be missing among them. A number behind a larger gap is a stray name, and makes no model of a billion blocks.
  int count() const {
    int known = 0, blocks = 0;
    for (const int layer : layers_) {
      if (layer > ++known) break;
      blocks = layer + 1;
    }
    return blocks;
  }

 private:
  std::set<int> layers_;
};

/// In what a stored model is another than the one that it should be, each as "a hidden size of 16, expected 64". Heads are in no shape; key heads, with them, are.
inline std::vector<std::string> differences(const ModelConfig& found, const ModelConfig& expected) {
  std::vector<std::string> all;
  const auto compare = [&](std::string_view what, const auto& have, const auto& want) {
    if (have != want) all.push_back(sentence(what, ' ', have, ", expected ", want));
  };
  const auto kind = [](const ModelConfig& c) { return c.ffn_kind == Ffn::geglu ? std::string_view("geglu") : std::string_view("gelu"); };
  compare("layers", found.layers, expected.layers);
  compare("a hidden size of", found.hidden, expected.hidden);
  if (found.hidden == expected.hidden && found.heads == expected.heads) compare("key heads", found.key_heads(), expected.key_heads());
  compare("a feed-forward of", found.ffn, expected.ffn);
  compare("a feed-forward of the kind", kind(found), kind(expected));
  compare("a vocabulary of", found.vocab, expected.vocab);
  return all;
}

/// Throws Error that begins with `where` and names the first of the differences.
inline void require_model(const ModelConfig& found, const ModelConfig& expected, std::string_view where) {
  const std::vector<std::string> all = differences(found, expected);
  require(all.empty(), where, " has ", all.empty() ? std::string_view() : std::string_view(all.front()), ": it is of another model");
}

/// The heads of a model of that hidden size, which are in no shape: `heads`, or, where these are 0, GLM-130B's 128 dims each. Throws Error that
/// begins with `where` if the hidden size cannot be cut so.
inline int heads_of(int hidden, int heads, std::string_view where) {
  require(hidden > 0 && hidden % (heads > 0 ? heads : 128) == 0, where, ": a hidden size of ", hidden, " cannot be cut into ",
          heads > 0 ? sentence(heads, " heads") : std::string("heads of 128"), ": say how many heads the model has");
  return heads > 0 ? heads : hidden / 128;
}

}  // namespace golem
