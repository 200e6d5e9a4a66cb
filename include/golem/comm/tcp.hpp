// Ranks that are processes, started by torchrun: including this lets World::from_env() and run_world() start under it, without MPI.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "golem/comm/environment.hpp"
#include "golem/comm/tcp_group.hpp"

namespace golem {

/// All ranks as a group that meets at rank 0's machine, MASTER_ADDR, on port GOLEM_PORT, or the one behind MASTER_PORT (which torchrun keeps for
/// itself). Whoever reaches that port can end the run: the network must be one that is trusted. Right for ranks that compute on GPUs and move their memory by NCCL (comm/nccl.hpp): everything passes through rank 0.
inline std::shared_ptr<Backend> start_tcp(const LaunchOptions& options) {
  const Environment here = read_environment();
  const auto port_in = [](const char* name, int most) {
    const char* const text = std::getenv(name);
    if (!text) return -1;
    const std::string_view digits = text;
    int port = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    require(error == std::errc() && end == digits.data() + digits.size() && port > 0 && port <= most, "the environment's ", name, " is '", digits, "', which is no port from 1 to ", most);
    return port;
  };
  const int own = port_in("GOLEM_PORT", 65535), master = port_in("MASTER_PORT", 65534);
  const char* const host = std::getenv("MASTER_ADDR");
  require(host && (own > 0 || master > 0), "this process is rank ", here.rank, " of ", here.ranks, ", and the environment does not say where rank 0 is: set MASTER_ADDR, and MASTER_PORT or GOLEM_PORT");
  std::vector<std::int32_t> members(static_cast<std::size_t>(here.ranks));
  std::iota(members.begin(), members.end(), 0);
  const auto session = std::make_shared<tcp::Session>(tcp::Address{host, own > 0 ? own : master + 1, here.rank, here.ranks}, options.deadline);
  return std::make_shared<TcpGroup>(session, 0, std::move(members), "world");
}

/// Registers start_tcp with the launcher that it works under.
inline const bool tcp_is_included = [] {
  start_under(Environment::Launcher::torchrun) = start_tcp;
  return true;
}();

}  // namespace golem
