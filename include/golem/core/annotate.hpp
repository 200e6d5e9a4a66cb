// GOLEM_HD marks a function for host and device: the only annotation macro of the library.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/version.hpp"

#if defined(__CUDACC__)
#define GOLEM_HD __host__ __device__
#else
#define GOLEM_HD
#endif
