// checkpoint: looks at released GLM-130B checkpoints and golem's own, proves them sound, cuts them for other ranks, quantises and converts them.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/reshard.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint_line.hpp"
#include "checkpoint_source.hpp"
#include "golem/core/random.hpp"
#include "golem/io/archive_parts.hpp"
#include "golem/io/checkpoint_doctor.hpp"
#include "golem/io/checkpoint_target.hpp"
#include "golem/io/sat_doctor.hpp"
#include "golem/io/sat_target.hpp"
#include "golem/quant/absmax.hpp"

namespace {

struct Options {
  std::string from, to, model, layout, type;
  int heads = 0, tp = 0, bits = 0, layers = 0;
  bool tensors = false, verified = false;
};

golem::DType type_named(const std::string& name) {
  for (const golem::DType type : {golem::DType::f16, golem::DType::bf16, golem::DType::f32})
    if (name == golem::name_of(type)) return type;
  golem::fail("--type takes f16, bf16 or f32, not '", name, "'");
}

// Rows of fp16 to GLM-130B's own format, bit for bit; and what became of them.
struct Quantizer {
  int bits = 0;
  golem::QuantizationReport report{};

  void operator()(const golem::float16* weights, std::int64_t rows, std::int64_t columns, std::uint8_t* bytes, golem::float16* scales) {
    if (bits == 4)
      run<golem::Quant{.bits = 4}>(weights, rows, columns, bytes, scales);
    else
      run<golem::Quant{.bits = 8}>(weights, rows, columns, bytes, scales);
  }
  template <golem::Quant Q>
  void run(const golem::float16* weights, std::int64_t rows, std::int64_t columns, std::uint8_t* bytes, golem::float16* scales) {
    const golem::QuantizedView<Q, std::uint8_t> to(rows, columns, bytes, scales);
    const golem::View<const golem::float16, 2> from(weights, rows, columns);
    constexpr std::int64_t together = 16;  // rows that one thread takes
    std::vector<golem::QuantizationReport> parts(static_cast<std::size_t>((rows + together - 1) / together));
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t part = 0; part < static_cast<std::int64_t>(parts.size()); ++part)
      parts[static_cast<std::size_t>(part)] = golem::quantize_rows(to, from, part * together, std::min(together, rows - part * together));
    for (const golem::QuantizationReport& part : parts) report += part;  // in their order, whatever the threads
  }
};

std::unique_ptr<golem::ReshardTarget> target_of(const std::string& layout, const std::string& to, const std::string& step,
                                                const golem::ReshardPlan& plan, const std::string& content) {
  if (layout == "sat") return std::make_unique<golem::SatTarget>(to, step, plan, content);
  golem::require(layout == "golem", "--layout takes sat, the released layout, or golem, not '", layout, "'");
  std::int64_t number = 0;
  std::from_chars(step.data(), step.data() + step.size(), number);
  return std::make_unique<golem::CheckpointTarget>(to, number, plan, content);
}

void convert(const char* job, const Options& o) {
  examples::Progress progress;
  const examples::CheckpointSource source = examples::open_checkpoint(o.from, o.model, o.heads, o.verified ? examples::Proof::none : examples::Proof::each_file);
  golem::require(source.bits == 0, "'", source.folder,
                 "' is quantised, and its scales are of each rank's rows: start from the checkpoint that it was made from");
  if (source.own && source.described.empty())
    std::fprintf(stderr, "'%s' says nothing of its model but its tensors: it is taken to be %s; name another with --model\n", source.folder.c_str(), golem::describe(source.model).c_str());
  const std::string layout = !o.layout.empty() ? o.layout : source.sat ? "sat" : "golem";
  golem::ReshardPlan plan{.config = source.model,
                          .tp = o.tp > 0          ? o.tp
                                : layout == "sat" ? source.tp
                                                  : 1,
                          .type = layout == "sat" ? golem::DType::f16 : source.type,
                          .model = source.described};
  if (!o.type.empty()) plan.type = type_named(o.type);
  golem::require_divisible(plan.config, plan.tp, golem::sentence("cannot cut '", source.folder, "'"));
  Quantizer quantizer{o.bits};
  if (o.bits > 0) plan.format = {.bits = o.bits, .quantize = quantizer};
  const auto target = target_of(layout, o.to, source.step, plan, source.content);
  const std::size_t resumed = target->completed();
  if (resumed > 0) std::fprintf(stderr, "goes on with what an earlier attempt left: %zu tensors are complete\n", resumed);
  const std::uint64_t bytes = golem::reshard(source.weights(), plan, *target, {.on_progress = progress});
  nlohmann::json line{{"job", job},       {"from", source.folder}, {"to", o.to},     {"layout", layout},           {"ranks_before", source.tp},
                      {"ranks", plan.tp}, {"bits", o.bits},        {"bytes", bytes}, {"resumed_tensors", resumed}, {"model", examples::json_of(plan.config)}};
  if (o.bits > 0)
    line["quantized_by_this_attempt"] = {{"weights", quantizer.report.weights},
                                         {"signal_to_noise_db", quantizer.report.signal_to_noise()},
                                         {"clamped", quantizer.report.clamped},
                                         {"zero_scales", quantizer.report.zero_scales}};
  examples::end_with(std::move(line), progress);
}

