// CompanionProcess: what a companion does: it tells that of rank 0 how its rank fares, also when the rank is dead; that one judges.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/mpi_companion_page.hpp"
#include "golem/comm/tcp_socket.hpp"

namespace golem {

/// Runs in a process of its own, which outlives its rank, and ends with the run.
class CompanionProcess {
 public:
  /// `link` ends when the rank's process does; `listening` is a socket that other companions can reach.
  CompanionProcess(CompanionPage& page, int link, int listening, pid_t rank_process)
      : page_(page), link_(link), listening_(listening), process_(rank_process) {}

  [[noreturn]] void live() {
    while (page_.met.load(std::memory_order_acquire) == 0)
      if (!listen_to_rank(-1)) _exit(0);
    if (page_.meeting.rank == 0) judge();
    close(listening_);
    report_to_first();
  }

 private:
  static constexpr int beat = 100;            // milliseconds between reports
  static constexpr double last_words = 0.15;  // seconds that the others have to say what they did, once one has failed
  static constexpr char ended = 'E', speaker = 'S';  // what the companion of rank 0 says: the run has ended; you tell, if I am lost

  /// One companion that has connected to that of rank 0.
  struct Guest {
    int socket = -1;
    std::string received;  // the beginning of its next report
    bool known = false;
    int rank = -1;
  };
  /// What is known of a rank.
  struct Seat {
    CompanionReport last;
    double heard = 0;
    int trouble = 0;  // the how-manieth rank to be in trouble; 0: none
  };

  static bool settled(Fate fate) { return fate != Fate::running; }

  /// Waits up to some milliseconds for the rank to say something. False where it is gone.
  bool listen_to_rank(int timeout) {
    pollfd rank{link_, POLLIN, 0};
    if (poll(&rank, 1, timeout) <= 0 || rank.revents == 0) return true;
    char bytes[64];
    return read(link_, bytes, sizeof bytes) > 0;
  }

