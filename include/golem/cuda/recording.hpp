// Recording: work of a GPU that its owner repeats, as graphs by key; Device::replay fills it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "golem/cuda/way_out.hpp"

namespace golem::cuda {

/// Belongs to whoever owns the memory that the work is on, so that no graph outlives it. Move-only.
class Recording {
 public:
  struct Graph {
    cudaGraphExec_t ready = nullptr;          // from the second time on
    std::int64_t workspace_bytes = -1;        // that the device had when the work had been done as it is; -1: it has not
    std::shared_ptr<const void> workspace{};  // that it was captured with, and computes in
  };

  Recording() = default;
  Recording(Recording&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)), graphs_(std::exchange(other.graphs_, {})) {}
  Recording& operator=(Recording&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(graphs_, other.graphs_);
    return *this;
  }
  ~Recording() {  // failures have no one to go to here
    if (stream_) finish_on_way_out(stream_, by_error_);
    for (auto& [key, graph] : graphs_)
      if (graph.ready) static_cast<void>(cudaGraphExecDestroy(graph.ready));
  }

  Graph& at(std::int64_t key, cudaStream_t stream) {
    stream_ = stream;
    return graphs_[key];
  }

 private:
  cudaStream_t stream_ = nullptr;
  ByError by_error_;
  std::map<std::int64_t, Graph> graphs_;
};

}  // namespace golem::cuda
