// GEMM through oneDNN: fixed tiles of the output, each multiplied by one thread. The only file that includes dnnl.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/version.hpp"

#if GOLEM_ONEDNN

#include <dnnl.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/gemm_pack.hpp"
#include "golem/cpu/gemm_tiles.hpp"

#if DNNL_VERSION_MAJOR != 2 && DNNL_VERSION_MAJOR != 3
#error "golem: cpu/gemm_onednn.hpp knows oneDNN 2 and 3; add the descriptors of this version there, or build with GOLEM_ONEDNN=0"
#endif
#if DNNL_CPU_RUNTIME != DNNL_RUNTIME_SEQ && !(DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP && defined(_OPENMP))
#error "golem: oneDNN must use golem's threads: take an OpenMP build of oneDNN and compile with OpenMP, or build with GOLEM_ONEDNN=0"
#endif

namespace golem::cpu {

/// While it lives, oneDNN keeps to the calling thread: inside a parallel region it does so by itself, outside it would
/// spread over all cores, and its sums would depend on how many there are.
class OneThread {
 public:
#if defined(_OPENMP)
  OneThread() : before_(omp_in_parallel() ? 0 : omp_get_max_threads()) {
    if (before_) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_) omp_set_num_threads(before_);
  }
#else
  OneThread() = default;
#endif
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

#if defined(_OPENMP)
 private:
  int before_;
#endif
};

/// While it lives, no signal handler runs on this thread: oneDNN's AVX-512 sgemm points the stack register at a buffer on the
/// heap (seen in 2.6), and the kernel would write the handler's frame, 3 KB, over what lies below. A signal waits, or another
/// thread takes it.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};

/// What a bfloat16 primitive is made for: (m, n, k, strides of a and b, stride of c, float output, accumulate, bias).
using MatmulKey = std::array<std::int64_t, 11>;

/// One matmul primitive with its memory objects, made once for a shape. 2.6 was compiled and run; 3.x has not been compiled yet.
class Matmul {
 public:
  Matmul() = default;
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;
  ~Matmul() {
    for (const dnnl_exec_arg_t& argument : arguments_)
      if (argument.memory) dnnl_memory_destroy(argument.memory);
    if (primitive_) dnnl_primitive_destroy(primitive_);
  }

  std::size_t scratch_bytes() const { return scratch_bytes_; }

  dnnl_status_t make(dnnl_engine_t engine, const MatmulKey& key) {
    const auto [m, n, k, a_line, a_depth, b_line, b_depth, c_line, wide, accumulate, bias] = key;
    const dnnl_data_type_t out = wide ? dnnl_f32 : dnnl_bf16;
    dnnl_primitive_attr_t attributes = nullptr;
    dnnl_post_ops_t after = nullptr;
    dnnl_primitive_desc_t chosen = nullptr;
    status_ = dnnl_success;
    const Description a = describe(m, k, a_line, a_depth, dnnl_bf16), b = describe(k, n, b_depth, b_line, dnnl_bf16),
                      c = describe(m, n, c_line, 1, out);
    const Description row = describe(1, n, n, 1, dnnl_bf16);
    check(dnnl_primitive_attr_create(&attributes));
    if (ok()) check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
    if (ok() && accumulate) {
      check(dnnl_post_ops_create(&after));
#if DNNL_VERSION_MAJOR == 2
      if (ok()) check(dnnl_post_ops_append_sum(after, 1.0f));
#else
      if (ok()) check(dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef));
#endif
      if (ok()) check(dnnl_primitive_attr_set_post_ops(attributes, after));
    }
#if DNNL_VERSION_MAJOR == 2
    dnnl_matmul_desc_t matmul;
    if (ok()) check(dnnl_matmul_desc_init(&matmul, &a, &b, bias ? &row : nullptr, &c));
    if (ok()) check(dnnl_primitive_desc_create(&chosen, &matmul, attributes, engine, nullptr));
    const dnnl_memory_desc_t* const scratch = ok() ? dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0) : nullptr;
#else
    if (ok()) check(dnnl_matmul_primitive_desc_create(&chosen, engine, a, b, bias ? row : nullptr, c, attributes));
    const const_dnnl_memory_desc_t scratch = ok() ? dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0) : nullptr;
