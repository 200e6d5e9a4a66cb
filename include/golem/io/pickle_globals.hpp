// The classes and functions that a pickle may name, and what calling them makes here: never more than a value.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/pickle_values.hpp"
#include "golem/io/printable.hpp"

namespace golem {

enum class PickleGlobal : std::uint8_t { ordered_dict, rebuild_tensor, rebuild_parameter, size, storage, object };

namespace pickle {

struct Known {
  std::string_view name;  // "module name"
  PickleGlobal global;
  DType type = DType::f32;  // of a storage
};

/// Beside tensors, what training frameworks put into checkpoints: options, and the states of random generators. They become objects that do nothing.
inline constexpr auto known_globals = std::to_array<Known>({
    {"collections OrderedDict", PickleGlobal::ordered_dict},
    {"torch._utils _rebuild_tensor_v2", PickleGlobal::rebuild_tensor},
    {"torch._utils _rebuild_parameter", PickleGlobal::rebuild_parameter},
    {"torch Size", PickleGlobal::size},
    {"torch DoubleStorage", PickleGlobal::storage, DType::f64},
    {"torch FloatStorage", PickleGlobal::storage, DType::f32},
    {"torch HalfStorage", PickleGlobal::storage, DType::f16},
    {"torch BFloat16Storage", PickleGlobal::storage, DType::bf16},
    {"torch LongStorage", PickleGlobal::storage, DType::i64},
    {"torch IntStorage", PickleGlobal::storage, DType::i32},
    {"torch CharStorage", PickleGlobal::storage, DType::i8},
    {"torch ByteStorage", PickleGlobal::storage, DType::u8},
    {"torch BoolStorage", PickleGlobal::storage, DType::u8},
    {"argparse Namespace", PickleGlobal::object},
    {"torch device", PickleGlobal::object},
    {"torch float16", PickleGlobal::object},
    {"torch float32", PickleGlobal::object},
    {"torch bfloat16", PickleGlobal::object},
    {"__builtin__ set", PickleGlobal::object},
    {"_codecs encode", PickleGlobal::object},
    {"numpy ndarray", PickleGlobal::object},
    {"numpy dtype", PickleGlobal::object},
    {"numpy.core.multiarray _reconstruct", PickleGlobal::object},
    {"numpy.core.multiarray scalar", PickleGlobal::object},
    {"numpy._core.multiarray _reconstruct", PickleGlobal::object},
    {"numpy._core.multiarray scalar", PickleGlobal::object},
});

/// Throws Error that begins with `where` for any other.
inline PickleValue global_named(const std::string& name, std::string_view where) {
  const auto* found = std::find_if(known_globals.begin(), known_globals.end(), [&](const Known& known) { return known.name == name; });
  std::string dotted = printable(name);
  std::replace(dotted.begin(), dotted.end(), ' ', '.');
  require(found != known_globals.end(), where, ": the pickle names '", dotted,
          "', which no checkpoint needs, and which Python would run; do not load this file anywhere");
  return {.kind = PickleKind::global, .number = found - known_globals.begin(), .real = 0, .text = name, .items = {}};
}

inline const Known& known_global(const PickleValue& global) { return known_globals[static_cast<std::size_t>(global.number)]; }

inline std::int64_t integer_of(const PickleValue& value, std::string_view what, std::string_view where) {
  require(value.kind == PickleKind::integer, where, ": ", what, " is ", name_of(value.kind), ", expected an int of 64 bits");
  require(value.number >= 0, where, ": ", what, " is ", value.number);
  return value.number;
}

/// ('storage', class, key, location, elements), what torch calls a persistent id.
inline PickledStorage storage_of(const Pickle& made, const PickleValue& id, std::string_view where) {
  require(id.kind == PickleKind::tuple && id.items.size() == 5, where, ": a persistent id is ", name_of(id.kind), " of ", id.items.size(),
          " values, expected a tuple of 5");
  const auto item = [&](std::size_t i) -> const PickleValue& { return made.values[id.items[i]]; };
  require(item(0).kind == PickleKind::text && item(0).text == "storage", where, ": a persistent id is of no storage");
  require(item(1).kind == PickleKind::global && known_global(item(1)).global == PickleGlobal::storage, where, ": a storage is of ",
          item(1).kind == PickleKind::global ? "the class " + item(1).text : name_of(item(1).kind));
  require(item(2).kind == PickleKind::text && item(3).kind == PickleKind::text, where, ": a storage's key or location is no text");
  require(item(2).text.size() <= 64, where, ": a storage's key has ", item(2).text.size(), " characters");
  return {item(2).text, known_global(item(1)).type, integer_of(item(4), "the length of a storage", where)};
}

inline std::vector<std::int64_t> extents_of(const Pickle& made, const PickleValue& tuple, std::string_view what, std::string_view where) {
  require(tuple.kind == PickleKind::tuple && tuple.items.size() <= 8, where, ": ", what, " of a tensor is ", name_of(tuple.kind), " of ",
          tuple.items.size(), " values, expected a tuple of at most 8");
  std::vector<std::int64_t> extents;
  for (const std::uint32_t index : tuple.items) extents.push_back(integer_of(made.values[index], what, where));
  return extents;
}

/// Proves that every element lies in the storage, and that no more are viewed than it has: so whoever allocates by the shape allocates no more than
/// a multiple of the file.
inline void check_view(const PickledTensor& tensor, std::int64_t held, std::string_view where) {
  require(tensor.shape.size() == tensor.strides.size(), where, ": a tensor has ", tensor.shape.size(), " dims and ", tensor.strides.size(),
          " strides");
  std::int64_t elements = 1, last = tensor.offset;
  bool fits = true, empty = false;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    empty = empty || tensor.shape[i] == 0;
    std::int64_t reach = 0;
    fits = fits && !__builtin_mul_overflow(elements, tensor.shape[i], &elements);
    fits = fits && (tensor.shape[i] == 0 || !__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach));
    fits = fits && !__builtin_add_overflow(last, reach, &last);
  }
  if (empty) return require(tensor.offset <= held, where, ": an empty tensor at element ", tensor.offset, " of a storage of ", held);
  require(fits, where, ": a tensor of more elements or larger strides than 63 bits count");
  require(last < held, where, ": a tensor reaches to element ", last, " of a storage of ", held, " elements");
  require(elements <= held, where, ": a tensor of ", elements, " elements views a storage of ", held,
          ": such are not written by torch.save of a model");
}

