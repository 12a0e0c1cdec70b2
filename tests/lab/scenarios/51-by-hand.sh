#!/bin/bash
# 51-by-hand: manual changes are repaired kind by kind, masked services stay masked, a config change restarts only its service
# timeout: 360
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
wait_for 10 "a visitor gets v1" page_has web "version v1"

runs() { echo "puma $(shown web puma-shop InvocationID) nginx $(shown web nginx InvocationID) $(on web pgrep -d, nginx)"; }
# repaired ID "change" COMMAND... -- COMMAND that succeeds after the repair
repaired() {
  local id=$1 words=$2 command=(); shift 2
  while [ "$1" != -- ]; do command+=("$1"); shift; done; shift
  output=$(on web "${command[@]}" 2>&1) || fail "$words" "\$ ${command[*]}" "$output"
  code "$words: a plan shows it" 2 on web trueup plan
  [[ $output == *"$id"* ]] || fail "$words: as $id" "$output"
  check "$words: a pass repairs it" on web trueup converge
  output=$(on web "$@" 2>&1) || fail "$words: really" "\$ $*" "$output"
}

#### Drift, kind by kind
before=$(runs) listing='find /home/deploy /etc/shop /etc/nginx/sites-enabled -printf "%p %M %u %g %l\n" | sort'
was=$(on web sh -c "$listing")
repaired user:deploy "the user gets another shell" usermod --shell /bin/sh deploy -- sh -c 'getent passwd deploy | grep -q :/bin/bash$'
repaired authorized_keys "a stranger's key is added" sh -c 'echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhhY2sgaGFjayBoYWNrIGhhY2sgaGFjayBoYWNrIGhh x >>/home/deploy/.ssh/authorized_keys' \
  -- sh -c '! grep -q " x$" /home/deploy/.ssh/authorized_keys'
repaired directory:/etc/shop "a folder is opened to all" chmod 777 /etc/shop -- sh -c '[ "$(stat -c %a /etc/shop)" = 750 ]'
repaired file:/etc/shop/terms "a file is changed" sh -c 'echo "pay later" >/etc/shop/terms' -- grep -qx "pay first" /etc/shop/terms
repaired ssh-config "a template's file is removed" rm /home/deploy/.ssh/config -- grep -q IdentitiesOnly /home/deploy/.ssh/config
repaired symlink:/etc/shop/conditions "a link is pointed elsewhere" ln -sfn /etc/passwd /etc/shop/conditions -- \
  sh -c '[ "$(readlink /etc/shop/conditions)" = terms ]'
repaired "run index" "what a command made is removed" rm /etc/shop/index -- grep -qx 10 /etc/shop/index
repaired packages "a package is removed" apt-get -qqy remove hello-trueup -- hello-trueup
same "folders, files, links and owners are all as they were" "$was" "$(on web sh -c "$listing")"
same "neither puma nor nginx was restarted by any repair" "$before" "$(runs)"

puma=$(shown web puma-shop InvocationID)
repaired service:puma-shop "the app is stopped" systemctl stop puma-shop -- systemctl is-active puma-shop
repaired service:puma-shop "the app is not to start at boot" systemctl disable puma-shop -- systemctl is-enabled puma-shop
differs "it was started once" "$puma" "$(shown web puma-shop InvocationID)"
wait_for 10 "and visitors get it" page_has web "version v1"
nginx=$(shown web nginx InvocationID)
repaired service:nginx "nginx is killed" systemctl kill --signal=KILL nginx -- systemctl is-active nginx
differs "and is up again" "$nginx" "$(shown web nginx InvocationID)"

release=$(on web readlink /srv/www/shop/current)
repaired shop/code "current is pointed at nothing" ln -sfn releases/none /srv/www/shop/current -- test -f /srv/www/shop/current/config.ru
same "to the release that it was" "$release" "$(on web readlink /srv/www/shop/current)"
repaired shop/code "a file of the running release is changed" sh -c 'echo "PORT=1" >>/srv/www/shop/current/.trueup/env' -- \
  sh -c '! grep -q PORT=1 /srv/www/shop/current/.trueup/env'
