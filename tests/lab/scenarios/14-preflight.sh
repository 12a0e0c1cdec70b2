#!/bin/bash
# 14-preflight: bad releases of twelve kinds under load, none of which meets a visitor; nothing of a trial start is left
# timeout: 480
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

make_waiting() { at_boot 'sleep 600'; }
give_git_server
clone_versions
# After every third, a good version is deployed.
for number in "${!bad_at_once[@]}"; do
  commit "${bad_at_once[number]}" "${bad_at_once[number]}"
  ((number % 3)) || commit "after-${bad_at_once[number]}" good
done
commit waiting waiting
commit dies dies
give_versions
give_s3
give_versioned_server web "preflight: {timeout: 10s}"
answer() { curl -s -o /dev/null --max-time 5 -w '%{http_code}' "http://$(address web)/"; }
check "the first version of all cannot be built" publish "${sha[assets]}" --create
code "so the pass fails" 1 on web trueup converge
answers_503() { [ "$(answer)" = 503 ]; }
wait_for 5 "visitors are told so, once nginx has its new workers" answers_503
code "the app's port is closed" 3 on web systemctl is-active -q puma-shop.socket
check "v1 is published" publish "${sha[v1]}"
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
same "puma was never started in vain" 1 "$(starts web puma-shop)"

under_load web
version=v1
for kind in "${bad_at_once[@]}"; do
  check "a version with this fault is published: $kind" publish "${sha[$kind]}"
  before=$(shown web puma-shop InvocationID)
  code "its pass ends with $(pass_code "$kind")" "$(pass_code "$kind")" on web trueup converge
  has "and says why" "${words[$kind]}" "$output"
  same "the app was not restarted" "$before" "$(shown web puma-shop InvocationID)"
  page_has web "version $version" || fail "visitors still get $version" "$(page web)"
  [ -n "${sha[after-$kind]:-}" ] || continue
  version=after-$kind
  check "a good version is published" publish "${sha[$version]}"
  check "the host converges to it" on web trueup converge
  page_has web "version $version" || fail "which visitors get" "$(page web)"
done
end_load

# One that only time shows to be bad.
check "a version that dies some seconds after each start is published" publish "${sha[dies]}"
check "the host converges to it" on web trueup converge
died() { [ "$(shown web puma-shop NRestarts)" -ge 3 ]; }
wait_for 60 "it dies again and again" died
code "the next pass takes it back" 4 on web trueup converge
has "because it died" "${words[dies]}" "$output"
page_has web "version $version" || fail "visitors get $version" "$(page web)"
code "it stays quarantined" 4 on web trueup converge
has "with the reason" "quarantined" "$output"

# trueup is killed while a release that never answers is on trial.
unit=trueup-preflight-shop.service
check "a version that never boots is published" publish "${sha[waiting]}"
on web sh -c 'trueup converge >/run/output 2>&1 & echo $!' >"$SCRATCH/pid"
# The process of the trial start that has the app's environment.
trial() { on web sh -c 'grep -l TRUEUP_PREFLIGHT=1 /proc/[0-9]*/environ 2>/dev/null' | head -n 1 | cut -d/ -f3; }
boots() { [ -n "$(trial)" ]; }
wait_for 30 "it is started beside the running one" boots
process=$(trial)
same "as the app's user" deploy "$(shown web "$unit" User)"
same "without new privileges" yes "$(shown web "$unit" NoNewPrivileges)"
same "and it is the first to be killed when memory is short" 1000 "$(on web cat "/proc/$process/oom_score_adj")"
code "no property of its unit has the app's secret" 1 on web sh -c "systemctl show $unit | grep hunter2"
code "and no argument of a process" 1 on web sh -c "ps -eo args | grep 'hunte[r]2'"
on web kill -KILL "$(cat "$SCRATCH/pid")"
check "another version is published" publish "${sha[v2]}"
check "the next pass converges to it" on web trueup converge
page_has web "version v2" || fail "which visitors get" "$(page web)"
same "nothing is left of the trial start" "" "$(on web systemctl list-units --all --plain --no-legend "$unit")"
same "and no process" "" "$(trial)"

# A unit of the operator's has the name.
on web sh -c "printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/$unit; systemctl daemon-reload"
check "a new version is published" publish "${sha[v3]}"
code "the pass fails" 1 on web trueup converge
has "and says why" "systemd did not start the preflight" "$output"
page_has web "version v2" || fail "visitors get v2" "$(page web)"
on web sh -c "rm /etc/systemd/system/$unit; systemctl daemon-reload"
check "without it the next pass converges" on web trueup converge
page_has web "version v3" || fail "visitors get v3" "$(page web)"
