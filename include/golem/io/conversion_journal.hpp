// ConversionJournal: what a long conversion has completed, a line each, so that a later attempt goes on where an earlier one ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/output_file.hpp"

namespace golem {

/// While a conversion to `target` is not complete, its files lie beside it in `.target.unfinished`, with this journal. Only the same conversion of
/// the same source goes on with them; any other begins anew.
class ConversionJournal {
 public:
  /// `conversion` describes source and target. Throws Error where the target exists.
  ConversionJournal(std::string target, std::string_view conversion, FileStep step = {})
      : target_(std::move(target)), folder_(files::beside(target_, ".unfinished")), step_(step) {
    require(!std::filesystem::exists(target_), "'", target_, "' exists already: choose another name, or move it away");
    const std::string first = sentence("golem conversion ", sha256_hex(conversion.data(), conversion.size()), "\n"), path = folder_ + "/journal";
    std::uint64_t kept = 0;
    if (std::filesystem::is_regular_file(path)) kept = read(path, first);
    if (kept == 0) {
      lines_.clear();
      files::delete_folder(folder_, step_);
      std::error_code cause;
      std::filesystem::create_directories(folder_, cause);
      require(!cause, "cannot make the folder '", folder_, "': ", cause.message());
    }
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
    files::remove(file_->path(), step_);
    files::sync_folder(folder_, step_);
    files::rename(folder_, target_, step_);
    files::sync_folder(files::parent_of(target_), step_);
  }

 private:
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
  std::unique_ptr<OutputFile> file_;
};

}  // namespace golem
