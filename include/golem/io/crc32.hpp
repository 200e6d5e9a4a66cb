// CRC-32 of zip archives (ISO 3309), eight bytes at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace golem {

namespace crc32 {

static_assert(std::endian::native == std::endian::little, "golem: the CRC is taken of little-endian words");

/// tables[k][b]: what byte b does to the sum when k more bytes follow it.
inline constexpr auto tables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> made{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t sum = byte;
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0u);
    made[0][byte] = sum;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t byte = 0; byte < 256; ++byte) made[k][byte] = made[k - 1][byte] >> 8 ^ made[0][made[k - 1][byte] & 255];
  return made;
}();

}  // namespace crc32

/// Sums bytes that come piece by piece.
class Crc32 {
 public:
  void update(const void* data, std::size_t bytes) {
    auto* from = static_cast<const unsigned char*>(data);
    std::uint32_t sum = ~value_;
    const auto& t = crc32::tables;
    for (; bytes >= 8; bytes -= 8, from += 8) {
      std::uint32_t low, high;
      std::memcpy(&low, from, 4);
      std::memcpy(&high, from + 4, 4);
      low ^= sum;
      sum = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^ t[3][high & 255] ^ t[2][high >> 8 & 255] ^
            t[1][high >> 16 & 255] ^ t[0][high >> 24];
    }
    for (; bytes > 0; --bytes) sum = sum >> 8 ^ t[0][(sum ^ *from++) & 255];
    value_ = ~sum;
  }
  std::uint32_t value() const { return value_; }

 private:
  std::uint32_t value_ = 0;
};

}  // namespace golem
