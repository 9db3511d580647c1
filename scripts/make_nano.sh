#!/usr/bin/env bash
# Nano made anew: its courses one after another, each from the last one's weights, half a day on two cores. Started
# again after a break, it goes on where it was. What else is passed goes to every course and counts before what stands
# here, such as `--device cuda --processes 1 --workers 8`.
set -euo pipefail

runs=${NANO_RUNS:-runs}

course() { # course NAME FROM OPTIONS...: of a run that is begun only what a resumed one takes
  local out=$runs/$1 from=$2
  shift 2
  if [ -e "$out/checkpoint" ]; then
    sam-perception train --out "$out" --resume "$@"
  elif [ -n "$from" ]; then
    sam-perception train --out "$out" --start "$runs/$from/model" "$@"
  else
    sam-perception train --out "$out" "$@"
  fi
}

shared=(--processes 2 "$@")
course nano "" --seed 0 --minutes 211 "${shared[@]}"
course nano-further nano --recipe further --seed 13 --minutes 345 "${shared[@]}"
course nano-polish nano-further --recipe polish --learning-rate 5e-4 --seed 24 --minutes 272 "${shared[@]}"
course nano-polish-more nano-polish --recipe polish --seed 32 --minutes 218 "${shared[@]}"
echo "nano is in $runs/nano-polish-more/model"
