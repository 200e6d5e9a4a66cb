// Writes a checkpoint, from one rank or many: each its safetensors shards, rank 0 also state.json, in a folder that appears whole or not at all.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/checkpoint_contents.hpp"
#include "golem/io/checkpoint_root.hpp"
#include "golem/io/checkpoint_shards.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/rank_part.hpp"

namespace golem {

namespace checkpoint {

// While several ranks save, the partial folder also holds, until rank 0 commits it:
//   begun             which attempt this is, by rank 0
//   part-00003.json   rank 3's files are complete, or why they are not (RankPart)
//   failed            why rank 0 gave up; only this and `begun`, which a late rank may still look for, are left then
inline std::string part_path(const std::string& folder, int rank) {
  const std::string digits = sentence(rank);
  return folder + "/part-" + std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits + ".json";
}

inline std::string text_of_file(const std::string& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

/// Asks again and again, less and less often, until the answer is yes or the time is over; the last answer.
inline bool wait_for(function_ref<bool()> answer, std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  for (std::chrono::microseconds pause(200); !answer(); pause = std::min<std::chrono::microseconds>(pause * 2, std::chrono::milliseconds(50))) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

inline double seconds(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

}  // namespace checkpoint

/// One save, in two halves, so that the second can be another thread's. Ranks that save together each make one, with the same root and step.
class CheckpointSave {
 public:
  /// The ranks meet at the barrier, rank 0 makes the partial folder, and they meet again. Throws Error where the folder cannot be made. A `former`
  /// failure of this rank is thrown too, but behind the barrier, since the others wait there; if it is rank 0's, no folder is made.
  CheckpointSave(std::string root, std::int64_t step, const CheckpointOptions& options, std::exception_ptr former = nullptr)
      : root_(std::move(root)), step_(step), options_(options), name_(checkpoint::folder_of_step(step)) {
    require(step >= 0, "cannot save a checkpoint of step ", step, ": steps are not negative");
    require(options.rank >= 0 && options.rank < options.ranks, where(), ": rank ", options.rank, " is none of ", options.ranks, " ranks");
    require(options.ranks == 1 || options.barrier, where(), ": ", options.ranks, " ranks need a barrier, CheckpointOptions::barrier");
    if (options_.ranks > 1) options_.barrier();  // who still waits for the end of a former save, sees it before its folder is cleared away
    try {
      if (options_.rank == 0 && !former) begin();
    } catch (...) {
      former = std::current_exception();
    }
    if (options_.ranks > 1) options_.barrier();
    if (former) std::rethrow_exception(former);
    if (options_.rank == 0) return;
    require(std::filesystem::exists(partial() + "/begun"), where(), ": rank 0 did not make the folder '", partial(),
            "' (its own error says why), or rank ", options_.rank, " does not see it: all ranks need one file system");
    attempt_ = checkpoint::text_of_file(partial() + "/begun");
  }

  /// Writes what this rank gathered. Rank 0 then waits for the others' parts, commits them all, makes the checkpoint the latest, and deletes those
  /// that need not be kept; the others wait for that. The folder of the checkpoint. Throws Error on all ranks, with all former checkpoints as they
  /// were, where one of them cannot write its part, or is not done within the deadline.
  std::string finish(CheckpointContents contents) {
    if (options_.ranks == 1) {
      commit({checkpoint::write_rank_files(partial(), contents.tensors, options_, where())}, contents.state);
    } else if (options_.rank > 0) {
      leave_part(contents);
      await_commit();
    } else {
      try {
        std::vector<RankPart> parts{write_part(contents)};
        gather(parts);
        commit(parts, contents.state);
      } catch (const std::exception& error) {
        give_up(error.what());
        throw;
      }
    }
    return root_ + "/" + name_;
  }

 private:
  std::string partial() const { return files::beside(root_ + "/" + name_, ".partial"); }
  std::string where() const { return sentence("the checkpoint of step ", step_, " was not saved in '", root_, "'"); }

  void begin() {
    std::error_code cause;
    std::filesystem::create_directories(root_, cause);
    require(!cause, "cannot make the folder '", root_, "': ", cause.message());
    remove_leftovers(root_, options_.on_file);
    folder_.emplace(root_ + "/" + name_, options_.on_file);
    if (options_.ranks == 1) return;
    std::random_device random;
    attempt_ = sentence(random(), "-", random(), "-", random());
    place_file(folder_->path() + "/begun", attempt_, options_.on_file);
  }

  RankPart write_part(const CheckpointContents& contents) const {
    try {
      return checkpoint::write_rank_files(partial(), contents.tensors, options_, where());
    } catch (const std::exception& error) {
      fail("rank ", options_.rank, ": ", error.what());
    }
  }

  /// Of a rank that is not 0.
  void leave_part(const CheckpointContents& contents) const {
    RankPart part;
    try {
      part = write_part(contents);
    } catch (const Error& error) {
      part.error = error.what();
    }
    part.save = attempt_;
    part.rank = options_.rank;
    try {
      place_file(checkpoint::part_path(partial(), options_.rank), format_rank_part(part, where()), options_.on_file);
      // Nothing may follow in the folder: rank 0 may have committed it.
    } catch (const Error& error) {
      const std::string failed = partial() + "/failed";
      if (part.error.empty()) part.error = std::filesystem::exists(failed) ? checkpoint::text_of_file(failed) : error.what();
    }
    require(part.error.empty(), part.error);
  }

  /// Waits for the parts of the other ranks.
  void gather(std::vector<RankPart>& parts) const {
    std::vector<bool> known(static_cast<std::size_t>(options_.ranks));
    const auto all = [&] {
      for (int rank = 1; rank < options_.ranks; ++rank) {
        const std::string path = checkpoint::part_path(partial(), rank);
        if (known[static_cast<std::size_t>(rank)] || !std::filesystem::exists(path)) continue;
        RankPart part = parse_rank_part(checkpoint::text_of_file(path), sentence("'", path, "'"));
        require(part.save == attempt_ && part.rank == rank, where(), ": '", path, "' is of another save: does an earlier run still write there?");
        require(part.error.empty(), part.error);
        known[static_cast<std::size_t>(rank)] = true;
        parts.push_back(std::move(part));
      }
      return parts.size() == known.size();
    };
    if (checkpoint::wait_for(all, options_.deadline)) return;
    std::string missing;
    for (int rank = 1; rank < options_.ranks; ++rank)
      if (!known[static_cast<std::size_t>(rank)]) missing += sentence(missing.empty() ? "" : ", ", rank);
    fail(where(), ": rank ", missing, " had not written its part ", checkpoint::seconds(options_.deadline),
         " s after rank 0: see whether it still runs");
  }

  void commit(const std::vector<RankPart>& parts, CheckpointState& state) {
    prove_parts_complete(parts, where());
    state.step = step_;
    state.model = options_.model;
    for (const RankPart& part : parts)
      for (const auto& [name, file] : part.files) {
        std::error_code cause;
        const auto bytes = std::filesystem::file_size(partial() + "/" + name, cause);
        require(!cause && bytes == file.bytes && state.files.emplace(name, file).second, where(), ": '", name, "' is no longer what rank ", part.rank,
                " wrote: does an earlier run still write there?");
      }
    checkpoint::write_indexes(partial(), parts, options_, state);
    OutputFile file(partial() + "/state.json", options_.on_file);
    file.write(format_checkpoint_state(state, sentence("cannot save '", file.path(), "'")));
    file.finish();
    for (int rank = 1; rank < options_.ranks; ++rank) files::remove(checkpoint::part_path(partial(), rank), options_.on_file);
    if (options_.ranks > 1) files::remove(partial() + "/begun", options_.on_file);
    folder_->commit();
    replace_file(root_ + "/latest", name_ + "\n", options_.on_file);
    checkpoint::prune(root_, step_, options_.keep_last, options_.keep_every, options_.on_file);
  }

  /// Leaves the reason in the partial folder, and no data.
  void give_up(std::string_view why) {
    folder_->leave();
    if (!files::is_folder(partial())) return;  // it was committed before the failure
    std::error_code ignored;                   // the error that led here is being reported
    for (std::filesystem::directory_iterator entry(partial(), ignored), end; !ignored && entry != end; entry.increment(ignored)) {
      std::error_code busy;
      if (entry->path().filename() != "begun") std::filesystem::remove(entry->path(), busy);
    }
    try {
      place_file(partial() + "/failed", why);
    } catch (const Error&) {  // then the others give up by their deadline
    }
  }

  /// Of a rank that is not 0: waits until the checkpoint is the latest, twice as long as rank 0 waits for its parts.
  void await_commit() const {
    const auto committed = [&] {
      if (std::filesystem::exists(partial() + "/failed")) fail(checkpoint::text_of_file(partial() + "/failed"));
      return !files::is_folder(partial()) && checkpoint::latest_name(root_) == name_;
    };
    require(checkpoint::wait_for(committed, 2 * options_.deadline), where(), ": rank 0 had not completed it ",
            checkpoint::seconds(2 * options_.deadline), " s after rank ", options_.rank, " had written its part: see whether rank 0 still runs");
  }

  std::string root_;
  std::int64_t step_;
  CheckpointOptions options_;
  std::string name_, attempt_;
  std::optional<AtomicFolder> folder_;  // rank 0's
};

/// Writes what was gathered as the checkpoint of `step` under `root`: CheckpointSave at once. The folder of the checkpoint.
inline std::string write_checkpoint(const std::string& root, std::int64_t step, CheckpointContents contents, const CheckpointOptions& options) {
  return CheckpointSave(root, step, options).finish(std::move(contents));
}

}  // namespace golem
