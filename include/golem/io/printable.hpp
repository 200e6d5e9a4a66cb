// Names out of files that nobody vouches for, made fit to be shown.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace golem {

/// At most 120 characters of a text, and '?' for what is not printable ASCII: no name can move a terminal's cursor or hide the rest of an error.
inline std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 120));
  for (char& letter : shown)
    if (letter < ' ' || letter > '~') letter = '?';
  return text.size() > 120 ? shown + "..." : shown;
}

}  // namespace golem
