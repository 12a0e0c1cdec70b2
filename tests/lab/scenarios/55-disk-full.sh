#!/bin/bash
# 55-disk-full: no space for the apps, or for trueup's records: reported, nothing lost, and recovered with free space
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
on web sh -ec 'mkdir -p /srv/www /var/lib/trueup
  mount -t tmpfs -o size=64m,mode=755 apps /srv/www; mount -t tmpfs -o size=16m,mode=755 records /var/lib/trueup'
fill() { on web sh -c "rm -f $1/filler; head -c \$((\$(stat -f -c '%a * %S' $1) - $2)) /dev/zero >$1/filler 2>/dev/null ||:"; }
free_up() { on web rm "$1/filler"; }
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
puma=$(shown web puma-shop InvocationID)
# What has to hold while a disk is full.
unharmed() {
  same "$1: puma was left alone" "$puma" "$(shown web puma-shop InvocationID)"
  has "$1: visitors get v1" "version v1" "$(page web)"
  same "$1: current is complete" "${sha[v1]}" "$(on web cat /srv/www/shop/current/REVISION)"
  output=$(on web sh -c 'for file in $(find /var/lib/trueup -name "*.json" -not -size 0); do python3 -m json.tool "$file" >/dev/null || echo "$file"; done')
  same "$1: every record is readable" "" "$output"
}

#### The disk with the apps
fill /srv/www 0
code "no room for apps: a pass with nothing to do needs none" 0 on web trueup converge
check "v3 is published" publish "${sha[v3]}"
code "no room for apps: the pass fails" 1 on web trueup converge
echo "$output" | grep -m2 -A1 failed | sed 's/^/    /'
has "no room for apps: the report names the folder" "/srv/www" "$(grep failed <<<"$output")"
unharmed "no room for apps"
free_up /srv/www
# What is there is checked before; here it goes while the release is being built.
on web sh -c 'cd /srv/www/shop/releases; was=$(ls | wc -l); until [ $(ls | wc -l) -gt $was ]; do :; done
  head -c 100000000 /dev/zero >/srv/www/filler' >/dev/null 2>&1 & filler=$!
code "the room goes while it builds: the pass fails" 1 on web trueup converge --force
wait $filler ||:
echo "$output" | grep -m2 -A1 failed | sed 's/^/    /'
unharmed "the room goes while it builds"
free_up /srv/www
check "with room again it deploys" on web trueup converge --force
wait_for 10 "visitors get v3" page_has web "version v3"
code "then nothing is left to do" 0 on web trueup plan
check "v1 is wanted again" publish "${sha[v1]}"
check "and deployed" on web trueup converge
puma=$(shown web puma-shop InvocationID)

#### The disk with trueup's own records
fill /var/lib/trueup 0
code "no room for records: a pass with nothing to do needs none" 0 on web trueup converge
check "v2 is published" publish "${sha[v2]}"
for n in 1 2; do
  code "no room for records: pass $n fails" 1 on web trueup converge
  echo "$output" | tail -n 3 | sed 's/^/    /'
  has "no room for records: the report names the reason" "No space left" "$output"
done
code "no room for records: for status the host is not converged" 1 on web trueup status
has "no room for records: for that reason" "No space left" "$output"
unharmed "no room for records"
free_up /var/lib/trueup
check "with room again it deploys" on web trueup converge --force
wait_for 10 "visitors get v2" page_has web "version v2"
code "then nothing is left to do" 0 on web trueup plan
