#!/bin/bash
# 11-git-protocol: the app comes over the git protocol too, by a branch's newest sha, with its assets compiled anew
# timeout: 120
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git://$git_address/shop.git"
on web rm /root/.ssh/id_ed25519                          # nothing may lean on the deploy key here
wait_for 5 "the git daemon serves the repository" on web git ls-remote "git://$git_address/shop.git"

check "v2 is published" publish "${sha[v2]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v2" page_says web "version v2"
old=$(page_line web asset)

check "v3 is published" publish "${sha[v3]}"
check "the host converges again" on web trueup converge
wait_for 10 "a visitor gets v3" page_says web "version v3"
differs "its stylesheet has a new name" "$old" "$(page_line web asset)"
has "and the new content" "color: green" "$(page web "$(page_line web asset)")"
