// ConversionJournal: what a long conversion has completed, a line each, so that a later attempt goes on where an earlier one ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/core/output_file.hpp"
#include "golem/version.hpp"

namespace golem {

namespace files {

/// A file that one process at a time holds, made where it is not there; it is let go when the process ends, whatever ends it.
class Lock {
 public:
  Lock(const std::string& path, const std::string& busy) : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    require(file_ >= 0, "cannot create '", path, "': ", std::strerror(errno));
    const bool held = ::flock(file_, LOCK_EX | LOCK_NB) == 0;
    struct stat held_file {};
    struct stat there {};
    // Any other error is of a file system without locks. A file that was renamed meanwhile is its new owner's.
    const bool mine_alone = (held || errno != EWOULDBLOCK) && ::fstat(file_, &held_file) == 0 && ::stat(path.c_str(), &there) == 0 &&
                            held_file.st_ino == there.st_ino && held_file.st_dev == there.st_dev;
    if (!mine_alone) ::close(file_);
    require(mine_alone, busy);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() { ::close(file_); }

 private:
  int file_;
};

}  // namespace files

/// While a conversion to `target` is not complete, its files lie beside it in `.target.unfinished`, with this journal. Only the same conversion of
/// the same source by the same version of golem goes on with them; any other begins anew. One process at a time makes a target.
class ConversionJournal {
 public:
  /// `conversion` describes source and target. Throws Error where the target exists, or another process is making it.
  ConversionJournal(std::string target, std::string_view conversion, FileStep step = {})
      : target_(files::without_slashes_behind(std::move(target))), folder_(files::beside(target_, ".unfinished")), step_(step) {
    require_absent();
    std::error_code cause;
    std::filesystem::create_directories(folder_, cause);
    require(!cause, "cannot make the folder '", folder_, "': ", cause.message());
    const std::string path = folder_ + "/journal", first = sentence("golem ", version.major, ".", version.minor, ".", version.patch, " conversion ",
                                                                    sha256_hex(conversion.data(), conversion.size()), "\n");
    std::uint64_t kept = 0;
    lock_ = std::make_unique<files::Lock>(path, sentence("another process is making '", target_, "': wait for it, or stop it"));
    require_absent();  // the process that held the lock may have completed it
    kept = read(path, first);
    if (kept == 0) delete_all_but_journal();
    file_ = std::make_unique<OutputFile>(path, kept, step_);
    if (kept == 0) file_->write(first);
    file_->sync();
  }

  const std::string& folder() const { return folder_; }
  FileStep step() const { return step_; }
  /// What earlier attempts noted.
  const std::vector<std::string>& lines() const { return lines_; }

  /// Notes what is on the disk already.
  void note(std::string_view line) {
    file_->write(sentence(line, "\n"));
    file_->sync();
  }

  /// What lines() told is not so: begins anew.
  void forget() {
    const std::string path = file_->path();
    const MappedFile file(path);
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    lines_.clear();
    file_ = std::make_unique<OutputFile>(path, text.find('\n') + 1, step_);
  }

  /// All files are complete and synced: the folder gets the target's name.
  void commit() {
    file_->finish();
    files::sync_folder(folder_, step_);
    files::rename(folder_, target_, step_);  // with the journal: until then a later attempt needs it
    files::sync_folder(files::parent_of(target_), step_);
    files::remove(target_ + "/journal", step_);
    files::sync_folder(target_, step_);
  }

 private:
  void require_absent() const { require(!std::filesystem::exists(target_), "'", target_, "' exists already: choose another name, or move it away"); }

  /// The journal itself stays, as the lock is on it.
  void delete_all_but_journal() const {
    for (const std::string& name : files::names_in(folder_)) {
      if (name == "journal") continue;
      files::announce(step_, "delete", folder_ + "/" + name);
      std::error_code cause;
      std::filesystem::remove_all(folder_ + "/" + name, cause);
      require(!cause, "cannot delete '", folder_, "/", name, "': ", cause.message());
    }
  }

  /// Length of what is sound; 0 where the journal is of another conversion.
  std::uint64_t read(const std::string& path, const std::string& first) {
    const MappedFile file(path);
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    if (!text.starts_with(first)) return 0;
    std::size_t at = first.size();
    for (std::size_t end = 0; (end = text.find('\n', at)) != std::string_view::npos; at = end + 1) lines_.emplace_back(text.substr(at, end - at));
    return at;
  }

  std::string target_, folder_;
  FileStep step_;
  std::vector<std::string> lines_;
  std::unique_ptr<files::Lock> lock_;
  std::unique_ptr<OutputFile> file_;
};

}  // namespace golem
