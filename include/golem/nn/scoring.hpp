// The scored tokens of a batch on a device, and their losses gathered by row and task.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/core/batch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/error.hpp"
#include "golem/core/step_report.hpp"
#include "golem/nn/head.hpp"

namespace golem {

/// Losses of one or more batches.
struct LossSummary {
  double nats = 0;          // over all scored tokens
  std::int64_t tokens = 0;  // scored
  double row_means = 0;     // sum over rows of the row's mean loss: every row weighs the same (spec 2.5)
  std::int64_t rows = 0;
  std::array<TaskLoss, task_count> tasks{};  // `loss` holds the sum of row means until finish()

  LossSummary& operator+=(const LossSummary& other) {
    nats += other.nats, tokens += other.tokens, row_means += other.row_means, rows += other.rows;
    for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].loss += other.tasks[i].loss, tasks[i].rows += other.tasks[i].rows;
    return *this;
  }

  /// Every number of it, for sums over ranks.
  template <class Visit>
  void visit(Visit visit) {
    visit(nats), visit(tokens), visit(row_means), visit(rows);
    for (TaskLoss& task : tasks) visit(task.loss), visit(task.rows);
  }

  double loss() const { return rows ? row_means / static_cast<double>(rows) : 0; }
  LossSummary finished() const {
    LossSummary s = *this;
    for (TaskLoss& task : s.tasks)
      if (task.rows) task.loss /= static_cast<double>(task.rows);
    return s;
  }
};

template <class A, class D>
class Scoring {
 public:
  /// Copies the scored tokens of `batch`. A row's tokens share the weight `row_weight` / (scored tokens of the row).
  /// Throws Error where a target is no token of a vocabulary of `vocab`.
  void upload(D& device, const Batch& batch, double row_weight, int vocab) {
    rows_.clear(), targets_.clear(), weights_.clear();
    row_end_.clear();
    tasks_ = batch.tasks;
    require(batch.targets.size() == batch.tokens.size(), "a batch of ", batch.tokens.size(), " tokens came with ", batch.targets.size(), " targets");
    require(batch.tasks.size() == static_cast<std::size_t>(batch.rows), "a batch of ", batch.rows, " rows came with ", batch.tasks.size(), " tasks");
    for (int r = 0; r < batch.rows; ++r) {
      const auto task = static_cast<int>(batch.tasks[static_cast<std::size_t>(r)]);
      require(task < task_count, "row ", r, " of a batch is of task ", task, ", and there are tasks 0 to ", task_count - 1, ": Batch::tasks holds values of Task");
      const std::size_t begin = targets_.size();
      for (int t = 0; t < batch.length; ++t) {
        const std::int32_t n = r * batch.length + t, target = batch.targets[static_cast<std::size_t>(n)];
        if (target < 0) continue;
        require(target < vocab, "row ", r, " has target ", target, " at token ", t, ", and the model's vocabulary ends at ", vocab - 1,
                ": the data were made with another tokenizer");
        rows_.push_back(n), targets_.push_back(target);
      }
      const std::size_t count = targets_.size() - begin;
      weights_.insert(weights_.end(), count, static_cast<A>(count ? row_weight / static_cast<double>(count) : 0));
      row_end_.push_back(targets_.size());
    }
    put(device, device_rows_, rows_), put(device, device_targets_, targets_), put(device, device_weights_, weights_);
    if (device_losses_.size() < count()) device_losses_ = Buffer<A, D>(device, count(), "batch");
  }

  std::int64_t count() const { return static_cast<std::int64_t>(targets_.size()); }
  ScoredTokens<A> scored() const { return {{device_rows_.data(), count()}, {device_targets_.data(), count()}, {device_weights_.data(), count()}}; }
  View<A, 1> losses() const { return {device_losses_.data(), count()}; }

  /// Adds the losses that the head wrote to `summary`.
  void collect(D& device, LossSummary& summary) {
    losses_.resize(targets_.size());
    if (count()) device.copy_out(losses_.data(), device_losses_.data(), losses_.size() * sizeof(A));
    std::size_t begin = 0;
    for (std::size_t r = 0; r < row_end_.size(); begin = row_end_[r++]) {
      double nats = 0;
      for (std::size_t i = begin; i < row_end_[r]; ++i) nats += static_cast<double>(losses_[i]);
      const std::size_t tokens = row_end_[r] - begin;
      const double mean = tokens ? nats / static_cast<double>(tokens) : 0;
      TaskLoss& task = summary.tasks[static_cast<std::size_t>(tasks_[r])];
      task.loss += mean, ++task.rows;
      summary.nats += nats, summary.tokens += static_cast<std::int64_t>(tokens);
      summary.row_means += mean, ++summary.rows;
    }
  }

  /// Loss of each scored token of the last collect(), in the order of the batch.
  const std::vector<A>& token_losses() const { return losses_; }

 private:
  template <class E>
  static void put(D& device, Buffer<E, D>& buffer, const std::vector<E>& values) {
    if (buffer.size() < static_cast<std::int64_t>(values.size())) buffer = Buffer<E, D>(device, static_cast<std::int64_t>(values.size()), "batch");
    if (!values.empty()) device.copy_in(buffer.data(), values.data(), values.size() * sizeof(E));
  }

  std::vector<std::int32_t> rows_, targets_;
  std::vector<A> weights_, losses_;
  std::vector<std::size_t> row_end_;
  std::vector<Task> tasks_;
  Buffer<std::int32_t, D> device_rows_, device_targets_;
  Buffer<A, D> device_weights_, device_losses_;
};

}  // namespace golem
