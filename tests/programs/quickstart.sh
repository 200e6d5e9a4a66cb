#!/usr/bin/env bash
# examples/quickstart.sh up to its build, and how the books are installed: options that are wrong, whose folder is whose, and who is root. Nothing is fetched.
# SPDX-License-Identifier: Apache-2.0
# quickstart.sh SOURCE
set -euo pipefail
quickstart=$1/examples/quickstart.sh books=$1/examples/corpus_debian.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*"; exit 1; }
# stub NAME LINE: a program of that name, before all others, that does this alone.
mkdir stubs
stub() {
  printf '#!/bin/sh\n%s\n' "$2" >"stubs/$1"
  chmod +x "stubs/$1"
}
stub dpkg-query 'echo install ok installed'
stub cmake 'echo stub cmake >&2; exit 7'
stub id 'echo 1000'
stub sudo "echo \"\$*\" >>'$work/as_root'"
stub apt-get 'echo "apt-get: Permission denied" >&2; exit 100'
export PATH=$work/stubs:$PATH

# refuse WORDS OPTIONS...: it ends with one line that has these words, before anything is built.
refuse() {
  local words=$1 status=0
  shift
  bash "$quickstart" "$@" >out 2>err || status=$?
  [ $status = 2 ] && [ "$(wc -l <err)" = 1 ] && grep -qF -- "$words" err || { cat err; fail "'$words' was not said (status $status) of: $*"; }
}
mkdir -p texts/more 'two words'
for n in 1 2 3 4 5 6; do echo "text $n" >texts/more/$n.txt; done
cp -r texts kept
for option in --corpus --out --minutes --threads; do refuse "$option needs a value" $option; done
refuse "--out needs the name" --out ''
refuse "is no folder" --corpus nowhere
for minutes in 0 x 1.5 08 ''; do refuse "a whole number of minutes" --minutes "$minutes"; done
for out in texts texts/run texts/more . 'two words/..'; do refuse "lie one within the other" --corpus texts --out "$out"; done
mkdir -p made && mv texts made/corpus
refuse "lie one within the other" --corpus made/corpus --out made
refuse "lie one within the other" --corpus made/corpus/more --out made
mv made/corpus texts
diff -r texts kept || fail "a refused run touched the text"

# built OUT OPTIONS...: it gets as far as the build, with the text in OUT.
built() {
  local out=$1 status=0
  shift
  bash "$quickstart" "$@" >log 2>err || status=$?
  [ $status = 7 ] && grep -q 'stub cmake' err || { cat err; fail "should have come to the build (status $status): $*"; }
  [ "$(cat "$out"/corpus/train/*.txt "$out"/corpus/held_out/*.txt | sort)" = "$(cat kept/more/*.txt)" ] || fail "the text in $out: $(ls "$out"/corpus/*)"
}
built 'two words/run' --corpus texts --out 'two words/run'
built texts-run --corpus ./texts/ --out texts-run # a name that begins alike is another folder
built texts-run --corpus texts --out texts-run --minutes 2 --threads 1
diff -r texts kept || fail "a run touched the text"

# The books, as if they were missing, for one who is not root.
sed 's|=/usr/share/|=/nowhere/|' "$books" >books.sh
[ "$(diff "$books" books.sh | grep -c '^>')" = 2 ] || fail "the books' folders are somewhere else by now"
sh books.sh corpus >out 2>err || true
grep -q ' apt-get update$' as_root && grep -q ' apt-get install .* debian-handbook$' as_root || { cat err; fail "books are to be installed by sudo"; }

# Who asks for more minutes than the books are good for is told so before anything is done; with a text of one's own there is nothing to say.
built texts-run --corpus texts --out texts-run --minutes 60
! grep -q 'learnt by heart' err || fail "the books were spoken of, with a text of one's own"
for minutes in 10 60; do
  if bash "$quickstart" --minutes $minutes --out books-run >out 2>err; then fail "it went on without a build"; fi
  [ "$(grep -c 'learnt by heart' err)" = $((minutes > 10)) ] || { cat err; fail "what is said of $minutes minutes"; }
done
[ "$(grep -n 'learnt by heart' err | cut -d: -f1)" = 1 ] || fail "it was said too late"
echo "all went as it should"
