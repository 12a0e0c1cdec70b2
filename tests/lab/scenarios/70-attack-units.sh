#!/bin/bash
# 70-attack-units: the deploy user plants links, pipes and folders in paths of systemd, supervisord, nginx and logrotate, and gains nothing
# timeout: 600
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_server web "app, web" <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]     # the gems are Debian's; hosts reach no others
    assets: {run: bin/build}
    secrets: {ODD: "a \"b\" \$HOME \`id\` \\\\ 50%"}
web_apps:
  cart:
    repo: "git@$git_address:shop.git"
    command: sleep infinity
    port: 4000
    manager: supervisor
    server_names: [cart.invalid]
END
# A start that hangs is given up before the lab gives up its boot.
write web:/etc/systemd/system.conf.d/lab.conf <<<$'[Manager]\nDefaultTimeoutStartSec=8s'
on web systemctl daemon-reexec
check "v1 of both apps is published" publish "${sha[v1]}" "cart=${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
canary=$AWS_SECRET_ACCESS_KEY
has "root has keys that no other user can read" "$canary" "$(on web cat /root/.aws/credentials)"
# shellcheck disable=SC2016
same "puma has the exact environment" 'ODD=a "b" $HOME `id` \ 50%' \
  "$(on web sh -c 'tr "\0" "\n" <"/proc/$(systemctl show -P MainPID puma-shop)/environ" | grep ^ODD=')"

