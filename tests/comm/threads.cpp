// Ranks as threads: every collective against a plain loop over ranks, for all types and odd sizes; messages, splits, stress.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/threads.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "golem/comm/world.hpp"
#include "golem/core/random.hpp"

using namespace golem;

namespace {

template <class T>
View<T, 1> view(std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size())};
}
template <class T>
View<const T, 1> part(const std::vector<T>& values, std::int64_t first, std::int64_t count) {
  return {values.data() + first, count};
}

/// Element i of rank r: numbers whose sum depends on the order.
template <class T>
T element(int rank, std::int64_t i) {
  const double uniform = Random{7, static_cast<std::uint64_t>(rank)}.uniform(static_cast<std::uint64_t>(i));
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(uniform * 1e12);
  else
    return T(static_cast<float>((uniform - 0.5) * (i % 3 == 0 ? 1e4 : 1)));
}
template <class T>
std::vector<T> elements(int rank, std::int64_t count) {
  std::vector<T> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(element<T>(rank, i));
  return out;
}

/// What a loop over ranks makes of element i.
template <class T>
T expected(int ranks, std::int64_t i, Reduce how) {
  using A = reduce_t<T>;
  A sum = static_cast<A>(element<T>(0, i));
  for (int rank = 1; rank < ranks; ++rank) {
    const A other = static_cast<A>(element<T>(rank, i));
    if (how == Reduce::max)
      sum = std::max(sum, other);
    else if constexpr (std::is_integral_v<A>)
      sum = static_cast<A>(static_cast<std::uint64_t>(sum) + static_cast<std::uint64_t>(other));
    else
      sum += other;
  }
  return T(sum);
}
template <class T>
std::vector<T> expected(int ranks, std::int64_t first, std::int64_t count, Reduce how) {
  std::vector<T> out;
  for (std::int64_t i = first; i < first + count; ++i) out.push_back(expected<T>(ranks, i, how));
  return out;
}

/// Catch2's assertions are for one thread: ranks note what is wrong, and the test looks.
class Verdict {
 public:
  void check(bool holds, const std::string& what) {
    if (holds) return;
    const std::lock_guard lock(mutex_);
    wrong_ += what + "; ";
  }
  std::string wrong() const { return wrong_; }

 private:
  std::mutex mutex_;
  std::string wrong_;
};

template <class T>
void all_collectives(int ranks, std::int64_t n, Reduce how) {
  Verdict verdict;
  run_ranks(ranks, [&](Group group) {
    const int rank = group.rank();
    const std::string who = sentence(name_of(dtype_of<T>()), ", rank ", rank, " of ", ranks, ", ", n, " elements");
    std::vector<T> x = elements<T>(rank, n);
    group.all_reduce(view(x), how);
    verdict.check(x == expected<T>(ranks, 0, n, how), "all_reduce " + who);

    const std::vector<T> whole = elements<T>(rank, n * ranks), mine = expected<T>(ranks, rank * n, n, how);
    std::vector<T> scattered(static_cast<std::size_t>(n));
    group.reduce_scatter(view(scattered), part(whole, 0, n * ranks), how);
    verdict.check(scattered == mine, "reduce_scatter " + who);

    std::vector<T> in_place = whole;
    group.reduce_scatter(View<T, 1>(in_place.data() + rank * n, n), part(in_place, 0, n * ranks), how);
    verdict.check(std::equal(mine.begin(), mine.end(), in_place.begin() + rank * n), "reduce_scatter in place " + who);

    group.all_gather(view(in_place), part(in_place, rank * n, n));
    verdict.check(in_place == expected<T>(ranks, 0, n * ranks, how), "all_gather in place " + who);
    std::vector<T> gathered(static_cast<std::size_t>(n * ranks));
    group.all_gather(view(gathered), part(scattered, 0, n));
    verdict.check(gathered == in_place, "all_gather " + who);

    const int root = ranks - 1;
    std::vector<T> y = elements<T>(rank, n);
    group.broadcast(view(y), root);
    verdict.check(y == elements<T>(root, n), "broadcast " + who);
    group.barrier();
  });
  CHECK(verdict.wrong() == "");
}

}  // namespace

TEMPLATE_TEST_CASE("collectives equal a loop over ranks, bit for bit", "", float, double, float16, bfloat16, std::int64_t, std::int32_t, std::int8_t,
                   std::uint8_t) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (const std::int64_t n : {0, 1, 7, 63, 1000}) all_collectives<TestType>(ranks, n, n == 63 ? Reduce::max : Reduce::sum);
  all_collectives<TestType>(3, 10007, Reduce::sum);
}

