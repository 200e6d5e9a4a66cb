// TCP sockets: they close themselves, send and receive all of something, listen, and reach a machine that may be late.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "golem/comm/watch.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"

namespace golem::tcp {

/// A file descriptor of its own.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int file) : file_(file) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    if (this != &other) close(), file_ = std::exchange(other.file_, -1);
    return *this;
  }
  int file() const { return file_; }
  explicit operator bool() const { return file_ >= 0; }
  void close() {
    if (file_ >= 0) ::close(file_);
    file_ = -1;
  }

 private:
  int file_ = -1;
};

/// Sends all bytes. False where the other end is gone.
inline bool send_all(int file, const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = ::send(file, next, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    next += sent, bytes -= static_cast<std::size_t>(sent);
  }
  return true;
}

/// Receives so many bytes. False where the other end is gone.
inline bool receive_all(int file, void* data, std::size_t bytes) {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::recv(file, next, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    next += got, bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

/// Small frames go out at once.
inline void send_promptly(int file) {
  const int on = 1;
  ::setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
/// Whoever sends now and then on this socket learns of the loss of the other's machine, or of the way to it, after so many seconds; the system's
/// own patience is a quarter of an hour. 0: that. False where the system does not take it.
[[nodiscard]] inline bool notice_loss_after(int file, double seconds) {
  const unsigned milliseconds = seconds > 0 ? static_cast<unsigned>(smaller(seconds, 1e6) * 1000) : 0;
  return ::setsockopt(file, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds) == 0;
}

/// A socket that listens on `port` of every address of this machine. Throws Error where the port is taken.
inline Socket listen_on(int port) {
  Socket listener(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool six = static_cast<bool>(listener);  // which takes IPv4 too
  if (!six) listener = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1, off = 0;
  ::setsockopt(listener.file(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage address{};
  if (six) {
    ::setsockopt(listener.file(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    auto& to = reinterpret_cast<sockaddr_in6&>(address);
    to.sin6_family = AF_INET6, to.sin6_port = htons(static_cast<std::uint16_t>(port)), to.sin6_addr = in6addr_any;
  } else {
    auto& to = reinterpret_cast<sockaddr_in&>(address);
    to.sin_family = AF_INET, to.sin_port = htons(static_cast<std::uint16_t>(port)), to.sin_addr.s_addr = htonl(INADDR_ANY);
  }
  const bool listens = listener && ::bind(listener.file(), reinterpret_cast<const sockaddr*>(&address), six ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)) == 0 && ::listen(listener.file(), 4096) == 0;
  const int cause = errno;
  require(listens, "rank 0 cannot listen on port ", port, " for the other ranks: ", std::string_view(std::strerror(cause)), "; choose another in GOLEM_PORT, the same for all ranks");
  return listener;
}

/// Whether a socket has met itself, as one may where nobody listens on a port that the system gives away.
inline bool is_own_end(int file) {
  sockaddr_storage here{}, there{};
  socklen_t here_size = sizeof here, there_size = sizeof there;
  return ::getsockname(file, reinterpret_cast<sockaddr*>(&here), &here_size) == 0 && ::getpeername(file, reinterpret_cast<sockaddr*>(&there), &there_size) == 0 && here_size == there_size &&
         std::memcmp(&here, &there, here_size) == 0;
}

/// A connection to `port` of `host`, tried until `seconds` have passed: rank 0 may be late. Throws Error where none came about.
inline Socket connect_to(const std::string& host, int port, double seconds) {
  const double start = steady_seconds();
  for (int cause = 0;;) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    const int wrong = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    for (const addrinfo* one = found; one; one = one->ai_next) {
      Socket socket(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
      const bool connected = socket && ::connect(socket.file(), one->ai_addr, one->ai_addrlen) == 0;
      if (!connected) cause = errno;
      if (!connected || is_own_end(socket.file())) continue;
      ::freeaddrinfo(found);
      send_promptly(socket.file());
      return socket;
    }
    if (found) ::freeaddrinfo(found);
    if (steady_seconds() - start > seconds)
      fail("this rank found no rank 0 at ", host, ", port ", port, ", within ", seconds, " s: ", std::string_view(wrong ? ::gai_strerror(wrong) : std::strerror(cause)),
           "; is MASTER_ADDR the machine of rank 0, and does it let the port through?");
    ::usleep(50'000);
  }
}

}  // namespace golem::tcp
