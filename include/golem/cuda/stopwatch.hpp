// Stopwatch: marks on a device's stream, and the time between them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/cuda/device.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// Marks the device's stream, by numbers below `marks`; tells the seconds between marks once the stream has passed them. Throws Error where the device has failed.
class Stopwatch {
 public:
  static constexpr int marks = 4;

  explicit Stopwatch(Device& device) : Stopwatch(device, Closed{}) {  // whatever fails from here on, the destructor runs
    for (cudaEvent_t& event : events_) event = runtime::create_event(runtime::Timing::on);
  }
  ~Stopwatch() {
    for (cudaEvent_t event : events_)
      if (event) static_cast<void>(cudaEventDestroy(event));
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void mark(int number) { runtime::record(events_[number], device_->stream()); }
  /// Waits for mark `to`, which is later than `from`.
  double seconds(int from, int to) {
    runtime::synchronize(events_[to]);
    return 1e-3 * static_cast<double>(runtime::milliseconds_between(events_[from], events_[to]));
  }

 private:
  struct Closed {};
  Stopwatch(Device& device, Closed) : device_(&device) {}

  Device* device_;
  cudaEvent_t events_[marks]{};
};

}  // namespace golem::cuda
