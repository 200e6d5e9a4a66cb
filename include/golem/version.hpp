// The one place of golem's version, and of the settings that must not be mixed in one program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#define GOLEM_VERSION_MAJOR 0
#define GOLEM_VERSION_MINOR 1
#define GOLEM_VERSION_PATCH 0

// Under these options compilers take NaN for impossible, and every check for it away, and reorder the sums by which exp finds its integer.
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__)
#error golem: its numbers are wrong under -ffast-math, -Ofast, -ffinite-math-only and -fassociative-math: compile with -O2 or -O3 and without these
#endif

/// 1 where the CPU engine calls oneDNN. CMake sets it where oneDNN is found; a bare `-I include` leaves it off, and links.
#ifndef GOLEM_ONEDNN
#define GOLEM_ONEDNN 0
#endif

/// The inline namespace of devices. Every template over the device carries it in its symbol, so that two objects of
/// different minor versions or settings fail to link instead of running each other's code.
#if GOLEM_ONEDNN
#define GOLEM_ABI v0_1_onednn
#else
#define GOLEM_ABI v0_1_plain
#endif

/// And within it that of `cpu::Device`, whose threads are OpenMP's where the compiler was told so.
#if defined(_OPENMP)
#define GOLEM_THREADS openmp
#else
#define GOLEM_THREADS serial
#endif

namespace golem {

struct Version {
  int major, minor, patch;
};

inline constexpr Version version{GOLEM_VERSION_MAJOR, GOLEM_VERSION_MINOR, GOLEM_VERSION_PATCH};

}  // namespace golem
