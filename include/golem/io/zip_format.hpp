// The records of a zip archive (PKWARE's APPNOTE 6.3.3, sections 4.3 and 4.5): signatures, lengths, and the flags that torch.save uses.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace golem::zip {

static_assert(std::endian::native == std::endian::little, "golem: zip archives are little-endian, and this machine is not");

inline constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, descriptor_signature = 0x08074b50;
inline constexpr std::uint32_t end_signature = 0x06054b50, end64_signature = 0x06064b50, locator_signature = 0x07064b50;

/// Bytes of each record without the texts behind it.
inline constexpr std::uint64_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator_bytes = 20;

inline constexpr std::uint16_t encrypted = 1, described = 8, utf8 = 0x800;  // flags; described: sizes and CRC follow the data
inline constexpr std::uint16_t extra64 = 1, extra_padding = 0x4246;         // tags of extra fields; the second is torch's
inline constexpr std::uint32_t in_extra64 = 0xffffffff;                     // a size or offset that stands in the zip64 record
inline constexpr std::uint16_t many = 0xffff;                               // the same for counts
inline constexpr std::uint64_t longest_comment = 0xffff;

/// A number at an offset that was checked.
template <class T>
T number_at(std::span<const std::byte> file, std::uint64_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

/// A record in the making.
class Record {
 public:
  Record& u16(std::uint16_t value) { return append(value); }
  Record& u32(std::uint32_t value) { return append(value); }
  Record& u64(std::uint64_t value) { return append(value); }
  const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  Record& append(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes_.append(raw, sizeof value);
    return *this;
  }
  std::string bytes_;
};

}  // namespace golem::zip