TEST_CASE("sixteen-bit sums are rounded once") {
  std::vector<float> sums(2);
  run_ranks(4, [&](Group group) {
    std::vector<bfloat16> x{bfloat16(group.rank() == 0 ? 256.0f : 0.5f)};
    group.all_reduce(view(x), Reduce::sum);
    if (group.rank() == 3) sums[0] = static_cast<float>(x[0]);
    std::vector<float16> y{float16(group.rank() == 0 ? 2048.0f : 0.75f)};
    group.all_reduce(view(y), Reduce::sum);
    if (group.rank() == 2) sums[1] = static_cast<float>(y[0]);
  });
  CHECK(sums == std::vector<float>{258, 2050});  // 256 + 1.5, 2048 + 2.25; rounded at each step they would stay 256 and 2048
}

TEST_CASE("a NaN survives a maximum, wherever it is") {
  for (int bad = 0; bad < 3; ++bad) {
    std::atomic<int> kept{0};
    run_ranks(3, [&](Group group) {
      std::vector<float> x{group.rank() == bad ? std::numeric_limits<float>::quiet_NaN() : 1.0f};
      group.all_reduce(view(x), Reduce::max);
      kept += x[0] != x[0];
    });
    CHECK(kept == 3);
  }
}

TEST_CASE("messages arrive in order, both ways, many in flight, whoever is first") {
  constexpr int count = 50;
  for (const bool receiver_first : {false, true}) {
    Verdict verdict;
    run_ranks(3, [&](Group group) {
      const int rank = group.rank(), next = (rank + 1) % 3, previous = (rank + 2) % 3;
      std::vector<std::vector<std::int32_t>> out, in(2 * count);
      for (int i = 0; i < 2 * count; ++i)
        out.emplace_back(static_cast<std::size_t>(1 + i % 5), rank * 1000 + i),
            in[static_cast<std::size_t>(i)].resize(static_cast<std::size_t>(1 + i % 5));
      std::vector<Pending> sends, receives;
      const auto send = [&] {
        for (std::size_t i = 0; i < count; ++i)
          sends.push_back(group.start_send(View<const std::int32_t, 1>(view(out[i])), next)),
              sends.push_back(group.start_send(View<const std::int32_t, 1>(view(out[count + i])), previous));
      };
      const auto receive = [&] {
        for (std::size_t i = 0; i < count; ++i)
          receives.push_back(group.start_receive(view(in[count + i]), next)), receives.push_back(group.start_receive(view(in[i]), previous));
      };
      if (receiver_first) receive();
      send();
      if (!receiver_first) receive();
      for (auto& pending : receives) pending.wait();
      for (int i = 0; i < 2 * count; ++i) {
        const int from = i < count ? previous : next;
        verdict.check(std::ranges::all_of(in[static_cast<std::size_t>(i)], [&](std::int32_t value) { return value == from * 1000 + i; }),
                      sentence("message ", i, " from ", from));
      }
      for (auto& pending : sends) pending.wait();
    });
    CHECK(verdict.wrong() == "");
  }
}

TEST_CASE("a blocking send ends when its receiver has come, and not before") {
  std::atomic<bool> sent{false}, early{false};
  run_ranks(2, [&](Group group) {
    std::vector<float> x(11, static_cast<float>(group.rank()));
    if (group.rank() == 0) {
      group.send(View<const float, 1>(view(x)), 1);
      sent = true;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      early = sent.load();
      group.receive(view(x), 0);
      require(x[10] == 0, "the message is wrong");
    }
  });
  CHECK(sent);
  CHECK_FALSE(early);
}

TEST_CASE("started collectives run while their rank computes, in order, mixed with blocking ones") {
  Verdict verdict;
  std::atomic<int> computed{0};
  run_ranks(4, [&](Group group) {
    std::vector<std::vector<float>> x;
    std::vector<Pending> pending;
    for (std::size_t i = 0; i < 20; ++i)
      x.emplace_back(100 + i, static_cast<float>(i)), pending.push_back(group.start_all_reduce(view(x[i]), Reduce::sum));
    std::vector<float> y(5, 1.0f);
    group.all_reduce(view(y), Reduce::sum);
    verdict.check(y[4] == 4, "a blocking all_reduce behind started ones");
    for (std::size_t i = 0; i < 20; ++i) verdict.check(x[i].back() == 4 * static_cast<float>(i), "a started all_reduce that a blocking one followed");
    for (auto& p : pending) p.wait();

    // A rank that never waits until all have computed: the transfer must end meanwhile.
    std::vector<float> z(1000, 1.0f);
    Pending overlapped = group.start_all_reduce(view(z), Reduce::sum);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ++computed;
    overlapped.wait();
    verdict.check(z[999] == 4, "an overlapped all_reduce");
    { const Pending left = group.start_all_reduce(view(z), Reduce::sum); }
    verdict.check(z[0] == 16, "a pending transfer that nobody waited for");
  });
  CHECK(verdict.wrong() == "");
  CHECK(computed == 4);
}

