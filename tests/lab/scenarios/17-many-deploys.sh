#!/bin/bash
# 17-many-deploys: many deploys in a row under load, one in ten bad in another way each: no request fails
# timeout: 420
# long timeout: 2000
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

# 34-django deploys a real app 50 times: together they are 200.
deploys=20
[ -z "${LONG:-}" ] || deploys=150
# shellcheck disable=SC2034  # commit_many takes them
bad=(fades memory port link dies crash late killed error word hang redirect migration assets)
give_git_server
clone_versions
commit_many "$deploys"
give_versions
give_s3
give_versioned_server web "preflight: {timeout: 10s}"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
deploy_many "$deploys"
