// Work of streams as it is captured, and the orders that a graph of it may run in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <set>
#include <vector>

#include "simt/runtime.hpp"

namespace simt {

struct GraphNode {
  Work work;
  std::vector<std::size_t> after;  // which others, by their number, run before it
};

struct Capture {
  cudaStream_t origin;
  std::vector<GraphNode> nodes;
  bool ended = false;
};

/// The nodes in any order that keeps to what each runs after.
inline std::vector<std::size_t> legal_order(const std::vector<GraphNode>& nodes, std::mt19937_64& turns) {
  std::vector<std::size_t> order, waits_for(nodes.size()), able;
  std::vector<std::vector<std::size_t>> before(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    waits_for[i] = nodes[i].after.size();
    for (const std::size_t j : nodes[i].after) before[j].push_back(i);
    if (nodes[i].after.empty()) able.push_back(i);
  }
  while (!able.empty()) {
    const auto chosen = able.begin() + static_cast<std::ptrdiff_t>(turns() % able.size());
    order.push_back(*chosen);
    able.erase(chosen);
    for (const std::size_t i : before[order.back()])
      if (--waits_for[i] == 0) able.push_back(i);
  }
  return order;
}

/// Whether every node runs before what comes after `ends`.
inline bool all_joined(const std::vector<GraphNode>& nodes, std::vector<std::size_t> ends) {
  std::set<std::size_t> found(ends.begin(), ends.end());
  while (!ends.empty()) {
    const std::size_t node = ends.back();
    ends.pop_back();
    for (const std::size_t i : nodes[node].after)
      if (found.insert(i).second) ends.push_back(i);
  }
  return found.size() == nodes.size();
}

}  // namespace simt
