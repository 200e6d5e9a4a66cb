// NCCL's groups on the host's NCCL where something goes wrong: a peer that is lost, one that stands still, a library that is too old.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/on_ranks.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "catch.hpp"
#include "simt/runtime.hpp"

using namespace cuda_tests;

TEST_CASE("a lost peer ends the wait, and the next transfer says so") {
  const simt::MachineRestored restored;
  std::string why;
  try {
    on_ranks({.dp = 2}, [](World& world, cuda::Device& device) {
      OnDevice<float> x(device, {1});
      world.data().all_reduce(x.view(), Reduce::sum);
      x.values();
      world.all().barrier();
      if (world.rank() == 1) simt::locked([] { simt::machine().lost_peer = "rank 1 went home"; });
      world.all().barrier();
      for (;;) {
        world.data().all_reduce(x.view(), Reduce::sum);
        x.values();
      }
    });
  } catch (const Error& error) {
    why = error.what();
  }
  CHECK_THAT(why, Catch::Matchers::Contains("rank 1 went home"));
  CHECK_THAT(why, Catch::Matchers::Contains("NCCL"));
}

TEST_CASE("what a GPU computed since NCCL has failed is not acted on: the next meeting of the host says so") {
  const simt::MachineRestored restored;
  std::string met;
  std::atomic<bool> waits = false;
  const std::size_t aborts_alone = simt::counts().aborts_alone;
  CHECK_THROWS_AS(on_ranks({.tp = 2, .dp = 2},
                           [&](World& world, cuda::Device& device) {
                             OnDevice<float> x(device, {1}), y(device, {1});
                             world.tensor().all_reduce(y.view(), Reduce::sum);
                             world.data().all_reduce(x.view(), Reduce::sum);
                             x.values();
                             world.all().barrier();
                             if (world.rank() > 0) {
                               while (!waits) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                               if (world.rank() == 3) simt::locked([] { simt::machine().lost_peer = "rank 3 went home"; });
                               while (!world.all().backend()->ended()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                               return;
                             }
                             world.tensor().all_reduce(y.view(), Reduce::sum);
                             world.data().all_reduce(x.view(), Reduce::sum);  // for which nobody comes
                             waits = true;
                             x.values();                                      // comes back by the abort, with what it had
                             try {
                               world.all().barrier();
                             } catch (const Error& error) {
                               met = error.what();
                               throw;
                             }
                           }),
                  Error);
  CHECK_THAT(met, Catch::Matchers::Contains("NCCL lost a peer") && Catch::Matchers::Contains("rank 3 went home"));
  CHECK(simt::counts().aborts_alone == aborts_alone);
}

TEST_CASE("a rank that leaves before anybody has seen that NCCL failed aborts its communicators as one group") {
  const simt::MachineRestored restored;
  const std::size_t aborts_alone = simt::counts().aborts_alone, aborts = simt::counts().aborts;
  std::atomic<bool> lost = false;
  on_ranks({.tp = 2, .dp = 2}, [&](World& world, cuda::Device& device) {
    OnDevice<float> x(device, {1});
    world.tensor().all_reduce(x.view(), Reduce::sum);
    world.data().all_reduce(x.view(), Reduce::sum);
    x.values();
    world.all().barrier();
    if (world.rank() == 3) simt::locked([] { simt::machine().lost_peer = "rank 3 went home"; }), lost = true;
    while (!lost) std::this_thread::yield();
  });
  CHECK(simt::counts().aborts >= aborts + 8);  // two communicators of four ranks
  CHECK(simt::counts().aborts_alone == aborts_alone);
}

TEST_CASE("a peer that goes while this rank takes leave ends its wait") {
  const simt::MachineRestored restored;
  const std::size_t aborts_alone = simt::counts().aborts_alone;
  std::atomic<bool> waits = false;
  on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
    OnDevice<float> x(device, {1});
    Group other = world.data().split(0, world.rank());
    other.all_reduce(x.view(), Reduce::sum);
    x.values();
    if (world.rank() == 0) {
      other.all_reduce(x.view(), Reduce::sum);  // for which nobody comes
      waits = true;
      other = Group();
    } else {
      while (!waits) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      simt::locked([] { simt::machine().lost_peer = "rank 1 went home"; });
    }
  });
  CHECK(simt::counts().aborts_alone == aborts_alone);
}

TEST_CASE("a group that is dropped is no peer that is lost, however long NCCL takes over it") {
  const simt::MachineRestored restored;
  const std::size_t aborts = simt::counts().aborts;
  simt::machine().nccl_leave = std::chrono::milliseconds(250);  // more than the watcher sleeps
  on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
    OnDevice<float> x(device, {1});
    {
      Group other = world.data().split(0, world.rank());
      other.all_reduce(x.view(), Reduce::sum);
      x.values();
    }
    world.all().barrier();
    world.data().all_reduce(x.view(), Reduce::sum);
    if (x.values()[0] != 4) fail("a sum of ", x.values()[0]);
  });
  CHECK(simt::counts().aborts == aborts);
}

