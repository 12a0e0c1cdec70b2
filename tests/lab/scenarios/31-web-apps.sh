#!/bin/bash
# 31-web-apps: a Node app with its own unit and socket, one under supervisor without a socket, and a static site
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server node-app
give_s3
host web
give_server web web <<END
packages: [nginx-light, nodejs]
web_apps:
  shop:
    repo: "git@$git_address:shop.git"
    command: node server.js \$fd
    port: 4000
    socket: true
    server_names: ["$(address web)"]
    health: {url: "http://127.0.0.1:4000/health", times: 1}
    gate_timeout: 20s
  plain:
    repo: "git@$git_address:shop.git"
    command: node server.js
    port: 4001
    manager: supervisor
    server_names: [plain.invalid]
  docs:
    repo: "git@$git_address:shop.git"
    steps: [{name: build, run: "cp VERSION public/version"}]
    server_names: [docs.invalid]
END
site() { curl -sS --fail --max-time 5 -H "Host: $1.invalid" "http://$(address web)$2"; }
site_has() { [[ $(site "$1" "$2") == *"$3"* ]]; }
all() { publish "$1" "plain=$1" "docs=$1" "${@:2}"; }

check "v1 of all three is published" all "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
same "from the process that systemd started" "$(shown web app-shop MainPID)" "$(page_line web pid)"
wait_for 10 "the app under supervisor answers" site_has plain / "version v1"
same "from the process that supervisor started" "$(on web supervisorctl pid plain)" "$(site plain / | sed -n 's/^pid //p')"
same "static files are served as they were built" v1 "$(site docs /version)"
code "and what is outside of their folder is not" 22 site docs /server.js

on web touch /run/before
unit=$(shown web app-shop InvocationID) plain=$(on web supervisorctl pid plain) workers=$(on web pgrep -d, nginx)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
same "the app was not restarted" "$unit" "$(shown web app-shop InvocationID)"
same "the other one as well" "$plain" "$(on web supervisorctl pid plain)"

under_load web
check "v2 is published" all "${sha[v2]}"
check "the host converges" on web trueup converge
has "a visitor gets v2" "version v2" "$(page web)"
end_load
same "it was started twice in all" 2 "$(starts web app-shop)"
wait_for 10 "the app under supervisor is at v2" site_has plain / "version v2"
same "the static site is at v2" v2 "$(site docs /version)"
same "nginx was neither reloaded nor restarted" "$workers" "$(on web pgrep -d, nginx)"

bad_versions_are_refused web v2 "$gate"
