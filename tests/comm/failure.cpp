// A rank that throws, stalls or makes another call than the rest ends the whole run, with one sentence that says who, where and who waited.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/failure.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "golem/comm/threads.hpp"
#include "golem/comm/world.hpp"

using namespace golem;
using Catch::Matchers::Contains;

namespace {

/// The sentence that a run ends with; "" where it does not fail.
std::string failure_of_run(int ranks, function_ref<void(Group)> body, const RanksOptions& options = {}) {
  try {
    run_ranks(ranks, body, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void sleep_ms(int count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }

struct Numbers {
  std::vector<float> values;
  explicit Numbers(std::int64_t count) : values(static_cast<std::size_t>(count)) {}
  View<float, 1> view() { return {values.data(), static_cast<std::int64_t>(values.size())}; }
};

}  // namespace

TEST_CASE("a rank that throws ends all: who, in which step and operation, why, and who waited for what") {
  std::atomic<int> ended{0};
  const std::string why = failure_of_run(4, [&](Group group) {
    World world(group, {.tp = 2, .pp = 2, .dp = 1});
    Numbers x(1024);
    world.note(17, world.rank() == 3 ? "forward of micro-batch 3" : "forward of micro-batch 2");
    try {
      if (world.rank() == 3) sleep_ms(50), fail("the corpus has no row 12");
      if (world.rank() == 2) world.tensor().all_reduce(x.view(), Reduce::sum);
      if (world.rank() < 2) world.pipeline().receive(x.view(), 1);
    } catch (const RunEnded&) {
      ++ended;
      throw;
    }
  });
  CHECK_THAT(why, Contains("rank 3 of 4 failed in step 17, in forward of micro-batch 3: the corpus has no row 12"));
  CHECK_THAT(why, Contains("rank 2 waited in all_reduce of 4096 bytes on the tensor axis in step 17, in forward of micro-batch 2"));
  CHECK_THAT(why, Contains("rank 0 waited in receive of 4096 bytes from rank 2 on the pipeline axis"));
  CHECK_THAT(why, Contains("rank 1 waited in receive of 4096 bytes from rank 3 on the pipeline axis"));
  CHECK(ended == 3);
}

TEST_CASE("what a rank threw is nested in the error of the run") {
  struct Own : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  bool nested = false;
  try {
    run_ranks(2, [](Group group) {
      if (group.rank() == 1) throw Own("own");
      group.barrier();
    });
  } catch (const Error& error) {
    try {
      std::rethrow_if_nested(error);
    } catch (const Own&) {
      nested = true;
    }
  }
  CHECK(nested);
}

TEST_CASE("transfers in the background end with the run, whoever left them") {
  for (int round = 0; round < 20; ++round) {
    const std::string why = failure_of_run(3, [&](Group group) {
      Group other = group.split(0, 0, "data");
      Numbers x(100000), y(10), z(10);
      const Pending a = group.start_all_reduce(x.view(), Reduce::sum);
      const Pending b = other.start_all_reduce(y.view(), Reduce::sum);
      const Pending c = group.start_receive(z.view(), (group.rank() + 1) % 3);
      if (group.rank() == round % 3) fail("left");
      Pending d = other.start_all_reduce(z.view(), Reduce::sum);  // the failed rank never starts this one
      d.wait();
    });
    CHECK_THAT(why, Contains(sentence("rank ", round % 3, " of 3 failed: left")));
  }
}

TEST_CASE("different calls on one axis are a sentence") {
  const auto differ = [](function_ref<void(Group&, bool)> call) {
    return failure_of_run(3, [&](Group group) {
      group.backend()->watch()->note(2, "backward of micro-batch 1");
      call(group, group.rank() == 2);
    });
  };
  Numbers buffers[3]{Numbers(16), Numbers(16), Numbers(16)};
  const auto part = [&](Group& group, std::int64_t n) { return View<float, 1>(buffers[group.rank()].values.data(), n); };
  CHECK(differ([&](Group& group, bool odd) { group.all_reduce(part(group, odd ? 7 : 5), Reduce::sum); }) ==
        "the ranks of the world axis made different calls in step 2, in backward of micro-batch 1: rank 0 all_reduce (sum) of 5 f32, rank 2 "
        "all_reduce (sum) of 7 f32");
  CHECK_THAT(differ([&](Group& group, bool odd) { group.all_reduce(part(group, 5), odd ? Reduce::max : Reduce::sum); }),
             Contains("rank 2 all_reduce (max) of 5 f32"));
  CHECK_THAT(differ([&](Group& group, bool odd) { group.broadcast(part(group, 5), odd ? 1 : 0); }),
             Contains("rank 2 broadcast from rank 1 of 5 f32"));
  CHECK_THAT(differ([&](Group& group, bool odd) {
               std::int32_t x[5]{};
               if (odd)
                 group.all_reduce(View<std::int32_t, 1>(x, 5), Reduce::sum);
               else
                 group.start_all_reduce(part(group, 5), Reduce::sum).wait();
             }),
             Contains("rank 2 all_reduce (sum) of 5 i32"));
  CHECK_THAT(differ([&](Group& group, bool odd) {
               if (odd)
                 group.barrier();
               else
                 group.all_reduce(part(group, 5), Reduce::sum);
             }),
             Contains("rank 2 barrier"));
  CHECK_THAT(differ([&](Group& group, bool odd) {
               if (odd)
                 group.receive(part(group, 6), 0);
               else if (group.rank() == 0)
                 group.send(View<const float, 1>(part(group, 5)), 2);
             }),
             Contains("rank 0 sent 5 f32 to rank 2 on the world axis, which expected 6 f32 in step 2"));
}

TEST_CASE("a rank that splits a group while the others reduce in it is a different call, whatever all called before") {
  for (const int odd : {0, 2}) {
    const std::string why = failure_of_run(3, [&](Group group) {
      for (int round = 0; round < 2; ++round) {
        Numbers x(1000);  // what was posted in the first round is freed in the second
        if (round == 1 && group.rank() == odd) group.split(0, 0, "part");
        else group.all_reduce(x.view(), Reduce::sum);
      }
    }, {.deadline = 5, .grace = 1, .when_stuck = {}});
    CHECK(why == (odd == 0 ? "the ranks of the world axis made different calls: rank 0 split, rank 1 all_reduce (sum) of 1000 f32"
                           : "the ranks of the world axis made different calls: rank 0 all_reduce (sum) of 1000 f32, rank 2 split"));
  }
  CHECK_THAT(failure_of_run(
                 2, [](Group group) { group.rank() == 0 ? void(group.split(0, 0, "part")) : fail("no data"); }),
             Contains("rank 1 of 2 failed: no data"));
}

TEST_CASE("a stalled rank is found by the deadline: in compute, and before a collective that others wait in") {
  const RanksOptions quick{.deadline = 0.2, .grace = 30, .when_stuck = {}};
  const double start = steady_seconds();
  const std::string why = failure_of_run(
      3,
      [&](Group group) {
        group.backend()->watch()->note(5, group.rank() == 1 ? "loading rows" : "forward of micro-batch 0");
        if (group.rank() == 1) sleep_ms(600);
        group.barrier();
      },
      quick);
  CHECK_THAT(why, Contains("rank 1 of 3 failed in step 5, in loading rows: it has not been heard of for 0."));
  CHECK_THAT(why, Contains("ranks 0 and 2 waited in barrier on the world axis in step 5"));
  CHECK(steady_seconds() - start < 2);
  CHECK_THAT(failure_of_run(
                 2, [](Group) { sleep_ms(500); }, quick),
             Contains("it has not been heard of for 0."));
}

TEST_CASE("ranks that wait for each other, or for one that has ended, are told apart from a stalled one") {
  const RanksOptions quick{.deadline = 0.1, .grace = 30, .when_stuck = {}};
  Numbers x(4);
  CHECK_THAT(failure_of_run(
                 2, [&](Group group) { group.rank() == 0 ? group.barrier() : group.receive(x.view(), 0); }, quick),
             Contains("all others wait too"));
  CHECK_THAT(failure_of_run(
                 2,
                 [&](Group group) {
                   if (group.rank() == 0) group.barrier();
                 },
                 quick),
             Contains("rank 1 has ended and will not come"));
}

TEST_CASE("whom a run waits for in vain: a rank that was stopped, else one that works, and nobody while that one gets on") {
  using State = Doing::State;
  const auto doing = [](State state, double since) {
    Doing out;
    out.state = state, out.since = since, out.step = 9, out.activity = ShortText<64>("saving"), out.axis = ShortText<16>("data");
    return out;
  };
  const std::vector<Doing> ranks{doing(State::waiting, 1), doing(State::stopped, 11), doing(State::working, 10)};
  CHECK(stalled_rank(ranks, 5, 14).rank == -1);
  CHECK(stalled_rank(ranks, 5, 15.5).rank == -1);  // rank 2 is late, and rank 1 may be why
  CHECK(stalled_rank({ranks[0], ranks[2]}, 5, 15.5).rank == 1);
  const Stall stall = stalled_rank(ranks, 5, 16.5);
  CHECK(failure_of(stall.rank, stall.why, ranks) ==
        "rank 1 of 3 failed in step 9, in saving: it has not been heard of for 5.5 s, with a deadline of 5 s: its process was stopped, or its machine stands still "
        "(rank 0 waited in barrier on the data axis in step 9, in saving; rank 2 worked in step 9, in saving)");
  CHECK(others_than(2, ranks) == "rank 0 waited in barrier on the data axis in step 9, in saving; rank 1 stood still in step 9, in saving");
  CHECK(stalled_rank({doing(State::waiting, 1), doing(State::working, 10)}, 5, 14).rank == -1);
  CHECK(stalled_rank({doing(State::waiting, 1), doing(State::waiting, 2)}, 5, 14).rank == 0);
  CHECK(stalled_rank({doing(State::finished, 1), doing(State::waiting, 2)}, 5, 14).rank == 1);
  // A rank may wait for long while another works; where it then falls silent, its silence is what counts.
  const Doing silent = stopped_since(doing(State::waiting, 1), 697);
  CHECK(stalled_rank({silent, doing(State::working, 690)}, 600, 700).rank == -1);
  CHECK(stalled_rank({silent, doing(State::working, 1290)}, 600, 1298).rank == 0);
  CHECK(stopped_since(doing(State::waiting, 800), 697).since == 800);
}

TEST_CASE("a run that goes on is never late") {
  CHECK(failure_of_run(3,
                       [](Group group) {
                         for (int i = 0; i < 10; ++i) sleep_ms(group.rank() == i % 3 ? 30 : 0), group.barrier();
                       },
                       {.deadline = 0.15, .grace = 1, .when_stuck = {}}) == "");
}

TEST_CASE("a rank that does not come back is handed to the program") {
  std::atomic<bool> go_on{false};
  std::string told;
  const std::string why =
      failure_of_run(2,
                     [&](Group group) {
                       if (group.rank() == 0)
                         while (!go_on) sleep_ms(1);
                       group.barrier();
                     },
                     {.deadline = 0.1, .grace = 0.1, .when_stuck = [&](const std::string& sentence) { told = sentence, go_on = true; }});
  CHECK_THAT(told, Contains("rank 0 of 2 failed: it has not been heard of"));
  CHECK(why == told);
}

TEST_CASE("without a program's own handling, the process says it once and ends") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    run_ranks(2,
              [&](Group group) {
                while (group.rank() == 1) sleep_ms(1000);
                group.barrier();
              },
              {.deadline = 0.1, .grace = 0.1, .when_stuck = {}});
    std::_Exit(0);
  }
  close(ends[1]);
  std::string text;
  char piece[256];
  for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0;) text.append(piece, static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 1);
  CHECK_THAT(text, Contains("rank 1 of 2 failed: it has not been heard of for 0.") && Contains("(rank 0 waited in barrier on the world axis)") &&
                       Contains("the process ends\n"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
}

TEST_CASE("messages to nobody, and parts that lie across a whole, are refused") {
  Numbers x(12);
  CHECK_THAT(failure_of_run(1, [&](Group group) { group.send(x.view(), 1); }), Contains("asked to send with rank 1"));
  CHECK_THAT(failure_of_run(2,
                            [&](Group group) {
                              if (group.rank() == 1) group.receive(x.view(), 1);
                            }),
             Contains("asked to receive with itself"));
  CHECK_THAT(failure_of_run(2,
                            [&](Group group) {
                              Numbers y(12);
                              group.all_gather(y.view(), View<const float, 1>(y.values.data() + 3, 6));
                            }),
             Contains("lies across the whole"));
}

TEST_CASE("a layout that does not fit the ranks is one sentence") {
  CHECK(failure_of_run(3, [](Group group) { World world(group, {.tp = 2, .pp = 1, .dp = 2}); }) ==
        "a world of 3 ranks was given a layout of tp 2 x pp 1 x dp 2 = 4 ranks: start that many, or choose degrees whose product is 3");
}

TEST_CASE("lists of ranks") {
  CHECK(list_of_ranks({4}) == "rank 4");
  CHECK(list_of_ranks({0, 1}) == "ranks 0 and 1");
  CHECK(list_of_ranks({0, 2, 3, 4, 5, 7}) == "ranks 0, 2 to 5 and 7");
}
