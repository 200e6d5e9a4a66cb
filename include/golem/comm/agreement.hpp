// Agreement: ranks that were started with different models, seeds, data or versions find out before they do anything together.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/group.hpp"
#include "golem/core/digest.hpp"

namespace golem {

/// The texts of all ranks of a group; every rank gets them.
inline std::vector<std::string> gather_texts(Group& group, std::string_view text) {
  const auto ranks = static_cast<std::size_t>(group.size());
  if (ranks == 1) return {std::string(text)};
  std::vector<std::int64_t> lengths(ranks);
  const std::int64_t length[]{static_cast<std::int64_t>(text.size())};
  group.all_gather(View<std::int64_t, 1>(lengths.data(), group.size()), View<const std::int64_t, 1>(length, 1));
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::uint8_t> own(text.begin(), text.end()), all(ranks * static_cast<std::size_t>(longest));
  own.resize(static_cast<std::size_t>(longest));
  group.all_gather(View<std::uint8_t, 1>(all.data(), longest * group.size()), View<const std::uint8_t, 1>(own.data(), longest));
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rank) * longest;
    texts.emplace_back(begin, begin + lengths[rank]);
  }
  return texts;
}

/// "'... layers 70, hidden 12288 ...'": the piece of a text around a byte.
inline std::string piece_of(const std::string& text, std::size_t at) {
  constexpr std::size_t before = 40, length = 80;
  const std::size_t begin = at > before ? at - before : 0;
  return sentence('\'', begin > 0 ? "..." : "", text.substr(begin, length), begin + length < text.size() ? "..." : "", '\'');
}

/// Returns where every rank of the group gives the same text; else ends the run with one sentence that names `what`, the ranks, and where
/// the texts begin to differ. Ranks exchange digests, and texts only where those differ.
inline void agree(Group& group, std::string_view what, std::string_view text) {
  if (group.size() == 1) return;
  const std::string digest = sha256_hex(text.data(), text.size());
  const std::vector<std::string> digests = gather_texts(group, digest);
  if (std::count(digests.begin(), digests.end(), digests[0]) == group.size()) return;
  const std::vector<std::string> texts = gather_texts(group, text);
  std::vector<int> others;
  for (int rank = 0; rank < group.size(); ++rank)
    if (texts[static_cast<std::size_t>(rank)] != texts[0]) others.push_back(rank);
  const std::string &mine = texts[0], &other = texts[static_cast<std::size_t>(others[0])];
  const auto at = static_cast<std::size_t>(std::mismatch(mine.begin(), mine.end(), other.begin(), other.end()).first - mine.begin());
  group.end_run(sentence(list_of_ranks(others), others.size() == 1 ? " does" : " do", " not agree with rank 0 on ", what, ": ", piece_of(mine, at),
                         " on rank 0, ", piece_of(other, at), " on rank ", others[0], ": start all ranks alike"));
}

}  // namespace golem
