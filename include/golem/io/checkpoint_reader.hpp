// CheckpointReader: the tensors of a checkpoint by name, out of memory maps, once every file proved to be what was saved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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
#include "golem/core/slice.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_root.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/slice_json.hpp"

namespace golem {

enum class CheckpointPart { everything, model };  // model: without the optimizer's files, which need not be there

struct LoadOptions {
  std::string model{};  // must equal what the checkpoint was saved with; empty: not compared
  CheckpointPart part = CheckpointPart::everything;
  bool digests = true;  // compare the SHA-256 of each file that is read; false: only sizes and headers
  int ranks = 1;        // that load it together: of several, none asks for every tensor
};

namespace checkpoint {

inline CheckpointState read_state(const std::string& folder) {
  const std::string path = folder + "/state.json";
  const MappedFile file(path);
  return parse_checkpoint_state({reinterpret_cast<const char*>(file.data()), file.size()}, sentence("'", path, "'"));
}

/// Throw Error where a file is not the one that state.json speaks of.
inline void prove_size(const std::string& path, const CheckpointFile& expected) {
  const std::uint64_t found = MappedFile(path).size();
  require(found == expected.bytes, "'", path, "' is not what was saved: expected ", expected.bytes, " bytes, found ", found);
}
inline void prove_digest(const std::string& path, const std::string& found, const CheckpointFile& expected) {
  require(found == expected.sha256, "'", path, "' is not what was saved: expected SHA-256 ", printable(expected.sha256), ", found ", found);
}
inline void prove_digest(const std::string& path, const CheckpointFile& expected) {
  const MappedFile file(path);
  Sha256 digest;
  for (std::size_t at = 0, piece = 0; at < file.size(); at += piece) {
    piece = std::min<std::size_t>(file.size() - at, std::size_t{64} << 20);
    digest.update(file.data() + at, piece);
    file.release(file.data() + at, piece);  // so that its pages do not count among this process's for longer
  }
  prove_digest(path, digest.hex(), expected);
}

}  // namespace checkpoint

/// Opens a checkpoint (or the latest of a run's folder), by however many ranks it was saved. Nothing but headers is read at once: a file is proved
/// to be what was saved when a tensor in it is first asked for, and a tensor's pages come in when its bytes are touched. For one thread.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& path, const LoadOptions& options = {})
      : folder_(find_checkpoint(path)), state_(checkpoint::read_state(folder_)), digests_(options.digests) {
    require(options.model.empty() || options.model == state_.model, "the checkpoint '", folder_, "' was saved for another model: it says '",
            printable(state_.model, 400), "', and this is '", options.model, "'");
    for (const auto& [name, file] : state_.files) {
      if (!name.ends_with(".safetensors")) continue;
      if (options.part == CheckpointPart::model && !name.starts_with("model-")) continue;
      checkpoint::prove_size(folder_ + "/" + name, file);
      const Opened& opened = files_.emplace_back(folder_ + "/" + name, &file);
      for (const StoredTensor& tensor : opened.file.tensors()) add(opened, tensor);
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
  /// Type and shape of a full tensor, whether it lies in one file or in slices; null where there is none of that name.
  const StoredTensor* find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second.full;
  }
  /// The bytes of a tensor, row-major, perhaps unaligned. Error where there is none of that name, or it lies in slices.
  std::span<const std::byte> bytes(std::string_view name) const {
    const Tensor& tensor = known(name);
    require(tensor.pieces.size() == 1 && is_whole(tensor.pieces[0].slice, tensor.extent), "tensor '", printable(name), "' of the checkpoint '", folder_,
            "' was saved in ", tensor.pieces.size(), " slices: copy it into memory");
    return prove(tensor.pieces[0]);
  }

  /// Throws Error unless the checkpoint has this tensor, with this type and shape, each element of the slice wanted once, and nothing but finite
  /// numbers there.
  void check(const TensorState& wanted) const {
    const StoredTensor* found = find(wanted.name);
    if (!found) prove_all();  // a damaged header is the likelier reason
    require(found, "the checkpoint '", folder_, "' has no tensor '", printable(wanted.name), "' of shape ", safetensors::shape_text(wanted.shape));
    require(found->shape == wanted.shape && found->type == wanted.type, "tensor '", printable(wanted.name), "' of the checkpoint '", folder_, "' is ",
            name_of(found->type), " ", safetensors::shape_text(found->shape), ", expected ", name_of(wanted.type), " ",
            safetensors::shape_text(wanted.shape), quantized_as());
    const Tensor& tensor = known(wanted.name);
    const Slice slice = wanted.slice.value_or(whole_slice(tensor.extent));
    check_slice(slice, tensor.extent, sentence("cannot load tensor '", printable(wanted.name), "'"));
    const std::uint64_t bytes = static_cast<std::uint64_t>(slice.size()) * static_cast<std::uint64_t>(size_of(wanted.type));
    require(bytes == wanted.bytes, "tensor '", printable(wanted.name), "' has memory of ", wanted.bytes, " bytes, but its shape, slice and type make ", bytes);
    check_cover(wanted.name, tensor, slice);
    for_each_piece(wanted, [&](const std::byte* from, std::int64_t at, std::int64_t count) {
      const std::int64_t index = first_not_finite(wanted.type, from, static_cast<std::uint64_t>(count * size_of(wanted.type)));
      require(index < 0, "element ", at + index, " of tensor '", printable(wanted.name), wanted.slice ? "', of its slice here," : "'", " in the checkpoint '",
              folder_, "' is NaN or infinite: go on from an earlier one");
    });
  }
  /// Throws Error unless each element of this tensor, of which there must be one, lies in one file and no other.
  void check_whole(const std::string& name) const {
    const Tensor& tensor = known(name);
    check_cover(name, tensor, whole_slice(tensor.extent));
  }
  /// Copies a tensor that was checked.
  void copy(const TensorState& to) const {
    for_each_piece(to, [&](const std::byte* from, std::int64_t at, std::int64_t count) {
      const auto size = static_cast<std::int64_t>(size_of(to.type));
      std::memcpy(static_cast<std::byte*>(to.data) + at * size, from, static_cast<std::size_t>(count * size));
    });
  }
  /// Calls visit(bytes in a file, element of the memory wanted, elements) for all that a tensor, that was checked, is put together from.
  template <class Visit>
  void for_each_piece(const TensorState& wanted, Visit visit) const {
    const Tensor& tensor = known(wanted.name);
    const SliceBlocks to(wanted.slice.value_or(whole_slice(tensor.extent)));
    for (const Piece& piece : tensor.pieces) {
      const std::byte* data = nullptr;
      for_each_shared(SliceBlocks(piece.slice), to, [&](std::int64_t from, std::int64_t at, std::int64_t count) {
        if (!data) data = prove(piece).data();
        visit(data + from * size_of(tensor.full.type), at, count);
      });
    }
  }
  /// The pages that a tensor was put together from no longer count as this process's memory.
  void release(const TensorState& wanted) const {
    for (const Piece& piece : known(wanted.name).pieces) {
      const std::byte *first = nullptr, *last = nullptr;
      const Tensor& tensor = known(wanted.name);
      for_each_shared(SliceBlocks(piece.slice), SliceBlocks(wanted.slice.value_or(whole_slice(tensor.extent))),
                      [&](std::int64_t from, std::int64_t, std::int64_t count) {
                        const std::byte* const begin = piece.file->file.bytes(*piece.stored).data() + from * size_of(tensor.full.type);
                        const std::byte* const end = begin + count * size_of(tensor.full.type);
                        first = first && first < begin ? first : begin, last = last > end ? last : end;
                      });
      if (first) piece.file->file.release({first, last});
    }
  }

 private:
  struct Opened {
    Opened(const std::string& path, const CheckpointFile* expected) : file(path), expected(expected) {}
    SafetensorsFile file;
    const CheckpointFile* expected;
    mutable bool proved = false;
  };
  struct Piece {
    const Opened* file;
    const StoredTensor* stored;
    Slice slice;
  };
  struct Tensor {
    StoredTensor full;
    MatrixExtent extent;
    std::vector<Piece> pieces;
  };

  /// A tensor of a file: a tensor, or a slice of one.
  void add(const Opened& opened, const StoredTensor& stored) {
    const std::string where = sentence("'", opened.file.path(), "', tensor '", printable(stored.name), "'");
    SliceOf part{stored.name, stored.shape, {}};
    if (const auto text = opened.file.metadata().find(sentence(slice_key, stored.name)); text != opened.file.metadata().end()) {
      part = parse_slice_of(text->second, where);
      require(stored_shape(part) == stored.shape, where, ": it is of shape ", safetensors::shape_text(stored.shape), ", but the slice of '",
              printable(part.tensor), "' that it is said to be has shape ", safetensors::shape_text(stored_shape(part)));
    } else {
      part.slice = whole_slice(matrix_extent(stored.shape, where));
    }
    const std::uint64_t bytes = safetensors::byte_count(part.shape, stored.type, where);
    Tensor& tensor = tensors_[part.tensor];
    if (tensor.pieces.empty()) {
      tensor.full = {part.tensor, stored.type, part.shape, 0, bytes};
      tensor.extent = matrix_extent(part.shape, where);
    }
    require(tensor.full.shape == part.shape && tensor.full.type == stored.type, where, ": tensor '", printable(part.tensor), "' is ", name_of(stored.type), " ",
            safetensors::shape_text(part.shape), " here, but ", name_of(tensor.full.type), " ", safetensors::shape_text(tensor.full.shape), " in '",
            tensor.pieces.empty() ? "" : tensor.pieces[0].file->file.path(), "'");
    tensor.pieces.push_back({&opened, &stored, part.slice});
  }

  /// What is to be done where the weights are quantised, and another format is wanted; "" where they are not.
  std::string quantized_as() const {
    const auto bits = state_.integers.find("quantized.bits"), group = state_.integers.find("quantized.group");
    if (bits == state_.integers.end()) return "";
    const std::string scales = group == state_.integers.end() || group->second == 0 ? "a scale for each row" : sentence("groups of ", group->second);
    return sentence("; its weights were quantised to INT", bits->second, " with ", scales, ": load them in that format, or take the checkpoint that they were made from");
  }

  const Tensor& known(std::string_view name) const {
    const auto found = tensors_.find(name);
    require(found != tensors_.end(), "the checkpoint '", folder_, "' has no tensor '", printable(name), "'");
    return found->second;
  }

  void check_cover(const std::string& name, const Tensor& tensor, const Slice& wanted) const {
    std::vector<Slice> slices;
    for (const Piece& piece : tensor.pieces) slices.push_back(piece.slice);
    const SliceCover cover = cover_of(wanted, slices);
    if (cover.once()) return;
    prove_all();  // a damaged header is the likelier reason
    const auto path = [&](std::ptrdiff_t piece) -> const std::string& { return tensor.pieces[static_cast<std::size_t>(piece)].file->file.path(); };
    if (cover.first >= 0)
      fail("'", path(cover.first), "' and '", path(cover.second), "' both have elements of tensor '", printable(name), "': one of them is wrong");
    fail("the checkpoint '", folder_, "' lacks ", cover.missing, " of the ", wanted.size(), " elements of tensor '", printable(name),
         "' that are wanted here: no rank saved them");
  }

  /// The bytes of a piece, once its file proved to be what was saved.
  std::span<const std::byte> prove(const Piece& piece) const {
    prove(*piece.file);
    return piece.file->file.bytes(*piece.stored);
  }
  void prove(const Opened& opened) const {
    if (!opened.proved && digests_) checkpoint::prove_digest(opened.file.path(), *opened.expected);
    opened.proved = true;
  }
  void prove_all() const {
    for (const Opened& opened : files_) prove(opened);
  }

  std::string folder_;
  CheckpointState state_;
  bool digests_;
  std::deque<Opened> files_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace golem
