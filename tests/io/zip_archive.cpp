// Zip archives: what is written reads back, in the plain and in the zip64 form; each way that one can lie has its sentence.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/zip_archive.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/io/zip_writer.hpp"
#include "io/files.hpp"
#include "io/zip.hpp"

using test::error_of, test::has, test::zip_of, test::zip_part, test::ZipPart;

namespace {

std::vector<golem::ZipEntry> entries_of(const std::string& file) { return golem::parse_zip(std::as_bytes(std::span(file)), "x.pt"); }

std::string archive_error(const std::string& file) {
  return error_of([&] { entries_of(file); });
}

/// The error of an archive of two entries, "a/b" and "a/c", whose directory was changed.
template <class Change>
std::string error_with(Change change) {
  return archive_error(zip_of({zip_part("a/b", "12345"), zip_part("a/c", "678")}, [&](std::vector<ZipPart>& parts) { change(parts[0], parts[1]); }));
}

std::string text(const golem::ZipArchive& archive, const std::string& name) {
  const golem::ZipEntry* entry = archive.find(name);
  REQUIRE(entry);
  const auto bytes = archive.bytes(*entry);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("the CRC is that of zip archives, however its bytes come") {
  const std::string nine = "123456789", long_text(1003, 'x');
  golem::Crc32 sum;
  sum.update(nine.data(), 4), sum.update(nine.data() + 4, 5);
  CHECK(sum.value() == 0xcbf43926);  // the check value of the standard
  golem::Crc32 whole, parts;
  whole.update(long_text.data(), long_text.size());
  for (std::size_t at = 0, step = 1; at < long_text.size(); at += step, step = step % 17 + 1)
    parts.update(long_text.data() + at, std::min(step, long_text.size() - at));
  CHECK(whole.value() == parts.value());
}

TEST_CASE("an entry's bytes are compared with its CRC, each of them seen once") {
  const test::Folder folder;
  const std::string large((std::size_t{16} << 20) + 5, 'x');
  std::string file = zip_of({zip_part("a/empty", ""), zip_part("a/large", large)}, [](std::vector<ZipPart>&) {});
  for (const bool damaged : {false, true}) {
    if (damaged) file[file.find(large) + large.size() - 1] = 'y';
    test::write(folder / "x.pt", file);
    const golem::ZipArchive archive(folder / "x.pt");
    std::size_t seen = 0;
    const std::string damage = archive.damage_of(*archive.find("a/large"), [&](std::span<const std::byte> piece) { seen += piece.size(); });
    CHECK(seen == large.size());
    CHECK(damage.empty() == !damaged);
    if (damaged) CHECK((has(damage, "x.pt': the bytes of entry 'a/large' at offset ") && has(damage, "copy or download the file again")));
    CHECK(archive.damage_of(*archive.find("a/empty"), [](std::span<const std::byte>) {}).empty());
  }
}

TEST_CASE("an archive that was written reads back, its data at multiples of 64") {
  const test::Folder folder;
  const std::uint64_t zip64_from = GENERATE(std::uint64_t{0xffffffff}, std::uint64_t{300}, std::uint64_t{0});
  std::vector<std::pair<std::string, std::string>> content{{"root/data.pkl", "pickle"}, {"root/data/0", std::string(1000, 'a')}, {"root/data/1", ""}};
  for (int i = 2; i < 40; ++i) content.push_back({golem::sentence("root/data/", i), std::string(static_cast<std::size_t>(i * i % 331), 'c')});
  const std::string path = folder / "archive.pt";
  std::vector<std::uint32_t> sums;
  std::uint64_t behind = 0;
  {
    golem::ZipWriter writer(path, 0, {.zip64_from = zip64_from});
    for (const auto& [name, data] : content) {
      writer.begin(name, data.size());
      writer.write(data.substr(0, data.size() / 3)), writer.write(data.substr(data.size() / 3));
      sums.push_back(writer.end());
      behind = golem::ZipWriter::behind(behind, name, data.size(), zip64_from);
      CHECK(writer.size() == behind);
    }
    writer.finish();
    CHECK(test::read(path).size() == writer.size());
  }
  const golem::ZipArchive archive(path);
  CHECK(archive.entries().size() == content.size());
  for (const auto& [name, data] : content) {
    CHECK(text(archive, name) == data);
    CHECK(archive.find(name)->offset % 64 == 0);
  }
  CHECK(archive.entries()[1].crc == sums[1]);
  CHECK(!archive.find("root/data/99"));

  // The same file, begun and gone on with after some of its entries, has the same bytes.
  const std::string all = test::read(path);
  for (const std::size_t kept : {std::size_t{0}, std::size_t{1}, std::size_t{17}}) {
    std::uint64_t at = 0;
    for (std::size_t i = 0; i < kept; ++i) at = golem::ZipWriter::behind(at, content[i].first, content[i].second.size(), zip64_from);
    test::write(path, all.substr(0, at) + "what a crash left behind");
    golem::ZipWriter writer(path, at, {.zip64_from = zip64_from});
    for (std::size_t i = 0; i < kept; ++i) writer.known(content[i].first, content[i].second.size(), sums[i]);
    for (std::size_t i = kept; i < content.size(); ++i) writer.begin(content[i].first, content[i].second.size()), writer.write(content[i].second);
    writer.finish();
    CHECK(test::read(path) == all);
  }
}

TEST_CASE("a zip writer refuses what would be no archive") {
  const test::Folder folder;
  golem::ZipWriter writer(folder / "x.pt");
  CHECK(has(error_of([&] { writer.write("a"); }), "to an entry that lacks 0"));
  writer.begin("a", 3);
  CHECK(has(error_of([&] { writer.write("1234"); }), "to an entry that lacks 3"));
  CHECK(has(error_of([&] { writer.finish(); }), "entry 'a' lacks 3 of its 3 bytes"));
  CHECK(has(error_of([&] { golem::ZipWriter(folder / "y.pt", 10); }), "it is shorter"));
  test::write(folder / "z.pt", std::string(1000, 'z'));
  golem::ZipWriter resumed(folder / "z.pt", 1000);
  CHECK(has(error_of([&] { resumed.begin("a", 3); }), "only what was there up to 0 was named"));
  CHECK(has(error_of([&] { resumed.known("a", 3000, 1); }), "the file is kept up to 1000"));
}

TEST_CASE("each way that an archive can lie has its sentence, with file and offset") {
  const std::string good = zip_of({zip_part("a/b", "12345"), zip_part("a/c", "678")});
  CHECK(entries_of(good).size() == 2);
  CHECK(entries_of(good)[1].offset == good.find("678"));
  CHECK(entries_of(zip_of({})).empty());

  CHECK(has(archive_error("1234"), "'x.pt' is no zip archive: it has 4 bytes"));
  CHECK(has(archive_error(std::string(100, 'x')), "'x.pt' is no zip archive: its last 100 bytes, from offset 0, have no end record"));
  CHECK(has(archive_error(good.substr(0, good.size() - 1)), "is truncated: it begins like a zip archive"));
  CHECK(has(archive_error(good.substr(10)), "the file is damaged, or parts of it are missing"));
  CHECK(has(archive_error(good + "x"), "no end record"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = "../b"; }), "leads out of the archive"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = "a/.."; }), "leads out of the archive"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = "/ab"; }), "leads out of the archive"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = ""; }), "is empty"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = "a/x"; }),
            "'x.pt', entry 'a/x' of the directory at offset 74: its local header at offset 0 has another name"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.name = "\x1b[2J"; }), "entry '?[2J' of the directory"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.method = 8; }), "it is compressed (method 8)"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.flags = 1; }), "it is encrypted"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.plain = 6; }), "6 bytes are said to take 5"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.crc = 1; }), "other sizes or another CRC"));
  CHECK(has(error_with([](ZipPart&, ZipPart& c) { c.plain = c.stored = 4000000000u; }), "other sizes or another CRC"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.header = 1; }), "there is no local header at offset 1"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.header = 4000000000u; }), "there is no local header at offset 4000000000"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.plain = 0xffffffff; }), "it lacks the zip64 field"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.plain = 0xffffffff, b.extra = std::string("\1\0\4\0abcd", 8); }), "its zip64 field has 4 bytes"));
  CHECK(has(error_with([](ZipPart& b, ZipPart&) { b.plain = 0xffffffff, b.extra = std::string("\1\0\377\377abcd", 8); }),
            "an extra field of 65535 bytes does not fit"));
  CHECK(
      has(error_with([](ZipPart& b, ZipPart&) { b.plain = b.stored = 0xffffffff, b.extra = std::string("\1\0\20\0", 4) + std::string(16, '\x7f'); }),
          "other sizes or another CRC"));

  // An entry whose sizes stand behind its data, as torch's do, can claim what it likes in the directory.
  const auto torch_like = [](auto change) {
    ZipPart b = zip_part("a/b", "12345"), c = zip_part("a/c", "678");
    for (ZipPart* part : {&b, &c}) part->flags = 8, part->stored = part->plain = part->crc = 0;
    return archive_error(zip_of({b, c}, [&](std::vector<ZipPart>& parts) {
      parts[0].stored = parts[0].plain = 5, parts[1].stored = parts[1].plain = 3;
      change(parts[0], parts[1]);
    }));
  };
  CHECK(torch_like([](ZipPart&, ZipPart&) {}) == "no error");
  CHECK(
      has(torch_like([](ZipPart& b, ZipPart&) { b.stored = b.plain = 6; }), "entry 'a/c' begins at offset 38, inside entry 'a/b', which ends at 39"));
  CHECK(has(torch_like([](ZipPart&, ZipPart& c) { c.stored = c.plain = 4; }), "its 4 bytes from offset 71 on run into the directory at offset 74"));
  CHECK(
      has(torch_like([](ZipPart&, ZipPart& c) { c.stored = c.plain = 0xffffffff, c.extra = std::string("\1\0\20\0", 4) + std::string(16, '\xff'); }),
          "18446744073709551615 bytes from offset 71"));
  CHECK(has(torch_like([](ZipPart& b, ZipPart& c) { c = b; }), "inside entry 'a/b'"));

  std::string many = good;
  many[good.size() - 14] = many[good.size() - 12] = 9;
  CHECK(has(archive_error(many), "cannot hold 9 entries"));
  many[good.size() - 14] = many[good.size() - 12] = 1;
  CHECK(has(archive_error(many), "behind its last entry"));
  std::string locator = good.substr(0, good.size() - 22) + golem::zip::Record().u32(golem::zip::locator_signature).u32(0).u64(~0ull).u32(1).bytes();
  CHECK(has(archive_error(locator + good.substr(good.size() - 22)), "there is no zip64 end record at offset 18446744073709551615"));
}
