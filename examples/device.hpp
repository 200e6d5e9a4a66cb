// The device that the programs compute on: the CPU, or, in those that nvcc makes for GPUs, a GPU for each rank. The one place that picks it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#if GOLEM_EXAMPLES_CUDA  // set by examples/cuda.cmake for the programs named _cuda
#include "golem/golem.cuh"
#include "golem/golem.hpp"
#if GOLEM_EXAMPLES_NCCL
#include "golem/comm/nccl.hpp"
#endif
#else
#include "golem/golem.hpp"
#endif

namespace examples {

#if GOLEM_EXAMPLES_CUDA

using Device = golem::cuda::Device;
inline constexpr const char* device_key = "device";  // of the JSON line
inline const std::string& name_of(Device& device) { return device.name(); }
inline int threads_of(Device&) { return 1; }
inline std::int64_t graphs_of(Device& device) { return device.graphs_run(); }  // that it has run
inline bool prefers_bf16() { return true; }
inline constexpr std::int64_t head_tokens = 2048;  // whose logits are held at once: fewer do not fill a GPU

/// Its threads do nothing here that an option could change.
template <class App>
void add_threads_option(App&, int&, const char*) {}

inline constexpr std::string_view tensor_degrees_option = "GOLEM_EXAMPLES_CUDA_TP";

/// What a program is called here, of its name on the CPU.
inline std::string program_name(std::string_view program) { return golem::sentence(program, "_cuda"); }

/// Throws Error where this machine has no GPU that the program could use; `program` is what it is called on the CPU.
inline void require_device(std::string_view program) {
  std::string trouble = "CUDA's driver shows no GPU to this process";
  try {
    if (golem::cuda::runtime::device_count() > 0) return;
  } catch (const golem::Error& error) {
    trouble = error.what();
  }
  golem::fail(trouble, "; the same program for the CPU is ", program);
}

/// A rank's GPU: that of its number on this machine, as the launcher counts, or among the threads of this process.
inline int gpu_of(int rank) {
  const int local = golem::local_rank();
  return local >= 0 ? local : rank;
}
inline Device make_device(golem::World& world, int) { return Device({.index = gpu_of(world.rank())}); }

/// Lets ranks reach each other's GPUs. Before groups are counted or copied.
inline void connect([[maybe_unused]] golem::World& world, [[maybe_unused]] Device& device) {
#if GOLEM_EXAMPLES_NCCL
  if (world.all().size() > 1) golem::use_nccl(world, device.stream());
#else
  if (world.all().size() > 1) world.all().end_run("this program was built without NCCL, which ranks on GPUs need: install it and configure again, or use one rank");
#endif
}

/// Bytes that each rank has: a GPU's. Asked of this process's first, so that none opens a context on another's.
inline std::int64_t memory_of_rank(int) {
  golem::cuda::runtime::set_device(gpu_of(0));
  return static_cast<std::int64_t>(golem::cuda::runtime::memory_info().total);
}

#else

using Device = golem::cpu::Device;
inline constexpr std::string_view tensor_degrees_option = "GOLEM_EXAMPLES_TP";
inline constexpr const char* device_key = "isa";
inline std::string name_of(Device& device) { return golem::cpu::name_of(device.isa()); }
inline int threads_of(Device& device) { return device.threads(); }
inline std::int64_t graphs_of(Device&) { return 0; }
inline bool prefers_bf16() { return golem::cpu::prefers_bf16(); }
inline constexpr std::int64_t head_tokens = 0;

/// --threads of a program's command line, a CLI::App.
template <class App>
void add_threads_option(App& app, int& threads, const char* what) {
  app.add_option("--threads", threads, what)->capture_default_str();
}

inline std::string program_name(std::string_view program) { return std::string(program); }
inline void require_device(std::string_view) {}
inline Device make_device(golem::World&, int threads) { return Device({.threads = threads}); }
inline void connect(golem::World&, Device&) {}
inline std::int64_t memory_of_rank(int ranks) { return std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE) / ranks; }

#endif

/// Whether this device multiplies by weights of precision P.
template <class P>
inline constexpr bool has_products = true;
template <golem::Quant Q, class Base>
inline constexpr bool has_products<golem::quantized<Q, Base>> =
    requires(Device& device, golem::View<typename Base::compute, 2> x, golem::QuantizedView<Q, const std::uint8_t> w) { project(device, x, x, w, golem::View<typename Base::compute, 1>{}); };

/// Calls use.template operator()<P>() where it does. Throws Error where not.
template <class P, class Use>
void with_products(Use use) {
  if constexpr (has_products<P>) return use.template operator()<P>();
  else golem::fail("this program's device has no products with quantised weights in this version: use full precision, or the same program for the CPU");
}

}  // namespace examples
