#!/usr/bin/env bash
# Unit costs that deploy/SCALE.md multiplies: a commit, a split, an input of the plan, and what processes tell each other per split.
#
#   benches/scale.sh [SPLITS ...]      (default: 250 1000)
#
# Every split is one file with one record, and every split is committed by itself, so that what is measured is the engine and not the work. The
# network is the loopback of a namespace of its own, whose counters nothing else moves; without the right to make one that part is left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
curette=$(realpath "${CURETTE:-target/release/curette}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- 250 1000

pipeline() { # SPLITS NAME INTERVAL
  local dir="$work/records-$1"
  if [ ! -d "$dir" ]; then
    mkdir "$dir"
    for i in $(seq "$1"); do echo "{\"id\": \"v$i\", \"title\": \"Street food $i\"}" > "$dir/$i.jsonl"; done
  fi
  cat > "$work/$2.toml" <<TOML
[pipeline]
name = "scale"
output = "$work/$2"
split_max_items = 1
[engine]
commit_interval_seconds = $3
max_restarts = 0
[step.records]
type = "metadata"
path = "$dir"
[step.keywords]
type = "keyword_filter"
inputs = ["records"]
dictionary = "$PWD/datasets/medical_terms.txt"
min_hits = 1
[step.videos]
type = "parquet"
inputs = ["keywords"]
TOML
}

seconds() { # COMMAND: how long it takes
  local from=$EPOCHREALTIME
  "$@" > /dev/null 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
  awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'
}

for splits in "$@"; do
  pipeline "$splits" "one-$splits" 0
  took=$(seconds "$curette" run "$work/one-$splits.toml" --quiet -w 1 --metrics-file "$work/metrics")
  commits=$(sed -n 's/^curette_commit_seconds_count{table="stages"} //p' "$work/metrics")
  each=$(awk '/^curette_commit_seconds_sum/ { s += $2 } /^curette_commit_seconds_count/ { n += $2 } END { printf "%.1f", 1000 * s / n }' \
    "$work/metrics")
  log=$(find "$work/one-$splits/stages/_delta_log" -name '*.json' -printf '%s\n' | awk '{ s += $1 } END { printf "%d", s / NR }')
  plan=$(find "$work/one-$splits/_curette/plans" -name inputs.parquet -printf '%s\n')
  again=$(seconds "$curette" run "$work/one-$splits.toml" --quiet -w 1)
  printf '%s splits: %s s; %s commits of %s ms per table, a log entry %s bytes; plan %s bytes per input; all done already: %s s\n' \
    "$splits" "$took" "$commits" "$each" "$log" "$((plan / splits))" "$again"
done

# What each process holds of the plan: the difference between two listings.
peak() { # INPUTS: peak resident memory of `plan` in KiB, and its seconds
  pipeline "$1" "plan-$1" 60
  python3 - "$curette" plan "$work/plan-$1.toml" <<'PYTHON'
import resource, subprocess, sys, time
begun = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, f"{time.monotonic() - begun:.2f}")
PYTHON
}
read -r small small_time <<< "$(peak 1000)"
read -r large large_time <<< "$(peak 41000)"
printf 'plan: %s bytes of memory and %s us per input (1,000 inputs %s s, 41,000 inputs %s s)\n' "$(((large - small) * 1024 / 40000))" \
  "$(awk -v a="$small_time" -v b="$large_time" 'BEGIN { printf "%.0f", (b - a) * 1e6 / 40000 }')" "$small_time" "$large_time"

if ! unshare -n true 2> /dev/null; then
  echo "no network namespaces here: traffic is not measured"
  exit
fi
splits=$1
for processes in 2 4; do
  for few in "$((splits / 2))" "$splits"; do
    pipeline "$few" "net-$processes-$few" 5
    for i in $(seq "$processes"); do echo "127.0.0.1:$((2100 + i))"; done > "$work/hosts"
    unshare -n bash -c '
      ip link set lo up
      for i in $(seq 0 $(($1 - 1))); do "$2" run "$3" --quiet -w 1 --hosts "$4" --process "$i" > /dev/null 2>&1 & done
      wait
      awk "\$1 == \"lo:\" { print \$2, \$3 }" /proc/net/dev' \
      - "$processes" "$curette" "$work/net-$processes-$few.toml" "$work/hosts" > "$work/traffic-$few"
  done
  # The difference leaves out what does not grow: handshakes, keep-alives, the building of the dataflow.
  paste -d' ' "$work/traffic-$((splits / 2))" "$work/traffic-$splits" | awk -v p="$processes" -v n="$((splits - splits / 2))" \
    '{ printf "%d processes of one worker: %.0f bytes and %.1f packets per split among all\n", p, ($3 - $1) / n, ($4 - $2) / n }'
done
