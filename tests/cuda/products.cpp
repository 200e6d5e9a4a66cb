// Products: planned once for each shape and alignment, with an epilogue where the library has one, and by a kernel where not.
// SPDX-License-Identifier: Apache-2.0
#include "ops/linear.hpp"
#include "simt/runtime.hpp"

using namespace ops;

TEST_CASE("a product is planned once for each shape and alignment") {
  TestDevice device;
  const Tensor<float> x(device, 3 * 8 + 4), w(device, 5 * 8), y(device, 3 * 5);
  const std::size_t heuristics = simt::counts().heuristics, products = simt::counts().products;
  for (int i = 0; i < 5; ++i) project(device, y.view(3, 5), x.view(3, 8), w.view(5, 8), {});
  project(device, y.view(2, 5), x.view(2, 8), w.view(5, 8), {});
  CHECK(simt::counts().heuristics == heuristics + 2);
  project(device, y.view(2, 5), View<float, 2>(x.view(3, 8).data + 1, 2, 8), w.view(5, 8), {});
  CHECK(simt::counts().heuristics == heuristics + 3);
  CHECK(simt::counts().products == products + 7);
  device.synchronize();
}

TEST_CASE("a product that could not be planned is planned when it is asked for again") {
  const simt::MachineRestored restored;
  TestDevice device;
  const Tensor<float> x(device, draw<float>(3 * 8, 1)), w(device, draw<float>(5 * 8, 2)), bias(device, draw<float>(5, 3)), y(device, 3 * 5), again(device, 3 * 5);
  simt::machine().fail_call = "cublasLtMatmulAlgoGetHeuristic";
  CHECK_THROWS_WITH(project(device, y.view(3, 5), x.view(3, 8), w.view(5, 8), bias.vector()), Catch::Matchers::Contains("cuBLASLt could not choose an algorithm"));
  const std::size_t products = simt::counts().products;
  project(device, y.view(3, 5), x.view(3, 8), w.view(5, 8), bias.vector());
  project(device, again.view(3, 5), x.view(3, 8), w.view(5, 8), bias.vector());
  device.synchronize();
  CHECK(simt::counts().products == products + 2);
  CHECK(y.typed() == again.typed());
}

TEST_CASE("a bias at an address that the library could not read in vectors is put there by a kernel") {
  TestDevice device;
  const auto values = draw<float>(6, 3);
  const Tensor<float> x(device, draw<float>(3 * 8, 1)), w(device, draw<float>(5 * 8, 2)), six(device, values), five(device, std::vector<float>(values.begin() + 1, values.end())), y(device, 3 * 5), expected(device, 3 * 5);
  project(device, expected.view(3, 5), x.view(3, 8), w.view(5, 8), five.vector());
  project(device, y.view(3, 5), x.view(3, 8), w.view(5, 8), View<float, 1>(six.vector().data + 1, 5));
  const std::vector<float> want = expected.typed(), got = y.typed();
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(1e-5).margin(1e-6));
}

TEMPLATE_TEST_CASE("without the library's bias epilogue a kernel puts the bias there first, and results are rounded once", "", float, bfloat16) {
  const simt::MachineRestored restored;
  simt::machine().lt_epilogues = false;
  TestDevice device;
  for (const Shape s : {Shape{3, 130, 21}, Shape{5, 64, 48}}) {
    const auto x = draw<TestType>(s.n * s.i, 1), w = draw<TestType>(s.o * s.i, 2), bias = draw<TestType>(s.o, 3);
    const Tensor<TestType> x_(device, x), w_(device, w), bias_(device, bias);
    const auto expected = ::oracle::project(widened(x), widened(w), widened(bias), static_cast<std::size_t>(s.n), static_cast<std::size_t>(s.i), static_cast<std::size_t>(s.o));
    const Tensor<float> y(device, s.n * s.o);
    project(device, y.matrix(s.n), x_.matrix(s.n), w_.matrix(s.o), bias_.vector());
    require_close<TestType>(y.typed(), expected, s.i);
    const Tensor<TestType> narrow(device, s.n * s.o);
    project(device, narrow.matrix(s.n), x_.matrix(s.n), w_.matrix(s.o), bias_.vector());
    require_close<TestType>(narrow.typed(), expected, s.i);
  }
}

TEST_CASE("the first of the library's proposals is taken unasked; the fastest where the device is told so, tried once for each shape, and results stay the same") {
  const simt::MachineRestored restored;
  simt::machine().lt_milliseconds = {3, 2, 0.5, 1};
  const Shape s{3, 8, 5};
  const auto x = draw<bfloat16>(s.n * s.i, 1), w = draw<bfloat16>(s.o * s.i, 2), dy = draw<bfloat16>(s.n * s.o, 3);
  const auto before = draw<float>(s.o * s.i, 4);
  std::vector<float> gradients[2];
  std::size_t runs[2], algorithms[2];
  for (const cuda::ProductChoice choice : {cuda::ProductChoice::proposed, cuda::ProductChoice::fastest}) {
    const auto i = static_cast<std::size_t>(choice);
    cuda::Device device(cuda::Device::Options{.products = choice});
    const Tensor<bfloat16> x_(device, x), w_(device, w), dy_(device, dy), y(device, s.n * s.o);
    const Tensor<float> dw(device, before);
    const std::size_t products = simt::counts().products;
    for (int time = 0; time < 2; ++time) project(device, y.matrix(s.n), x_.matrix(s.n), w_.matrix(s.o), {});
    for (int time = 0; time < 2; ++time) project_backward_weight(device, dw.matrix(s.o), View<float, 1>{}, dy_.matrix(s.n), x_.matrix(s.n));
    device.synchronize();
    gradients[i] = dw.typed(), runs[i] = simt::counts().products - products, algorithms[i] = simt::counts().last_algorithm;
    CHECK(device.memory().of("choice of products") == 0);
  }
  CHECK(gradients[0] == gradients[1]);
  CHECK((algorithms[0] == 0 && algorithms[1] == 2));
  CHECK((runs[0] == 4 && runs[1] == 4 + 2 * 4 * 4));  // two shapes, four turns of four proposals
}