TEST_CASE("a split makes groups by colour, ordered by key and then by rank") {
  Verdict verdict;
  run_ranks(7, [&](Group group) {
    const int rank = group.rank();
    Group part = group.split(rank % 3, -rank, "thirds");
    const int size = rank % 3 == 0 ? 3 : 2;
    verdict.check(part.size() == size && part.rank() == size - 1 - rank / 3, "keys turn the order round");
    verdict.check(part.backend()->axis() == "thirds", "the name");
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(size)), mine{rank};
    part.all_gather(view(ranks), View<const std::int32_t, 1>(view(mine)));
    for (int i = 0; i < size; ++i) verdict.check(ranks[static_cast<std::size_t>(i)] == rank % 3 + 3 * (size - 1 - i), "members");
    try {
      group.split(-1, 0);
      verdict.check(false, "a colour below 0");
    } catch (const Error& error) {
      verdict.check(std::string_view(error.what()).find("colour -1") != std::string_view::npos, "the refusal of a colour below 0");
    }
    Group same = group.split(5, 0), halves = same.split(rank < 3, 0);
    verdict.check(same.rank() == rank && halves.rank() == (rank < 3 ? rank : rank - 3), "equal keys keep the order");
    std::vector<std::int32_t> sum{rank};
    halves.all_reduce(view(sum), Reduce::sum);
    verdict.check(sum[0] == (rank < 3 ? 3 : 18), "a split of a split");
  });
  CHECK(verdict.wrong() == "");
}

TEST_CASE("the rank cube: tensor fastest, then data, then pipeline") {
  for (const Layout layout : {Layout{2, 2, 2}, Layout{1, 3, 2}, Layout{2, 1, 3}, Layout{1, 1, 1}, Layout{1, 4, 1}}) {
    Verdict verdict;
    run_ranks(layout.ranks(), [&](Group group) {
      World world(group, layout);
      verdict.check(world.rank() == world.tensor_rank() + layout.tp * (world.data_rank() + layout.dp * world.stage()), "rank");
      verdict.check(world.tensor().size() == layout.tp && world.tensor().rank() == world.tensor_rank(), "tensor");
      verdict.check(world.data().size() == layout.dp && world.data().rank() == world.data_rank(), "data");
      verdict.check(world.pipeline().size() == layout.pp && world.pipeline().rank() == world.stage(), "pipeline");
      verdict.check(world.model().size() == layout.tp * layout.pp, "model");
      std::vector<std::int32_t> stages{world.stage()};
      world.pipeline().all_reduce(view(stages), Reduce::sum);
      verdict.check(stages[0] == layout.pp * (layout.pp - 1) / 2, "a column of stages");
      std::vector<std::int32_t> ends{world.stage()};
      world.tied().all_reduce(view(ends), Reduce::sum);
      const bool end = world.stage() == 0 || world.stage() == layout.pp - 1;
      verdict.check(ends[0] == (end ? layout.pp - 1 : world.stage()), "the ends that share an embedding");
    });
    CHECK(verdict.wrong() == "");
  }
}

TEST_CASE("many ranks in many groups at once, for a while") {
  Verdict verdict;
  run_ranks(8, [&](Group group) {
    World world(group, {.tp = 2, .pp = 2, .dp = 2});
    std::vector<std::int64_t> a(37), b(1025), c(3);
    for (int round = 0; round < 300; ++round) {
      std::ranges::fill(a, world.tensor_rank() + round), std::ranges::fill(b, world.data_rank() + round), std::ranges::fill(c, world.stage() + round);
      Pending reduced = world.data().start_all_reduce(view(b), Reduce::sum);
      Pending passed = world.stage() == 0 ? world.pipeline().start_send(View<const std::int64_t, 1>(view(c)), 1) : Pending();
      if (world.stage() == 1) world.pipeline().receive(view(c), 0);
      world.tensor().all_reduce(view(a), Reduce::sum);
      reduced.wait(), passed.wait();
      verdict.check(a[36] == 1 + 2 * round && b[1024] == 1 + 2 * round && c[2] == round, "a round");
    }
  });
  CHECK(verdict.wrong() == "");
}
