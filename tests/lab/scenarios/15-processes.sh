#!/bin/bash
# 15-processes: workers and cron jobs of an app: restarted after the gate, taken back with a bad release, gone when removed
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
cd "$SCRATCH/clone" || exit
log=/srv/www/shop/shared/log
# Records each start and each end of a worker with the version that it runs, and the answer of the app at that time.
cat >bin/worker <<'END'
#!/bin/sh
version=$(cat VERSION)          # a child that begins at the end may be ended with the worker
note() { echo "$1 $TRUEUP_PROCESS.$TRUEUP_INSTANCE $version $(curl -s http://127.0.0.1:3000/ | sed -n 's/^version //p')" >>log/workers; }
trap 'echo quiet >>log/quiet' TSTP
trap 'note end; exit 0' TERM
note start
while :; do sleep 0.2; done
END
cat >bin/job <<'END'
#!/bin/sh
echo "start $1 $(cat VERSION)" >>log/jobs
sleep "$2"
echo "end $1 $(cat VERSION)" >>log/jobs
exit "$3"
END
chmod +x bin/worker bin/job
echo 'listed: exec bin/worker' >Procfile
commit() {
  git add -A
  git -c user.name=Ana -c user.email=ana@shop.invalid commit -qm "$1" --allow-empty
  sha[$1]=$(git rev-parse HEAD)
}
version() { echo "$1" >VERSION; commit "$1"; }
version one
version two
version three
# Good pages, and a worker that does not boot, or dies some seconds after each start.
good=$(cat bin/worker)
printf '#!/bin/sh\necho "this worker does not boot" >&2\nexit 3\n' >bin/worker
version no-worker
printf '#!/bin/sh\nsleep 15\nexit 3\n' >bin/worker
version dies
echo "$good" >bin/worker
version four
cp config.ru good.ru
sed -i 's/\[200, TEXT, \["ok/[500, TEXT, ["sick/' config.ru
version sick-page
mv good.ru config.ru
version five
git push -q "$SCRATCH/shop.git" HEAD:main
on git rm -rf /srv/git/shop.git
lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git

give_s3
attributes() {
  cat <<END
packages: [nginx-light, ruby, bundler, curl]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    linked_dirs: [log]
    steps: [{name: install, run: bundle check}]
    assets: {run: bin/build}
    secrets: {SECRET: hunter2-hunter2}
    health: {url: "http://127.0.0.1:3000/health", body: ok, times: 2, interval: 1s, timeout: 3s}
    preflight: null                   # what the gate finds is what matters here
$1
END
}
described='    processes:
      mail: {command: bin/worker, count: 2, quiet_signal: TSTP, env: {QUEUE: mail}}
      listed: procfile
    cron:
      tick: {schedule: "*-*-* *:*:0/5", run: bin/job tick 0 0, match: {cron: "yes"}}
      long: {schedule: "0 3 13 * 5", run: bin/job long 40 0, match: {cron: "yes"}}
      bad: {schedule: "@yearly", run: bin/job bad 0 4, match: {cron: "yes"}}'
attributes "$described" | give_server web app
write web:/etc/trueup/node.d/tags.yml <<<'tags: {cron: "yes"}'
describe() { # the settings again, with other processes
  local node; node=$(sed '/^packages:/,$d; /^  packages:/,$d' "$SCRATCH/node.yml")
  { echo "$node"; attributes "$1" | sed 's/^/  /'; } | write web:/etc/trueup/node.yml
}
workers() { on web sh -c "cat $log/workers 2>/dev/null ||:"; }
since() { on web sh -c "tail -n +$(($1 + 1)) $log/workers"; }
lines() { on web sh -c "wc -l <$log/workers"; }
# noted "words" LINE EXPECTED: what workers recorded after that line, sorted. They do so a moment after systemd has started them.
noted() {
  local end=$((SECONDS + 10))
  until [ "$(since "$2" | sort)" = "$3" ] || [ $SECONDS -ge $end ]; do sleep .2; done
  same "$1" "$3" "$(since "$2" | sort)"
}
listed() { on web sh -c 'cd /usr/local/lib/systemd/system && ls | grep ^app-shop: ||:'; }

