// AtomicFolder: a folder of files that appears whole or not at all, whatever moment the process or the machine stops at.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/output_file.hpp"

namespace golem {

// Beside a folder `name` there may lie, for a moment or after a crash:
//   .name.partial    being written; worthless
//   .name.replaced   the former `name`, moved away so that a new one can take its place; it counts as `name` while that is missing
//   .name.removed    being deleted; worthless
namespace files {

/// "a/b" of "a/b//".
inline std::string without_slashes_behind(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

inline std::string beside(std::string path, std::string_view suffix) {
  path = without_slashes_behind(std::move(path));
  const auto slash = path.find_last_of('/');
  const std::size_t start = slash == std::string::npos ? 0 : slash + 1;
  return sentence(path.substr(0, start), ".", path.substr(start), suffix);
}

inline bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// Names of the entries of a folder, in ascending order.
inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code cause;
  for (std::filesystem::directory_iterator entry(folder, cause), end; !cause && entry != end; entry.increment(cause))
    names.push_back(entry->path().filename().string());
  require(!cause, "cannot list the folder '", folder, "': ", cause.message());
  std::sort(names.begin(), names.end());
  return names;
}

/// Deletes a folder with all that is in it, file by file; nothing happens where it does not exist.
inline void delete_folder(const std::string& path, FileStep step = {}) {
  if (!is_folder(path)) return;
  for (const std::string& name : names_in(path)) {
    announce(step, "delete", path + "/" + name);
    std::error_code cause;
    std::filesystem::remove_all(path + "/" + name, cause);
    require(!cause, "cannot delete '", path, "/", name, "': ", cause.message());
  }
  announce(step, "delete", path);
  require(::rmdir(path.c_str()) == 0, "cannot delete the folder '", path, "': ", std::strerror(errno));
}

}  // namespace files

/// Removes a folder so that no reader ever sees a part of it under its name.
inline void remove_folder(const std::string& path, FileStep step = {}) {
  const std::string removed = files::beside(path, ".removed");
  files::delete_folder(removed, step);
  files::rename(path, removed, step);
  files::delete_folder(removed, step);
}

/// The same for a folder that nobody needs: where it cannot be deleted that is told, and is no reason to stop. remove_leftovers tries again.
inline void discard_folder(const std::string& path, FileStep step = {}) {
  try {
    remove_folder(path, step);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: it is not needed; the next save tries again, or delete it by hand\n", error.what());
  }
}

/// The folder that holds what was last written under this name: `path` itself, or what a crash left of its replacement; "" if none.
inline std::string existing_folder(const std::string& path) {
  if (files::is_folder(path)) return path;
  const std::string replaced = files::beside(path, ".replaced");
  return files::is_folder(replaced) ? replaced : "";
}

/// Brings a folder in order after a crash: interrupted replacements are undone or completed, and what is worthless is deleted, as far as it can be. Only
/// the one process that writes in `root` may call it.
inline void remove_leftovers(const std::string& root, FileStep step = {}) {
  const auto ends_with = [](const std::string& name, std::string_view suffix) { return name.size() > suffix.size() + 1 && name.ends_with(suffix); };
  for (const std::string& name : files::names_in(root)) {
    if (name[0] != '.' || !files::is_folder(root + "/" + name)) continue;
    if (ends_with(name, ".partial")) discard_folder(root + "/" + name, step);
    try {
      if (ends_with(name, ".removed")) files::delete_folder(root + "/" + name, step);
    } catch (const Error&) {  // which was told when it was discarded
    }
    if (!ends_with(name, ".replaced")) continue;
    const std::string original = root + "/" + name.substr(1, name.size() - 1 - std::string_view(".replaced").size());
    if (files::is_folder(original))
      discard_folder(root + "/" + name, step);
    else
      files::rename(root + "/" + name, original, step);
  }
}

/// Files are written to `path()`; `commit()` makes them appear under `target`, in the place of a folder of that name if there is one. Without a
/// commit, the destructor deletes what was written. One writer at a time for a target.
class AtomicFolder {
 public:
  explicit AtomicFolder(std::string target, FileStep step = {}) : target_(std::move(target)), path_(files::beside(target_, ".partial")), step_(step) {
    files::delete_folder(path_, step_);
    files::announce(step_, "create", path_);
    require(::mkdir(path_.c_str(), 0777) == 0, "cannot make the folder '", path_, "': ", std::strerror(errno));
    open_ = true;
  }
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() {
    std::error_code ignored;  // the error that led here is being reported, and the next save deletes the rest
    if (open_) std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

  /// The folder stays as it is, uncommitted, for others to see why; remove_leftovers deletes it.
  void leave() { open_ = false; }

  /// The files in it are complete and synced (OutputFile::finish).
  void commit() {
    files::sync_folder(path_, step_);
    const std::string replaced = files::beside(target_, ".replaced");
    if (files::is_folder(target_)) {
      if (files::is_folder(replaced)) remove_folder(replaced, step_);
      files::rename(target_, replaced, step_);
    }
    files::rename(path_, target_, step_);
    open_ = false;
    files::sync_folder(files::parent_of(target_), step_);
    if (files::is_folder(replaced)) discard_folder(replaced, step_);
  }

 private:
  std::string target_, path_;
  FileStep step_;
  bool open_ = false;
};

}  // namespace golem
