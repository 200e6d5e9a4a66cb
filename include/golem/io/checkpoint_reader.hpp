// CheckpointReader: the tensors of a checkpoint by name, out of memory maps, once every file proved to be what was saved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_root.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/safetensors.hpp"

namespace golem {

enum class CheckpointPart { everything, model };  // model: without the optimizer's files, which need not be there

struct LoadOptions {
  std::string model{};  // must equal what the checkpoint was saved with; empty: not compared
  CheckpointPart part = CheckpointPart::everything;
  bool digests = true;  // compare each file's SHA-256; false: only sizes and headers
};

namespace checkpoint {

inline CheckpointState read_state(const std::string& folder) {
  const std::string path = folder + "/state.json";
  const MappedFile file(path);
  return parse_checkpoint_state({reinterpret_cast<const char*>(file.data()), file.size()}, sentence("'", path, "'"));
}

/// Throws Error where a file is not the one that state.json speaks of.
inline void prove_file(const std::string& path, const CheckpointFile& expected, bool digests) {
  const MappedFile file(path);
  require(file.size() == expected.bytes, "'", path, "' is not what was saved: expected ", expected.bytes, " bytes, found ", file.size());
  if (!digests) return;
  const std::string found = sha256_hex(file.data(), file.size());
  require(found == expected.sha256, "'", path, "' is not what was saved: expected SHA-256 ", expected.sha256, ", found ", found);
}

inline std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + sentence(shape[i]);
  return out + ")";
}

}  // namespace checkpoint

/// Opens a checkpoint (or the latest of a run's folder). Nothing is read at once: a tensor's pages come in when its bytes are touched.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& path, const LoadOptions& options = {})
      : folder_(find_checkpoint(path)), state_(checkpoint::read_state(folder_)) {
    require(options.model.empty() || options.model == state_.model, "the checkpoint '", folder_, "' was saved for another model: it says '",
            state_.model, "', and this is '", options.model, "'");
    for (const auto& [name, file] : state_.files) {
      if (!name.ends_with(".safetensors")) continue;
      if (options.part == CheckpointPart::model && !name.starts_with("model-")) continue;
      checkpoint::prove_file(folder_ + "/" + name, file, options.digests);
      const SafetensorsFile& opened = files_.emplace_back(folder_ + "/" + name);
      for (const StoredTensor& tensor : opened.tensors())
        require(tensors_.emplace(tensor.name, Place{&opened, &tensor}).second, "'", opened.path(), "' has a tensor '", tensor.name,
                "' that another file of the checkpoint has too");
    }
  }

  const std::string& folder() const { return folder_; }
  const CheckpointState& state() const { return state_; }

  /// Names of the tensors that begin with `prefix`, ascending.
  std::vector<std::string> names(std::string_view prefix = "") const {
    std::vector<std::string> out;
    for (auto entry = tensors_.lower_bound(prefix); entry != tensors_.end() && entry->first.starts_with(prefix); ++entry) out.push_back(entry->first);
    return out;
  }
  /// Null where there is no tensor of that name.
  const StoredTensor* find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : found->second.tensor;
  }
  /// The bytes of a tensor, row-major, perhaps unaligned. Error where there is none of that name.
  std::span<const std::byte> bytes(std::string_view name) const {
    const auto found = tensors_.find(name);
    require(found != tensors_.end(), "the checkpoint '", folder_, "' has no tensor '", name, "'");
    return found->second.file->bytes(*found->second.tensor);
  }

  /// Throws Error unless the checkpoint has this tensor, with this type and shape, and nothing but finite numbers in it.
  void check(const TensorState& wanted) const {
    const StoredTensor* found = find(wanted.name);
    require(found, "the checkpoint '", folder_, "' has no tensor '", wanted.name, "' of shape ", checkpoint::shape_text(wanted.shape));
    require(found->shape == wanted.shape && found->type == wanted.type, "tensor '", wanted.name, "' of the checkpoint '", folder_, "' is ",
            name_of(found->type), " ", checkpoint::shape_text(found->shape), ", expected ", name_of(wanted.type), " ",
            checkpoint::shape_text(wanted.shape));
    require(found->bytes() == wanted.bytes, "tensor '", wanted.name, "' has memory of ", wanted.bytes, " bytes, but its shape and type make ",
            found->bytes());
    const std::int64_t index = first_not_finite(found->type, bytes(wanted.name).data(), found->bytes());
    require(index < 0, "element ", index, " of tensor '", wanted.name, "' in the checkpoint '", folder_,
            "' is NaN or infinite: go on from an earlier one");
  }
  /// Copies a tensor that was checked.
  void copy(const TensorState& to) const {
    if (to.bytes > 0) std::memcpy(to.data, bytes(to.name).data(), to.bytes);
  }

 private:
  struct Place {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };
  std::string folder_;
  CheckpointState state_;
  std::deque<SafetensorsFile> files_;
  std::map<std::string, Place, std::less<>> tensors_;
};

}  // namespace golem
