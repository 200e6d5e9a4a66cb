// Pickles: the values that torch.save writes, and each thing that a hostile one may try, refused with file, offset and reason.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/pickle.hpp"

#include <string>

#include "catch.hpp"
#include "golem/io/pickle_writer.hpp"
#include "io/files.hpp"

using golem::DType, golem::Pickle, golem::PickleKind;
using namespace std::string_literals;
using test::error_of, test::has;

namespace {

Pickle parse(const std::string& body) { return golem::parse_pickle(std::as_bytes(std::span(body)), "x.pt", 100); }

std::string pickle_error(const std::string& body) {
  return error_of([&] { parse(body); });
}

std::string text(const std::string& value) { return "X" + std::string(1, static_cast<char>(value.size())) + "\0\0\0"s + value; }
std::string integer(std::int64_t value) { return "\x8a\x08"s + std::string(reinterpret_cast<const char*>(&value), 8); }

/// A tensor of fp16 in a storage of `elements`, with this offset, shape and strides, as instructions.
std::string tensor(std::int64_t elements, std::int64_t offset, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  const auto tuple = [](const std::vector<std::int64_t>& values) {
    std::string out = "(";
    for (const std::int64_t value : values) out += integer(value);
    return out + "t";
  };
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nHalfStorage\n" + text("0") + text("cpu") + integer(elements) + "tQ" +
         integer(offset) + tuple(shape) + tuple(strides) + "\x89" + "}tR";
}

std::string error_of_tensor(std::int64_t elements, std::int64_t offset, const std::vector<std::int64_t>& shape,
                            const std::vector<std::int64_t>& strides) {
  return pickle_error("\x80\2" + tensor(elements, offset, shape, strides) + ".");
}

}  // namespace

TEST_CASE("a pickle's values are read, whatever instruction makes them") {
  const Pickle p = parse(
      "\x80\2("
      "K\xff"
      "M\xff\xff"
      "J\xfe\xff\xff\xff"
      "\x8a\1\xfe"
      "\x8a\0"
      "\x8a\x09\1\2\3\4\5\6\7\1\1"
      "G\x3f\xf8\0\0\0\0\0\0"
      "N\x88\x89"
      "U\2ab"
      "]q\0(K\1K\2eK\3a"
      ")K\1\x85K\1K\2\x86K\1K\2K\3\x87"
      "}h\0N0"
      "t."s);
  const auto& items = p.top().items;
  REQUIRE(items.size() == 18);
  const auto value = [&](std::size_t i) -> const golem::PickleValue& { return p.values[items[i]]; };
  const std::int64_t numbers[]{255, 65535, -2, -2, 0};
  for (std::size_t i = 0; i < 5; ++i) CHECK((value(i).kind == PickleKind::integer && value(i).number == numbers[i]));
  CHECK(value(5).kind == PickleKind::large);
  CHECK(value(6).real == 1.5);
  CHECK(value(7).kind == PickleKind::none);
  CHECK((value(8).number == 1 && value(9).number == 0 && value(9).kind == PickleKind::boolean));
  CHECK(value(10).text == "ab");
  CHECK(value(11).items.size() == 3);
  for (std::size_t i = 0; i < 4; ++i) CHECK((value(12 + i).kind == PickleKind::tuple && value(12 + i).items.size() == i));
}

TEST_CASE("dicts of tensors, options and states of generators are read; what is harmless does nothing") {
  const Pickle p = parse("\x80\2}(" + text("module") + "ccollections\nOrderedDict\n)R(" + text("w") + tensor(12, 2, {2, 3}, {4, 1}) + "u" + "}" +
                         text("_metadata") + "Nsb" + text("args") + "cargparse\nNamespace\n)\x81}" + text("lr") + "G" + std::string(8, '\0') + "sb" +
                         text("size") + "ctorch\nSize\nK\2\x85\x85R" + "u.");
  const golem::PickleValue* const module = p.find(p.top(), "module");
  REQUIRE(module);
  const golem::PickleValue* const w = p.find(*module, "w");
  REQUIRE((w && w->kind == PickleKind::tensor));
  const golem::PickledTensor& view = p.tensors[static_cast<std::size_t>(w->number)];
  CHECK((view.offset == 2 && view.shape == std::vector<std::int64_t>{2, 3} && view.strides == std::vector<std::int64_t>{4, 1}));
  CHECK((p.storages[view.storage].type == DType::f16 && p.storages[view.storage].elements == 12 && p.storages[view.storage].key == "0"));
  CHECK(p.find(p.top(), "args")->kind == PickleKind::object);
  CHECK(p.find(p.top(), "size")->kind == PickleKind::tuple);
  CHECK(!p.find(*module, "none"));
  CHECK(!p.find(*w, "module"));
}

TEST_CASE("what golem writes, golem reads") {
  const std::string body = golem::format_pickle({{"a.weight", DType::f16, {3, 5}}, {"b", DType::i8, {7}}, {"empty", DType::f32, {0, 2}}}, "a test");
  const Pickle p = parse(body);
  const golem::PickleValue* const module = p.find(p.top(), "module");
  REQUIRE(module);
  CHECK(module->items.size() == 6);
  CHECK(p.tensors[0].strides == std::vector<std::int64_t>{5, 1});
  CHECK(p.storages[0].elements == 15);
  CHECK((p.storages[1].type == DType::i8 && p.storages[1].key == "1"));
  CHECK(p.find(p.top(), "golem")->text == "a test");
}

