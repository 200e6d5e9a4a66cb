// Reading folders of text: every file proved to be text before anything is made of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/utf8.hpp"

namespace golem {

/// One file of text.
struct Document {
  std::string name;  // its path
  std::string text;  // UTF-8
};

/// Throws Error unless `text` is UTF-8 without NUL bytes; `where` names it.
inline void require_text(std::string_view text, const std::string& where) {
  const std::size_t nul = text.find('\0');
  require(nul == text.npos, where, " is not text: byte ", nul, " is NUL; give a folder of UTF-8 text files");
  const std::size_t bad = first_invalid_utf8(text);
  require(bad == text.npos, where, " is not UTF-8 at byte ", bad, ": convert it first, for instance with iconv -t UTF-8");
}

/// Copied and not mapped: of a mapped file that another program cuts meanwhile the process would die.
inline Document read_document(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe that nobody writes to is refused too
  require(file >= 0, "cannot open '", path, "': ", std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(file, &status) == 0;
  Document document{path, std::string(known ? static_cast<std::size_t>(status.st_size) : 0, '\0')};
  std::size_t read = 0;
  ::ssize_t part = 0;
  while (read < document.text.size() && ((part = ::read(file, document.text.data() + read, document.text.size() - read)) > 0 || (part < 0 && errno == EINTR)))
    read += static_cast<std::size_t>(part > 0 ? part : 0);
  const int cause = errno;
  ::close(file);
  require(known, "cannot read the size of '", path, "': ", std::strerror(cause));
  require(S_ISREG(status.st_mode), "'", path, "' is no file with a size, but a folder, a pipe or a device: write the text to a file first");
  require(part >= 0, "cannot read '", path, "' at byte ", read, ": ", std::strerror(cause));
  require(read == document.text.size(), "'", path, "' ended at byte ", read, " of ", document.text.size(), " while it was read: let no other program write to the text, and begin again");
  require_text(document.text, "'" + path + "'");
  return document;
}

namespace documents {

/// Such links may run in circles.
inline bool is_link_to_folder(const std::string& path) {
  struct stat link {
  }, target{};
  return lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode) && stat(path.c_str(), &target) == 0 && S_ISDIR(target.st_mode);
}

inline void collect(const std::string& path, std::vector<std::string>& files) {
  struct stat status {};
  const bool found = stat(path.c_str(), &status) == 0;
  require(found, "'", path, "' cannot be read as a corpus: ", std::strerror(errno));
  if (!S_ISDIR(status.st_mode)) {
    require(S_ISREG(status.st_mode), "'", path, "' cannot be read as text: it is no regular file");
    files.push_back(path);
    return;
  }
  DIR* folder = opendir(path.c_str());
  require(folder != nullptr, "the folder '", path, "' cannot be read: ", std::strerror(errno));
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(folder))
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  const int cause = errno;
  closedir(folder);
  require(cause == 0, "the folder '", path, "' cannot be read: ", std::strerror(cause));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names)
    if (!is_link_to_folder(path + "/" + name)) collect(path + "/" + name, files);
}

}  // namespace documents

/// Calls `visit` with each text file at `path`, one at a time: a file, or a folder with its folders, in the order of their names; hidden
/// ones, empty ones and links to folders are passed over. Throws Error for what cannot be read or is not text, and where nothing is left.
inline void visit_documents(const std::string& path, function_ref<void(Document&)> visit) {
  std::vector<std::string> files;
  documents::collect(path, files);
  std::int64_t visited = 0;
  for (const std::string& file : files) {
    Document document = read_document(file);
    if (document.text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
    ++visited;
    visit(document);
  }
  require(visited > 0, "there is no text in '", path, "' (", files.size(), " files): give a folder of UTF-8 text files");
}

/// Bytes of all of them, before they are read.
inline std::uint64_t document_bytes(const std::string& path) {
  std::vector<std::string> files;
  documents::collect(path, files);
  std::uint64_t bytes = 0;
  for (const std::string& file : files) {
    struct stat status {};
    require(stat(file.c_str(), &status) == 0, "'", file, "' cannot be read as a corpus: ", std::strerror(errno));
    bytes += static_cast<std::uint64_t>(status.st_size);
  }
  return bytes;
}

/// All of them at once.
inline std::vector<Document> read_documents(const std::string& path) {
  std::vector<Document> all;
  visit_documents(path, [&](Document& document) { all.push_back(std::move(document)); });
  return all;
}

}  // namespace golem
