// Zip archives whose entries are stored as they are, as torch.save writes them: found through a memory map, every number proved first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/crc32.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/zip_format.hpp"

namespace golem {

/// A file in an archive: its bytes are at [offset, offset + bytes) of the archive.
struct ZipEntry {
  std::string name;
  std::uint64_t offset = 0, bytes = 0;
  std::uint32_t crc = 0;
  std::uint64_t header = 0;  // offset of its local header
};

namespace zip {

/// Where the central directory lies.
struct Directory {
  std::uint64_t begin = 0, bytes = 0, entries = 0;
};

/// The end record: the last one whose comment ends with the file.
inline std::uint64_t find_end(std::span<const std::byte> file, std::string_view path) {
  require(file.size() >= end_bytes, "'", path, "' is no zip archive: it has ", file.size(), " bytes, and the record at its end alone takes ",
          end_bytes);
  const std::uint64_t last = file.size() - end_bytes, first = last - std::min(last, longest_comment);
  for (std::uint64_t at = last + 1; at-- > first;)
    if (number_at<std::uint32_t>(file, at) == end_signature && number_at<std::uint16_t>(file, at + 20) == last - at) return at;
  const bool begins = number_at<std::uint32_t>(file, 0) == local_signature;
  fail("'", path, begins ? "' is truncated: it begins like a zip archive, but its last " : "' is no zip archive: its last ", file.size() - first,
       " bytes, from offset ", first, ", have no end record", begins ? "; copy or download it again" : "");
}

inline Directory find_directory(std::span<const std::byte> file, std::string_view path) {
  const std::uint64_t end = find_end(file, path);
  const auto disk = number_at<std::uint16_t>(file, end + 4), directory_disk = number_at<std::uint16_t>(file, end + 6);
  Directory directory{number_at<std::uint32_t>(file, end + 16), number_at<std::uint32_t>(file, end + 12), number_at<std::uint16_t>(file, end + 10)};
  std::uint64_t here = number_at<std::uint16_t>(file, end + 8), behind = end;  // `behind`: the record that follows the directory
  require((disk == 0 || disk == many) && (directory_disk == 0 || directory_disk == many), "'", path, "', end record at offset ", end,
          ": it is one part of an archive of several");
  if (end >= locator_bytes && number_at<std::uint32_t>(file, end - locator_bytes) == locator_signature) {
    const auto at = number_at<std::uint64_t>(file, end - locator_bytes + 8);
    require(at <= end - locator_bytes && end - locator_bytes - at >= end64_bytes && number_at<std::uint32_t>(file, at) == end64_signature, "'", path,
            "', zip64 locator at offset ", end - locator_bytes, ": there is no zip64 end record at offset ", at);
    directory = {number_at<std::uint64_t>(file, at + 48), number_at<std::uint64_t>(file, at + 40), number_at<std::uint64_t>(file, at + 32)};
    here = number_at<std::uint64_t>(file, at + 24), behind = at;
  }
  require(here == directory.entries, "'", path, "', end record at offset ", end, ": ", here, " of ", directory.entries, " entries are in this file");
  require(directory.begin <= behind && directory.bytes == behind - directory.begin, "'", path, "', end record at offset ", end,
          ": it says that a directory of ", directory.bytes, " bytes begins at offset ", directory.begin,
          ", but that is not what lies between there and offset ", behind, "; the file is damaged, or parts of it are missing");
  require(directory.entries <= directory.bytes / central_bytes, "'", path, "', end record at offset ", end, ": a directory of ", directory.bytes,
          " bytes cannot hold ", directory.entries, " entries");
  return directory;
}

inline void check_name(std::string_view name, std::string_view where) {
  bool plain = !name.empty() && name.front() != '/' && name.find('\\') == std::string_view::npos && name.find('\0') == std::string_view::npos;
  for (std::size_t begin = 0; plain && begin <= name.size();) {
    const std::size_t slash = std::min(name.find('/', begin), name.size());
    plain = name.substr(begin, slash - begin) != "..";
    begin = slash + 1;
  }
  require(plain, where, ": its name is empty, absolute, or leads out of the archive");
}

/// Replaces what the fields of a central header leave to its zip64 extra field, in the order of that field.
inline void read_extra64(std::span<const std::byte> extra, std::span<std::uint64_t* const> wanted, std::string_view where) {
  if (wanted.empty()) return;
  for (std::size_t at = 0; extra.size() - at >= 4;) {
    const auto tag = number_at<std::uint16_t>(extra, at), length = number_at<std::uint16_t>(extra, at + 2);
    require(length <= extra.size() - at - 4, where, ": an extra field of ", length, " bytes does not fit");
    if (tag == extra64) {
      require(length >= 8 * wanted.size(), where, ": its zip64 field has ", length, " bytes, expected at least ", 8 * wanted.size());
      for (std::size_t i = 0; i < wanted.size(); ++i) *wanted[i] = number_at<std::uint64_t>(extra, at + 4 + 8 * i);
      return;
    }
    at += 4 + std::size_t{length};
  }
  fail(where, ": it lacks the zip64 field that its sizes refer to");
}

/// Where the data of an entry begins, by its local header, which must tell what the directory tells.
inline std::uint64_t data_offset(std::span<const std::byte> file, const ZipEntry& entry, std::uint64_t directory, std::string_view where) {
  require(entry.header <= directory && directory - entry.header >= local_bytes && number_at<std::uint32_t>(file, entry.header) == local_signature,
          where, ": there is no local header at offset ", entry.header);
  const auto flags = number_at<std::uint16_t>(file, entry.header + 6), method = number_at<std::uint16_t>(file, entry.header + 8);
  const auto crc = number_at<std::uint32_t>(file, entry.header + 14), stored = number_at<std::uint32_t>(file, entry.header + 18);
  const auto plain = number_at<std::uint32_t>(file, entry.header + 22);
  const std::uint64_t name = number_at<std::uint16_t>(file, entry.header + 26), extra = number_at<std::uint16_t>(file, entry.header + 28);
  const std::uint64_t offset = entry.header + local_bytes + name + extra;
  require(offset <= directory, where, ": its local header at offset ", entry.header, " runs into the directory");
  const std::string_view found(reinterpret_cast<const char*>(file.data()) + entry.header + local_bytes, name);
  require(found == entry.name, where, ": its local header at offset ", entry.header, " has another name");
  require(method == 0 && (flags & encrypted) == 0, where, ": its local header at offset ", entry.header, " says that it is compressed or encrypted");
  if ((flags & described) != 0 && crc == 0 && stored == 0) return offset;  // sizes and CRC follow the data
  const bool same = (stored == entry.bytes || stored == in_extra64) && (plain == entry.bytes || plain == in_extra64) && crc == entry.crc;
  require(same, where, ": its local header at offset ", entry.header, " has other sizes or another CRC than the directory");
  return offset;
}

}  // namespace zip

/// Reads and checks the directory of an archive that lies in memory: the entries in the order of their bytes. Throws Error naming `path`, offset and
/// reason where anything is amiss: entries lie in the file, do not overlap, and are neither compressed nor encrypted. Their CRCs are not compared.
inline std::vector<ZipEntry> parse_zip(std::span<const std::byte> file, std::string_view path) {
  using namespace zip;
  const Directory directory = find_directory(file, path);
  std::vector<ZipEntry> entries;
  std::uint64_t at = directory.begin;
  const std::uint64_t end = directory.begin + directory.bytes;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    require(end - at >= central_bytes && number_at<std::uint32_t>(file, at) == central_signature, "'", path, "': entry ", i,
            " of the directory, at offset ", at, ", is none");
    const std::uint64_t name = number_at<std::uint16_t>(file, at + 28), extra = number_at<std::uint16_t>(file, at + 30);
    const std::uint64_t texts = name + extra + number_at<std::uint16_t>(file, at + 32);
    require(end - at - central_bytes >= texts, "'", path, "': entry ", i, " of the directory, at offset ", at, ", runs beyond its end");
    ZipEntry entry;
    entry.name.assign(reinterpret_cast<const char*>(file.data()) + at + central_bytes, name);
    const std::string where = sentence("'", path, "', entry '", printable(entry.name), "' of the directory at offset ", at);
    check_name(entry.name, where);
    const auto flags = number_at<std::uint16_t>(file, at + 8), method = number_at<std::uint16_t>(file, at + 10);
    require((flags & encrypted) == 0, where, ": it is encrypted");
    require(method == 0, where, ": it is compressed (method ", method, "), and torch.save only stores");
    std::uint64_t stored = number_at<std::uint32_t>(file, at + 20);
    entry.crc = number_at<std::uint32_t>(file, at + 16), entry.bytes = number_at<std::uint32_t>(file, at + 24);
    entry.header = number_at<std::uint32_t>(file, at + 42);
    std::vector<std::uint64_t*> wanted;
    for (std::uint64_t* field : {&entry.bytes, &stored, &entry.header})
      if (*field == in_extra64) wanted.push_back(field);
    read_extra64(file.subspan(at + central_bytes + name, extra), wanted, where);
    require(stored == entry.bytes, where, ": ", entry.bytes, " bytes are said to take ", stored, " in the file");
    entry.offset = data_offset(file, entry, directory.begin, where);
    require(entry.bytes <= directory.begin - entry.offset, where, ": its ", entry.bytes, " bytes from offset ", entry.offset,
            " on run into the directory at offset ", directory.begin, "; the size is wrong, or a part of the file is missing");
    entries.push_back(std::move(entry));
    at += central_bytes + texts;
  }
  require(at == end, "'", path, "': the directory has ", end - at, " bytes behind its last entry, at offset ", at);
  std::sort(entries.begin(), entries.end(), [](const ZipEntry& a, const ZipEntry& b) { return a.header < b.header; });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const std::uint64_t former = entries[i - 1].offset + entries[i - 1].bytes;
    require(entries[i].header >= former, "'", path, "': entry '", printable(entries[i].name), "' begins at offset ", entries[i].header,
            ", inside entry '", printable(entries[i - 1].name), "', which ends at ", former);
  }
  return entries;
}

