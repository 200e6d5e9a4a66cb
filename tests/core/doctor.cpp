// The doctor's report: its lines are true of this build, and each thing that is missing gives one hint.
// SPDX-License-Identifier: Apache-2.0
#include "golem/doctor.hpp"

#include <algorithm>
#include <string>

#include "catch.hpp"

namespace {

/// A build and a machine of which nothing is to be said.
golem::Diagnosis healthy() {
  golem::Diagnosis d;
  d.golem = "0.1.0", d.compiler = "g++ 12.2.0", d.standard = "C++20";
  d.optimised = true;
  d.isa = golem::cpu::Isa::avx512_bf16;
  d.hardware_threads = d.openmp_threads = 8;
  d.openmp = "4.5", d.onednn = d.onednn_library = "2.6.3";
  d.memory = std::int64_t{16} << 30, d.memory_free = std::int64_t{8} << 30;
  return d;
}

/// The one hint that `change` brings about.
template <class Change>
std::string hint_of(Change change) {
  golem::Diagnosis d = healthy();
  change(d);
  REQUIRE(d.hints().size() == 1);
  CHECK(d.text().find("hint: " + d.hints()[0] + "\n") != std::string::npos);
  return d.hints()[0];
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the doctor sees this build") {
  const golem::Diagnosis d = golem::doctor();
  CHECK(d.golem == std::to_string(GOLEM_VERSION_MAJOR) + "." + std::to_string(GOLEM_VERSION_MINOR) + "." + std::to_string(GOLEM_VERSION_PATCH));
  CHECK(d.standard == "C++20");
  CHECK(d.isa == golem::cpu::detect_isa());
  CHECK(d.hardware_threads >= 1);
  CHECK(d.memory > d.memory_free);
  CHECK(d.memory_free > 0);
#if defined(_OPENMP)
  CHECK(d.openmp_threads >= 1);
#else
  CHECK(d.openmp.empty());
#endif
  CHECK(d.onednn.empty() == (GOLEM_ONEDNN == 0));
  CHECK(d.onednn_library.empty() == (GOLEM_ONEDNN == 0));
}

TEST_CASE("each line of the text is a key and a value") {
  const std::string text = healthy().text();
  CHECK(healthy().hints().empty());
  CHECK(text ==
        "golem: 0.1.0\ncompiler: g++ 12.2.0\nstandard: C++20\noptimised: yes\ninstruction set: avx512_bf16\nthreads: 8\nOpenMP: 4.5\nOpenMP threads: "
        "8\n"
        "oneDNN: 2.6.3\noneDNN loaded: 2.6.3\nmemory: 16384 MiB, 8192 MiB free\n");
}

TEST_CASE("what is slow or missing gives one hint that says what to do") {
  CHECK(says(hint_of([](auto& d) { d.optimised = false; }), "-O2"));
  CHECK(says(hint_of([](auto& d) { d.openmp = "", d.openmp_threads = 0; }), "-fopenmp"));
  CHECK(says(hint_of([](auto& d) { d.openmp_threads = 1; }), "1 of 8 threads: unset OMP_NUM_THREADS"));
  CHECK(says(hint_of([](auto& d) { d.onednn = d.onednn_library = ""; }), "libdnnl-dev"));
  CHECK(says(hint_of([](auto& d) { d.onednn_library = "3.1.0"; }), "compiled with oneDNN 2.6.3 and loaded 3.1.0"));
  CHECK(says(hint_of([](auto& d) { d.isa = golem::cpu::Isa::plain; }), "plain path"));
  CHECK(says(hint_of([](auto& d) { d.isa = golem::cpu::Isa::avx2; }), "VNNI"));
  CHECK(says(hint_of([](auto& d) { d.memory = 0; }), "/proc/meminfo"));
}
