// cuda::doctor(): its lines are true of the machine that the host's runtime pretends to be, and each thing that is wrong gives one hint.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include "golem/cuda/doctor.cuh"

#include <string>

#include "catch.hpp"
#include "simt/runtime.hpp"

using golem::cuda::Diagnosis;
using Catch::Matchers::Contains;

namespace {

/// The one hint about this machine.
std::string hint() {
  const Diagnosis d = golem::cuda::doctor();
  REQUIRE(d.hints().size() == 1);
  CHECK_THAT(d.text(), Contains("hint: " + d.hints()[0] + "\n"));
  return d.hints()[0];
}

}  // namespace

TEST_CASE("the doctor sees driver, libraries and GPUs") {
  const simt::MachineRestored restored;
  simt::machine().devices = 1, simt::machine().memory_bytes = std::size_t{3} << 30;
  const Diagnosis d = golem::cuda::doctor();
  CHECK(d.hints().empty());
  CHECK(d.cuda == std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10));
  CHECK(d.text() == "CUDA: " + d.cuda + "\nCUDA loaded: " + d.cuda + "\nCUDA of the driver: 13.0\ncuBLASLt: " + d.cublaslt + "\ncuBLASLt loaded: " + d.cublaslt +
                        "\nNCCL: none\nkernels built for: 8.0 and 9.0\nGPUs: 1\nGPU 0: the host, compute capability 8.0, 3072 MiB, " + std::to_string(d.gpus[0].memory_free >> 20) + " MiB free, built for\n");
}

TEST_CASE("what is missing or does not fit gives one hint that says what to do, and never an exception") {
  const simt::MachineRestored restored;
  simt::Machine& machine = simt::machine();
  const auto begin = [&] { machine = {}, machine.devices = 1; };
  begin(), machine.devices = 0, machine.count_status = cudaErrorInsufficientDriver, machine.driver = 0;
  CHECK_THAT(hint(), Contains("CUDA found no driver") && Contains("use cpu::Device"));
  CHECK_THAT(golem::cuda::doctor().text(), Contains("CUDA of the driver: none\n") && Contains("GPUs: 0\n"));
  begin(), machine.devices = 0, machine.count_status = cudaErrorNoDevice;
  CHECK_THAT(hint(), Contains("shows no GPU") && Contains("CUDA_VISIBLE_DEVICES"));
  begin(), machine.devices = 0, machine.count_status = cudaErrorUnknown;
  CHECK_THAT(hint(), Contains("could not count devices"));
  begin(), machine.runtime = 12080;
  CHECK_THAT(hint(), Contains(" and loaded 12.8: build again"));
  begin(), machine.lt_version = 120805;
  CHECK_THAT(hint(), Contains("compiled with cuBLASLt ") && Contains(" and loaded 12.8.5"));
  begin(), machine.major = 12, machine.fail_call = "cudaFuncGetAttributes", machine.fail_status = cudaErrorNoKernelImageForDevice;
  CHECK_THAT(hint(), Contains("no kernels for GPU 0, compute capability 12.0, but for 8.0 and 9.0") && Contains("code=sm_120"));
  begin(), machine.major = 9, machine.written_for = 75;
  CHECK_THAT(hint(), Contains("no kernels for GPU 0, compute capability 9.0, but for 8.0 and 9.0: ") && Contains("arch=compute_90a,code=sm_90a"));
  begin(), machine.fail_call = "cudaMemGetInfo";
  CHECK_THAT(hint(), Contains("GPU 0 cannot be used: CUDA could not ask how much memory is free"));
  begin(), machine.fail_call = "cudaSetDevice", machine.keeps_failing = true;  // a GPU that another process has for itself
  CHECK_THAT(hint(), Contains("GPU 0 cannot be used: CUDA could not "));
  begin(), machine.devices = 2;
  CHECK_THAT(hint(), Contains("compiled without NCCL"));
}
