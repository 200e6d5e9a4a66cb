// What goes into a checkpoint, gathered from a state by one visit, and how it is to be saved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/core/output_file.hpp"

namespace golem {

struct CheckpointOptions {
  std::string model{};                                            // what is saved fits this model only: a loader that gives another text is refused
  std::int64_t keep_last = 0;                                     // the newest that stay; 0: all
  std::int64_t keep_every = 0;                                    // those whose step is a multiple of it stay for good; 0: none
  std::uint64_t shard_bytes = std::uint64_t{2} << 30;             // tensors of one file, if more than one fit
  FileStep on_file{};                                             // told of each change of the file system
  int rank = 0, ranks = 1;                                        // of those that save together, on one file system, each its own files
  function_ref<void()> barrier{};                                 // of these ranks; called twice, when a save begins, by the thread that called save
  std::chrono::milliseconds deadline = std::chrono::minutes(10);  // so long a rank that is done waits for the others
};

/// What a state visit found: scalars by value, tensors by reference to the memory that they are in.
struct CheckpointContents {
  CheckpointState state;
  std::vector<TensorState> tensors;
};

namespace checkpoint {

/// Tensors whose names begin so go to files of their own, which inference needs not.
inline constexpr std::string_view optimizer_prefix = "optimizer.";

/// Gathers a state without changing it.
class Collector : public StateVisitor {
 public:
  void integer(std::string_view name, std::int64_t& value) override { contents.state.integers[fresh(name)] = value; }
  void real(std::string_view name, double& value) override { contents.state.reals[fresh(name)] = value; }
  void text(std::string_view name, std::string& value) override { contents.state.texts[fresh(name)] = value; }
  void tensor(const TensorState& tensor) override {
    const auto former = sliced_.find(tensor.name);
    if (former == sliced_.end() || !former->second || !tensor.slice) fresh(tensor.name);  // of one tensor a rank may have several slices
    contents.tensors.push_back(tensor);
    sliced_[tensor.name] = tensor.slice.has_value();
  }
  bool loading() const override { return false; }

  CheckpointContents contents;

 private:
  std::string fresh(std::string_view name) {
    const auto [place, inserted] = names_.emplace(name);
    require(inserted, "a state has two values of the name '", name, "': each needs its own");
    return *place;
  }
  std::set<std::string> names_;
  std::map<std::string, bool> sliced_;  // of each tensor, whether it came in slices
};

}  // namespace checkpoint

}  // namespace golem
