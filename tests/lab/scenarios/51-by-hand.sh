#!/bin/bash
# 51-by-hand: what hands change on a host is mended kind by kind, what an operator forbids is left alone, config moves only its own service
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ana@desk"
give_server web "app, extra" <<END
packages: [nginx-light, ruby, bundler, hello-trueup]
deploy_authorized_keys: ["$key"]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]     # the gems are Debian's; hosts reach no others
    assets: {run: bin/build}
END
write web:/etc/trueup/roles/extra.yml <<'END'
description: The kinds that the role app has nothing of.
resources:
  - directory: {path: /etc/shop, owner: root, group: deploy, mode: "0750"}
  - file: {path: /etc/shop/terms, content: "pay first\n", owner: root, group: deploy, mode: "0640"}
  - symlink: {path: /etc/shop/conditions, to: terms}
  - command: {id: index, run: [sh, -c, "wc -c </etc/shop/terms >/etc/shop/index"], creates: /etc/shop/index}
END
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_says web "version v1"

runs() { echo "puma $(shown web puma-shop InvocationID) nginx $(shown web nginx InvocationID) $(on web pgrep -d, nginx)"; }
# mended ID "what was done" COMMAND... -- COMMAND that succeeds once it is mended
mended() {
  local id=$1 words=$2 how=(); shift 2
  while [ "$1" != -- ]; do how+=("$1"); shift; done; shift
  said=$(on web "${how[@]}" 2>&1) || fail "$words" "\$ ${how[*]}" "$said"
  code "$words: a plan says so" 2 on web trueup plan
  [[ $said == *"$id"* ]] || fail "$words: as $id" "$said"
  check "$words: a pass mends it" on web trueup converge
  said=$(on web "$@" 2>&1) || fail "$words: really" "\$ $*" "$said"
}

#### Drift, kind by kind
before=$(runs) listing='find /home/deploy /etc/shop /etc/nginx/sites-enabled -printf "%p %M %u %g %l\n" | sort'
was=$(on web sh -c "$listing")
mended user:deploy "the user gets another shell" usermod --shell /bin/sh deploy -- sh -c 'getent passwd deploy | grep -q :/bin/bash$'
mended authorized_keys "a stranger's key is added" sh -c 'echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhhY2sgaGFjayBoYWNrIGhhY2sgaGFjayBoYWNrIGhh x >>/home/deploy/.ssh/authorized_keys' \
  -- sh -c '! grep -q " x$" /home/deploy/.ssh/authorized_keys'
mended directory:/etc/shop "a folder is opened to all" chmod 777 /etc/shop -- sh -c '[ "$(stat -c %a /etc/shop)" = 750 ]'
mended file:/etc/shop/terms "a file is changed" sh -c 'echo "pay later" >/etc/shop/terms' -- grep -qx "pay first" /etc/shop/terms
mended ssh-config "a template's file is removed" rm /home/deploy/.ssh/config -- grep -q IdentitiesOnly /home/deploy/.ssh/config
mended symlink:/etc/shop/conditions "a link is pointed elsewhere" ln -sfn /etc/passwd /etc/shop/conditions -- \
  sh -c '[ "$(readlink /etc/shop/conditions)" = terms ]'
mended "! run index" "what a command made is removed" rm /etc/shop/index -- grep -qx 10 /etc/shop/index
mended packages "a package is removed" apt-get -qqy remove hello-trueup -- hello-trueup
same "folders, files, links and owners are all as they were" "$was" "$(on web sh -c "$listing")"
same "and neither puma nor nginx was moved by any of it" "$before" "$(runs)"

puma=$(shown web puma-shop InvocationID)
mended service:puma-shop "the app is stopped" systemctl stop puma-shop -- systemctl is-active puma-shop
mended service:puma-shop "the app is not to start at boot" systemctl disable puma-shop -- systemctl is-enabled puma-shop
differs "it was started once" "$puma" "$(shown web puma-shop InvocationID)"
wait_for 10 "and visitors get it" page_says web "version v1"
nginx=$(shown web nginx InvocationID)
mended service:nginx "nginx is killed" systemctl kill --signal=KILL nginx -- systemctl is-active nginx
differs "and is up again" "$nginx" "$(shown web nginx InvocationID)"

release=$(on web readlink /srv/www/shop/current)
mended shop/code "current is pointed at nothing" ln -sfn releases/none /srv/www/shop/current -- test -f /srv/www/shop/current/config.ru
same "to the release that it was" "$release" "$(on web readlink /srv/www/shop/current)"
mended shop/code "a file of the running release is changed" sh -c 'echo "PORT=1" >>/srv/www/shop/current/.trueup/env' -- \
  sh -c '! grep -q PORT=1 /srv/www/shop/current/.trueup/env'
wait_for 10 "visitors get v1" page_says web "version v1"
code "then nothing is left to do" 0 on web trueup plan

#### The user and its group are deleted while their processes run
check "the user is deleted" on web userdel --force deploy
code "which a plan sees" 2 on web trueup plan
has "as user:deploy" "user:deploy" "$said"
check "and a pass mends" on web trueup converge
check "files are his again" on web sh -c '[ "$(stat -c %U /home/deploy/.ssh/config /srv/www/shop/shared/log | sort -u)" = deploy ]'
check "and the app restarts as him" on web systemctl restart puma-shop
wait_for 10 "visitors get it" page_says web "version v1"
code "nothing is left to do" 0 on web trueup plan