wait_for 10 "visitors get v1" page_has web "version v1"
code "then nothing is left to do" 0 on web trueup plan

#### Config
puma=$(shown web puma-shop InvocationID) nginx=$(shown web nginx InvocationID) workers=$(on web pgrep -d, nginx)
on web sed -i 's/^    port: 3000/&\n      threads: 7/;s/^      port: 3000/&\n      threads: 7/' /etc/trueup/node.yml
check "puma is given more threads" on web trueup converge
has "puma has them" "threads 1, 7" "$(on web cat /srv/www/shop/current/.trueup/puma.rb)"
differs "it was restarted" "$puma" "$(shown web puma-shop InvocationID)"
same "nginx was neither reloaded nor restarted" "$nginx $workers" "$(shown web nginx InvocationID) $(on web pgrep -d, nginx)"
puma=$(shown web puma-shop InvocationID)
on web sed -i 's/^      port: 3000/&\n      max_body: 21m/' /etc/trueup/node.yml
check "nginx is to take larger requests" on web trueup converge
differs "it was reloaded" "$workers" "$(on web pgrep -d, nginx)"
same "and not restarted" "$nginx" "$(shown web nginx InvocationID)"
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
code "nothing is left to do" 0 on web trueup plan

workers=$(on web pgrep -d, nginx) site=$(on web sh -c 'ls -li /etc/nginx/sites-enabled; cat /etc/nginx/sites-enabled/*')
on web sh -c 'mkdir -p /etc/trueup/templates/nginx; sed "s/proxy_redirect off;/proxy_redirect off/" /usr/share/trueup/templates/nginx/site.conf >/etc/trueup/templates/nginx/site.conf'
for n in 1 2; do
  code "a template that nginx does not take fails pass $n" 1 on web trueup converge
  has "the report has nginx's message" "[emerg]" "$output"
done
same "what was there is there" "$(cut -d' ' -f2- <<<"$site")" "$(on web sh -c 'ls -li /etc/nginx/sites-enabled; cat /etc/nginx/sites-enabled/*' | cut -d' ' -f2-)"
same "nothing was reloaded, or restarted" "$nginx $workers $puma" "$(shown web nginx InvocationID) $(on web pgrep -d, nginx) $(shown web puma-shop InvocationID)"
page_has web "version v1" || fail "visitors get v1" "$(page web)"
on web sh -c 'echo "{{ no_such }}" >/etc/trueup/templates/nginx/site.conf; echo >>/home/deploy/.ssh/config'
code "a template that cannot be rendered fails before any change" 78 on web trueup converge
check "no drift is repaired" on web sh -c '! tail -n 1 /home/deploy/.ssh/config | grep -q .'
on web rm -r /etc/trueup/templates
check "without it the host converges again" on web trueup converge

#### What an operator forbids, and what dies
puma=$(shown web puma-shop InvocationID)
check "an operator masks the app" on web systemctl mask --now puma-shop
code "a pass keeps the masked service and waits" 3 on web trueup converge
has "with the reason" "an operator masked it" "$output"
check "v2 is published" publish "${sha[v2]}"
code "it is put in place, and waits" 3 on web trueup converge
same "nothing was started" inactive "$(shown web puma-shop ActiveState)"
code "for status the app does not serve" 1 on web trueup status
has "because of that" "puma-shop is stopped, and an operator masked it" "$output"
check "the service is unmasked" on web systemctl unmask puma-shop
check "and the next pass starts it" on web trueup converge
wait_for 10 "visitors get v2" page_has web "version v2"
code "nothing is left to do" 0 on web trueup plan

