// The scheduler of a block: rounds over the threads that can move, and reports of those that cannot.
// SPDX-License-Identifier: Apache-2.0
#include "simt/block.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "simt/async.hpp"
#include "simt/fiber.hpp"
#include "simt/poison.hpp"
#include "simt/runtime.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {
namespace {

constexpr int most_threads = 1024;
constexpr std::size_t arena_bytes = std::size_t{256} << 10, canary_bytes = 256;
constexpr unsigned char canary = 0xa5;

enum class State { ready, at_barrier, acting, until, ended };

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

struct Thread {
  State state = State::ready;
  uint3 index{};
  // at_barrier
  int barrier = 0;
  bool voted = false;
  // acting
  const char* what = nullptr;
  unsigned mask = 0;
  void* request = nullptr;
  std::source_location where;
  // until
  std::function<bool()> condition;
  std::string condition_text;
  int pause = 0;  // rounds
  bool begun = false;
  std::deque<std::vector<Copy>> groups;  // committed
  std::vector<Copy> open;
};

struct Barrier {
  int count = 0;
  bool vote = false;
  std::vector<int> waiting;
};

struct Block {
  const Call* call = nullptr;
  std::vector<Thread> threads;
  std::map<int, Barrier> barriers;
  int acting[most_threads / 32]{};  // lanes of each warp that wait for others
  std::exception_ptr error;
  int live = 0, current = -1;
  std::vector<int> ready;  // this round's threads, and the first that has not had its turn
  std::size_t next = 0;
};

std::uint64_t order_seed = 1;
Block block;

/// A multiple of 128 and of nothing more, as the addresses of shared_address are.
struct SharedMemory {
  unsigned char before[128], bytes[arena_bytes + canary_bytes];
};
alignas(1024) SharedMemory shared_arena;
unsigned char (&arena)[arena_bytes + canary_bytes] = shared_arena.bytes;

Fibers& fibers() {
  static Fibers all(most_threads);
  return all;
}

Thread& self() { return block.threads[static_cast<std::size_t>(block.current)]; }

std::string place(const std::source_location& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string in_block() {
  return "kernel " + block.call->name + ", block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + "): ";
}

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(in_block() + what); }

std::string situation(const Thread& t) {
  switch (t.state) {
    case State::ready: return "can run";
    case State::ended: return "have ended";
    case State::until: return t.condition_text + " (" + place(t.where) + ")";
    case State::at_barrier: return "wait at barrier " + std::to_string(t.barrier) + " (" + place(t.where) + ")";
    case State::acting: {
      char mask[16];
      std::snprintf(mask, sizeof mask, "0x%08x", t.mask);
      return std::string("wait in ") + t.what + " for the lanes " + mask + " (" + place(t.where) + ")";
    }
  }
  return "";
}

std::string everyone() {
  std::string text;
  for (std::size_t i = 0; i < block.threads.size();) {
    const std::string now = situation(block.threads[i]);
    std::size_t end = i;
    while (end < block.threads.size() && situation(block.threads[end]) == now) ++end;
    text += (i ? "; " : "") + std::string("threads ") + std::to_string(i) + " to " + std::to_string(end - 1) + " " + now;
    i = end;
  }
  return text;
}

void open_if_full(Barrier& barrier, int number) {
  const int needed = barrier.count == 0 ? block.live : barrier.count;
  if (barrier.waiting.empty() || static_cast<int>(barrier.waiting.size()) < needed) return;
  const std::source_location& first = block.threads[static_cast<std::size_t>(barrier.waiting[0])].where;
  for (const int i : barrier.waiting) {
    Thread& t = block.threads[static_cast<std::size_t>(i)];
    if (number == 0 && (t.where.line() != first.line() || std::strcmp(t.where.file_name(), first.file_name()) != 0))
      fail("threads " + std::to_string(barrier.waiting[0]) + " and " + std::to_string(i) + " met at different barriers, " + place(first) + " and " + place(t.where));
    t.state = State::ready;
    t.voted = barrier.vote;
  }
  barrier = {};
}

