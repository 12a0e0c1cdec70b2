#!/bin/bash
# 69-rollout-policy: a policy bundle goes through the fleet by a canary; one that breaks stops at the first host; the way back
# timeout: 300
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"
# shellcheck source=tests/lab/webhook.sh
. "$(dirname "$0")/../webhook.sh"

#### Three hosts without apps, which accept what one key has signed
give_s3
give_webhook
key=$SCRATCH/ci
ssh-keygen -q -t ed25519 -N "" -C ci -f "$key"
signers="ci namespaces=\"trueup@production\" $(cat "$key.pub")"
cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [site]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
END
for each in "${hosts[@]}"; do
  host "$each"
  give_trueup "$each"
  give_keys "$each"
  { cat "$SCRATCH/node.yml"; echo "signers: /etc/trueup/signers"; echo "fleet: {heartbeat: 20s}"
    echo "notify: {channels: {ops: {webhook: {url: \"$hook_url\", allow_private: true}}}}"; } | write "$each:/etc/trueup/node.yml"
  write "$each:/etc/trueup/signers" <<<"$signers"
done
# The role that hosts have before there is a bundle.
give_package_role() {
  write "$1:/usr/share/trueup/roles/site.yml" <<<'resources: [{file: {path: /srv/site, content: "package\n"}}]'
}
for each in "${hosts[@]}"; do give_package_role "$each"; done

by_ci() { "$TRUEUP" --config "$SCRATCH/node.yml" --share "$(readlink -f "$tests/..")" "$@" --sign "$key" --trust-current; }
bundle=$SCRATCH/bundle
mkdir -p "$bundle/roles" "$bundle/environments"
echo 'word: one' >"$bundle/environments/production.yml"
cat >"$bundle/roles/site.yml" <<'END'
parameters: {word: none}
resources:
  - file: {path: /srv/site, content: "{{ word }}\n"}
END
push() { by_ci policy push production "$bundle" "$@"; }
site() { on "$1" cat /srv/site; }
site_is() { local each; for each in "${@:2}"; do [ "$(site "$each")" = "$1" ] || return; done; }
one_message() { [ "$(messages "$1")" = 1 ]; }
two_messages() { [ "$(messages "$1")" = 2 ]; }
no_doubles() { ! grep "\"transition\":\"$1\"" "$SCRATCH/hook/requests" | grep -o '"id":"[^"]*"' | sort | uniq -d | grep .; }
sites() { for each in "${hosts[@]}"; do site "$each"; done | sort -u | xargs; }
rollouts() { "$TRUEUP" --config "$SCRATCH/node.yml" rollout "$1" production _policy "${@:2}"; }
# What the manifest says of rollouts, signed anew.
mode() {
  s3 GET sha_number.yml | sed '/^    rollout:/d; /^    notify:/d' | sed "s/^  _settings:/  _settings:\n    rollout: $1\n    notify: [ops]/" >"$SCRATCH/manifest"
  s3 PUT sha_number.yml "$SCRATCH/manifest"
  by_ci now production
}

check "the manifest is signed" by_ci publish production other=4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203 --create
check "three hosts converge with the role of the package" passes 0 0 0
same "they have what it says" package "$(sites)"

#### A good bundle, a canary first
check "the policy has a canary" mode "{max_unavailable: 1, canary: {hosts: 1, bake: 4s}}"
check "a bundle is pushed" push
code "plan names the bundle and shows what it changes" 2 on app3 trueup plan
has "by its diff" "+one" "$output"
has "and its digest" "this is a plan with sha256:" "$output"
new_runs
timers "${hosts[@]}"
wait_for 40 "app1 takes it first" site_is one app1
code "the rollout ends" 0 rollouts status --wait --timeout 90s
same "all hosts have it" one "$(sites)"
wait_for 90 "there is a message that it is done" one_message done
has "others waited for the canary" "waits" "$(cat "$SCRATCH"/app2.runs "$SCRATCH"/app3.runs)"
same "no slot is held" 0 "$(rollouts status --output json | json 'len(d["holders"])')"
has "fleet shows it" _policy "$(fleet)"

#### A bundle whose role breaks
cat >>"$bundle/roles/site.yml" <<'END'
  - file: {path: /srv/site/below, content: x}
END
echo 'word: broken' >"$bundle/environments/production.yml"
check "a bundle that cannot work is pushed" push
is_quarantined() { { rollouts status ||:; } | grep -qi quarantined; }
wait_for 60 "its rollout is halted" is_quarantined
wait_for 40 "the first host goes back" site_is one "${hosts[@]}"
for each in app2 app3; do
  same "$each never had it" "" "$(on "$each" grep -l broken /srv/site ||:)"
done
code "the rollout has failed" 4 rollouts status
has "the register has the reason" /srv/site/below "$output"
wait_for 90 "there is a message of it" one_message halted
has "with the reason and the way back" "rollback production --policy" "$(grep '"transition":"halted"' "$SCRATCH/hook/requests")"
code "status of the host names the failure" 4 on app1 trueup status
has "by its resource" /srv/site/below "$output"

#### Back
check "an operator takes it back" by_ci rollback production --policy --yes
code "that rollout ends" 0 rollouts status --wait --timeout 90s
wait_for 40 "app1 is converged" on app1 trueup status
same "with the bundle of before" one "$(sites)"

wait_for 90 "there is a message of that, too" one_message rolled_back

#### on_failure: rollback: it works on the first host and fails on another one, so the first one goes back by itself
check "the policy says so" mode "{max_unavailable: 1, canary: {hosts: 1, bake: 2s}, on_failure: rollback}"
for each in app1 app2; do on "$each" mkdir -p /srv/data; done
on app3 touch /srv/data
cat >"$bundle/roles/site.yml" <<'END'
parameters: {word: none}
resources:
  - file: {path: /srv/site, content: "{{ word }}\n"}
  - file: {path: /srv/data/x, content: x}
END
echo 'word: two' >"$bundle/environments/production.yml"
check "a bundle that one host cannot use is pushed" push
wait_for 60 "app1 has it" site_is two app1
wait_for 60 "its rollout is halted by app3" is_quarantined
wait_for 60 "every host is back" site_is one "${hosts[@]}"
code "the rollout has failed" 4 rollouts status
for each in app1 app2; do code "$each is as before, and knows why" 4 on "$each" trueup status; done
wait_for 90 "there is a message of it" two_messages rolled_back
for each in published started done halted; do
  check "no message of kind $each came twice" no_doubles "$each"
done

#### What is not signed
stop_timers "${hosts[@]}"
s3 GET sha_number.yml | sed 's/policy: .*/policy: "sha256:0000000000000000000000000000000000000000000000000000000000000000"/' >"$SCRATCH/manifest"
s3 PUT sha_number.yml "$SCRATCH/manifest"
code "a bundle that somebody else names is refused" 78 on app2 trueup converge
same "and the one in force stays" one "$(site app2)"
attacked "who can write the bucket" "another policy bundle in the manifest" "its signature does not fit: hosts stay with the bundle in force"
