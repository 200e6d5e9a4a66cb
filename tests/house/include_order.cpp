// Includes point one way only: core <- config <- { cpu, cuda, comm, data, io, report }, nn <- quant <- { train, infer } <- eval.
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <set>

#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

/// Architecture section 1: the folders that each folder may include.
const std::map<std::string, std::set<std::string>> lower_folders{
    {"core", {"core"}},
    {"config", {"core", "config"}},
    {"cpu", {"core", "config", "cpu"}},
    {"cuda", {"core", "config", "cuda"}},
    {"comm", {"core", "config", "comm"}},
    {"data", {"core", "config", "data"}},
    {"io", {"core", "config", "io"}},
    {"report", {"core", "config", "report"}},
    {"nn", {"core", "config", "comm", "nn"}},
    {"quant", {"core", "config", "comm", "nn", "quant"}},
    {"train", {"core", "config", "comm", "nn", "quant", "train"}},
    {"infer", {"core", "config", "comm", "nn", "quant", "infer"}},
    {"eval", {"core", "config", "comm", "nn", "quant", "train", "infer", "eval"}},
};

/// Section 6: the files that may include each library; what no file may include has an empty pattern.
const std::map<const char*, const char*> libraries{
    {"^omp\\.h$", "^(cpu/|doctor\\.hpp)"},
    {"^(oneapi/dnnl/)?dnnl\\w*\\.h$", "^(cpu/gemm_onednn\\w*|doctor)\\.hpp"},
    {"^(cuda|cublas|nvtx)\\w*(/.*)?\\.h$", "^cuda/"},
    {"^nccl\\.h$", "^comm/nccl"},
    {"^mpi\\.h$", "^comm/mpi"},
    {"^sentencepiece", "^data/tokenizer(_any|_icetk)?\\.hpp"},
    {"^nlohmann/", "^(io|report)/"},
    {"^(dnnl\\.hpp|oneapi/dnnl/dnnl\\.hpp|CLI/|yaml-cpp/|httplib|catch2/|benchmark/|cub/|thrust/|cute/|cutlass/)", "^$"},
};

bool allowed(const std::string& file, const std::string& other) {
  const std::string from = folder_of(file), to = folder_of(other);
  if (other == "version.hpp") return true;
  if (file == "golem_fwd.hpp") return other == "config/layout.hpp";
  if (from.empty()) return file != "version.hpp" && (file == "golem.cuh" || !matches(other, "\\.cuh$"));  // the umbrellas and the doctor
  if (matches(file, "\\.hpp$") && matches(other, "\\.cuh$")) return false;                                // g++ compiles a .hpp
  if (other == "golem_fwd.hpp") return from != "core";
  if (matches(file, "^comm/nccl\\w*\\.hpp$") && (other == "cuda/runtime.hpp" || other == "cuda/way_out.hpp")) return true;
  const auto lower = lower_folders.find(from);
  return lower != lower_folders.end() && lower->second.contains(to);
}

Complaints wrong_includes(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, lines] : tree) {
    if (!is_header(path)) continue;
    const std::string file = inside_golem(path), folder = folder_of(file);
    if (!folder.empty() && !lower_folders.contains(folder)) complaints.push_back(path + ": no such folder in the house");
    for (const std::string& name : includes_of(lines)) {
      if (name.starts_with("golem/")) {
        if (!allowed(file, name.substr(6))) complaints.push_back(path + " may not include " + name);
        continue;
      }
      if (name.ends_with(".hpp") && name.find('/') == std::string::npos && !matches(name, "^(dnnl|httplib)"))
        complaints.push_back(path + ": write the whole path of " + name);
      for (const auto& [library, where] : libraries)
        if (matches(name, library) && !matches(file, where)) complaints.push_back(path + " may not include <" + name + ">");
      if (matches(folder, "^(core|config|cpu|nn)$") && matches(name, "^(iostream|regex|ranges|functional|filesystem)$"))
        complaints.push_back(path + ": <" + name + "> costs too much compile time in " + folder + "/");
    }
  }
  return complaints;
}

/// How many complaints a tree of this one file gives.
std::size_t complaints_about(const std::string& file, const std::string& include) {
  return wrong_includes({{"include/golem/" + file, {"// A file.", "// SPDX-License-Identifier: Apache-2.0", "#pragma once", "#include " + include}}})
      .size();
}

}  // namespace