void thread_body(int index) {
  try {
    block.call->thread();
    Thread& t = self();
    async::end_thread(index);
    if (!t.begun && (block.call->early || block.call->name.starts_with("golem::cuda::"))) fail("thread " + std::to_string(index) + " ended without begin_kernel, and its kernel may be started early");
    if (!t.open.empty() || !t.groups.empty()) fail("thread " + std::to_string(index) + " ended before its copies to shared memory did");
    t.state = State::ended;
    --block.live;
    if (block.live > 0)
      for (auto& [number, barrier] : block.barriers) open_if_full(barrier, number);
  } catch (...) {
    block.error = std::current_exception();
  }
}

/// The next thread of the round.
int take_turn() {
  block.current = block.ready[block.next++];
  self().state = State::ready;
  threadIdx = self().index;
  return block.current;
}

void yield() {
  if (block.next < block.ready.size()) fibers().yield_to(take_turn());
  else fibers().yield();
}

bool can_run(Thread& t) {
  if (t.pause > 0) return --t.pause == 0;
  return t.state == State::ready || (t.state == State::until && t.condition());
}

bool anyone_pauses() {
  return std::any_of(block.threads.begin(), block.threads.end(), [](const Thread& t) { return t.pause > 0; });
}

void fill_shared(std::size_t bytes) {
  unpoison(arena, sizeof arena);
  std::memset(arena, 0xff, bytes);  // NaN in every type
  std::memset(arena + bytes, canary, sizeof arena - bytes);
  poison(arena + bytes, sizeof arena - bytes);
}

void run_block(std::mt19937_64& random) {
  const Call& call = *block.call;
  block.threads.assign(std::size_t{call.block.x} * call.block.y * call.block.z, {});
  block.barriers.clear();
  std::fill(std::begin(block.acting), std::end(block.acting), 0);
  block.error = nullptr;
  block.live = static_cast<int>(block.threads.size());
  fill_shared(call.shared_bytes);
  async::begin_block(arena, call.shared_bytes, block.threads.size());
  for (std::size_t i = 0; i < block.threads.size(); ++i) {
    const auto n = static_cast<unsigned>(i);
    block.threads[i].index = {n % call.block.x, n / call.block.x % call.block.y, n / call.block.x / call.block.y};
    fibers().prepare(static_cast<int>(i), &thread_body);
  }
  const bool one_warp_ahead = order_seed > 0 && order_seed % 2 == 0;
  std::vector<int>& ready = block.ready;
  std::vector<int> warps((block.threads.size() + 31) / 32);
  std::iota(warps.begin(), warps.end(), 0);
  if (order_seed) std::shuffle(warps.begin(), warps.end(), random);
  while (block.live > 0) {
    ready.clear();
    for (const int warp : warps) {
      for (std::size_t i = 32 * static_cast<std::size_t>(warp); i < std::min(block.threads.size(), 32 * static_cast<std::size_t>(warp) + 32); ++i)
        if (can_run(block.threads[i])) ready.push_back(static_cast<int>(i));
      if (one_warp_ahead && !ready.empty()) break;
    }
    if ((ready.empty() || !one_warp_ahead) && async::advance(random, ready.empty())) continue;
    if (ready.empty() && anyone_pauses()) continue;
    if (ready.empty()) fail("nobody can move: " + everyone());
    if (order_seed) std::shuffle(ready.begin(), ready.end(), random);
    else std::sort(ready.begin(), ready.end());
    for (block.next = 0; block.next < ready.size();) {
      fibers().resume(take_turn());
      if (block.error) {
        unpoison(arena, sizeof arena);
        std::rethrow_exception(block.error);
      }
    }
  }
  async::end_block();
  unpoison(arena, sizeof arena);
  for (std::size_t i = call.shared_bytes; i < call.shared_bytes + canary_bytes; ++i)
    if (arena[i] != canary) fail("shared memory was written beyond its " + std::to_string(call.shared_bytes) + " bytes");
}

}  // namespace

void set_order(std::uint64_t seed) { order_seed = seed; }