/// An archive, mapped into memory: opening it reads the directory only.
class ZipArchive {
 public:
  explicit ZipArchive(const std::string& path) : path_(path), file_(path), entries_(parse_zip({file_.data(), file_.size()}, path)) {
    for (const ZipEntry& entry : entries_)
      require(by_name_.emplace(entry.name, &entry).second, "'", path, "' has two entries of the name '", printable(entry.name),
              "', the second at offset ", entry.header);
  }
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  const std::string& path() const { return path_; }
  const MappedFile& file() const { return file_; }
  const std::vector<ZipEntry>& entries() const { return entries_; }

  /// Null where there is no entry of that name.
  const ZipEntry* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }
  std::span<const std::byte> bytes(const ZipEntry& entry) const { return {file_.data() + entry.offset, static_cast<std::size_t>(entry.bytes)}; }

  /// What is wrong with the bytes of an entry, by their CRC; "" where nothing is. visit(piece) sees all of them, piece by piece, and pages are let go
  /// behind it.
  template <class Visit>
  std::string damage_of(const ZipEntry& entry, Visit visit) const {
    constexpr std::size_t most = 16 << 20;
    Crc32 sum;
    for (std::span<const std::byte> rest = bytes(entry); !rest.empty();) {
      const auto piece = rest.first(std::min(most, rest.size()));
      sum.update(piece.data(), piece.size());
      visit(piece);
      file_.release(piece.data(), piece.size());
      rest = rest.subspan(piece.size());
    }
    if (sum.value() == entry.crc) return "";
    return sentence("'", path_, "': the bytes of entry '", printable(entry.name), "' at offset ", entry.offset,
                    " are not those that were written: their CRC is ", sum.value(), ", expected ", entry.crc, "; copy or download the file again");
  }

 private:
  std::string path_;
  MappedFile file_;
  std::vector<ZipEntry> entries_;
  std::map<std::string_view, const ZipEntry*> by_name_;
};

}  // namespace golem
