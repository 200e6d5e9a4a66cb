// cuda::Device: one GPU with a stream, pooled memory with an account, staging memory of the host, and workspace for ops.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/math.hpp"
#include "golem/core/memory.hpp"
#include "golem/cuda/recording.hpp"
#include "golem/cuda/runtime.hpp"
#include "golem/cuda/way_out.hpp"
#include "golem/version.hpp"

namespace golem::cuda {
inline namespace GOLEM_ABI {

class Products;  // cuda/products.hpp: planned matrix products

/// The instructions that attention runs by on a GPU that has both: those of sm_80, those of sm_90a, or these where the program was built
/// for sm_90a, and else the first.
enum class AttentionPath { mma, wgmma, best };

/// Which of cuBLASLt's algorithms multiplies: the first that it proposes; or the fastest of those that it proposes, each of which runs a few times when a product of
/// such a shape is first asked for. That takes as long as 32 such products and, where a result is added to, as much memory again; and two runs of a
/// program may then differ by roundings.
enum class ProductChoice { proposed, fastest };

/// A kernel as it was started, for errors.
struct StartedKernel {
  std::string_view name;
  std::int64_t blocks = 0, blocks_y = 0, blocks_z = 0;
  int threads = 0;
  std::size_t shared_bytes = 0;
};
inline std::string describe(const StartedKernel& k) {
  return sentence("kernel ", k.name, " on ", k.blocks, " x ", k.blocks_y, " x ", k.blocks_z, " blocks of ", k.threads, " threads with ", k.shared_bytes, " bytes of shared memory");
}

/// The CUDA engine. Ops take it first and start on its stream, in order; `synchronize` and `copy_out` wait for them. Not to
/// be used by two threads at once, nor by one that has another GPU in use (cudaSetDevice) than its own.
class Device {
 public:
  struct Options {
    int index = 0;                                  // which GPU of those that the process sees
    std::size_t staging_bytes = std::size_t{8} << 20;  // page-locked memory of the host that copies pass through
    bool graphs = true;                             // whether `replay` makes graphs; without, each kernel is started by itself
    bool early = true;                              // whether kernels are started while those before them end, where the GPU, the driver and their code can
    AttentionPath attention = AttentionPath::best;
    ProductChoice products = ProductChoice::proposed;
  };
  using Recording = cuda::Recording;

  /// Buffers are not for the host: copy_in and copy_out.
  static constexpr bool host_memory = false;

  Device() : Device(Options{}) {}
  explicit Device(Options options) : Device(options, Closed{}) {  // whatever fails from here on, the destructor runs
    require(staging_bytes_ > 0, "cuda::Device was given no staging memory for copies: leave Options::staging_bytes at its 8 MiB, or choose another size");
    const int count = runtime::device_count();
    require(index_ >= 0 && index_ < count, "cuda::Device was asked for GPU ", index_, ", and this process sees ", count, ": choose one of those, see CUDA_VISIBLE_DEVICES, or use cpu::Device");
    runtime::set_device(index_);
    name_ = runtime::device_name(index_);
    major_ = runtime::device_attribute(cudaDevAttrComputeCapabilityMajor, index_);
    minor_ = runtime::device_attribute(cudaDevAttrComputeCapabilityMinor, index_);
    require(major_ > 7 || (major_ == 7 && minor_ >= 5), "cuda::Device was asked for GPU ", index_, ", ", std::string_view(name_), ", whose compute capability ", major_, ".", minor_,
            " is below 7.5: use a newer GPU, or cpu::Device");
    multiprocessors_ = runtime::device_attribute(cudaDevAttrMultiProcessorCount, index_);
    shared_bytes_ = static_cast<std::size_t>(runtime::device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index_));
    constexpr int graphs_can = 12030;  // the CUDA whose graphs take early starts
    early_ = early_ && major_ >= 9 && runtime::driver_number() >= graphs_can;
    cache_bytes_ = static_cast<std::size_t>(runtime::device_attribute(cudaDevAttrL2CacheSize, index_));
    runtime::keep_released_memory(index_);
    stream_ = runtime::create_stream();
    staged_ = runtime::create_event();
    staging_ = static_cast<std::byte*>(runtime::allocate_pinned(staging_bytes_));
  }
  ~Device() {  // failures have no one to go to here; what went wrong before was reported where it was noticed
    if (!stream_) return;
    workspace_.reset();
    finish_on_way_out(stream_, by_error_);
    if (staging_) static_cast<void>(cudaFreeHost(staging_));
    if (staged_) static_cast<void>(cudaEventDestroy(staged_));
    static_cast<void>(cudaStreamDestroy(stream_));
    static_cast<void>(runtime::try_trim_pool(index_));
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  const std::string& name() const { return name_; }
  int compute_capability() const { return 10 * major_ + minor_; }  // 80, 90, ...
  int multiprocessors() const { return multiprocessors_; }
  std::size_t shared_bytes() const { return shared_bytes_; }  // the most that one block may use
  std::size_t cache_bytes() const { return cache_bytes_; }    // that all multiprocessors share (L2)
  AttentionPath attention() const { return attention_; }
  ProductChoice product_choice() const { return product_choice_; }
  bool starts_early() const { return early_; }
  cudaStream_t stream() const { return stream_; }
  MemoryAccount& memory() { return memory_; }

  /// 256-byte aligned, in the order of the stream; null where there is none left.
  void* try_allocate(std::size_t bytes, std::string_view label) {
    refuse_in_capture("allocate memory");
    void* memory = runtime::allocate(bytes, stream_);
    if (!memory) {
      synchronize();  // what was released is the pool's once the stream has come that far
      runtime::trim_pool(index_);
      memory = runtime::allocate(bytes, stream_);
    }
    if (memory) memory_.add(label, static_cast<std::int64_t>(bytes));
    return memory;
  }
  /// The same; throws Error that says who holds how much where there is none left.
  void* allocate(std::size_t bytes, std::string_view label) {
    void* memory = try_allocate(bytes, label);
    if (!memory) {
      const runtime::MemoryInfo info = runtime::memory_info();
      fail("out of memory on GPU ", index_, ", ", std::string_view(name_), ": ", bytes >> 20, " MiB were asked for '", label, "' with ", info.free >> 20, " of ", info.total >> 20,
           " MiB free, while golem holds ", memory_.summary(), "; use a smaller micro-batch, recomputation, more ranks or fewer bits");
    }
    return memory;
  }
  void release(void* memory, std::size_t bytes, std::string_view label) {
    static_cast<void>(cudaFreeAsync(memory, stream_));  // called by destructors: a broken device is reported by the next op
    memory_.add(label, -static_cast<std::int64_t>(bytes));
  }

  /// The host may change `from` at once: it was copied to page-locked memory.
  void copy_in(void* to, const void* from, std::size_t bytes) {
    refuse_in_capture("copy from the host");
    for (std::size_t done = 0; done < bytes;) {
      const std::size_t piece = smaller(bytes - done, staging_bytes_);
      std::byte* staged = take_staging(piece);
      std::memcpy(staged, static_cast<const std::byte*>(from) + done, piece);
      runtime::copy(static_cast<std::byte*>(to) + done, staged, piece, cudaMemcpyHostToDevice, stream_);
      runtime::record(staged_, stream_);
      done += piece;
    }
  }
  /// Waits for all ops before it.
  void copy_out(void* to, const void* from, std::size_t bytes) {
    refuse_in_capture("copy to the host");
    for (std::size_t done = 0; done < bytes;) {
      const std::size_t piece = smaller(bytes - done, staging_bytes_);
      std::byte* staged = take_staging(piece);
      runtime::copy(staged, static_cast<const std::byte*>(from) + done, piece, cudaMemcpyDeviceToHost, stream_);
      synchronize();
      std::memcpy(static_cast<std::byte*>(to) + done, staged, piece);
      done += piece;
    }
  }
  void copy(void* to, const void* from, std::size_t bytes) { runtime::copy(to, from, bytes, cudaMemcpyDeviceToDevice, stream_); }
  /// `count` pieces of `bytes`, which begin every `pitch` bytes there and here.
  void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t pitch, std::size_t count) { runtime::copy_pieces(to, from, bytes, pitch, count, stream_); }
  void clear(void* memory, std::size_t bytes) { runtime::fill(memory, 0, bytes, stream_); }
  void synchronize() {
    refuse_in_capture("wait for the GPU");
    const cudaError_t status = runtime::finish(stream_);
    if (status != cudaSuccess) [[unlikely]] runtime::check(status, "finish what was started on GPU ", index_, ", ", std::string_view(last_kernel()));
  }

  /// What the program holds of `kernel` for this GPU; asked of the runtime once, unless that fails.
  runtime::KernelCode code_of(const void* kernel) {
    for (const auto& [known, code] : codes_)
      if (known == kernel) return code;
    const runtime::KernelCode code = runtime::kernel_code(kernel);
    if (code.status == cudaSuccess) codes_.emplace_back(kernel, code);
    return code;
  }

  /// Kernels run later than they are started: what failed is this one, or one before it.
  void note(const StartedKernel& kernel) { last_ = kernel; }
  std::string last_kernel() const {
    if (last_.name.empty()) return "with no kernel in it";
    return sentence("of which ", describe(last_), " was the last (CUDA_LAUNCH_BLOCKING=1 names the one that failed)");
  }

  /// Runs `work`: the first time as it is, so that workspace grows and products are planned; then it is captured as a graph, and from there on only the
  /// graph is run, by `launch(start)` where that is given, which calls start(). The device must outlive the recording.
  void replay(Recording& recording, std::int64_t key, function_ref<void()> work, function_ref<void(function_ref<void()>)> launch = {}) {
    if (!graphs_) return work();
    Recording::Graph& graph = recording.at(key, stream_);
    const std::int64_t workspace_bytes = workspace_ ? static_cast<std::int64_t>(workspace_->bytes) : 0;
    if (!graph.ready && (graph.workspace_bytes < 0 || workspace_bytes < graph.workspace_bytes)) {  // less: there was no memory for more
      work();
      graph.workspace_bytes = workspace_ ? static_cast<std::int64_t>(workspace_->bytes) : 0;
      return;
    }
    if (!graph.ready) {
      runtime::begin_capture(stream_);
      capturing_ = true;
      try {
        work();
      } catch (...) {
        capturing_ = false;
        runtime::abandon_capture(stream_);
        throw;
      }
      capturing_ = false;
      graph.ready = runtime::end_capture(stream_);
      graph.workspace = workspace_;
    }
    const auto start = [&] {
      runtime::run(graph.ready, stream_);
      ++graphs_run_;
    };
    launch ? launch(start) : start();
  }
  std::int64_t graphs_run() const { return graphs_run_; }

  /// Memory for an op between its kernels: what the next call returns may be the same. Grows, never shrinks.
  template <class T>
  T* workspace(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > (workspace_ ? workspace_->bytes : 0)) {
      refuse_in_capture("allocate memory");
      workspace_.reset();  // to make room, unless a graph computes in it
      workspace_ = std::make_shared<Workspace>(*this, bytes);
    }
    return workspace_ ? static_cast<T*>(workspace_->memory) : nullptr;
  }

