// What `checkpoint` says: its progress while it works, and the line of JSON that ends it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "golem/config/model.hpp"
#include "golem/config/parameters.hpp"

namespace examples {

inline volatile std::sig_atomic_t stop = 0;

// The first Ctrl-C or SIGTERM ends at a place from which one can go on; a second one kills.
inline void stop_on_signals() {
  const auto on_signal = [](int signal) {
    stop = 1;
    std::signal(signal, SIG_DFL);
  };
  std::signal(SIGINT, on_signal), std::signal(SIGTERM, on_signal);
}

// One line on a terminal, rewritten in place; elsewhere a line every ten seconds.
class Progress {
 public:
  bool operator()(std::uint64_t done, std::uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    const bool terminal = ::isatty(2) != 0, last = done == total;
    if (now - shown_ >= (terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10000)) || (last && terminal)) {
      const double seconds = seconds_since_start(), gigabytes = static_cast<double>(done) / 1e9;
      std::fprintf(stderr, "%s%5.1f%%  %.2f of %.2f GB  %.2f GB/s  %.0f s left%s", terminal ? "\r" : "",
                   100.0 * static_cast<double>(done) / static_cast<double>(std::max<std::uint64_t>(total, 1)), gigabytes,
                   static_cast<double>(total) / 1e9, gigabytes / std::max(seconds, 1e-3),
                   seconds / std::max(gigabytes, 1e-9) * static_cast<double>(total - done) / 1e9, terminal && !last ? "   " : "\n");
      shown_ = now;
    }
    return stop == 0;
  }
  double seconds_since_start() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), shown_ = start_;
};

// The most memory that this process ever had, file pages that it looked at included.
inline std::int64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

inline nlohmann::json json_of(const golem::ModelConfig& c) {
  return {{"layers", c.layers}, {"hidden", c.hidden}, {"heads", c.heads}, {"kv_heads", c.key_heads()},
          {"ffn", c.ffn},       {"vocab", c.vocab},   {"parameters", golem::parameter_count(c)}};
}

inline void end_with(nlohmann::json line, const Progress& progress) {
  line["seconds"] = progress.seconds_since_start();
  line["peak_memory"] = peak_memory();
  std::printf("%s\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

}  // namespace examples
