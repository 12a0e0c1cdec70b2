#!/bin/bash
# 12-no-request-fails: deploys, 5 rollbacks, two of them by the gate, and two preflights that fail: no request does
# timeout: 420
# long timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
# More versions, on the branch main.
deploys=8
[ -z "${LONG:-}" ] || deploys=20
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
for n in $(seq $deploys); do
  echo "n$n" >"$SCRATCH/clone/VERSION"
  git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qam "Version $n"
  sha[n$n]=$(git -C "$SCRATCH/clone" rev-parse HEAD)
done
git -C "$SCRATCH/clone" push -q origin HEAD:main
on git rm -rf /srv/git/shop.git
lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git

give_s3
give_app_server web "git@$git_address:shop.git"
sed -i 's#^      port: 3000#&\n      gate_timeout: 30s\n      health: {url: "http://127.0.0.1:3000/health", times: 2, interval: 1s}#' "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

load "http://$(address web)/" 4 "$SCRATCH/stop" >"$SCRATCH/load" &
load=$!
for n in $(seq $deploys); do
  check "version $n is published" publish "${sha[n$n]}"
  check "the host converges to it" on web trueup converge
  page_has web "version n$n" || fail "a visitor gets it at once" "$(page web)"
done

for bad in broken sick; do
  bad_version_is_refused web "$bad" "n$deploys" "$preflight"
done
sed -i 's#^      port: 3000#&\n      preflight: null#' "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
for bad in broken sick; do
  check "a version that is $bad is published" publish "${sha[$bad]}"
  code "without a preflight it is rolled back" 4 on web trueup converge --lift-quarantine "a test of the gate"
  has "to the version before" "$gate" "$output"
  page_has web "version n$deploys" || fail "which visitors get" "$(page web)"
done
for back in n$((deploys - 1)) n$((deploys - 2)) n$((deploys - 3)); do
  check "an operator publishes $back again" publish "${sha[$back]}"
  check "the host converges to it" on web trueup converge
  page_has web "version $back" || fail "a visitor gets it at once" "$(page web)"
done
touch "$SCRATCH/stop"
wait "$load"
output=$(cat "$SCRATCH/load")
echo "  $output"
has "no request failed" " failed 0 " "$output"
