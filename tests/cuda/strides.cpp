// Work of more items than a GPU starts threads for: each thread takes several in turn, and results are those of a thread for each item.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"
#include "simt/runtime.hpp"

using namespace ops;

namespace {

struct UpdateAndSums {
  std::vector<float> weights, dropped, sum;
  std::vector<bfloat16> rounded, converted;
  double squares = 0;
};

UpdateAndSums run_on(int multiprocessors, const Numbers<float>& start, const Numbers<float>& gradient) {
  simt::machine().multiprocessors = multiprocessors;
  TestDevice device;
  const auto size = static_cast<std::int64_t>(start.typed.size());
  const Tensor<float> w(device, start), g(device, gradient), m(device, size), v(device, size), dropped(device, size);
  const Tensor<bfloat16> rounded(device, size), converted(device, size);
  const AdamwStep step{.learning_rate = 0.01, .decay = 0.1, .correction1 = 0.19, .correction2 = 0.0975, .gradient_scale = 0.5};
  adamw(device, AdamwTensors<float, bfloat16>{w.vector(), m.vector(), v.vector(), rounded.vector(), g.vector()}, step);
  convert(device, converted.vector(), w.vector());
  drop(device, dropped.matrix(1), w.matrix(1), 0.1, Random{1, 2}, 0);
  const double squares = sum_of_squares(device, View<const float, 1>(g.vector()));
  add(device, g.vector(), w.vector());
  return {w.typed(), dropped.typed(), g.typed(), rounded.typed(), converted.typed(), squares};
}

}  // namespace

TEST_CASE("a GPU of one multiprocessor computes what one of many does, each thread in several turns") {
  const simt::MachineRestored restored;
  constexpr std::int64_t size = 9 * 32768 + 5;  // a multiprocessor is given 32,768 threads, and a thread takes up to eight elements at once
  const Numbers<float> start(size, 1), gradient(size, 2, 0.1);
  const UpdateAndSums one = run_on(1, start, gradient), many = run_on(64, start, gradient);
  CHECK(one.weights != start.typed);
  CHECK(one.weights == many.weights);
  CHECK(one.rounded == many.rounded);
  CHECK(one.converted == one.rounded);
  CHECK(one.dropped == many.dropped);
  CHECK(one.sum == many.sum);
  double squares = 0;
  for (const double g : gradient.exact) squares += g * g;
  CHECK(one.squares == Approx(squares).epsilon(1e-6));
  CHECK(many.squares == Approx(squares).epsilon(1e-6));
}
