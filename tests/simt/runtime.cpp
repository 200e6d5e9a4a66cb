// The CUDA runtime on the host: streams that run late and in any legal order, events, memory that begins as NaN, graphs.
// SPDX-License-Identifier: Apache-2.0
#include "simt/runtime.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

#include "simt/block.hpp"
#include "simt/graph.hpp"
#include "simt/simt.hpp"

struct CUstream_st {
  struct Step {
    simt::Work work;
    std::shared_ptr<bool> wait_for;  // an event that must have happened
  };
  std::deque<Step> steps;
  std::shared_ptr<simt::Capture> capture;
  std::vector<std::size_t> after;  // what its next piece runs after, while it is captured
};

struct CUevent_st {
  std::shared_ptr<bool> happened = std::make_shared<bool>(true);
  std::shared_ptr<double> at = std::make_shared<double>(0);  // Counts::milliseconds
  std::shared_ptr<simt::Capture> capture;  // instead, where it was recorded in one
  std::vector<std::size_t> after;
};

struct CUgraph_st {
  std::vector<simt::GraphNode> nodes;
};
struct CUgraphExec_st {
  std::vector<simt::GraphNode> nodes;
};

namespace simt {
namespace {

// Ranks that are threads share all of this, one at a time. A thread that waits runs the streams of all, and lets the others
// in only where none can move.
std::recursive_mutex mutex;
std::condition_variable_any changed;
using Lock = std::unique_lock<std::recursive_mutex>;

std::vector<CUstream_st*> streams;
int others = 0;
thread_local int captures_here = 0;  // that this thread has begun and not ended

std::mt19937_64& turns() {
  static std::mt19937_64 random(machine().stream_seed);
  return random;
}

/// Runs steps of all streams in turns until `done()`, or until none can move. The lock is held.
template <class Done>
void run_able(const Done& done) {
  while (!done()) {
    std::vector<CUstream_st*> able;
    for (CUstream_st* stream : streams)
      if (!stream->steps.empty() && (!stream->steps.front().wait_for || *stream->steps.front().wait_for)) able.push_back(stream);
    if (able.empty()) return;
    CUstream_st* stream = able[turns()() % able.size()];
    const CUstream_st::Step step = std::move(stream->steps.front());
    stream->steps.pop_front();
    counts().milliseconds = counts().milliseconds + 1e-3;
    try {
      const std::shared_ptr<bool> end = step.work ? step.work() : nullptr;
      if (end && !*end) stream->steps.push_front({nullptr, end});
    } catch (...) {
      for (CUstream_st* other : streams) other->steps.clear();  // as after any error of a device: nothing runs any more
      throw;
    }
    changed.notify_all();
  }
}

/// The same, but waits for other threads where none can move.
template <class Done>
void run_until(const Done& done) {
  Lock lock(mutex);
  for (run_able(done); !done(); run_able(done))
    if (others <= 0 || changed.wait_for(lock, std::chrono::seconds(30)) != std::cv_status::no_timeout) throw std::runtime_error("the streams wait for each other in a circle");
}

}  // namespace

Counts& counts() {
  static Counts all;
  return all;
}
bool fails(const char* call) {
  const Lock lock(mutex);
  if (machine().fail_call != call) return false;
  if (!machine().keeps_failing) machine().fail_call.clear();
  return true;
}

void expect_other_threads(int more) {
  const Lock lock(mutex);
  others += more;
}
void locked(const std::function<void()>& work) {
  const Lock lock(mutex);
  work();
  changed.notify_all();
}

bool ends_within(std::chrono::milliseconds patience, const std::function<bool()>& done) {
  const auto last = std::chrono::steady_clock::now() + patience;
  Lock lock(mutex);
  for (run_able(done); !done() && std::chrono::steady_clock::now() < last; run_able(done)) changed.wait_for(lock, std::chrono::milliseconds(10));
  return done();
}

cudaError_t enqueue(Work work, cudaStream_t stream) {
  const Lock lock(mutex);
  changed.notify_all();
  if (stream->capture) {
    stream->capture->nodes.push_back({std::move(work), stream->after});
    stream->after = {stream->capture->nodes.size() - 1};
  } else {
    stream->steps.push_back({std::move(work), nullptr});
  }
  return cudaSuccess;
}
cudaError_t enqueue(std::function<void()> work, cudaStream_t stream) {
  return enqueue(Work([work = std::move(work)]() -> std::shared_ptr<bool> {
                   work();
                   return nullptr;
                 }),
                 stream);
}
bool is_captured(cudaStream_t stream) {
  const Lock lock(mutex);
  return stream->capture != nullptr;
}

cudaError_t enqueue(Call call, cudaStream_t stream) {
  if (fails("cudaLaunchKernelEx")) return machine().fail_status;
  constexpr std::size_t always_granted = 48 << 10;
  {
    const Lock lock(mutex);
    if (call.shared_bytes > always_granted && call.shared_bytes > machine().shared_limits[call.kernel]) return cudaErrorInvalidValue;
  }
  ++counts().kernels;
  if (call.early) ++counts().early;
  return enqueue(std::function<void()>([call = std::move(call)] { run_kernel(call); }), stream);
}

std::string name_of(const void* function) {
  Dl_info info{};
  if (!dladdr(function, &info) || !info.dli_sname) return "(unnamed)";
  int status = 0;
  char* readable = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = status == 0 ? readable : info.dli_sname;
  std::free(readable);
  name = name.substr(name.rfind(' ', name.find('<')) + 1);
  const auto parameters = name.rfind('(');
  return parameters == std::string::npos ? name : name.substr(0, parameters);
}

}  // namespace simt

