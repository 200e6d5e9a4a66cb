// Names out of files that nobody vouches for, made fit to be shown.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace golem {

/// At most `most` characters of a text, and '?' for what is not printable ASCII: no name can move a terminal's cursor or hide the rest of an error.
inline std::string printable(std::string_view text, std::size_t most = 120) {
  std::string shown(text.substr(0, most));
  for (char& letter : shown)
    if (letter < ' ' || letter > '~') letter = '?';
  return text.size() > most ? shown + "..." : shown;
}

}  // namespace golem
