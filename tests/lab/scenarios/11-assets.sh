#!/bin/bash
# 11-assets: a release compiles its own assets, the previous ones stay available, and a restart by an operator is not repeated
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"

check "v2 is published" publish "${sha[v2]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v2" page_has web "version v2"
old=$(page_line web asset)

check "v3 is published" publish "${sha[v3]}"
check "the host converges again" on web trueup converge
wait_for 10 "a visitor gets v3" page_has web "version v3"
differs "its stylesheet has a new name" "$old" "$(page_line web asset)"
has "and the new content" "color: green" "$(page web "$(page_line web asset)")"
has "a page of the old release still finds its own" "color: black" "$(page web "$old")"

new=$(page_line web asset)
check "v2 is wanted again" publish "${sha[v2]}"
check "the host returns to v2" on web trueup converge
wait_for 10 "a visitor gets v2" page_has web "version v2"
same "with v2's own manifest, whatever was compiled since" "$old" "$(page_line web asset)"
has "a page of the newer release still finds its own" "color: green" "$(page web "$new")"
check "v3 is wanted after all" publish "${sha[v3]}"
check "the host converges to the next version" on web trueup converge
wait_for 10 "a visitor gets v3" page_has web "version v3"

check "an operator changes puma's config and restarts it by hand" \
  on web sh -c 'echo "# by hand" >>/srv/www/shop/current/.trueup/puma.rb; systemctl restart puma-shop'
puma=$(shown web puma-shop InvocationID)
code "the plan shows the drift and the restart that its repair requires" 2 on web trueup plan
has "with its cause" "restart service:puma-shop (because of shop/code)" "$output"
check "the host converges" on web trueup converge
differs "puma was restarted" "$puma" "$(shown web puma-shop InvocationID)"
puma=$(shown web puma-shop InvocationID)
check "an operator restarts puma by hand" on web systemctl restart puma-shop
code "nothing is owed for that" 0 on web trueup converge
has "and nothing changed" "0 changes" "$output"
