// oneDNN's products under signals: its kernels keep data where the stack register points, so no handler may run in them.
// SPDX-License-Identifier: Apache-2.0
#include "golem/version.hpp"

#if GOLEM_ONEDNN && defined(__linux__)
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "golem/cpu/gemm.hpp"

using namespace golem;

namespace {

std::atomic<const char*> stack_begin, stack_end;  // of the thread that multiplies
std::atomic<long> inside, outside;
pthread_t multiplier;

void where_am_i(int) {
  if (!pthread_equal(pthread_self(), multiplier)) return;  // a thread that another test left takes the signals that this one blocks
  const char here = 0;
  const bool on_stack = &here >= stack_begin.load() && &here < stack_end.load();
  ++(on_stack ? inside : outside);
}

}  // namespace

TEST_CASE("a signal handler runs on the thread's own stack, never on a buffer of oneDNN's") {
  pthread_attr_t attributes;
  void* begin = nullptr;
  std::size_t bytes = 0;
  REQUIRE(pthread_getattr_np(pthread_self(), &attributes) == 0);
  REQUIRE(pthread_attr_getstack(&attributes, &begin, &bytes) == 0);
  pthread_attr_destroy(&attributes);
  stack_begin = static_cast<const char*>(begin), stack_end = static_cast<const char*>(begin) + bytes;
  inside = 0, outside = 0, multiplier = pthread_self();

  struct sigaction action {}, before {};
  action.sa_handler = where_am_i, action.sa_flags = SA_RESTART;
  REQUIRE(sigaction(SIGALRM, &action, &before) == 0);
  const itimerval often{{0, 100}, {0, 100}}, never{};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  cpu::Device device({.threads = 1});
  for (const std::int64_t wide : {704, 768, 256}) {
    const std::int64_t n = 1024, narrow = 256;
    std::vector<float> x(static_cast<std::size_t>(n * narrow), 0.5f), w(static_cast<std::size_t>(wide * narrow), 0.25f), y(static_cast<std::size_t>(n * wide)), bias(static_cast<std::size_t>(wide));
    const View<float, 2> xs{x.data(), n, narrow}, ws{w.data(), wide, narrow}, ys{y.data(), n, wide};
    for (int i = 0; i < 40; ++i) {
      project(device, ys, xs, ws, View<float, 1>{bias.data(), wide});
      project_backward_input(device, xs, ys, ws);
      project_backward_weight(device, ws, View<float, 1>{bias.data(), wide}, ys, xs);
    }
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  CHECK(inside > 0);
  CHECK(outside == 0);
}
#endif
