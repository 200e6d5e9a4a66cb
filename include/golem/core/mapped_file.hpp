// MappedFile: a whole file as read-only memory; pages come in when they are touched.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "golem/core/error.hpp"

namespace golem {

/// Move-only. Throws Error with path and cause where the file cannot be opened or is no regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(file >= 0, "cannot open '", path, "': ", std::strerror(errno));
    struct stat status {};
    const bool known = ::fstat(file, &status) == 0, regular = known && S_ISREG(status.st_mode);
    const int cause = errno;
    void* mapped = nullptr;
    if (regular && status.st_size > 0) mapped = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    const int map_cause = errno;
    ::close(file);
    require(known, "cannot read the size of '", path, "': ", std::strerror(cause));
    require(regular, "cannot map '", path, "': it is no regular file");
    require(mapped != MAP_FAILED, "cannot map the ", status.st_size, " bytes of '", path, "': ", std::strerror(map_cause));
    data_ = static_cast<const std::byte*>(mapped);
    size_ = static_cast<std::size_t>(status.st_size);
  }
  MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// The pages of [from, from + bytes) no longer count as this process's memory; they come in again when they are touched.
  void release(const std::byte* from, std::size_t bytes) const {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), begin = static_cast<std::size_t>(from - data_) / page * page;
    if (bytes > 0) ::madvise(const_cast<std::byte*>(data_) + begin, static_cast<std::size_t>(from - data_) + bytes - begin, MADV_DONTNEED);
  }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace golem