on web sh -c 'cp /usr/local/lib/systemd/system/puma-shop.service /etc/systemd/system/; systemctl daemon-reload'
code "a unit that shadows the role's unit fails the pass" 1 on web trueup converge
has "with both places" "defined by /etc/systemd/system/puma-shop.service, which hides /usr/local/lib/" "$output"
on web sh -c 'rm /etc/systemd/system/puma-shop.service; systemctl daemon-reload; systemctl restart puma-shop'
code "without it the host converges" 0 on web trueup converge

git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
sed -i '1i Thread.new { sleep 30; warn "out of memory"; exit! }' "$SCRATCH/clone/config.ru"
git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qam "Live for half a minute"
git -C "$SCRATCH/clone" push -q origin HEAD:main
on git rm -rf /srv/git/shop.git
lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git
check "a version that crashes after its gate is published" publish "$(git -C "$SCRATCH/clone" rev-parse HEAD)"
check "its gate lets it pass" on web trueup converge
reports_crash_loop() { code=0; output=$(on web trueup converge 2>&1) || code=$?; [[ $code = 1 && $output == *"crashed more than once"* ]]; }
wait_for 120 "it dies again and again, and then passes fail because of it" reports_crash_loop
output=$(on web trueup status 2>&1 ||:)
has "status shows it" "crashed more than once" "$output"
check "v2 is published again" publish "${sha[v2]}"
check "and makes the host well" on web trueup converge
wait_for 10 "visitors get v2" page_has web "version v2"
code "nothing is left to do" 0 on web trueup plan

#### What the user may do as root
check "one command is allowed by deploy_sudo" on web sh -c "mkdir -p /etc/trueup/node.d; echo 'attributes: {deploy_sudo: [/usr/bin/systemctl reload nginx]}' >/etc/trueup/node.d/sudo.yml"
check "a pass installs the sudo rule" on web trueup converge
check "the deploy user can run it" on web runuser -u deploy -- sudo -n /usr/bin/systemctl reload nginx
code "but nothing else" 1 on web runuser -u deploy -- sudo -n /usr/bin/id
on web sh -c "echo 'attributes: {deploy_sudo: [\"reload nginx\"]}' >/etc/trueup/node.d/sudo.yml"
code "what sudo would not take fails" 1 on web trueup converge
has "the report has visudo's message" "expected a fully-qualified path name" "$output"
check "and what was there is there" on web runuser -u deploy -- sudo -n /usr/bin/systemctl reload nginx
on web rm /etc/trueup/node.d/sudo.yml
check "what is allowed no more" on web trueup converge
code "is taken away" 1 on web runuser -u deploy -- sudo -n /usr/bin/systemctl reload nginx

#### Logs
puma=$(shown web puma-shop InvocationID)
on web sh -c 'for n in $(seq 1000); do echo "a line of a log"; done >/srv/www/shop/shared/log/production.log; chown deploy: /srv/www/shop/shared/log/production.log'
check "logrotate takes the app's logs" on web logrotate --force --state /run/rotated /etc/logrotate.d/trueup-shop
same "without a trace in the running file" 0 "$(on web stat -c %s /srv/www/shop/shared/log/production.log)"
check "and keeps them" on web grep -q line /srv/www/shop/shared/log/production.log.1
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
code "and nothing is left to do" 0 on web trueup plan

#### The user and its group are deleted while their processes run
uid=$(on web id -u deploy)
on web useradd ana                                       # so that the next number would be another one
check "the user is deleted" on web sh -c 'userdel --force deploy 2>/dev/null; ! id deploy 2>/dev/null'
code "a plan shows it" 2 on web trueup plan
has "as user:deploy" "user:deploy" "$output"
check "a pass recreates the user" on web trueup converge
same "the user has the same uid" "$uid" "$(on web id -u deploy)"
check "the user owns the same files" on web sh -c '[ "$(stat -c %U /home/deploy/.ssh/config /srv/www/shop/shared/log | sort -u)" = deploy ]'
check "the app restarts as the user" on web systemctl restart puma-shop
wait_for 10 "visitors get it" page_has web "version v2"
code "nothing is left to do" 0 on web trueup plan
