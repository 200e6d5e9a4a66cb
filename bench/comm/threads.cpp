// All-reduce between ranks that are threads, beside what the memory can do: a copy by as many threads at once.
// SPDX-License-Identifier: Apache-2.0
// bench_threads [RANKS]; default 2
#include "golem/comm/threads.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace golem;

namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

template <class T>
void measure(Group& group, const char* type) {
  for (std::int64_t mb = 1; mb <= 64; mb *= 4) {
    const std::int64_t count = (mb << 20) / static_cast<std::int64_t>(sizeof(T));
    std::vector<T> x(static_cast<std::size_t>(count), T(0.0f)), y(x.size(), T(1.0f));
    std::vector<double> sums, copies;
    for (int i = 0; i < 21; ++i) {
      group.barrier();
      const double start = steady_seconds();
      group.all_reduce(View<T, 1>(x.data(), count), Reduce::sum);
      const double middle = steady_seconds();
      std::memcpy(y.data(), x.data(), x.size() * sizeof(T));
      group.barrier();
      if (i > 0) sums.push_back(middle - start), copies.push_back(steady_seconds() - middle);
    }
    // A rank reads its slice of all buffers and writes it to all: together each buffer is read once and written once, as in a copy of one.
    if (group.rank() == 0)
      std::printf("%-5s %3lld MB a rank, %d ranks: all_reduce %7.2f GB/s of reads and writes, copy %7.2f, %.2f of copy\n", type,
                  static_cast<long long>(mb), group.size(), 2e-9 * static_cast<double>(mb << 20) * group.size() / median(sums),
                  2e-9 * static_cast<double>(mb << 20) * group.size() / median(copies), median(copies) / median(sums));
  }
}

}  // namespace

int main(int count, char** words) {
  run_ranks(count > 1 ? std::atoi(words[1]) : 2,
            [](Group group) { measure<float>(group, "f32"), measure<bfloat16>(group, "bf16"), measure<float16>(group, "f16"); });
}