void inspect(const Options& o) {
  const examples::Progress progress;
  const examples::CheckpointSource source = examples::open_checkpoint(o.from, o.model, o.heads);
  const golem::ModelConfig& c = source.model;
  std::printf("%s: %s, step %s, %d rank%s, %s\n", source.folder.c_str(), source.sat ? "released layout" : "golem checkpoint", source.step.c_str(),
              source.tp, source.tp > 1 ? "s" : "", source.bits > 0 ? golem::sentence("int", source.bits).c_str() : golem::name_of(source.type));
  std::printf("layers %d, hidden %d, heads %d%s, ffn %d, vocab %d: %lld parameters\n", c.layers, c.hidden, c.heads, c.key_heads() == c.heads ? "" : golem::sentence(", key heads ", c.key_heads()).c_str(), c.ffn, c.vocab,
              static_cast<long long>(golem::parameter_count(c)));
  std::uint64_t bytes = 0, count = 0;
  const auto tell = [&](const std::string& name, golem::DType type, const std::vector<std::int64_t>& shape) {
    std::uint64_t size = static_cast<std::uint64_t>(golem::size_of(type));
    for (const std::int64_t dim : shape) size *= static_cast<std::uint64_t>(dim);
    bytes += size, ++count;
    if (o.tensors)
      std::printf("  %-70s %s %s\n", golem::printable(name).c_str(), golem::name_of(type), golem::safetensors::shape_text(shape).c_str());
  };
  if (source.sat)
    for (const auto& [name, tensor] : source.sat->shard(0).tensors()) tell(name, tensor.type, tensor.shape);
  else
    for (const std::string& name : source.own->reader().names())
      tell(name, source.own->reader().find(name)->type, source.own->reader().find(name)->shape);
  std::printf("%llu tensors, %.2f GB%s\n", static_cast<unsigned long long>(count), static_cast<double>(bytes) / 1e9,
              source.sat ? " on each rank" : "");
  examples::end_with({{"job", "inspect"},
                      {"from", source.folder},
                      {"layout", source.sat ? "sat" : "golem"},
                      {"step", source.step},
                      {"ranks", source.tp},
                      {"bits", source.bits},
                      {"tensors", count},
                      {"bytes", bytes},
                      {"model", examples::json_of(c)}},
                     progress);
}

// Whether there is anything of a golem checkpoint, so that a folder with parts of an archive is looked at for it too.
bool holds_own(const std::string& path) {
  for (const std::string& name : golem::files::names_in(path))
    if (name == "state.json" || name == "latest" || golem::checkpoint::step_of_folder(name) >= 0) return true;
  return false;
}

int verify(const Options& o) {
  examples::Progress progress;
  const bool folder = golem::files::is_folder(o.from);
  const golem::ArchiveParts parts = folder ? golem::examine_archive_parts(o.from) : golem::ArchiveParts{};
  std::vector<std::string> findings = parts.findings;
  nlohmann::json line{{"job", "verify"}, {"from", o.from}};
  if (parts.count > 0) line["layout"] = "parts", line["parts"] = parts.count, line["bytes"] = parts.bytes;
  const golem::ModelConfig model = o.model.empty() ? golem::ModelConfig{} : examples::preset_named(o.model);
  if (!o.model.empty()) examples::require_heads(o.model, o.heads);
  bool sat = true;
  try {
    sat = golem::is_sat_checkpoint(o.from);
  } catch (const golem::Error&) {  // the doctor says it again
  }
  const bool own = !sat && folder;
  if (parts.count == 0 || sat || holds_own(o.from)) {
    const golem::DoctorOptions options{.model = o.model.empty() ? nullptr : &model, .heads = o.heads, .on_progress = progress};
    const auto more = own ? golem::examine_checkpoint(o.from, options) : golem::examine_sat_checkpoint(o.from, options);
    findings.insert(findings.end(), more.begin(), more.end());
    line["layout"] = own ? "golem" : "sat";
  }
  for (const std::string& remark : parts.remarks) std::fprintf(stderr, "%s\n", remark.c_str());
  for (const std::string& finding : findings) std::fprintf(stderr, "%s\n", finding.c_str());
  if (!parts.remarks.empty()) line["remarks"] = parts.remarks;
  line["sound"] = findings.empty(), line["findings"] = findings;
  examples::end_with(std::move(line), progress);
  return findings.empty() ? 0 : 1;
}

