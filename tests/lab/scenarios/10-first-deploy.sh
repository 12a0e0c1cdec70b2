#!/bin/bash
# 10-first-deploy: a bare host becomes an app server at the published sha, a second pass changes nothing, the next sha is deployed
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
code "without a manifest a pass changes nothing and fails with 78" 78 on web trueup converge
has "with what to do about it" "trueup publish" "$output"
code "and no user was made" 2 on web getent passwd deploy

check "v1 is published from outside" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
has "the health check answers" ok "$(page web /health)"
has "the page's compiled asset is served" "color: black" "$(page web "$(page_line web asset)")"
same "a worker of the puma that systemd started answers" "$(shown web puma-shop MainPID)" \
  "$(on web ps -o ppid= -p "$(page_line web pid)" | tr -d ' ')"
same "it was started once" 1 "$(starts web puma-shop)"

on web touch /run/before
puma=$(shown web puma-shop InvocationID) nginx=$(shown web nginx InvocationID) workers=$(on web pgrep -d, nginx)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
same "nginx was neither reloaded nor restarted" "$workers" "$(on web pgrep -d, nginx)"

check "v2 is published" publish "${sha[v2]}"
check "the host converges again" on web trueup converge
wait_for 10 "a visitor gets v2" page_has web "version v2"
differs "puma was restarted" "$puma" "$(shown web puma-shop InvocationID)"
same "exactly once" 2 "$(starts web puma-shop)"
same "and not by systemd after a crash" 0 "$(shown web puma-shop NRestarts)"
same "nginx was not restarted" "$nginx" "$(shown web nginx InvocationID)"
has "status shows the running sha" "${sha[v2]:0:7}" "$(on web trueup status)"