#endif
    if (ok()) check(dnnl_primitive_create(&primitive_, chosen));
    arguments_ = {
        {{DNNL_ARG_SRC, nullptr}, {DNNL_ARG_WEIGHTS, nullptr}, {DNNL_ARG_DST, nullptr}, {DNNL_ARG_SCRATCHPAD, nullptr}, {DNNL_ARG_BIAS, nullptr}}};
    count_ = bias ? 5 : 4;
    hold(arguments_[0], handle(a), engine);
    hold(arguments_[1], handle(b), engine);
    hold(arguments_[2], handle(c), engine);
    hold(arguments_[3], scratch, engine);
    if (bias) hold(arguments_[4], handle(row), engine);
    if (ok()) scratch_bytes_ = dnnl_memory_desc_get_size(scratch);
#if DNNL_VERSION_MAJOR == 3
    for (const Description& each : {a, b, c, row})
      if (each) dnnl_memory_desc_destroy(each);
#endif
    if (chosen) dnnl_primitive_desc_destroy(chosen);
    if (after) dnnl_post_ops_destroy(after);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return status_;
  }

  dnnl_status_t run(dnnl_stream_t stream, const void* a, const void* b, void* c, const void* bias, void* scratch) {
    const std::array<const void*, 5> data{a, b, c, scratch, bias};
    for (int i = 0; i < count_ && ok(); ++i)
      check(dnnl_memory_set_data_handle(arguments_[static_cast<unsigned>(i)].memory, const_cast<void*>(data[static_cast<unsigned>(i)])));
    if (ok()) check(dnnl_primitive_execute(primitive_, stream, count_, arguments_.data()));
    return status_;
  }

 private:
#if DNNL_VERSION_MAJOR == 2
  using Description = dnnl_memory_desc_t;
  static const dnnl_memory_desc_t* handle(const Description& d) { return &d; }
  static dnnl_status_t with_strides(Description& d, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(&d, 2, dims, type, strides);
  }
#else
  using Description = dnnl_memory_desc_t;  // a pointer from version 3 on
  static const_dnnl_memory_desc_t handle(const Description& d) { return d; }
  static dnnl_status_t with_strides(Description& d, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(&d, 2, dims, type, strides);
  }
#endif
  Description describe(std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t column_stride, dnnl_data_type_t type) {
    const dnnl_dims_t dims{rows, columns}, strides{row_stride, column_stride};
    Description description{};
    check(with_strides(description, dims, type, strides));
    return description;
  }
  template <class Handle>
  void hold(dnnl_exec_arg_t& argument, Handle description, dnnl_engine_t engine) {
    if (ok()) check(dnnl_memory_create(&argument.memory, description, engine, DNNL_MEMORY_NONE));
  }
  bool ok() const { return status_ == dnnl_success; }
  void check(dnnl_status_t status) {
    if (ok()) status_ = status;
  }

  dnnl_status_t status_ = dnnl_success;
  dnnl_primitive_t primitive_ = nullptr;
  std::array<dnnl_exec_arg_t, 5> arguments_{};
  int count_ = 0;
  std::size_t scratch_bytes_ = 0;
};

/// The engine of a thread and the primitives that it has made; each thread keeps its own, so that none waits for another.
class MatmulCache {
 public:
  static MatmulCache& of_this_thread() {
    thread_local MatmulCache cache;
    return cache;
  }
  MatmulCache(const MatmulCache&) = delete;
  MatmulCache& operator=(const MatmulCache&) = delete;
  ~MatmulCache() {
    made_.clear();
    if (stream_) dnnl_stream_destroy(stream_);
    if (engine_) dnnl_engine_destroy(engine_);
  }

  dnnl_status_t run(Device& device, const MatmulKey& key, const void* a, const void* b, void* c, const void* bias) {
    if (status_ != dnnl_success) return status_;
    if (made_.size() >= 256) made_.clear();  // shapes of prompts that do not come back
    const auto [entry, fresh] = made_.try_emplace(key);
    const dnnl_status_t status = fresh ? entry->second.make(engine_, key) : dnnl_success;
    if (status == dnnl_success)
      return entry->second.run(stream_, a, b, c, bias, device.scratch<std::byte>(static_cast<std::int64_t>(entry->second.scratch_bytes()) + 64));
    made_.erase(entry);
    return status;
  }

 private:
  MatmulCache() {
    status_ = dnnl_engine_create(&engine_, dnnl_cpu, 0);
    if (status_ == dnnl_success) status_ = dnnl_stream_create(&stream_, engine_, dnnl_stream_default_flags);
  }

