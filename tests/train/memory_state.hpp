// A saved state in memory: what a checkpoint holds, without files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "golem/core/stateful.hpp"

namespace tests {

struct MemoryState {
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;
  std::map<std::string, std::vector<char>> tensors;
  friend bool operator==(const MemoryState&, const MemoryState&) = default;

  template <class S>
  void save(S& state) {
    Visitor visitor(*this, false);
    state.visit_state(visitor);
  }
  template <class S>
  void load(S& state) {
    Visitor visitor(*this, true);
    state.visit_state(visitor);
  }

 private:
  struct Visitor : golem::StateVisitor {
    MemoryState* state;
    bool loads;
    Visitor(MemoryState& state, bool loads) : state(&state), loads(loads) {}
    template <class Values, class Value>
    void value(Values& values, std::string_view name, Value& v) {
      if (loads) v = values.at(std::string(name));
      else values[std::string(name)] = v;
    }
    void integer(std::string_view name, std::int64_t& v) override { value(state->integers, name, v); }
    void real(std::string_view name, double& v) override { value(state->reals, name, v); }
    void text(std::string_view name, std::string& v) override { value(state->texts, name, v); }
    void tensor(const golem::TensorState& t) override {
      if (loads) std::memcpy(t.data, state->tensors.at(t.name).data(), t.bytes);
      else state->tensors[t.name].assign(static_cast<char*>(t.data), static_cast<char*>(t.data) + t.bytes);
    }
    bool loading() const override { return loads; }
  };
};

}  // namespace tests
