#!/bin/bash
# 45-operator: the operator's view of a host: status, journal, login message, waiting, holds
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# status FIELD: of `trueup status --json`, as Python writes it
status() { on web trueup status --json | python3 -c "import json, sys; d = json.load(sys.stdin); print($1)" ||:; }
# upload <text: a manifest written by hand
upload() {
  cat >"$SCRATCH/manifest"
  curl -sS --fail --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" --aws-sigv4 "aws:amz:$AWS_REGION:s3" \
    -X PUT --data-binary @"$SCRATCH/manifest" "$endpoint/$bucket/sha_number.yml"
}

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
write web:/etc/trueup/node.d/health.yml <<'END'
attributes: {apps: {shop: {health: {url: "http://127.0.0.1:3000/health", times: 1}}}}
END
check "v1 is published" publish "${sha[v1]}" --create
check "a pass that systemd runs converges" on web systemd-run -q --wait --unit first -E HOME=/root trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

# The journal: everything that concerns the app, by field, and nothing twice.
on web journalctl --sync
output=$(on web journalctl -q -o cat _UID=0 TRUEUP_APP=shop)
has "the journal has each change in the fields of its app" "deploy shop/code" "$output"
has "and what runs from it" "update service:puma-shop" "$output"
same "by sha as well" "$output" "$(on web journalctl -q -o cat _UID=0 TRUEUP_APP=shop "TRUEUP_SHA=${sha[v1]}")"
run=$(on web trueup history --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["passes"][0]["run"])')
has "by run" "converged" "$(on web journalctl -q -o cat _UID=0 "TRUEUP_RUN=$run")"
has "by resource" "deploy shop/code" "$(on web journalctl -q -o cat _UID=0 TRUEUP_RESOURCE=shop/code)"
same "no journal line is repeated without its fields" 0 \
  "$(on web journalctl -q -o cat -u first _TRANSPORT=stdout | wc -l)"
forged='MESSAGE=forged\nTRUEUP_APP=shop\nTRUEUP_VERB=failed\nSYSLOG_IDENTIFIER=trueup\n_UID=0\n'
check "the deploy user sends a line in trueup's name" on web sh -c "printf '$forged' | runuser -u deploy -- logger --journald"
on web journalctl --sync
has "the journal keeps it" forged "$(on web journalctl -q -o cat TRUEUP_APP=shop TRUEUP_VERB=failed)"
same "but not as root's" "$output" "$(on web journalctl -q -o cat _UID=0 TRUEUP_APP=shop)"
attacked deploy "a line in the journal with trueup's own fields" "the documented queries ask for root's own: it is not among them"

# Status, for root and for everybody.
code "status of a converged host exits with 0" 0 on web trueup status
has "with proof" "its processes run in the active release; its health check passes" "$output"
has "and that nothing is scheduled" "not scheduled" "$output"
on web chmod 755 /etc/trueup
code "status without root exits with 0" 0 on web setpriv --reuid nobody --regid nogroup --clear-groups trueup status
has "status names what only root can inspect" "only root can inspect" "$output"
has "with what is wanted" "at ${sha[v1]}, as wanted" "$output"

# The processes of the app.
code "ps of an app that runs exits with 0" 0 on web trueup ps shop
output=$(tr -s ' ' <<<"$output")
has "it shows the main process and its user" "puma-shop $(on web systemctl show -P MainPID puma-shop) deploy " "$output"
has "and the release" " $(on web readlink /srv/www/shop/current | sed 's,.*/,,') " "$output"
same "all processes of the control group are in it" \
  "$(on web sh -c 'cat "/sys/fs/cgroup$(systemctl show -P ControlGroup puma-shop)/cgroup.procs"' | sort -n)" \
  "$(on web trueup ps shop --json | python3 -c 'import json, sys; [print(p["pid"]) for p in json.load(sys.stdin)["services"][0]["processes"]]' | sort -n)"
code "ps without root exits with 0" 0 on web setpriv --reuid nobody --regid nogroup --clear-groups trueup ps shop

# What it prints.
code "logs of the app exits with 0" 0 on web trueup logs shop
has "it shows what puma printed" "Puma starting" "$output"
has "and what systemd says about the unit" "Started puma-shop" "$output"
same "-n limits the lines" 1 "$(on web trueup logs shop -n 1 | wc -l)"
check "a followed log ends when its reader goes" on web bash -c 'set -o pipefail; timeout 20 trueup logs shop -f | head -n 1'
check "and with a signal" on web timeout --preserve-status 2 trueup logs shop -f
has "logs without root names the remedy" sudo "$(on web setpriv --reuid nobody --regid nogroup --clear-groups trueup logs shop 2>&1 ||:)"
on web systemctl stop puma-shop
code "ps exits with 1 if the service is stopped" 1 on web trueup ps shop
has "and says so" "puma-shop: it should run, and has no process" "$output"

