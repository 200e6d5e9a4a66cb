// Fibers: many stacks for one thread of the host, each run until it yields. They tell AddressSanitizer, and end in guard pages.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace simt {

/// A fixed number of fibers, made once and used again and again.
class Fibers {
 public:
  /// What a fiber runs: entry(index). It must not throw and must end by returning.
  using Entry = void (*)(int index);

  explicit Fibers(int count);
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  /// Fiber `index` is to run `entry` from its beginning; whatever it was in the middle of is forgotten.
  void prepare(int index, Entry entry);
  /// Runs fiber `index` until it yields or returns.
  void resume(int index);
  /// Called in a fiber: goes back to who resumed it.
  void yield();
  /// Called in a fiber: goes on with fiber `index`, as if its resumer had been asked to; half the switches of a yield and a resume.
  void yield_to(int index);

 private:
  struct Context;
  static void begin();  // where a fiber's stack starts
  void enter(int index);
  void go(Context& from, Context& to, bool for_good = false);

  static constexpr std::size_t stack_bytes = std::size_t{256} << 10, guard_bytes = std::size_t{4} << 10;
  std::vector<Context*> contexts_;
  char* stacks_ = nullptr;
  int running_ = -1;
  Context* home_ = nullptr;
};

}  // namespace simt