  /// By SIGSTOP, a debugger or a batch system: state T or t of the process, behind its name in /proc.
  bool rank_is_stopped() const {
    char text[512] = {};
    const int file = open(sentence("/proc/", process_, "/stat").c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t got = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    if (file >= 0) close(file);
    const char* const name_ends = got > 0 ? std::strrchr(text, ')') : nullptr;
    return name_ends && (std::string_view(name_ends).starts_with(") T") || std::string_view(name_ends).starts_with(") t"));
  }

  CompanionReport report() {
    CompanionReport out;
    out.password = page_.meeting.password, out.rank = page_.meeting.rank;
    out.fate = page_.fate.load(std::memory_order_acquire);
    out.doing = page_.read();
    out.age = steady_seconds() - out.doing.since;
    stopped_at_ = !rank_is_stopped() ? 0 : stopped_at_ > 0 ? stopped_at_ : steady_seconds();
    if (stopped_at_ > 0) out.doing.state = Doing::State::stopped, out.age = steady_seconds() - larger(out.doing.since, stopped_at_);
    if (settled(out.fate)) out.why = page_.why;
    return out;
  }
  CompanionReport last_report() {
    CompanionReport out = report();
    if (!settled(out.fate)) out.fate = Fate::died;
    return out;
  }
  /// A rank that failed ends itself once it is judged, so that its exit status is the run's; the others are ended a moment later.
  void end_rank() {
    page_.judged.store(1, std::memory_order_release);
    const bool lives = listen_to_rank(200) || listen_to_rank(200);
    if (lives && page_.fate.load() != Fate::finished) kill(process_, SIGKILL);
  }

  [[noreturn]] void report_to_first() {
    const int first = connect_to_first();
    page_.connected.store(first >= 0 ? 1 : 2, std::memory_order_release);
    if (first < 0) _exit(0);
    for (bool judged = false, speaks = false;;) {
      pollfd ends[]{{link_, POLLIN, 0}, {judged ? -1 : first, POLLIN, 0}};
      poll(ends, 2, beat);
      if (ends[1].revents != 0) {
        char word = 0;
        const ssize_t got = recv(first, &word, 1, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got == 1 && word == speaker) {
          speaks = true;
        } else {
          if (got <= 0) tell_of_loss(speaks);
          end_rank(), judged = true;
        }
      }
      if (ends[0].revents != 0 && !listen_to_rank(0)) {
        const CompanionReport last = last_report();
        tcp::send_all(first, &last, sizeof last);
        _exit(0);
      }
      const CompanionReport now = report();
      tcp::send_all(first, &now, sizeof now);
    }
  }
  /// The companion of rank 0 is gone without a word, as its machine may be. Every other learns of it; one tells, before any of them ends its rank.
  void tell_of_loss(bool speaks) const {
    if (page_.fate.load(std::memory_order_acquire) == Fate::finished) return;
    if (!speaks) return static_cast<void>(usleep(100000));
    say(sentence("the companion of rank 0 of ", page_.meeting.ranks, ", through which the ranks watch each other, is gone: its machine is down, or it was killed there, by hand or for want of memory (rank ",
                 page_.meeting.rank, ' ', activity_of(page_.read()), ")"));
  }
  static void say(std::string line) {
    line += '\n';
    while (write(2, line.data(), line.size()) < 0 && errno == EINTR) {
    }
  }
  int connect_to_first() const {
    sockaddr_in where{};
    where.sin_family = AF_INET, where.sin_port = htons(page_.meeting.port);
    if (inet_pton(AF_INET, page_.meeting.host, &where.sin_addr) != 1) return -1;
    for (int attempt = 0; attempt < 100; ++attempt, usleep(100000)) {
      const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (socket < 0) return -1;
      if (tcp::notice_loss_after(socket, page_.meeting.deadline) && connect(socket, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0) return socket;
      close(socket);
    }
    return -1;
  }

  [[noreturn]] void judge() {
    seats_.resize(static_cast<std::size_t>(page_.meeting.ranks));
    for (Seat& seat : seats_) seat.heard = steady_seconds();
    page_.connected.store(1, std::memory_order_release);
    bool rank_lives = true;
    double trouble = 0;
    for (;;) {
      std::vector<pollfd> ends{{rank_lives ? link_ : -1, POLLIN, 0}, {listening_, POLLIN, 0}};
      for (const Guest& guest : guests_) ends.push_back({guest.socket, POLLIN, 0});
      poll(ends.data(), ends.size(), trouble > 0 ? 10 : beat);
      const double now = steady_seconds();
      for (std::size_t i = 0; i < guests_.size(); ++i)
        if (ends[i + 2].revents != 0) hear(guests_[i], now);
      std::erase_if(guests_, [](const Guest& guest) { return guest.socket < 0; });
      name_speaker();
      if (ends[1].revents != 0) let_in();
      if (ends[0].revents != 0) rank_lives = listen_to_rank(0);
      if (!settled(seats_[0].last.fate) || rank_lives) take(rank_lives ? report() : last_report(), now);

      if (std::all_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.last.fate == Fate::finished; })) _exit(0);
      if (trouble == 0 && troubles_ > 0) trouble = now;
      if (trouble > 0 && now - trouble > last_words) end_all(verdict());
      if (trouble == 0 && page_.meeting.deadline > 0) {
        const std::vector<Doing> all = doing();
        if (const Stall stall = stalled_rank(all, page_.meeting.deadline, now); stall.rank >= 0) end_all(failure_of(stall.rank, stall.why, all));
      }
    }
  }

  void let_in() {
    const int socket = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) return guests_.push_back({.socket = socket, .received = {}, .known = false, .rank = -1});
    if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
      end_all(sentence("rank 0's companion cannot let that of another rank in: ", std::strerror(errno), "; raise the limit of open files on its machine (ulimit -n) above ", page_.meeting.ranks + 64));
  }

  /// The first rank but 0 that is still at work has the companion that tells if this one is lost.
  void name_speaker() {
    std::size_t next = 1;
    while (next < seats_.size() && seats_[next].last.fate == Fate::finished) ++next;
    if (next >= seats_.size() || next == speaker_) return;
    for (const Guest& guest : guests_)
      if (guest.known && guest.rank == static_cast<int>(next) && tcp::send_all(guest.socket, &speaker, 1)) speaker_ = next;
  }

