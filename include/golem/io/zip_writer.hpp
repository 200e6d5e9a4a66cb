// ZipWriter: a zip archive of stored entries as torch.save writes it, front to back, so that no entry need be in memory at once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/crc32.hpp"
#include "golem/core/output_file.hpp"
#include "golem/io/zip_format.hpp"

namespace golem {

struct ZipWriterOptions {
  std::uint64_t zip64_from = zip::in_extra64;  // sizes and offsets from here on take the zip64 form
  FileStep on_file{};
};

/// The data of each entry begins at a multiple of 64, padded by an extra field, as torch aligns its storages; its CRC follows it.
class ZipWriter {
 public:
  using Options = ZipWriterOptions;

  /// Begins a new file; or goes on with one whose first `kept` bytes are complete entries, which are then named again by known(), in their order.
  explicit ZipWriter(std::string path, std::uint64_t kept = 0, const Options& options = {})
      : options_(options), kept_(kept), file_(std::move(path), kept, options.on_file) {}

  /// Begins the next entry, of `bytes` bytes.
  void begin(std::string_view name, std::uint64_t bytes) {
    end();
    require(!name.empty() && name.size() <= 0x7fff, "'", file_.path(), "': an entry with a name of ", name.size(), " characters");
    entries_.push_back({std::string(name), position_, bytes, 0});
    put(local_header(entries_.back(), options_.zip64_from));
    open_ = true, sum_ = {}, left_ = bytes;
  }
  void write(const void* data, std::size_t bytes) {
    require(open_ && bytes <= left_, "'", file_.path(), "': ", bytes, " bytes were written to an entry that lacks ", left_);
    sum_.update(data, bytes);
    file_.write(data, bytes);
    position_ += bytes, left_ -= bytes;
  }
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Ends an entry. Its CRC.
  std::uint32_t end() {
    if (!open_) return 0;
    require(left_ == 0, "'", file_.path(), "': entry '", entries_.back().name, "' lacks ", left_, " of its ", entries_.back().bytes, " bytes");
    entries_.back().crc = sum_.value(), open_ = false;
    put(descriptor(entries_.back(), options_.zip64_from));
    return entries_.back().crc;
  }

  /// An entry that is in the file already.
  void known(std::string_view name, std::uint64_t bytes, std::uint32_t crc) {
    entries_.push_back({std::string(name), position_, bytes, crc});
    position_ = behind(position_, name, bytes, options_.zip64_from);
    require(position_ <= kept_, "'", file_.path(), "': entry '", name, "' would end at offset ", position_, ", but the file is kept up to ", kept_);
  }

  /// Puts what was written on the disk.
  void sync() { file_.sync(); }

  /// Writes the directory and puts the file on the disk.
  void finish() {
    end();
    const std::uint64_t directory = position_;
    for (const Entry& entry : entries_) put(central_header(entry, options_.zip64_from));
    put(end_records(directory, position_ - directory));
    file_.finish();
  }
  std::uint64_t size() const { return position_; }

  /// The offset behind an entry that begins at `position`.
  static std::uint64_t behind(std::uint64_t position, std::string_view name, std::uint64_t bytes, std::uint64_t zip64_from = zip::in_extra64) {
    const Entry entry{std::string(name), position, bytes, 0};
    return position + local_header(entry, zip64_from).size() + bytes + descriptor(entry, zip64_from).size();
  }

 private:
  struct Entry {
    std::string name;
    std::uint64_t header = 0, bytes = 0;
    std::uint32_t crc = 0;
  };

  void put(const std::string& text) {
    require(position_ >= kept_, "'", file_.path(), "': it is kept up to offset ", kept_, ", and only what was there up to ", position_, " was named");
    file_.write(text);
    position_ += text.size();
  }

  static std::uint32_t low(std::uint64_t number, std::uint64_t zip64_from) {
    return number >= zip64_from ? zip::in_extra64 : static_cast<std::uint32_t>(number);
  }

  /// With sizes and CRC left to the descriptor, as torch does.
  static std::string local_header(const Entry& entry, std::uint64_t zip64_from) {
    const bool large = entry.bytes >= zip64_from;
    const std::uint64_t unpadded = entry.header + zip::local_bytes + entry.name.size() + (large ? 20 : 0) + 4, padding = (64 - unpadded % 64) % 64;
    zip::Record record, extra;
    if (large) extra.u16(zip::extra64).u16(16).u64(0).u64(0);
    extra.u16(zip::extra_padding).u16(static_cast<std::uint16_t>(padding));
    record.u32(zip::local_signature).u16(0).u16(zip::described | zip::utf8).u16(0).u16(0).u16(0).u32(0).u32(0).u32(0);
    record.u16(static_cast<std::uint16_t>(entry.name.size())).u16(static_cast<std::uint16_t>(extra.bytes().size() + padding));
    return record.bytes() + entry.name + extra.bytes() + std::string(padding, 'Z');
  }

  static std::string descriptor(const Entry& entry, std::uint64_t zip64_from) {
    zip::Record record;
    record.u32(zip::descriptor_signature).u32(entry.crc);
    if (entry.bytes >= zip64_from) return record.u64(entry.bytes).u64(entry.bytes).bytes();
    return record.u32(static_cast<std::uint32_t>(entry.bytes)).u32(static_cast<std::uint32_t>(entry.bytes)).bytes();
  }

  static std::string central_header(const Entry& entry, std::uint64_t zip64_from) {
    zip::Record record, extra, fields;
    if (entry.bytes >= zip64_from) fields.u64(entry.bytes).u64(entry.bytes);
    if (entry.header >= zip64_from) fields.u64(entry.header);
    if (!fields.bytes().empty()) extra.u16(zip::extra64).u16(static_cast<std::uint16_t>(fields.bytes().size()));
    const std::uint32_t bytes = low(entry.bytes, zip64_from);
    record.u32(zip::central_signature).u16(0).u16(0).u16(zip::described | zip::utf8).u16(0).u16(0).u16(0).u32(entry.crc).u32(bytes).u32(bytes);
    record.u16(static_cast<std::uint16_t>(entry.name.size())).u16(static_cast<std::uint16_t>(extra.bytes().size() + fields.bytes().size()));
    record.u16(0).u16(0).u16(0).u32(0).u32(low(entry.header, zip64_from));
    return record.bytes() + entry.name + extra.bytes() + fields.bytes();
  }

  std::string end_records(std::uint64_t directory, std::uint64_t bytes) const {
    const std::uint64_t count = entries_.size();
    zip::Record record;
    if (directory >= options_.zip64_from || bytes >= options_.zip64_from || count >= zip::many) {
      record.u32(zip::end64_signature).u64(zip::end64_bytes - 12).u16(45).u16(45).u32(0).u32(0).u64(count).u64(count).u64(bytes).u64(directory);
      record.u32(zip::locator_signature).u32(0).u64(directory + bytes).u32(1);
    }
    const std::uint16_t few = count >= zip::many ? zip::many : static_cast<std::uint16_t>(count);
    record.u32(zip::end_signature).u16(0).u16(0).u16(few).u16(few);
    return record.u32(low(bytes, options_.zip64_from)).u32(low(directory, options_.zip64_from)).u16(0).bytes();
  }

  Options options_;
  std::uint64_t kept_ = 0, position_ = 0;
  OutputFile file_;
  std::vector<Entry> entries_;
  bool open_ = false;
  Crc32 sum_;
  std::uint64_t left_ = 0;
};

}  // namespace golem
