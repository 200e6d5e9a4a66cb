# What the programs are tested on: the same text whatever else changes, of invented words and Chinese characters, some often and most seldom.
# SPDX-License-Identifier: Apache-2.0

# texts FOLDER COUNT [FIRST]: COUNT files of about 14 KiB each, the first of which is FIRST.txt (0 where none is given).
texts() {
  local file
  mkdir -p "$1"
  for ((file = ${3-0}; file < ${3-0} + $2; ++file)); do
    LC_ALL=C awk -v seed=$((file + 1)) '
      function draw(n) { state = state * 16807 % 2147483647; return int(state / 2147483647 * n) }
      function seldom(n) { return int(draw(1000) * draw(1000) / 1000000 * draw(1000) / 1000 * n) }
      function word(i,  text, j) { # its letters follow from its number alone
        text = ""
        for (j = i % 3; j >= 0; --j) { text = text substr("bdfgklmnprstvz", i * 5 % 14 + 1, 1) substr("aeiou", i * 3 % 5 + 1, 1); i = int(i / 2) + 7 }
        return text (i % 4 ? "" : "n")
      }
      BEGIN {
        state = seed * 7919
        for (i = 0; i < 40; ++i) draw(1)
        for (i = 0; i < 2000; ++i) words[i] = word(i)
        for (i = 0; i < 100; ++i) { code = 19968 + i * 131; characters[i] = sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64) }
        for (paragraph = 0; paragraph < 60; ++paragraph) {
          chinese = draw(3) == 0
          line = ""
          for (sentence = draw(6) + 3; sentence > 0; --sentence) {
            for (left = draw(12) + 4; left > 0; --left) line = line (chinese ? characters[seldom(100)] : words[seldom(2000)] (left > 1 ? " " : ""))
            line = line (chinese ? "。" : ". ")
          }
          print line "\n"
        }
      }' >"$1/$file.txt"
  done
}
