#!/bin/bash
# 38-drain: two hosts of an app without a socket behind haproxy: restarts lose requests without a drain, and none with one
# timeout: 600
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
declare -A sha
while read -r name value; do sha[$name]=$value; done < <("$tests/fixtures/make-repo" "$SCRATCH/shop.git" node-app)
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
for n in {1..4}; do
  echo "n$n" >"$SCRATCH/clone/VERSION"
  git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qam "Version $n"
  sha[n$n]=$(git -C "$SCRATCH/clone" rev-parse HEAD)
done
git -C "$SCRATCH/clone" push -q origin HEAD:main

app_host() {
  host "$1"
  on "$1" systemctl -q mask --now haproxy
  give_keys "$1"
  lab cp "$SCRATCH/shop.git" "$1:/srv/shop.git"
  give_trueup "$1"
  cat >"$SCRATCH/$1.yml" <<END
environment: production
roles: [web]
tags: {tier: front}
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
attributes:
  packages: []
  web_apps:
    shop:
      repo: /srv/shop.git
      command: node server.js
      port: 4000
      health: {url: "http://127.0.0.1:4000/health", times: 2, interval: 1s}
      preflight: null
      gate_timeout: 20s
    docs:
      repo: /srv/shop.git
      command: node server.js
      port: 4001
      server_names: [docs.example]
      health: {url: "http://127.0.0.1/health", headers: {Host: docs.example}, times: 1}
      preflight: null
END
  write "$1:/etc/trueup/node.yml" <"$SCRATCH/$1.yml"
}
# setting NAME LINE…: settings of both hosts beside the others; none: without them
setting() {
  local each
  for each in app1 app2; do
    if [ $# -gt 1 ]; then printf '%s\n' "${@:2}" | write "$each:/etc/trueup/node.d/$1.yml"
    else on "$each" rm -f "/etc/trueup/node.d/$1.yml"; fi
  done
}
drain() { setting drain "attributes: {web_apps: {shop: {drain: $1}, docs: {drain: ${2:-$1}}}}"; }
app_host app1 & app_host app2 & give_balancer lb & wait
cp "$SCRATCH/app1.yml" "$SCRATCH/node.yml"

# As a rollout does: one host after the other.
stats() { on lb python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/haproxy/admin.sock"); s.sendall(b"show stat\n"); print(s.makefile().read())'; }
haproxy_has() { stats | grep "^shop,$1,.*,UP," >/dev/null; }
back() { wait_for 20 "$1 is back" haproxy_has "$1"; }
each_converges() { local each; for each in app1 app2; do check "$each converges" on "$each" trueup converge; done; }
state() { curl -sS -o /dev/null -w '%{http_code}' --max-time 5 "${@:3}" "http://$(address "$1")$2"; }
is() { [ "$(state "${@:2}")" = "$1" ]; }
file=/run/trueup/drain/shop.json
drained() { on "$1" test -e $file; }
undrained() { ! drained "$1"; }
starts_of() { starts "$1" app-shop; }
# begin HOST [COMMAND…]: trueup in the background, until it has drained the app; its process id is \$pass
begin() {
  on "$1" sh -c 'trueup "$@" >/run/output 2>&1 & echo $!' - "${@:2}" >"$SCRATCH/pid"
  pass=$(cat "$SCRATCH/pid")
  wait_for 30 "$1 is drained" drained "$1"
}
over() { ! on "$1" kill -0 "$pass" 2>/dev/null; }

#### The only host that serves the app
check "v1 is published" publish "${sha[v1]}" "docs=${sha[v1]}" --create
check "app1 converges" on app1 trueup converge
check "v2 is published" publish "${sha[v2]}"
code "app1 converges to it" 0 on app1 trueup converge
has "it is not drained, because balancers would have nobody" "not drained: load balancers may be left with no other host" "$output"

#### Without a drain
drain '{enabled: false}'
check "app2 converges" on app2 trueup converge
check "the balancer converges" on lb trueup converge
back app1; back app2
under_load lb
for n in 1 2; do
  check "version $n is published" publish "${sha[n$n]}"
  each_converges
done
touch "$SCRATCH/stop"; wait "${visitors[@]}"
echo "  without a drain: $(head -n 1 "$SCRATCH/load")"
lost=$(sed -n 's/.* failed \([0-9]*\) .*/\1/p' "$SCRATCH/load" | head -n 1)
check "restarts lose requests" [ "$lost" -gt 0 ]
back app1; back app2

#### The default
setting drain
check "v1 is published again" publish "${sha[v1]}"
under_load lb
each_converges
for n in 3 4; do
  check "version $n is published" publish "${sha[n$n]}"
  each_converges
done
has "visitors get the last one" "version n4" "$(page lb)"
setting env "attributes: {web_apps: {shop: {env: {COLOUR: green}}}}"
before=$(starts_of app1)
each_converges
same "a changed environment restarted it" $((before + 1)) "$(starts_of app1)"
for each in app1 app2; do check "an operator restarts $each" on "$each" trueup restart shop; done
same "as asked for" $((before + 2)) "$(starts_of app1)"
code "a version that is bad is published" 0 publish "${sha[sick]}"
for each in app1 app2; do
  code "$each takes it back" 4 on "$each" trueup converge
  check "$each is not drained any more" undrained "$each"
done
echo "  with a drain:"
end_load
has "visitors get the version before" "version n4" "$(page lb)"

#### What balancers, visitors and trueup see meanwhile, and the other app
drain '{wait: 60s, notice: 60s}'
check "v1 is published" publish "${sha[v1]}"
begin app1 converge
same "balancers get 503" 503 "$(state app1 /health)"
same "also on another way to the same path" 503 "$(state app1 '/health?full=1')"
same "visitors who come still get the app" 200 "$(state app1 /)"
same "other paths are no matter" 200 "$(state app1 /healthy)"
same "the other app is not drained" 200 "$(state app1 /health -H 'Host: docs.example')"
same "no header of a visitor changes that" 503 "$(state app1 /health -H 'X-Forwarded-For: 127.0.0.1' -H 'X-Real-IP: 127.0.0.1')"
same "the app itself is asked directly" 200 "$(on app1 curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:4000/health)"
has "status says so" "drained since " "$(on app1 trueup status 2>&1 ||:)"
has "and doctor" "the pass that runs ends it" "$(on app1 trueup doctor 2>&1 ||:)"
on app1 su -s /bin/sh deploy -c "rm -f $file; touch ${file%/*}/docs.json" 2>/dev/null ||:
same "the deploy user can neither end nor begin it" shop.json "$(on app1 ls "${file%/*}")"

#### A stop
before=$(starts_of app1)
on app1 kill -TERM "$pass"
wait_for 5 "a stop during the wait ends the pass" over app1
check "and the drain" undrained app1
same "nothing was restarted" "$before" "$(starts_of app1)"
has "nor switched" "version n4" "$(page app1)"
back app1

#### kill -9
begin app1 converge
on app1 kill -KILL "$pass"
wait_for 5 "a pass is killed during the wait" over app1
check "which leaves the app drained" drained app1
setting drain
under_load lb
check "the next pass deploys it" on app1 trueup converge
check "and ends the drain" undrained app1
has "a visitor gets v1" "version v1" "$(page app1)"
back app1
end_load

#### A reboot
drain '{wait: 60s, notice: 60s}'
begin app2 converge
on app2 systemctl -q disable trueup.timer 2>/dev/null ||:
lab kill app2
host app2
wait_for 30 "after a power cut it is in service, before any pass" is 200 app2 /health
check "and not drained" undrained app2
back app2
setting drain
check "the next pass deploys it" on app2 trueup converge
has "a visitor gets v1" "version v1" "$(page app2)"

#### A health check that goes through nginx
setting drain
check "another version of the other app is published" publish "${sha[v1]}" "docs=${sha[v2]}"
check "it passes its gate while it is drained" on app1 trueup converge
same "and is not drained any more" "" "$(on app1 ls "${file%/*}")"
has "visitors get it" "version v2" "$(visitor_headers=("Host: docs.example"); page app1)"
check "the other host does as well" on app2 trueup converge

#### Nothing is in the way of a deployment
for each in app1 app2; do on "$each" sh -c "rm -rf ${file%/*} && touch ${file%/*}"; done
check "n2 is published" publish "${sha[n2]}"
code "where the file cannot be made, the deployment goes on" 0 on app1 trueup converge
has "with a warning" "it cannot be drained" "$output"
