#!/usr/bin/env bash
# Peak memory must not depend on the number of inputs: the same video linked FEW and MANY times, curated in alternating runs.
#
#   benches/memory.sh [VIDEO] [FEW] [MANY] [ROUNDS]      (default: a short video of the sample corpus, 200, 2000, 1)
#
# Prints the peak resident memory of each run and the ratio of the medians; exits 1 when it is above 1.10.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
curette=${CURETTE:-target/release/curette}
video=$(realpath "${1:-out/sample/videos/xray-still.mp4}")
few=${2:-200} many=${3:-2000} rounds=${4:-1}
head=$(realpath "${HEAD_FILE:-out/sample/head.safetensors}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { # COUNT ROUND
  local dir="$work/$1" out="$work/out-$1-$2"
  if [ ! -d "$dir" ]; then
    mkdir "$dir"
    for i in $(seq "$1"); do ln "$video" "$dir/$i.${video##*.}" 2>/dev/null || cp "$video" "$dir/$i.${video##*.}"; done
  fi
  cat > "$work/$1-$2.toml" <<TOML
[pipeline]
name = "memory"
output = "$out"
split_max_items = 16
[engine]
commit_interval_seconds = 10
[step.videos]
type = "videos"
path = "$dir"
[step.probe]
type = "probe"
inputs = ["videos"]
[step.embed]
type = "frame_embed"
inputs = ["probe"]
[step.frames]
type = "frame_classifier"
inputs = ["embed"]
head = "$head"
[step.split]
type = "temporal_split"
inputs = ["frames"]
[step.cut]
type = "clip_cut"
inputs = ["split"]
[step.clips]
type = "parquet"
inputs = ["cut"]
exclude = ["frame_embeddings", "frame_scores", "frame_labels", "frame_times_us", "frame_pts"]
TOML
  "$curette" run "$work/$1-$2.toml" --quiet --format json 2>/dev/null | sed 's/.*"peak_memory_bytes":\([0-9]*\).*/\1/'
  rm -rf "$out"
}

few_peaks=() many_peaks=()
for round in $(seq "$rounds"); do
  few_peaks+=("$(run "$few" "$round")")
  many_peaks+=("$(run "$many" "$round")")
  printf 'round %s: %s inputs %s MiB, %s inputs %s MiB (load %s)\n' "$round" "$few" "$((${few_peaks[-1]} >> 20))" "$many" "$((${many_peaks[-1]} >> 20))" "$(cut -d' ' -f1 /proc/loadavg)"
done
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
a=$(median "${few_peaks[@]}") b=$(median "${many_peaks[@]}")
awk -v a="$a" -v b="$b" 'BEGIN { r = b / a; printf "many / few: %.3f\n", r; exit r > 1.10 }'