TEST_CASE("an error that its caller handles ends the groups that it drops, and no others that rest") {
  const std::size_t aborts = simt::counts().aborts;
  on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
    OnDevice<float> x(device, {1});
    try {
      Group other = world.data().split(0, world.rank());
      other.all_reduce(x.view(), Reduce::sum);
      x.values();
      fail("too much of it");
    } catch (const Error&) {
    }
    world.all().barrier();
    world.data().all_reduce(x.view(), Reduce::sum);
    if (x.values()[0] != 4) fail("a sum of ", x.values()[0]);
  });
  CHECK(simt::counts().aborts == aborts + 2);
}

TEST_CASE("a rank that throws ends the run of ranks that are threads, and those that wait for it on their GPUs come back") {
  std::string why, waited;
  try {
    on_ranks({.dp = 2}, [&](World& world, cuda::Device& device) {
      OnDevice<float> x(device, {1});
      world.data().all_reduce(x.view(), Reduce::sum);
      x.values();
      world.all().barrier();
      if (world.rank() == 1) fail("the disk is full");
      try {
        world.data().all_reduce(x.view(), Reduce::sum);  // for which rank 1 never comes
        x.values();
        world.data().all_reduce(x.view(), Reduce::sum);
      } catch (const RunEnded& error) {
        waited = error.what();
        throw;
      }
    });
  } catch (const Error& error) {
    why = error.what();
  }
  CHECK_THAT(why, Catch::Matchers::Contains("rank 1 of 2 failed") && Catch::Matchers::Contains("the disk is full"));
  CHECK_THAT(waited, Catch::Matchers::Contains("NCCL was stopped, since another rank has failed"));
}

TEST_CASE("a rank that throws while its GPU waits for a rank that never comes ends the run, with graphs on its way out or without") {
  const auto streams = simt::counts().streams.load();
  for (const bool graphs : {false, true}) {
    std::string why;
    try {
      on_ranks(
          {.dp = 2},
          [&](World& world, cuda::Device& device) {
            OnDevice<float> x(device, {1});
            const auto add = [&] { world.data().all_reduce(x.view(), Reduce::sum); };
            cuda::Device::Recording recording;
            for (int i = 0; i < 3; ++i) graphs ? device.replay(recording, 1, add) : add();
            x.values();
            world.all().barrier();
            if (world.rank() == 1) {
              graphs ? device.replay(recording, 1, add) : add();  // for which rank 0 never comes
              fail("the disk is full");
            }
            world.all().barrier();
          },
          {.deadline = 20});
    } catch (const Error& error) {
      why = error.what();
    }
    CHECK_THAT(why, Catch::Matchers::Contains("rank 1 of 2 failed") && Catch::Matchers::Contains("the disk is full"));
    CHECK(simt::counts().streams == streams);
    CHECK(simt::bytes_in_use() == 0);
  }
}

TEST_CASE("a transfer is under way while NCCL still takes it, and one that NCCL refuses is not") {
  cuda::Device device;
  nccl::TransfersUnderWay transfers("data");
  const Transfer sum{.kind = Transfer::Kind::all_reduce, .count = 3, .type = DType::f32};
  transfers.add(sum, device.stream(), [&] {
    CHECK_FALSE(transfers.running(4));  // the GPU has not come to it
    device.synchronize();
    REQUIRE(transfers.running(5));
    CHECK(transfers.running(7)->seconds == 2);
    CHECK(transfers.running(7)->number == 1);
  });
  device.synchronize();
  CHECK_FALSE(transfers.running(8));
  CHECK_THROWS_AS(transfers.add(sum, device.stream(), [] { fail("no"); }), Error);
  device.synchronize();
  CHECK_FALSE(transfers.running(9));
  transfers.add(sum, device.stream(), [&] {
    device.synchronize();
    CHECK(transfers.running(9)->number == 3);
    CHECK(transfers.running(9)->seconds == 0);
  });
}

TEST_CASE("what a GPU's transfers have noted ends with the notes") {
  cuda::Device device;
  Watch watch;
  watch.note(3, "forward");
  std::optional<nccl::WaitNotes> notes(std::in_place, watch, 0);
  const auto transfers = std::make_shared<nccl::TransfersUnderWay>("data");
  notes->add(transfers);
  transfers->add({.kind = Transfer::Kind::all_reduce, .count = 3, .type = DType::f32}, device.stream(), [&] {
    device.synchronize();
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    CHECK(watch.now().state == Doing::State::waiting);
    CHECK(watch.now().bytes == 12);
    notes.reset();
    CHECK(watch.now().state == Doing::State::working);
  });
}

TEST_CASE("a library older than its header is refused") {
  const simt::MachineRestored restored;
  simt::machine().nccl_version = 21000;
  World world;
  CHECK_THROWS_WITH(use_nccl(world, nullptr), Catch::Matchers::Contains("runs with the library of NCCL 2.10.0"));
  simt::machine().nccl_version = NCCL_VERSION_CODE / 100 * 100;  // an older patch of the same version
  CHECK_NOTHROW(use_nccl(world, nullptr));
}
