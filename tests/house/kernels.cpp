// What every kernel keeps: its first statement waits for the kernels before it, which it may be started beside.
// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

constexpr std::string_view kernel = "__global__ void", first_statement = "ptx::begin_kernel();";

/// Where the body of the kernel that is declared at `from` begins, behind its brace.
std::size_t body_behind(const std::string& text, std::size_t from) {
  int depth = 0;
  for (std::size_t i = from; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')') --depth;
    if (text[i] == '{' && depth == 0) return i + 1;
  }
  return text.size();
}

Complaints hasty_kernels(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, lines] : tree) {
    if (!matches(path, "^include/.*\\.cuh$")) continue;
    std::string text;
    for (const std::string& line : lines) text += line + '\n';
    for (std::size_t at = text.find(kernel); at != std::string::npos; at = text.find(kernel, at + 1)) {
      const std::size_t statement = text.find_first_not_of(" \n", body_behind(text, at));
      if (statement == std::string::npos || (text[statement] != '}' && text.compare(statement, first_statement.size(), first_statement) != 0))
        complaints.push_back(path + ": a kernel does not begin with " + std::string(first_statement));
    }
  }
  return complaints;
}

}  // namespace

TEST_CASE("each kernel waits for those before it, first of all") { CHECK(listed(hasty_kernels(read_repository())) == ""); }

TEST_CASE("a kernel that does something before it waits is reported") {
  const auto complaints_of = [](Lines lines) { return hasty_kernels({{"include/golem/cuda/one.cuh", std::move(lines)}}).size(); };
  CHECK(complaints_of({"__global__ void __launch_bounds__(smaller(2, 3)) one(int* x) {", "  ptx::begin_kernel();", "  *x = 1;", "}"}) == 0);
  CHECK(complaints_of({"__global__ void one(int* x) {", "  if (!x) return;", "  ptx::begin_kernel();", "}"}) == 1);
  CHECK(complaints_of({"__global__ void one(int* x) { *x = 1; }", "__global__ void nothing() {}"}) == 1);
}

}  // namespace house
