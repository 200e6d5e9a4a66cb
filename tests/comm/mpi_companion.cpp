// Companions, without MPI: the test plays those of the other ranks, and reads what the one under test says when somebody is lost.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/mpi_companion.hpp"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <list>
#include <string>

#include "catch.hpp"

using namespace golem;
using Catch::Matchers::Contains;

namespace {

constexpr std::uint64_t password = 5;

struct Pipe {
  int ends[2];
  Pipe() { REQUIRE(pipe(ends) == 0); }
  int out() const { return ends[0]; }
  int in() const { return ends[1]; }
};

struct Ended {
  std::string said;  // by the rank and its companion, to standard error
  int status = 0;    // of the rank's process
};

/// Runs rank(tell_port) in a process of its own, which tells where its companion listens, and then meanwhile(port) in this one.
template <class Rank, class Meanwhile>
Ended run(const Rank& rank, const Meanwhile& meanwhile) {
  const Pipe errors, ports;
  const pid_t child = fork();
  if (child == 0) {
    dup2(errors.in(), 2), close(errors.in()), close(errors.out());
    rank([&](std::uint16_t port) { static_cast<void>(!write(ports.in(), &port, sizeof port)); });
    _exit(0);
  }
  close(errors.in()), close(ports.in());
  std::uint16_t port = 0;
  static_cast<void>(!read(ports.out(), &port, sizeof port));
  meanwhile(port);
  Ended ended;
  char piece[512];
  for (ssize_t got; (got = read(errors.out(), piece, sizeof piece)) > 0;) ended.said.append(piece, static_cast<std::size_t>(got));
  waitpid(child, &ended.status, 0);
  close(errors.out()), close(ports.out());
  return ended;
}

Meeting meeting(int rank, int ranks, std::uint16_t port) {
  Meeting out;
  out.rank = rank, out.ranks = ranks, out.port = port, out.password = password;
  std::strcpy(out.host, "127.0.0.1");
  return out;
}

/// Plays the companion of rank 0.
struct First {
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  std::uint16_t port = 0;

  First() {
    sockaddr_in where{};
    where.sin_family = AF_INET, where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    REQUIRE(bind(listening, reinterpret_cast<const sockaddr*>(&where), size) == 0);
    REQUIRE(listen(listening, 8) == 0);
    REQUIRE(getsockname(listening, reinterpret_cast<sockaddr*>(&where), &size) == 0);
    port = ntohs(where.sin_port);
  }
  ~First() { close(listening); }
};

/// Plays the companion of another rank.
struct Other {
  int to = socket(AF_INET, SOCK_STREAM, 0);

  explicit Other(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET, where.sin_addr.s_addr = htonl(INADDR_LOOPBACK), where.sin_port = htons(port);
    REQUIRE(connect(to, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
  }
  ~Other() { close(to); }
  void report(int rank, Fate fate, std::string_view why = "") const {
    CompanionReport out;
    out.password = password, out.rank = rank, out.fate = fate, out.why = why;
    REQUIRE(send(to, &out, sizeof out, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof out));
  }
  /// What the companion of rank 0 says next; '-' where it says nothing for so long.
  char heard(int milliseconds) const {
    pollfd waiting{to, POLLIN, 0};
    char word = '-';
    if (poll(&waiting, 1, milliseconds) > 0) static_cast<void>(!recv(to, &word, 1, 0));
    return word;
  }
};

}  // namespace

TEST_CASE("where the companion of rank 0 is lost, the one that was named tells it, and all end their ranks") {
  // ends WORDS: rank 1, after the companion of rank 0 has said so and closed.
  const auto ends = [](const char* words) {
    const First first;
    return run(
        [&](auto tell_port) {
          Companion companion(Companion::Reach::this_host);
          tell_port(companion.port());
          companion.watch().note(17, "loading rows");
          companion.meet(meeting(1, 3, first.port));
          sleep(30);
        },
        [&](std::uint16_t) {
          const int guest = accept(first.listening, nullptr, nullptr);
          for (const char* word = words; *word; ++word) send(guest, word, 1, MSG_NOSIGNAL);
          usleep(50000);
          close(guest);
        });
  };
  const Ended tells = ends("S"), follows = ends(""), judged = ends("SE");
  CHECK_THAT(tells.said, Catch::Matchers::StartsWith("the companion of rank 0 of 3, through which the ranks watch each other, is gone: ") &&
                             Catch::Matchers::EndsWith("(rank 1 worked in step 17, in loading rows)\n"));
  CHECK(follows.said == "");
  CHECK(judged.said == "");
  for (const Ended& one : {tells, follows, judged}) CHECK((WIFSIGNALED(one.status) && WTERMSIG(one.status) == SIGKILL));
}

TEST_CASE("the companion of rank 0 names the first rank at work, hears of a failure, and tells all that the run has ended") {
  const Ended ended = run(
      [](auto tell_port) {
        Companion companion(Companion::Reach::this_host);
        companion.meet(meeting(0, 3, companion.port()));
        tell_port(companion.port());
        sleep(30);
      },
      [](std::uint16_t port) {
        const Other one(port), two(port);
        two.report(2, Fate::running);
        CHECK(two.heard(150) == '-');  // while that of rank 1 may still come
        one.report(1, Fate::running);
        CHECK(one.heard(5000) == 'S');
        one.report(1, Fate::finished);
        CHECK(two.heard(5000) == 'S');
        two.report(2, Fate::failed, "the corpus has no row 12");
        CHECK((one.heard(5000) == 'E' && two.heard(5000) == 'E'));
      });
  CHECK(ended.said == "rank 2 of 3 failed: the corpus has no row 12 (rank 0 worked; rank 1 had ended)\n");
  CHECK((WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGKILL));
}

TEST_CASE("the address at which rank 0's companion is reached is that of the interface that was asked for") {
  CHECK(address_of_this_machine("lo") == "127.0.0.1");
  CHECK_THROWS_WITH(address_of_this_machine("nowhere0"), Contains("GOLEM_INTERFACE is 'nowhere0', and rank 0's machine has an IPv4 address on lo"));
}

TEST_CASE("more ranks than the companion of rank 0 may have files are told what to raise") {
  const Ended ended = run(
      [](auto tell_port) {
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = 24;
        setrlimit(RLIMIT_NOFILE, &files);
        Companion companion(Companion::Reach::this_host);
        companion.meet(meeting(0, 40, companion.port()));
        tell_port(companion.port());
        sleep(30);
      },
      [](std::uint16_t port) {
        std::list<Other> others;
        for (int i = 0; i < 30; ++i) others.emplace_back(port);
        CHECK(others.front().heard(5000) == 'E');
      });
  CHECK(ended.said == "rank 0's companion cannot let that of another rank in: Too many open files; raise the limit of open files on its machine (ulimit -n) above 104\n");
}

TEST_CASE("a rank whose companion is gone says itself why it failed") {
  const First first;
  const Ended ended = run(
      [&](auto tell_port) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);  // so that the companion becomes a child, whose end can be awaited
        Companion companion(Companion::Reach::this_host);
        companion.meet(meeting(1, 3, first.port));
        std::ifstream children(sentence("/proc/self/task/", getpid(), "/children"));
        pid_t process = -1;
        children >> process;
        kill(process, SIGKILL), waitpid(process, nullptr, 0);
        tell_port(companion.port());
        companion.fail(Fate::failed, "the corpus has no row 12");
      },
      [](std::uint16_t) {});
  CHECK(ended.said == "rank 1 of 3 failed: the corpus has no row 12\n");
  CHECK((WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 1));
}
