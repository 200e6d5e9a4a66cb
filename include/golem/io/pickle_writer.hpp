// Writes the pickle of a dict of tensors, as torch.load and golem read it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// A contiguous tensor that has a storage to itself, of the key that its place in the list gives: "0", "1", ...
struct PickleTensor {
  std::string name;
  DType type = DType::f16;
  std::vector<std::int64_t> shape;
};

namespace pickle {

inline const char* storage_class(DType type) {
  switch (type) {
    case DType::f64: return "DoubleStorage";
    case DType::f32: return "FloatStorage";
    case DType::f16: return "HalfStorage";
    case DType::bf16: return "BFloat16Storage";
    case DType::i64: return "LongStorage";
    case DType::i32: return "IntStorage";
    case DType::i8: return "CharStorage";
    case DType::u8: return "ByteStorage";
  }
  return "";
}

class Writer {
 public:
  Writer& raw(std::string_view bytes) {
    text_ += bytes;
    return *this;
  }
  Writer& text(std::string_view value) {
    const auto length = static_cast<std::uint32_t>(value.size());
    return raw("X").number(length).raw(value);
  }
  Writer& integer(std::int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) return raw("J").number(static_cast<std::int32_t>(value));
    return raw("\x8a\x08").number(value);
  }
  Writer& global(std::string_view module, std::string_view name) { return raw("c").raw(module).raw("\n").raw(name).raw("\n"); }
  Writer& integers(const std::vector<std::int64_t>& values) {
    raw("(");
    for (const std::int64_t value : values) integer(value);
    return raw("t");
  }
  std::string take() { return std::move(text_); }

 private:
  template <class T>
  Writer& number(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    return raw({bytes, sizeof value});
  }
  std::string text_;
};

inline void write_tensor(Writer& out, const PickleTensor& tensor, std::size_t key) {
  std::int64_t elements = 1;
  std::vector<std::int64_t> strides(tensor.shape.size());
  for (std::size_t i = tensor.shape.size(); i-- > 0;) strides[i] = elements, elements *= tensor.shape[i] > 0 ? tensor.shape[i] : 1;
  for (const std::int64_t dim : tensor.shape) elements = dim == 0 ? 0 : elements;
  out.global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage").global("torch", storage_class(tensor.type));
  out.text(sentence(key)).text("cpu").integer(elements).raw("tQ").integer(0).integers(tensor.shape).integers(strides);
  out.raw("\x89").global("collections", "OrderedDict").raw(")RtR");  // requires no gradient, has no hooks
}

}  // namespace pickle

/// The text of data.pkl: {"module": {name: tensor, ...}} and under "golem" what made it.
inline std::string format_pickle(const std::vector<PickleTensor>& tensors, std::string_view made_by) {
  pickle::Writer out;
  out.raw("\x80\x02}(").text("module").raw("}(");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    out.text(tensors[i].name);
    pickle::write_tensor(out, tensors[i], i);
  }
  return out.raw("u").text("golem").text(made_by).raw("u.").take();
}

}  // namespace golem
