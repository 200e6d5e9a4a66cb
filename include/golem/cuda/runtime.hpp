// The CUDA runtime as golem calls it: every call of cudart, checked, with an error that says what was attempted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <thread>

#include "golem/core/error.hpp"

namespace golem::cuda::runtime {

/// "out of memory (cudaErrorMemoryAllocation)".
inline std::string words_of(cudaError_t status) { return sentence(std::string_view(cudaGetErrorString(status)), " (", std::string_view(cudaGetErrorName(status)), ")"); }

/// Throws Error unless `status` is success. `parts`: what was attempted, after "CUDA could not".
template <class... Parts>
void check(cudaError_t status, const Parts&... parts) {
  if (status == cudaSuccess) [[likely]] return;
  fail("CUDA could not ", parts..., ": ", words_of(status));
}

/// Whether CUDA reports a kernel that ran before, and not the call that it answers: nothing works on the device from then on.
constexpr bool broke_before(cudaError_t status) {
  for (const int one : {214, 220, 226, 700, 702, 710, 721, 911})  // memory, NVLink, contained, address, time, assert, tensor memory, another device: not all of them have names in CUDA 12.0
    if (static_cast<int>(status) == one) return true;
  return status >= cudaErrorHardwareStackError && status <= cudaErrorLaunchFailure;
}

/// "13.0" for 13000; "" for 0.
inline std::string version_text(int version) { return version == 0 ? "" : sentence(version / 1000, '.', version % 1000 / 10); }
inline std::string header_version() { return version_text(CUDART_VERSION); }
inline std::string library_version() {
  int version = 0;
  check(cudaRuntimeGetVersion(&version), "read the runtime's version");
  return version_text(version);
}
/// The newest CUDA that the driver knows, 13000 for 13.0; 0 without a driver.
inline int driver_number() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "read the driver's version");
  return version;
}
inline std::string driver_version() { return version_text(driver_number()); }

/// GPUs that this process sees. Throws Error where there is no driver, or one that is too old.
inline int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice) return 0;
  if (status == cudaErrorInsufficientDriver) {
    const std::string driver = driver_version();
    fail("CUDA found ", driver.empty() ? "no driver" : "a driver for CUDA ", driver, ", and this program was built with CUDA ", header_version(), ": install ", driver.empty() ? "the GPU's" : "a newer",
         " driver, or use cpu::Device");
  }
  check(status, "count devices");
  return count;
}

inline int current_device() {
  int index = 0;
  check(cudaGetDevice(&index), "tell which device is in use");
  return index;
}
inline void set_device(int index) { check(cudaSetDevice(index), "use device ", index); }

inline int device_attribute(cudaDeviceAttr attribute, int index) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attribute, index), "read attribute ", static_cast<int>(attribute), " of device ", index);
  return value;
}

inline std::string device_name(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "read the properties of device ", index);
  return properties.name;
}

struct MemoryInfo {
  std::size_t free = 0, total = 0;  // bytes
};
inline MemoryInfo memory_info() {
  MemoryInfo info;
  check(cudaMemGetInfo(&info.free, &info.total), "ask how much memory is free");
  return info;
}

/// What the device's pool keeps of released memory instead of returning it to the driver.
inline void keep_released_memory(int index) {
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, index), "find the memory pool of device ", index);
  std::size_t threshold = ~std::size_t{0};
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold), "set the memory pool of device ", index);
}

/// Returns the memory that the pool keeps and nobody uses to the driver.
inline cudaError_t try_trim_pool(int index) {
  cudaMemPool_t pool = nullptr;
  const cudaError_t status = cudaDeviceGetDefaultMemPool(&pool, index);
  return status == cudaSuccess ? cudaMemPoolTrimTo(pool, 0) : status;
}
inline void trim_pool(int index) { check(try_trim_pool(index), "trim the memory pool of device ", index); }

/// Lets device `peer` reach into the memory pool of device `index`, where the two are connected: peer access alone does not open pools.
inline void open_pool(int index, int peer) {
  int connected = 0;
  check(cudaDeviceCanAccessPeer(&connected, peer, index), "ask whether device ", peer, " can reach device ", index);
  if (!connected) return;
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, index), "find the memory pool of device ", index);
  cudaMemAccessDesc access{};
  access.location = {.type = cudaMemLocationTypeDevice, .id = peer};
  access.flags = cudaMemAccessFlagsProtReadWrite;
  check(cudaMemPoolSetAccess(pool, &access, 1), "let device ", peer, " reach into the memory pool of device ", index);
}

/// Null where memory ran out: the caller knows who holds what.
inline void* allocate(std::size_t bytes, cudaStream_t stream) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocAsync(&memory, bytes, stream);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // handled here: it must not surface at the next launch
    return nullptr;
  }
  check(status, "allocate ", bytes, " bytes");
  return memory;
}
inline void release(void* memory, cudaStream_t stream) { check(cudaFreeAsync(memory, stream), "release memory"); }

/// Whether the device's kernels, and not the host, own it.
inline bool is_device_memory(const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "tell whose memory a pointer is of");
  return attributes.type == cudaMemoryTypeDevice;
}

