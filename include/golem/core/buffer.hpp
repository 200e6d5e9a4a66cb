// Buffer owns elements on a device; Arena cuts one allocation in pieces.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "golem/core/error.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// Owns `count` elements on a device; zeroed when made. Move-only. The device must outlive it.
template <class T, class D>
class Buffer {
 public:
  Buffer() = default;
  Buffer(D& device, std::int64_t count, std::string_view label) : Buffer() {  // so that memory that cannot be cleared is given back
    device_ = &device, count_ = count, label_ = label;
    if (count_ == 0) return;
    data_ = static_cast<T*>(device.allocate(bytes(), label_));
    device.clear(data_, bytes());
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer() {
    if (data_) device_->release(data_, bytes(), label_);
  }

  T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
  explicit operator bool() const { return data_ != nullptr; }
  View<T, 1> view() const { return {data_, count_}; }

  /// Elements from `offset` on, under the given shape.
  template <class... Extents>
  View<T, sizeof...(Extents)> view_at(std::int64_t offset, Extents... extents) const {
    const View<T, sizeof...(Extents)> part{data_ + offset, extents...};
    require(offset + part.size() <= count_, "a view of shape ", shape_of(part), " at ", offset, " does not fit the buffer '", label_, "' of ", count_, " elements");
    return part;
  }

  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    std::swap(label_, other.label_);
  }

 private:
  D* device_ = nullptr;
  T* data_ = nullptr;
  std::int64_t count_ = 0;
  std::string label_;
};

/// Hands out consecutive pieces of one allocation, each 64-byte aligned. Made twice: first without memory, to measure.
class Arena {
 public:
  Arena() = default;
  Arena(std::byte* memory, std::size_t capacity) : memory_(memory), capacity_(capacity) {}

  /// The next piece, under the given shape; with no memory behind the arena, an empty view, and `used()` grows all the same.
  template <class T, class... Extents>
  View<T, sizeof...(Extents)> take(Extents... extents) {
    View<T, sizeof...(Extents)> view{nullptr, extents...};
    const std::size_t start = used_;
    used_ += (static_cast<std::size_t>(view.size()) * sizeof(T) + 63) / 64 * 64;
    if (!memory_) return view;
    require(used_ <= capacity_, "an arena of ", capacity_, " bytes was asked for ", used_, ": it was measured with other shapes");
    view.data = reinterpret_cast<T*>(memory_ + start);
    return view;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t capacity_ = 0, used_ = 0;
};

}  // namespace golem
