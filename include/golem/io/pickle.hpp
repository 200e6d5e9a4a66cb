// Reads the pickles that torch.save makes (protocol 2): a stack machine that builds values and runs nothing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/pickle_globals.hpp"
#include "golem/io/pickle_values.hpp"
#include "golem/io/zip_format.hpp"

namespace golem {

namespace pickle {

// A shard of GLM-130B has 60,000 bytes of pickle and 15,000 values.
inline constexpr std::uint64_t largest = 16 << 20;   // bytes
inline constexpr std::size_t most_values = 1 << 20;  // and twice as many items of containers
inline constexpr std::size_t deepest = 1000;         // marks that are open

class Machine {
 public:
  Machine(std::span<const std::byte> data, std::string_view path, std::uint64_t offset) : data_(data), path_(path), offset_(offset) {}

  Pickle run() {
    require(data_.size() <= largest, "'", path_, "': a pickle of ", data_.size(), " bytes at offset ", offset_, ", more than ", largest);
    while (step()) {
    }
    require(stack_.size() == 1 && marks_.empty(), here(), ": the pickle ends with ", stack_.size(), " values, expected 1");
    made_.root = stack_[0];
    return std::move(made_);
  }

 private:
  std::string here() const { return sentence("'", path_, "', pickle at offset ", offset_ + start_); }

