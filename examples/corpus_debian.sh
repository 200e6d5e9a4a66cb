#!/bin/sh
# Makes a small bilingual corpus, about 3 MB of English and Chinese prose, from two free books that Debian packages.
# SPDX-License-Identifier: Apache-2.0
#
#   examples/corpus_debian.sh OUT     writes OUT/train/*.txt and OUT/held_out/*.txt, one file a chapter and language
#
# The books are the Debian Reference and the Debian Administrator's Handbook; missing packages are installed with apt-get.
# One line holds one paragraph, heading or table row; code keeps its lines. A blank line stands before each heading.
set -eu

# Held out: whole chapters, the same in both languages, so that no text of theirs is trained on in translation.
held_out_reference="ch04 ch07"
held_out_handbook="unix-services workstation"

reference=/usr/share/debian-reference
handbook=/usr/share/doc/debian-handbook/html
out=${1:?"usage: $0 OUT"}
export LC_ALL=C  # awk and sed see bytes, whatever the caller's locale

[ -e $reference/ch01.en.html ] && [ -e $reference/ch01.zh-cn.html ] && [ -e $handbook/zh-CN/index.html ] || {
  as_root="env DEBIAN_FRONTEND=noninteractive"
  [ "$(id -u)" = 0 ] || as_root="sudo $as_root"
  $as_root apt-get update
  $as_root apt-get install -y --no-install-recommends debian-reference-en debian-reference-zh-cn debian-handbook
}

# text LANGUAGE FILE...: the text of XHTML pages, without navigation, tables of contents, link lists and footnote marks.
# A record is a tag and the text behind it: "p class='x'>Text".
text() {
  language=$1
  shift
  awk -v RS='<' -v chinese="$([ "$language" = zh ] && echo 1)" '
    function plain(s) {
      gsub(/&lt;/, "<", s); gsub(/&gt;/, ">", s); gsub(/&quot;/, "\"", s); gsub(/&#10;/, "\n", s); gsub(/&amp;/, "\\&", s)
      gsub(/\302\240/, " ", s)  # no-break space
      return s
    }
    function flush() {  # writes the paragraph that has been gathered
      gsub(/[ \t]*\n[ \t\n]*/, "\n", line)
      while (chinese && match(line, /[\200-\377]\n[\200-\377]/)) line = substr(line, 1, RSTART) substr(line, RSTART + 2)
      gsub(/[ \t\n]+/, " ", line)
      gsub(/( \|)+ *$/, "", line)
      sub(/^[ |]+/, "", line)
      sub(/ $/, "", line)
      # Prose that nobody has translated yet is English again, and left out.
      untranslated = chinese && !heading && line !~ / \| / && length(line) > 40 && line !~ /[\344-\351][\200-\277][\200-\277]/
      if (line != "" && !untranslated) print (heading ? "\n" : "") line
      line = ""
    }
    function write_code() {
      gsub(/\342\206\265/, "", code)  # the return key that the Handbook draws at the ends of lines
      gsub(/[ \t]+\n/, "\n", code)
      sub(/^\n+/, "", code)
      sub(/[ \t\n]+$/, "", code)
      if (code != "") print code
      code = ""
    }
    {
      end = index($0, ">")
      tag = substr($0, 1, end - 1)
      name = tag
      sub(/[ \t\n\/].*/, "", name)
      if (substr(tag, 1, 1) == "/") name = "/" substr(tag, 2)
      alone = tag ~ /\/$/
    }
    skipped {  # inside an element that is left out, until it closes
      if (name == skipped && !alone) ++depth
      if (name == "/" skipped && --depth == 0) skipped = ""
      if (skipped) next
    }
    name ~ /^(head|sup)$/ || tag ~ /class="(toc|docnav|docnav top|navheader|navfooter|url|list-of-tables)"/ || tag ~ /id="(banner|title)"/ {
      if (!alone) { if (name ~ /^(p|div|ul)$/ && tag !~ /"url"/) flush(); skipped = name; depth = 1; next }
    }
    name == "pre" { flush(); code = ""; in_code = 1 }
    name == "/pre" { in_code = 0; code = plain(code); write_code() }
    name ~ /^h[1-6]$/ { flush(); heading = 1 }
    name ~ /^\/h[1-6]$/ { flush(); heading = 0 }
    name == "tr" { flush(); cells = 0 }
    name ~ /^t[dh]$/ && cells++ { line = line " | " }
    name == "/tr" { flush(); cells = 0 }
    name ~ /^\/?(p|div|li|dt|dd|table|ul|ol|dl|br|hr)$/ { flush() }
    in_code { code = code substr($0, end + 1); next }
    { line = line plain(substr($0, end + 1)) }
    END { flush() }
  ' "$@"
}

# write LANGUAGE BOOK CHAPTER HELD_OUT FILE...: one chapter, into the set that it belongs to.
write() {
  language=$1 book=$2 chapter=$3 held_out=$4
  shift 4
  case " $held_out " in *" $chapter "*) set_name=held_out ;; *) set_name=train ;; esac
  text "$language" "$@" | sed '1{/^$/d}' > "$out/$set_name/$book.$language.$chapter.txt"
}

mkdir -p "$out/train" "$out/held_out"
rm -f "$out"/train/reference.*.txt "$out"/train/handbook.*.txt "$out"/held_out/reference.*.txt "$out"/held_out/handbook.*.txt

for language in en zh; do
  [ $language = en ] && suffix=en.html folder=$handbook/en-US || suffix=zh-cn.html folder=$handbook/zh-CN
  for page in $reference/ch*.$suffix; do
    chapter=${page##*/}
    write $language reference "${chapter%%.*}" "$held_out_reference" "$page"
  done
  # The Handbook's pages name each the next one; a page that is no section begins a chapter.
  page=preface.html chapter='' pages=''
  while [ -n "$page" ]; do
    case $page in
      sect.*) ;;
      *)
        [ -z "$chapter" ] || write $language handbook "$chapter" "$held_out_handbook" $pages
        chapter=${page%.html} pages=''
        ;;
    esac
    pages="$pages $folder/$page"
    page=$(sed -n 's/.*<link rel="next" href="\([^"]*\)".*/\1/p' "$folder/$page")
  done
  write $language handbook "$chapter" "$held_out_handbook" $pages
done

for set_name in train held_out; do
  for language in en zh; do
    echo "$set_name $language: $(cat "$out/$set_name"/*.$language.*.txt | wc -c) bytes"
  done
done
