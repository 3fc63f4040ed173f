#!/bin/sh
# first_ten_minutes.sh: what to run on a machine that you have for only a few minutes, the most important first. It
# works in the unpacked bundle and in a source tree; MINUTES=10 sets how long all of it may take. Each step has its own
# time limit and its own log in build/first-ten-minutes/N-name.log (also under $OUT, if that is set; an earlier run's
# logs go to .before). If a step fails, the next one still runs. Ends with a table: each step's status, seconds and last
# line.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
MINUTES=${MINUTES:-10}
case $MINUTES in
'' | *[!0-9]* | 0*) echo "first_ten_minutes: MINUTES=$MINUTES: expected a whole number of minutes" >&2; exit 1 ;;
esac
cldlua=$build/cldlua # a path without spaces, from here
[ -x "$cldlua" ] || { echo "first_ten_minutes: there is no $PWD/$cldlua: unpack the bundle, or make" >&2; exit 1; }
[ -d lua/busted ] && LUA_CPATH="$PWD/lua/?.so;;" && export LUA_CPATH
logs=$build/first-ten-minutes
[ ! -e "$logs" ] || { rm -rf "$logs.before" && mv "$logs" "$logs.before"; }
mkdir -p "$logs" || exit 1
summary=$logs/summary.txt
begin=$(date +%s)
number=0

left() { echo $((MINUTES * 60 - ($(date +%s) - begin))); }

# note NAME STATUS SECONDS WORDS
note() {
  line=$(printf '%2d %-22s %-10s %4d s  %s' "$number" "$1" "$2" "$3" "$4")
  echo "$line"
  echo "$line" >>"$summary"
  [ -z "${OUT:-}" ] || { mkdir -p "$OUT/first-ten-minutes" && cp -f "$logs"/* "$OUT/first-ten-minutes/"; }
}

# What the table shows of a log: its last line; if the step failed, not the traceback or the count after it.
last_line() {
  if [ "$2" = ok ]; then
    grep -v '^ *$' "$1"
  else
    sed 1d "$1" | grep -vE '^ *$|^[[:space:]]|^stack traceback|^[0-9]+ passed, [0-9]+ failed$'
  fi | tail -1 | cut -c1-160
}

# step NAME SECONDS COMMAND...
step() {
  name=$1 limit=$2
  shift 2
  number=$((number + 1))
  [ "$(left)" -lt "$limit" ] && limit=$(left)
  if [ "$limit" -lt 5 ]; then
    note "$name" "no time" 0 ""
    return
  fi
  log=$logs/$(printf '%02d' $number)-$name.log
  echo "$*" >"$log"
  from=$(date +%s)
  # The limit also ends what the command has started, so a tool that hangs does not hold up the rest.
  timeout -k 5 "$limit" "$@" >>"$log" 2>&1 </dev/null
  code=$?
  case $code in
  0) status=ok ;;
  124 | 137) status="timeout" ;;
  *) status="failed $code" ;;
  esac
  note "$name" "$status" $(($(date +%s) - from)) "$(last_line "$log" "$status")"
}

# lacks NAME WORDS
lacks() {
  number=$((number + 1))
  note "$1" "left out" 0 "$2"
}

find_tool() { # in PATH and in CUDA's folder
  command -v "$1" 2>/dev/null || for file in /usr/local/cuda/bin/"$1" /opt/nvidia/*/*/"$1"; do
    [ -x "$file" ] && echo "$file" && break
  done
}

# Looking for a tool has a time limit too: a driver may hang, and a first import of torch takes long.
find_peer() {
  for python in ${PEER_PYTHON:-} python3 /usr/bin/python3; do
    timeout -k 5 60 "$python" -c 'import torch' >/dev/null 2>&1 </dev/null && echo "$python" && break
  done
}

ncu=$(find_tool ncu)
sanitizer=$(find_tool compute-sanitizer)
# shellcheck disable=SC2089,SC2086 # words, not one
short="--device cuda --steps 20 --plans $logs/plans.json"
# With the specs' emulator, which runs kernels on the host, this script can be tried in small sizes.
emulated=$(timeout -k 5 20 "$cldlua" -e 'print(require("cld").cuda.is_emulated())' 2>/dev/null)
[ "$emulated" != true ] || short="$short --batch 4 --width 2 --bank 40 --clusters 2 --size 32"

echo "logs: $PWD/$logs"
step machine 20 sh -c "nvidia-smi || echo 'no nvidia-smi'; $cldlua -e '
  local cld = require [[cld]]
  local gpus, why = cld.cuda.devices()
  if #gpus == 0 then error(why, 0) end
  for _, gpu in ipairs(gpus) do print(gpu.name, gpu.capability, gpu.memory) end
  cld.zeros(1, { device = [[cuda]] })
  print(cld.cuda.library())'"
step libraries 60 "$cldlua" spec/gpu/check.lua --build $build --only programs
step kernels 120 "$cldlua" spec/gpu/check.lua --build $build --only kernels
step graph 60 "$cldlua" spec/gpu/check.lua --build $build --only graph
step step-plain 90 "$cldlua" spec/gpu/step.lua --what npid $short --no-graph
step step-graph 60 "$cldlua" spec/gpu/step.lua --what npid $short
if [ -n "$ncu" ]; then
  # About one step's launches, after some steps, so that the plans are known and no launch belongs to choosing them. ncu
  # prints its findings only at its end, so this asks for just two metrics from one pass, with clocks and caches left as
  # they are; a section would take many passes.
  step ncu 90 "$ncu" --launch-skip 4000 --launch-count 1000 --csv --clock-control none --cache-control none \
    --metrics gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed \
    "$cldlua" spec/gpu/step.lua --what npid $short --no-graph
else
  lacks ncu "no ncu in PATH or CUDA's folder"
fi
step resnet50 120 "$cldlua" spec/gpu/step.lua --what resnet50 $short
peer=$(find_peer)
if [ -n "$peer" ]; then
  step peer-npid 60 "$peer" spec/gpu/peer_step.py npid --mode graph --device cuda --steps 20
  step peer-resnet50 60 "$peer" spec/gpu/peer_step.py resnet50 --mode graph --device cuda --steps 20
else
  lacks peer-npid "no python3 imports torch (PEER_PYTHON can name one)"
  lacks peer-resnet50 "no python3 imports torch (PEER_PYTHON can name one)"
fi
if [ -n "$sanitizer" ]; then
  step memcheck 60 "$cldlua" spec/gpu/check.lua --build $build --only memcheck --minutes 1
else
  lacks memcheck "no compute-sanitizer in PATH or CUDA's folder"
fi
step recipe 120 "$cldlua" spec/gpu/check.lua --build $build --only recipe

echo
echo "after $(($(date +%s) - begin)) s:"
cat "$summary"
! grep -qE '^ *[0-9]+ [^ ]+ +(failed|timeout|no time)' "$summary"
