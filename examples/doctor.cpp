// Prints what this build of golem is, what the machine has, and what is slow or missing; doctor_cuda also what there is of GPUs.
// SPDX-License-Identifier: Apache-2.0
#include <golem/doctor.hpp>

#include <cstdio>
#include <string>

#if GOLEM_EXAMPLES_CUDA
#include <golem/cuda/doctor.cuh>
#if GOLEM_EXAMPLES_NCCL
#include <golem/comm/nccl_runtime.hpp>
#endif
#endif

int main() {
  std::string text = golem::doctor().text();
#if GOLEM_EXAMPLES_CUDA
  golem::cuda::Diagnosis cuda = golem::cuda::doctor();
#if GOLEM_EXAMPLES_NCCL
  cuda.nccl = golem::nccl::header_version(), cuda.nccl_library = golem::nccl::library_version();
#endif
  text += cuda.text();
#else
  text += "CUDA: not looked at by this program; doctor_cuda does, which is built where nvcc and the CUDA toolkit are\n";
#endif
  std::fputs(text.c_str(), stdout);
}
