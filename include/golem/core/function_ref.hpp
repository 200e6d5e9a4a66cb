// function_ref: a non-owning reference to something callable, two words wide; for callbacks that are no template parameters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>

namespace golem {

template <class Signature>
class function_ref;

/// Empty when default-made (test with `if (f)`). What it refers to must outlive it.
template <class Result, class... Arguments>
class function_ref<Result(Arguments...)> {
 public:
  function_ref() = default;
  template <class Callable>
    requires(!std::same_as<std::remove_cvref_t<Callable>, function_ref>) && std::is_invocable_r_v<Result, Callable&, Arguments...>
  function_ref(Callable&& callable)
      : object_(address_of(callable)), call_([](void* object, Arguments... arguments) -> Result {
          using Target = std::remove_reference_t<Callable>;
          if constexpr (std::is_function_v<Target>) return reinterpret_cast<Target*>(object)(static_cast<Arguments&&>(arguments)...);
          else return (*static_cast<Target*>(object))(static_cast<Arguments&&>(arguments)...);
        }) {}

  Result operator()(Arguments... arguments) const { return call_(object_, static_cast<Arguments&&>(arguments)...); }
  explicit operator bool() const { return call_ != nullptr; }

 private:
  template <class Target>
  static void* address_of(Target& target) {
    if constexpr (std::is_function_v<Target>) return reinterpret_cast<void*>(&target);  // POSIX: they have room for each other
    else return const_cast<void*>(static_cast<const void*>(std::addressof(target)));
  }

  void* object_ = nullptr;
  Result (*call_)(void*, Arguments...) = nullptr;
};

}  // namespace golem
