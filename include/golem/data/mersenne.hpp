// Python's random module, number for number: MT19937 with init_by_array, random(), randrange(), shuffle() (spec 2.8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace golem {

class PythonRandom {
 public:
  /// random.Random(seed) of a non-negative integer.
  explicit PythonRandom(std::uint64_t seed) {
    const std::uint32_t key[]{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    init_by_array({key, key[1] ? 2u : 1u});
  }
  /// MT19937 of a key of 32-bit words, as numpy's RandomState(key) makes it too.
  explicit PythonRandom(std::span<const std::uint32_t> key) { init_by_array(key); }

  std::uint32_t word() {
    if (next_ == size) twist();
    std::uint32_t y = state_[next_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
  }

  /// Uniform in [0, 1), 53 bits.
  double uniform() {
    const std::uint32_t a = word() >> 5, b = word() >> 6;
    return (a * 67108864.0 + b) / 9007199254740992.0;
  }

  /// Uniform in 0 .. n-1, n at least 1: draws bits(bit length of n) until they are below n.
  std::uint64_t below(std::uint64_t n) {
    int bits = 0;
    for (std::uint64_t rest = n; rest; rest >>= 1) ++bits;
    for (;;) {
      const std::uint64_t drawn = draw(bits);
      if (drawn < n) return drawn;
    }
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(i + 1)]);
  }

 private:
  static constexpr int size = 624, middle = 397;

  /// Low word first; a partial last word gives its top bits.
  std::uint64_t draw(int bits) {
    if (bits <= 32) return word() >> (32 - bits);
    const std::uint64_t low = word();
    return low | std::uint64_t{word() >> (64 - bits)} << 32;
  }

  void init_by_array(std::span<const std::uint32_t> key) {
    const int length = static_cast<int>(key.size());
    state_[0] = 19650218u;
    for (int i = 1; i < size; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + static_cast<std::uint32_t>(i);
    int i = 1, j = 0;
    for (int k = size > length ? size : length; k; --k) {
      state_[i] =
          (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525u)) + key[static_cast<std::size_t>(j)] + static_cast<std::uint32_t>(j);
      if (++i >= size) state_[0] = state_[size - 1], i = 1;
      if (++j >= length) j = 0;
    }
    for (int k = size - 1; k; --k) {
      state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941u)) - static_cast<std::uint32_t>(i);
      if (++i >= size) state_[0] = state_[size - 1], i = 1;
    }
    state_[0] = 0x80000000u;
  }

  void twist() {
    for (int i = 0; i < size; ++i) {
      const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % size] & 0x7fffffffu);
      state_[i] = state_[(i + middle) % size] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0u);
    }
    next_ = 0;
  }

  std::uint32_t state_[size];
  int next_ = size;
};

}  // namespace golem
