// The ranks of comm/processes.sh: every transfer between processes, and each way in which a rank can fail. Not a Catch2 program: it runs as many processes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "golem/comm/launch.hpp"

namespace process_ranks {

using namespace golem;

template <class T>
View<T, 1> view(std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size())};
}

/// Element i of rank r: small integers, whose sums are the same in any order and fit every type.
inline std::int64_t element(int rank, std::int64_t i) { return (i * 7 + rank * 3) % 11 - (rank % 2 == 0 ? 0 : 4); }
template <class T>
T number(std::int64_t value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(value);
  else
    return T(static_cast<float>(value));
}
template <class T>
std::vector<T> elements(int rank, std::int64_t count) {
  std::vector<T> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(number<T>(element(rank, i)));
  return out;
}
template <class T>
std::vector<T> reduced_elements(int ranks, std::int64_t first, std::int64_t count, Reduce how) {
  std::vector<T> out;
  for (std::int64_t i = first; i < first + count; ++i) {
    std::int64_t result = element(0, i);
    for (int rank = 1; rank < ranks; ++rank) result = how == Reduce::sum ? result + element(rank, i) : std::max(result, element(rank, i));
    if constexpr (std::is_same_v<T, std::uint8_t>)
      if (how == Reduce::max) {
        result = 0;
        for (int rank = 0; rank < ranks; ++rank) result = std::max<std::int64_t>(result, static_cast<std::uint8_t>(element(rank, i)));
      }
    out.push_back(number<T>(result));
  }
  return out;
}

template <class T>
void collectives(Group group, std::int64_t n, Reduce how) {
  const int rank = group.rank(), ranks = group.size();
  const std::string who = sentence(" of ", n, ' ', name_of(dtype_of<T>()), " on rank ", rank, " of ", ranks, " is wrong");
  const std::vector<T> whole = elements<T>(rank, n * ranks), mine = reduced_elements<T>(ranks, rank * n, n, how),
                       all = reduced_elements<T>(ranks, 0, n * ranks, how);
  std::vector<T> x = whole, y = whole, part(static_cast<std::size_t>(n)), z = whole;
  Pending pending = group.start_all_reduce(view(y), how);
  pending.wait();
  require(y == all, "a started all_reduce", who);
  group.all_reduce(view(x), how);
  require(x == all, "all_reduce", who);
  group.reduce_scatter(view(part), View<const T, 1>(whole.data(), n * ranks), how);
  require(part == mine, "reduce_scatter", who);
  group.reduce_scatter(View<T, 1>(z.data() + rank * n, n), view(z), how);
  require(std::equal(mine.begin(), mine.end(), z.begin() + rank * n), "reduce_scatter in place", who);
  group.all_gather(view(z), View<T, 1>(z.data() + rank * n, n));
  require(z == all, "all_gather in place", who);
  std::vector<T> gathered(z.size());
  group.start_all_gather(view(gathered), view(part)).wait();
  require(gathered == all, "a started all_gather", who);
  std::vector<T> b = elements<T>(rank, n);
  group.broadcast(view(b), ranks - 1);
  require(b == elements<T>(ranks - 1, n), "broadcast", who);
  group.barrier();
}

template <class T>
void collectives_of(Group group) {
  for (const std::int64_t n : {0, 1, 7, 1001}) collectives<T>(group, n, n == 7 ? Reduce::max : Reduce::sum);
}

/// Reductions that are made in more than one piece.
inline void in_pieces(Group group) {
  const std::int64_t ranks = group.size(), n = (std::int64_t{4} << 20) / ranks + 3;
  const auto value = [](std::int64_t i) { return static_cast<std::uint8_t>(i % 29); };
  std::vector<std::uint8_t> whole, part(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n * ranks; ++i) whole.push_back(value(i));
  group.reduce_scatter(view(part), view(whole), Reduce::sum);
  for (std::int64_t i = 0; i < n; ++i)
    require(part[static_cast<std::size_t>(i)] == static_cast<std::uint8_t>(ranks * value(group.rank() * n + i)), "element ", i,
            " of a long reduce_scatter");
  group.all_reduce(view(whole), Reduce::sum);
  for (std::int64_t i = 0; i < n * ranks; ++i)
    require(whole[static_cast<std::size_t>(i)] == static_cast<std::uint8_t>(ranks * value(i)), "element ", i, " of a long all_reduce");
}

inline void messages(Group group) {
  const int rank = group.rank(), ranks = group.size(), next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  if (ranks == 1) return;
  for (const std::int64_t n : {1, 1000, 300000}) {
    std::vector<std::vector<std::int32_t>> out, in(6, std::vector<std::int32_t>(static_cast<std::size_t>(n)));
    std::vector<Pending> sends, receives;
    for (int i = 0; i < 6; ++i) out.emplace_back(static_cast<std::size_t>(n), rank * 100 + i);
    for (std::size_t i = 0; i < 6; ++i) receives.push_back(group.start_receive(view(in[i]), i % 2 == 0 ? previous : next));
    for (std::size_t i = 0; i < 6; ++i) sends.push_back(group.start_send(view(out[i]), i % 2 == 0 ? next : previous));
    for (auto& pending : receives) pending.wait();
    for (auto& pending : sends) pending.wait();
    for (int i = 0; i < 6; ++i)
      for (const std::int32_t value : in[static_cast<std::size_t>(i)])
        require(value == (i % 2 == 0 ? previous : next) * 100 + i, "message ", i, " of ", n, " on rank ", rank, " is wrong: ", value);
  }
}

