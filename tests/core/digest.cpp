// SHA-256: the vectors of FIPS 180-4, every way to cut the input, and the two block functions against each other.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/digest.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

namespace {
std::string digest_of(const std::string& text) { return golem::sha256_hex(text.data(), text.size()); }
}  // namespace

TEST_CASE("SHA-256 gives the standard's values") {
  CHECK(digest_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest_of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(digest_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 of pieces is that of the whole, wherever it is cut") {
  for (std::size_t length = 0; length < 200; ++length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) text += static_cast<char>(i * 37 + length);
    const std::string whole = digest_of(text);
    for (std::size_t cut = 0; cut <= length; cut += 1 + length / 16) {
      golem::Sha256 digest;
      digest.update(text.data(), cut);
      digest.update(text.data() + cut, 0);
      digest.update(text.data() + cut, length - cut);
      REQUIRE(digest.hex() == whole);
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("SHA-256 with the processor's instructions is that without") {
  if (!golem::sha256::extended()) return;
  std::vector<unsigned char> bytes(64 * 9);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * i * 31 + i);
  for (std::size_t blocks = 0; blocks <= 9; ++blocks) {
    golem::sha256::State plain{1, 2, 3, 4, 5, 6, 7, 0xffffffff}, extended{1, 2, 3, 4, 5, 6, 7, 0xffffffff};
    golem::sha256::compress_plain(plain, bytes.data(), blocks);
    golem::sha256::compress_extended(extended, bytes.data(), blocks);
    for (int i = 0; i < 8; ++i) REQUIRE(plain[i] == extended[i]);
  }
}
#endif