/// The value of a call of a global with a tuple of arguments.
inline PickleValue call(Pickle& made, std::uint32_t callee, std::uint32_t arguments, std::string_view where) {
  const PickleValue &function = made.values[callee], &tuple = made.values[arguments];
  require(function.kind == PickleKind::global, where, ": ", name_of(function.kind), " is called");
  require(tuple.kind == PickleKind::tuple, where, ": the arguments of ", function.text, " are ", name_of(tuple.kind), ", expected a tuple");
  const auto argument = [&](std::size_t i) -> const PickleValue& { return made.values[tuple.items[i]]; };
  const auto some = [&](std::size_t least) {
    require(tuple.items.size() >= least, where, ": ", function.text, " has ", tuple.items.size(), " arguments, expected at least ", least);
  };
  switch (known_global(function).global) {
    case PickleGlobal::ordered_dict: {
      PickleValue dict{.kind = PickleKind::dict, .number = 0, .real = 0, .text = "", .items = {}};
      if (tuple.items.empty()) return dict;
      require(argument(0).kind == PickleKind::list, where, ": an OrderedDict is made of ", name_of(argument(0).kind), ", expected a list");
      for (const std::uint32_t pair : argument(0).items) {
        const PickleValue& items = made.values[pair];
        require((items.kind == PickleKind::tuple || items.kind == PickleKind::list) && items.items.size() == 2, where,
                ": an OrderedDict is made of what is no pair");
        dict.items.insert(dict.items.end(), items.items.begin(), items.items.end());
      }
      return dict;
    }
    case PickleGlobal::rebuild_tensor: {
      some(4);
      require(argument(0).kind == PickleKind::storage, where, ": a tensor views ", name_of(argument(0).kind), ", expected a storage");
      PickledTensor tensor{static_cast<std::uint32_t>(argument(0).number), integer_of(argument(1), "the offset of a tensor", where),
                           extents_of(made, argument(2), "the shape", where), extents_of(made, argument(3), "the strides", where)};
      check_view(tensor, made.storages[tensor.storage].elements, where);
      made.tensors.push_back(std::move(tensor));
      return {.kind = PickleKind::tensor, .number = static_cast<std::int64_t>(made.tensors.size()) - 1, .real = 0, .text = "", .items = {}};
    }
    case PickleGlobal::rebuild_parameter: {
      some(1);
      require(argument(0).kind == PickleKind::tensor, where, ": a parameter is made of ", name_of(argument(0).kind), ", expected a tensor");
      return argument(0);
    }
    case PickleGlobal::size: {
      some(1);
      require(argument(0).kind == PickleKind::tuple || argument(0).kind == PickleKind::list, where, ": a torch.Size is made of ",
              name_of(argument(0).kind));
      require(argument(0).items.size() <= 8, where, ": a torch.Size has ", argument(0).items.size(), " dims, expected at most 8");
      PickleValue size = argument(0);
      size.kind = PickleKind::tuple;
      return size;
    }
    case PickleGlobal::storage: fail(where, ": the pickle calls ", function.text, ", expected a persistent id");
    case PickleGlobal::object: break;
  }
  return {.kind = PickleKind::object, .number = 0, .real = 0, .text = function.text, .items = {callee, arguments}};
}

}  // namespace pickle

}  // namespace golem