check "the settings are valid" on web trueup validate
check "a first version is published" publish "${sha[sick-page]}" --create
code "it does not pass its gate" 1 on web trueup converge
has "so its workers wait" "waits for the gate" "$output"
same "and none has started" "" "$(workers)"
check "a good version is published" publish "${sha[one]}"
check "the host converges" on web trueup converge
noted "three workers started, from that version, when the app served it" 0 "start listed.1 one one
start mail.1 one one
start mail.2 one one"
code "nothing is left to do" 0 on web trueup plan

# As the web process has it.
for property in User Group UMask NoNewPrivileges PrivateTmp ProtectSystem WorkingDirectory Restart; do
  same "a worker has the app's $property" "$(shown web puma-shop "$property")" "$(shown web app-shop:mail.1 "$property")"
  [ "$property" = Restart ] || same "and a cron job" "$(shown web puma-shop "$property")" "$(shown web app-shop:cron:tick "$property")"
done
code "no property of their units has the app's secret" 1 on web sh -c "systemctl show app-shop:mail.1 app-shop:cron:tick | grep hunter2"
environment() { on web sh -c "tr '\\0' '\\n' </proc/$(shown web "$1" MainPID)/environ"; }
has "a worker has the app's secret" "SECRET=hunter2-hunter2" "$(environment app-shop:mail.2)"
has "and what is set for it" "QUEUE=mail" "$(environment app-shop:mail.2)"
has "and its number" "TRUEUP_INSTANCE=2" "$(environment app-shop:mail.2)"
job_ran() { on web grep -q "^end $1 $2\$" $log/jobs; }
wait_for 12 "a cron job runs every five seconds" job_ran tick one

output=$(on web trueup ps shop)
has "ps shows a worker" "app-shop:mail.2" "$output"
has "and a cron job" "cron tick: last run" "$output"
on web systemctl start app-shop:cron:bad || :
has "status shows a run that failed" "ago failed: its main process exited with 4" "$(on web trueup status)"
check "which fails no pass" on web trueup converge
has "logs of one process have both instances" "app-shop:mail.1" "$(on web trueup logs shop --process mail)"
code "a cron job is not restarted" 64 on web trueup restart shop --process tick
has "but run" "systemctl start app-shop:cron:tick" "$output"
before=$(lines)
on web systemctl stop app-shop:mail.1
code "a worker that does not run is a failure before the next pass" 1 on web trueup status
has "and status says so" "app-shop:mail.1 is stopped, and should run" "$output"
on web systemctl start app-shop:mail.1
before=$(lines)
check "an operator restarts one process" on web trueup restart shop --process mail
noted "both of its instances" "$before" "end mail.1 one one
end mail.2 one one
start mail.1 one one
start mail.2 one one"
has "which were told before that they end" "quiet" "$(on web cat $log/quiet)"

under_load web
# A deployment: a job that runs is left to finish in its release, workers change after the gate.
on web systemctl start --no-block app-shop:cron:long
before=$(lines)
check "a second version is published" publish "${sha[two]}"
check "the host converges" on web trueup converge
noted "each worker was restarted once, when the app served the new version" "$before" "end listed.1 one two
end mail.1 one two
end mail.2 one two
start listed.1 two two
start mail.1 two two
start mail.2 two two"
same "the job still runs" activating "$(shown web app-shop:cron:long ActiveState)"
wait_for 12 "the next run of another is one of the new version" job_ran tick two

check "a version with a bad page is published" publish "${sha[sick-page]}"
before=$(lines)
instance=$(shown web app-shop:mail.1 InvocationID)
code "it is refused" 4 on web trueup converge
same "no worker was restarted for it" "$instance" "$(shown web app-shop:mail.1 InvocationID)"
same "and none has ended" "$before" "$(lines)"

