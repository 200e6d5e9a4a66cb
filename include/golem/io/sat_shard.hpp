// SatShard: one file of a released checkpoint, `mp_rank_0X_model_states.pt`: the tensors of one tensor-parallel rank, where they lie (spec 8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/slice.hpp"
#include "golem/io/pickle.hpp"
#include "golem/io/zip_archive.hpp"

namespace golem {

/// A tensor in a shard: element (i, j, ...) lies i strides[0] + j strides[1] + ... elements behind `data`.
struct SatTensor {
  DType type = DType::f16;
  std::vector<std::int64_t> shape, strides;
  MatrixExtent extent;  // of the shape
  const std::byte* data = nullptr;
  std::int64_t reach = 0;  // elements from the first to behind the last

  bool contiguous() const {
    std::int64_t expected = 1;
    for (std::size_t i = shape.size(); i-- > 0; expected *= shape[i])
      if (shape[i] != 1 && strides[i] != expected) return false;
    return true;
  }
};

/// Opened, a shard is mapped, and its directory and its pickle are read and proved: each tensor lies in the file. Throws Error naming file, offset
/// and reason where anything is amiss.
class SatShard {
 public:
  explicit SatShard(const std::string& path) : archive_(path) {
    const ZipEntry* const pickle = find_pickle();
    const std::string root = pickle->name.substr(0, pickle->name.size() - std::string_view("data.pkl").size());
    if (const ZipEntry* order = archive_.find(root + "byteorder")) {
      const auto bytes = archive_.bytes(*order);
      const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      require(text == "little", "'", path, "', at offset ", order->offset, ": the byte order is '", printable(text),
              "', and golem reads little-endian files");
    }
    const Pickle content = parse_pickle(archive_.bytes(*pickle), path, pickle->offset);
    std::vector<const ZipEntry*> storages;
    for (const PickledStorage& storage : content.storages) storages.push_back(prove(storage, root));
    const PickleValue* const module = content.find(content.top(), "module");
    require(module && module->kind == PickleKind::dict, "'", path, "', pickle at offset ", pickle->offset,
            ": it has no dict 'module', which a checkpoint's tensors are in");
    for (std::size_t i = 0; i + 1 < module->items.size(); i += 2) {
      const PickleValue &name = content.values[module->items[i]], &value = content.values[module->items[i + 1]];
      if (name.kind != PickleKind::text || value.kind != PickleKind::tensor) continue;
      add(name.text, content.tensors[static_cast<std::size_t>(value.number)], content, storages);
    }
  }

  const std::string& path() const { return archive_.path(); }
  const ZipArchive& archive() const { return archive_; }
  const std::map<std::string, SatTensor, std::less<>>& tensors() const { return tensors_; }

  /// Null where there is no tensor of that name.
  const SatTensor* find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }

  /// The elements [first, first + count) of a tensor, counted row by row whatever its strides: visit(bytes, element, count) for as many at once as
  /// lie together.
  template <class Visit>
  static void for_each_run(const SatTensor& tensor, std::int64_t first, std::int64_t count, Visit visit) {
    const std::int64_t size = size_of(tensor.type);
    if (tensor.contiguous()) return visit(tensor.data + first * size, first, count);
    for (std::int64_t at = first, end = first + count; at < end;) {
      std::int64_t rest = at, place = 0;
      for (std::size_t i = tensor.shape.size(); i-- > 0; rest /= tensor.shape[i]) place += rest % tensor.shape[i] * tensor.strides[i];
      const std::int64_t row = tensor.shape.back(), run = tensor.strides.back() == 1 ? std::min(end - at, row - at % row) : 1;
      visit(tensor.data + place * size, at, run);
      at += run;
    }
  }

 private:
  const ZipEntry* find_pickle() const {
    const ZipEntry* found = nullptr;
    for (const ZipEntry& entry : archive_.entries()) {
      if (!entry.name.ends_with("/data.pkl")) continue;
      require(!found, "'", path(), "' has two pickles, the second at offset ", entry.offset, ": torch.save writes one");
      found = &entry;
    }
    require(found, "'", path(), "' is a zip archive, but not of torch.save: it has no entry data.pkl");
    return found;
  }

  const ZipEntry* prove(const PickledStorage& storage, const std::string& root) const {
    const ZipEntry* const entry = archive_.find(root + "data/" + storage.key);
    require(entry, "'", path(), "': the pickle speaks of a storage '", printable(storage.key), "', and there is no entry '", printable(root), "data/",
            printable(storage.key), "'");
    const std::uint64_t held = entry->bytes / static_cast<std::uint64_t>(size_of(storage.type));
    require(held == static_cast<std::uint64_t>(storage.elements) && entry->bytes % static_cast<std::uint64_t>(size_of(storage.type)) == 0, "'",
            path(), "', storage '", printable(storage.key), "' at offset ", entry->offset, ": it has ", entry->bytes,
            " bytes, and the pickle speaks of ", storage.elements, " elements of ", name_of(storage.type));
    return entry;
  }

  void add(const std::string& name, const PickledTensor& tensor, const Pickle& content, const std::vector<const ZipEntry*>& storages) {
    SatTensor made{content.storages[tensor.storage].type, tensor.shape, tensor.strides, {}, nullptr, 0};
    made.extent = matrix_extent(made.shape, sentence("'", path(), "', tensor '", printable(name), "'"));
    made.reach = made.extent.size() > 0 ? 1 : 0;
    for (std::size_t i = 0; i < made.shape.size() && made.reach > 0; ++i) made.reach += (made.shape[i] - 1) * made.strides[i];
    made.data = archive_.bytes(*storages[tensor.storage]).data() + tensor.offset * size_of(made.type);
    require(tensors_.emplace(name, std::move(made)).second, "'", path(), "' has two tensors of the name '", printable(name), "'");
  }

  ZipArchive archive_;
  std::map<std::string, SatTensor, std::less<>> tensors_;
};

}  // namespace golem
