// The larger of two differences, for tests that look for the largest: NaN is worse than any number, so that it fails every bound.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tests {

/// std::max and std::fmax let a NaN go, depending on the side that it comes from.
inline double worse(double a, double b) { return b <= a || a != a ? a : b; }

}  // namespace tests
