// All-reduce between processes, as a plain MPI program does it or through golem: seconds per call, one line a size. bench/comm/run.sh compares.
// SPDX-License-Identifier: Apache-2.0
// bench_mpi plain|golem|bf16|bf16_op, under mpirun
#include "golem/comm/mpi.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "golem/comm/launch.hpp"

namespace {

using namespace golem;

/// Seconds of one call on the slowest rank.
template <class Call>
double seconds_of(const Call& call) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double start = steady_seconds();
  call();
  double took = steady_seconds() - start;
  MPI_Allreduce(MPI_IN_PLACE, &took, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return took;
}
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Prints medians for buffers of 1 to 64 MB; where there are two ways, they take turns.
template <class T, class One, class Other>
void measure(int rank, const char* name, const One& one, const char* other_name, const Other& other) {
  std::vector<T> x((std::size_t{64} << 20) / sizeof(T), T(0.0f));
  for (std::int64_t mb = 1; mb <= 64; mb *= 2) {
    const std::int64_t count = (mb << 20) / static_cast<std::int64_t>(sizeof(T));
    std::vector<double> seconds, other_seconds;
    for (std::int64_t i = 0; i < std::clamp<std::int64_t>(512 / mb, 16, 100) + 2; ++i) {
      const double took = seconds_of([&] { one(x.data(), count); }), other_took = other_name ? seconds_of([&] { other(x.data(), count); }) : 0;
      if (i >= 2) seconds.push_back(took), other_seconds.push_back(other_took);
    }
    if (rank != 0) continue;
    std::printf("%s %lld %.6f\n", name, static_cast<long long>(mb), median(seconds));
    if (other_name) std::printf("%s %lld %.6f\n", other_name, static_cast<long long>(mb), median(other_seconds));
  }
}
template <class T, class One>
void measure(int rank, const char* name, const One& one) {
  measure<T>(rank, name, one, nullptr, [](T*, std::int64_t) {});
}

void plain_all_reduce(float* x, std::int64_t count) { MPI_Allreduce(MPI_IN_PLACE, x, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); }

/// What a program without golem would do about bfloat16: an operation of its own, which rounds after every addition.
void add_bfloat16(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* a = static_cast<const bfloat16*>(in);
  auto* b = static_cast<bfloat16*>(in_out);
  for (int i = 0; i < *count; ++i) b[i] = bfloat16(static_cast<float>(a[i]) + static_cast<float>(b[i]));
}

int plain() {
  MPI_Init(nullptr, nullptr);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  measure<float>(rank, "plain", plain_all_reduce);
  return MPI_Finalize();
}

void through_golem(World& world, const std::string& how) {
  const int rank = world.rank();
  if (how == "golem")
    measure<float>(
        rank, "golem", [&](float* x, std::int64_t n) { world.data().all_reduce(View<float, 1>(x, n), Reduce::sum); }, "inside", plain_all_reduce);
  if (how == "bf16")
    measure<bfloat16>(rank, "bf16", [&](bfloat16* x, std::int64_t n) { world.data().all_reduce(View<bfloat16, 1>(x, n), Reduce::sum); });
  if (how == "bf16_op") {
    MPI_Op sum = MPI_OP_NULL;
    MPI_Op_create(&add_bfloat16, 1, &sum);
    measure<bfloat16>(rank, "bf16_op",
                      [&](bfloat16* x, std::int64_t n) { MPI_Allreduce(MPI_IN_PLACE, x, static_cast<int>(n), MPI_UINT16_T, sum, MPI_COMM_WORLD); });
    MPI_Op_free(&sum);
  }
}

}  // namespace

int main(int count, char** words) {
  const std::string how = count > 1 ? words[1] : "golem";
  if (how == "plain") return plain();
  try {
    run_world({.tp = 1, .pp = 1, .dp = read_environment().ranks}, [&](World& world) { through_golem(world, how); });
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
