// FlushSubnormals: while it lives, results of this thread below the smallest normal number are 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/cpu/intrinsics.hpp"

namespace golem::cpu {

/// The small end of a sharp softmax falls below 1e-38, where an x86 processor takes a hundred times as long for each
/// operation; golem's ops need nothing from there. Subnormal operands keep their values: float16 conversions multiply them.
/// What the thread was set to before is restored.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  unsigned before_;
#else
  FlushSubnormals() {}
#endif
};

}  // namespace golem::cpu
