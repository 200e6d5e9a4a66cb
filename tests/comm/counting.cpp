// What is counted of transfers: calls and payload by the formula of each collective, and for threads the bytes really copied.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/counting.hpp"

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "golem/comm/threads.hpp"
#include "golem/comm/world.hpp"

using namespace golem;
using Kind = Transfer::Kind;

TEST_CASE("calls and payload are those of the interface, and threads copy what the formulas say") {
  constexpr int ranks = 3;
  constexpr std::int64_t n = 1001;  // elements of a part
  std::vector<AxisCount> counts(ranks);
  std::vector<std::int64_t> sums(ranks), gathers(ranks);
  run_ranks(ranks, [&](Group plain) {
    const auto counted = std::make_shared<CountedGroup>(plain.backend());
    Group group(counted);
    const auto rank = static_cast<std::size_t>(group.rank());
    std::vector<float> x(n), whole(n * ranks);
    const View<float, 1> part{x.data(), n}, all{whole.data(), n * ranks};
    group.all_reduce(all, Reduce::sum);
    sums[rank] = counted->count().copied;
    group.all_gather(all, View<const float, 1>(part));
    gathers[rank] = counted->count().copied - sums[rank];
    group.start_reduce_scatter(part, View<const float, 1>(all), Reduce::sum).wait();
    group.broadcast(part, 1);
    if (rank == 0) group.send(View<const float, 1>(part), 2);
    if (rank == 2) group.start_receive(part, 0).wait();
    group.barrier();
    group.barrier();
    counts[rank] = counted->count();
  });
  std::int64_t copied_sum = 0, copied_gather = 0, copied = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const AxisCount& count = counts[static_cast<std::size_t>(rank)];
    CHECK(count.axis == "world");
    CHECK((count.of(Kind::all_reduce).calls == 1 && count.of(Kind::all_reduce).bytes == n * ranks * 4));
    CHECK((count.of(Kind::all_gather).calls == 1 && count.of(Kind::all_gather).bytes == n * 4));
    CHECK((count.of(Kind::reduce_scatter).calls == 1 && count.of(Kind::reduce_scatter).bytes == n * 4));
    CHECK((count.of(Kind::broadcast).calls == 1 && count.of(Kind::broadcast).bytes == n * 4));
    CHECK(count.of(Kind::send).bytes == (rank == 0 ? n * 4 : 0));
    CHECK(count.of(Kind::receive).bytes == (rank == 2 ? n * 4 : 0));
    CHECK((count.of(Kind::barrier).calls == 2 && count.of(Kind::barrier).bytes == 0));
    CHECK(count.total().calls == (rank == 1 ? 6 : 7));
    copied_sum += sums[static_cast<std::size_t>(rank)], copied_gather += gathers[static_cast<std::size_t>(rank)], copied += count.copied;
  }
  CHECK(copied_sum == ranks * n * ranks * 4);     // every element is written once on every rank
  CHECK(copied_gather == ranks * n * ranks * 4);  // every part is written once on every rank
  CHECK(copied == copied_sum + copied_gather + ranks * n * 4 + (ranks - 1) * n * 4 + n * 4);
}

TEST_CASE("a gather in place does not copy a rank's own part") {
  std::mutex mutex;
  std::int64_t copied = 0;
  run_ranks(4, [&](Group group) {
    std::vector<double> x(4 * 5);
    group.all_gather(View<double, 1>(x.data(), 20), View<const double, 1>(x.data() + 5 * group.rank(), 5));
    const std::lock_guard lock(mutex);
    copied += group.backend()->copied();
  });
  CHECK(copied == 4 * 3 * 5 * 8);
}

TEST_CASE("a world counts each axis apart, and the seconds that a rank waited") {
  std::map<std::string, AxisCount> of_first;
  double waited = 0;
  run_ranks(4, [&](Group group) {
    World world(group, {.tp = 2, .pp = 1, .dp = 2});
    world.count();
    std::vector<float> x(10), y(3);
    world.tensor().all_reduce(View<float, 1>(x.data(), 10), Reduce::sum);
    world.tensor().all_reduce(View<float, 1>(x.data(), 10), Reduce::sum);
    if (world.data_rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    world.data().start_all_reduce(View<float, 1>(y.data(), 3), Reduce::max).wait();
    world.data().split(0, 0).barrier();
    if (world.rank() != 0) return;
    for (const AxisCount& count : world.counts()) of_first[count.axis] = count;
    waited = of_first["data"].of(Kind::all_reduce).seconds;
  });
  CHECK(of_first.size() == 4);  // world, tensor, data, model: the other axes are of one rank
  CHECK(of_first["tensor"].of(Kind::all_reduce).calls == 2);
  CHECK(of_first["tensor"].total().bytes == 80);
  CHECK(of_first["data"].of(Kind::all_reduce).bytes == 12);
  CHECK(of_first["data"].of(Kind::barrier).calls == 1);  // of a part that was split off
  CHECK(of_first["world"].total().calls == 0);
  CHECK(waited > 0.01);
  CHECK(of_first["tensor"].total().seconds < waited);
}

TEST_CASE("what runs while a rank does something else is overlapped, and what it waits for is exposed") {
  TransferCount early, late;
  run_ranks(2, [&](Group plain) {
    const auto counted = std::make_shared<CountedGroup>(plain.backend());
    Group group(counted);
    std::vector<float> x(10);
    const auto sleep = [](int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); };
    if (group.rank() == 1) sleep(40);
    Pending pending = group.start_all_reduce(View<float, 1>(x.data(), 10), Reduce::sum);  // rank 0's runs until rank 1 comes
    if (group.rank() == 0) sleep(80);
    pending.wait();
    if (group.rank() == 0) early = counted->count().of(Kind::all_reduce);
    group.barrier();
    if (group.rank() == 1) sleep(40);
    group.start_all_reduce(View<float, 1>(x.data(), 10), Reduce::sum).wait();
    if (group.rank() == 0) late = counted->count().of(Kind::all_reduce);
  });
  CHECK(early.overlapped > 0.03);
  CHECK(early.seconds < early.overlapped);
  CHECK(late.seconds > early.seconds + 0.03);
  CHECK(late.overlapped < early.overlapped + 0.01);
}
