// What the tests of files share: a folder that vanishes, whole files as text, the sentence of an error, random changes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "golem/core/error.hpp"

namespace test {

/// An empty folder, in memory where the system has such a place: thousands of syncs then cost nothing.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::is_directory("/dev/shm") ? "/dev/shm/golem-XXXXXX" : "/tmp/golem-XXXXXX";
    golem::require(::mkdtemp(name.data()) != nullptr, "no folder for the test: ", name);
    path = name;
  }
  Folder(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The files below a folder, by name, with their content.
inline std::map<std::string, std::string> content(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[std::filesystem::relative(entry.path(), folder)] = read(entry.path());
  return files;
}

inline void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary | std::ios::trunc) << text; }

/// While it lives no file of this process can grow beyond `bytes`: a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(std::size_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FullDisk(const FullDisk&) = delete;
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

/// The sentence of the golem::Error that `action` throws; "no error" if none.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const golem::Error& error) {
    return error.what();
  }
  return "no error";
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// How often a part is in a text.
inline std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

/// A small generator, the same everywhere.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 2 + 1) {}
  /// 0 .. sides-1
  std::size_t operator()(std::size_t sides) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::size_t>((state_ >> 33) % sides);
  }

 private:
  std::uint64_t state_;
};

/// The text with a few changes: bits turned, characters that JSON gives a meaning to, pieces cut, doubled, or moved.
inline std::string mutated(std::string text, Dice& dice) {
  static const std::string telling = "0123456789-+.eE{}[]\",:\\ \n\xff";
  for (std::size_t changes = 1 + dice(3); changes > 0 && !text.empty(); --changes) {
    const std::size_t at = dice(text.size()), length = 1 + dice(std::min<std::size_t>(text.size() - at, 24));
    switch (dice(7)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << dice(8)));
        break;
      case 1:
        text[at] = telling[dice(telling.size())];
        break;
      case 2:
        text.resize(at);
        break;
      case 3:
        text.erase(at, length);
        break;
      case 4:
        text.insert(at, text.substr(dice(text.size()), length));
        break;
      case 5:
        text.insert(at, 1, telling[dice(telling.size())]);
        break;
      case 6:
        text.append(length, telling[dice(telling.size())]);
        break;
    }
  }
  return text;
}

}  // namespace test
