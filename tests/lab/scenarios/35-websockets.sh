#!/bin/bash
# 35-websockets: a Node app from npm with WebSockets through nginx: deploys, bad versions, other descriptions of what failed
# timeout: 300
# packages: npm node-ws haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

give_git_server
give_s3

# A registry of npm packages that hosts reach, with Debian's own `ws`, and a log of what they ask for.
ws=$(on git node -p 'require("/usr/share/nodejs/ws/package.json").version')
package=ws/-/ws-$ws.tgz
mkdir -p "$SCRATCH/npm/ws/-"
on git tar -C /usr/share/nodejs --dereference --transform 's,^ws,package,' -cz ws >"$SCRATCH/npm/$package"
python3 -u -m http.server --bind "$outer" --directory "$SCRATCH/npm" 0 >"$SCRATCH/registry" 2>&1 & registry=$!
clients=
trap 'kill $registry $clients 2>/dev/null ||:' EXIT
wait_for 10 "a registry listens" grep -q port "$SCRATCH/registry"
registry_url=http://$outer:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$SCRATCH/registry")
fetched() { grep -c "GET /$package" "$SCRATCH/registry"; }

git -c init.defaultBranch=main init -q "$SCRATCH/clone"
cp -R "$tests/fixtures/socket-app/." "$SCRATCH/clone"
sed -i "s|WS_VERSION|$ws|; s|WS_ADDRESS|$registry_url/$package|" "$SCRATCH"/clone/package*.json
git -C "$SCRATCH/clone" add -A
git -C "$SCRATCH/clone" -c user.name=Ana -c user.email=ana@shop.invalid commit -qm "Open the shop"
git -C "$SCRATCH/clone" config user.name Ana
git -C "$SCRATCH/clone" config user.email ana@shop.invalid
at_boot() { sed -i "/^const version = /i $1" server.js; }
make_crash() { at_boot 'throw new Error("this version does not boot");'; }
make_error() { sed -i 's/200, "ok/500, "sick/' server.js; }
make_dependency() { sed -i "s/$ws/0.0.1/" package.json package-lock.json; }
for version in v1 v2 v3 four five six; do commit "$version" good; done
commit broken crash
commit sick error
commit no-package dependency
give_versions

dirs='linked_dirs: [log]'
shared='outputs: {path: node_modules, by: [package.json, package-lock.json], key: node --version}'
install="{name: install, run: npm ci --omit=dev, $shared}"
steps="steps: [$install]"
attributes() {                                           # attributes LINE…
  cat <<END
packages: [nginx-light]
nodejs: true
web_apps:
  shop:
    repo: "git@$git_address:shop.git"
    command: node server.js \$fd
    port: 4000
    socket: true
    env: {npm_config_registry: "$registry_url"}
    health: {url: "http://127.0.0.1:4000/health", body: ok, times: 1, timeout: 3s}
    preflight: {enabled: true, command: exec node server.js, timeout: 10s}
    gate_timeout: 20s
    read_timeout: 2s
END
  printf '    %s\n' "$@"
}
describe() { { sed '/^  packages:/,$d' "$SCRATCH/node.yml"; attributes "$@" | sed 's/^/  /'; } | write web:/etc/trueup/node.yml; }
attributes "$dirs" "$steps" | give_server web web
on web systemctl -q mask --now haproxy
write web:/etc/trueup/node.d/tags.yml <<<'tags: {tier: front}'
give_balancer lb
write lb:/etc/trueup/node.d/timeouts.yml <<<'attributes: {client_timeout: 2s, server_timeout: 2s}'

open_sockets() {                                         # [HOST [SECONDS]]: two, until end_sockets, which checks that none was cut off
  rm -f "$SCRATCH/close" "$SCRATCH/met"
  "$tests/lab/sockets" "http://$(address "${1:-web}")/socket" 2 "$SCRATCH/close" "$SCRATCH/met" ${2:+"$2"} >"$SCRATCH/sockets" & clients=$!
}
end_sockets() {                                          # end_sockets OPENED CLOSED
  touch "$SCRATCH/close"; wait "$clients"
  output=$(cat "$SCRATCH/sockets")
  echo "  $output"
  has "sockets were opened $1 times, the app closed $2, and none was cut off" "opened $1 " "$output"
  has "so says the client" " closed $2 failed 0" "$output"
}
met() { [ "$(grep -c " $1\$" "$SCRATCH/met" 2>/dev/null)" = 2 ]; }

