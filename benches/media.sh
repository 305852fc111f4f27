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
mkdir -p "$work"

encode() { # NAME WIDTH HEIGHT ENCODER_OPTIONS...
    local out=$work/$1.mp4 w=$2 h=$3
    shift 3
    [ -s "$out" ] && return
    local n="scale=$w:$h:force_original_aspect_ratio=decrease:flags=lanczos,pad=$w:$h:-1:-1,setsar=1,fps=30,format=yuv420p,settb=1/30"
    ffmpeg -nostdin -v error -y -i "$media/surgery-laparoscopy-720p.mp4" -i "$media/nature-butterfly-720p.mp4" -i "$media/nature-bee-720p.mp4" \
        -filter_complex "[0:v]$n[a];[1:v]$n[b];[2:v]$n[c];[a][b][c]concat=n=3:v=1:a=0,noise=alls=4:allf=t[v]" \
        -map "[v]" -t 20 -c:v libx264 -preset medium -crf 23 "$@" -movflags +faststart "$out.part.mp4"
    mv "$out.part.mp4" "$out"
}

cpu() { # user + system seconds of a command
    local me=$BASHPID before after
    before=$(awk '{print $16 + $17}' "/proc/$me/stat")
    "$@" > /dev/null 2>&1
    after=$(awk '{print $16 + $17}' "/proc/$me/stat")
    awk -v a="$before" -v b="$after" -v t="$(getconf CLK_TCK)" 'BEGIN { print (b - a) / t }'
}

compare() { # TITLE GOAL FILE MODE FFMPEG_OPTIONS...
    local title=$1 goal=$2 file=$3 mode=$4 a b ratios="" ours="" theirs=""
    shift 4
    for _ in $(seq "$rounds"); do
        b=$(cpu ffmpeg -nostdin -threads 1 "$@" -i "$file" -map 0:v:0 -f null -)
        a=$(cpu "$sample" "$mode" "$file")
        ours+=" $a" theirs+=" $b"
        ratios+="$(awk -v a="$a" -v b="$b" 'BEGIN { print a / b }')"$'\n'
    done
    local median
    median=$(printf '%s' "$ratios" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
    printf '| %s |%s |%s | **%.3f** | %s |\n' "$title" "$ours" "$theirs" "$median" "$goal"
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
    compare "exact, $size, GOP 60" 0.55 "$work/$size-g60.mp4" exact
    compare "exact, $size, GOP 250" 0.66 "$work/$size-g250.mp4" exact
    compare "within 0.5 s, $size, GOP 60" 0.28 "$work/$size-g60.mp4" within=0.5
    compare "within 0.5 s, $size, GOP 250" 0.50 "$work/$size-g250.mp4" within=0.5
    compare "key frames, $size, GOP 60, against -skip_frame nokey" 1.10 "$work/$size-g60.mp4" keyframes -skip_frame nokey
    compare "key frames, $size, GOP 250, against -skip_frame nokey" 1.10 "$work/$size-g250.mp4" keyframes -skip_frame nokey
done
compare "exact, laparoscopy" 0.62 "$laparoscopy" exact
compare "within 0.5 s, laparoscopy" - "$laparoscopy" within=0.5
compare "everything (interlaced: structure unknown), 720" 1.10 "$work/720-interlaced.mp4" exact