  dnnl_status_t status_;
  dnnl_engine_t engine_ = nullptr;
  dnnl_stream_t stream_ = nullptr;
  std::map<MatmulKey, Matmul> made_;
};

/// c = a b + bias, or c += a b, by one thread; a and b have p.depth elements a line.
inline dnnl_status_t multiply_floats(Device& device, const Product<float, float>& p) {
  // sgemm adds to the bias while it is in the cache.
  if (p.bias)
    for (std::int64_t r = 0; r < p.rows; ++r) std::memcpy(p.c + r * p.c_stride, p.bias, static_cast<std::size_t>(p.columns) * sizeof(float));
  const bool moves = strides_over_pages(p.a);
  const std::int64_t step = moves ? 2048 : p.depth;  // so that little more than 4 MiB are moved at once
  dnnl_status_t status = dnnl_success;
  std::int64_t k = 0;
  do {
    const std::int64_t depth = smaller(step, p.depth - k);
    Operand<float> a{p.a.at(0, k), p.a.line_stride, p.a.depth_stride}, b{p.b.at(0, k), p.b.line_stride, p.b.depth_stride};
    if (moves) a = moved_together(device.scratch<float>(depth * moved_stride<float>(p.rows)), a, p.rows, depth);
    const bool a_rows = a.depth_stride == 1, b_rows = b.line_stride == 1, adds = p.bias || p.accumulate || k > 0;
    status = dnnl_sgemm(a_rows ? 'N' : 'T', b_rows ? 'N' : 'T', p.rows, p.columns, depth, 1.0f, a.data, a_rows ? a.line_stride : a.depth_stride, b.data,
                        b_rows ? b.depth_stride : b.line_stride, adds ? 1.0f : 0.0f, p.c, p.c_stride);
    k += step;
  } while (k < p.depth && status == dnnl_success);
  return status;
}

/// Whether bfloat16 is multiplied faster than float here: by AMX, or AMD's vdpbf16ps. Intel's vdpbf16ps without AMX has half the rate
/// of FMA: oneDNN's bfloat16 GEMM reached 85 GFLOP/s a thread there, golem's kernels on widened strips 150.
inline bool multiplies_bfloat16_fast() {
#if defined(__x86_64__)
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx ||
         (detect_isa() == Isa::avx512_bf16 && __builtin_cpu_is("amd"));
#else
  return true;
#endif
}

/// The product by oneDNN, float or bfloat16. Throws Error with oneDNN's status and the shape where it refuses.
template <class T, class Y>
requires std::is_same_v<T, float> || std::is_same_v<T, bfloat16>
void multiply_onednn(Device& device, const Product<T, Y>& p) {
  const OutputTiles tiles(p.rows, p.columns);
  std::atomic<int> failure{dnnl_success};

  device.parallel(tiles.count(), [&](std::int64_t i) {
    [[maybe_unused]] const OneThread one_thread;
    const NoSignals no_signals;
    const std::int64_t row = i / tiles.across * tiles.rows, column = i % tiles.across * tiles.columns;
    Product<T, Y> tile = p;
    tile.rows = smaller(tiles.rows, p.rows - row), tile.columns = smaller(tiles.columns, p.columns - column);
    tile.a.data = p.a.at(row, 0), tile.b.data = p.b.at(column, 0), tile.bias = p.bias ? p.bias + column : nullptr;
    tile.c = p.c + row * p.c_stride + column;
    dnnl_status_t status;
    if constexpr (std::is_same_v<T, float>) {
      status = multiply_floats(device, tile);
    } else {
      const MatmulKey key{tile.rows,
                          tile.columns,
                          p.depth,
                          p.a.line_stride,
                          p.a.depth_stride,
                          p.b.line_stride,
                          p.b.depth_stride,
                          p.c_stride,
                          std::is_same_v<Y, float>,
                          p.accumulate,
                          p.bias != nullptr};
      status = MatmulCache::of_this_thread().run(device, key, tile.a.data, tile.b.data, tile.c, tile.bias);
    }
    if (status != dnnl_success) failure = status;
  });
  require(failure == dnnl_success, "oneDNN ", DNNL_VERSION_MAJOR, ".", DNNL_VERSION_MINOR, " refused a ", name_of(dtype_of<T>()), " product of ",
          p.rows, " x ", p.depth, " by ", p.depth, " x ", p.columns, " with status ", static_cast<int>(failure),
          "; build with GOLEM_ONEDNN=0 to use golem's own kernels");
}

}  // namespace golem::cpu

#endif  // GOLEM_ONEDNN
