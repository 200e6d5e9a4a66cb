// Safetensors files, written: the header first, then one tensor after another, so that no two need be in memory at once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/json.hpp"
#include "golem/core/output_file.hpp"
#include "golem/io/safetensors.hpp"

namespace golem {

/// Made with the names, types and shapes of all tensors (their `data` is not read); each is then written once, in that order.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string path, const std::vector<TensorState>& tensors, const std::map<std::string, std::string>& metadata = {},
                    FileStep step = {})
      : file_(std::move(path), step) {
    const std::string where = sentence("cannot write '", file_.path(), "'");
    nlohmann::json header = nlohmann::json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    std::uint64_t position = 0;
    for (const TensorState& tensor : tensors) {
      const std::string which = sentence(where, ", tensor '", tensor.name, "'");
      const std::uint64_t bytes = safetensors::byte_count(tensor.shape, tensor.type, which);
      require(bytes == tensor.bytes, which, ": it has ", tensor.bytes, " bytes, but its shape and type make ", bytes);
      require(tensor.name != "__metadata__" && !header.contains(tensor.name), which, ": the name is taken");
      header[tensor.name] = {{"dtype", safetensors::type_name(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {position, position + bytes}}};
      position += bytes;
      expected_.emplace_back(tensor.name, bytes);
    }
    std::string text = json_text(header, where);
    text.append((8 - text.size() % 8) % 8, ' ');  // the data part begins at a multiple of 8
    const std::uint64_t length = text.size();
    require(length <= safetensors::largest_header, where, ": a header of ", length, " bytes is more than readers take; use more files");
    file_.write(&length, 8);
    file_.write(text);
  }

  /// The next tensor of the list.
  void write(const TensorState& tensor) {
    begin(tensor);
    append(tensor.data, tensor.bytes);
  }

  /// Begins the next tensor of the list, whose bytes append() then brings, in as many pieces as it likes.
  void begin(const TensorState& tensor) {
    require(left_ == 0, "'", file_.path(), "': tensor '", tensor.name, "' comes when the one before lacks ", left_, " bytes");
    require(written_ < expected_.size(), "'", file_.path(), "': tensor '", tensor.name, "' comes after the last one announced");
    const auto& [name, bytes] = expected_[written_];
    require(tensor.name == name && tensor.bytes == bytes, "'", file_.path(), "': tensor '", tensor.name, "' of ", tensor.bytes,
            " bytes comes where '", name, "' of ", bytes, " was announced");
    left_ = bytes;
    ++written_;
  }
  void append(const void* data, std::size_t bytes) {
    require(bytes <= left_, "'", file_.path(), "': ", bytes, " bytes come to a tensor that lacks ", left_);
    file_.write(data, bytes);
    left_ -= bytes;
  }

  /// Puts the file on the disk. Its SHA-256 digest.
  std::string finish() {
    require(written_ == expected_.size() && left_ == 0, "'", file_.path(), "' has got ", written_, " of its ", expected_.size(), " tensors, the last without ", left_,
            " bytes");
    return file_.finish();
  }
  std::uint64_t size() const { return file_.size(); }

 private:
  OutputFile file_;
  std::vector<std::pair<std::string, std::uint64_t>> expected_;
  std::size_t written_ = 0;
  std::uint64_t left_ = 0;  // bytes of the tensor that was begun
};

}  // namespace golem
