#!/bin/bash
# 82-story: commits from CI to production, by the lines of the CI sample: a canary, a bad one, a rollback, a hold; docs/story.md
# timeout: 200
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"
# shellcheck source=tests/lab/webhook.sh
. "$(dirname "$0")/../webhook.sh"
# shellcheck source=tests/lab/story.sh
. "$(dirname "$0")/../story.sh"

#### Hosts: three of production, one of staging; who may publish; where messages go
# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
give_signers
give_webhook
give_checkout
hosts=(app1 app2 app3 stage)
give_fleet "preflight: {timeout: 10s}"
for each in "${hosts[@]}"; do
  write "$each:/etc/trueup/signers" <"$SCRATCH/signers"
  write "$each:/etc/trueup/hook" 600 <<<"$hook_url"
  write "$each:/etc/trueup/node.d/story.yml" <<END
environment: $([ "$each" = stage ] && echo staging || echo production)
signers: /etc/trueup/signers
notify: {channels: {ops: {webhook: {url_file: /etc/trueup/hook, allow_private: true}}}}
END
done
# What nobody put on the hosts of production.
on stage mkdir /etc/shop
write stage:/etc/shop/licence <<<4711
make_licence() { at_boot 'File.exist?("/etc/shop/licence") || abort("there is no licence in /etc/shop/licence")'; }
make_fixed() { sed -i '/^File.exist/d' config.ru; }

#### v1 is everywhere
cat >"$SCRATCH/manifest" <<END
staging:
  _settings:
    repositories: {shop: "git@$git_address:shop.git"}
  shop: {sha: ${sha[v1]}}
production:
  _settings:
    repositories: {shop: "git@$git_address:shop.git"}
    rollout: {max_unavailable: 1, canary: {hosts: 1, bake: 3s}, min_ready: 1s}
    notify: [ops]
    protected: true
  shop: {sha: ${sha[v1]}}
END
s3 PUT sha_number.yml "$SCRATCH/manifest"
for environment in staging production; do
  check "Ana signs $environment as it is" as_operator trueup now $environment --trust-current --yes
done
begin "${hosts[@]}"; ends "all hosts converge" 0 0 0 0
: >"$SCRATCH/hook/requests"
timers "${hosts[@]}"

#### The story
cat >>"$story" <<'END'
# A day with trueup

Three hosts of production, one of staging, an app called `shop`. This page is written by a test: real hosts with systemd, a real S3
server and git server, and the lines of [the CI sample](ci.md), run as CI runs them (`tests/lab/scenarios/82-story.sh`). It shows
what people see; times and shas are replaced by fixed ones.
END
title "A commit goes to staging"
story_commit cart "Put several things into the cart" good
prose <<<"Ben pushes to \`main\`. The tests pass, and CI runs the job \`staging\`, with a key that may sign staging only:"
ci 0 staging

title "The button"
prose <<<"The release needs something by hand afterwards, so Ana leaves a note before anybody presses the button:"
show 0 'trueup note production shop "run the reindex" --yes'
prose <<<"The job \`production\` waits for a person. It publishes what staging serves, proven there, with a key that may sign production:"
ci 0 production
prose <<<"Ana runs the reindex, and ticks it off:"
show 0 "trueup note production shop --done 1 --yes"

title "A bad commit"
story_commit licence "Print the licence on the receipt" licence
prose <<<"The next commit reads a file that somebody once put on the staging host, and on no other. Staging takes it:"
ci 0 staging
prose <<<"Production does not:"
ci 4 production
wait_for 30 "one message arrives" has_message halted
prose <<<"No visitor met it: the release failed its preflight on the canary, beside the one that serves. One message arrives in the channel \`ops\`:"
message halted
prose <<<"What is in it, and where it stands:"
show 2 "trueup diff production shop"
show 4 "trueup rollout status production shop"

title "Back"
show 0 'trueup rollback production shop --reason "no licence file in production" --yes'
show 0 "trueup rollout status production shop --wait --timeout 1m"
show 0 "trueup history production shop"

title "The hold"
story_commit fix "Print no licence on the receipt" fixed
prose <<<"Ben pushes a fix, and staging takes it. He presses the button, but Ana's rollback still holds production:"
ci 0 staging
ci 3 production
prose <<<"She looks at the fix, and lets production go on:"
show 0 'trueup unhold production shop --reason "fixed" --yes'
ci 0 production
show 0 "trueup fleet --env production"
same "all the while one message said that it halted" 1 "$(messages halted)"
stop_timers "${hosts[@]}"
tell_story
