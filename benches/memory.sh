#!/usr/bin/env bash
# Peak memory must not depend on the number of inputs: the same video linked FEW and MANY times, curated in alternating runs.
#
#   benches/memory.sh [VIDEO] [FEW] [MANY] [ROUNDS]      (default: a short video of the sample corpus, 200, 2000, 1)
#
# Prints the peak resident memory of each run and the ratio of the medians; exits 1 when it is above 1.10.
#
#   LIMIT_MIB=1024 benches/memory.sh [VIDEO] [FEW] [MANY] [ROUNDS]
#
# Compares MANY without and with `memory_limit_bytes` instead (FEW is not used): peaks and times, alternating. The limited run is also put into a
# control group that kills at four thirds of the limit, where this user may make one. Exits 1 when a limited peak is above the limit or the median
# time grows by more than 10 %.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
curette=${CURETTE:-target/release/curette}
video=$(realpath "${1:-out/sample/videos/xray-still.mp4}")
few=${2:-200} many=${3:-2000} rounds=${4:-1}
head=$(realpath "${HEAD_FILE:-out/sample/head.safetensors}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A control group with a hard limit of that many bytes (version 1 or 2); empty where none can be made.
group() { # BYTES
  local root file dir
  for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    [ "$root" = /sys/fs/cgroup/memory ] && file=memory.limit_in_bytes || file=memory.max
    dir="$root/curette-bench-$$"
    mkdir "$dir" 2>/dev/null || continue
    echo "$1" 2>/dev/null > "$dir/$file" && { echo "$dir"; return; }
    rmdir "$dir"
  done
}

run() { # COUNT ROUND [LIMIT_MIB]: prints the peak in bytes, and the seconds
  local dir="$work/$1" out="$work/out-$1-$2" limit=${3:-0} group=
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
memory_limit_bytes = $((limit << 20))
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
  [ "$limit" -eq 0 ] || group=$(group $(((limit << 20) / 3 * 4)))
  (
    [ -z "$group" ] || echo "$BASHPID" > "$group/cgroup.procs"
    exec "$curette" run "$work/$1-$2.toml" --quiet --format json 2> "$work/log"
  ) | sed 's/.*"seconds":\([0-9.]*\).*"peak_memory_bytes":\([0-9]*\).*/\2 \1/'
  [ "$limit" -eq 0 ] || echo "  ${group:-no control group}: $(grep -o 'Memory limit: .*' "$work/log")" >&2
  [ -z "$group" ] || rmdir "$group"
  rm -rf "$out"
}

median() { printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p"; }

if [ -n "${LIMIT_MIB:-}" ]; then
  free_times=() limited_times=() worst=0
  for round in $(seq "$rounds"); do
    read -r free_peak free_time <<< "$(run "$many" "$round")"
    read -r peak time <<< "$(run "$many" "$round" "$LIMIT_MIB")"
    free_times+=("$free_time") limited_times+=("$time")
    [ "$peak" -le "$worst" ] || worst=$peak
    printf 'round %s: without %s MiB %s s, limit %s MiB: %s MiB %s s (load %s)\n' "$round" "$((free_peak >> 20))" "$free_time" \
      "$LIMIT_MIB" "$((peak >> 20))" "$time" "$(cut -d' ' -f1 /proc/loadavg)"
  done
  awk -v a="$(median "${free_times[@]}")" -v b="$(median "${limited_times[@]}")" -v peak="$worst" -v limit="$((LIMIT_MIB << 20))" \
    'BEGIN { printf "limited / free: %.3f of the time; peak / limit: %.3f\n", b / a, peak / limit; exit b / a > 1.10 || peak > limit }'
  exit
fi

few_peaks=() many_peaks=()
for round in $(seq "$rounds"); do
  read -r peak _ <<< "$(run "$few" "$round")" && few_peaks+=("$peak")
  read -r peak _ <<< "$(run "$many" "$round")" && many_peaks+=("$peak")
  printf 'round %s: %s inputs %s MiB, %s inputs %s MiB (load %s)\n' "$round" "$few" "$((${few_peaks[-1]} >> 20))" "$many" "$((${many_peaks[-1]} >> 20))" "$(cut -d' ' -f1 /proc/loadavg)"
done
a=$(median "${few_peaks[@]}") b=$(median "${many_peaks[@]}")
awk -v a="$a" -v b="$b" 'BEGIN { r = b / a; printf "many / few: %.3f\n", r; exit r > 1.10 }'
