// pretrain: a GLM from a folder of text: tokenizer, corpus, training with checkpoints, log and chart; or a run that goes on. On one rank or many.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include "device.hpp"
#include "golem/comm/tcp.hpp"
#include "golem/config/stages.hpp"
#ifdef GOLEM_EXAMPLES_MPI
#include "golem/comm/mpi.hpp"
#endif
#include "models.hpp"
#include "pretrain_run.hpp"

int main(int argc, char** argv) {
  examples::PretrainOptions options;
  CLI::App app("Pretrains a GLM on a folder of text, with GLM-130B's objective and recipe.");
  examples::add_options(app, options);
  const examples::CommandLine line = examples::read_command_line(app, argc, argv, options.layout);
  if (line.ends) return line.status;
  if (options.precision == "auto") options.precision = examples::prefers_bf16() ? "bf16" : "fp32";
  return examples::run_pretraining(line, options, [&] {
    examples::PretrainJob job{.training = examples::training_config(options)};
    examples::with_model(options.model, [&]<class M>() {
      job.recipe = examples::recipe_of(options, M::config.context);
      examples::with_training_precision(options.precision, [&]<class P>() {
        examples::with_tensor_degree<M>(options.layout.tp, [&]<int Tp>() { job.run = examples::pretrain<M, P, Tp>; });
      });
      golem::stage_of(M::config, options.layout.pp, options.chunks);
    });
    return job;
  });
}
