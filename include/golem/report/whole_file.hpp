// Writes a text to a file that is never seen half written: pictures and traces that are looked at while a run goes on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "golem/core/error.hpp"

namespace golem {

/// `what` names it in the error: "chart". Throws Error where it cannot be written.
inline void write_whole(const std::string& path, std::string_view what, std::string_view text) {
  const std::string partial = path + ".partial";
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  const bool written = file.good() && std::rename(partial.c_str(), path.c_str()) == 0;
  if (!written) std::remove(partial.c_str());
  require(written, "cannot write the ", what, " '", path, "': check that its folder is there, may be written to, and has space left");
}

}  // namespace golem
