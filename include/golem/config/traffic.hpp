// Bytes on the wire of each collective, and its time on a link, by the ring algorithm.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/hardware.hpp"
#include "golem/config/layout.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// What one of `ranks` sends to reduce-scatter, or to all-gather, `bytes` in all; an all-reduce is both.
constexpr double scatter_bytes(double bytes, int ranks) { return bytes * (ranks - 1) / ranks; }
constexpr double all_reduce_bytes(double bytes, int ranks) { return 2 * scatter_bytes(bytes, ranks); }

/// Seconds of a reduce-scatter or all-gather of `bytes` in all, around a ring.
constexpr double scatter_seconds(double bytes, int ranks, const Link& link) {
  return ranks == 1 ? 0 : scatter_bytes(bytes, ranks) / link.bandwidth + (ranks - 1) * link.latency;
}
constexpr double all_reduce_seconds(double bytes, int ranks, const Link& link) { return 2 * scatter_seconds(bytes, ranks, link); }
constexpr double send_seconds(double bytes, const Link& link) { return bytes / link.bandwidth + link.latency; }

/// The links that the groups of a layout run over, ranks being placed node by node: tensor fastest, then data, then pipeline.
struct GroupLinks {
  Link tensor, data, pipeline;
};

/// `reached` is the part of the links' bandwidth that transfers reach. A tensor group inside a node uses the inner link. A ring of a
/// data group crosses a node's border once, and shares the node's adapters with the rings of the other tensor ranks.
constexpr GroupLinks links_of(const Hardware& h, const Layout& layout, double reached) {
  const int per_node = h.per_node, rings = smaller(layout.tp, per_node);
  const Link inside{h.inside.bandwidth * reached, h.inside.latency}, between{h.between.bandwidth * reached, h.between.latency};
  const Link shared{smaller(inside.bandwidth, between.bandwidth * per_node / rings), between.latency};
  GroupLinks links;
  links.tensor = layout.tp <= per_node ? inside : between;
  links.data = layout.tp * layout.dp <= per_node ? inside : shared;
  links.pipeline = layout.ranks() <= per_node ? inside : between;
  return links;
}

}  // namespace golem
