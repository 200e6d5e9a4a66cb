// Boxes of tensors that arrive late in shared memory, the barriers that they arrive at, and what copies and products see of it.
// SPDX-License-Identifier: Apache-2.0
#include "simt/async.hpp"

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "simt/block.hpp"
#include "simt/poison.hpp"
#include "simt/tensor_map.hpp"

namespace simt {
namespace {

constexpr unsigned window_start = 1024 + 128;  // a multiple of 128 and of nothing more: kernels must not count on more
constexpr std::int64_t most_bytes = (std::int64_t{1} << 20) - 1;  // that a barrier can count
constexpr int rounds_behind_arrival = 24;  // who waits for it acts before the one who arrived goes on, so that too early shows
constexpr std::uint64_t barrier_mark = 0xba221e2ba221e200;

struct Phases {
  int expected, missing;
  std::int64_t bytes = 0;  // to come
  std::uint64_t number = 0;
  bool shown = false;
};

struct Box {
  TensorMap tensor;
  int coordinates[4];
  unsigned address, bytes, barrier;
};

struct Registers {
  int count = 0, calls = 0;
};

struct Shared {
  unsigned char* memory = nullptr;
  std::vector<unsigned char> shown;  // as copies and products see it
  std::map<unsigned, Phases> barriers;
  std::vector<Box> boxes;  // on their way
  std::vector<Registers> registers;  // of each warp
} shared;

std::string at_byte(unsigned address) { return "at byte " + std::to_string(address - window_start) + " of shared memory"; }

void check_inside(unsigned address, std::size_t bytes, const char* who) {
  if (address < window_start || address - window_start + bytes > shared.shown.size()) complain(std::string(who) + " is " + at_byte(address) + ", which has " + std::to_string(shared.shown.size()));
}

Phases& phases_of(void* barrier) {
  const unsigned address = shared_address(barrier);
  const auto found = shared.barriers.find(address);
  if (found == shared.barriers.end()) complain("there is no barrier " + at_byte(address));
  std::uint64_t mark;
  std::memcpy(&mark, barrier, sizeof mark);
  if (mark != barrier_mark) complain("the barrier " + at_byte(address) + " was overwritten");
  return found->second;
}

void end_phase_if_complete(Phases& phases) {
  if (phases.missing > 0 || phases.bytes != 0) return;
  phases.missing = phases.expected;
  ++phases.number;
}

/// The swizzle of copies and products: bits 4 and up of the address are crossed with bits 7 and up.
unsigned swizzled(unsigned address, std::uint32_t span) { return span ? address ^ (address >> 3 & (span - 16)) : address; }

void deliver(const Box& box) {
  const TensorMap& t = box.tensor;
  unpoison(async::at(box.address), box.bytes);
  unsigned to = box.address;
  std::uint32_t i[5]{};
  for (unsigned done = 0; done < box.bytes; done += t.element_bytes, to += t.element_bytes) {
    const unsigned char* from = t.data;
    bool inside = true;
    for (int d = 0; d < 4; ++d) {
      const std::int64_t x = box.coordinates[d] + std::int64_t{i[d]};
      inside = inside && x >= 0 && x < std::int64_t{t.extent[d]};
      from += x * static_cast<std::int64_t>(t.step[d]);
    }
    unsigned char* place = shared.memory + (swizzled(to, t.swizzle_bytes) - window_start);
    if (inside) std::memcpy(place, from, t.element_bytes);
    else std::memset(place, 0, t.element_bytes);
    for (int d = 0; d < 5 && ++i[d] == t.box[d]; ++d) i[d] = 0;
  }
  std::memcpy(&shared.shown[box.address - window_start], async::at(box.address), box.bytes);
  Phases& phases = shared.barriers.at(box.barrier);
  phases.bytes -= box.bytes;
  end_phase_if_complete(phases);
}

}  // namespace

unsigned shared_address(const void* memory) { return window_start + static_cast<unsigned>(static_cast<const unsigned char*>(memory) - shared.memory); }

void init_phases(void* barrier, int arrivals) {
  const unsigned address = shared_address(barrier);
  check_inside(address, 8, "a barrier");
  if (address % 8) complain("a barrier is not aligned to 8 bytes");
  if (arrivals < 1 || arrivals > most_bytes) complain("a barrier was to expect " + std::to_string(arrivals) + " arrivals");
  if (!shared.barriers.insert({address, {.expected = arrivals, .missing = arrivals}}).second) complain("the barrier " + at_byte(address) + " was made twice");
  std::memcpy(barrier, &barrier_mark, sizeof barrier_mark);
}

void arrive(void* barrier, std::int64_t bytes) {
  Phases& phases = phases_of(barrier);
  if (phases.missing == 0) complain("more arrivals than the barrier " + at_byte(shared_address(barrier)) + " expects");
  phases.bytes += bytes;
  if (phases.bytes > most_bytes) complain("a barrier cannot count " + std::to_string(phases.bytes) + " bytes");
  --phases.missing;
  end_phase_if_complete(phases);
  if (bytes == 0) pause(rounds_behind_arrival);
}

void wait_for_phase(void* barrier, int parity, const std::source_location& where) {
  Phases& phases = phases_of(barrier);
  std::string situation = "wait for a phase of parity " + std::to_string(parity) + " of the barrier " + at_byte(shared_address(barrier));
  wait_until([&phases, parity] { return static_cast<int>(phases.number % 2) != parity; }, std::move(situation), where);
}

void show_shared_writes() {
  for (auto& [address, phases] : shared.barriers) phases.shown = true;
  for (const Box& box : shared.boxes) unpoison(async::at(box.address), box.bytes);
  std::memcpy(shared.shown.data(), shared.memory, shared.shown.size());
  for (const Box& box : shared.boxes) poison(async::at(box.address), box.bytes);
}

void copy_box(void* to, const CUtensorMap& map, const int (&coordinates)[4], void* barrier) {
  Box box{.tensor = decoded(map), .coordinates = {}, .address = shared_address(to), .bytes = 0, .barrier = shared_address(barrier)};
  const TensorMap& t = box.tensor;
  if (t.mark != TensorMap::mark_of_all || reinterpret_cast<std::uintptr_t>(&map) % 64) complain("copy_box was given no tensor map");
  if (t.rank != 4) complain("a box of four dims was asked of a tensor of " + std::to_string(t.rank));
  if (t.swizzle_bytes && t.box[0] * t.element_bytes != t.swizzle_bytes) complain("boxes narrower than their swizzle are not emulated");
  box.bytes = t.element_bytes;
  for (const std::uint32_t extent : t.box) box.bytes *= extent;
  for (int d = 0; d < 4; ++d) box.coordinates[d] = coordinates[d];
  check_inside(box.address, box.bytes, "a box");
  if (box.address % 128 || (t.swizzle_bytes && box.address % (8 * t.swizzle_bytes))) complain("a box is not aligned to its swizzle, " + at_byte(box.address));
  if (!phases_of(barrier).shown) complain("a box is to arrive at a barrier that was made and not shown");
  async::check_readable(box.address, box.bytes, "a box");
  std::memset(to, 0xff, box.bytes);
  std::memset(&shared.shown[box.address - window_start], 0xff, box.bytes);
  poison(to, box.bytes);
  shared.boxes.push_back(box);
}

void set_registers(int registers, const std::source_location& where) {
  act_together("setmaxnreg", 0xffffffffu, nullptr, [](void* const (&)[32], unsigned) {}, where);
  Registers& warp = shared.registers[static_cast<std::size_t>(current_thread() / 32)];
  if (registers < 24 || registers > 256 || registers % 8) complain("setmaxnreg was asked for " + std::to_string(registers) + " registers");
  warp.count = registers, ++warp.calls;
}

namespace async {

void begin_block(unsigned char* memory, std::size_t bytes, std::size_t threads) {
  shared.memory = memory;
  shared.shown.assign(memory, memory + bytes);
  shared.barriers.clear();
  shared.boxes.clear();
  shared.registers.assign((threads + 31) / 32, {});
  begin_products_of_block(threads);
}

bool advance(std::mt19937_64& random, bool surely) {
  if (shared.boxes.empty() || !(surely || random() % 4 == 0)) return false;
  const std::size_t i = random() % shared.boxes.size();
  const Box box = shared.boxes[i];
  shared.boxes.erase(shared.boxes.begin() + static_cast<std::ptrdiff_t>(i));
  deliver(box);
  return true;
}

void end_thread(int thread) { end_products_of_thread(thread); }

void end_block() {
  end_products_of_block();
  if (!shared.boxes.empty()) complain("the block ended before " + std::to_string(shared.boxes.size()) + " boxes arrived");
  for (const auto& [address, phases] : shared.barriers)
    if (phases.bytes != 0) complain("the barrier " + at_byte(address) + " expects " + std::to_string(phases.bytes) + " more bytes than came");
  int registers = 0;
  for (std::size_t w = 0; w < shared.registers.size(); ++w) {
    const Registers &warp = shared.registers[w], &first = shared.registers[w / 4 * 4];
    if (warp.count != first.count || warp.calls != first.calls) complain("setmaxnreg was not called by all warps of a warpgroup");
    registers += 32 * warp.count;
  }
  if (registers > 65536) complain("setmaxnreg asked for " + std::to_string(registers) + " registers in all");
}

bool is_arriving(unsigned address, std::size_t bytes) {
  for (const Box& box : shared.boxes)
    if (address < box.address + box.bytes && box.address < address + bytes) return true;
  return false;
}

void check_readable(unsigned address, std::size_t bytes, const char* who) {
  check_inside(address, bytes, who);
  if (is_arriving(address, bytes)) complain(std::string(who) + " meets a box that has not arrived, " + at_byte(address));
  if (std::memcmp(at(address), &shared.shown[address - window_start], bytes) != 0) complain(std::string(who) + " meets what was written and not shown, " + at_byte(address));
}

const unsigned char* at(unsigned address) { return shared.memory + (address - window_start); }

}  // namespace async
}  // namespace simt
