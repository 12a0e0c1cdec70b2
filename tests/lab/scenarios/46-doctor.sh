#!/bin/bash
# 46-doctor: `trueup doctor` on a healthy host, and for each fault
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
: >"$SCRATCH/modes"
"$tests/lab/s3-proxy" "$outer" "$endpoint" "$SCRATCH/modes" >"$SCRATCH/port" & proxy=$!
trap 'kill $proxy' EXIT
wait_for 10 "a proxy listens in front of the S3 server" test -s "$SCRATCH/port"
straight=$endpoint
endpoint=http://$outer:$(cat "$SCRATCH/port")
give_app_server web "git@$git_address:shop.git"
objects() { # what is in the bucket besides what hosts say of themselves
  curl -sS --fail --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" --aws-sigv4 "aws:amz:$AWS_REGION:s3" "$straight/$bucket" |
    grep -o '<Key>[^<]*' | grep -vE '<Key>(nodes|rollouts|slots|quarantine|once|at)/' ||:
}
# bad "words" ABOUT PART: doctor ends with 1, names ABOUT as bad with PART and what to do, and nothing else
bad() {
  code "$1" 1 on web trueup doctor
  has "  it is named" "$3" "$(grep -A 12 "^BAD   $2" <<<"$output")"
  has "  with what to do" "do: " "$(grep -A 12 "^BAD   $2" <<<"$output")"
  [ "$(grep -c '^BAD' <<<"$output")" = 1 ] || fail "  and nothing else" "$output"
  same "  and nothing else" "$2" "$(sed -n 's/^BAD   \(.\{24\}\).*/\1/p' <<<"$output" | sed 's/ *$//')"
}

code "before anything is published" 1 on web trueup doctor
has "there is no manifest" "trueup publish production shop=SHA --create" "$output"
has "the git server is known by the key that a pass will bring" "ok    git shop" "$output"
same "and nothing is left in the store" "" "$(objects)"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
on web systemd-run -q --unit trueup -E HOME=/root --on-active=1h trueup converge
on web touch /run/before
code "a healthy host has no bad checks" 0 on web trueup doctor
echo "$output" | sed 's/^/          /'
for line in "ok    clock" "ok    store s3" "ok    manifest" "ok    store writes" "ok    git shop" "ok    service nginx" \
  "ok    service puma-shop" "ok    check nginx" "ok    disk" "ok    owed" "ok    last pass" "ok    next pass" "no problems found"; do
  has "has the line $line" "$line" "$output"
done
same "nothing was written" "" "$(written web /run/before)"
published="<Key>history/production/1.yml
<Key>sha_number.yml"
same "nor left in the store" "$published" "$(objects)"
same "the JSON has the same state" "converged 0" \
  "$(on web trueup doctor --json | python3 -c 'import json, sys; d = json.load(sys.stdin)
print(d["outcome"], sum(c["verdict"] == "bad" for c in d["checks"]))')"

echo closed=/doctor/ >"$SCRATCH/modes"
code "credentials that let it write its record and nothing else" 0 on web trueup doctor
has "are a note" "note  store writes              this host may write its record" "$output"
echo closed=/ >"$SCRATCH/modes"
bad "credentials that only read" "store writes" "may not write its record"
write web:/etc/trueup/node.d/reader.yml <<<"fleet: {publish: false}"
code "read-only credentials suffice with publish: false" 0 on web trueup doctor
has "nothing is tried then" "note  store writes              not tried: this host does not write there" "$output"
on web rm /etc/trueup/node.d/reader.yml
: >"$SCRATCH/modes"

on web systemctl -q mask puma-shop
code "a pass waits for a masked service" 3 on web trueup converge
code "which is no fault of the host" 0 on web trueup doctor
has "doctor reports the wait" "note  last pass                 outcome waiting: " "$output"
on web systemctl -q unmask puma-shop
check "after unmasking the host converges" on web trueup converge

echo skew=-3600 >"$SCRATCH/modes"
bad "a clock that is an hour ahead" clock "s ahead of the store's"
echo deaf >"$SCRATCH/modes"
bad "a store that ignores conditions" "store writes" "ignores \`If-None-Match: *\`"
echo racy >"$SCRATCH/modes"
bad "one that ignores them only when several write at once" "store writes" "fails with 8 concurrent writers"
same "nothing is left in the store" "$published" "$(objects)"
: >"$SCRATCH/modes"

on web mv /etc/trueup/deploy_key /etc/trueup/kept
on web sh -c 'ssh-keygen -q -t ed25519 -N "" -f /etc/trueup/deploy_key'
bad "a deploy key that the git server does not know" "git shop" "denied access"
on web mv /etc/trueup/kept /etc/trueup/deploy_key

on web sh -c 'echo "nonsense;" >/etc/nginx/conf.d/broken.conf'
bad "an nginx file that somebody broke" "check nginx" "nonsense"
on web rm /etc/nginx/conf.d/broken.conf

on web mount -t tmpfs -o size=64k,mode=1777 tmpfs /tmp
bad "a disk that is nearly full" disk "for /tmp"
on web umount /tmp
on web mount -t tmpfs -o size=1g,nr_inodes=40,mode=1777 tmpfs /tmp
on web sh -c 'seq 39 | xargs -I{} touch /tmp/{} 2>/dev/null; true'
bad "no inodes" disk "0% of its inodes"
on web umount /tmp

on web systemctl stop trueup.timer
code "without a timer" 0 on web trueup doctor
has "it is a note" "note  next pass" "$output"

kill "$proxy"; trap - EXIT
code "a store that is down" 1 on web trueup doctor
has "is named" "BAD   store" "$output"
has "with what to do" "do: check the address" "$output"
code "a pass without the store is stale" 5 on web trueup converge
code "doctor reports the unreachable store" 1 on web trueup doctor
has "as what it is" "outcome stale: " "$output"
has "with the last good one" "; the last good one: 2" "$output"

write web:/etc/trueup/node.yml <<<"environment: [production"
code "settings that cannot be read" 1 on web trueup doctor
has "are named with their place" "/etc/trueup/node.yml:2:1" "$output"
