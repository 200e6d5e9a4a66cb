// The products of a linear layer and their gradients, of every type, against the oracle and central differences.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "ops/linear.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("project and its gradients agree with the oracle", "", float, double, bfloat16, float16) {
  on_each_device([](TestDevice& device) {
    for (const Shape s : shapes) {
      check_values<TestType, TestType>(device, s);
      check_values<TestType, accumulate_t<TestType>>(device, s);
    }
  });
}

TEST_CASE("the gradient of a bias adds up all of many rows") {
  on_each_device([](TestDevice& device) {
    constexpr Shape s{1100, 1, 3};
    const auto dy = draw<float>(s.n * s.o, 4);
    const Tensor<float> x(device, s.n), dy_(device, dy), dw(device, s.o), dbias(device, draw<float>(s.o, 6));
    project_backward_weight(device, dw.matrix(s.o), dbias.vector(), dy_.matrix(s.n), x.matrix(s.n));
    auto expected = widened(draw<float>(s.o, 6));
    for (std::size_t e = 0; e < dy.size(); ++e) expected[e % expected.size()] += dy[e];
    require_close<float>(dbias.typed(), expected, s.n);
  });
}

TEST_CASE("the gradients of project are its central differences") {
  on_each_device([&](TestDevice& device) {
    constexpr Shape s{19, 7, 5};
    const Results<double, double> got(device, s);
    auto x = draw<double>(s.n * s.i, 1), w = draw<double>(s.o * s.i, 2), bias = draw<double>(s.o, 3), dy = draw<double>(s.n * s.o, 4);
    const auto loss = [&] {  // sum of y dy
      const Tensor<double> y_(device, s.n * s.o), x_(device, x), w_(device, w), bias_(device, bias);
      project(device, y_.matrix(s.n), x_.matrix(s.n), w_.matrix(s.o), bias_.vector());
      const std::vector<double> y = y_.typed();
      double sum = 0;
      for (std::size_t e = 0; e < y.size(); ++e) sum += y[e] * dy[e];
      return sum;
    };
    const auto differences = [&](std::vector<double>& values) {
      std::vector<double> slopes;
      for (double& value : values) {
        const double before = value, step = 1e-4;
        value = before + step;
        const double above = loss();
        value = before - step;
        slopes.push_back((above - loss()) / (2 * step));
        value = before;
      }
      return slopes;
    };
    const auto dw_before = draw<double>(s.o * s.i, 5), dbias_before = draw<double>(s.o, 6);
    const auto dx = differences(x), dw = differences(w), dbias = differences(bias);
    for (std::size_t e = 0; e < dx.size(); ++e) REQUIRE(got.dx[e] == Approx(dx[e]).margin(1e-8));
    for (std::size_t e = 0; e < dw.size(); ++e) REQUIRE(got.dw[e] - dw_before[e] == Approx(dw[e]).margin(1e-8));
    for (std::size_t e = 0; e < dbias.size(); ++e) REQUIRE(got.dbias[e] - dbias_before[e] == Approx(dbias[e]).margin(1e-8));
  });
}

TEST_CASE("project refuses shapes that disagree, and says which") {
  on_each_device([&](TestDevice& device) {
    const Tensor<float> a(device, 12), b(device, 12), c(device, 12);
    REQUIRE_THROWS_WITH(project(device, c.view(3, 2), a.view(3, 4), b.view(2, 5), {}), Catch::Contains("w (2, 5)"));
    project(device, c.view(0, 2), a.view(0, 4), b.view(2, 4), {});
  });
}
