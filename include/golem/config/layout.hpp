// Layout: how many ranks share a model, and along which axes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace golem {

/// Degrees of the rank cube (spec 4.1). Rank order: tensor fastest, then data, then pipeline.
struct Layout {
  int tp = 1;  // tensor parallel: ranks that share each layer
  int pp = 1;  // pipeline parallel: stages that the layers are cut in
  int dp = 1;  // data parallel: copies that see different rows
  bool sequence_parallel = false;  // norms, dropout and residuals cut over the tokens of a micro-batch, among the tensor ranks

  constexpr int ranks() const { return tp * pp * dp; }
  friend constexpr bool operator==(const Layout&, const Layout&) = default;
};

}  // namespace golem
