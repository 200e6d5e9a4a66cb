// Companion: a small process beside each rank's, so that somebody can say what a rank did when the rank itself is dead.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "golem/comm/mpi_companion_process.hpp"

namespace golem {

/// This machine's first IPv4 address that others can reach; where `interface` is not empty, that of the network interface with this name.
inline std::string address_of_this_machine(std::string_view interface) {
  ifaddrs* all = nullptr;
  require(getifaddrs(&all) == 0, "could not list this machine's network addresses: ", std::strerror(errno));
  std::string found, names;
  for (const ifaddrs* one = all; one && found.empty(); one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET || !(one->ifa_flags & IFF_UP)) continue;
    names += sentence(names.empty() ? "" : ", ", one->ifa_name);
    if (interface.empty() ? (one->ifa_flags & IFF_LOOPBACK) != 0 : interface != one->ifa_name) continue;
    char text[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, text, sizeof text);
    found = text;
  }
  freeifaddrs(all);
  require(!found.empty() || interface.empty(), "the environment's GOLEM_INTERFACE is '", interface, "', and rank 0's machine has an IPv4 address on ", names.empty() ? "nothing" : names, ": name one of these");
  require(!found.empty(), "rank 0's machine has no IPv4 address that the other ranks' machines could reach");
  return found;
}

/// The rank's side. Make it early: before threads, connections and much memory are there to be inherited. A note costs no system call.
class Companion {
 public:
  enum class Reach : std::uint8_t { this_host, any_host };

  explicit Companion(Reach reach) {
    void* const memory = mmap(nullptr, sizeof(CompanionPage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "could not share ", sizeof(CompanionPage), " bytes with a companion process: ", std::strerror(errno));
    page_ = new (memory) CompanionPage;
    page_->write(watch_.now());
    const int listening = listen_somewhere(reach);
    int link[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) == 0, "could not open a socket to a companion process: ", std::strerror(errno));
    start(link, listening);
    close(link[1]), close(listening);
    link_ = link[0];
    watch_.page = page_;
    note_stops();
  }
  /// The rank leaves in peace where finish() was called; else it counts as dead.
  ~Companion() {
    stops().store(nullptr);
    close(link_);
  }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  /// Where this one's companion listens.
  std::uint16_t port() const { return port_; }
  Watch& watch() { return watch_; }

  /// Tells the companion who this rank is, and where that of rank 0 listens; from here on the run is watched.
  void meet(const Meeting& meeting) {
    page_->meeting = meeting;
    page_->met.store(1, std::memory_order_release);
    require(wake(), "rank ", meeting.rank, "'s companion process is gone: was it killed?");
    for (int wait = 0; page_->connected.load(std::memory_order_acquire) == 0 && wait < 15000; ++wait) usleep(1000);
    require(page_->connected.load(std::memory_order_acquire) == 1, "rank ", meeting.rank, " could not reach rank 0's companion at ", meeting.host,
            " port ", meeting.port, ": the ranks' machines must be able to open TCP connections to each other; where that is not the network on which they can, name its interface on rank 0's machine in GOLEM_INTERFACE");
  }

  /// Ends the run: companions say why, once, and end all ranks.
  [[noreturn]] void fail(Fate fate, std::string_view why) {
    page_->why = why;
    page_->fate.store(fate, std::memory_order_release);
    const bool heard = wake();
    for (int wait = 0; heard && page_->judged.load(std::memory_order_acquire) == 0 && wait < 10000; ++wait) usleep(1000);
    if (page_->judged.load(std::memory_order_acquire) == 0)  // no companion has told it
      std::fprintf(stderr, "rank %d of %d failed: %.*s\n", page_->meeting.rank, page_->meeting.ranks, static_cast<int>(why.size()), why.data());
    std::_Exit(1);
  }
  void finish() {
    page_->fate.store(Fate::finished, std::memory_order_release);
    wake();
  }

 private:
  struct PageWatch final : Watch {
    CompanionPage* page = nullptr;

   private:
    void tell(const Doing& now) override {
      if (page) page->write(now);
    }
  };

  int listen_somewhere(Reach reach) {
    const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET, where.sin_addr.s_addr = htonl(reach == Reach::this_host ? INADDR_LOOPBACK : INADDR_ANY);
    socklen_t size = sizeof where;
    const bool listens = listening >= 0 && bind(listening, reinterpret_cast<const sockaddr*>(&where), size) == 0 && listen(listening, 1024) == 0 &&
                         getsockname(listening, reinterpret_cast<sockaddr*>(&where), &size) == 0;
    require(listens, "could not listen on a TCP port for the companions of other ranks: ", std::strerror(errno));
    port_ = ntohs(where.sin_port);
    return listening;
  }

  /// Forks twice, so that the companion is nobody's child to wait for.
  void start(const int (&link)[2], int listening) {
    const pid_t process = getpid(), between = fork();
    require(between >= 0, "could not start a companion process: ", std::strerror(errno));
    if (between == 0) {
      setsid();
      if (const pid_t companion = fork(); companion != 0) _exit(companion < 0 ? errno : 0);
      for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
      close(link[0]);
      if (const int nothing = open("/dev/null", O_RDWR); nothing >= 0) dup2(nothing, 0), dup2(nothing, 1);
      CompanionProcess(*page_, link[1], listening, process).live();
    }
    int status = 0;
    while (waitpid(between, &status, 0) < 0 && errno == EINTR) {
    }
    require(!WIFEXITED(status) || WEXITSTATUS(status) == 0, "could not start a companion process: ", std::strerror(WEXITSTATUS(status)));
  }

  static std::atomic<CompanionPage*>& stops() {
    static std::atomic<CompanionPage*> page{nullptr};
    return page;
  }
  /// Launchers send SIGTERM to all that are left once one rank has died; a rank that gets it is not the reason. A program's own handler stays.
  void note_stops() {
    stops().store(page_);
    struct sigaction now {};
    if (sigaction(SIGTERM, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) return;
    now.sa_handler = [](int signal) {
      if (CompanionPage* const page = stops().load()) {
        Fate running = Fate::running;
        page->fate.compare_exchange_strong(running, Fate::stopped);
      }
      ::signal(signal, SIG_DFL);
      raise(signal);
    };
    sigaction(SIGTERM, &now, nullptr);
  }

  /// False where the companion is gone.
  bool wake() { return send(link_, "w", 1, MSG_NOSIGNAL) == 1; }

  CompanionPage* page_ = nullptr;  // never unmapped: a signal may come at any time
  std::uint16_t port_ = 0;
  int link_ = -1;
  PageWatch watch_;
};

}  // namespace golem
