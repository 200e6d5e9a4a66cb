// Progress: the line's text, silence where nobody looks, and a terminal's line rewritten in place.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/progress.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>

#include "catch.hpp"

namespace {

golem::StepReport report_of(std::int64_t step) {
  golem::StepReport report;
  report.step = step, report.tokens = 4096, report.loss = 3.45678, report.gradient_norm = 0.8312, report.learning_rate = 3e-4, report.seconds = 0.5;
  return report;
}

/// What a Progress writes to a stream that is no terminal.
std::string shown(golem::ProgressOptions options, std::int64_t steps) {
  std::FILE* const file = std::tmpfile();
  options.stream = file;
  {
    golem::Progress progress(options);
    for (std::int64_t step = 1; step <= steps; ++step) {
      golem::StepReport report = report_of(step);
      if (step == 2) report.note = "loss scale halved";
      progress.show(report);
    }
  }
  std::rewind(file);
  char text[4096];
  const std::size_t size = std::fread(text, 1, sizeof text, file);
  std::fclose(file);
  return {text, size};
}

}  // namespace

TEST_CASE("numbers and times are short") {
  using golem::progress::short_number, golem::progress::short_time;
  CHECK(short_number(0) == "0");
  CHECK(short_number(999) == "999");
  CHECK(short_number(999.7) == "1.0k");
  CHECK(short_number(12345) == "12.3k");
  CHECK(short_number(123456) == "123k");
  CHECK(short_number(5.25e9) == "5.2G");
  CHECK(short_time(0) == "0s");
  CHECK(short_time(59.4) == "59s");
  CHECK(short_time(59.6) == "1m00s");
  CHECK(short_time(185) == "3m05s");
  CHECK(short_time(7 * 3600 + 20 * 60) == "7h20m");
  CHECK(short_time(12 * 86400 + 3 * 3600) == "12d03h");
  CHECK(short_time(1e300) != "");
  CHECK(short_time(0.0 / 0.0) == "?");
}

TEST_CASE("the line says step, loss, speed, norm, rate and the time left") {
  CHECK(golem::progress::line(report_of(120), 1000, 0.5, 4096) == "step 120/1000  loss 3.4568  8.2k tokens/s  norm 0.831  lr 0.0003  left 7m20s");
  CHECK(golem::progress::line(report_of(120), 0, 0, 0) == "step 120  loss 3.4568  norm 0.831  lr 0.0003");
}

TEST_CASE("without a terminal there is silence, or a line now and then") {
  CHECK(shown({.steps = 3}, 3).empty());
  const std::string text = shown({.steps = 3, .every_seconds = 3600}, 3);  // the first, the note, and the last
  CHECK(text.find("step 1/3  loss") == 0);
  CHECK(text.find("\nstep 2: loss scale halved\nstep 3/3  loss") != std::string::npos);
  CHECK(text.find('\r') == std::string::npos);
  CHECK(text.back() == '\n');
}

TEST_CASE("a terminal's line is rewritten in place") {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0) return;  // no terminals here
  std::FILE* const terminal = ::fopen(::ptsname(master), "w");
  if (!terminal) return;
  const winsize size{24, 30, 0, 0};
  ::ioctl(master, TIOCSWINSZ, &size);
  {
    golem::Progress progress({.steps = 2, .stream = terminal});
    progress.show(report_of(1));
    progress.show(report_of(2));
  }
  std::fflush(terminal);
  const std::string expected = "\rstep 1/2  loss 3.4568  8.2k t\x1b[K\rstep 2/2  loss 3.4568  8.2k t\x1b[K\r\n";
  std::string text;  // a terminal hands over what has arrived so far, in as many reads as it likes
  char part[64];
  for (pollfd arrival{master, POLLIN, 0}; text.size() < expected.size() && ::poll(&arrival, 1, 5000) > 0 && (arrival.revents & POLLIN);) {
    const ::ssize_t bytes = ::read(master, part, sizeof part);
    if (bytes <= 0) break;
    text.append(part, static_cast<std::size_t>(bytes));
  }
  CHECK(text == expected);
  std::fclose(terminal);
  ::close(master);
}
