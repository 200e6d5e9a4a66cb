// Machines as data: peak rates, memory and links of the devices that GLM-130B was trained and is run on; each number with its source.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// One direction of a device's connection, as its maker states it.
struct Link {
  double bandwidth = 0;  // bytes a second
  double latency = 0;    // seconds until the first byte is there
};

/// One device and its share of a node. Rates are of dense products with sums in fp32, in operations a second (a multiply and an
/// add are two); 0: the device cannot.
struct Hardware {
  const char* name = "";
  double fp16 = 0, bf16 = 0, fp32 = 0, int8 = 0;
  std::int64_t memory = 0;    // bytes
  std::int64_t reserved = 0;  // of these: driver, libraries, their collectives' own buffers
  double bandwidth = 0;       // of memory, bytes a second
  int per_node = 8;           // devices that share the inner link
  Link inside = {};           // to the devices of its node, all together
  Link between = {};          // to other nodes: its share of the node's adapters

  constexpr std::int64_t usable() const { return memory - reserved; }
  /// Peak of products of elements of `type`.
  constexpr double rate(DType type) const {
    switch (type) {
      case DType::f16:
        return fp16;
      case DType::bf16:
        return bf16;
      case DType::f32:
        return fp32;
      case DType::i8:
        return int8;
      default:
        return 0;
    }
  }
};

inline constexpr std::int64_t gibibyte = std::int64_t{1} << 30, mebibyte = std::int64_t{1} << 20;

/// What ops of a device use while they run, its products (cuBLASLt) above all. Some ops of inference use more: plan_inference.
inline constexpr std::int64_t workspace_bytes = 32 * mebibyte;

// Memory is what nvidia-smi shows of it, somewhat less than what is sold. Latencies are typical of NCCL's rings (5 us a step through
// NVLink or PCIe, 10 us between nodes), not stated by a maker. What is reserved is a CUDA context (about 0.5 GiB) and NCCL's buffers for
// the groups of training, 1.5 GiB in all; 0.75 GiB where a device has one group only, as in inference.

/// "NVIDIA A100 Tensor Core GPU" data sheet (SXM4 40GB): 312 TFLOPS fp16 and bf16, 19.5 fp32, 624 TOPS int8, 1,555 GB/s,
/// NVLink 600 GB/s in both directions. DGX A100 data sheet: 8 GPUs, 8 HDR adapters of 200 Gb/s.
inline constexpr Hardware a100_40gb{.name = "A100-40G",
                                    .fp16 = 312e12,
                                    .bf16 = 312e12,
                                    .fp32 = 19.5e12,
                                    .int8 = 624e12,
                                    .memory = 40'536 * mebibyte,
                                    .reserved = 3 * gibibyte / 2,
                                    .bandwidth = 1555e9,
                                    .inside = {300e9, 5e-6},
                                    .between = {25e9, 10e-6}};

namespace hardware {

/// The same device with other memory.
constexpr Hardware with_memory(Hardware h, const char* name, std::int64_t memory, double bandwidth) {
  h.name = name, h.memory = memory, h.bandwidth = bandwidth;
  return h;
}

}  // namespace hardware

/// The same data sheet (SXM4 80GB): 2,039 GB/s.
inline constexpr Hardware a100_80gb = hardware::with_memory(a100_40gb, "A100-80G", 81'251 * mebibyte, 2039e9);

/// "NVIDIA H100 Tensor Core GPU" data sheet (SXM5; it prints rates with sparsity, twice these): 989 TFLOPS fp16 and bf16, 67 fp32,
/// 1,979 TOPS int8, 3.35 TB/s, NVLink 900 GB/s in both directions. DGX H100: 8 NDR adapters of 400 Gb/s.
inline constexpr Hardware h100{.name = "H100",
                               .fp16 = 989e12,
                               .bf16 = 989e12,
                               .fp32 = 67e12,
                               .int8 = 1979e12,
                               .memory = 81'559 * mebibyte,
                               .reserved = 3 * gibibyte / 2,
                               .bandwidth = 3350e9,
                               .inside = {450e9, 5e-6},
                               .between = {50e9, 10e-6}};

/// "NVIDIA H200 Tensor Core GPU" data sheet: H100 with 4.8 TB/s.
inline constexpr Hardware h200 = hardware::with_memory(h100, "H200", 143'771 * mebibyte, 4800e9);

/// "NVIDIA V100 Tensor Core GPU" data sheet (SXM2 32GB): 125 TFLOPS fp16, 15.7 fp32, 900 GB/s, NVLink 300 GB/s in both directions;
/// 62.8 TOPS int8 by dp4a (Volta white paper). DGX-1 data sheet: 8 GPUs, 4 EDR adapters of 100 Gb/s.
inline constexpr Hardware v100_32gb{.name = "V100-32G",
                                    .fp16 = 125e12,
                                    .fp32 = 15.7e12,
                                    .int8 = 62.8e12,
                                    .memory = 32'510 * mebibyte,
                                    .reserved = 3 * gibibyte / 4,
                                    .bandwidth = 900e9,
                                    .inside = {150e9, 5e-6},
                                    .between = {6.25e9, 10e-6}};

/// "NVIDIA Ampere GA102 GPU architecture" white paper, appendix A: 71 TFLOPS fp16 and bf16 with fp32 sums, 35.6 fp32, 284 TOPS int8,
/// 24 GB at 936 GB/s; PCIe 4.0 x16. No network is part of such a machine: one adapter of 100 Gb/s for 8 is assumed.
inline constexpr Hardware rtx_3090{.name = "RTX 3090",
                                   .fp16 = 71e12,
                                   .bf16 = 71e12,
                                   .fp32 = 35.6e12,
                                   .int8 = 284e12,
                                   .memory = 24'268 * mebibyte,
                                   .reserved = 3 * gibibyte / 4,
                                   .bandwidth = 936e9,
                                   .inside = {32e9, 5e-6},
                                   .between = {1.56e9, 10e-6}};

/// "NVIDIA Turing GPU architecture" white paper, table 1 (Founders Edition): 56.9 TFLOPS fp16 with fp32 sums, 14.2 fp32, 227.7 TOPS
/// int8, 11 GB at 616 GB/s; PCIe 3.0 x16. The network is assumed as above.
inline constexpr Hardware rtx_2080_ti{.name = "RTX 2080 Ti",
                                      .fp16 = 56.9e12,
                                      .fp32 = 14.2e12,
                                      .int8 = 227.7e12,
                                      .memory = 11'019 * mebibyte,
                                      .reserved = 3 * gibibyte / 4,
                                      .bandwidth = 616e9,
                                      .inside = {16e9, 5e-6},
                                      .between = {1.56e9, 10e-6}};

inline constexpr const Hardware* all_hardware[]{&a100_40gb, &a100_80gb, &h100, &h200, &v100_32gb, &rtx_3090, &rtx_2080_ti};

/// The machine of that name. Throws Error with all names where there is none.
inline const Hardware& hardware_named(std::string_view name) {
  std::string names;
  for (const Hardware* h : all_hardware) {
    if (name == h->name) return *h;
    names += sentence(names.empty() ? "" : ", ", h->name);
  }
  fail("there is no description of a machine \"", name, "\": name one of ", names);
}

}  // namespace golem
