// golem checkpoints: save what a Stateful shows, load it back exactly, or load the weights alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_reader.hpp"
#include "golem/io/checkpoint_writer.hpp"
#include "golem/io/printable.hpp"

namespace golem {

/// Saves a state as root/step-XXXXXXXX and makes it root/latest. A crash at any moment leaves the checkpoints before it, or this one, whole.
/// Of many ranks (CheckpointOptions::rank, ranks, barrier) each calls it with its part of the state: tensors as the slices that it has, of which
/// those of the owner are saved, and scalars, of which rank 0's are. The folder of the checkpoint. Errors: see CheckpointSave.
template <Stateful S>
std::string save(const std::string& root, std::int64_t step, S& state, const CheckpointOptions& options = {}) {
  checkpoint::Collector collector;
  state.visit_state(collector);
  return write_checkpoint(root, step, std::move(collector.contents), options);
}

namespace checkpoint {

/// Scalars by name.
struct Scalars {
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;
};

/// First visit of a load: compares tensors, and tries the stored scalars, since the state may refuse some.
class Comparison : public StateVisitor {
 public:
  Comparison(const CheckpointReader& reader, int ranks) : reader_(reader), ranks_(ranks) {}
  void integer(std::string_view name, std::int64_t& value) override { attempt(reader_.state().integers, before_.integers, name, value, "integer"); }
  void real(std::string_view name, double& value) override { attempt(reader_.state().reals, before_.reals, name, value, "real"); }
  void text(std::string_view name, std::string& value) override { attempt(reader_.state().texts, before_.texts, name, value, "text"); }
  void tensor(const TensorState& tensor) override {
    visited_.insert(tensor.name);
    reader_.check(tensor);
  }
  bool loading() const override { return false; }

  /// Throws Error where the checkpoint holds what the state did not ask for.
  void finish() const {
    if (ranks_ == 1)
      for (const std::string& name : reader_.names()) known(name, "tensor");
    for (const auto& [name, value] : reader_.state().integers) known(name, "integer");
    for (const auto& [name, value] : reader_.state().reals) known(name, "real");
    for (const auto& [name, value] : reader_.state().texts) known(name, "text");
  }
  /// What the state's own scalars were.
  const Scalars& before() const { return before_; }

 private:
  template <class Values, class Value>
  void attempt(const Values& stored, Values& before, std::string_view name, Value& value, std::string_view kind) {
    visited_.emplace(name);
    const auto found = stored.find(std::string(name));
    require(found != stored.end(), "the checkpoint '", reader_.folder(), "' has no ", kind, " '", name, "', which this state has: it was saved by another one, or by another version of golem");
    before.emplace(name, value);
    value = found->second;
  }
  void known(const std::string& name, std::string_view kind) const {
    require(visited_.contains(name), "the checkpoint '", reader_.folder(), "' has the ", kind, " '", printable(name),
            "', which this state does not: it was saved by another one");
  }
  const CheckpointReader& reader_;
  int ranks_;
  std::set<std::string, std::less<>> visited_;
  Scalars before_;
};

/// Visit of a load that cannot be: gives the state its own scalars back.
class Undo : public StateVisitor {
 public:
  explicit Undo(const Scalars& before) : before_(before) {}
  void integer(std::string_view name, std::int64_t& value) override { give_back(before_.integers, name, value); }
  void real(std::string_view name, double& value) override { give_back(before_.reals, name, value); }
  void text(std::string_view name, std::string& value) override { give_back(before_.texts, name, value); }
  void tensor(const TensorState&) override {}
  bool loading() const override { return false; }

 private:
  template <class Values, class Value>
  static void give_back(const Values& before, std::string_view name, Value& value) {
    if (const auto found = before.find(std::string(name)); found != before.end()) value = found->second;
  }
  const Scalars& before_;
};

/// Second visit: writes into the state.
class Restore : public StateVisitor {
 public:
  explicit Restore(const CheckpointReader& reader) : reader_(reader) {}
  void integer(std::string_view name, std::int64_t& value) override { value = reader_.state().integers.at(std::string(name)); }
  void real(std::string_view name, double& value) override { value = reader_.state().reals.at(std::string(name)); }
  void text(std::string_view name, std::string& value) override { value = reader_.state().texts.at(std::string(name)); }
  void tensor(const TensorState& tensor) override { reader_.copy(tensor); }
  bool loading() const override { return true; }

 private:
  const CheckpointReader& reader_;
};

/// Either visit of load_weights: passes over scalars and the optimizer's tensors.
class Weights : public StateVisitor {
 public:
  enum class Pass { compare, restore };
  Weights(const CheckpointReader& reader, Pass pass) : reader_(reader), pass_(pass) {}
  void integer(std::string_view, std::int64_t&) override {}
  void real(std::string_view, double&) override {}
  void text(std::string_view, std::string&) override {}
  void tensor(const TensorState& tensor) override {
    if (tensor.name.starts_with(optimizer_prefix)) return;
    if (pass_ == Pass::compare)
      reader_.check(tensor);
    else
      reader_.copy(tensor);
  }
  bool loading() const override { return pass_ == Pass::restore; }

 private:
  const CheckpointReader& reader_;
  Pass pass_;
};

}  // namespace checkpoint

/// Loads the checkpoint at `path`, or the latest of the run's folder `path`, and returns its step. The state visited must have the tensors, types,
/// shapes and scalars that were saved, and no others. Throws Error, with the state as it was, for anything missing, unexpected, altered, of another
/// model, or not finite. Many ranks, whatever layout it was saved at, each load the slices that they have (LoadOptions::ranks).
template <Stateful S>
std::int64_t load(const std::string& path, S& state, const LoadOptions& options = {}) {
  const CheckpointReader reader(path, options);
  checkpoint::Comparison comparison(reader, options.ranks);
  try {
    state.visit_state(comparison);
    comparison.finish();
  } catch (...) {
    checkpoint::Undo undo(comparison.before());
    state.visit_state(undo);
    throw;
  }
  checkpoint::Restore restore(reader);
  state.visit_state(restore);
  return reader.state().step;
}

/// Loads tensors alone, for inference or to begin another run with: scalars and tensors named "optimizer..." are left as they are, and what else the
/// checkpoint holds is passed over. The optimizer's files need not be there.
template <Stateful S>
std::int64_t load_weights(const std::string& path, S& state, LoadOptions options = {}) {
  options.part = CheckpointPart::model;
  const CheckpointReader reader(path, options);
  for (const auto pass : {checkpoint::Weights::Pass::compare, checkpoint::Weights::Pass::restore}) {
    checkpoint::Weights weights(reader, pass);
    state.visit_state(weights);
  }
  return reader.state().step;
}

}  // namespace golem
