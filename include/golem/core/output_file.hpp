// OutputFile: a new file, written front to back, digested on the way, and on the disk before it counts as written.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

/// Called before each change of the file system ("write", "sync", "rename", ...) with its path: to show what is going on, or, in tests, to
/// stop the process right there.
using FileStep = function_ref<void(std::string_view action, const std::string& path)>;

namespace files {

inline void announce(FileStep step, std::string_view action, const std::string& path) {
  if (step) step(action, path);
}

/// Puts the entries of a folder on the disk: names made, renamed or removed in it.
inline void sync_folder(const std::string& path, FileStep step = {}) {
  announce(step, "sync", path);
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(folder >= 0, "cannot open the folder '", path, "' to sync it: ", std::strerror(errno));
  const bool synced = ::fsync(folder) == 0 || errno == EINVAL;  // EINVAL: a file system that has no such thing
  const int cause = errno;
  ::close(folder);
  require(synced, "cannot sync the folder '", path, "': ", std::strerror(cause));
}

inline void rename(const std::string& from, const std::string& to, FileStep step = {}) {
  announce(step, "rename", to);
  require(::rename(from.c_str(), to.c_str()) == 0, "cannot rename '", from, "' to '", to, "': ", std::strerror(errno));
}

inline void remove(const std::string& path, FileStep step = {}) {
  announce(step, "delete", path);
  require(::unlink(path.c_str()) == 0, "cannot delete '", path, "': ", std::strerror(errno));
}

/// The folder that a path lies in; "." for a bare name.
inline std::string parent_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace files

/// Throws Error with path, offset and cause where the disk is full or fails; the file then holds what fitted, and its maker removes it.
class OutputFile {
 public:
  explicit OutputFile(std::string path, FileStep step = {}) : path_(std::move(path)), step_(step) {
    files::announce(step_, "create", path_);
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    require(file_ >= 0, "cannot create '", path_, "': ", std::strerror(errno));
  }
  /// Goes on with a file whose first `kept` bytes are right, and cuts off what follows them; one that is not there is made where `kept` is 0. It is not
  /// digested: finish() returns "".
  OutputFile(std::string path, std::uint64_t kept, FileStep step) : path_(std::move(path)), step_(step), size_(kept), digested_(false) {
    files::announce(step_, "create", path_);
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    require(file_ >= 0, "cannot create '", path_, "': ", std::strerror(errno));
    const ::off_t held = ::lseek(file_, 0, SEEK_END);
    const bool cut = held >= static_cast<::off_t>(kept) && ::ftruncate(file_, static_cast<::off_t>(kept)) == 0 && ::lseek(file_, 0, SEEK_END) >= 0;
    const int cause = errno;
    if (!cut) ::close(std::exchange(file_, -1));
    require(cut, "cannot go on with '", path_, "' at byte ", kept, ", of which it has ", static_cast<std::int64_t>(held), ": ",
            held < static_cast<::off_t>(kept) ? "it is shorter" : std::strerror(cause));
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile() {
    if (file_ >= 0) ::close(file_);
  }

  void write(const void* data, std::size_t bytes) {
    auto* from = static_cast<const char*>(data);
    while (bytes > 0) {
      files::announce(step_, "write", path_);
      const ::ssize_t written = ::write(file_, from, std::min<std::size_t>(bytes, std::size_t{8} << 20));
      if (written < 0 && errno == EINTR) continue;
      require(written > 0, "cannot write byte ", size_, " of '", path_, "': ", std::strerror(written < 0 ? errno : ENOSPC));
      if (digested_) digest_.update(from, static_cast<std::size_t>(written));
      from += written, bytes -= static_cast<std::size_t>(written), size_ += static_cast<std::uint64_t>(written);
    }
  }
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Puts on the disk what was written so far.
  void sync() {
    files::announce(step_, "sync", path_);
    require(::fsync(file_) == 0, "cannot sync '", path_, "': ", std::strerror(errno));
  }

  /// Puts the file on the disk and closes it. The SHA-256 digest of its content.
  std::string finish() {
    sync();
    require(::close(std::exchange(file_, -1)) == 0, "cannot close '", path_, "': ", std::strerror(errno));
    return digested_ ? digest_.hex() : "";
  }

  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  FileStep step_;
  int file_ = -1;
  std::uint64_t size_ = 0;
  bool digested_ = true;
  Sha256 digest_;
};

/// Replaces a file by what `write` writes: its readers see the old content or the new, never a part. Which of them is there after a crash is open
/// until its folder is synced.
inline void place_file(const std::string& path, function_ref<void(OutputFile& file)> write, FileStep step = {}) {
  const std::string partial = path + ".partial";
  try {
    OutputFile file(partial, step);
    write(file);
    file.finish();
    files::rename(partial, path, step);
  } catch (const std::exception&) {  // memory may run out in what writes
    ::unlink(partial.c_str());
    throw;
  }
}

inline void place_file(const std::string& path, std::string_view text, FileStep step = {}) {
  place_file(path, [&](OutputFile& file) { file.write(text); }, step);
}

/// place_file, with the new content there for good.
inline void replace_file(const std::string& path, std::string_view text, FileStep step = {}) {
  place_file(path, text, step);
  files::sync_folder(files::parent_of(path), step);
}

}  // namespace golem
