#!/usr/bin/env bash
# CPU time of cutting clips, against ffmpeg and against our own exact cut: same file, same span, alternating; the median of the rounds' ratios is
# the figure.
#
#   benches/cuts.sh MEDIA_FOLDER [ROUNDS] [WORK_FOLDER]
#
# MEDIA_FOLDER as for benches/media.sh, which makes the same inputs. WORK_FOLDER keeps them. Needs ffmpeg, awk, and a release build:
# cargo build --release -p curette-media --example cut (CURETTE_CUT names it elsewhere). Every cut of ours includes its verification, ffmpeg's have
# none.
set -euo pipefail
media=$1 rounds=${2:-5} work=${3:-${TMPDIR:-/tmp}/bench-curette-media}
cut=${CURETTE_CUT:-target/release/examples/cut}
source "$(dirname "${BASH_SOURCE[0]}")/media-common.sh"

keys() { # times of key frames of a file
    ffprobe -v error -select_streams v:0 -skip_frame nokey -show_entries frame=pts_time -of csv=p=0 "$1" | tr -d ,
}

out=$work/out.mp4
for size in 720 1080; do
    wide=$((size * 16 / 9))
    encode "$size-g60" "$wide" "$size" -g 60
    encode "$size-g250" "$wide" "$size" -g 250
done
from=6.4 to=14.4 # between key frames, over two shots
x264=(-an -c:v libx264 -preset veryfast -crf 23 -threads 1 -movflags +faststart)

echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores, $from to $to s"
echo "| what | ours, s CPU | other, s CPU | ratio | goal |"
echo "|---|---|---|---|---|"
for size in 720 1080; do
    for gop in 60 250; do
        file=$work/$size-g$gop.mp4
        compare "exact, $size, GOP $gop, against ffmpeg libx264" 1.05 "$cut" exact "$file" "$from-$to" -- \
            ffmpeg -nostdin -v error -y -threads 1 -ss "$from" -i "$file" -t 8 "${x264[@]}" "$out"
        goal=0.4
        [ "$gop" = 250 ] && goal=1.05
        compare "smart, $size, GOP $gop, against our exact" "$goal" "$cut" smart "$file" "$from-$to" -- "$cut" exact "$file" "$from-$to"
    done
    file=$work/$size-g60.mp4
    start=$(keys "$file" | awk -v t="$from" '$1 >= t { print; exit }')
    end=$(keys "$file" | awk -v t="$to" '$1 <= t { last = $1 } END { print last }')
    length=$(awk -v a="$start" -v b="$end" 'BEGIN { print b - a }')
    copy=(ffmpeg -nostdin -v error -y -ss "$start" -i "$file" -t "$length" -an -c copy -movflags +faststart "$out")
    compare "smart at key frames ($start to $end s), $size, against ffmpeg -c copy" 0.6 "$cut" smart "$file" "$start-$end" -- "${copy[@]}"
    "${copy[@]}"
    decode=(ffmpeg -nostdin -v error -threads 1 -i "$out" -f null -)
    compare "decoding what was cut, against our whole cut, $size: the share of verification" - "${decode[@]}" -- "$cut" smart "$file" "$start-$end"
done

echo
# A clip more in a running process, copied and compared packet by packet (`verify = "packets"`), against one more process of ffmpeg -c copy.
for size in 720 1080; do
    file=$work/$size-g60.mp4
    start=$(keys "$file" | awk -v t="$from" '$1 >= t { print; exit }')
    end=$(keys "$file" | awk -v t="$to" '$1 <= t { last = $1 } END { print last }')
    length=$(awk -v a="$start" -v b="$end" 'BEGIN { print b - a }')
    many=() && for _ in 1 2 3 4 5 6 7 8 9; do many+=("$start-$end"); done
    ratios=""
    for _ in $(seq "$rounds"); do
        one=$(cpu "$cut" smart-packets "$file" "${many[0]}")
        nine=$(cpu "$cut" smart-packets "$file" "${many[@]}")
        theirs=$(cpu bash -c 'for _ in 1 2 3 4 5 6 7 8; do "$@"; done' - ffmpeg -nostdin -v error -y -ss "$start" -i "$file" -t "$length" -an -c copy -movflags +faststart "$out")
        ratios+="$(awk -v a="$one" -v b="$nine" -v c="$theirs" 'BEGIN { print (b - a) / c }')"$'\n'
    done
    echo "one more copied clip ($start to $end s), $size, packets compared: $(printf '%s' "$ratios" | median) of ffmpeg -c copy (goal 0.6)"
done

file=$media/ultrasound-cardiac-240p.mp4
spans=() # nine clips of 2 s that begin and end at key frames
for k in 2 4 6 8 10 12 2 4 6; do spans+=("$k-$((k + 2))"); done
ffmpeg -nostdin -v error -y -ss 2 -i "$file" -t 2 -an -c copy "$out"
slopes="" decodes=""
for _ in $(seq "$rounds"); do
    one=$(cpu "$cut" smart "$file" "${spans[0]}")
    nine=$(cpu "$cut" smart "$file" "${spans[@]}")
    slopes+="$(awk -v a="$one" -v b="$nine" 'BEGIN { print (b - a) / 8 * 1000 }')"$'\n'
    one=$(cpu ffmpeg -nostdin -v error -threads 1 -i "$out" -f null -)
    nine=$(cpu ffmpeg -nostdin -v error -threads 1 -stream_loop 8 -i "$out" -f null -)
    decodes+="$(awk -v a="$one" -v b="$nine" 'BEGIN { print (b - a) / 8 * 1000 }')"$'\n'
done
slope=$(printf '%s' "$slopes" | median) decode=$(printf '%s' "$decodes" | median)
echo "one more clip of 2 s at 240p, copied: $slope ms of CPU; decoding it: $decode ms (goal: at most 5 ms apart)"
slopes=""
for _ in $(seq "$rounds"); do
    one=$(cpu "$cut" smart-packets "$file" "${spans[0]}")
    nine=$(cpu "$cut" smart-packets "$file" "${spans[@]}")
    slopes+="$(awk -v a="$one" -v b="$nine" 'BEGIN { print (b - a) / 8 * 1000 }')"$'\n'
done
echo "the same, packets compared instead of decoded: $(printf '%s' "$slopes" | median) ms of CPU (goal: at most 5)"
for mode in exact smart; do
    echo "peak memory, $mode, 1080, GOP 250: $("$cut" "$mode" "$work/1080-g250.mp4" "$from-$to" 2>&1 | sed -n 's/^peak memory //p')"
done