/// What the program holds of a kernel for the device in use.
struct KernelCode {
  int written_for = 0;  // the architecture that its text was compiled for, 80 for compute_80, whatever the driver has made of it; 0: there is nothing that the device can run
  int machine = 0;      // the architecture of its machine code: 80 for sm_80
  int registers = 0;    // of a thread
  cudaError_t status = cudaSuccess;  // why none of this is known, where it is not
};
inline KernelCode kernel_code(const void* kernel) {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  if (status != cudaSuccess) return {.status = status};
  return {.written_for = attributes.ptxVersion, .machine = attributes.binaryVersion, .registers = attributes.numRegs};
}

/// Page-locked memory of the host, which copies can run beside the host with.
inline void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "lock ", bytes, " bytes of the host's memory");
  return memory;
}
inline void release_pinned(void* memory) { check(cudaFreeHost(memory), "release locked memory"); }

inline void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copy ", bytes, " bytes");
}
inline void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t pitch, std::size_t count, cudaStream_t stream) {
  check(cudaMemcpy2DAsync(to, pitch, from, pitch, bytes, count, cudaMemcpyDeviceToDevice, stream), "copy ", count, " pieces of ", bytes, " bytes, ", pitch, " apart");
}
inline void fill(void* memory, int byte, std::size_t bytes, cudaStream_t stream) { check(cudaMemsetAsync(memory, byte, bytes, stream), "fill ", bytes, " bytes"); }

inline cudaStream_t create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream");
  return stream;
}
inline void destroy(cudaStream_t stream) { check(cudaStreamDestroy(stream), "destroy a stream"); }
/// Waits for the stream; the caller, who knows what was started, says what went wrong.
[[nodiscard]] inline cudaError_t finish(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
inline void synchronize(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "finish what was started before"); }
inline void wait(cudaStream_t stream, cudaEvent_t event) { check(cudaStreamWaitEvent(stream, event, 0), "let a stream wait for an event"); }

/// Whether what was put on a stream ends, well or not, within `patience`.
inline bool ends_within(std::chrono::milliseconds patience, cudaStream_t stream) {
  const auto last = std::chrono::steady_clock::now() + patience;
  while (cudaStreamQuery(stream) == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    if (std::chrono::steady_clock::now() > last) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

enum class Timing { off, on };
inline cudaEvent_t create_event(Timing timing = Timing::off) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, timing == Timing::on ? cudaEventDefault : cudaEventDisableTiming), "create an event");
  return event;
}
inline void destroy(cudaEvent_t event) { check(cudaEventDestroy(event), "destroy an event"); }
inline void record(cudaEvent_t event, cudaStream_t stream) { check(cudaEventRecord(event, stream), "record an event"); }
inline void synchronize(cudaEvent_t event) { check(cudaEventSynchronize(event), "finish what was started before an event"); }
/// How far an event is. That it has not happened is no error, and not to be found as one by whoever asks for the last error next.
inline cudaError_t query(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) static_cast<void>(cudaGetLastError());
  return status;
}
inline bool happened(cudaEvent_t event) {
  const cudaError_t status = query(event);
  if (status == cudaErrorNotReady) return false;
  check(status, "ask whether an event has happened");
  return true;
}
/// The same without an Error: an event of a device that has failed is past.
inline bool is_past(cudaEvent_t event) { return query(event) != cudaErrorNotReady; }
inline float milliseconds_between(cudaEvent_t start, cudaEvent_t end) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, start, end), "measure the time between two events");
  return milliseconds;
}

/// A function of the driver, as CUDA `version` (12000 is 12.0) declares it: golem does not link the driver's library.
inline void* driver_function(const char* name, unsigned version) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found), "find the driver's ", std::string_view(name));
#else
  check(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found), "find the driver's ", std::string_view(name));  // as this toolkit declares it
#endif
  require(found == cudaDriverEntryPointSuccess && function, "the driver has no ", std::string_view(name), " of CUDA ", version / 1000, ".", version % 1000 / 10, ": install a newer driver");
  return function;
}

/// Whether what is put on the stream becomes part of a graph instead of running.
inline bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "tell whether a stream is captured");
  return status != cudaStreamCaptureStatusNone;
}
/// What runs on `stream` from here on is written down instead of run.
inline void begin_capture(cudaStream_t stream) { check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin to capture a graph"); }

/// What was written down since `begin_capture`, ready to be run as a whole.
inline cudaGraphExec_t end_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "capture a graph");
  cudaGraphExec_t ready = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
  check(cudaGraphDestroy(graph), "destroy a captured graph");
  check(status, "make a captured graph ready to run");
  return ready;
}
/// Ends a capture whose work failed; nothing of it is kept.
inline void abandon_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph) static_cast<void>(cudaGraphDestroy(graph));
  static_cast<void>(cudaGetLastError());  // what failed is reported by its own error
}
inline void run(cudaGraphExec_t graph, cudaStream_t stream) { check(cudaGraphLaunch(graph, stream), "run a graph"); }
inline void destroy(cudaGraphExec_t graph) { check(cudaGraphExecDestroy(graph), "destroy a graph"); }

}  // namespace golem::cuda::runtime
