// A race between two ranks, one within a team of threads, or neither: thread_sanitizer.sh proves by it that races are found, and nothing else.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string_view>
#include <vector>

#include "golem/comm/threads.hpp"

int main(int count, char** words) {
  const std::string_view race = count > 1 ? words[1] : "";
  std::vector<double> shared(2, 1.0), sums(2);
  golem::run_ranks(2, [&](golem::Group all) {
    const auto own = static_cast<std::size_t>(all.rank());
    shared[own] = 2;
    if (race != "ranks") all.barrier();
    const double other = shared[1 - own];
    all.barrier();

    // Teams write and read across each other's parts, in order only by the end of the loops before.
    std::vector<double> squares(1000), turned(1000);
    double sum = 0;
#pragma omp parallel for num_threads(2) schedule(static)
    for (int i = 0; i < 1000; ++i) squares[static_cast<std::size_t>(i)] = other * i;
#pragma omp parallel for num_threads(2) schedule(static)
    for (int i = 0; i < 1000; ++i) turned[static_cast<std::size_t>(i)] = squares[static_cast<std::size_t>(999 - i)];
    if (race == "team") {
#pragma omp parallel for num_threads(2) schedule(static)
      for (int i = 0; i < 1000; ++i) sum += turned[static_cast<std::size_t>(i)];
    } else {
#pragma omp parallel for num_threads(2) schedule(static) reduction(+ : sum)
      for (int i = 0; i < 1000; ++i) sum += turned[static_cast<std::size_t>(i)];
    }
    sums[own] = sum;
  });
  std::printf("%g %g\n", sums[0], sums[1]);
}