TEST_CASE("where no memory is left to try products in that are added to, the first of the proposals is taken") {
  const simt::MachineRestored restored;
  simt::machine().lt_milliseconds = {3, 1};
  cuda::Device device(cuda::Device::Options{.products = cuda::ProductChoice::fastest});
  const Shape s{3, 64, 64};
  const Tensor<float> x(device, draw<float>(s.n * s.i, 1)), dy(device, draw<float>(s.n * s.o, 3)), dw(device, s.o * s.i);
  device.workspace<std::byte>(1 << 12);  // which products need too
  device.synchronize();
  simt::machine().memory_bytes = simt::bytes_in_use() + 1;
  project_backward_weight(device, dw.matrix(s.o), View<float, 1>{}, dy.matrix(s.n), x.matrix(s.n));
  device.synchronize();
  CHECK(simt::counts().last_algorithm == 0);
}

TEST_CASE("gradients of weights over few tokens are made by small tiles on 9.0, where the library proposes some; others by what it proposes first") {
  const simt::MachineRestored restored;
  simt::machine().lt_milliseconds = {1, 1, 1}, simt::machine().lt_tiles = {CUBLASLT_MATMUL_TILE_128x256, CUBLASLT_MATMUL_TILE_128x160, CUBLASLT_MATMUL_TILE_128x128};
  const Shape s{3, 8, 16};
  enum class Product { gradient_of_weights, projection };
  using enum Product;
  const auto algorithm_of = [&](int major, auto element, std::int64_t tokens, Product product) {
    using T = decltype(element);
    simt::machine().major = major;
    cuda::Device device;
    const Tensor<T> x(device, tokens * s.i), dy(device, tokens * s.o), w(device, s.o * s.i);
    const Tensor<accumulate_t<T>> dw(device, s.o * s.i);
    const std::size_t products = simt::counts().products;
    if (product == gradient_of_weights) project_backward_weight(device, dw.matrix(s.o), View<accumulate_t<T>, 1>{}, dy.matrix(tokens), x.matrix(tokens));
    else project(device, dy.matrix(tokens), x.matrix(tokens), w.matrix(s.o), {});
    device.synchronize();
    CHECK(simt::counts().products == products + 1);  // nothing is tried
    return simt::counts().last_algorithm.load();
  };
  CHECK(algorithm_of(9, bfloat16{}, 4096, gradient_of_weights) == 1);
  CHECK(algorithm_of(9, float16{}, 3, gradient_of_weights) == 1);
  CHECK(algorithm_of(9, bfloat16{}, 4097, gradient_of_weights) == 0);
  CHECK(algorithm_of(9, bfloat16{}, 3, projection) == 0);
  CHECK(algorithm_of(9, float{}, 3, gradient_of_weights) == 0);
  CHECK(algorithm_of(8, bfloat16{}, 3, gradient_of_weights) == 0);
  simt::machine().lt_tiles = {};
  CHECK(algorithm_of(9, bfloat16{}, 3, gradient_of_weights) == 0);
}

TEST_CASE("a proposal whose workspace there is no memory for is not taken, however fast, and takes nothing from the others") {
  const simt::MachineRestored restored;
  simt::machine().lt_milliseconds = {3, 0.5, 2}, simt::machine().lt_workspaces = {0, std::size_t{1} << 20, 0};
  cuda::Device device(cuda::Device::Options{.products = cuda::ProductChoice::fastest});
  const Shape s{3, 8, 5};
  const Tensor<float> x(device, draw<float>(s.n * s.i, 1)), w(device, draw<float>(s.o * s.i, 2)), y(device, s.n * s.o);
  device.synchronize();
  simt::machine().memory_bytes = simt::bytes_in_use() + (1 << 10);
  for (int time = 0; time < 2; ++time) {
    project(device, y.matrix(s.n), x.matrix(s.n), w.matrix(s.o), {});
    device.synchronize();
    CHECK(simt::counts().last_algorithm == 2);
  }
}

TEST_CASE("a product that is captured first is tried when it is asked for outside") {
  const simt::MachineRestored restored;
  simt::machine().lt_milliseconds = {3, 1}, simt::machine().lt_workspaces = {0, 0};
  cuda::Device device(cuda::Device::Options{.products = cuda::ProductChoice::fastest});
  const Shape s{3, 8, 5};
  const Tensor<float> x(device, draw<float>(s.n * s.i, 1)), w(device, draw<float>(s.o * s.i, 2)), y(device, s.n * s.o);
  const auto multiply = [&] { project(device, y.matrix(s.n), x.matrix(s.n), w.matrix(s.o), {}); };
  device.synchronize();
  const std::size_t products = simt::counts().products;
  cuda::runtime::begin_capture(device.stream());
  multiply();
  const cudaGraphExec_t graph = cuda::runtime::end_capture(device.stream());
  CHECK(simt::counts().products == products + 1);
  multiply();
  device.synchronize();
  CHECK(simt::counts().last_algorithm == 1);
  cuda::runtime::run(graph, device.stream());
  device.synchronize();
  CHECK(simt::counts().last_algorithm == 0);
  cuda::runtime::destroy(graph);
}
