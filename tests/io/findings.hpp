// What the tests of doctors share: which of their findings says a thing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "catch.hpp"
#include "io/files.hpp"

namespace test {

/// One of the findings has these words.
inline bool one_says(const std::vector<std::string>& findings, const std::string& words) {
  for (const std::string& finding : findings)
    if (has(finding, words)) return true;
  for (const std::string& finding : findings) UNSCOPED_INFO(finding);
  return false;
}

}  // namespace test
