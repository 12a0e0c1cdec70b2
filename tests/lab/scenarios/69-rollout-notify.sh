#!/bin/bash
# 69-rollout-notify: one message for each transition of a rollout, for all hosts; a webhook that hangs, a sender that is killed
# timeout: 300
# long timeout: 480
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"
# shellcheck source=tests/lab/webhook.sh
. "$(dirname "$0")/../webhook.sh"

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
commit second good
commit bad error
commit third good
commit worse word
commit worst redirect
give_versions
# shellcheck disable=SC2119  # no settings of its own
give_fleet

#### A channel, on the hosts' network
give_webhook
for each in "${hosts[@]}"; do
  write "$each:/etc/trueup/node.d/notify.yml" <<END
notify: {channels: {ops: {webhook: {url_file: /etc/trueup/hook, allow_private: true}}}}
END
  write "$each:/etc/trueup/hook" 600 <<<"$hook_url"
done
field() { tail -n 1 "$SCRATCH/hook/requests" | json "d$1"; }
has_messages() { [ "$(messages "$1")" = "$2" ]; }
new_messages() { : >"$SCRATCH/hook/requests"; }
new_messages
check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
check "a host tries the channel" on app1 trueup notify test ops
has "and the other side has the message" "a test message from app1" "$(cat "$SCRATCH/hook/requests")"
has "doctor does not know of it yet" "unused: " "$(on app1 trueup doctor ||:)"
new_messages
s3 GET sha_number.yml | sed 's/^  _settings:/&\n    notify: [ops]\n    rollout: {max_unavailable: 1}/' >"$SCRATCH/manifest"
s3 PUT sha_number.yml "$SCRATCH/manifest"
check "the manifest names it" passes 0 0 0
has "doctor knows it" "the manifest names it" "$(on app1 trueup doctor ||:)"
same "nothing is sent of what was before" 0 "$(wc -l <"$SCRATCH/hook/requests")"

#### A good sha
new_runs
timers "${hosts[@]}"
check "a version is published" publish "${sha[second]}"
code "and is on all hosts" 0 rollout status --wait --timeout 90s
wait_for 30 "its end is told" has_messages 'done' 1
sleep 10
same "its publication was told once" 1 "$(messages published)"
same "its end was told once" 1 "$(messages 'done')"
check "its start was told once at most" [ "$(messages started)" -le 1 ]
same "nothing else was" $((2 + $(messages started))) "$(wc -l <"$SCRATCH/hook/requests")"
has "with all hosts" "is on all hosts (3 hosts)" "$(cat "$SCRATCH/hook/requests")"

#### A bad one
new_messages
check "a bad version is published" publish "${sha[bad]}"
wait_for 60 "the fleet halts" has_messages halted 1
sleep 5
same "one message says so" 1 "$(messages halted)"
message=$(grep '"transition":"halted"' "$SCRATCH/hook/requests")
has "it names the sha" "${sha[bad]}" "$message"
has "the reason" "answered 500 instead of 200" "$message"
has "and how to go back" "trueup rollback production shop" "$message"
code "the rollout is halted" 4 rollout status
same "and its status knows of nothing that is unsent" "[]" "$(rollout status --output json | json 'd["unsent"]')"
is_settled() { [ "$(on "$1" cat /var/lib/trueup/notices/shop.json | json 'len(d["pending"])')" = 0 ]; }
for each in "${hosts[@]}"; do wait_for 90 "$each knows that it is sent" is_settled "$each"; done
lasting=$(on app2 stat -c %Y /var/lib/trueup/notices/shop.json)
sleep 8
same "quiet passes write nothing" "$lasting" "$(on app2 stat -c %Y /var/lib/trueup/notices/shop.json)"
same "and all hosts together sent one message" 1 "$(messages halted)"
check "a good version is published" publish "${sha[third]}"
code "and is on all hosts" 0 rollout status --wait --timeout 90s
wait_for 30 "its end is told" has_messages 'done' 1

#### A webhook that never answers
stop_timers "${hosts[@]}"
new_messages
rm -f "$SCRATCH/hook/hung"
: >"$SCRATCH/hook/hangs"
check "a version that fails is published" publish "${sha[worse]}"
begin "${hosts[@]}"
wait "${pids[@]}"
check "the webhook hung" test -s "$SCRATCH/hook/hung"
failed_once() { on "$1" grep -q '"failures": 1' /var/lib/trueup/notices/_channels.json 2>/dev/null; }
sender=$(for each in "${hosts[@]}"; do if failed_once "$each"; then echo "$each"; break; fi; done)
differs "a host knows" "" "$sender"
began=$SECONDS
code "its next pass" 4 on "$sender" trueup converge
check "does not wait for it again" [ $((SECONDS - began)) -lt 5 ]
has "doctor names it" "it failed once" "$(on "$sender" trueup doctor ||:)"
[ -n "${LONG:-}" ] || exit 0
rm "$SCRATCH/hook/hangs"
new_messages
new_runs
timers "${hosts[@]}"
wait_for 150 "another attempt is made, and the message arrives" has_messages halted 1
sleep 10
same "once" 1 "$(messages halted)"

#### A sender that is killed
s3 GET sha_number.yml | sed 's/^    notify: .*/    notify: {ops: [halted]}/' >"$SCRATCH/manifest"
s3 PUT sha_number.yml "$SCRATCH/manifest"
check "a good version is published" publish "${sha[third]}"
code "and is on all hosts" 0 rollout status --wait --timeout 90s
new_messages
rm "$SCRATCH/hook/hung"
: >"$SCRATCH/hook/hangs"
check "a bad version is published" publish "${sha[worst]}"
wait_for 60 "a host is about to send, and its webhook hangs" test -s "$SCRATCH/hook/hung"
sender=$(field '["node"]')
on "$sender" mv /etc/trueup/node.yml /etc/trueup/node.off
on "$sender" pkill -KILL -x trueup ||:
rm "$SCRATCH/hook/hangs"
new_messages
wait_for 180 "another host sends" has_messages halted 1
differs "which is another one" "$sender" "$(field '["node"]')"
sleep 20
same "once" 1 "$(messages halted)"
stop_timers "${hosts[@]}"