# As the deploy user, in the active release of shop; the text finds that of cart in $cart.
# shellcheck disable=SC2016
as_deploy() { on web runuser -u deploy -- sh -ec 'cart=/srv/www/cart/current; cd -P /srv/www/shop/current; '"$1"; }
answers() { on web timeout 10 systemctl show --property=Version >/dev/null && on web timeout 10 supervisorctl pid >/dev/null; }
# The keys are in no process of another user, and in no output.
secret() {
  # shellcheck disable=SC2016
  on web sh -ec 'for pid in $(ps -o pid= -u deploy -u www-data); do
      ! { tr "\0" "\n" <"/proc/$pid/environ"; cat "/proc/$pid/cmdline"; } 2>/dev/null | grep -q "$0" || { ps -f -p "$pid"; exit 1; }
    done
    ! journalctl -q --no-pager | grep "$0"
    ! grep -rl "$0" /srv /tmp /var/log /home /var/tmp' "$canary"
}
# attack "what he tried" "how it ended" SHELL-TEXT [COMMAND of root that meets what was planted...]
attack() {
  local what=$1 end=$2 text=$3; shift 3
  echo "  - $what"
  as_deploy "$text" || fail "$what" "he could not even try"
  # What is his he may kill; its supervisor starts it again at once.
  as_deploy 'pkill -9 -u deploy -f "[p]uma|[s]leep infinity"' ||:
  [ $# = 0 ] || on web timeout 30 "$@" >"$SCRATCH/met" 2>&1 || [ $? != 124 ] || fail "$what: $* ends" "$(cat "$SCRATCH/met")"
  sleep 2.5                                              # both supervisors restart it after a second
  check "systemd and supervisord answer" answers
  check "root's keys are not leaked" secret
  # A pass ends in spite of the planted files, and reports what it cannot repair.
  output=$(on web timeout 120 trueup converge 2>&1) && code=0 || code=$?
  [[ $code = [014] ]] || fail "a pass ends well, or says what is wrong" "$output" "(exit code $code)"
  check "root's keys are still not leaked" secret
  wait_for 40 "visitors get v1" page_has web "version v1"
  # So often dead, they count as unwell for a while, unless an operator has a say.
  on web sh -c 'systemctl restart puma-shop; supervisorctl -s unix:///var/run/supervisor.sock restart cart' >/dev/null
  code "then all is as described" 0 on web timeout 120 trueup converge
  attacked deploy "$what" "$end"
}

attack "the environment is a link to root's keys" "not read: the app's user opens it, and may not" \
  'ln -sf /root/.aws/credentials .trueup/env; ln -sf /root/.aws/credentials $cart/.trueup/env'
attack "the environment is a pipe" "only his app hangs" \
  'rm .trueup/env $cart/.trueup/env; mkfifo .trueup/env $cart/.trueup/env'
attack "the start script and puma's configuration are links to root's keys" "not read" \
  'ln -sf /root/.aws/credentials .trueup/puma.rb; ln -sf /root/.aws/credentials $cart/.trueup/run'
attack "they are pipes" "only his apps hang" \
  'rm .trueup/puma.rb $cart/.trueup/run; mkfifo .trueup/puma.rb $cart/.trueup/run'
attack "the folder of these files is a link to root's folder" "nobody goes there" \
  'mv .trueup .was; ln -s /root/.aws .trueup; mv $cart/.trueup $cart/.was; ln -s /root/.aws $cart/.trueup'
attack "his apps' logs are links and pipes, and logrotate comes" "logrotate is the app's user by then" \
  'cd /srv/www/shop/shared/log; ln -s /root/.aws/credentials keys.log; mkfifo pipe.log; printf "%1000s" x >fine.log' \
  logrotate --force /etc/logrotate.d/trueup-shop
same "and rotated what it may" 1 "$(on web sh -c 'ls /srv/www/shop/shared/log/fine.log.1* | wc -l')"
attack "their folder is a link to root's" "logrotate is the app's user by then" \
  'cd /srv/www/shop/shared; mv log was; ln -s /root log; ln -s /root/.aws ../shared/more' \
  logrotate --force /etc/logrotate.d/trueup-shop
on web runuser -u deploy -- sh -ec 'cd /srv/www/shop/shared; rm log; mv was log'
attack "the public folder has links to root's keys and pipes, and nginx serves it" "403 or 404: its workers are www-data" \
  'ln -s /root/.aws/credentials public/keys; ln -s /root/.aws public/folder; mkfifo public/pipe' nginx -t
for path in /keys /folder/credentials /pipe; do
  code "$path is not served" 22 page web "$path"
done
check "nginx can still be reloaded" on web timeout 20 systemctl reload nginx

# What is his to try and not his to do.
for what in 'ln -sfn /root/.aws /srv/www/shop/current' 'mv /srv/www/shop/releases /srv/www/shop/mine' 'mkfifo /srv/www/shop/current.new' \
  'rm /var/log/supervisor/cart.log' 'ln -sf /root/.aws/credentials /etc/nginx/sites-enabled/mine.conf' \
  'ln -s /root/.aws/credentials /usr/local/lib/systemd/system/mine.service'; do
  code "the deploy user cannot: $what" 1 as_deploy "$what"
done
attacked deploy "links in place of current, releases, sites, units and supervisord's logs" "refused: the folders are root's"

# The host boots, whatever lies there.
as_deploy 'rm .trueup/env .trueup/puma.rb $cart/.trueup/run; mkfifo .trueup/env .trueup/puma.rb $cart/.trueup/run'
check "the host is powered off" lab kill web
check "the host still boots" lab up web
wait_for 20 "systemd and supervisord answer" answers
check "root's keys are not leaked" secret
output=$(on web timeout 120 trueup converge 2>&1) ||:
wait_for 40 "after a pass visitors get v1" page_has web "version v1"
attacked deploy "the host is rebooted with pipes in place of what its apps read" "it boots, and the next pass repairs them"

# A template of an operator's own that has systemd open what is his, as the shipped one of before did.
on web systemctl restart puma-shop
on web mkdir -p /etc/trueup/templates/systemd
sed -e 's|^ExecStart=.*|EnvironmentFile={{ root }}{{ app.deploy_to }}/current/.trueup/env\nExecStart=/usr/bin/env {{ app.command }} -C .trueup/puma.rb|' \
  "$tests/../templates/systemd/puma.service" | write web:/etc/trueup/templates/systemd/puma.service
on web trueup converge >/dev/null ||:
code "a unit with EnvironmentFile= in a release fails the pass" 1 on web trueup converge
has "with the reason" "opens its EnvironmentFile= /srv/www/shop/current/.trueup/env as root" "$output"
on web rm -r /etc/trueup/templates
check "back to the shipped one the host converges" on web trueup converge
code "a second pass converges too" 0 on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
attacked deploy "a role of the operator's own opens his files as root" "each pass fails with a hint until it is repaired"
