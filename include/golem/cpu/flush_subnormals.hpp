// FlushSubnormals: while it lives, this thread takes numbers below the smallest normal one for 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace golem::cpu {

/// The small end of a sharp softmax falls below 1e-38, where an x86 processor takes a hundred times as long for each
/// operation; golem's ops need nothing from there. What the thread was set to before is restored.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | flush_results | subnormals_are_zeros); }
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  static constexpr unsigned flush_results = 0x8000, subnormals_are_zeros = 0x0040;  // MXCSR bits 15 and 6
  unsigned before_;
#else
  FlushSubnormals() {}
#endif
};

}  // namespace golem::cpu
