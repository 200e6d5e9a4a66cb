// Calls of ranks that talk over TCP: which belong together, what each gets back, and what no golem would ask for.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/tcp_exchange.hpp"

#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace golem;
using namespace golem::tcp;
using Catch::Contains;
using Kind = Transfer::Kind;

namespace {

std::vector<char> bytes_of(const std::vector<float>& x) {
  std::vector<char> out(x.size() * sizeof(float));
  if (!x.empty()) std::memcpy(out.data(), x.data(), out.size());
  return out;
}
std::vector<float> floats_of(const std::vector<char>& bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

struct Ranks {
  explicit Ranks(int ranks) : doing(static_cast<std::size_t>(ranks)), exchange(doing) {}

  std::optional<std::vector<Answer>> call(int rank, Transfer transfer, const std::vector<float>& data = {}, int group = 0) {
    return exchange.take(rank, {frame_of(transfer, group, ++calls, static_cast<std::int64_t>(data.size() * sizeof(float))), bytes_of(data)});
  }
  std::optional<std::vector<Answer>> split(int rank, std::int64_t color, int key, int group = 0) {
    const std::string axis = "data";
    return exchange.take(rank, {{.word = Word::split, .group = group, .peer = key, .count = color, .call = ++calls}, {axis.begin(), axis.end()}});
  }

  std::vector<Doing> doing;
  Exchange exchange;
  std::int64_t calls = 0;
};

Transfer sum_of(std::int64_t count) { return {.kind = Kind::all_reduce, .count = count, .type = DType::f32, .how = Reduce::sum, .peer = 0}; }
Transfer message(Kind kind, std::int64_t count, int peer) { return {.kind = kind, .count = count, .type = DType::f32, .how = Reduce::sum, .peer = peer}; }

}  // namespace

TEST_CASE("a collective over TCP is complete when the last rank has called") {
  Ranks ranks(3);
  CHECK(ranks.call(2, sum_of(2), {100, 200})->empty());
  CHECK(ranks.call(0, sum_of(2), {1, 2})->empty());
  const std::vector<Answer> answers = ranks.call(1, sum_of(2), {10, 20}).value();
  REQUIRE(answers.size() == 3);
  const std::int64_t calls[]{2, 3, 1};  // each rank's own number
  for (int rank = 0; rank < 3; ++rank) {
    const Answer& answer = answers[static_cast<std::size_t>(rank)];
    CHECK(answer.rank == rank);
    CHECK(answer.call == calls[rank]);
    CHECK(floats_of(answer.data) == std::vector<float>{111, 222});
  }
}

TEST_CASE("each rank gets its own part of a reduce-scatter over TCP, and all parts of an all-gather") {
  Ranks ranks(2);
  const Transfer scatter{.kind = Kind::reduce_scatter, .count = 1, .type = DType::f32, .how = Reduce::max, .peer = 0};
  CHECK(ranks.call(0, scatter, {1, 40})->empty());
  std::vector<Answer> answers = ranks.call(1, scatter, {3, 20}).value();
  REQUIRE(answers.size() == 2);
  CHECK(floats_of(answers[0].data) == std::vector<float>{3});
  CHECK(floats_of(answers[1].data) == std::vector<float>{40});

  const Transfer gather{.kind = Kind::all_gather, .count = 1, .type = DType::f32, .how = Reduce::sum, .peer = 0};
  CHECK(ranks.call(1, gather, {8})->empty());
  answers = ranks.call(0, gather, {7}).value();
  for (const Answer& answer : answers) CHECK(floats_of(answer.data) == std::vector<float>{7, 8});

  const Transfer broadcast{.kind = Kind::broadcast, .count = 1, .type = DType::f32, .how = Reduce::sum, .peer = 1};
  CHECK(ranks.call(0, broadcast)->empty());
  answers = ranks.call(1, broadcast, {5}).value();
  for (const Answer& answer : answers) CHECK(floats_of(answer.data) == std::vector<float>{5});
}

TEST_CASE("calls over TCP that come early wait for those before them") {
  Ranks ranks(2);
  CHECK(ranks.call(0, sum_of(1), {1})->empty());
  CHECK(ranks.call(0, sum_of(1), {2})->empty());
  CHECK(floats_of(ranks.call(1, sum_of(1), {10}).value()[0].data) == std::vector<float>{11});
  CHECK(floats_of(ranks.call(1, sum_of(1), {20}).value()[0].data) == std::vector<float>{22});
}

TEST_CASE("messages over TCP find each other, whichever end is first, in their order") {
  Ranks ranks(3);
  CHECK(ranks.call(2, message(Kind::receive, 1, 0))->empty());
  CHECK(ranks.call(0, message(Kind::send, 1, 1), {9})->empty());  // to another rank
  std::vector<Answer> answers = ranks.call(0, message(Kind::send, 1, 2), {4}).value();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].rank == 2);
  CHECK(answers[0].call == 1);
  CHECK(floats_of(answers[0].data) == std::vector<float>{4});
  CHECK(ranks.call(0, message(Kind::send, 1, 1), {8})->empty());
  CHECK(floats_of(ranks.call(1, message(Kind::receive, 1, 0)).value()[0].data) == std::vector<float>{9});
  CHECK(floats_of(ranks.call(1, message(Kind::receive, 1, 0)).value()[0].data) == std::vector<float>{8});
}

