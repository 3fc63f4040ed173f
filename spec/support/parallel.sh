#!/bin/bash
# Runs spec files in separate processes, JOBS at a time: parallel.sh JOBS PROGRAM BUSTED FILE... The output of each is
# shown when it ends, and that of files that failed once more at the end. The last line sums up: "N passed, N failed". A
# file without such a line, because its program crashed, counts as one failure.
set -u
jobs=$1 program=$2 busted=$3
shift 3
counts=$(mktemp) failures=$(mktemp)
trap 'rm -f "$counts" "$failures"' EXIT

run_file() {
  local output status summary
  output=$("$2" "$3" "$4" 2>&1)
  status=$?
  summary=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' <<<"$output" | tail -n 1)
  if [ -z "$summary" ]; then
    output+=$'\n'"$4: ended with status $status and no summary"
    summary="0 passed, 1 failed"
  elif [ "$status" != 0 ] && [[ $summary == *" 0 failed" ]]; then
    output+=$'\n'"$4: ended with status $status after its summary"
    summary="${summary%% *} passed, 1 failed"
  fi
  output=$(grep -vE '^[0-9]+ passed, [0-9]+ failed$' <<<"$output")
  { flock 9; echo "$summary" >&9; echo "$output"; [[ $summary == *" 0 failed" ]] || echo "$output" >>"$5"; } 9>>"$1"
}
export -f run_file

printf '%s\0' "$@" | xargs -0 -P "$jobs" -I {} bash -c 'run_file "$@"' run_file "$counts" "$program" "$busted" {} "$failures"
[ ! -s "$failures" ] || { echo "--- what failed, once more:"; cat "$failures"; }
awk '{ passed += $1; failed += $3 } END { printf "%d passed, %d failed\n", passed, failed; exit failed != 0 || !NR }' "$counts"
