#!/usr/bin/env bash
# Every header compiles alone, without a warning; those whose library is missing are named and left out.
# SPDX-License-Identifier: Apache-2.0
# headers.sh INCLUDE_FOLDER FOLDERS COMPILER [FLAG...]     FOLDERS: "all", "together" (all, in one translation unit), or names such as "core config"; .hpp, and .cuh too where the flags have "-x cu"
set -uo pipefail
root=$(cd "$1" && pwd) folders=$2 together=no
shift 2
[ "$folders" != together ] || { together=yes folders=all; }
compile=("$@" "-I$root")

search=()
for flag in "${compile[@]:1}"; do
  case $flag in -I* | -isystem*) search+=("$flag") ;; esac
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
has() { # from a file: nvcc takes no standard input
  echo "#include <$1>" >"$scratch/has.cpp"
  "${compile[0]}" -std=c++20 "${search[@]}" -x c++ -E "$scratch/has.cpp" >/dev/null 2>&1
}
names=(-name '*.hpp')
case " ${compile[*]} " in *' -x cu '*) names=(-name '*.hpp' -o -name '*.cuh') ;; esac

# Architecture section 6: who needs what.
leave_out='^$'
leave() { leave_out+="|^golem/$1"; echo "left out: golem/$1, without <$2>"; }
if [ "$folders" = all ]; then
  has nlohmann/json.hpp || { leave io/ nlohmann/json.hpp; leave report/ nlohmann/json.hpp; }
  has sentencepiece_processor.h || leave data/tokenizer sentencepiece_processor.h
  has mpi.h || leave comm/mpi mpi.h
  has nccl.h || leave comm/nccl nccl.h
  has cuda_runtime.h || leave cuda/ cuda_runtime.h
fi

cd "$root" || exit 1
{
  if [ "$folders" = all ]; then find golem "${names[@]}"; else for folder in $folders; do find "golem/$folder" "${names[@]}"; done; fi
} | grep -vE "$leave_out" | sort >"$scratch/headers"
[ -s "$scratch/headers" ] || { echo "no headers under $root"; exit 1; }

if [ $together = yes ]; then # nvcc takes ten seconds for a header, and that each compiles alone other compilers have said
  sed 's/.*/#include "&"/' "$scratch/headers" >"$scratch/together.cpp"
  "${compile[@]}" "$scratch/together.cpp" || { echo "do not compile together: headers of $root"; exit 1; }
  echo "$(wc -l <"$scratch/headers") headers compile together: ${compile[*]}"
  exit 0
fi

# One translation unit a header, included twice; a second time with OpenMP and oneDNN switched on where the text asks for it.
one() {
  local header=$1
  shift
  local unit="$scratch/${header//\//.}.cpp"
  printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$unit"
  "$@" "$unit" || { echo "does not compile alone: $header"; return 1; }
  [ "$onednn" = yes ] && grep -q GOLEM_ONEDNN "$header" || return 0
  "$@" -fopenmp -DGOLEM_ONEDNN=1 "$unit" || { echo "does not compile alone with oneDNN: $header"; return 1; }
}
onednn=no
[ "$folders" = all ] && [ ${#names[@]} = 2 ] && has dnnl.h && has omp.h && onednn=yes
export -f one
export scratch onednn
xargs -P "$(nproc)" -I{} bash -c 'one "$@"' _ {} "${compile[@]}" <"$scratch/headers" || exit 1
echo "$(wc -l <"$scratch/headers") headers compile alone: ${compile[*]}"
