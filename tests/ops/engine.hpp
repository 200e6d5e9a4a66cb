// The engine that the tests of the ops are compiled for: the CPU's, or CUDA's, with its kernels on the host or on a GPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(GOLEM_TEST_CUDA)
#include "simt/simt.hpp"
// behind it, what it stands in for
#include "golem/golem.cuh"
#include "golem/golem.hpp"
#include "simt/runtime.hpp"
#elif defined(GOLEM_TEST_GPU)
#include "cuda/launchers.hpp"
#include "golem/golem.hpp"
#else
#include "golem/golem.hpp"
#endif

#include <cstdint>
#include <vector>

#include "catch.hpp"

namespace ops {

template <class T, class D>
golem::Buffer<T, D> upload(D& device, const std::vector<T>& values) {
  golem::Buffer<T, D> buffer(device, static_cast<std::int64_t>(values.size()), "test");
  device.copy_in(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}

template <class T, class D>
std::vector<T> download(D& device, const golem::Buffer<T, D>& buffer) {
  device.synchronize();
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  device.copy_out(values.data(), buffer.data(), buffer.bytes());
  return values;
}

#if defined(GOLEM_TEST_CUDA)

using TestDevice = golem::cuda::Device;

/// Calls body(device) under two orders of threads and blocks.
template <class Body>
void on_each_device(const Body& body) {
  for (const std::uint64_t order : {1, 2}) {
    simt::set_order(order);
    INFO("order " << order);
    TestDevice device;
    body(device);
    device.synchronize();
  }
  simt::set_order(1);
}

/// In a program for compute capability 7.5, nvcc's own choice, body(device) runs on such a GPU, and is refused on one of 8.0 before an instruction that the program lacks.
template <class Body>
void check_compiled_for_7_5(const Body& body) {
  const simt::MachineRestored restored;
  simt::machine().written_for = 75;
  const auto run = [&] {
    TestDevice device;
    body(device);
    device.synchronize();
  };
  CHECK_THROWS_WITH(run(), Catch::Matchers::Contains("was compiled for compute capability 7.5, without instructions of 8.0 that it runs by on the host: build for it too, by nvcc -gencode arch=compute_80"));
  simt::machine().major = 7, simt::machine().minor = 5;
  CHECK_NOTHROW(run());
}

#elif defined(GOLEM_TEST_GPU)

using TestDevice = golem::cuda::Device;

/// Calls body(device) for the first GPU.
template <class Body>
void on_each_device(const Body& body) {
  TestDevice device;
  body(device);
  device.synchronize();
}

#else

using TestDevice = golem::cpu::Device;

/// Calls body(device) for a device of each instruction set that this processor has.
template <class Body>
void on_each_device(const Body& body) {
  for (const golem::cpu::Isa isa : {golem::cpu::Isa::plain, golem::cpu::Isa::avx2, golem::cpu::Isa::avx512, golem::cpu::Isa::avx512_vnni}) {
    if (isa > golem::cpu::detect_isa()) continue;
    INFO(golem::cpu::name_of(isa));
    TestDevice device({.threads = 2, .isa = isa});
    body(device);
  }
}

#endif

}  // namespace ops
