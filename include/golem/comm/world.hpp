// World: all ranks of a run as a cube of tensor, data and pipeline ranks, with a group along each axis.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/agreement.hpp"
#include "golem/comm/counting.hpp"
#include "golem/comm/environment.hpp"
#include "golem/comm/group.hpp"
#include "golem/config/layout.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// One rank's place in the cube and its groups. Rank = tensor + tp * (data + dp * stage): tensor fastest, then data, then
/// pipeline (spec 4.1), so that the groups that talk most are nearest. A default-made world is one rank.
class World {
 public:
  World() = default;
  /// Cuts `all` in groups; every rank calls it. Throws Error where all.size() is not tp * pp * dp.
  World(Group all, const Layout& layout) : layout_(layout), all_(std::move(all)) {
    require(layout.tp >= 1 && layout.pp >= 1 && layout.dp >= 1, "a layout of tp ", layout.tp, ", pp ", layout.pp, ", dp ", layout.dp,
            " has a degree below 1");
    if (all_.size() != layout.ranks())
      all_.end_run(sentence("a world of ", all_.size(), all_.size() == 1 ? " rank" : " ranks", " was given a layout of tp ", layout.tp, " x pp ",
                            layout.pp, " x dp ", layout.dp, " = ", layout.ranks(), " ranks: start that many, or choose degrees whose product is ",
                            all_.size()));
    tensor_ = all_.split(data_rank() + layout.dp * stage(), tensor_rank(), "tensor");
    data_ = all_.split(tensor_rank() + layout.tp * stage(), data_rank(), "data");
    pipeline_ = all_.split(tensor_rank() + layout.tp * data_rank(), stage(), "pipeline");
    model_ = all_.split(data_rank(), tensor_rank() + layout.tp * stage(), "model");
    const bool ends = stage() == 0 || stage() == layout.pp - 1;
    tied_ = all_.split(ends ? 1 + tensor_rank() + layout.tp * data_rank() : 0, stage(), "tied");
    if (!ends) tied_ = Group();
  }

  /// The world of this process: all ranks that mpirun, srun or torchrun started; one rank where none did. Throws Error where the way to
  /// communicate is not included, naming the header; for processes, include <golem/comm/mpi.hpp>, or for torchrun <golem/comm/tcp.hpp>. Where processes
  /// are started and make no world, they end, after the sentence has been printed to standard error.
  static World from_env(const Layout& layout, const LaunchOptions& options = {}) {
    const std::shared_ptr<Backend> all = start_ranks(read_environment(), options);
    try {
      return World(Group(all), layout);
    } catch (const std::exception& error) {
      if (all) all->fail_rank(error);
      throw;
    }
  }

  const Layout& layout() const { return layout_; }
  int rank() const { return all_.rank(); }
  int tensor_rank() const { return rank() % layout_.tp; }
  int data_rank() const { return rank() / layout_.tp % layout_.dp; }
  int stage() const { return rank() / layout_.tp / layout_.dp; }

  Group& all() { return all_; }
  Group& tensor() { return tensor_; }      // ranks that share each layer
  Group& data() { return data_; }          // copies of the same shard
  Group& pipeline() { return pipeline_; }  // the stages, in order
  Group& model() { return model_; }        // all that read the same rows
  Group& tied() { return tied_; }          // first and last stage, which both hold the embedding; of one on the stages between

  /// Notes what this rank does now: "forward of micro-batch 3", "loading rows". Some 50 ns; where a rank fails, the run's error quotes it.
  void note(std::int64_t step, std::string_view activity) {
    if (Watch* watch = all_.backend() ? all_.backend()->watch() : nullptr) watch->note(step, activity);
  }

  /// Returns where all ranks give the same text; else ends the run with one sentence that says what differs, and on which ranks.
  void agree(std::string_view what, std::string_view text) { golem::agree(all_, what, text); }

  /// Counts the transfers along each axis from here on. Call it before groups are copied.
  void count() {
    require(counted_.empty(), "the transfers of this world are counted already");
    carry([this](const std::shared_ptr<Backend>& inner) {
      counted_.push_back(std::make_shared<CountedGroup>(inner));
      return counted_.back();
    });
  }
  /// Puts what carrier(backend) returns in the place of the backend of each group of more than one rank. Call it before groups are copied.
  template <class Carrier>
  void carry(const Carrier& carrier) {
    for (Group* group : {&all_, &tensor_, &data_, &pipeline_, &model_, &tied_})
      if (group->size() > 1) *group = Group(carrier(group->backend()));
  }
  /// What this rank has transferred along each axis of more than one rank since count(), by the names of the groups ("world" is all()).
  std::vector<AxisCount> counts() const {
    std::vector<AxisCount> out;
    for (const auto& group : counted_) out.push_back(group->count());
    return out;
  }

 private:
  Layout layout_;
  Group all_, tensor_, data_, pipeline_, model_, tied_;
  std::vector<std::shared_ptr<CountedGroup>> counted_;
};

}  // namespace golem