  /// The planned matrix products of this device, made by the first of them.
  std::shared_ptr<Products>& products() { return products_; }

 private:
  struct Closed {};
  struct Workspace {
    Device& device;
    std::size_t bytes;
    void* memory;

    Workspace(Device& device, std::size_t bytes) : device(device), bytes(bytes), memory(device.allocate(bytes, "workspace")) {}
    ~Workspace() { device.release(memory, bytes, "workspace"); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
  };
  Device(const Options& options, Closed) : index_(options.index), graphs_(options.graphs), early_(options.early), staging_bytes_(options.staging_bytes), attention_(options.attention), product_choice_(options.products) {}

  void refuse_in_capture(const char* what) const {
    require(!capturing_, "work that is captured as a graph tried to ", what, " on GPU ", index_, ", which would happen once and never again: do that before Device::replay");
  }

  /// Page-locked memory that no copy is using any more.
  std::byte* take_staging(std::size_t bytes) {
    if (staging_used_ + bytes > staging_bytes_) {
      runtime::synchronize(staged_);
      staging_used_ = 0;
    }
    std::byte* piece = staging_ + staging_used_;
    staging_used_ += static_cast<std::size_t>(round_up(static_cast<std::int64_t>(bytes), 64));
    return piece;
  }

  int index_, major_ = 0, minor_ = 0, multiprocessors_ = 0;
  bool graphs_, early_, capturing_ = false;
  std::int64_t graphs_run_ = 0;
  std::size_t shared_bytes_ = 0, cache_bytes_ = 0, staging_bytes_, staging_used_ = 0;
  AttentionPath attention_;
  ProductChoice product_choice_;
  std::string name_;
  StartedKernel last_;
  std::vector<std::pair<const void*, runtime::KernelCode>> codes_;  // of the kernels that were asked about
  MemoryAccount memory_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t staged_ = nullptr;  // the last copy out of staging memory
  std::byte* staging_ = nullptr;
  ByError by_error_;
  std::shared_ptr<Workspace> workspace_;
  std::shared_ptr<Products> products_;  // shared, so that the class may be incomplete here
};

}  // namespace GOLEM_ABI
}  // namespace golem::cuda
