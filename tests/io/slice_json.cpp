// Slices and parts in JSON: exact there and back, each fault in a sentence, and no damaged text is a slice outside its tensor.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/slice_json.hpp"

#include "catch.hpp"
#include "core/random_slices.hpp"
#include "golem/io/rank_part.hpp"
#include "io/files.hpp"

using golem::DType, golem::Slice, golem::SliceOf;
using test::error_of, test::has;

namespace {

const SliceOf glu{"up \"weight\"", {22, 3}, {{{2, 4}, {13, 4}}, {0, 3}, {5, 7}}};

std::string slice_error(const std::string& text) {
  return error_of([&] { golem::parse_slice_of(text, "'x', tensor 'w'"); });
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = golem::format_slice_of(glu, "x");
  return text.replace(text.find(from), from.size(), to);
}

golem::RankPart example_part() {
  golem::RankPart part;
  part.save = "12-345-6", part.rank = 3;
  part.files = {{"model-rank00003-00001-of-00001.safetensors", {123, std::string(64, 'a')}}};
  part.tensors = {{glu.tensor, DType::bf16, glu.shape, glu.slice, "model-rank00003-00001-of-00001.safetensors"},
                  {"norm", DType::f32, {5}, golem::whole_slice({5, 1}), ""}};
  return part;
}

}  // namespace

TEST_CASE("a slice reads back from JSON") {
  CHECK(golem::format_slice_of(glu, "x") == R"({"columns":[0,3],"elements":[5,7],"rows":[[2,4],[13,4]],"shape":[22,3],"tensor":"up \"weight\""})");
  test::SliceDice dice(3);
  for (int i = 0; i < 300; ++i) {
    const golem::MatrixExtent extent{1 + dice(9), 1 + dice(7)};
    const SliceOf part{"w", {extent.rows, extent.columns}, test::random_slice(extent, dice)};
    if (part.slice.size() == 0) continue;
    const SliceOf back = golem::parse_slice_of(golem::format_slice_of(part, "x"), "x");
    REQUIRE((back.tensor == "w" && back.shape == part.shape && back.slice == part.slice));
  }
  CHECK(golem::stored_shape(glu) == std::vector<std::int64_t>{7});
  CHECK(golem::stored_shape({"w", {22, 3}, {{{2, 4}, {13, 4}}, {0, 2}, {0, 16}}}) == std::vector<std::int64_t>{8, 2});
  CHECK(golem::stored_shape({"w", {22}, {{{2, 4}, {}}, {0, 1}, {0, 4}}}) == std::vector<std::int64_t>{4});
}

TEST_CASE("each fault of a slice has its sentence") {
  CHECK(slice_error(with("", "")) == "no error");
  CHECK(has(slice_error("[]"), "'x', tensor 'w': expected an object of tensor, shape, rows, columns and elements"));
  CHECK(has(slice_error(with("\"tensor\"", "\"tensors\"")), "'tensor' is missing"));
  CHECK(has(slice_error(with("[2,4]", "[2]")), "a run of it is no array of begin and count"));
  CHECK(has(slice_error(with("[2,4]", "[2,-4]")), "no whole number from 0 to 2^63-1"));
  CHECK(has(slice_error(with("[2,4]", "[2,9223372036854775808]")), "no whole number from 0 to 2^63-1"));
  CHECK(has(slice_error(with("[2,4]", "[2,9223372036854775807]")), "rows beyond the 22"));
  CHECK(has(slice_error(with("[2,4],", "")), "'rows' has 1 runs, expected 2"));
  CHECK(has(slice_error(with("[5,7]", "[5,0]")), "a slice of no elements"));
  CHECK(has(slice_error(with("[5,7]", "[5,20]")), "elements beyond the 24"));
  CHECK(has(slice_error(with("[22,3]", "[22,9223372036854775807]")), "more elements than any memory"));
}

TEST_CASE("a part reads back from JSON, and its faults are named") {
  const std::string text = golem::format_rank_part(example_part(), "x");
  const golem::RankPart back = golem::parse_rank_part(text, "x");
  CHECK(golem::format_rank_part(back, "x") == text);
  CHECK(back.rank == 3);
  CHECK(back.tensors[0].slice == glu.slice);
  CHECK(back.tensors[1].file.empty());
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return error_of([&] { golem::parse_rank_part(changed, "'part'"); });
  };
  CHECK(has(error("golem checkpoint part", "else"), "'part': it does not say that it is a part of a golem checkpoint"));
  CHECK(has(error("\"BF16\"", "\"F8\""), "'part', tensor 'up \"weight\"': element type 'F8' is none of"));
  CHECK(has(error("\"file\":\"model", "\"file\":\"other"), "which is no file of the part"));
  CHECK(has(error("\"rank\":3", "\"rank\":-3"), "no whole number from 0 to 2^63-1"));
  CHECK(has(error("[2,4]", "[20,4]"), "rows beyond"));
}

TEST_CASE("a damaged slice is refused, or lies inside its tensor") {
  const std::string text = golem::format_slice_of(glu, "x"), part = golem::format_rank_part(example_part(), "x");
  test::Dice dice(22);
  int parsed = 0;
  for (int i = 0; i < 30000; ++i) {
    SliceOf back;
    if (error_of([&] { back = golem::parse_slice_of(test::mutated(text, dice), "x"); }) == "no error") {
      ++parsed;
      const golem::MatrixExtent extent = golem::matrix_extent(back.shape, "x");
      std::int64_t elements = 0;
      for (const auto& block : golem::SliceBlocks(back.slice)) {
        REQUIRE((block.rows.begin >= 0 && block.rows.end() <= extent.rows && block.columns.begin >= 0 && block.columns.end() <= extent.columns));
        elements += block.rows.count * block.columns.count;
      }
      REQUIRE((elements > 0 && elements == back.slice.size()));
    }
    if (i % 10 == 0) error_of([&] { golem::prove_parts_complete({golem::parse_rank_part(test::mutated(part, dice), "x")}, "x"); });
  }
  CHECK(parsed > 300);
  CHECK(parsed < 15000);
}
