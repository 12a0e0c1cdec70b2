#!/bin/bash
# 10-first-deploy: a bare host becomes an app server at the published sha, stays as it is, and takes the next sha
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# page [PATH]: what a visitor of the app server gets, through nginx
page() { curl -sS --fail --max-time 5 "http://$(address web)${1:-/}"; }
page_says() { [[ "$(page)" == *"$1"* ]]; }
# shown UNIT PROPERTY
shown() { on web systemctl show "$1" --property="$2" --value; }
# starts UNIT: how often systemd started it since boot, by its own journal (the id is systemd's "unit started")
starts() { on web journalctl -q -o cat -u "$1" MESSAGE_ID=39f53479d3a045ac8e11786248231fbf | wc -l; }
publish() { "$TRUEUP" --config "$SCRATCH/node.yml" publish production "shop=$1" "${@:2}"; }

# The operator's side: a git server with a deploy key, a bucket, and a fresh host that knows neither the app nor its user.
give_git_server
give_s3
host web
give_apt_repo web
give_deploy_key web
check "the deploy key opens the repository on the host" on web git ls-remote "git@$git_address:shop.git"
on web rm /etc/nginx/sites-enabled/default          # else nginx's own page answers for every name

cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [app]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$AWS_ENDPOINT_URL_S3", path_style: true}
attributes:
  apps:
    shop: {repo: "git@$git_address:shop.git", port: 3000}
END
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
write web:/root/.aws/credentials 600 <<END
[default]
aws_access_key_id = $AWS_ACCESS_KEY_ID
aws_secret_access_key = $AWS_SECRET_ACCESS_KEY
END
give_trueup web

code "without a manifest there is nothing to go by: refused, nothing made" 78 on web trueup converge
code "and no user was made" 2 on web getent passwd deploy

check "v1 is published from outside" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_says "version v1"
has "the health check answers" ok "$(page /health)"
has "the page's compiled asset is served" "color: black" "$(page "$(page | sed -n 's/^asset //p')")"
same "puma's process is the one that answers" "$(shown puma-shop MainPID)" "$(page | sed -n 's/^pid //p')"
same "it was started once" 1 "$(starts puma-shop)"

on web touch /run/before
before=$(shown puma-shop InvocationID) nginx=$(shown nginx InvocationID) workers=$(on web pgrep -d, nginx)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$said"
same "it wrote nothing outside its own records" "" "$(on web find / -xdev -newer /run/before -type f \
  -not -path '/proc/*' -not -path '/var/lib/trueup/*' -not -path '/var/log/*')"
same "puma was left alone" "$before" "$(shown puma-shop InvocationID)"
same "nginx was not even reloaded" "$workers" "$(on web pgrep -d, nginx)"

check "v2 is published" publish "${sha[v2]}"
check "the host converges again" on web trueup converge
wait_for 10 "a visitor gets v2" page_says "version v2"
differs "puma was restarted" "$before" "$(shown puma-shop InvocationID)"
same "exactly once" 2 "$(starts puma-shop)"
same "and not by systemd after a crash" 0 "$(shown puma-shop NRestarts)"
same "nginx was not restarted" "$nginx" "$(shown nginx InvocationID)"
has "trueup says which sha runs" "${sha[v2]:0:7}" "$(on web trueup status)"