TEST_CASE("a pickle that names a function is refused by its name") {
  CHECK(pickle_error("\x80\2cos\nsystem\n(" + text("rm -rf /") + "tR.") ==
        "'x.pt', pickle at offset 102: the pickle names 'os.system', which no checkpoint needs, and which Python would run; do not load this file "
        "anywhere");
  CHECK(has(pickle_error("\x80\2cposix\nsystem\n."), "names 'posix.system'"));
  CHECK(has(pickle_error("\x80\2c__builtin__\neval\n."), "names '__builtin__.eval'"));
  CHECK(has(pickle_error("\x80\2ctorch\nload\n."), "names 'torch.load'"));
  CHECK(has(pickle_error("\x80\2ca\x1b[2J\nb\n."), "names 'a?[2J.b'"));
  CHECK(has(pickle_error("\x80\2c" + std::string(2000, 'a')), "a global's name does not end"));
  CHECK(has(pickle_error("\x80\2ctorch\nHalfStorage\n)R."), "the pickle calls torch HalfStorage"));
  CHECK(has(pickle_error("\x80\2K\1)R."), "an int is called"));
  CHECK(has(pickle_error("\x80\2ccollections\nOrderedDict\nK\1R."), "the arguments of collections OrderedDict are an int"));
}

TEST_CASE("a tensor outside its storage is refused") {
  constexpr std::int64_t huge = INT64_MAX;
  CHECK(error_of_tensor(12, 0, {3, 4}, {4, 1}) == "no error");
  CHECK(error_of_tensor(12, 0, {}, {}) == "no error");
  CHECK(error_of_tensor(12, 12, {0}, {1}) == "no error");
  CHECK(has(error_of_tensor(12, 13, {0}, {1}), "an empty tensor at element 13 of a storage of 12"));
  CHECK(has(error_of_tensor(12, 0, {3, 4}, {5, 1}), "reaches to element 13 of a storage of 12 elements"));
  CHECK(has(error_of_tensor(12, 1, {3, 4}, {4, 1}), "reaches to element 12"));
  CHECK(has(error_of_tensor(0, 0, {}, {}), "reaches to element 0"));
  CHECK(has(error_of_tensor(1, 0, {huge, huge}, {0, 0}), "more elements or larger strides than 63 bits count"));
  CHECK(has(error_of_tensor(12, 0, {2, 2}, {huge, huge}), "more elements or larger strides"));
  CHECK(has(error_of_tensor(1, 0, {1 << 30, 1 << 30}, {0, 0}), "a tensor of 1152921504606846976 elements views a storage of 1"));
  CHECK(has(error_of_tensor(12, -1, {1}, {1}), "the offset of a tensor is -1"));
  CHECK(has(error_of_tensor(12, 0, {-1}, {1}), "the shape is -1"));
  CHECK(has(error_of_tensor(12, 0, {1}, {-1}), "the strides is -1"));
  CHECK(has(error_of_tensor(-1, 0, {1}, {1}), "the length of a storage is -1"));
  CHECK(has(error_of_tensor(12, 0, {1, 1}, {1}), "2 dims and 1 strides"));
  CHECK(has(error_of_tensor(12, 0, std::vector<std::int64_t>(9, 1), std::vector<std::int64_t>(9, 1)), "expected a tuple of at most 8"));
  const std::string large = "\x8a\x09\0\0\0\0\0\0\0\x80\0"s;  // 2^63
  CHECK(has(
      pickle_error("\x80\2ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nHalfStorage\n" + text("0") + text("cpu") + large + "tQ"),
      "the length of a storage is an int beyond 64 bits"));
}

TEST_CASE("each fault of a pickle has its sentence") {
  CHECK(has(pickle_error(""), "1 bytes are wanted and 0 are left"));
  CHECK(has(pickle_error("\x80\4."), "protocol 4, expected 2"));
  CHECK(has(pickle_error("\x80\2."), "ends with 0 values"));
  CHECK(has(pickle_error("\x80\2NN."), "ends with 2 values"));
  CHECK(has(pickle_error("\x80\2(N."), "ends with 1 values"));
  CHECK(has(pickle_error("\x80\2i"), "'x.pt', pickle at offset 102: instruction 105"));
  CHECK(has(pickle_error("\x80\2X\xff\xff\xff\x7f"), "2147483647 bytes are wanted and 0 are left"));
  CHECK(has(pickle_error("\x80\2\x8b\xff\xff\xff\xff"), "4294967295 bytes are wanted"));
  CHECK(has(pickle_error("\x80\2h\5"), "value 5 of the memo"));
  CHECK(has(pickle_error("\x80\2t"), "a mark is wanted"));
  CHECK(has(pickle_error("\x80\2N(0"), "a value is wanted and the stack has none"));
  CHECK(has(pickle_error("\x80\2N\x86"), "2 values are wanted and the stack has 1"));
  CHECK(has(pickle_error("\x80\2NNa"), "items are added to None"));
  CHECK(has(pickle_error("\x80\2}(Nu"), "a key without a value"));
  CHECK(has(pickle_error("\x80\2NNb"), "a state is given to None"));
  CHECK(has(pickle_error("\x80\2NQ"), "a persistent id is None"));
  CHECK(has(pickle_error("\x80\2(" + text("storage") + "NNNNtQ"), "a storage is of None"));
  CHECK(has(pickle_error("\x80\2" + std::string(2000, '(')), "more than 1000 containers in one another"));
  CHECK(has(pickle_error("\x80\2" + std::string(2 << 20, 'N')), "more than 1048576 values"));
  std::string doubling = "\x80\2]q\0("s + std::string(1 << 18, 'N') + "e";  // one list, copied into tuples again and again
  for (int i = 0; i < 40; ++i) doubling += "ccollections\nOrderedDict\nh\0\x85R"s;
  CHECK(has(pickle_error(doubling + "."), "is made of what is no pair"));
  CHECK(has(pickle_error(std::string((16 << 20) + 1, 'N')), "a pickle of 16777217 bytes"));
}
