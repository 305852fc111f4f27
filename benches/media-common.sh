# For benches/media.sh and benches/cuts.sh, which source it: inputs, CPU time, alternating rounds. Wants $media, $rounds and $work.
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

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

compare() { # TITLE GOAL OURS... -- THEIRS...
    local title=$1 goal=$2 a b ours="" theirs="" ratios=""
    shift 2
    local left=()
    while [ "$1" != "--" ]; do left+=("$1"); shift; done
    shift
    for _ in $(seq "$rounds"); do
        b=$(cpu "$@")
        a=$(cpu "${left[@]}")
        ours+=" $a" theirs+=" $b"
        ratios+="$(awk -v a="$a" -v b="$b" 'BEGIN { print a / b }')"$'\n'
    done
    printf '| %s |%s |%s | **%.3f** | %s |\n' "$title" "$ours" "$theirs" "$(printf '%s' "$ratios" | median)" "$goal"
}