  template <class T>
  T take() {
    const std::span<const std::byte> bytes = take_bytes(sizeof(T));
    return zip::number_at<T>(bytes, 0);
  }
  std::span<const std::byte> take_bytes(std::uint64_t count) {
    require(count <= data_.size() - at_, here(), ": ", count, " bytes are wanted and ", data_.size() - at_, " are left; the file is damaged");
    at_ += static_cast<std::size_t>(count);
    return data_.subspan(at_ - static_cast<std::size_t>(count), static_cast<std::size_t>(count));
  }
  std::string take_text(std::uint64_t count) {
    const auto bytes = take_bytes(count);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  /// Up to the end of the line, which is passed over.
  std::string take_line() {
    const std::string_view rest(reinterpret_cast<const char*>(data_.data()) + at_, data_.size() - at_);
    const std::size_t end = rest.substr(0, 512).find('\n');
    require(end != std::string_view::npos, here(), ": a global's name does not end");
    at_ += end + 1;
    return std::string(rest.substr(0, end));
  }

  std::uint32_t push(PickleValue value) {
    count_items(value.items.size());
    require(made_.values.size() < most_values, here(), ": more than ", most_values, " values, which no model's file needs");
    made_.values.push_back(std::move(value));
    stack_.push_back(static_cast<std::uint32_t>(made_.values.size() - 1));
    return stack_.back();
  }
  void push(PickleKind kind, std::int64_t number = 0) { push({.kind = kind, .number = number, .real = 0, .text = "", .items = {}}); }
  void push_text(std::string text) { push({.kind = PickleKind::text, .number = 0, .real = 0, .text = std::move(text), .items = {}}); }
  void count_items(std::size_t count) {
    items_ += count;
    require(items_ <= 2 * most_values, here(), ": containers of more than ", 2 * most_values, " values, which no model's file needs");
  }
  void push_container(PickleKind kind, std::vector<std::uint32_t> items) {
    push({.kind = kind, .number = 0, .real = 0, .text = "", .items = std::move(items)});
  }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::uint32_t top() const {
    require(stack_.size() > floor(), here(), ": a value is wanted and the stack has none");
    return stack_.back();
  }
  std::uint32_t pop() {
    const std::uint32_t value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<std::uint32_t> pop(std::size_t count) {
    require(stack_.size() - floor() >= count, here(), ": ", count, " values are wanted and the stack has ", stack_.size() - floor());
    std::vector<std::uint32_t> values(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return values;
  }
  /// What lies above the last mark, which goes too.
  std::vector<std::uint32_t> pop_to_mark() {
    require(!marks_.empty(), here(), ": a mark is wanted and there is none");
    std::vector<std::uint32_t> values = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return values;
  }

  void append(PickleKind kind, const std::vector<std::uint32_t>& items) {
    PickleValue& container = made_.values[top()];
    require(container.kind == kind || container.kind == PickleKind::object, here(), ": items are added to ", name_of(container.kind));
    if (container.kind != kind) return;
    require(kind != PickleKind::dict || items.size() % 2 == 0, here(), ": a key without a value");
    count_items(items.size());
    container.items.insert(container.items.end(), items.begin(), items.end());
  }
  void memorize(std::uint32_t key) { memo_[key] = top(); }
  void recall(std::uint32_t key) {
    const auto found = memo_.find(key);
    require(found != memo_.end(), here(), ": value ", key, " of the memo is wanted, and was not put there");
    stack_.push_back(found->second);
  }

  void push_long(std::uint64_t bytes) {
    const auto digits = take_bytes(bytes);
    if (bytes > 8) return push(PickleKind::large);
    std::uint64_t value = bytes > 0 && (static_cast<unsigned>(digits[bytes - 1]) & 128) != 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<std::uint64_t>(digits[i]);
    push(PickleKind::integer, static_cast<std::int64_t>(value));
  }
  void push_real() {
    std::uint64_t bits = take<std::uint64_t>();  // big-endian, as nothing else here
    bits = __builtin_bswap64(bits);
    PickleValue value{.kind = PickleKind::real, .number = 0, .real = 0, .text = "", .items = {}};
    std::memcpy(&value.real, &bits, 8);
    push(std::move(value));
  }
  void push_call() {
    const std::uint32_t arguments = pop(), callee = pop();
    push(call(made_, callee, arguments, here()));
  }
  void push_storage() {
    made_.storages.push_back(storage_of(made_, made_.values[pop()], here()));
    push(PickleKind::storage, static_cast<std::int64_t>(made_.storages.size()) - 1);
  }
  /// The state of an object; that of a dict is what torch notes of a module's versions.
  void build() {
    const std::uint32_t state = pop();
    PickleValue& value = made_.values[top()];
    require(value.kind == PickleKind::object || value.kind == PickleKind::dict, here(), ": a state is given to ", name_of(value.kind));
    if (value.kind != PickleKind::object) return;
    count_items(1);
    value.items.push_back(state);
  }

  /// One instruction; false at the last.
  bool step();

  std::span<const std::byte> data_;
  std::string_view path_;
  std::uint64_t offset_;
  std::size_t at_ = 0, start_ = 0, items_ = 0;
  Pickle made_;
  std::vector<std::uint32_t> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, std::uint32_t> memo_;
};

inline bool Machine::step() {
  start_ = at_;
  const auto instruction = take<std::uint8_t>();
  switch (instruction) {
    case 0x80: {  // PROTO
      const auto protocol = take<std::uint8_t>();
      require(protocol == 2, here(), ": protocol ", protocol, ", expected 2, what torch.save writes unless told otherwise");
      return true;
    }
    case '.': return false;
    case '(':
      require(marks_.size() < deepest, here(), ": more than ", deepest, " containers in one another");
      marks_.push_back(stack_.size());
      return true;
    case '0': pop(); return true;
    case '1': pop_to_mark(); return true;
    case 'N': push(PickleKind::none); return true;
    case 0x88: push(PickleKind::boolean, 1); return true;
    case 0x89: push(PickleKind::boolean, 0); return true;
    case 'K': push(PickleKind::integer, take<std::uint8_t>()); return true;
    case 'M': push(PickleKind::integer, take<std::uint16_t>()); return true;
    case 'J': push(PickleKind::integer, take<std::int32_t>()); return true;
    case 0x8a: push_long(take<std::uint8_t>()); return true;
    case 0x8b: push_long(take<std::uint32_t>()); return true;
    case 'G': push_real(); return true;
    case 'X':
    case 'T': push_text(take_text(take<std::uint32_t>())); return true;  // BINUNICODE, BINSTRING
    case 'U': push_text(take_text(take<std::uint8_t>())); return true;
    case ')': push(PickleKind::tuple); return true;
    case ']': push(PickleKind::list); return true;
    case '}': push(PickleKind::dict); return true;
    case 0x85:
    case 0x86:
    case 0x87: push_container(PickleKind::tuple, pop(instruction - 0x84u)); return true;
    case 't': push_container(PickleKind::tuple, pop_to_mark()); return true;
    case 'a': {
      const auto item = pop(1);
      append(PickleKind::list, item);
      return true;
    }
    case 'e': {
      const auto items = pop_to_mark();
      append(PickleKind::list, items);
      return true;
    }
    case 's': {
      const auto items = pop(2);
      append(PickleKind::dict, items);
      return true;
    }
    case 'u': {
      const auto items = pop_to_mark();
      append(PickleKind::dict, items);
      return true;
    }
    case 'q': memorize(take<std::uint8_t>()); return true;
    case 'r': memorize(take<std::uint32_t>()); return true;
    case 'h': recall(take<std::uint8_t>()); return true;
    case 'j': recall(take<std::uint32_t>()); return true;
    case 'c': {
      const std::string module = take_line();
      push(global_named(module + " " + take_line(), here()));
      return true;
    }
    case 'R':
    case 0x81: push_call(); return true;  // REDUCE, NEWOBJ
    case 'b': build(); return true;
    case 'Q': push_storage(); return true;
    default: fail(here(), ": instruction ", instruction, ", which torch.save does not use, or the file is damaged");
  }
}

}  // namespace pickle

/// Reads a pickle that lies at `offset` of the file `path`. Throws Error naming file, offset and reason for anything but what torch.save makes of
/// tensors, numbers, texts and containers: any class or function beside pickle::known_globals is refused by its name.
inline Pickle parse_pickle(std::span<const std::byte> data, std::string_view path, std::uint64_t offset) {
  return pickle::Machine(data, path, offset).run();
}

}  // namespace golem
