#!/usr/bin/env bash
# Does a long run stay flat, and does any file bring it down? Three parts; each prints its figures and exits 1 when a bound is broken.
#
#   benches/endure.sh soak   VIDEO [CLIPS] [WORKERS]           one process makes CLIPS (2000) clips; memory, threads, descriptors while it runs
#   benches/endure.sh broken MEDIA_FOLDER [TIMES] [WORKERS..]  the eight broken files TIMES (100) times in one process, for each number of workers (1 2 4)
#   benches/endure.sh fuzz   MEDIA_FOLDER [FILES] [SEED]       FILES (500) randomly corrupted copies of h264, hevc, vp8, vp9, av1, mpeg2, mpeg4 videos
#
# Bounds: from the end of the first quarter to the end, memory grows by at most MEMORY_MIB (24), threads and descriptors by at most HANDLES (4); at the end of a
# fuzz run every file is a row of one table, and no file took longer than DEADLINE_S (60) plus a teardown.
# CURETTE=target/debug/curette is the binary. Needs python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
curette=$(realpath "${CURETTE:-target/release/curette}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
memory_mib=${MEMORY_MIB:-24} handles=${HANDLES:-4} deadline=${DEADLINE_S:-60}

pipeline() { # FOLDER NAME FPS
  cat <<TOML
[pipeline]
name = "$2"
output = "$work/$2"
split_max_items = 16
max_error_rate = 1.0
[engine]
commit_interval_seconds = 5
[step.videos]
type = "videos"
path = "$1"
[step.probe]
type = "probe"
inputs = ["videos"]
truncated_files = "keep"
timeout_seconds = $deadline
TOML
}

decoding() { # the steps that look at every part of a video
  cat <<TOML
[step.embed]
type = "frame_embed"
inputs = ["probe"]
damaged_videos = "keep_whole_part"
timeout_seconds = $deadline
[step.shots]
type = "shot_split"
inputs = ["embed"]
damaged_videos = "keep_whole_part"
timeout_seconds = $deadline
[step.sharpness]
type = "sharpness"
inputs = ["shots"]
timeout_seconds = $deadline
[step.cut]
type = "clip_cut"
inputs = ["sharpness"]
timeout_seconds = $deadline
speed_preset = "ultrafast"
[step.clips]
type = "parquet"
inputs = ["cut"]
exclude = ["frame_embeddings", "frame_times_us", "frame_pts"]
TOML
}

# Runs a pipeline and writes a line "seconds MiB threads descriptors" every half second.
watch() { # TOML WORKERS SERIES LOG -> exit code of the run
  "$curette" run "$1" -w "$2" --quiet --format json --log json > "$4.json" 2> "$4" &
  local pid=$! begun code=0
  begun=$(date +%s%N)
  while kill -0 "$pid" 2>/dev/null; do
    local rss threads fds
    rss=$(awk '/^VmRSS/{print int($2/1024)}' "/proc/$pid/status" 2>/dev/null || true)
    threads=$(awk '/^Threads/{print $2}' "/proc/$pid/status" 2>/dev/null || true)
    fds=$(ls "/proc/$pid/fd" 2>/dev/null | wc -l)
    [ -n "$rss" ] && [ -n "$threads" ] && echo "$((($(date +%s%N) - begun) / 1000000000)) $rss $threads $fds" >> "$3"
    sleep 0.5
  done
  wait "$pid" || code=$?
  return $code
}

# Twelve lines of the series, and whether it is flat: medians of the second and of the last quarter.
flat() { # SERIES NAME
  python3 - "$1" "$2" "$memory_mib" "$handles" "$(cut -d' ' -f1 /proc/loadavg)" <<'PY'
import statistics, sys
series = [list(map(int, line.split())) for line in open(sys.argv[1])]
name, memory, handles, load = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
if len(series) < 8:
    print(f"{name}: only {len(series)} looks at the process; too short to judge")
    sys.exit(1)
for i in range(12):
    s, rss, threads, fds = series[i * (len(series) - 1) // 11]
    print(f"{name}: {s:5} s  {rss:5} MiB  {threads:3} threads  {fds:3} descriptors")
quarter = len(series) // 4
middle = lambda rows, k: statistics.median(r[k] for r in rows)
early, late = series[quarter:2 * quarter], series[-quarter:]
grown = [middle(late, k) - middle(early, k) for k in (1, 2, 3)]
peak = [max(r[k] for r in series) for k in (1, 2, 3)]
ok = grown[0] <= memory and grown[1] <= handles and grown[2] <= handles
print(f"{name}: growth {grown[0]:+.0f} MiB, {grown[1]:+.0f} threads, {grown[2]:+.0f} descriptors; peak {peak[0]} MiB, {peak[1]} threads, {peak[2]} descriptors; load {load}: {'flat' if ok else 'NOT FLAT'}")
sys.exit(0 if ok else 1)
PY
}

# Every file is accounted for: clips, rejects and errors of the run's own report.
accounted() { # REPORT FILES NAME
  python3 - "$1" "$2" "$3" <<'PY'
import json, sys
report, files, name = json.load(open(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
funnel = {stage["step"]: stage for stage in report["funnel"]}
source = funnel["videos"]
for stage in report["funnel"]:
    rejected, errors = stage["rejected"], stage["errors"]
    ends = stage["passed"] + sum(rejected.values()) + sum(errors.values())
    assert stage["rows_in"] == ends, f"{stage['step']}: {stage['rows_in']} rows in, {ends} accounted for"
    why = ", ".join(f"{code} {n}" for code, n in sorted((rejected | errors).items()))
    print(f"{name}: {stage['step']:10} in {stage['rows_in']:5}  passed {stage['passed']:5}  {why}")
assert source["rows_in"] == files, f"{files} files, {source['rows_in']} rows"
PY
}

soak() {
  local video clips=${2:-2000} workers=${3:-2}
  video=$(realpath "$1")
  mkdir "$work/in"
  for i in $(seq "$clips"); do ln -s "$video" "$work/in/$(printf %05d "$i").${video##*.}"; done
  { pipeline "$work/in" soak; decoding; } > "$work/soak.toml"
  watch "$work/soak.toml" "$workers" "$work/soak.series" "$work/soak.log" || { tail -5 "$work/soak.log"; exit 1; }
  accounted "$work/soak.log.json" "$clips" "soak -w $workers"
  flat "$work/soak.series" "soak -w $workers"
}

broken() {
  local folder times=${2:-100} failed=0
  folder=$(realpath "$1")
  shift $(($# < 2 ? $# : 2))
  mkdir "$work/in"
  for i in $(seq "$times"); do
    for file in "$folder"/broken-* "$folder"/corrupt-decord-720p.mp4; do
      cp "$file" "$work/in/$(printf %03d "$i")-$(basename "$file")"
    done
  done
  local files
  files=$(ls "$work/in" | wc -l)
  for workers in "${@:-1 2 4}"; do for w in $workers; do
    { pipeline "$work/in" "broken$w"; decoding; } > "$work/broken$w.toml"
    watch "$work/broken$w.toml" "$w" "$work/broken$w.series" "$work/broken$w.log" || { tail -5 "$work/broken$w.log"; exit 1; }
    accounted "$work/broken$w.log.json" "$files" "broken -w $w"
    flat "$work/broken$w.series" "broken -w $w" || failed=1
  done; done
  exit $failed
}

fuzz() {
  local folder files=${2:-500} seed=${3:-1} code=0
  folder=$(realpath "$1")
  python3 scripts/fuzz.py "$work/in" "$files" "$seed" "$folder"/{h264-10bit-200p.mp4,nature-bee-720p.mp4,surgery-hevc-720p.mp4,bunny-vp9-480p.webm,av1-360p.mkv,vp8-dancer-360p.webm,mpeg2-1080p.ts,bunny-mpeg4-480p.avi,asl-book-480p.mkv,ultrasound-cardiac-240p.mp4}
  { pipeline "$work/in" fuzz; decoding; } > "$work/fuzz.toml"
  local begun=$SECONDS
  watch "$work/fuzz.toml" 2 "$work/fuzz.series" "$work/fuzz.log" || code=$?
  echo "fuzz: $files files, seed $seed, exit $code after $((SECONDS - begun)) s, load $(cut -d' ' -f1 /proc/loadavg)"
  [ "$code" = 0 ] || { tail -5 "$work/fuzz.log"; exit 1; }
  accounted "$work/fuzz.log.json" "$files" fuzz
  flat "$work/fuzz.series" fuzz
}

case ${1:-} in
  soak | broken | fuzz) part=$1; shift; "$part" "$@" ;;
  *) sed -n '2,12p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
