// Memory that must not be touched, where AddressSanitizer watches; nothing elsewhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
namespace simt {
inline void poison(const void* memory, std::size_t bytes) { __asan_poison_memory_region(memory, bytes); }
inline void unpoison(const void* memory, std::size_t bytes) { __asan_unpoison_memory_region(memory, bytes); }
}  // namespace simt
#else
namespace simt {
inline void poison(const void*, std::size_t) {}
inline void unpoison(const void*, std::size_t) {}
}  // namespace simt
#endif
