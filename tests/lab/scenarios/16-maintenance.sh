#!/bin/bash
# 16-maintenance: an app goes behind a page of nginx and comes back, at once, over passes, a deploy and a reboot
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_server web app,web <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    server_names: [shop.example]
    secrets: {SECRET_KEY_BASE: $CANARY}
    steps: [{name: install, run: bundle check}]
    assets: {run: bin/build}
    health: {url: "http://127.0.0.1:3000/health", times: 2, interval: 1s}
web_apps:
  docs:
    repo: "git@$git_address:shop.git"
    server_names: [docs.example]
    public: .
    fallback: /VERSION
    health: {url: "http://127.0.0.1/docs.up"}
END
# visit NAME [PATH] [OPTION...]: the status that a visitor gets, its Retry-After and the content
visit() {
  curl -sS --max-time 5 -D "$SCRATCH/head" -o "$SCRATCH/body" -w '%{http_code}' -H "Host: $1.example" "${@:3}" "http://$(address web)${2:-/}"
}
is() { [ "$(visit "${@:2}")" = "$1" ]; }
shows_page() {
  same "$1: status" 503 "$(visit "${@:2}")"
  has "$1: when to come back" "Retry-After: 60" "$(cat "$SCRATCH/head")"
  has "$1: the page" "Down for maintenance" "$(cat "$SCRATCH/body")"
}
nginx_workers() { on web pgrep -x nginx; }

check "two apps are published" publish "${sha[v1]}" "docs=${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" is 200 shop
check "and the other app" is 200 docs /VERSION

#### On and off, at once, without a reload
workers=$(nginx_workers)
pid=$(on web systemctl show puma-shop --property=MainPID --value)
load=$SCRATCH/load
# Visitors without pause: nobody gets anything but the app or the page.
( while [ ! -e "$SCRATCH/stop" ]; do curl -s --max-time 5 -o /dev/null -w '%{http_code}\n' -H 'Host: shop.example' "http://$(address web)/"; done ) >"$load" & visitors=$!
check "it goes into maintenance" on web trueup maintenance shop on --reason "new disks"
shows_page "at once, a visitor gets the page" shop
shows_page "for any path" shop /assets/application.css
shows_page "and any method" shop / -X POST -d a=b
same "a visitor cannot ask for the page itself" 404 "$(visit shop /.trueup/maintenance.html)"
same "the health check still reaches the app" 200 "$(visit shop /health)"
same "the other app is not touched" 200 "$(visit docs /VERSION)"
code "a pass keeps it, and says so" 3 on web trueup converge
has "with who and why" "in maintenance by root since" "$output"
shows_page "after the pass" shop
code "status says so, too" 3 on web trueup status
has "with the reason" "new disks" "$output"
has "doctor knows it" "in maintenance by" "$(on web trueup doctor 2>&1 ||:)"
check "it ends" on web trueup maintenance shop off
same "and at once a visitor gets the app" 200 "$(visit shop)"
touch "$SCRATCH/stop"; wait "${visitors[@]}"
same "nobody got anything else" "200 503" "$(sort -u "$load" | xargs)"
same "nginx was not reloaded" "$workers" "$(nginx_workers)"
same "the app was not restarted" "$pid" "$(on web systemctl show puma-shop --property=MainPID --value)"
code "a pass is green again" 0 on web trueup converge

#### Drained
check "it is drained" on web trueup maintenance shop on --drain
shows_page "the health check gets the page as well" shop /health
check "the drain is taken back" on web trueup maintenance shop on
same "the health check reaches the app" 200 "$(visit shop /health)"
shows_page "a visitor still gets the page" shop

#### An answer 503 that is none of maintenance
on web trueup maintenance shop off >/dev/null
on web systemctl stop puma-shop.socket puma-shop
same "an app that is down answers 503" 503 "$(visit shop)"
same "without the page" 0 "$(grep -c "Down for maintenance" "$SCRATCH/body" ||:)"
same "and without the time to come back" 0 "$(grep -c Retry-After "$SCRATCH/head" ||:)"
check "a pass starts it again" on web trueup converge
wait_for 20 "a visitor gets the app" is 200 shop
check "it is drained once more" on web trueup maintenance shop on --drain

#### A deploy, and a reboot
check "v2 is published" publish "${sha[v2]}"
code "a pass deploys it meanwhile" 3 on web trueup converge
shows_page "visitors still get the page" shop
has "the app serves v2 behind it" "version v2" "$(on web curl -sS -H 'Host: shop.example' http://127.0.0.1:3000/)"
on web systemctl disable trueup.timer >/dev/null 2>&1 ||:
lab kill web
host web
wait_for 30 "after a power cut nginx answers" is 503 shop
shows_page "with the page, before any pass" shop
shows_page "to the health check as well" shop /health
code "passes keep it" 3 on web trueup converge
shows_page "and the page" shop
check "it ends" on web trueup maintenance shop off
wait_for 20 "a visitor gets v2" is 200 shop
has "which was deployed meanwhile" "version v2" "$(cat "$SCRATCH/body")"

#### An end by itself, and own pages
check "it goes into maintenance for 3 seconds" on web trueup maintenance shop on --for 3s
shows_page "a visitor gets the page" shop
on web install -d /etc/trueup/templates/nginx
write web:/etc/trueup/templates/nginx/maintenance.html <<<'<p>Ours: back at {{ app.name }} soon'
sleep 3.2
shows_page "until a pass" shop
code "which ends it" 0 on web trueup converge
same "a visitor gets the app" 200 "$(visit shop)"
check "it goes into maintenance again" on web trueup maintenance shop on
same "with a page of the operator's" "503 <p>Ours: back at shop soon" "$(visit shop) $(cat "$SCRATCH/body")"
check "static files have a page too" on web trueup maintenance docs on
same "but for their health check, which nginx answers with the fallback" 200 "$(visit docs /docs.up?x=1)"
same "and no other path" 503 "$(visit docs /docsXup)"
code "so a release is not taken back meanwhile" 3 on web trueup converge
code "it cannot be drained: the health check goes through nginx" 64 on web trueup maintenance docs on --drain
has "and the command says so" "goes through the web server" "$output"
same "with 503" "503 <p>Ours: back at docs soon" "$(visit docs /VERSION) $(cat "$SCRATCH/body")"

#### A flag that others could not set
on web su -s /bin/sh deploy -c 'rm -f /var/lib/trueup/maintenance/shop.json; touch /var/lib/trueup/maintenance/x.json' 2>/dev/null ||:
same "the deploy user can neither end nor begin it" "docs.json shop.json" "$(on web sh -c 'cd /var/lib/trueup/maintenance && echo *')"
