# shellcheck shell=bash
# Three app servers behind haproxy that take up versions of rack-app: source this after versions.sh.
#
#   give_fleet [LINE…]    the S3 server, the hosts app1 to app3; the lines are settings of the app, without a preflight unless they have one
#   begin HOST…           a run of the timer on each of these hosts, side by side, which waits for the fleet
#   end CODE…             until they have ended, with these exit codes, sorted; to be called in the same shell
#   passes CODE…          both, on all hosts
#   stop_passes           end those that wait, as `systemctl stop` does
#   timers HOST…          runs of the timer on these hosts, one after the other, until stop_timers; what they say is in $SCRATCH/HOST.runs
#   says HOST TEXT        such a run said that, since new_runs
#   set_flag NAME HOST…   make the file /srv/NAME there, which a migration or an app waits for; clear_flag NAME HOST…: remove it
#   lose_store HOST       it reaches the store no more, until return_store HOST; nothing else of this machine is lost to it
#   others HOST           the hosts but this one
#   rollout COMMAND [OPTION…]    `trueup rollout` for the app, from this machine
#   holder                the hosts that hold a slot; has_holder: there are some
#   finished SHA HOST…    the rollout is done, these hosts are at the sha, and nobody holds a slot
#   fleet                 `trueup fleet`, from this machine
#   at HOST               the sha that is active there
#   watch_hosts           ask all hosts without pause for /health, until most_out N: never more than N failed at a time
#   policy TEXT           the rollout policy of all apps, from now on
#   json EXPRESSION       of the document `d` on standard input, in Python
hosts=(app1 app2 app3)
fleet_host() {
  [[ $* == *preflight:* ]] || set -- "$@" "preflight: {enabled: false}"
  give_versioned_server "$@"
  on "$1" systemctl -q mask --now haproxy 2>/dev/null
  write "$1:/etc/trueup/node.d/tags.yml" <<<'tags: {tier: front}'
}
give_fleet() {
  local each
  give_s3
  for each in "${hosts[@]}"; do fleet_host "$each" "$@"; done
}
begin() {
  local each
  running=("$@") pids=()
  for each in "$@"; do
    (code=0; on "$each" env TRIGGER_UNIT=trueup.timer trueup converge >"$SCRATCH/$each.pass" 2>&1 || code=$?; echo $code >"$SCRATCH/$each.code") & pids+=($!)
  done
}
end() {
  local each codes
  wait "${pids[@]}"
  codes=$(for each in "${running[@]}"; do cat "$SCRATCH/$each.code"; done | sort | xargs)
  [ "$codes" = "$*" ] || { echo "codes: $codes"; for each in "${running[@]}"; do echo "-- $each"; cat "$SCRATCH/$each.pass"; done; rollout status; return 1; }
}
# ends WHAT CODE…: end as a check
ends() { end "${@:2}" >"$SCRATCH/end" 2>&1 || fail "$1" "$(cat "$SCRATCH/end")"; check "$1" true; }
stop_passes() {
  local each
  for each in "${running[@]}"; do on "$each" pkill -x trueup 2>/dev/null ||:; done
  wait "${pids[@]}" 2>/dev/null ||:
}
passes() { begin "${hosts[@]}"; end "$@"; }
timers() {
  local each
  touch "$SCRATCH/timers"
  for each in "$@"; do
    # Without the folder, after a scenario that failed, there is no next run.
    (while [ -e "$SCRATCH/timers" ]; do
      on "$each" env TRIGGER_UNIT=trueup.timer trueup converge >>"$SCRATCH/$each.runs" 2>&1 ||:
      sleep 2
    done) & timers+=($!)
  done
}
stop_timers() {
  local each
  rm "$SCRATCH/timers"
  for each in "$@"; do on "$each" pkill -x trueup 2>/dev/null ||:; done
  wait "${timers[@]}" 2>/dev/null ||:
  timers=()
}
says() { grep -q "$2" "$SCRATCH/$1.runs"; }
new_runs() { local each; for each in "${hosts[@]}"; do : >"$SCRATCH/$each.runs"; done; }
set_flag() { local each; for each in "${@:2}"; do on "$each" touch "/srv/$1"; done; }
clear_flag() { local each; for each in "${@:2}"; do on "$each" rm -f "/srv/$1"; done; }
# shellcheck disable=SC2154  # lib.sh and give_s3 set them
lose_store() { on "$1" ip rule add pref 1 to "$outer" ipproto 6 dport "${endpoint##*:}" unreachable; }
return_store() { on "$1" ip rule del pref 1; }
others() { local each; for each in "${hosts[@]}"; do [ "$each" = "$1" ] || echo "$each"; done | xargs; }
rollout() { "$TRUEUP" --config "$SCRATCH/node.yml" rollout "$1" production shop "${@:2}"; }
holder() { { rollout status --output json ||:; } | json '" ".join(held["node"] for held in d["holders"])'; }
has_holder() { [ -n "$(holder)" ]; }
finished() {
  local each
  [ -z "$(holder)" ] && rollout status || return
  for each in "${@:2}"; do [ "$(at "$each")" = "$1" ] || return; done
}
watch_hosts() {
  local each urls=()
  for each in "${hosts[@]}"; do urls+=("http://$(address "$each")/health"); done
  touch "$SCRATCH/watch"
  (while [ -e "$SCRATCH/watch" ]; do
    out=0
    for each in "${urls[@]}"; do curl -sf -o /dev/null --max-time 0.5 "$each" || out=$((out + 1)); done
    echo $out
    sleep .05
  done >"$SCRATCH/watched") & watcher=$!
}
most_out() {
  local counts
  rm "$SCRATCH/watch"
  wait "$watcher"
  counts=$(sort -n "$SCRATCH/watched" | uniq -c | awk '{printf "%s%s times %s", sep, $1, $2; sep = ", "}')
  echo "  hosts that did not serve: $counts"
  same "at most $1 host was out at a time" "$1" "$(sort -n "$SCRATCH/watched" | tail -n 1)"
}
fleet() { "$TRUEUP" --config "$SCRATCH/node.yml" fleet --env production || :; }
json() { python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
# shellcheck disable=SC2154  # give_s3 sets them
s3() {
  curl -sS --fail-with-body --max-time 10 -X "$1" --aws-sigv4 "aws:amz:$AWS_REGION:s3" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" ${3:+-H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$3"} "$endpoint/$bucket/$2"
}
policy() {
  s3 GET sha_number.yml | sed -e '/^    rollout: /d' -e "s/^  _settings:/&\n    rollout: $1/" >"$SCRATCH/manifest"
  s3 PUT sha_number.yml "$SCRATCH/manifest"
}
at() { on "$1" cat /srv/www/shop/current/REVISION; }
