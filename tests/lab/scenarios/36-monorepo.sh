#!/bin/bash
# 36-monorepo: two apps of one repository: a commit deploys only the app whose files it changes
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server node-app
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
cd "$SCRATCH/clone"
git config user.name Ana
git config user.email ana@shop.invalid
mkdir -p services/shop packages/common sites/docs packages/unused
git mv server.js VERSION services/shop/
git mv public sites/docs/public
commit() { # NAME   the work tree as a commit of this name
  git add -A
  git commit -qm "$1"
  sha[$1]=$(git rev-parse HEAD)
}
greet() { echo "exports.text = '$1';" >packages/common/greeting.js; }
version() { echo "$1" >services/shop/VERSION; }
greet "good morning"
sed -i 's|^const version = .*|&\nconst greeting = require("../../packages/common/greeting").text;|; s|version \${version}|& and \${greeting}|' \
  services/shop/server.js
echo "not of these apps" >packages/unused/README
version v1; echo d1 >sites/docs/public/page; commit v1
echo d2 >sites/docs/public/page; commit docs
echo d3 >sites/docs/public/page; commit more-docs
greet "good evening"; commit common
version v2; commit v2
git checkout -qb broken; sed -i '1i throw new Error("this version does not boot");' services/shop/server.js; commit broken
git checkout -qb sick main; sed -i 's/200, "ok/500, "sick/' services/shop/server.js; commit sick
git checkout -q main; version v3; commit v3
git checkout -qb moved main; git mv services/shop services/store; echo v4 >services/store/VERSION; commit moved
git checkout -q main
on git rm -rf /srv/git/shop.git
git clone -q --bare "$SCRATCH/clone" "$SCRATCH/bare.git"
lab cp "$SCRATCH/bare.git" git:/srv/git/shop.git
on git chown -R git: /srv/git/shop.git
cd "$SCRATCH"

give_s3
host web
# settings SUBDIR [STEP [FOLDERS [GREETING]]]   of the shop: where it is, what builds it, the folders that its releases
# share, and a secret of its environment
settings() {
  cat <<END
packages: [nginx-light, nodejs]
web_apps:
  shop:
    repo: "git@$git_address:shop.git"
    subdir: $1
    also: [packages/common]
    command: node server.js \$fd
    socket: true
    port: 4000
    server_names: ["$(address web)"]
    health: {url: "http://127.0.0.1:4000/health", times: 1}
    gate_timeout: 20s
    secrets: {GREETING: "${4:-none yet}"}
    steps: [{name: check, run: "${2:-true}"}]
    linked_dirs: ${3:-[log]}
  docs:
    repo: "git@$git_address:shop.git"
    subdir: sites/docs
    steps: [{name: build, run: "cp public/page public/built"}]
    server_names: [docs.invalid]
END
}
give_server web web < <(settings services/shop)
change_settings() { # as settings
  { sed '/^attributes:/,$d' "$SCRATCH/node.yml"; sed -n '/^attributes:/p; /^  deploy_key:/p; /^  known_hosts:/p' "$SCRATCH/node.yml"
    settings "$@" | sed 's/^/  /'; } >"$SCRATCH/changed.yml"
  mv "$SCRATCH/changed.yml" "$SCRATCH/node.yml"
  write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
}
docs() { curl -sS --fail --max-time 5 -H "Host: docs.invalid" "http://$(address web)/built"; }
release() { on web readlink "/srv/www/$1/current"; }
all() { publish "${sha[$1]}" "docs=${sha[$1]}" "${@:2}"; }

check "v1 of both is published" all v1 --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1 and good morning"
same "the docs are served" d1 "$(docs)"
has "the app runs in its folder" "/services/shop" "$(on web readlink "/proc/$(page_line web pid)/cwd")"
same "only that, and what it needs, is on disk" "REVISION packages packages/common packages/common/greeting.js services services/shop" \
  "$(on web sh -c 'cd /srv/www/shop/releases/*/ && find . -path ./services/shop/\* -prune -o -print | cut -c 3- | LC_ALL=C sort | xargs')"
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"

under_load web
pid=$(page_line web pid) shop=$(release shop)
check "a commit that changes the docs alone is published" all docs
code "the plan deploys the docs" 2 on web trueup plan
has "with what changed" "deploy docs/code" "$output"
has "and keeps the shop" "it stays: nothing changes in services/shop" "$output"
check "the host converges" on web trueup converge
same "the docs are new" d2 "$(docs)"
same "the release of the shop stays" "$shop" "$(release shop)"
same "and so does its process" "$pid" "$(page_line web pid)"
code "the next pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
has "status shows the published sha" "${sha[docs]:0:7}" "$(on web trueup status)"
has "so does the list of releases" "${sha[docs]:0:7} changes nothing in it" "$(on web trueup releases)"
has "the app's log of revisions says why" "(at ${sha[docs]}) changes nothing in services/shop" \
  "$(on web cat /srv/www/shop/revisions.log)"

check "a commit that changes the docs again is published" all more-docs
change_settings services/shop true "[log]" hello
check "with a changed secret of the shop the host converges in one pass" on web trueup converge
same "the release of the shop stays" "$shop" "$(release shop)"
differs "its process has the secret" "$pid" "$(page_line web pid)"
same "with its value" hello "$(on web sh -c "tr '\\0' '\\n' </proc/$(page_line web pid)/environ | sed -n 's/^GREETING=//p'")"
docs=$(release docs)
check "a commit that changes what the shop shares is published" all common
check "the host converges" on web trueup converge
page_has web "version v1 and good evening" || fail "a visitor gets it" "$(page web)"
same "the release of the docs stays" "$docs" "$(release docs)"
check "v2 is published" all v2
check "the host converges" on web trueup converge
page_has web "version v2 and good evening" || fail "a visitor gets it" "$(page web)"

for bad in broken sick; do
  bad_version_is_refused web "$bad" v2 "$gate"
done
check "an operator publishes v1 again" publish "${sha[v1]}"
check "the host converges" on web trueup converge
page_has web "version v1 and good morning" || fail "a visitor gets it" "$(page web)"
same "in its first release" "$shop" "$(release shop)"

change_settings services/shop "exit 7" "[log]" hello
check "v3 is published" publish "${sha[v3]}"
code "a step of it fails" 1 on web trueup converge
has "as the report says" "exited with 7" "$output"
change_settings services/shop "true" "[log, uploads]" hello
check "with a step that succeeds and another shared folder the host converges" on web trueup converge
page_has web "version v3" || fail "a visitor gets it" "$(page web)"
same "the shared folder is linked where the app is" "/srv/www/shop/shared/uploads" \
  "$(on web readlink -f /srv/www/shop/current/uploads)"

change_settings services/store "true" "[log, uploads]" hello
code "a changed folder alone changes nothing" 0 on web trueup converge
has "as the report says" "0 changes" "$output"
check "a commit that moved the app is published" publish "${sha[moved]}"
check "the host converges" on web trueup converge
page_has web "version v4" || fail "a visitor gets it" "$(page web)"
has "from its new folder" "/services/store" "$(release shop)"
check "an operator rolls back" on web trueup rollback shop
page_has web "version v3" || fail "a visitor gets v3" "$(page web)"
has "from the old folder" "/services/shop" "$(release shop)"
end_load
