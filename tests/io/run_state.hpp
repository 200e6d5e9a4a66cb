// A small run for the tests of checkpoints: its whole state is a function of the step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "golem/core/stateful.hpp"

namespace test {

struct RunState {
  explicit RunState(std::int64_t step = 0, std::int64_t rows = 3)
      : step(step), rate(1.0 / static_cast<double>(step + 3)), note("step " + std::to_string(step)) {
    for (std::int64_t i = 0; i < rows * 5; ++i) weight.push_back(static_cast<float>(step * 100 + i));
    for (int i = 0; i < 7; ++i) bias.push_back(golem::bfloat16(static_cast<float>(step - i)));
    for (std::int64_t i = 0; i < rows * 5; ++i) moment.push_back(1e-3 * static_cast<double>(step + i));
  }

  void visit_state(golem::StateVisitor& visitor) {
    visitor.integer("step", step);
    visitor.real("rate", rate);
    visitor.text("note", note);
    const auto rows = static_cast<std::int64_t>(weight.size()) / 5;
    visitor.tensor({"block.0.weight", golem::DType::f32, {rows, 5}, weight.data(), weight.size() * 4});
    visitor.tensor({"block.0.bias", golem::DType::bf16, {7}, bias.data(), bias.size() * 2});
    visitor.tensor({"optimizer.moment1.block.0.weight", golem::DType::f64, {rows, 5}, moment.data(), moment.size() * 8});
  }
  friend bool operator==(const RunState&, const RunState&) = default;

  std::int64_t step = 0;
  double rate = 0;
  std::string note;
  std::vector<float> weight;
  std::vector<golem::bfloat16> bias;
  std::vector<double> moment;
};

}  // namespace test
