#!/bin/bash
# 53-git-trouble: the git server is cut off during a fetch, and its deploy keys change, while the app serves
# timeout: 360
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
under_load web

#### Cut off in the middle
# A commit of 4 MB, sent at a MB a second, through the command that the key is bound to.
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
head -c 4000000 /dev/urandom >"$SCRATCH/clone/large"
git -C "$SCRATCH/clone" add large
git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qm "Something large"
large=$(git -C "$SCRATCH/clone" rev-parse HEAD)
git -C "$SCRATCH/clone" push -q origin HEAD:main
on git rm -rf /srv/git/shop.git
lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git
write git:/usr/local/bin/slowly 755 <<'END'
#!/usr/bin/python3
import os, subprocess, sys, time
sent = subprocess.Popen(["git-shell", "-c", os.environ["SSH_ORIGINAL_COMMAND"]], stdout=subprocess.PIPE)
while part := os.read(sent.stdout.fileno(), 50000):
    os.write(1, part)
    time.sleep(0.05)
sys.exit(sent.wait())
END
on git sed -i 's#^restrict #restrict,command="/usr/local/bin/slowly" #' /srv/git/.ssh/authorized_keys
on git usermod --shell /bin/sh git
# Bytes that are not a whole pack yet.
fetched() { on web find /var/lib/trueup/mirrors -path '*/pack/*' -not -name 'pack-*' -type f -printf '%s\n' | awk '{sum += $1} END {print sum + 0}'; }
arriving() { [ "$(fetched)" -gt 500000 ]; }

check "a large commit is published" publish "$large"
# interrupted "words" COMMAND...   it is done while the commit arrives
interrupted() {
  local words=$1 pass began code=0; shift
  on web trueup converge --force >"$SCRATCH/pass" 2>&1 & pass=$!
  wait_for 20 "the commit is arriving" arriving
  "$@"
  began=$SECONDS
  wait $pass || code=$?
  same "$words: the pass fails" 1 "$code"
  echo "  after $((SECONDS - began)) s: $(grep -m1 failed "$SCRATCH/pass")"
  has "$words: the report names the repository" "git@$git_address:shop.git" "$(cat "$SCRATCH/pass")"
  has "$words: visitors get v1" "version v1" "$(page web)"
}
interrupted "the git server ends the connection" on git pkill -f slowly
interrupted "the git server is cut off without a word" lab cut git silent
lab heal git
check "with the git server back it is fetched and deployed" on web trueup converge --force
wait_for 10 "visitors get it" page_has web "version v3"
same "with the large file" 4000000 "$(on web stat -c %s /srv/www/shop/current/large)"
same "and nothing half-fetched is left" 0 "$(fetched)"

#### The deploy key is rotated
on git sh -ec 'usermod --shell /usr/bin/git-shell git; ssh-keygen -q -t ed25519 -N "" -C new@shop -f /root/new_key
  { printf "restrict "; cat /root/deploy_key.pub; printf "restrict "; cat /root/new_key.pub; } >/srv/git/.ssh/authorized_keys'
puma=$(shown web puma-shop InvocationID)
on git cat /root/new_key | write web:/etc/trueup/deploy_key 600
check "the new key is put in its place while both are taken" on web trueup converge
has "nothing changes for that" "0 changes" "$(on web trueup converge)"
on git sh -c '{ printf "restrict "; cat /root/new_key.pub; } >/srv/git/.ssh/authorized_keys'
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
check "v2 is published" publish "${sha[v2]}"
check "and fetched with the new key alone" on web trueup converge
wait_for 10 "visitors get v2" page_has web "version v2"

on git sh -c '{ printf "restrict "; cat /root/deploy_key.pub; } >/srv/git/.ssh/authorized_keys'
rm -rf "$SCRATCH/clone"; git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
echo v4 >"$SCRATCH/clone/VERSION"
git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qam "Version 4"
git -C "$SCRATCH/clone" push -q origin HEAD:main
on git rm -rf /srv/git/shop.git
lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git
code "a key that is not taken any more harms nothing while there is nothing new" 0 on web trueup converge
check "a commit is published that the host has not" publish "$(git -C "$SCRATCH/clone" rev-parse HEAD)"
code "a pass fails" 1 on web trueup converge
has "the report names the refused key" "/etc/trueup/deploy_key" "$output"
has "visitors still get v2" "version v2" "$(page web)"
on git cat /root/deploy_key | write web:/etc/trueup/deploy_key 600
check "with a key that is taken the next pass deploys it" on web trueup converge
wait_for 10 "visitors get v4" page_has web "version v4"
end_load
