// The folder that a run saves its checkpoints in: which there are, which is the latest, which may go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/printable.hpp"

namespace golem {

// root/step-00000100/state.json ...   a checkpoint
// root/latest                         the name of the one to go on from, and a newline
namespace checkpoint {

inline std::string folder_of_step(std::int64_t step) {
  const std::string digits = sentence(step);
  return "step-" + std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') + digits;
}

/// The step that a folder is named after, or -1 for other names.
inline std::int64_t step_of_folder(std::string_view name) {
  if (!name.starts_with("step-")) return -1;
  std::int64_t step = -1;
  const auto [end, problem] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  return problem == std::errc() && end == name.data() + name.size() && step >= 0 && folder_of_step(step) == name ? step : -1;
}

/// Steps of the complete checkpoints in `root`, ascending.
inline std::vector<std::int64_t> saved_steps(const std::string& root) {
  std::vector<std::int64_t> steps;
  for (std::string name : files::names_in(root)) {
    if (name.starts_with('.') && name.ends_with(".replaced"))
      name = name.substr(1, name.size() - 1 - std::string_view(".replaced").size());
    else if (!files::is_folder(root + "/" + name))
      continue;
    if (const std::int64_t step = step_of_folder(name); step >= 0) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  return steps;
}

/// The content of `root`/latest, or "" where there is none.
inline std::string latest_name(const std::string& root) {
  const std::string path = root + "/latest";
  if (!std::filesystem::exists(path)) return "";
  const MappedFile file(path);
  std::string name(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 64));
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r' || name.back() == ' ')) name.pop_back();
  require(step_of_folder(name) >= 0, "'", path, "' is damaged: expected the name of a folder like step-00000100, found '", printable(name),
          "'; write the right name into it, or give the path of the checkpoint itself");
  return name;
}

/// Deletes what need not be kept once `step` is saved: of the checkpoints up to it the `last` newest stay, and those whose step is a multiple of
/// `every`; the later ones stay too (the run went back, and its user may want them). 0 for `last` keeps all, 0 for `every` keeps none. What cannot be
/// deleted stays for the next save to delete.
inline void prune(const std::string& root, std::int64_t step, std::int64_t last, std::int64_t every, FileStep announce = {}) {
  if (last <= 0) return;
  std::vector<std::int64_t> steps = saved_steps(root);
  std::erase_if(steps, [&](std::int64_t saved) { return saved > step; });
  for (std::int64_t i = 0; i + last < static_cast<std::int64_t>(steps.size()); ++i) {
    if (every > 0 && steps[i] % every == 0) continue;
    discard_folder(root + "/" + folder_of_step(steps[i]), announce);
  }
}

}  // namespace checkpoint

/// The folder of the checkpoint that a path means: the checkpoint itself, or the latest of a run's folder.
/// Throws Error saying what is there where there is none.
inline std::string find_checkpoint(const std::string& path) {
  if (const std::string folder = existing_folder(path); !folder.empty() && std::filesystem::exists(folder + "/state.json")) return folder;
  require(files::is_folder(path), "cannot load a checkpoint from '", path, "': there is no such folder");
  const auto steps = checkpoint::saved_steps(path);
  std::string name = checkpoint::latest_name(path);
  if (name.empty() && !steps.empty()) name = checkpoint::folder_of_step(steps.back());  // a crash between the first save and `latest`
  require(!name.empty(), "cannot load a checkpoint from '", path, "': it has neither state.json nor a folder like step-00000100");
  const std::string folder = existing_folder(path + "/" + name);
  require(!folder.empty(), "cannot load the latest checkpoint of '", path, "': 'latest' names ", name,
          ", which is not there; the newest that is: ", steps.empty() ? "none" : checkpoint::folder_of_step(steps.back()));
  return folder;
}

}  // namespace golem