check "a version with a bad worker is published" publish "${sha[no-worker]}"
code "it is taken back" 4 on web trueup converge
has "because of its worker" "app-shop:" "$output"
has "with what it printed" "this worker does not boot" "$output"
page_has web "version two" || fail "visitors get version two" "$(page web)"
same "the workers run the old version" "two two two" "$(on web sh -c 'for i in listed.1 mail.1 mail.2; do cat /proc/$(systemctl show -P MainPID app-shop:$i)/cwd/VERSION; done' | xargs)"
code "the sha stays quarantined" 4 on web trueup converge
has "with the reason" "quarantined" "$output"
same "a pass restarts no worker then" "" "$(before=$(lines); on web trueup converge >/dev/null 2>&1 ||:; since "$before")"

check "a version whose worker dies after some seconds is published" publish "${sha[dies]}"
check "it passes its gate" on web trueup converge
died() { [ "$(shown web app-shop:mail.1 NRestarts)" -ge 3 ]; }
wait_for 90 "the worker dies again and again" died
code "a pass takes the release back" 4 on web trueup converge
has "because of that" "its services crashed" "$output"
page_has web "version two" || fail "visitors get version two" "$(page web)"
check "a good version is published" publish "${sha[four]}"
check "the host converges" on web trueup converge
end_load
wait_for 60 "the job of the first version has ended in it" job_ran long one

# Another command moves that worker alone; fewer instances, a removed process, a renamed job.
puma=$(shown web puma-shop InvocationID)
listed=$(shown web app-shop:listed.1 InvocationID)
describe '    processes:
      mail: {command: "exec bin/worker --again"}
      listed: procfile
    cron:
      often: {schedule: "*-*-* *:*:0/5", run: bin/job often 0 0}'
code "plan shows what goes" 2 on web trueup plan
has "an instance" "app-shop:mail.2.service" "$output"
has "and a job" "app-shop:cron:tick.timer" "$output"
check "the host converges" on web trueup converge
same "what is not described is gone" "app-shop:cron:often.service
app-shop:cron:often.timer
app-shop:listed.1.service
app-shop:mail.1.service" "$(listed)"
same "and not loaded" "not-found not-found" "$(shown web app-shop:mail.2 LoadState) $(shown web app-shop:cron:tick.timer LoadState)"
same "and not enabled" "" "$(on web find /etc/systemd/system -name 'app-shop:mail.2*' -o -name 'app-shop:cron:tick*')"
same "the app was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
same "nor another worker" "$listed" "$(shown web app-shop:listed.1 InvocationID)"
has "the worker with the new command was" "--again" "$(on web sh -c 'tr "\0" " " </proc/$(systemctl show -P MainPID app-shop:mail.1)/cmdline')"
wait_for 12 "the renamed job runs" job_ran often four
describe '    processes: {listed: procfile}
    cron:
      often: {schedule: "*-*-* *:*:0/5", run: bin/job changed 0 0}'
check "a job gets another command" on web trueup converge
wait_for 12 "which its next run has" job_ran changed four

# Units of others with such names are left alone.
on web sh -c 'cd /usr/local/lib/systemd/system; for name in app-shop-eu:mail.1.service app-shop.service; do printf "[Service]\nExecStart=/bin/sleep infinity\n" >$name; done; systemctl daemon-reload; systemctl start app-shop-eu:mail.1'
describe '    cron:
      often: {schedule: "*-*-* *:*:0/5", run: bin/job often 0 0, match: {cron: "yes"}}'
write web:/etc/trueup/node.d/tags.yml <<<'tags: {cron: "no"}'
check "the host is not one for cron jobs any more" on web trueup converge
same "so it has no timer" "" "$(listed)"
same "nor a worker" inactive "$(shown web app-shop:listed.1 ActiveState)"
same "another app's worker still runs" active "$(shown web app-shop-eu:mail.1 ActiveState)"
check "nothing is left to do" on web trueup plan

describe '    cron:
      often: {schedule: "0 25 * * *", run: bin/job}'
code "a wrong schedule is refused" 78 on web trueup validate
has "with its place" "/etc/trueup/node.yml:" "$output"
has "its field" "cron.often.schedule" "$output"
has "and the reason" "\`25\` is not the hour" "$output"
