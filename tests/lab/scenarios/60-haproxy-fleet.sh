#!/bin/bash
# 60-haproxy-fleet: haproxy finds app hosts by tag; one joins, one is killed, one is lost, the registry is emptied, 1,000 nodes
# timeout: 240
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
declare -A sha
while read -r name value; do sha[$name]=$value; done < <("$tests/fixtures/make-repo" "$SCRATCH/shop.git" node-app)

# s3 METHOD KEY [FILE]: a request of any S3 client
s3() {
  curl -sS --fail-with-body --max-time 10 -X "$1" --aws-sigv4 "aws:amz:$AWS_REGION:s3" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" ${3:+-H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$3"} "$endpoint/$bucket/$2"
}
settings() {                                             # settings ROLE [LINES…] <attributes
  echo "environment: production"
  echo "roles: [$1]"
  echo "store: {url: \"s3://$bucket\", region: $AWS_REGION, endpoint: \"$endpoint\", path_style: true}"
  printf '%s\n' "${@:2}" "attributes:"; cat
}
give() {                                                 # give HOST ROLE [LINES…] <attributes
  local attributes name=$1; attributes=$(cat); shift
  host "$name"
  on "$name" systemctl -q mask --now "$([ "$1" = haproxy ] && echo nginx || echo haproxy)"
  give_keys "$name"
  lab cp "$SCRATCH/shop.git" "$name:/srv/shop.git"
  give_trueup "$name"
  settings "$@" <<<"$attributes" | write "$name:/etc/trueup/node.yml"
}
app_host() {
  give "$1" web "tags: {tier: front}" <<'END'
  packages: []
  web_apps:
    shop:
      repo: /srv/shop.git
      command: node server.js $fd
      port: 4000
      socket: true
      health: {url: "http://127.0.0.1:4000/health", times: 1}
      gate_timeout: 20s
END
}
balancer() {
  give "$1" haproxy <<'END'
  packages: []
  backends:
    shop:
      hosts: [shop.example.com, _]
      tag: tier=front
      check: {path: /health}
      check_every: 500ms
      lines: ["http-response set-header X-Served-By %s"]
END
}
converge() {                                             # converge HOST…: side by side
  local each bad='' passes=()
  for each in "$@"; do on "$each" env TRIGGER_UNIT=trueup.timer trueup converge >"$SCRATCH/$each.pass" 2>&1 & passes+=($!); done
  for each in "${passes[@]}"; do wait "$each" || bad=1; done
  [ -z "$bad" ] || { tail -n 5 "$SCRATCH"/*.pass; return 1; }
}
lists() { on lb sed -n 's/^ *server \([a-z0-9]*\) .*/\1/p' /etc/haproxy/haproxy.cfg | tr '\n' ' '; }
served_by() { curl -sS -o /dev/null --max-time 5 -D - "http://$(address lb)/?[1-24]" | tr -d '\r' |
  sed -n 's/^x-served-by: //p' | sort -u | tr '\n' ' '; }
all_serve() { [ "$(served_by)" = "$1" ]; }

# Hosts boot and are given what they need side by side.
app_host app1 & app_host app2 & app_host app3 & balancer lb & wait
settings web <<<'  {}' >"$SCRATCH/node.yml"
check "v1 is published" publish "${sha[v1]}" --create

code "before anybody serves, the balancer converges to an empty backend" 0 on lb trueup converge
same "it lists no host" "" "$(lists)"
answers_503() { [ "$(curl -sS -o /dev/null -w '%{http_code}' "http://$(address lb)/")" = 503 ]; }
wait_for 5 "visitors get 503" answers_503
converge app1 app2 app3 || fail "the app hosts converge"
code "a plan shows the hosts that came, and changes nothing" 2 on lb trueup plan
has "by name and address" "+    server app3 $(address app3):80" "$output"
same "it wrote nothing" "" "$(lists)"
check "the balancer converges" on lb trueup converge
same "it lists the hosts that it found by tag" "app1 app2 app3 " "$(lists)"
wait_for 10 "visitors are served by all of them" all_serve "app1 app2 app3 "

on lb touch /run/before
before=$(on lb pgrep -d, haproxy)
code "a second pass converges" 0 on lb trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written lb /run/before)"
same "haproxy was not reloaded or restarted" "$before" "$(on lb pgrep -d, haproxy)"

on lb systemctl stop haproxy
code "a balancer that does not run is a failure before the next pass" 1 on lb trueup status
has "and status says so" "why: service:haproxy is stopped, and should run" "$output"
check "the next pass starts it" on lb trueup converge
wait_for 10 "and visitors are served again" all_serve "app1 app2 app3 "

under_load lb
app_host app4
write app4:/etc/trueup/node.d/first.yml <<<"attributes: {web_apps: {shop: {sha: ${sha[sick]}, gate_timeout: 3s}}}"
code "a host joins, and its first release does not work" 1 on app4 trueup converge
has "the node has published its record" '"node": "app4"' "$(s3 GET nodes/production/app4.json | sed 's/":"/": "/g')"
check "the balancer converges" on lb trueup converge
same "and does not list it" "app1 app2 app3 " "$(lists)"
on app4 rm /etc/trueup/node.d/first.yml
check "it deploys one that works" on app4 trueup converge
check "the balancer converges" on lb trueup converge
same "now it lists it" "app1 app2 app3 app4 " "$(lists)"
wait_for 10 "and it is served from" all_serve "app1 app2 app3 app4 "
end_load

lab kill app2
wait_for 10 "one is killed: visitors are served by the others" all_serve "app1 app3 app4 "
check "the balancer converges" on lb trueup converge
same "and waits for it" "app1 app2 app3 app4 " "$(lists)"
host app2
wait_for 20 "it is back, and is served from" all_serve "app1 app2 app3 app4 "

# Short intervals, instead of an hour.
for each in app1 app2 app4; do write "$each:/etc/trueup/node.d/fleet.yml" <<<'fleet: {heartbeat: 2s}'; done
write lb:/etc/trueup/node.d/fleet.yml <<<'fleet: {heartbeat: 2s, gone_after: 15s}'
lab kill app3
one_left() { converge app1 app2 app4 && converge lb && [ "$(lists)" = "app1 app2 app4 " ]; }
wait_for 60 "one stopped for good: it leaves the list" one_left
same "visitors are served by the others" "app1 app2 app4 " "$(served_by)"

# From an operator's machine, with nothing but the store.
fleet() { "$TRUEUP" fleet --env production --store "s3://$bucket" --region "$AWS_REGION" --endpoint "$endpoint" --path-style "$@"; }
code "the fleet is shown" 0 fleet
printf '%s\n' "$output" | sed 's/^/          /'
has "each app on each node" "app4  shop  ${sha[v1]:0:7}" "$output"
check "v2 is published" publish "${sha[v2]}"
code "fleet shows the pending deployment" 2 fleet
has "the reason is shown" "pending: not picked up yet" "$output"
code "--forget refuses a live node" 64 fleet --forget app3
check "a node is forgotten by hand" fleet --forget app3 --yes
write lb:/etc/trueup/node.d/fleet.yml <<<'fleet: {heartbeat: 2s}'
code "as JSON" 2 fleet --json
has "the node is gone" '"node": "app4"' "$output"
[[ $output != *'"node": "app3"'* ]] || fail "app3 is still there" "$output"

# Invalid and hostile records.
body=$SCRATCH/evil.json
for evil in '"tags": {"tier": "front\n    server evil 6.6.6.6:80"}, "addresses": ["10.9.9.1"]' \
            '"addresses": ["6.6.6.6:80 check\nserver evil"], "tags": {"tier": "front"}'; do
  printf '{"version": 1, "node": "evil", "environment": "production", "ports": {"http": 80}, %s, "apps": {"shop": {"wanted": null, "actual": null, "state": "serving"}}, "last_pass": {"at": "2026-01-01T00:00:00Z", "outcome": "converged"}}' "$evil" >"$body"
  s3 PUT nodes/production/evil.json "$body"
  converge app1 app2 app4
  code "a hostile record fails no pass" 0 on lb trueup converge
  has "the pass warns about the record" "warning: nodes/production/evil.json: " "$output"
  same "nothing of it gets into the file" 0 "$(on lb grep -c evil /etc/haproxy/haproxy.cfg ||:)"
done
head -c 10000000 /dev/zero >"$body"; s3 PUT nodes/production/evil.json "$body"
code "nor does one of 10 MB" 0 on lb trueup converge
has "an oversized record is not read" "it has 10000000 bytes" "$output"
s3 DELETE nodes/production/evil.json

# Most of the registry goes at once, and then all of it.
for each in app1 app2; do s3 DELETE "nodes/production/$each.json"; done
before=$(on lb cat /etc/haproxy/haproxy.cfg)
code "the shrink guard refuses the loss of two of three hosts" 5 on lb trueup converge
has "and stay" "list (app1, app2, app4); if this is intended" "$output"
same "the file is as it was" "$before" "$(on lb cat /etc/haproxy/haproxy.cfg)"
republished() { converge app1 app2 && converge lb && [ "$(lists)" = "app1 app2 app4 " ]; }
wait_for 20 "their next heartbeats restore the list" republished
for each in app1 app2 app4 lb; do s3 DELETE "nodes/production/$each.json"; done
before=$(on lb cat /etc/haproxy/haproxy.cfg) pids=$(on lb pgrep -d, haproxy)
code "the shrink guard refuses an empty registry, and the pass is stale" 5 on lb trueup converge
has "the remedy is shown" "list (app1, app2, app4); if this is intended: \`trueup converge --accept-shrink\`" "$output"
same "the file is as it was" "$before" "$(on lb cat /etc/haproxy/haproxy.cfg)"
same "haproxy was not reloaded or restarted" "$pids" "$(on lb pgrep -d, haproxy)"
code "status is stale" 5 on lb trueup status
has "and since when" "is refused since" "$output"
code "--accept-shrink accepts the list" 0 on lb trueup converge --accept-shrink
same "then the list is empty" "" "$(lists)"
converge_all() { converge app1 app2 app4 && converge lb && [ "$(lists)" = "app1 app2 app4 " ]; }
wait_for 20 "the next heartbeats restore the list" converge_all
wait_for 10 "and visitors are served" all_serve "app1 app2 app4 "

# A line that haproxy does not take.
write lb:/etc/trueup/node.d/bad.yml <<<'attributes: {backends: {shop: {lines: ["nonsense here"]}}}'
before=$(on lb stat -c '%i %z' /etc/haproxy/haproxy.cfg) pids=$(on lb pgrep -d, haproxy)
code "a line that haproxy does not take fails" 1 on lb trueup converge
has "with its own words" "nonsense" "$output"
same "the file was not rewritten" "$before" "$(on lb stat -c '%i %z' /etc/haproxy/haproxy.cfg)"
same "and haproxy was not reloaded" "$pids" "$(on lb pgrep -d, haproxy)"
on lb rm /etc/trueup/node.d/bad.yml

# https, with a certificate from the settings.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.example.com \
  -keyout "$SCRATCH/key" -out "$SCRATCH/crt" 2>/dev/null
{ echo 'attributes:'; echo '  certificate: |'; sed 's/^/    /' "$SCRATCH/crt" "$SCRATCH/key"; } | write lb:/etc/trueup/node.d/tls.yml 600
converge app1 app2 app4
code "a new certificate is installed" 0 on lb trueup converge
[[ $output != *"PRIVATE KEY"* ]] || fail "the key was shown" "$output"
https() { curl -sS --fail --max-time 5 --cacert "$SCRATCH/crt" --resolve "shop.example.com:443:$(address lb)" https://shop.example.com/; }
https_answers() { [[ $(https) == *"version "* ]]; }
wait_for 10 "visitors are served over https" https_answers
same "and are sent there" 301 "$(curl -sS -o /dev/null -w '%{http_code}' -H 'Host: shop.example.com' "http://$(address lb)/")"

# The same from a file that another tool manages.
renew() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.example.com \
    -keyout "$SCRATCH/key" -out "$SCRATCH/crt" 2>/dev/null
  cat "$SCRATCH/crt" "$SCRATCH/key" | write lb:/etc/ssl/private/shop.pem 600
}
write lb:/etc/trueup/node.d/tls.yml <<<'attributes: {certificates: [/etc/ssl/private/shop.pem]}'
before=$(on lb cat /etc/haproxy/haproxy.cfg)
code "a certificate that is not there fails" 1 on lb trueup converge
has "by its name" "there is no /etc/ssl/private/shop.pem" "$output"
same "the file is as it was" "$before" "$(on lb cat /etc/haproxy/haproxy.cfg)"
renew
check "once it is there" on lb trueup converge
wait_for 10 "visitors get it" https_answers
renew
code "a renewed certificate is detected" 2 on lb trueup plan
has "and why it needs a reload" "reload service:haproxy (because of shop/certificates)" "$output"
check "the balancer converges" on lb trueup converge
wait_for 10 "visitors get the new one" https_answers
pids=$(on lb pgrep -d, haproxy)
write lb:/etc/ssl/private/shop.pem 600 <"$SCRATCH/crt"
code "a certificate without its key is refused" 1 on lb trueup converge
has "with haproxy's own words" "no reload because of shop/certificates: the check \`haproxy\` failed" "$output"
same "haproxy was not reloaded or restarted" "$pids" "$(on lb pgrep -d, haproxy)"
check "and visitors are served as before" https_answers
cat "$SCRATCH/crt" "$SCRATCH/key" | write lb:/etc/ssl/private/shop.pem 600
code "the one that it has is nothing new" 0 on lb trueup converge
same "haproxy was not reloaded or restarted" "$pids" "$(on lb pgrep -d, haproxy)"

# The client address that an app gets. Visitors have a private address here, so only the balancer's address may be trusted.
seen() { curl -sS --fail --max-time 5 --cacert "$SCRATCH/crt" --resolve "shop.example.com:443:$(address lb)" "$@" | tr '\n' ' '; }
forged=(-H 'X-Forwarded-For: 6.6.6.6' -H 'X-Real-IP: 6.6.6.6' -H 'Client-IP: 6.6.6.6' -H 'Forwarded: for=6.6.6.6;proto=https'
      -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Ssl: on' -H 'X-Forwarded-Scheme: https')
visitor="x-forwarded-for $outer x-forwarded-proto" real="x-real-ip $outer "
same "the app knows that its visitor came by https, and from where" "$visitor https $real" "$(seen https://shop.example.com/seen)"
for each in app1 app2 app4; do write "$each:/etc/trueup/node.d/trust.yml" <<<"attributes: {trusted_proxies: [$(address lb)]}"; done
converge app1 app2 app4 || fail "the app hosts converge"
same "the client address is the same when only the balancer is trusted" "$visitor https $real" "$(seen https://shop.example.com/seen)"
same "forged headers are ignored behind the balancer" "$visitor https $real" "$(seen "${forged[@]}" https://shop.example.com/seen)"
same "and in front of the app's own host" "$visitor http $real" "$(seen "${forged[@]}" "http://$(address app1)/seen")"

# A thousand nodes, in an environment of their own; every request to the store is counted on its way.
for each in app1 app2 app4 lb; do lab kill "$each"; done   # the machine is ours now
mkdir -p "$SCRATCH/nodes" "$SCRATCH/big/etc/trueup/"{roles,templates}
python3 - "$SCRATCH/nodes" <<'END'
import json, sys
for n in range(999):                                   # and the host that asks
    name = f"web{n:04}"
    record = {"version": 1, "node": name, "environment": "big", "machine_id": f"{n:032x}", "agent": "0.1.0", "roles": ["web"],
              "tags": {"tier": "front", "zone": "abc"[n % 3]}, "addresses": [f"10.1.{n // 250}.{n % 250 + 1}"], "ports": {"http": 80},
              "apps": {"shop": {"wanted": "4f2c9d0e" * 5, "actual": "4f2c9d0e" * 5, "state": "serving", "since": "2026-11-21T03:00:00Z"}},
              "last_pass": {"at": "2026-11-21T03:00:00Z", "outcome": "converged"}}
    open(f"{sys.argv[1]}/{name}.json", "w").write(json.dumps(record))
END
for file in "$SCRATCH"/nodes/*.json; do
  printf -- 'upload-file = "%s"\nurl = "%s/%s/nodes/big/%s"\n' "$file" "$endpoint" "$bucket" "$(basename "$file")"
done >"$SCRATCH/uploads"
curl --fail --no-progress-meter --parallel --parallel-max 8 -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
  -K "$SCRATCH/uploads" >/dev/null
"$tests/lab/count-requests" "$SCRATCH/port" "$SCRATCH/requests" "$endpoint" & proxy=$!
trap 'kill $proxy' EXIT
wait_for 5 "the counting proxy listens" test -s "$SCRATCH/port"
big() { "$TRUEUP" --root "$SCRATCH/big" "$@"; }
big_settings() {
  { echo 'environment: big'; echo "roles: [$1]"; echo 'node: lb'; echo 'services: process'
    echo 'fleet: {addresses: [10.9.9.9]}'                 # those of this machine come and go with other labs
    echo "store: {url: \"s3://$bucket\", region: $AWS_REGION, endpoint: \"http://127.0.0.1:$(cat "$SCRATCH/port")\", path_style: true}"
  } >"$SCRATCH/big/etc/trueup/node.yml"
}
cat >"$SCRATCH/big/etc/trueup/roles/peers.yml" <<'END'
resources: [{template: {path: /peers, source: peers}}]
END
cat >"$SCRATCH/big/etc/trueup/roles/none.yml" <<'END'
resources: [{file: {path: /none, content: x}}]
END
cat >"$SCRATCH/big/etc/trueup/templates/peers" <<'END'
{% for n in nodes(tag="tier=front", app="shop", port="http") %}server {{ n.name }} {{ n.address }}:{{ n.ports.http }}
{% endfor %}
END
"$TRUEUP" --config "$SCRATCH/node.yml" publish big "other=${sha[v1]}" --create >/dev/null
tick() {                                                 # tick "words": one pass, its time and its requests
  local began; : >"$SCRATCH/requests"
  began=$(date +%s%N)
  code "$1" 0 big converge
  took=$((($(date +%s%N) - began) / 1000000)) asked=$(wc -l <"$SCRATCH/requests")
  echo "          $took ms, $asked requests: $(sed 's/ .* / /' "$SCRATCH/requests" | sort | uniq -c | tr -s ' ' | tr '\n' ',')"
}
big_settings peers
tick "of 1,000 nodes, a first pass reads every record"
same "all others are in the file" 999 "$(grep -c ^server "$SCRATCH/big/peers")"
same "at one read each, the manifest, one list, and its own record" 1003 "$asked"
tick "a tick with nothing new"
same "costs one list and the manifest's conditional read" 2 "$asked"
s3 PUT nodes/big/web0500.json "$SCRATCH/nodes/web0500.json"
tick "a tick after a heartbeat of one"
same "reads nothing: the content is the same" 2 "$asked"
sed -i 's/10\.1\.2\.1"/10.1.9.9"/' "$SCRATCH/nodes/web0500.json"
s3 PUT nodes/big/web0500.json "$SCRATCH/nodes/web0500.json"
tick "a tick after a change of one"
same "reads that one" 3 "$asked"
has "and takes it up" "server web0500 10.1.9.9:80" "$(cat "$SCRATCH/big/peers")"
big_settings none
tick "a host that asks for no peers"
tick "lists nothing"
same "and costs one conditional read" "GET 304" "$(sed 's/ .* / /' "$SCRATCH/requests")"
code "the fleet of 1,000 is shown" 0 big fleet
same "a line each" 1001 "$(wc -l <<<"$output")"
