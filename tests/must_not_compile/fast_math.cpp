// Must not compile: golem: its numbers are wrong under -ffast-math, -Ofast, -ffinite-math-only and -fassociative-math: compile with -O2 or -O3 and without these.
// SPDX-License-Identifier: Apache-2.0
#if !defined(SOUND)
#define __FAST_MATH__ 1  // as -ffast-math defines it
#endif
#include "golem/core/number.hpp"

static_assert(golem::bits_as<unsigned>(1.0f) == 0x3f800000u);
