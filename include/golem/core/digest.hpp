// SHA-256 (FIPS 180-4), with the processor's own instructions where it has them: names the content of a file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <smmintrin.h>  // and not immintrin.h, which golem.cuh would read in each of nvcc's passes
#endif

namespace golem {

namespace sha256 {

using State = std::uint32_t[8];

alignas(16) inline constexpr std::uint32_t rounds[64]{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/// Folds `blocks` blocks of 64 bytes into the state.
inline void compress_plain(State& state, const unsigned char* data, std::size_t blocks) {
  for (; blocks > 0; --blocks, data += 64) {
    std::uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      const unsigned char* p = data + 4 * i;
      w[i] = std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
    }
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t near = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      const std::uint32_t far = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      w[i] = w[i - 16] + far + w[i - 7] + near;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + rounds[i] + w[i];
      const std::uint32_t second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const State add{a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state[i] += add[i];
  }
}

#if defined(__x86_64__)
/// Four words, as the compilers' own functions for SHA-256 take them.
using Words [[gnu::vector_size(16)]] = int;

/// Words i .. i+3 of the schedule, from the sixteen before them: `old` is the oldest four, `last` the newest.
[[gnu::target("sha,sse4.1,ssse3")]] inline __m128i next_words(__m128i old, __m128i old2, __m128i last2, __m128i last) {
  const auto sums = _mm_add_epi32(__m128i(__builtin_ia32_sha256msg1(Words(old), Words(old2))), _mm_alignr_epi8(last, last2, 4));
  return __m128i(__builtin_ia32_sha256msg2(Words(sums), Words(last)));
}

/// Rounds 4 i .. 4 i + 3.
[[gnu::target("sha,sse4.1,ssse3")]] inline void four_rounds(__m128i& abef, __m128i& cdgh, __m128i words, int i) {
  const __m128i terms = _mm_add_epi32(words, _mm_load_si128(reinterpret_cast<const __m128i*>(rounds) + i));
  cdgh = __m128i(__builtin_ia32_sha256rnds2(Words(cdgh), Words(abef), Words(terms)));
  abef = __m128i(__builtin_ia32_sha256rnds2(Words(abef), Words(cdgh), Words(_mm_shuffle_epi32(terms, 0x0e))));
}

/// compress_plain with the SHA extensions, four rounds at a time. They hold the state as the vectors (a b e f) and (c d g h).
[[gnu::target("sha,sse4.1,ssse3")]] inline void compress_extended(State& state, const unsigned char* data, std::size_t blocks) {
  auto* const halves = reinterpret_cast<__m128i*>(state);
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(halves), 0xb1), hgfe = _mm_shuffle_epi32(_mm_loadu_si128(halves + 1), 0x1b);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    const auto* words = reinterpret_cast<const __m128i*>(data);
    __m128i w0 = _mm_shuffle_epi8(_mm_loadu_si128(words), big_endian), w1 = _mm_shuffle_epi8(_mm_loadu_si128(words + 1), big_endian);
    __m128i w2 = _mm_shuffle_epi8(_mm_loadu_si128(words + 2), big_endian), w3 = _mm_shuffle_epi8(_mm_loadu_si128(words + 3), big_endian);
    for (int i = 0;; i += 4) {
      four_rounds(abef, cdgh, w0, i), four_rounds(abef, cdgh, w1, i + 1), four_rounds(abef, cdgh, w2, i + 2), four_rounds(abef, cdgh, w3, i + 3);
      if (i == 12) break;
      w0 = next_words(w0, w1, w2, w3), w1 = next_words(w1, w2, w3, w0), w2 = next_words(w2, w3, w0, w1), w3 = next_words(w3, w0, w1, w2);
    }
    abef = _mm_add_epi32(abef, abef_before), cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(halves, _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(halves + 1, _mm_alignr_epi8(dchg, feba, 8));
}

/// Whether compress_extended may run: leaf 7 bit EBX 29 (SHA), leaf 1 bits ECX 9 and 19 (SSSE3, SSE4.1).
inline bool extended() {
  static const bool known = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 29 & 1)) return false;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 9 & 1) && (c >> 19 & 1);
  }();
  return known;
}
#endif

inline void compress(State& state, const unsigned char* data, std::size_t blocks) {
#if defined(__x86_64__)
  if (extended()) return compress_extended(state, data, blocks);
#endif
  compress_plain(state, data, blocks);
}

}  // namespace sha256

/// Digests bytes that come piece by piece.
class Sha256 {
 public:
  void update(const void* data, std::size_t bytes) {
    auto* from = static_cast<const unsigned char*>(data);
    const std::size_t held = length_ % 64;
    length_ += bytes;
    if (held > 0) {
      const std::size_t taken = bytes < 64 - held ? bytes : 64 - held;
      if (taken > 0) std::memcpy(block_ + held, from, taken);
      if (held + taken < 64) return;
      sha256::compress(state_, block_, 1);
      from += taken, bytes -= taken;
    }
    sha256::compress(state_, from, bytes / 64);
    if (bytes % 64 > 0) std::memcpy(block_, from + bytes / 64 * 64, bytes % 64);
  }

  /// The digest in 64 lower-case hexadecimal digits, as sha256sum writes it. Ends the digest: no update may follow.
  std::string hex() {
    const std::uint64_t bits = length_ * 8;
    unsigned char tail[72]{0x80};
    const std::size_t zeros = (119 - length_ % 64) % 64;  // after the 0x80, up to 8 bytes before the end of a block
    for (int i = 0; i < 8; ++i) tail[1 + zeros + i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
    update(tail, 1 + zeros + 8);
    std::string out;
    for (const std::uint32_t word : state_)
      for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[word >> shift & 15];
    return out;
  }

 private:
  sha256::State state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char block_[64] = {};
  std::uint64_t length_ = 0;
};

inline std::string sha256_hex(const void* data, std::size_t bytes) {
  Sha256 digest;
  digest.update(data, bytes);
  return digest.hex();
}

}  // namespace golem