using namespace simt;

#define FAIL_IF_ASKED(call) \
  if (fails(#call)) return machine().fail_status

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  FAIL_IF_ASKED(cudaStreamCreateWithFlags);
  *stream = new CUstream_st;
  ++counts().streams;
  const Lock lock(mutex);
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  FAIL_IF_ASKED(cudaStreamSynchronize);
  if (stream->capture) return cudaErrorStreamCaptureUnsupported;
  run_until([stream] { return stream->steps.empty(); });
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream->capture) return cudaErrorStreamCaptureUnsupported;
  const Lock lock(mutex);
  run_able([stream] { return stream->steps.empty(); });
  return stream->steps.empty() ? cudaSuccess : last_error = cudaErrorNotReady;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  run_until([stream] { return stream->steps.empty(); });
  const Lock lock(mutex);
  std::erase(streams, stream);
  delete stream;
  --counts().streams;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(mutex);
  if (!event->capture) {
    if (stream->capture) return cudaErrorStreamCaptureIsolation;
    stream->steps.push_back({nullptr, event->happened});
    changed.notify_all();
    return cudaSuccess;
  }
  if (event->capture->ended) return cudaErrorStreamCaptureIsolation;
  if (stream->capture && stream->capture != event->capture) return cudaErrorStreamCaptureMerge;
  if (!stream->capture) stream->after.clear();
  stream->capture = event->capture;
  std::set<std::size_t> all(stream->after.begin(), stream->after.end());
  all.insert(event->after.begin(), event->after.end());
  stream->after.assign(all.begin(), all.end());
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(mutex);
  if (stream->capture) return cudaErrorIllegalState;
  stream->capture = std::make_shared<simt::Capture>(simt::Capture{stream, {}});
  stream->after.clear();
  ++captures_here;
  ++counts().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = is_captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(mutex);
  *graph = nullptr;
  const std::shared_ptr<simt::Capture> capture = stream->capture;
  if (!capture) return cudaErrorIllegalState;
  if (capture->origin != stream) return cudaErrorStreamCaptureUnmatched;
  const bool whole = all_joined(capture->nodes, stream->after);
  for (CUstream_st* one : streams)
    if (one->capture == capture) one->capture = nullptr;
  capture->ended = true;
  --captures_here;
  if (!whole) return cudaErrorStreamCaptureUnjoined;
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  FAIL_IF_ASKED(cudaGraphInstantiate);
  *ready = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const Lock lock(mutex);
  ++counts().graph_runs;
  for (const std::size_t i : legal_order(graph->nodes, turns())) enqueue(graph->nodes[i].work, stream);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  FAIL_IF_ASKED(cudaEventCreateWithFlags);
  *event = new CUevent_st;
  ++counts().events;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --counts().events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(mutex);
  event->capture = stream->capture;
  event->after = stream->after;
  if (stream->capture) return cudaSuccess;
  event->happened = std::make_shared<bool>(false);
  event->at = std::make_shared<double>(0);
  return enqueue([happened = event->happened, at = event->at] { *happened = true, *at = counts().milliseconds; }, stream);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture) return cudaErrorCapturedEvent;
  if (captures_here > 0) return cudaErrorStreamCaptureUnsupported;
  run_until([happened = event->happened] { return *happened; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(mutex);
  if (event->capture) return cudaErrorCapturedEvent;
  if (captures_here > 0) return cudaErrorStreamCaptureUnsupported;
  return *event->happened ? cudaSuccess : last_error = cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock(mutex);
  if (!*start->happened || !*end->happened) return last_error = cudaErrorNotReady;
  *milliseconds = machine().lt_milliseconds.empty() ? 1 : static_cast<float>(*end->at - *start->at);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  FAIL_IF_ASKED(cudaFuncSetAttribute);
  const Lock lock(mutex);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) machine().shared_limits[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

}  // extern "C"
