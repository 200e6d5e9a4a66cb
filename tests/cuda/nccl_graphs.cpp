// NCCL's transfers in graphs: captured and run again and again, and ranks that wait, fail or end while their GPUs are at work on a graph.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/on_ranks.hpp"

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "golem/core/function_ref.hpp"
#include "simt/runtime.hpp"

using namespace cuda_tests;

namespace {

/// A sum over the ranks of `group`, which is one number of each, as a graph.
class SumByGraph {
 public:
  SumByGraph(Group& group, cuda::Device& device) : group_(group), device_(device), x_(device, {1}) {}
  void run() {
    device_.replay(recording_, 1, [&] { group_.all_reduce(x_.view(), Reduce::sum); }, [&](function_ref<void()> start) { group_.run_graph(start); });
  }
  float value() { return x_.values()[0]; }

 private:
  Group& group_;
  cuda::Device& device_;
  OnDevice<float> x_;
  cuda::Device::Recording recording_;
};

}  // namespace

TEST_CASE("transfers that are captured run with their graph, each time anew, beside what does not need them") {
  constexpr int rounds = 5;
  on_ranks({.dp = 3}, [](World& world, cuda::Device& device) {
    Group& all = world.all();
    const auto rank = static_cast<float>(world.rank());
    OnDevice<float> x(device, {rank, 1}), y(device, {0, 0}), parts(device, {0, 0, 0});
    cuda::Device::Recording recording;
    if (!all.captures()) fail("NCCL captures nothing");
    for (int round = 0; round < rounds; ++round) {
      device.replay(recording, 1, [&] {
        Pending sum = all.start_all_reduce(x.view(), Reduce::sum);
        device.copy(y.buffer.data(), y.buffer.data() + 1, sizeof(float));
        Pending gathered = all.start_all_gather(parts.view(), parts.part(world.rank(), 1));
        sum.wait(), gathered.wait();
        device.copy(parts.buffer.data() + world.rank(), x.buffer.data(), sizeof(float));
      });
    }
    // x: 3, 9, 27, ...; parts: that of the round before, from everyone
    if (x.values() != std::vector<float>{243, 243}) fail("a sum of ", x.values()[0], ", and of ones ", x.values()[1]);
    std::vector<float> expected(3, 81);
    expected[static_cast<std::size_t>(world.rank())] = 243;
    if (parts.values() != expected) fail("parts");
  });
  CHECK(simt::bytes_in_use() == 0);
}