# A restart.
pid=$(on web systemctl show -P MainPID puma-shop)
code "restart starts the stopped service" 0 on web env TRUEUP_BY=ana trueup --log journal restart shop
has "it says on whose request" "restarted service:puma-shop (because of a request of ana)" "$output"
has "and that the app serves" "shop serves release $(on web readlink /srv/www/shop/current | sed 's,.*/,,')" "$output"
differs "another process runs" "$pid" "$(on web systemctl show -P MainPID puma-shop)"
pid=$(on web systemctl show -P MainPID puma-shop)
code "a pass after it converges" 0 on web trueup converge
has "and restarts nothing" "0 changes" "$output"
same "the process is the same" "$pid" "$(on web systemctl show -P MainPID puma-shop)"
on web journalctl --sync
has "the journal has the restart among what concerns the app" "restart service:puma-shop" \
  "$(on web journalctl -q -o cat _UID=0 TRUEUP_APP=shop)"
under_load web
check "a restart under load succeeds" on web trueup restart shop
end_load
on web systemctl mask --now puma-shop
code "restart leaves a masked service alone" 3 on web trueup restart shop
has "and says why" "an operator masked it" "$output"
on web systemctl unmask puma-shop
check "restart starts it after unmask" on web trueup restart shop

on web systemd-run -q --unit trueup -E HOME=/root --on-active=1h --timer-property=AccuracySec=1s trueup converge
has "with a timer, status shows the next pass" "(in 5" "$(on web trueup status)"
same "there is no motd on a converged host" "" "$(on web ls /run/motd.d 2>/dev/null)"

# A pass that takes its time, started by the timer's unit; an operator comes second.
write web:/etc/trueup/node.d/slow.yml <<'END'
attributes: {apps: {shop: {steps: [{name: wait, run: "until [ -e /run/go ]; do sleep .1; done"}]}}}
END
check "v2 is published" publish "${sha[v2]}"
on web systemctl start --no-block trueup
wait_for 10 "status shows the pass that runs" on web sh -c 'trueup status | grep "running now: process .* by systemd.* deploy shop/code"'
on web env TRUEUP_BY=ana trueup converge >"$SCRATCH/second" 2>&1 & second=$!
wait_for 10 "converge names the pass that it waits for" grep "waiting for process .* by systemd.* deploy shop/code" "$SCRATCH/second"
code "or does not wait" 75 on web trueup converge --no-wait
code "a pass of a timer does not wait for the lock" 75 on web env TRIGGER_UNIT=trueup.timer trueup converge
on web touch /run/go
ended=0; wait "$second" || ended=$?
same "the waiting pass runs after the other one" 0 "$ended"
has "and finds nothing to do" "converged: 0 changes" "$(cat "$SCRATCH/second")"
has "v2 is there" "version v2" "$(page web)"

# A hold, and a way over it.
on web rm /etc/trueup/node.d/slow.yml
generation=$(on web trueup status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["generation"])')
upload <<END
generation: $((generation + 1))
production:
  shop: {sha: ${sha[v1]}, hold: {reason: db maintenance, by: ana, until: 2999-01-01T00:00:00Z}}
END
code "a held app waits" 3 on web trueup converge
has "with who, until when and why" "held by ana until 2999-01-01T00:00:00Z: db maintenance" "$output"
same "the JSON state is held" held "$(status 'd["apps"][0]["state"]')"
has "motd shows the hold" "trueup: waiting: shop/code: held by ana" "$(on web cat /run/motd.d/trueup)"
on web sh -c 'mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
  cat /root/.ssh/id_ed25519.pub >>/root/.ssh/authorized_keys'
# shellcheck disable=SC2016
login='echo exit | ssh -tt -o StrictHostKeyChecking=no -o BatchMode=yes localhost 2>&1'
has "at a real login" "trueup: waiting: shop/code: held by ana" "$(on web sh -c "$login")"
check "--force overrides the hold" on web trueup converge --force
wait_for 10 "a visitor gets v1" page_has web "version v1"
same "and the note is gone" "" "$(on web ls /run/motd.d)"
