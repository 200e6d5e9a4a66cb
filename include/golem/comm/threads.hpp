// Ranks that are threads of one process: run_ranks starts them, watches them, and ends them all when one fails.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>  // and the part of <chrono> that it needs
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/group.hpp"
#include "golem/comm/thread_group.hpp"
#include "golem/comm/thread_run.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

struct RanksOptions {
  double deadline = 600;  // seconds that a rank may work at one thing, or all ranks wait, before the run counts as stalled; 0: for ever
  double grace = 5;       // seconds that the ranks have to come back once the run has ended
  /// Called with the sentence where a rank did not come back; when it returns, run_ranks waits on. Without one the process prints and ends.
  function_ref<void(const std::string&)> when_stuck = {};
};

/// The threads of one run_ranks call, as the calling thread sees them.
class ThreadsAtWork {
 public:
  ThreadsAtWork(int ranks, function_ref<void(Group)> body) : run_(std::make_shared<ThreadRun>(ranks)), left_(ranks) {
    std::vector<int> all(static_cast<std::size_t>(ranks));
    std::iota(all.begin(), all.end(), 0);
    const auto hall = std::make_shared<Hall>("world", std::move(all));
    run_->add(hall);
    threads_.reserve(static_cast<std::size_t>(ranks));
    try {
      for (int rank = 0; rank < ranks; ++rank) threads_.emplace_back([this, hall, body, rank] { work(hall, body, rank); });
    } catch (const std::exception& error) {
      run_->end(sentence("could not start ", ranks, " threads: ", error.what()));
      for (auto& thread : threads_) thread.join();
      throw Error(run_->sentence_of_end());
    }
  }

  /// Returns when all ranks have; ends the run where one is late.
  void join(const RanksOptions& options) {
    using Seconds = std::chrono::duration<double>;
    const Seconds tick(std::min({0.25, options.deadline > 0 ? options.deadline / 8 : 0.25, options.grace / 4 + 1e-3}));
    double ended = 0;
    bool told = false;
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, tick, [&] { return left_ == 0; })) {
      const double now = steady_seconds();
      if (!run_->ended()) {
        if (options.deadline <= 0) continue;
        const Stall stall = stalled_rank(run_->doing(), options.deadline, now);
        if (stall.rank >= 0) run_->end(stall.rank, stall.why);
      } else if (ended == 0) {
        ended = now;
      } else if (!told && now - ended > options.grace) {
        told = true;
        lock.unlock();
        give_up(options);
        lock.lock();
      }
    }
    lock.unlock();
    for (auto& thread : threads_) thread.join();
    rethrow();
  }

 private:
  void work(std::shared_ptr<Hall> hall, function_ref<void(Group)> body, int rank) {
    try {
      body(Group(std::make_shared<ThreadGroup>(run_, std::move(hall), rank)));
      run_->watch(rank).finish();
    } catch (const RunEnded&) {  // another rank is the reason
    } catch (const std::exception& error) {
      failed(rank, error.what());
    } catch (...) {
      failed(rank, "an exception that is no std::exception");
    }
    const std::lock_guard lock(mutex_);
    --left_;
    changed_.notify_one();
  }
  void failed(int rank, const char* why) {
    run_->end(rank, why);
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }

  void give_up(const RanksOptions& options) {
    const std::string why = run_->sentence_of_end();
    if (options.when_stuck) return options.when_stuck(why);
    std::fprintf(stderr, "%s; it did not come back within %g s, so the process ends\n", why.c_str(), options.grace);
    std::fflush(stderr);
    std::_Exit(1);
  }

  /// One Error for all; what the first rank threw is nested in it.
  void rethrow() {
    if (!run_->ended()) return;
    const std::string why = run_->sentence_of_end();
    if (!error_) throw Error(why);
    try {
      std::rethrow_exception(error_);
    } catch (...) {
      std::throw_with_nested(Error(why));
    }
  }

  std::shared_ptr<ThreadRun> run_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int left_;
  std::exception_ptr error_;  // of the first rank that threw one of its own
  std::vector<std::thread> threads_;
};

/// Calls body on `ranks` threads, each with its rank of a group over all. Returns when all have; where one throws or stalls, all end, and
/// one Error says which rank, in which step and operation (as noted through World::note), and what the others waited for.
inline void run_ranks(int ranks, function_ref<void(Group)> body, const RanksOptions& options = {}) {
  require(ranks >= 1, "run_ranks was asked for ", ranks, " ranks: ask for at least one");
  ThreadsAtWork(ranks, body).join(options);
}

}  // namespace golem
