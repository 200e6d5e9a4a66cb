// What the tests of archives share: an archive put together record by record, so that each number can lie.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "golem/io/crc32.hpp"
#include "golem/io/zip_format.hpp"

namespace test {

/// An entry of an archive in memory: what its two headers say, and its data.
struct ZipPart {
  std::string name, data;
  std::uint16_t flags = 0, method = 0;
  std::uint32_t stored = 0, plain = 0, crc = 0, header = 0;  // in the directory
  std::string local_name;                                    // in the local header
  std::string extra;                                         // of the directory
};

inline ZipPart zip_part(const std::string& name, const std::string& data) {
  golem::Crc32 sum;
  sum.update(data.data(), data.size());
  const auto size = static_cast<std::uint32_t>(data.size());
  return {.name = name, .data = data, .stored = size, .plain = size, .crc = sum.value(), .local_name = name, .extra = ""};
}

/// The archive; `change(parts)` sees the entries when their places are known, before the directory is made.
template <class Change>
std::string zip_of(std::vector<ZipPart> parts, Change change) {
  std::string file;
  for (ZipPart& part : parts) {
    part.header = static_cast<std::uint32_t>(file.size());
    golem::zip::Record record;
    record.u32(golem::zip::local_signature).u16(0).u16(part.flags).u16(part.method).u32(0).u32(part.crc).u32(part.stored).u32(part.plain);
    record.u16(static_cast<std::uint16_t>(part.local_name.size())).u16(0);
    file += record.bytes() + part.local_name + part.data;
  }
  change(parts);
  const std::size_t directory = file.size();
  for (const ZipPart& part : parts) {
    golem::zip::Record record;
    record.u32(golem::zip::central_signature).u32(0).u16(part.flags).u16(part.method).u32(0).u32(part.crc).u32(part.stored).u32(part.plain);
    record.u16(static_cast<std::uint16_t>(part.name.size()))
        .u16(static_cast<std::uint16_t>(part.extra.size()))
        .u16(0)
        .u16(0)
        .u16(0)
        .u32(0)
        .u32(part.header);
    file += record.bytes() + part.name + part.extra;
  }
  golem::zip::Record end;
  end.u32(golem::zip::end_signature).u32(0).u16(static_cast<std::uint16_t>(parts.size())).u16(static_cast<std::uint16_t>(parts.size()));
  end.u32(static_cast<std::uint32_t>(file.size() - directory)).u32(static_cast<std::uint32_t>(directory)).u16(0);
  return file + end.bytes();
}

inline std::string zip_of(std::vector<ZipPart> parts) {
  return zip_of(std::move(parts), [](std::vector<ZipPart>&) {});
}

}  // namespace test
