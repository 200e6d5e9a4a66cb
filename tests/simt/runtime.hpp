// A CUDA runtime on the host: what tests set and ask of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <cublasLt.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace simt {

/// The machine that the runtime pretends to be, and the failures that it pretends to have. Tests change it and put it back.
struct Machine {
  cudaError_t count_status = cudaSuccess;  // of cudaGetDeviceCount
  int devices = 2, driver = 13000, runtime = CUDART_VERSION, major = 8, minor = 0, multiprocessors = 4, cache_bytes = 64 << 10;
  bool built_for_sm_90a = true;  // the program, as kernels' attributes tell
  int written_for = 0;           // and what its kernels were compiled for, 75 for 7.5; 0: this GPU
  std::size_t memory_bytes = std::size_t{1} << 30;
  std::string fail_call;  // the next call of this name fails with `fail_status`
  bool keeps_failing = false;  // and all that follow
  cudaError_t fail_status = cudaErrorUnknown;
  std::chrono::milliseconds nccl_leave{0};  // that NCCL takes to destroy a communicator
  std::string lost_peer;  // NCCL's communicators have failed with this as the reason
  std::size_t lt_version = CUBLAS_VERSION;
  int nccl_version = 0;  // of the library; 0: the header's
  bool lt_epilogues = true;  // whether cuBLASLt has algorithms with an epilogue
  std::vector<double> lt_milliseconds;  // that a product takes by each of the algorithms that cuBLASLt proposes; none: it proposes one, and any two events are a millisecond apart
  std::vector<int> lt_tiles;  // of these algorithms; none: 0
  std::vector<std::size_t> lt_workspaces;  // bytes that they need; none: little, and as much
  std::set<std::pair<int, int>> opened_pools;  // of which device, to which
  std::map<const void*, std::size_t> shared_limits;  // of kernels whose blocks may have more shared memory than all may
  std::uint64_t stream_seed = 1;  // the order in which streams take turns
};
Machine& machine();

/// What cudaGetLastError says next.
extern thread_local cudaError_t last_error;

/// Whether the test wants this call to fail; the next one will not.
bool fails(const char* call);

/// Puts the machine back as it was made, when the test ends.
struct MachineRestored {
  ~MachineRestored() { machine() = {}; }
};

struct Counts {
  std::atomic<double> milliseconds = 0;  // of the GPU's work: a product's own, and a thousandth for anything else
  std::atomic<std::size_t> early = 0;           // kernels that may be started before others have ended
  std::atomic<std::size_t> last_algorithm = 0;  // of cuBLASLt's proposals, the one that the last product ran by
  std::atomic<std::size_t> kernels = 0, heuristics = 0, products = 0, allocations = 0, captures = 0, graph_runs = 0, streams = 0, events = 0, aborts = 0, aborts_alone = 0, meetings = 0;  // the last three of NCCL's communicators: ended early; those in no group; ranks that met
};
Counts& counts();

/// Work of the device: it ends when what it returns is true, or at once where that is null.
using Work = std::function<std::shared_ptr<bool>()>;
/// Puts work at the end of a stream, or into the graph that is captured from it.
cudaError_t enqueue(Work work, cudaStream_t stream);
cudaError_t enqueue(std::function<void()> work, cudaStream_t stream);
bool is_captured(cudaStream_t stream);

/// Runs `work` while no other thread runs anything of this machine, and lets streams that waited look again.
void locked(const std::function<void()>& work);
/// Runs the streams until `done()`, but no longer than `patience` while other threads go on; whether it is done.
bool ends_within(std::chrono::milliseconds patience, const std::function<bool()>& done);
/// So many more threads (or fewer) put work on streams that others wait for: a circle is called one only after a while.
void expect_other_threads(int more);

bool is_allocated(const void* memory);

/// Bytes that are allocated on the device and not released.
std::size_t bytes_in_use();

}  // namespace simt
