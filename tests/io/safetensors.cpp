// Safetensors: what is written reads back; each way that a file can be wrong has its sentence; random damage never does harm.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/safetensors.hpp"

#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "golem/io/safetensors_writer.hpp"
#include "io/files.hpp"

using golem::DType, golem::TensorState;
using test::error_of, test::has;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

golem::SafetensorsHeader header_of(const std::string& file) { return golem::parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors"); }

std::string header_error(const std::string& header, const std::string& data) {
  return error_of([&] { header_of(file_of(header, data)); });
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape, const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + type + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets + "]}";
}

}  // namespace

TEST_CASE("a safetensors file holds every type and shape, and gives them back") {
  const test::Folder folder;
  std::vector<std::byte> memory(8 * 64);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 7 + 1);
  std::vector<TensorState> tensors;
  for (const DType type : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8})
    tensors.push_back({golem::sentence("weight.", golem::name_of(type)), type, {3, 1, 5}, memory.data(), 15u * golem::size_of(type)});
  tensors.push_back({"scalar", DType::f32, {}, memory.data() + 4, 4});
  tensors.push_back({"empty", DType::f32, {0, 4}, nullptr, 0});
  tensors.push_back({"\"quoted\" \xe6\x99\xba", DType::u8, {7}, memory.data() + 9, 7});

  const std::string path = folder / "all.safetensors";
  golem::SafetensorsWriter writer(path, tensors, {{"format", "pt"}, {"note", "a \"text\""}});
  for (const TensorState& tensor : tensors) writer.write(tensor);
  const std::string digest = writer.finish(), text = test::read(path);
  CHECK(digest == golem::sha256_hex(text.data(), text.size()));
  CHECK(writer.size() == text.size());

  const golem::SafetensorsFile file(path);
  CHECK(file.tensors().size() == tensors.size());
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"note", "a \"text\""}});
  CHECK((file.bytes(*file.find("weight.f64")).data() - file.content().data()) % 8 == 0);
  for (const TensorState& tensor : tensors) {
    const golem::StoredTensor* found = file.find(tensor.name);
    REQUIRE(found);
    CHECK(found->type == tensor.type);
    CHECK(found->shape == tensor.shape);
    REQUIRE(found->bytes() == tensor.bytes);
    CHECK((tensor.bytes == 0 || std::memcmp(file.bytes(*found).data(), tensor.data, tensor.bytes) == 0));
  }
  CHECK(file.find("absent") == nullptr);
}

TEST_CASE("a safetensors writer refuses what no reader could read") {
  const test::Folder folder;
  float number = 1;
  const TensorState one{"one", DType::f32, {1}, &number, 4};
  const std::string path = folder / "x";
  CHECK(has(error_of([&] { golem::SafetensorsWriter(path, {one, one}); }), "the name is taken"));
  CHECK(has(error_of([&] { golem::SafetensorsWriter(path, {{"one", DType::f32, {2}, &number, 4}}); }), "its shape and type make 8"));
  CHECK(has(error_of([&] { golem::SafetensorsWriter(path, {{"\xff", DType::f32, {1}, &number, 4}}); }), "UTF-8"));
  CHECK(has(error_of([&] { golem::SafetensorsWriter(path, {one}).write({"two", DType::f32, {1}, &number, 4}); }), "was announced"));
  CHECK(has(error_of([&] { golem::SafetensorsWriter(path, {one}).finish(); }), "0 of its 1"));
}

TEST_CASE("each fault of a safetensors file has its sentence") {
  const std::string eight(8, 'x'), good = entry("a", "F32", "2", "0,8");
  CHECK(header_of(file_of("{" + good + "}", eight)).tensors.size() == 1);
  CHECK(header_of(file_of("{}   ", "")).tensors.empty());

  CHECK(has(error_of([] { header_of("1234567"); }), "'x.safetensors' is no safetensors file: it has 7 bytes"));
  CHECK(has(error_of([] { header_of(std::string(20, '\x7f')); }), "at offset 0 it announces a header of"));
  CHECK(has(error_of([] { header_of(file_of("{}", "").substr(0, 9)); }), "header of 2 bytes begins at offset 8, but the file has 9"));
  CHECK(has(header_error("[]", ""), "does not begin with '{'"));
  CHECK(has(header_error("{", ""), "no valid JSON"));
  CHECK(has(header_error("{" + good + "," + good + "}", eight), "the name 'a' is given twice"));
  CHECK(has(header_error(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight), "'dtype' is given twice"));
  CHECK(has(header_error("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}", ""), "more than 4 deep"));
  CHECK(has(header_error(R"({"a":3})", ""), "expected an object with dtype"));
  CHECK(has(header_error(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", eight), "tensor 'a': 'dtype' is missing"));
  CHECK(has(header_error("{" + entry("a", "F8_E4M3", "8", "0,8") + "}", eight), "element type 'F8_E4M3' is none of"));
  CHECK(has(header_error("{" + entry("a", "F32", "-2", "0,8") + "}", eight), "a dim is no whole number"));
  CHECK(has(header_error("{" + entry("a", "F32", "2.0", "0,8") + "}", eight), "a dim is no whole number"));
  CHECK(has(header_error("{" + entry("a", "F32", "9223372036854775808", "0,8") + "}", eight), "a dim is 9223372036854775808"));
  CHECK(has(header_error("{" + entry("a", "F32", "4294967296,4294967296", "0,8") + "}", eight), "more elements than any file"));
  CHECK(has(header_error("{" + entry("a", "F32", "3", "0,8") + "}", eight), "do not span the 12 bytes"));
  CHECK(has(header_error("{" + entry("a", "F32", "2", "8,0") + "}", eight), "do not span the 8 bytes"));
  CHECK(has(header_error("{" + entry("a", "F32", "2", "0,8,16") + "}", eight), "data_offsets has 3 numbers"));
  CHECK(has(header_error("{" + entry("a", "U8", "8", "0,18446744073709551616") + "}", eight), "an offset is no whole number"));
  CHECK(has(header_error("{" + entry("a", "F32", "1", "4,8") + "}", eight), "there is a gap"));
  CHECK(has(header_error("{" + good + "," + entry("b", "F32", "1", "4,8") + "}", eight), "two tensors overlap"));
  CHECK(has(header_error("{" + good + "}", eight + "y"), "has 9 bytes, expected 8"));
  CHECK(has(header_error("{" + good + "}", eight.substr(1)), "is truncated"));
  CHECK(has(header_error(R"({"__metadata__":{"a":1}})", ""), "expected a text"));
  CHECK(header_of(file_of("{" + entry("a", "F32", "0,9223372036854775807,8", "0,0") + "}", "")).tensors[0].bytes() == 0);
}

TEST_CASE("a damaged safetensors file gives an error, or tensors that lie inside it") {
  const std::string file = file_of("{\"__metadata__\":{\"format\":\"pt\"}," + entry("a.weight", "F32", "2,3", "0,24") + "," +
                                       entry("b.bias", "BF16", "4", "24,32") + "," + entry("c", "U8", "", "32,33") + "}  ",
                                   std::string(33, 'z'));
  test::Dice dice(130);
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string damaged = test::mutated(file, dice);
    golem::SafetensorsHeader header;
    if (error_of([&] { header = header_of(damaged); }) != "no error") continue;
    ++parsed;
    for (const golem::StoredTensor& tensor : header.tensors) REQUIRE(header.data_start + tensor.end <= damaged.size());
  }
  CHECK(parsed > 100);
  CHECK(parsed < 10000);
}
