#!/usr/bin/env bash
# CPU time of sampling one picture of 224 x 224 per second, against ffmpeg decoding everything (`-f null -`) or key frames alone, same file, one
# thread, alternating; the median of the rounds' ratios is the figure.
#
#   benches/media.sh MEDIA_FOLDER [ROUNDS] [WORK_FOLDER]
#
# MEDIA_FOLDER holds surgery-laparoscopy-720p.mp4, nature-butterfly-720p.mp4 and nature-bee-720p.mp4. WORK_FOLDER keeps the files that are encoded
# here (20 s each, x264 medium, crf 23). Needs ffmpeg, awk, and a release build: cargo build --release -p curette-media --example sample
# (CURETTE_SAMPLE names it elsewhere).
set -euo pipefail
media=$1 rounds=${2:-5} work=${3:-${TMPDIR:-/tmp}/bench-curette-media}
sample=${CURETTE_SAMPLE:-target/release/examples/sample}
source "$(dirname "${BASH_SOURCE[0]}")/media-common.sh"

sampled() { # TITLE GOAL FILE MODE FFMPEG_OPTIONS...
    local title=$1 goal=$2 file=$3 mode=$4
    shift 4
    compare "$title" "$goal" "$sample" "$mode" "$file" -- ffmpeg -nostdin -threads 1 "$@" -i "$file" -map 0:v:0 -f null -
}

encode 720-g60 1280 720 -g 60
encode 720-g250 1280 720 -g 250
encode 1080-g60 1920 1080 -g 60
encode 1080-g250 1920 1080 -g 250
encode 720-interlaced 1280 720 -g 60 -flags +ildct+ilme
laparoscopy=$media/surgery-laparoscopy-720p.mp4

echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores, $("$sample" exact "$work/720-g60.mp4" 2>&1 | sed 's/.*: //')"
echo "| what | ours, s CPU | ffmpeg, s CPU | ratio | goal |"
echo "|---|---|---|---|---|"
for size in 720 1080; do
    sampled "exact, $size, GOP 60" 0.55 "$work/$size-g60.mp4" exact
    sampled "exact, $size, GOP 250" 0.66 "$work/$size-g250.mp4" exact
    sampled "within 0.5 s, $size, GOP 60" 0.28 "$work/$size-g60.mp4" within=0.5
    sampled "within 0.5 s, $size, GOP 250" 0.50 "$work/$size-g250.mp4" within=0.5
    sampled "key frames, $size, GOP 60, against -skip_frame nokey" 1.10 "$work/$size-g60.mp4" keyframes -skip_frame nokey
    sampled "key frames, $size, GOP 250, against -skip_frame nokey" 1.10 "$work/$size-g250.mp4" keyframes -skip_frame nokey
done
sampled "exact, laparoscopy" 0.62 "$laparoscopy" exact
sampled "within 0.5 s, laparoscopy" - "$laparoscopy" within=0.5
sampled "everything (interlaced: structure unknown), 720" 1.10 "$work/720-interlaced.mp4" exact
