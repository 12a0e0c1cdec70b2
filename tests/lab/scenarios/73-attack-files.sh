#!/bin/bash
# 73-attack-files: the deploy user plants pipes, occupied names, deep and sparse trees: deployments continue, and nothing is lost
# timeout: 300
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
keys() {
  printf 'deploy_authorized_keys: [%s]\n' "$1"
}
ana="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2bVXnQ0GkZB7M2rH0iLr6pIq5Q2pX4yJY0bS1mW8uA ana"
eve="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq8o2Yw4H3pE1T7m5n9cVQvB6uXzL0sJfD2gRkMhWtE eve"
give_server web app <<END
packages: [nginx-light, ruby, bundler]
keep_releases: 2
$(keys "\"$ana\", \"$eve\"")
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps:
      - {name: install, run: bundle check}
      - {name: made, run: "mkdir -p made && echo made >>made/log", when_changed: [config.ru], outputs: [made]}
    assets: {run: "bin/build; ! test -e /home/deploy/stuff || mv /home/deploy/stuff public/assets/"}
END
deploy() { on web runuser -u deploy -- sh -ec "$1"; }
releases=/srv/www/shop/releases
# next VERSION...: publishes and deploys each version within a minute
next() {
  local version
  for version; do
    check "$version is published" publish "${sha[$version]}"
    check "the next pass deploys" on web timeout 60 trueup converge
    wait_for 10 "visitors get it" page_has web "version $version"
  done
}
count() { on web sh -c "ls $releases | wc -l"; }
left() { on web sh -c "ls -A $releases | grep -c '[.]removed\$' ||:"; }

# Before anything was deployed: what another tool would have left to the deploy user.
check "there is a deploy user" on web sh -c 'useradd --create-home --shell /bin/bash deploy && install -d /srv/www && install -d -o deploy -g deploy /srv/www/shop'
deploy 'mkfifo /srv/www/shop/revisions.log'
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web timeout 120 trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
attacked deploy "a pipe as revisions.log, where another tool's releases are adopted" "the pass does not block; only the log's lines are lost"

deploy 'mkdir -p ~/.ssh/.authorized_keys.trueup~/full'
sed -i "s|^  deploy_authorized_keys: .*|  $(keys "\"$ana\"" | tr -d '\n')|" "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
check "a key is taken away" on web trueup converge
same "and only the other is left" "ana" "$(on web sh -c 'cut -d" " -f3 ~deploy/.ssh/authorized_keys')"
attacked deploy "a folder at the name under which his authorized_keys are prepared, so that no key can be revoked" "the name is another one each time: the key is gone"

old=$(on web readlink /srv/www/shop/current)
# shellcheck disable=SC2016  # for the host's shell
deploy 'cd /srv/www/shop/current && perl -e '"'"'for (1..3000) { mkdir "d"; chdir "d" or die }'"'"''
on web systemd-run -q --unit lookalike --uid nobody sh -c "mkdir -p /tmp/x/$old && cd /tmp/x/$old && exec sleep 600"
next v2 v3
same "two releases are kept" 2 "$(count)"
same "and nothing is left of the others" 0 "$(left)"
attacked deploy "a folder 3,000 deep in a release" "it is removed, with few descriptors; deployments continue"
attacked nobody "a process in /tmp/x/releases/NAME, to keep the release of that name" "devices and inodes are compared: it is removed"

old=$(on web readlink -f /srv/www/shop/current)
on web sh -ec "mkdir -p /srv/share '$old/share' '$old/scratch' && echo kept >/srv/share/precious && mount --bind /srv/share '$old/share'
  mount -t tmpfs none '$old/scratch' && echo kept >'$old/scratch/precious'"
next v1 v2 v3
has "the report names what is mounted" "something is mounted there" "$(on web trueup status ||:)"
has "the remedy is shown" "umount" "$(on web trueup status ||:)"
same "nothing in the bind mount is lost" kept "$(on web cat /srv/share/precious)"
same "nor in the other" kept "$(on web cat "$old/scratch/precious")"
code "a pass with nothing to do is one" 0 on web trueup converge
has "and changes nothing" "0 changes" "$output"
on web umount "$old/share" "$old/scratch"
next v1
same "unmounted, it goes with the next deployment" 2 "$(count)"
check "and nothing behind the mount" on web test -e /srv/share/precious
attacked root "a share and a tmpfs mounted in a release that is due to go" "neither is entered; the release stays complete, the report names the mount"

old=$(on web readlink -f /srv/www/shop/current)
on web sh -ec "touch '$old/fixed' && chattr +i '$old/fixed'"
next v2 v3 v1
has "the report names the immutable file's cure" "chattr -i" "$(on web trueup status ||:)"
same "of the release, nothing else is left" fixed "$(on web sh -c "ls $releases/.*.removed")"
on web sh -c "chattr -i $releases/.*.removed/fixed"
check "an operator clears up" on web trueup releases clean
same "and it is gone" 0 "$(left)"
attacked root "an immutable file in a release that is due to go" "deployments continue; the report has a hint"

deploy 'truncate -s 20G /srv/www/shop/current/made/hole'
used() { on web df --output=used -B1M "$releases" | tail -1; }
before=$(used)
next v2
check "a file of 20 GB that is a hole is taken over as one" on web sh -c "[ \"\$(stat -c %s /srv/www/shop/current/made/hole)\" = $((20 << 30)) ]"
check "and takes no room" [ $(($(used) - before)) -lt 2000 ]
attacked deploy "a hole of 20 GB in what the next release takes over" "it stays a hole"

on web sh -ec 'install -d -o deploy -g deploy ~deploy/stuff; install -d -m 700 ~deploy/stuff/private; echo kept >~deploy/stuff/private/dump.sql'
# shellcheck disable=SC2016  # for the host's shell
deploy 'echo x >~/stuff/own.css; touch ~/stuff/"$(printf "a\\001b.css")"'
check "v3 is published" publish "${sha[v3]}"
code "the next pass deploys" 0 on web timeout 60 trueup converge
has "the report names what is not shared" 'public/assets/stuff/private` (of root) stays in the release' "$output"
has "and on the name" 'a\x01b.css` stays in the release' "$output"
same "assets of the app user are shared" own.css "$(on web ls -A /srv/www/shop/shared/assets/stuff)"
same "what is root's is where it was" kept "$(on web cat /srv/www/shop/current/public/assets/stuff/private/dump.sql)"
check "the app user still cannot read the folder" on web sh -c '! runuser -u deploy -- ls /srv/www/shop/current/public/assets/stuff/private'
attacked deploy "a folder with a folder of root's in it, moved among the assets that root gathers" "root does not enter it: nothing of it is shared, served or cleared up"
attacked deploy "names of assets that take six bytes each in root's list" "they stay in the release; lists are bounded"