TEST_CASE("groups that are split over TCP are told their number and their ranks in the order of keys") {
  Ranks ranks(4);
  for (int rank = 0; rank < 3; ++rank) CHECK(ranks.split(rank, rank % 2, -rank)->empty());
  const std::vector<Answer> answers = ranks.split(3, 1, -3).value();
  REQUIRE(answers.size() == 4);
  for (const Answer& answer : answers) {
    std::vector<std::int32_t> reply(answer.data.size() / sizeof(std::int32_t));
    std::memcpy(reply.data(), answer.data.data(), answer.data.size());
    CHECK(reply == (answer.rank % 2 ? std::vector<std::int32_t>{2, 3, 1} : std::vector<std::int32_t>{1, 2, 0}));
  }
  CHECK(ranks.call(3, sum_of(1), {1}, 2)->empty());
  const std::vector<Answer> sums = ranks.call(1, sum_of(1), {2}, 2).value();  // two ranks are all of group 2
  REQUIRE(sums.size() == 2);
  CHECK(floats_of(sums[0].data) == std::vector<float>{3});
  CHECK_FALSE(ranks.call(0, sum_of(1), {1}, 2));  // which rank 0 is not of
}

TEST_CASE("calls over TCP that do not belong together are told, by both ranks") {
  Ranks ranks(2);
  CHECK(ranks.call(0, sum_of(1), {1})->empty());
  CHECK_THROWS_WITH(ranks.call(1, sum_of(2), {1, 2}), Contains("rank 0") && Contains("rank 1") && Contains("different calls"));

  Ranks others(2);
  CHECK(others.call(0, sum_of(1), {1})->empty());
  CHECK_THROWS_WITH(others.split(1, 0, 0), Contains("one split the group"));

  Ranks senders(2);
  CHECK(senders.call(0, message(Kind::send, 2, 1), {1, 2})->empty());
  CHECK_THROWS_WITH(senders.call(1, message(Kind::receive, 1, 0)), Contains("rank 0 sent more to rank 1"));
}

TEST_CASE("what no golem would send over TCP is not taken") {
  Ranks ranks(2);
  CHECK_FALSE(ranks.call(0, sum_of(2), {1}));                    // fewer bytes than the call takes along
  CHECK_FALSE(ranks.call(0, sum_of(1), {1}, 1));                 // no such group
  CHECK_FALSE(ranks.call(0, sum_of(1), {1}, -1));
  CHECK_FALSE(ranks.call(0, message(Kind::send, 1, 2), {1}));    // no such peer
  CHECK_FALSE(ranks.call(0, message(Kind::send, 1, -1), {1}));
}