  void hear(Guest& guest, double now) {
    char bytes[8192];
    const ssize_t got = recv(guest.socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) guest.received.append(bytes, static_cast<std::size_t>(got));
    while (guest.socket >= 0 && guest.received.size() >= sizeof(CompanionReport)) {
      CompanionReport heard;
      std::memcpy(static_cast<void*>(&heard), guest.received.data(), sizeof heard);
      guest.received.erase(0, sizeof heard);
      const bool ours = heard.password == page_.meeting.password && heard.rank > 0 && heard.rank < page_.meeting.ranks &&
                        (!guest.known || heard.rank == guest.rank);
      if (!ours) return leave(guest);
      guest.known = true, guest.rank = heard.rank;
      take(heard, now);
    }
    if (got > 0) return;
    if (guest.known && !settled(seats_[static_cast<std::size_t>(guest.rank)].last.fate)) {  // the whole machine, or the companion, is gone
      CompanionReport gone = seats_[static_cast<std::size_t>(guest.rank)].last;
      gone.fate = Fate::died;
      take(gone, now);
    }
    leave(guest);
  }
  static void leave(Guest& guest) {
    close(guest.socket);
    guest.socket = -1;
  }

  void take(const CompanionReport& report, double now) {
    Seat& seat = seats_[static_cast<std::size_t>(report.rank)];
    seat.last = report, seat.heard = now;
    if (seat.trouble == 0 && report.fate != Fate::running && report.fate != Fate::finished) seat.trouble = ++troubles_;
  }
  std::vector<Doing> doing() const {
    std::vector<Doing> all;
    for (const Seat& seat : seats_) {
      Doing one = seat.last.doing;
      one.since = seat.heard - seat.last.age;
      if (page_.meeting.deadline > 0 && steady_seconds() - seat.heard > page_.meeting.deadline / 2) one = stopped_since(one, seat.heard);  // its companion is silent too
      if (seat.last.fate == Fate::finished) one.state = Doing::State::finished;
      all.push_back(one);
    }
    return all;
  }

  /// The sentence for the rank that is the reason: of those in trouble the gravest, and of these the first. "" where all were told to stop.
  std::string verdict() const {
    const Seat* reason = nullptr;
    const auto gravity = [](const Seat& seat) { return seat.last.fate == Fate::died ? Fate::failed : seat.last.fate; };
    for (const Seat& seat : seats_)
      if (seat.trouble > 0 && (!reason || gravity(seat) > gravity(*reason) || (gravity(seat) == gravity(*reason) && seat.trouble < reason->trouble)))
        reason = &seat;
    const int rank = static_cast<int>(reason - seats_.data());
    switch (reason->last.fate) {
      case Fate::parted:
        return std::string(reason->last.why.view());
      case Fate::died:
        return failure_of(rank, "its process was killed, crashed or left without a word", doing());
      case Fate::stopped:
        if (troubles_ == page_.meeting.ranks) return "";
        return failure_of(rank, "its process was told to stop by a signal", doing());
      default:
        return failure_of(rank, reason->last.why.view(), doing());
    }
  }

  [[noreturn]] void end_all(const std::string& sentence) {
    if (!sentence.empty()) say(sentence);
    for (const Guest& guest : guests_) tcp::send_all(guest.socket, &ended, 1);
    end_rank();
    // A socket that closes with something unread takes back what it sent: so all are read until they close.
    for (const double start = steady_seconds(); !guests_.empty() && steady_seconds() - start < 2; usleep(2000)) {
      for (Guest& guest : guests_) hear(guest, start);
      std::erase_if(guests_, [](const Guest& guest) { return guest.socket < 0; });
    }
    _exit(1);
  }

  CompanionPage& page_;
  const int link_, listening_;
  const pid_t process_;
  std::vector<Guest> guests_;
  std::vector<Seat> seats_;
  double stopped_at_ = 0;  // when the rank was first seen stopped; 0: it runs
  int troubles_ = 0;
  std::size_t speaker_ = 0;
};

}  // namespace golem