TEST_CASE("ranks cannot meet in a graph, and what is not awaited there is no part of it") {
  on_ranks({.dp = 2}, [](World& world, cuda::Device& device) {
    OnDevice<float> x(device, {1});
    const auto error_of = [&](auto work) {
      cuda::Device::Recording recording;
      device.replay(recording, 1, [] {});
      try {
        device.replay(recording, 1, work);
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    const auto expect = [](const std::string& error, std::string_view words) {
      if (error.find(words) == error.npos) fail("another error: ", error);
    };
    expect(error_of([&] { world.data().all_reduce(x.view(), Reduce::sum); }), "the first all_reduce (sum) of 1 f32 on the data axis was to be captured as part of a graph");
    world.data().all_reduce(x.view(), Reduce::sum);
    std::optional<Pending> pending;
    expect(error_of([&] { pending = world.data().start_all_reduce(x.view(), Reduce::sum); }), "CUDA could not capture a graph");
    pending.reset();
    world.data().all_reduce(x.view(), Reduce::sum);
    if (x.values()[0] != 4) fail("a sum of ", x.values()[0]);
  });
}

TEST_CASE("where ranks are threads, transfers are captured on demand alone") {
  run_ranks(2, [](Group all) {
    World world(std::move(all), Layout{.dp = 2});
    cuda::Device device;
    use_nccl(world, device.stream());
    if (world.data().captures()) fail("transfers of threads are captured");
    SumByGraph sum(world.data(), device);
    if (sum.run(), sum.value() != 2) fail("a sum of ", sum.value());
  });
  on_ranks({.dp = 2}, [](World& world, cuda::Device&) {
    if (!world.data().captures()) fail("they are not captured on demand");
    world.count();
    if (world.data().captures()) fail("transfers that are counted are captured, and a graph's would be missed");
  });
}

TEST_CASE("a peer that is lost while a graph waits for it ends the wait; NCCL waits for the graph, and the rank does not wait for NCCL") {
  const simt::MachineRestored restored;
  std::string met;
  std::atomic<bool> waits = false;
  CHECK_THROWS_AS(on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
                    SumByGraph sum(world.data(), device);
                    sum.run(), sum.run();
                    if (sum.value() != 4) fail("a sum of ", sum.value());
                    world.all().barrier();
                    if (world.rank() == 1) {
                      while (!waits) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                      simt::locked([] { simt::machine().lost_peer = "rank 1 went home"; });
                      while (!world.all().backend()->ended()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                      return;
                    }
                    sum.run();  // for which nobody comes
                    waits = true;
                    sum.value();
                    try {
                      sum.run();
                    } catch (const Error& error) {
                      met = error.what();
                      throw;
                    }
                  }),
                  Error);
  CHECK_THAT(met, Catch::Matchers::Contains("NCCL lost a peer") && Catch::Matchers::Contains("rank 1 went home"));
}

TEST_CASE("a rank that throws while others wait in a graph, and another of its groups is dropped first, ends the run") {
  std::string why;
  try {
    on_ranks({.tp = 2}, [&](World& world, cuda::Device& device) {
      OnDevice<float> x(device, {1});
      SumByGraph sum(world.tensor(), device);
      sum.run(), sum.run(), sum.run();
      Group other = world.tensor().split(0, world.rank());
      other.all_reduce(x.view(), Reduce::sum);
      x.values();
      world.all().barrier();
      sum.run();
      if (world.rank() == 1) fail("the disk is full");  // with a graph under way: all communicators end
      for (int i = 0; i < 3; ++i) sum.value(), sum.run();
    });
  } catch (const Error& error) {
    why = error.what();
  }
  CHECK_THAT(why, Catch::Matchers::Contains("rank 1 of 2 failed") && Catch::Matchers::Contains("the disk is full"));
}

TEST_CASE("a group that is dropped before a graph of its transfers is ended later, and the rank goes on") {
  const std::size_t aborts = simt::counts().aborts;
  on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
    std::optional<Group> other = world.data().split(0, world.rank());
    SumByGraph sum(*other, device);
    sum.run(), sum.run();
    if (sum.value() != 4) fail("a sum of ", sum.value());
    world.all().barrier();
    other.reset();  // cannot take leave: NCCL waits for the graph
    SumByGraph more(world.data(), device);
    if (more.run(), more.value() != 2) fail("a sum of ", more.value());
  });
  CHECK(simt::counts().aborts == aborts + 2);
}

TEST_CASE("a rank that waits on its GPU for one that stands still is noted as waiting, in a graph for its first transfer, and the other is named") {
  const bool by_graph = GENERATE(false, true);
  std::string why;
  try {
    run_ranks(2, [by_graph](Group all) {
      World world(std::move(all), Layout{.dp = 2});
      cuda::Device device({.graphs = by_graph});
      use_nccl(world, device.stream(), {.graphs_of_threads = true});
      SumByGraph sum(world.data(), device);
      OnDevice<double> last(device, {1, 2});
      sum.run(), sum.run();
      world.data().broadcast(last.view(), 0);
      last.values();
      world.all().barrier();
      if (world.rank() == 1) {
        world.note(3, "forward of micro-batch 0");  // said before the other's last word
        sum.run();
        sum.value();
        sum.run();
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        world.note(3, "reading rows");
        while (!world.all().backend()->ended()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }, {.deadline = 3});
  } catch (const Error& error) {
    why = error.what();
  }
  CHECK_THAT(why, Catch::Matchers::Contains("rank 0 of 2 failed in step 3, in reading rows: it ") && Catch::Matchers::Contains("rank 1 waited in all_reduce of 4 bytes on the data axis in step 3, in forward of micro-batch 0"));
}
