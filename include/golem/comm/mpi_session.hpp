// MpiSession: MPI brought up and down around all groups of a process, with a companion that watches, and progress for messages in flight.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "golem/comm/mpi_companion.hpp"
#include "golem/comm/environment.hpp"
#include "golem/comm/mpi_calls.hpp"

namespace golem {

/// Calls MPI from time to time while sends or receives are in flight, so that they go on while their rank computes.
class MpiProgress {
 public:
  ~MpiProgress() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  void started() {
    if (in_flight_.fetch_add(1) > 0) return;
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
    changed_.notify_one();
  }
  void ended() { --in_flight_; }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      changed_.wait(lock, [&] { return ending_ || in_flight_ > 0; });
      lock.unlock();
      for (int pause = 50; in_flight_ > 0 && !ending_; pause = std::min(2 * pause, 1000), usleep(static_cast<useconds_t>(pause))) {
        int found = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &found, MPI_STATUS_IGNORE);  // any call lets MPI go on with all that is in flight
      }
      lock.lock();
    }
  }

  std::atomic<int> in_flight_{0};
  std::atomic<bool> ending_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread thread_;
};

/// Made once in a process, before much else; the groups share it. The last of them ends MPI, where golem began it.
class MpiSession {
 public:
  explicit MpiSession(const LaunchOptions& options) : companion_(reach()) {
    int running = 0, provided = MPI_THREAD_SINGLE;
    mpi_check(MPI_Initialized(&running), "say whether it is up");
    own_ = running == 0;
    if (own_)
      mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "start");
    else
      mpi_check(MPI_Query_thread(&provided), "say what threads it allows");
    require(provided == MPI_THREAD_MULTIPLE,
            "this MPI, or the program that started it, allows fewer threads than MPI_THREAD_MULTIPLE, which transfers in the background need: ",
            "let golem start MPI, or call MPI_Init_thread with MPI_THREAD_MULTIPLE");
    mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "set an error handler");
    meet(options);
  }
  ~MpiSession() {
    if (std::uncaught_exceptions() > exceptions_)
      fail(Fate::failed, "it left by an exception that nobody reported: run the program's work through golem::run_world");
    companion_.finish();
    progress_.reset();
    if (own_) MPI_Finalize();
  }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Watch& watch() { return companion_.watch(); }
  MpiProgress& progress() { return *progress_; }
  [[noreturn]] void fail(Fate fate, std::string_view why) { companion_.fail(fate, why); }

  /// A rank on its way out waits for nothing any more.
  void abandon() { abandoned_ = true; }
  bool abandoned() const { return abandoned_; }

 private:
  static Companion::Reach reach() {
    const char *local = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE"), *all = std::getenv("OMPI_COMM_WORLD_SIZE");
    return local && all && std::string_view(local) == all ? Companion::Reach::this_host : Companion::Reach::any_host;
  }

  void meet(const LaunchOptions& options) {
    Meeting meeting;
    int ranks = 0, here = 0;
    MPI_Comm host = MPI_COMM_NULL;
    mpi_check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "find the ranks of this host");
    mpi_check(MPI_Comm_size(host, &here), "count the ranks of this host");
    mpi_check(MPI_Comm_free(&host), "free a communicator");
    mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &meeting.rank), "say the rank");
    mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "count the ranks");
    const int rank = meeting.rank;
    if (rank == 0) {
      const char* const interface = std::getenv("GOLEM_INTERFACE");
      const std::string host_address = here == ranks ? "127.0.0.1" : address_of_this_machine(interface ? interface : "");
      host_address.copy(meeting.host, sizeof meeting.host - 1);
      require(getentropy(&meeting.password, sizeof meeting.password) == 0, "could not draw a random number for the companions of this run");
      meeting.port = companion_.port(), meeting.ranks = ranks, meeting.deadline = options.deadline;
    }
    mpi_check(MPI_Bcast(&meeting, sizeof meeting, MPI_BYTE, 0, MPI_COMM_WORLD), "tell all ranks where the first one's companion listens");
    meeting.rank = rank;
    companion_.meet(meeting);
  }

  Companion companion_;  // first: it forks
  const int exceptions_ = std::uncaught_exceptions();
  bool own_ = false;
  std::atomic<bool> abandoned_{false};
  std::unique_ptr<MpiProgress> progress_ = std::make_unique<MpiProgress>();
};

}  // namespace golem
