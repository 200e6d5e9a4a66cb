// cuda::doctor(): driver, libraries and GPUs of this machine, and whether this program's kernels run on them, as lines to read or to paste.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/cuda/blas.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// One GPU, as far as it can be reached.
struct GpuDiagnosis {
  std::string name, trouble;                 // trouble: why it cannot be used
  int major = 0, minor = 0;                  // compute capability
  std::int64_t memory = 0, memory_free = 0;  // bytes
  bool built = false;                        // whether this program has kernels for it
};

/// A build with CUDA and its machine. Where something is absent, its text is empty.
struct Diagnosis {
  std::string cuda, cuda_library;          // of the header, and of the library that was loaded: "13.0"
  std::string driver;                      // the newest CUDA that it knows
  std::string cublaslt, cublaslt_library;  // "13.0.2"
  std::string nccl, nccl_library;          // nccl::header_version() and library_version(), from whoever includes comm/nccl.hpp
  std::string built_for;                   // "8.0 and 9.0": of the file that instantiates this
  std::string trouble;                     // why there is no GPU to use
  std::vector<GpuDiagnosis> gpus;

  /// One sentence for each thing that is missing or does not fit, with what to do.
  std::vector<std::string> hints() const;

  /// "key: value" lines, the hints last.
  std::string text() const;
};

/// Stands for all kernels of the file that instantiates it.
template <int>
__global__ void probe_kernel() {}

/// Looks at this build and this machine; each GPU is opened, until the process ends, to ask how much memory is free. Never throws for what is wrong
/// with them.
inline Diagnosis doctor() {
  Diagnosis d{.cuda = runtime::header_version(),
              .cuda_library = runtime::library_version(),
              .driver = {},
              .cublaslt = blas::header_version(),
              .cublaslt_library = blas::library_version(),
              .nccl = {},
              .nccl_library = {},
              .built_for = list_of_architectures(std::begin(built_architectures), std::end(built_architectures)),
              .trouble = {},
              .gpus = {}};
  try {
    d.driver = runtime::driver_version();
    d.gpus.resize(static_cast<std::size_t>(runtime::device_count()));
    if (d.gpus.empty()) d.trouble = "the driver shows no GPU to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES, or use cpu::Device";
  } catch (const Error& error) {
    d.trouble = error.what();
  }
  if (d.gpus.empty()) return d;
  int in_use = 0;
  try {
    in_use = runtime::current_device();
  } catch (const Error& error) {
    d.trouble = error.what();
  }
  for (int i = 0; i < static_cast<int>(d.gpus.size()); ++i) {
    GpuDiagnosis& gpu = d.gpus[static_cast<std::size_t>(i)];
    try {
      gpu.name = runtime::device_name(i);
      gpu.major = runtime::device_attribute(cudaDevAttrComputeCapabilityMajor, i), gpu.minor = runtime::device_attribute(cudaDevAttrComputeCapabilityMinor, i);
      runtime::set_device(i);
      const runtime::MemoryInfo memory = runtime::memory_info();
      gpu.memory = static_cast<std::int64_t>(memory.total), gpu.memory_free = static_cast<std::int64_t>(memory.free);
      const runtime::KernelCode code = runtime::kernel_code(reinterpret_cast<const void*>(probe_kernel<0>));
      runtime::check(code.status, "look at a kernel");
      gpu.built = code.written_for >= smaller(10 * gpu.major + gpu.minor, 80);  // what is older may run, but not by matrix instructions
    } catch (const Error& error) {
      gpu.trouble = error.what();
    }
  }
  try {
    runtime::set_device(in_use);
  } catch (const Error& error) {  // where the loop has met it, it has been told
    if (d.gpus[static_cast<std::size_t>(in_use)].trouble.empty()) d.gpus[static_cast<std::size_t>(in_use)].trouble = error.what();
  }
  return d;
}

inline std::vector<std::string> Diagnosis::hints() const {
  std::vector<std::string> hints;
  const auto other = [&](const char* what, const std::string& header, const std::string& library) {
    if (header != library && !header.empty()) hints.push_back(sentence("compiled with ", what, ' ', header, " and loaded ", library, ": build again, or mend the library path"));
  };
  other("CUDA", cuda, cuda_library), other("cuBLASLt", cublaslt, cublaslt_library), other("NCCL", nccl, nccl_library);
  if (!trouble.empty()) hints.push_back(trouble);
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    const GpuDiagnosis& gpu = gpus[i];
    if (!gpu.trouble.empty()) hints.push_back(sentence("GPU ", i, " cannot be used: ", gpu.trouble));
    else if (!gpu.built)
      hints.push_back(sentence("this program has no kernels for GPU ", i, ", compute capability ", gpu.major, '.', gpu.minor, built_for.empty() ? "" : ", but for ", built_for, ": ",
                               how_to_build_for(10 * gpu.major + gpu.minor)));
  }
  if (gpus.size() > 1 && nccl.empty()) hints.push_back("compiled without NCCL, so ranks on several GPUs have no way to each other: install it, and configure again");
  return hints;
}

inline std::string Diagnosis::text() const {
  const auto or_none = [](const std::string& value) { return value.empty() ? std::string("none") : value; };
  const auto mib = [](std::int64_t bytes) { return bytes / (1 << 20); };
  std::string out = sentence("CUDA: ", cuda, "\nCUDA loaded: ", cuda_library, "\nCUDA of the driver: ", or_none(driver), "\ncuBLASLt: ", cublaslt, "\ncuBLASLt loaded: ", cublaslt_library,
                             "\nNCCL: ", or_none(nccl));
  if (!nccl.empty()) out += sentence("\nNCCL loaded: ", nccl_library);
  out += sentence("\nkernels built for: ", or_none(built_for), "\nGPUs: ", gpus.size(), '\n');
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    const GpuDiagnosis& gpu = gpus[i];
    out += sentence("GPU ", i, ": ", gpu.name, ", compute capability ", gpu.major, '.', gpu.minor, ", ", mib(gpu.memory), " MiB, ", mib(gpu.memory_free), " MiB free, ",
                    gpu.built ? "built for" : "not built for", '\n');
  }
  for (const std::string& hint : hints()) out += sentence("hint: ", hint, '\n');
  return out;
}

}  // namespace golem::cuda