void run_kernel(const Call& call) {
  block.call = &call;
  blockDim = call.block;
  gridDim = call.grid;
  blockIdx = {};
  const std::size_t threads = std::size_t{call.block.x} * call.block.y * call.block.z;
  if (threads == 0 || threads > most_threads) fail("blocks of " + std::to_string(threads) + " threads");
  if (call.shared_bytes > arena_bytes) fail("more than " + std::to_string(arena_bytes) + " bytes of shared memory");
  std::mt19937_64 random(order_seed);
  std::vector<std::size_t> order(std::size_t{call.grid.x} * call.grid.y * call.grid.z);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (order_seed) std::shuffle(order.begin(), order.end(), random);
  for (const std::size_t b : order) {
    const auto n = static_cast<unsigned>(b);
    blockIdx = {n % call.grid.x, n / call.grid.x % call.grid.y, n / call.grid.x / call.grid.y};
    run_block(random);
  }
}

int current_thread() { return block.current; }
void* shared_memory() { return arena; }

bool meet(int number, int count, bool vote, const std::source_location& where) {
  Thread& t = self();
  Barrier& barrier = block.barriers[number];
  if (!barrier.waiting.empty() && barrier.count != count)
    fail("thread " + std::to_string(block.current) + " expects " + std::to_string(count) + " threads at barrier " + std::to_string(number) + " (" + place(where) + "), others " +
         std::to_string(barrier.count));
  t.state = State::at_barrier, t.barrier = number, t.where = where;
  barrier.count = count;
  barrier.vote = barrier.vote || vote;
  barrier.waiting.push_back(block.current);
  open_if_full(barrier, number);
  if (t.state != State::ready) yield();
  return t.voted;
}

void act_together(const char* what, unsigned mask, void* request, Complete complete, const std::source_location& where) {
  Thread& t = self();
  const int lane = block.current % 32, first = block.current - lane;
  if (!(mask >> lane & 1u)) fail("thread " + std::to_string(block.current) + " calls " + what + " for lanes that it is not one of (" + place(where) + ")");
  t.state = State::acting, t.what = what, t.mask = mask, t.request = request, t.where = where;
  int& acting = block.acting[first / 32];
  const int needed = std::popcount(mask);
  if (++acting < needed) return yield();
  void* requests[32]{};
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1u)) continue;
    const auto other = static_cast<std::size_t>(first + i);
    if (other >= block.threads.size()) fail(std::string(what) + " for lanes that the block does not have (" + place(where) + ")");
    const Thread& o = block.threads[other];
    if (o.state != State::acting || o.mask != mask || (o.what != what && std::strcmp(o.what, what) != 0) || o.where.line() != where.line()) return yield();
    requests[i] = o.request;
  }
  complete(requests, mask);
  acting -= needed;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1u) block.threads[static_cast<std::size_t>(first + i)].state = State::ready;
}

void wait_until(std::function<bool()> ready, std::string situation, const std::source_location& where) {
  Thread& t = self();
  std::string(std::move(situation)).swap(t.condition_text);  // a fiber that is given up frees nothing: what it waits for belongs to the block
  while (!ready()) {
    t.state = State::until, t.where = where;
    t.condition = ready;
    yield();
  }
}

void pause(int rounds) {
  self().pause = rounds;
  yield();
}

void complain(const std::string& what) { fail(what); }

void begin_kernel() { self().begun = true; }

void require_architecture(int least) {
  if (const int has = machine().written_for; has != 0 && has < least) fail("a trap: it runs by instructions of compute capability " + std::to_string(least / 10) + "." + std::to_string(least % 10));
}

void defer_copy(void* to, const void* from, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes || reinterpret_cast<std::uintptr_t>(from) % bytes) fail("a copy to shared memory is not aligned to its " + std::to_string(bytes) + " bytes");
  std::memset(to, 0xff, bytes);
  poison(to, bytes);
  self().open.push_back({to, from, bytes});
}

void commit_copies() {
  Thread& t = self();
  t.groups.push_back(std::move(t.open));
  t.open.clear();
}

void wait_for_copies(int pending_groups) {
  Thread& t = self();
  while (static_cast<int>(t.groups.size()) > pending_groups) {
    for (const Copy& copy : t.groups.front()) {
      unpoison(copy.to, copy.bytes);
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
    t.groups.pop_front();
  }
}

}  // namespace simt
