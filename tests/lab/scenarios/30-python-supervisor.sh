#!/bin/bash
# 30-python-supervisor: a Flask app under gunicorn and supervisor: no request fails over deploys and rollbacks
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server flask-app
give_s3
give_server web python <<END
packages: [nginx-light, python3, python3-venv]
python_apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 8000
    app_module: "app:app"
    workers: 2
    env: {PIP_NO_INDEX: "1", PIP_FIND_LINKS: /srv/wheels}
    secrets: {SECRET: "it's 50% \"x\" \$HOME"}
    health: {url: "http://127.0.0.1:8000/health", times: 1}
    gate_timeout: 20s
END
give_wheels web flask==3.1.3 gunicorn==27.0.1 uvicorn==0.54.0
in_shop() { on web supervisorctl "$1" shop:shop_1; }

check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
has "the app has its secrets as they were written" "secret it's 50% \"x\" \$HOME" "$(page web)"
has "and its own home" "home /home/deploy" "$(page web)"
has "nginx serves the files of the release" "Disallow" "$(page web /robots.txt)"
same "a worker of the gunicorn that supervisor started answers" "$(in_shop pid)" \
  "$(on web ps -o ppid= -p "$(page_line web pid)" | tr -d ' ')"
has "it runs in its release" "/srv/www/shop/releases/" \
  "$(on web readlink "/proc/$(in_shop pid)/cwd")"
code "ps shows its processes" 0 on web trueup ps shop
has "that of supervisor, and its user" "shop:shop_1  $(in_shop pid)" "$output"
has "and the worker, in the release" "$(page_line web pid)" "$(grep "$(on web readlink /srv/www/shop/current | sed 's,.*/,,')" <<<"$output")"
code "logs shows what gunicorn printed" 0 on web trueup logs shop -n 1000
has "from supervisor's file" "Listening at" "$output"
check "a followed log ends when its reader goes" on web bash -c 'set -o pipefail; timeout 20 trueup logs shop -f | head -n 1'
pid=$(in_shop pid)
under_load web
code "restart restarts the app" 0 on web trueup restart shop
has "and says that it serves" "shop serves release" "$output"
end_load
differs "another gunicorn runs" "$pid" "$(in_shop pid)"
has "supervisor comes up with the host" enabled "$(on web systemctl is-enabled supervisor)"

# Without root: what cannot be looked at is no failure.
as_user() { on web setpriv --reuid nobody --regid nogroup --clear-groups trueup "$@"; }
on web chmod 755 /etc/trueup
code "status without root has the outcome of the last pass" 0 as_user status
has "and says that supervisord is root's" "serving: only root can ask supervisord" "$output"
has "and how much it did not look at" "not inspected" "$output"
code "doctor without root finds nothing bad" 0 as_user doctor
has "and notes what it could not check" "note  service shop:shop_1       only root can ask supervisord" "$output"
has "nor ask, with credentials that are root's" "note  store s3://" "$output"
code "ps without root is no failure" 0 as_user ps shop
has "and says why it is empty" "only root can ask supervisord" "$output"
code "a plan without root is not taken for that of a pass" 1 as_user plan
has "and says so" "resources: \`sudo trueup plan\`" "$output"

on web touch /run/before
pid=$(in_shop pid) holder=$(on web supervisorctl pid shop:shop_0) workers=$(on web pgrep -d, nginx)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
same "gunicorn was not restarted" "$pid" "$(in_shop pid)"

under_load web
check "v2 is published" publish "${sha[v2]}"
check "the host converges" on web trueup converge
has "a visitor gets v2" "version v2" "$(page web)"
end_load
has "with the virtual environment of v1, because the requirements are the same" "inputs equal to ${sha[v1]:0:7}" \
  "$(on web cat /var/lib/trueup/releases/shop.json)"
has "which the deploy user cannot change" "Permission denied" \
  "$(on web runuser -u deploy -- touch /srv/www/shop/current/.venv/bin/x 2>&1 || true)"
differs "gunicorn was restarted" "$pid" "$(in_shop pid)"
same "what holds its port was not" "$holder" "$(on web supervisorctl pid shop:shop_0)"
same "nginx was neither reloaded nor restarted" "$workers" "$(on web pgrep -d, nginx)"

check "a line is added to the app's section by hand" on web sh -c 'echo "stopsignal=QUIT" >>/etc/supervisor/conf.d/shop.conf'
code "the plan shows the drift and what it brings" 2 on web trueup plan
has "with its cause" "restart service:shop:shop_1 (because of shop/program)" "$output"
check "the host converges" on web trueup converge
has "supervisor has no pending config updates" "No config updates" "$(on web supervisorctl reread)"
has "and the app answers" "version v2" "$(page web)"

check "gunicorn is killed for good" on web supervisorctl stop shop:shop_1
check "the host converges" on web trueup converge
has "and the app answers" "version v2" "$(page web)"

bad_versions_are_refused web v2 "$preflight"
