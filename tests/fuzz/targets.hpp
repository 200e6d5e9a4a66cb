// The fuzzed parsers: any bytes at all give values that keep their promises, or a golem::Error; nothing else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "golem/data/corpus.hpp"
#include "golem/data/instruction_set.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/jsonl.hpp"
#include "golem/io/pickle.hpp"
#include "golem/io/rank_part.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/sat_shard.hpp"
#include "golem/io/slice_json.hpp"
#include "golem/io/zip_archive.hpp"

namespace fuzz {

using Input = std::span<const std::uint8_t>;

inline std::string_view text_of(Input input) { return {reinterpret_cast<const char*>(input.data()), input.size()}; }

/// A promise that was not kept ends the process, which both the fuzzer and the test suite report.
inline void promise(bool kept) {
  if (!kept) __builtin_trap();
}

/// The answer to damaged files: a sentence that a terminal shows as it is, whatever names the file has.
inline void refused(const golem::Error& error) {
  for (const char* letter = error.what(); *letter; ++letter) promise(*letter >= ' ' && *letter <= '~');
}

/// A file with this content and a path, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(Input content) : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    promise(file_ >= 0 && ::write(file_, content.data(), content.size()) == static_cast<::ssize_t>(content.size()));
  }
  MemoryFile(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(file_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

inline void zip(Input input) {
  try {
    std::uint64_t end = 0;
    for (const golem::ZipEntry& entry : golem::parse_zip(std::as_bytes(input), "fuzz")) {
      promise(entry.header >= end && entry.offset > entry.header && entry.bytes <= input.size() && entry.offset <= input.size() - entry.bytes);
      end = entry.offset + entry.bytes;
    }
  } catch (const golem::Error& error) {
    refused(error);
  }
}

inline void pickle(Input input) {
  try {
    const golem::Pickle made = golem::parse_pickle(std::as_bytes(input), "fuzz", 0);
    promise(made.root < made.values.size() && made.values.size() <= input.size());
    for (const golem::PickleValue& value : made.values)
      for (const std::uint32_t item : value.items) promise(item < made.values.size());
    for (const golem::PickledTensor& tensor : made.tensors) {
      const std::int64_t held = made.storages.at(tensor.storage).elements;
      std::int64_t last = tensor.offset, elements = 1;
      for (std::size_t i = 0; i < tensor.shape.size(); ++i) elements *= tensor.shape[i] > 0 ? 1 : 0;
      for (std::size_t i = 0; i < tensor.shape.size() && elements > 0; ++i) last += (tensor.shape[i] - 1) * tensor.strides[i];
      promise(elements == 0 ? last <= held : last < held);
    }
    made.find(made.top(), "module");
  } catch (const golem::Error& error) {
    refused(error);
  }
}

/// A whole shard: archive, pickle, and every byte of every tensor that is promised to be in the file.
inline void sat_shard(Input input) {
  const MemoryFile file(input);
  try {
    const golem::SatShard shard(file.path());
    const golem::MappedFile& mapped = shard.archive().file();
    for (const auto& entry : shard.tensors()) {
      const golem::SatTensor& tensor = entry.second;
      promise(tensor.extent.size() <= static_cast<std::int64_t>(mapped.size()));
      std::int64_t seen = 0;
      golem::SatShard::for_each_run(tensor, 0, tensor.extent.size(), [&](const std::byte* bytes, std::int64_t, std::int64_t count) {
        promise(count == 0 || (bytes >= mapped.data() && bytes + count * golem::size_of(tensor.type) <= mapped.data() + mapped.size()));
        seen += count;
      });
      promise(seen == tensor.extent.size());
    }
  } catch (const golem::Error& error) {
    refused(error);
  }
}

inline void safetensors(Input input) {
  try {
    const auto header = golem::parse_safetensors(std::as_bytes(input), "fuzz");
    for (const auto& tensor : header.tensors) promise(header.data_start + tensor.end <= input.size());
  } catch (const golem::Error& error) {
    refused(error);
  }
}

inline void slice_json(Input input) {
  try {
    const auto part = golem::parse_slice_of(text_of(input), "fuzz");
    const auto extent = golem::matrix_extent(part.shape, "fuzz");
    std::int64_t elements = 0;
    for (const auto& block : golem::SliceBlocks(part.slice)) {
      promise(block.rows.end() <= extent.rows && block.columns.end() <= extent.columns);
      elements += block.rows.count * block.columns.count;
    }
    promise(elements == part.slice.size() && !golem::stored_shape(part).empty());
  } catch (const golem::Error& error) {
    refused(error);
  }
}

/// The JSON that says which files a checkpoint has and which tensors lie in them: state.json, and what a rank says of its part.
inline void index_json(Input input) {
  try {
    for (const auto& [name, file] : golem::parse_checkpoint_state(text_of(input), "fuzz").files) promise(golem::checkpoint::is_plain_name(name));
  } catch (const golem::Error& error) {
    refused(error);
  }
  try {
    for (const auto& [name, file] : golem::parse_rank_part(text_of(input), "fuzz").files) promise(golem::checkpoint::is_plain_name(name));
  } catch (const golem::Error& error) {
    refused(error);
  }
}

inline void jsonl(Input input) {
  const MemoryFile file(input);
  const auto receive = [](std::string_view) { return true; };
  const auto receive_pair = [](std::string_view, std::string_view) { return true; };
  try {
    promise(golem::read_texts(file.path(), receive) >= 0);
  } catch (const golem::Error& error) {
    refused(error);
  }
  try {
    promise(golem::read_pairs(file.path(), receive_pair) >= 0);
  } catch (const golem::Error& error) {
    refused(error);
  }
}

/// The header up to the first zero byte, and the rows behind it.
inline void corpus(Input input) {
  static const std::string path = [] {
    std::string name = "/dev/shm/golem-fuzz-XXXXXX";
    promise(::mkstemp(name.data()) >= 0);
    return name;
  }();
  const std::string_view all = text_of(input), header = all.substr(0, all.find('\0')), rows = all.substr(std::min(all.size(), header.size() + 1));
  std::ofstream(path, std::ios::binary | std::ios::trunc) << rows;
  std::ofstream(path + ".header", std::ios::binary | std::ios::trunc) << header;
  try {
    const golem::Corpus corpus(path);
    promise(corpus.rows() >= 1 && static_cast<std::uint64_t>(corpus.rows() * corpus.header().row) * 4 == rows.size());
    for (std::int64_t i = 0; i < corpus.rows(); ++i)
      for (const std::int32_t token : corpus.row(i)) promise(token >= 0 && token < corpus.header().vocab);
  } catch (const golem::Error& error) {
    refused(error);
  }
  ::unlink(path.c_str());
  ::unlink((path + ".header").c_str());
}

/// Whatever a file of instructions says of itself, its pairs are tokens of its vocabulary, or an error.
inline void instructions(Input input) {
  const MemoryFile file(input);
  try {
    const golem::InstructionSet set(file.path());
    promise(set.pairs() >= 1 && set.tokenizer().size() <= 64);
    for (std::int64_t i = 0; i < set.pairs(); ++i)
      for (const auto part : {set.text(i), set.target(i)})
        for (const std::int32_t token : part) promise(token >= 0);
  } catch (const golem::Error& error) {
    refused(error);
  }
}

}  // namespace fuzz
