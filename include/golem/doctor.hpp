// golem::doctor(): what this build of golem is, what the machine has, and what is slow or missing, as lines to read or to paste.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if GOLEM_ONEDNN
#include <dnnl.h>
#endif

#include "golem/core/error.hpp"
#include "golem/cpu/isa.hpp"
#include "golem/version.hpp"

namespace golem {
inline namespace GOLEM_ABI {
inline namespace GOLEM_THREADS {

/// A build and its machine. Where something is absent, its text is empty and its number 0.
struct Diagnosis {
  std::string golem, compiler, standard;  // "0.1.0", "g++ 12.2.0", "C++20"
  bool optimised = false;                 // -O1 or above
  cpu::Isa isa = cpu::Isa::plain;         // the highest that this processor has
  int hardware_threads = 0;               // what the operating system lets this process use
  int openmp_threads = 0;                 // what OpenMP would start
  std::string openmp;                     // "4.5"
  std::string onednn;                     // of the header: "2.6.3"
  std::string onednn_library;             // of the library that was loaded
  std::int64_t memory = 0;                // bytes
  std::int64_t memory_free = 0;           // bytes that can be had without swapping

  /// One sentence for each thing that is slow or missing, with what to do.
  std::vector<std::string> hints() const;

  /// "key: value" lines, the hints last.
  std::string text() const;
};

/// Looks at this build and this machine. Instantiate it in the program that is slow: another one may be built otherwise.
Diagnosis doctor();

namespace diagnosis {

inline std::string compiler() {
#if defined(__clang__)
  return sentence("clang++ ", __clang_major__, '.', __clang_minor__, '.', __clang_patchlevel__);
#elif defined(__GNUC__)
  return sentence("g++ ", __GNUC__, '.', __GNUC_MINOR__, '.', __GNUC_PATCHLEVEL__);
#else
  return "unknown to golem";
#endif
}

/// _OPENMP is a date; the versions that compilers of C++20 have (openmp.org, "specifications").
inline std::string openmp_version(int date) {
  const char* version = date >= 202411   ? "6.0"
                        : date >= 202111 ? "5.2"
                        : date >= 202011 ? "5.1"
                        : date >= 201811 ? "5.0"
                        : date >= 201511 ? "4.5"
                                         : "below 4.5";
  return date > 0 ? version : "";
}

/// Bytes of one line of Linux's /proc/meminfo; 0 where there is none.
inline std::int64_t memory_line(const char* format) {
  std::FILE* file = std::fopen("/proc/meminfo", "r");
  if (!file) return 0;
  long long kib = 0;
  char line[128];
  while (kib == 0 && std::fgets(line, sizeof line, file)) std::sscanf(line, format, &kib);
  std::fclose(file);
  return kib * 1024;
}

}  // namespace diagnosis

inline Diagnosis doctor() {
  Diagnosis d;
  d.golem = sentence(version.major, '.', version.minor, '.', version.patch);
  d.compiler = diagnosis::compiler();
  d.standard = sentence("C++", __cplusplus / 100 % 100);
#if defined(__OPTIMIZE__)
  d.optimised = true;
#endif
  d.isa = cpu::detect_isa();
  d.hardware_threads = static_cast<int>(std::thread::hardware_concurrency());
#if defined(_OPENMP)
  d.openmp = diagnosis::openmp_version(_OPENMP);
  d.openmp_threads = omp_get_max_threads();
#endif
#if GOLEM_ONEDNN
  d.onednn = sentence(DNNL_VERSION_MAJOR, '.', DNNL_VERSION_MINOR, '.', DNNL_VERSION_PATCH);
  if (const dnnl_version_t* library = dnnl_version()) d.onednn_library = sentence(library->major, '.', library->minor, '.', library->patch);
#endif
  d.memory = diagnosis::memory_line("MemTotal: %lld");
  d.memory_free = diagnosis::memory_line("MemAvailable: %lld");
  return d;
}

inline std::vector<std::string> Diagnosis::hints() const {
  std::vector<std::string> hints;
  if (!optimised) hints.push_back("compiled without optimisation: add -O2, or CMAKE_BUILD_TYPE=Release");
  if (openmp.empty())
    hints.push_back("compiled without OpenMP, so everything runs on one thread: add -fopenmp, or link golem::golem in CMake");
  else if (openmp_threads < hardware_threads)
    hints.push_back(
        sentence("OpenMP would start ", openmp_threads, " of ", hardware_threads, " threads: unset OMP_NUM_THREADS and OMP_THREAD_LIMIT"));
  if (onednn.empty())
    hints.push_back(
        "compiled without oneDNN, so golem's own loops do the f32 and bf16 products: install it (Debian: libdnnl-dev) and configure again");
  else if (onednn != onednn_library)
    hints.push_back(sentence("compiled with oneDNN ", onednn, " and loaded ", onednn_library, ": build again, or mend the library path"));
  if (isa == cpu::Isa::plain)
    hints.push_back("no AVX2 here, so every operation takes its plain path");
  else if (isa < cpu::Isa::avx512_vnni)
    hints.push_back("no AVX-512 VNNI here, so quantised products take the AVX2 path");
  if (memory == 0) hints.push_back("the size of the memory is unknown: no /proc/meminfo here");
  return hints;
}

inline std::string Diagnosis::text() const {
  const auto or_none = [](const std::string& value) { return value.empty() ? std::string("none") : value; };
  const auto mib = [](std::int64_t bytes) { return bytes / (1 << 20); };
  std::string out = sentence("golem: ", golem, "\ncompiler: ", compiler, "\nstandard: ", standard, "\noptimised: ", optimised ? "yes" : "no",
                             "\ninstruction set: ", cpu::name_of(isa), "\nthreads: ", hardware_threads, "\nOpenMP: ", or_none(openmp));
  if (!openmp.empty()) out += sentence("\nOpenMP threads: ", openmp_threads);
  out += sentence("\noneDNN: ", or_none(onednn));
  if (!onednn.empty()) out += sentence("\noneDNN loaded: ", onednn_library);
  out += sentence("\nmemory: ", mib(memory), " MiB, ", mib(memory_free), " MiB free\n");
  for (const std::string& hint : hints()) out += sentence("hint: ", hint, '\n');
  return out;
}

}  // namespace GOLEM_THREADS
}  // namespace GOLEM_ABI
}  // namespace golem
