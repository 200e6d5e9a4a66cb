// What a pickle holds, as values without any behaviour: numbers, texts, containers, and tensors as views of storages.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/number.hpp"

namespace golem {

/// A storage of torch: the entry "<root>/data/<key>" of the archive, `elements` elements of one type.
struct PickledStorage {
  std::string key;
  DType type = DType::f32;
  std::int64_t elements = 0;
};

/// A tensor of torch: element (i, j, ...) is element offset + i strides[0] + j strides[1] + ... of its storage, and lies in it.
struct PickledTensor {
  std::uint32_t storage = 0;  // of Pickle::storages
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape, strides;
};

enum class PickleKind : std::uint8_t {
  none,
  boolean,
  integer,
  large,  // an integer beyond 64 bits
  real,
  text,  // also bytes
  tuple,
  list,
  dict,     // items: key, value, key, value, ...
  global,   // text: its name; number: a PickleGlobal
  object,   // of a class that does nothing here; items: class, arguments, state
  storage,  // number: index in Pickle::storages
  tensor,   // number: index in Pickle::tensors
};

inline const char* name_of(PickleKind kind) {
  constexpr const char* names[]{
      "None",      "a bool",    "an int",  "an int beyond 64 bits", "a float", "a text", "a tuple", "a list", "a dict", "a global",
      "an object", "a storage", "a tensor"};
  return names[static_cast<int>(kind)];
}

/// One value. Others are named by their index, so that sharing, depth and cycles cost nothing.
struct PickleValue {
  PickleKind kind = PickleKind::none;
  std::int64_t number = 0;  // of boolean, integer, and what the kinds above say
  double real = 0;
  std::string text;
  std::vector<std::uint32_t> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickledStorage> storages;
  std::vector<PickledTensor> tensors;
  std::uint32_t root = 0;

  const PickleValue& top() const { return values[root]; }

  /// What a dict has under a text; null where it has nothing, or the value is no dict. The last of several wins, as in Python.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const {
    if (dict.kind != PickleKind::dict) return nullptr;
    for (std::size_t i = dict.items.size(); i >= 2; i -= 2) {
      const PickleValue& name = values[dict.items[i - 2]];
      if (name.kind == PickleKind::text && name.text == key) return &values[dict.items[i - 1]];
    }
    return nullptr;
  }
};

}  // namespace golem