inline void transfers(World& world) {
  collectives_of<float>(world.all()), collectives_of<double>(world.all()), collectives_of<float16>(world.all()),
      collectives_of<bfloat16>(world.all());
  collectives_of<std::int64_t>(world.all()), collectives_of<std::int32_t>(world.all()), collectives_of<std::int8_t>(world.all()),
      collectives_of<std::uint8_t>(world.all());
  in_pieces(world.all());
  collectives<float>(world.tensor(), 1000, Reduce::sum), collectives<float>(world.data(), 33, Reduce::sum),
      collectives<double>(world.model(), 5, Reduce::max);
  messages(world.all()), messages(world.data());
  Group turned = world.all().split(0, -world.rank(), "turned");
  require(turned.rank() == world.all().size() - 1 - world.rank(), "keys turn the order round");

  std::vector<bfloat16> rounded{bfloat16(world.rank() == 0 ? 256.0f : 1.0f)};
  world.all().all_reduce(view(rounded), Reduce::sum);
  const float exact = static_cast<float>(256 + world.all().size() - 1);
  require(rounded[0] == bfloat16(exact), "a sum of bf16 was rounded more than once: ", static_cast<float>(rounded[0]));
  std::vector<float> bad{world.rank() == 0 ? std::numeric_limits<float>::quiet_NaN() : 1.0f};
  world.all().all_reduce(view(bad), Reduce::max);
  require(bad[0] != bad[0], "a NaN was lost in a maximum");

  // Many in the background, on several axes, mixed with blocking ones.
  world.count();
  std::vector<std::vector<float>> x;
  std::vector<Pending> pending;
  for (std::size_t i = 0; i < 10; ++i)
    x.emplace_back(100 + i, static_cast<float>(i)),
        pending.push_back((i % 2 == 0 ? world.data() : world.tensor()).start_all_reduce(view(x[i]), Reduce::sum));
  std::vector<double> y(5, 1.0);
  world.data().all_reduce(view(y), Reduce::sum);
  require(y[4] == world.data().size(), "a blocking all_reduce behind started ones");
  for (auto& p : pending) p.wait();
  for (std::size_t i = 0; i < 10; ++i)
    require(x[i].back() == static_cast<float>(i) * static_cast<float>(i % 2 == 0 ? world.data().size() : world.tensor().size()),
            "a started all_reduce");
  for (const AxisCount& count : world.counts())
    if (count.axis == "data")
      require(count.total().calls == 6 && count.total().bytes == 4 * (100 + 102 + 104 + 106 + 108) + 40, "the data axis counted ",
              count.total().bytes, " bytes");
  world.agree("the model", "layers 2");
}

/// Kills the process that was forked from this one and lives on by itself: it has the same environment, to the byte. A companion, where there is one.
inline void kill_twin() {
  const auto environment = [](const std::string& process) {
    std::ifstream in("/proc/" + process + "/environ");
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string own = environment("self");
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const int process = std::atoi(entry.path().filename().c_str());
    if (process > 0 && process != getpid() && environment(std::to_string(process)) == own) kill(process, SIGKILL);
  }
}

inline void fail_as(const std::string& how, World& world) {
  std::vector<float> x(1000);
  const bool last = world.rank() == world.all().size() - 1;
  world.note(17, last ? "forward of micro-batch 3" : "backward of micro-batch 2");
  if (how == "agree") world.agree("the seed", last ? "2" : "1");
  if (how == "count") world.all().all_reduce(View<float, 1>(x.data(), last ? 7 : 5), Reduce::sum);
  if (how == "kind") last ? world.all().barrier() : world.all().start_all_reduce(view(x), Reduce::sum).wait();
  if (how == "split") last ? void(world.all().split(0, 0, "part")) : world.all().start_all_reduce(view(x), Reduce::sum).wait();
  if (how == "message")
    last                ? world.all().receive(View<float, 1>(x.data(), 5), 0)
    : world.rank() == 0 ? world.all().send(View<float, 1>(x.data(), 4), world.all().size() - 1)
                        : void();
  if (how == "longer message")
    last                ? world.all().receive(View<float, 1>(x.data(), 5), 0)
    : world.rank() == 0 ? world.all().send(View<float, 1>(x.data(), 9), world.all().size() - 1)
                        : void();
  const Pending left = world.all().start_all_reduce(view(x), Reduce::sum);
  if (last && how == "throw") fail("the corpus has no row 12");
  if (last && how == "kill") raise(SIGKILL);
  if (last && how == "crash") raise(SIGSEGV);
  if (last && how == "leave") _exit(3);
  if (last && (how == "stall" || how == "be cut off")) sleep(60);
  if (last && how == "stop") std::thread([] { sleep(1), raise(SIGSTOP); }).detach();  // while the rank waits for rank 0
  if (world.rank() == 0 && how == "stop") sleep(60);
  if (world.rank() == 0 && how == "kill 0") sleep(1), raise(SIGKILL);  // while the others wait
  if (world.rank() == 0 && how.starts_with("lose 0")) sleep(1), kill_twin();
  if (world.rank() == 0 && how == "lose 0 and its companion") raise(SIGKILL);
  world.all().barrier();
  if (how.starts_with("lose 0")) sleep(60);
  world.all().barrier();
}


/// The program: TP PP DP HOW.
inline int run_as_ranks(int count, char** words) {
  if (count < 5) return 2;
  const Layout layout{.tp = std::atoi(words[1]), .pp = std::atoi(words[2]), .dp = std::atoi(words[3])};
  const std::string how = words[4];
  try {
    run_world(layout,
              [&](World& world) {
                if (how == "work")
                  transfers(world);
                else
                  fail_as(how, world);
                if (world.rank() == 0) std::printf("all right on %d ranks\n", world.all().size());
              },
              {.deadline = how == "work" ? 60.0 : how == "be cut off" ? 8.0 : 3.0, .grace = 1, .when_stuck = {}});
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace process_ranks
