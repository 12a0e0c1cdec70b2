#!/bin/bash
# 14-preflight: bad releases of nine kinds under load, none of which meets a visitor; nothing of a trial start is left
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
cd "$SCRATCH/clone" || exit
at_boot() { sed -i "/^VERSION = /i $1" config.ru; }
health() { sed -i "s|when \"/health\" then .*|when \"/health\" then $1|" config.ru; }
# What makes the last good version bad; the exit code of its pass; what the report says.
kinds=(crash late killed error word hang redirect migration assets)
declare -A code=([killed]=1 [migration]=1 [assets]=1) words
make_crash() { at_boot 'raise "this version does not boot"'; }
words[crash]="before it answered"
make_late() { at_boot 'sleep 2; exit! 3'; }
words[late]="exited with 3"
make_killed() { at_boot 'Process.kill(:KILL, Process.pid)'; }
words[killed]="was killed by signal 9"
make_error() { health '[500, TEXT, ["sick"]]'; }
words[error]="answered 500 instead of 200"
make_word() { health '[200, TEXT, ["maintenance"]]'; }
words[word]="answered without"
make_hang() { health '(sleep 60)'; }
words[hang]="not healthy within 10 s"
make_redirect() { health '[301, { "location" => "/elsewhere" }, []]'; }
words[redirect]="answered 301 (to /elsewhere)"
make_migration() { touch bad-migration; }
words[migration]="step \`migrate\`"
make_assets() { echo 'exit 1' >bin/build; }
words[assets]="step \`assets\`"
make_waiting() { at_boot 'sleep 600'; }
make_dies() { at_boot 'Thread.new { sleep 4; Process.kill(:KILL, Process.pid) }'; }
make_good() { :; }
# commit NAME KIND: the version NAME is a good one made bad in this way
commit() {
  git checkout -qf main
  "make_$2"
  echo "$1" >VERSION
  git add -A
  git -c user.name=Ana -c user.email=ana@shop.invalid commit -qm "$1"
  sha[$1]=$(git rev-parse HEAD)
  git branch "version-$1"
  git reset -q --hard HEAD~
}
for kind in "${kinds[@]}"; do
  commit "$kind" "$kind"
  commit "after-$kind" good
done
commit waiting waiting
commit dies dies
on git rm -rf /srv/git/shop.git
git clone -q --bare . "$SCRATCH/bare.git"
lab cp "$SCRATCH/bare.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git

give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]
    assets: {run: bin/build}
    migrate: {run: "[ ! -e bad-migration ]", when_changed: null}
    secrets: {SECRET: hunter2-hunter2}
    health: {url: "http://127.0.0.1:3000/health", body: ok, times: 1, timeout: 3s}
    preflight: {timeout: 10s}
END
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
for kind in "${kinds[@]}"; do
  check "a version with this fault is published: $kind" publish "${sha[$kind]}"
  before=$(shown web puma-shop InvocationID)
  code "its pass ends with ${code[$kind]:-4}" "${code[$kind]:-4}" on web trueup converge
  has "and says why" "${words[$kind]}" "$output"
  same "the app was not restarted" "$before" "$(shown web puma-shop InvocationID)"
  page_has web "version $version" || fail "visitors still get $version" "$(page web)"
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
has "because it died" "its services crashed" "$output"
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