TEST_CASE("each header includes lower folders only, and libraries where they belong") {
  const Tree tree = read_repository();
  CHECK(tree.contains("include/golem/core/error.hpp"));
  CHECK(listed(wrong_includes(tree)) == "");
}

TEST_CASE("an include that points up or sideways is reported") {
  CHECK(complaints_about("core/a.hpp", "\"golem/config/model.hpp\"") == 1);
  CHECK(complaints_about("core/a.hpp", "\"golem/golem_fwd.hpp\"") == 1);
  CHECK(complaints_about("config/a.hpp", "\"golem/cpu/device.hpp\"") == 1);
  CHECK(complaints_about("cpu/a.hpp", "\"golem/nn/block.hpp\"") == 1);
  CHECK(complaints_about("io/a.hpp", "  <golem/report/chart.hpp>") == 1);
  CHECK(complaints_about("nn/a.hpp", "\"golem/cpu/norm.hpp\"") == 1);
  CHECK(complaints_about("nn/a.hpp", "\"golem/quant/absmax.hpp\"") == 1);
  CHECK(complaints_about("train/a.hpp", "\"golem/infer/engine.hpp\"") == 1);
  CHECK(complaints_about("train/a.hpp", "\"golem/data/loader.hpp\"") == 1);
  CHECK(complaints_about("eval/a.hpp", "\"golem/io/checkpoint.hpp\"") == 1);
  CHECK(complaints_about("core/a.hpp", "\"golem/golem.hpp\"") == 1);
  CHECK(complaints_about("eval/a.hpp", "\"golem/doctor.hpp\"") == 1);
  CHECK(complaints_about("cuda/a.hpp", "\"golem/cuda/norm.cuh\"") == 1);
  CHECK(complaints_about("comm/mpi.hpp", "\"golem/cuda/runtime.hpp\"") == 1);
  CHECK(complaints_about("comm/nccl.hpp", "\"golem/cuda/device.hpp\"") == 1);
  CHECK(complaints_about("golem_fwd.hpp", "\"golem/config/model.hpp\"") == 1);
  CHECK(complaints_about("golem.hpp", "\"golem/cuda/norm.cuh\"") == 1);
  CHECK(complaints_about("extra/a.hpp", "<vector>") == 1);
  CHECK(complaints_about("core/a.hpp", "\"error.hpp\"") == 1);
}

TEST_CASE("a library in the wrong place is reported") {
  CHECK(complaints_about("nn/a.hpp", "<functional>") == 1);
  CHECK(complaints_about("core/a.hpp", "<omp.h>") == 1);
  CHECK(complaints_about("cpu/norm.hpp", "<dnnl.h>") == 1);
  CHECK(complaints_about("cpu/gemm_onednn.hpp", "<dnnl.hpp>") == 1);
  CHECK(complaints_about("train/a.hpp", "<nlohmann/json.hpp>") == 1);
  CHECK(complaints_about("data/corpus.hpp", "<sentencepiece_processor.h>") == 1);
  CHECK(complaints_about("cuda/a.cuh", "<cub/cub.cuh>") == 1);
  CHECK(complaints_about("comm/self.hpp", "<mpi.h>") == 1);
}

TEST_CASE("what the house allows is not reported") {
  CHECK(complaints_about("comm/nccl_runtime.hpp", "\"golem/cuda/runtime.hpp\"") == 0);
  CHECK(complaints_about("comm/nccl_session.hpp", "\"golem/cuda/way_out.hpp\"") == 0);
  CHECK(complaints_about("eval/a.hpp", "\"golem/infer/engine.hpp\"") == 0);
  CHECK(complaints_about("train/a.hpp", "\"golem/golem_fwd.hpp\"") == 0);
  CHECK(complaints_about("core/a.hpp", "\"golem/version.hpp\"") == 0);
  CHECK(complaints_about("golem.cuh", "\"golem/cuda/norm.cuh\"") == 0);
  CHECK(complaints_about("cpu/gemm_onednn.hpp", "<dnnl.h>") == 0);
  CHECK(complaints_about("io/a.hpp", "<filesystem>") == 0);
}

}  // namespace house