// Weights of no model, in the shapes of one: uniform, exact in fp16, different in every tensor.
class RandomWeights : public golem::TensorSource {
 public:
  bool has(const std::string&) const override { return true; }
  void read(const golem::TensorState& wanted) const override {
    const std::int64_t columns = golem::matrix_extent(wanted.shape, wanted.name).columns;
    const std::uint64_t seed = golem::stream_of(wanted.name);
    auto* const to = static_cast<golem::float16*>(wanted.data);
    for (const auto& block : golem::SliceBlocks(*wanted.slice))
      for (std::int64_t r = 0; r < block.rows.count; ++r)
        for (std::int64_t c = 0; c < block.columns.count; ++c) {
          std::uint64_t x = (static_cast<std::uint64_t>((block.rows.begin + r) * columns + block.columns.begin + c) + seed) *
                            0x9e3779b97f4a7c15u;  // a step of SplitMix64
          x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
          to[block.offset + r * block.stride + c] = golem::float16(static_cast<float>(static_cast<std::int64_t>(x >> 53) - 1024) / 32768);
        }
  }
};

void synthesize(const Options& o) {
  examples::Progress progress;
  golem::ModelConfig model = examples::preset_named(o.model.empty() ? "glm_130b" : o.model);
  if (o.layers > 0) model.layers = o.layers;
  const golem::ReshardPlan plan{.config = model, .tp = o.tp > 0 ? o.tp : 8};
  golem::require_divisible(plan.config, plan.tp, "cannot make such a checkpoint");
  const auto target = target_of("sat", o.to, "49300", plan, "random");
  const std::size_t resumed = target->completed();
  const std::uint64_t bytes = golem::reshard(RandomWeights(), plan, *target, {.on_progress = progress});
  examples::end_with({{"job", "synthesize"}, {"to", o.to}, {"ranks", plan.tp}, {"bytes", bytes}, {"resumed_tensors", resumed}, {"model", examples::json_of(model)}},
                     progress);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Released GLM-130B checkpoints (latest, N/mp_rank_0X_model_states.pt) and golem's own: looks at them, proves them, cuts, quantises and "
      "converts them. A line of JSON ends it.");
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* what) {
    CLI::App* const command = app.add_subcommand(name, what);
    command->add_option("--model", o.model, "the preset that it is of: glm_130b, glm_10b, glm_1b, glm_base, glm_small, glm_tiny; else by its shapes");
    return command;
  };
  const auto add_reader = [&](const char* name, const char* what) {
    CLI::App* const command = add(name, what);
    command->add_option("checkpoint", o.from, "a folder with `latest`, the folder of the shards, or a checkpoint of golem")->required();
    command->add_option("--heads", o.heads, "of the model, which no shape tells; else the preset's, or 128 dims each")->check(CLI::PositiveNumber);
    return command;
  };
  const auto add_converter = [&](const char* name, const char* what) {
    CLI::App* const command = add_reader(name, what);
    command->add_option("--out", o.to, "folder to make; what an earlier attempt left beside it is gone on with")->required();
    command->add_option("--tp", o.tp, "tensor-parallel ranks of the new one; else as many as before")->check(CLI::PositiveNumber);
    command->add_option("--layout", o.layout, "sat, the released one, or golem; else as before");
    command->add_flag("--verified", o.verified, "do not compare what is read with its CRCs or digests: for what `verify` has just found sound");
    return command;
  };
  add_reader("inspect", "what is in a checkpoint")->add_flag("--tensors", o.tensors, "list every tensor");
  add_reader("verify", "the doctor: looks at every byte, and tells all that is wrong");
  add_converter("reshard", "the same model for another number of ranks")->get_option("--tp")->required();
  add_converter("quantize", "linear weights to INT8 or INT4, with a scale for each row of each rank, as the original stores them")
      ->add_option("--bits", o.bits, "8 or 4")
      ->required()
      ->check(CLI::IsMember({4, 8}));
  add_converter("convert", "from one layout into the other, or into another type")
      ->add_option("--type", o.type, "f16, bf16 or f32; else f16 for sat, and as before for golem");
  CLI::App* const synthesis =
      add("synthesize", "random weights in the shapes of a model, in the released layout: to try all this without the real ones");
  synthesis->add_option("--out", o.to, "folder to make")->required();
  synthesis->add_option("--tp", o.tp, "tensor-parallel ranks; else 8")->check(CLI::PositiveNumber);
  synthesis->add_option("--layers", o.layers, "how many of the model's layers; else all")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  examples::stop_on_signals();
  const std::string job = app.get_subcommands().front()->get_name();
  try {
    if (job == "inspect") inspect(o);
    if (job == "verify") return verify(o);
    if (job == "synthesize") synthesize(o);
    if (job == "reshard" || job == "quantize" || job == "convert") convert(job.c_str(), o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "checkpoint: %s\n", error.what());
    return 1;
  }
}