check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
same "npm fetched its package" 1 "$(fetched)"
open_sockets
wait_for 10 "a WebSocket through nginx gets echoes of v1" met v1
same "a page is asked for as before" "upgrade undefined
connection close
settings undefined" "$(page web /headers)"
h2c=(-H 'Connection: Upgrade, HTTP2-Settings' -H 'Upgrade: h2c' -H 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA')
has "another protocol is not passed on" "upgrade undefined
connection close" "$(curl -sS --fail --max-time 5 "${h2c[@]}" "http://$(address web)/headers")"
on web touch /run/before
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
end_sockets 2 0

# Every timeout but that of WebSockets is shorter than their silence.
check "the balancer converges" on lb trueup converge
in_service() { page lb /headers >"$SCRATCH/headers"; }
wait_for 20 "and finds the host" in_service
same "a page is asked for as before" "upgrade undefined
connection close
settings undefined" "$(cat "$SCRATCH/headers")"
for host in web lb; do
  open_sockets $host 4
  wait_for 10 "a WebSocket through $host gets an echo" met v1
  sleep 9
  end_sockets 2 0
done

under_load web
open_sockets
wait_for 10 "two sockets are open" met v1
check "v2 is published" publish "${sha[v2]}"
check "the host converges" on web trueup converge
page_has web "version v2" || fail "visitors get v2" "$(page web)"
wait_for 5 "who connects again meets v2" met v2
end_sockets 4 2
same "npm was not run" 1 "$(on web sh -c 'ls /srv/www/shop/outputs/install | wc -l')"
same "nor asked for a package" 1 "$(fetched)"
on web python3 -c '
import json
for release in json.load(open("/var/lib/trueup/releases/shop.json"))["releases"]:
    took = {stage["stage"]: stage["took_ms"] / 1000 for stage in release["stages"] if "step" not in stage}
    install = [stage["ended"] for stage in release["stages"] if stage.get("step") == "install"]
    print("  %s: install %s, %.1f s in all stages" % (release["name"], *install, sum(took.values())))'
end_load

open_sockets
wait_for 10 "two sockets are open" met v2
under_load web
for bad in broken sick; do bad_version_is_refused web "$bad" v2 "$preflight"; done
check "a version with a package that is not there is published" publish "${sha[no-package]}"
code "it fails" 1 on web trueup converge
has "in its step" "step \`install\`" "$output"
page_has web "version v2" || fail "visitors get v2" "$(page web)"
end_load
end_sockets 2 0                                          # no bad version has closed one

# described_wrongly VERSION WORDS LINE…: a version fails because of how the app is described; visitors get the one before
described_wrongly() {
  local before
  before=$(page_line web version)
  check "$1 is published" publish "${sha[$1]}"
  describe "${@:3}"
  code "it fails" 1 on web trueup converge
  has "with the reason" "$2" "$output"
  page_has web "version $before" || fail "visitors get $before" "$(page web)"
}
described_well() {                                       # described_well VERSION LINE…
  describe "${@:2}"
  check "with another description the next pass deploys $1" on web trueup converge
  page_has web "version $1" || fail "visitors get $1" "$(page web)"
}
under_load web
described_wrongly v3 "step \`bundle\`" "$dirs" "steps: [$install, {name: bundle, run: exit 3}]"
described_well v3 "$dirs" "steps: [$install, {name: bundle, run: cp VERSION public/bundle}]"
same "a step is redefined" v3 "$(page web /bundle)"
described_wrongly four "step \`bundle\`" "$dirs" "steps: [$install, {name: bundle, run: test -L uploads}]"
described_well four 'linked_dirs: [log, uploads]' "steps: [$install, {name: bundle, run: test -L uploads}]"
same "a shared folder is added" /srv/www/shop/shared/uploads "$(on web readlink -f /srv/www/shop/current/uploads)"
dirs='linked_dirs: [log, uploads]'
check_file="steps: [$install, {name: bundle, run: node -e 'require(\"./options.json\")'}]"
described_wrongly five "step \`bundle\`" "$dirs" "$check_file" "files: {options.json: {content: '{\"currency\": '}}"
described_well five "$dirs" "$check_file" "files: {options.json: {content: '{\"currency\": \"EUR\"}'}}"
same "a rendered file is corrected" EUR "$(page_line web currency)"
described_wrongly six "step \`extra\`" "$dirs" "steps: [$install, {name: extra, run: exit 3}]"
described_well six "$dirs" "$steps"
same "a step is removed" 0 "$(on web grep -c '"step": "extra"' /var/lib/trueup/releases/shop.json ||:)"
check "v2 is published again" publish "${sha[v2]}"
code "the plan for it builds nothing" 2 on web trueup plan
has "v2 is an existing release" "${sha[v2]:0:7})" "$output"
check "the host returns to v2" on web trueup converge
page_has web "version v2" || fail "visitors get v2" "$(page web)"
end_load
same "npm ran once in all" 1 "$(fetched)"
