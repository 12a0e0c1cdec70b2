#!/bin/bash
# 18-rails-72: a Rails 7.2 app with force_ssl, config.hosts, Sidekiq and cron is deployed under load; failed builds go on
# timeout: 420
# long timeout: 840
# suite: trixie
# packages: ruby-rails ruby-sqlite3 ruby-sidekiq redis-server
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
on git rm -rf /srv/git/shop.git
lab cp "$tests/fixtures/make-rails72-repo" git:/root/make-rails72-repo
check "a developer makes the app with Debian's rails" on git sh -c '/root/make-rails72-repo /srv/git/shop.git >/root/shas'
while read -r name value; do sha[$name]=$value; done < <(on git cat /root/shas)
on git chown -R git: /srv/git/shop.git
give_s3

# The settings, with what an operator adds to them later in the scenario.
dirs='' files='' steps='' secrets='' threads='' more=''
attributes() {
  cat <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    server_names: [shop.example]
    health: {url: "http://127.0.0.1:3000/up", times: 2}
    secrets: {DATABASE_PASSWORD: $CANARY$secrets}
    linked_dirs: [log, tmp/pids, tmp/cache, tmp/sockets, storage$dirs]
    files:
      config/database.yml: {source: database.yml, secret: true}
      config/master.key: {content: "${sha[key]}", secret: true, mode: "0600"}
$files
    steps:
      - {name: install, run: bundle check, when_changed: [Gemfile, Gemfile.lock]}     # the gems are Debian's
$steps
    processes: {sidekiq: bundle exec sidekiq$threads}
    cron: {close: {schedule: "0 3 * * *", run: bin/rails orders:close}}
$more
END
}
describe() { { sed '/^  packages:/,$d' "$SCRATCH/node.yml"; attributes | sed 's/^/  /'; } | write web:/etc/trueup/node.yml; }
attributes | give_server web app
on web install -d /etc/trueup/templates
write web:/etc/trueup/templates/database.yml <<'END'
production:
  adapter: sqlite3
  database: storage/production.sqlite3
  timeout: 5000
  password: {{ app.secrets.DATABASE_PASSWORD | json }}
END

# Visitors' requests as a balancer that ends TLS passes them on.
visitor_headers=("Host: shop.example" "X-Forwarded-Proto: https")
shop() { page web "$@"; }
# A visitor's form, sent with the cookie and the token of the page that had it. Over HTTP, curl keeps no secure cookie.
open_form() {
  local form
  form=$(curl -sS --fail --max-time 5 -D "$SCRATCH/answer" "${visitor_headers[@]/#/-H}" "http://$(address web)/orders/new")
  token=$(sed -n 's/.*name="authenticity_token" value="\([^"]*\)".*/\1/p' <<<"$form")
  answer=$(tr -d '\r' <"$SCRATCH/answer")
  cookie=$(sed -n 's/^set-cookie: \([^;]*\);.*/\1/Ip' <<<"$answer")
}
send_form() {
  curl -sS --fail --max-time 5 -o /dev/null -w '%{http_code} %{redirect_url}' "${visitor_headers[@]/#/-H}" \
    -H "Cookie: $cookie" -H "Origin: https://shop.example" --data-urlencode "authenticity_token=$token" \
    --data-urlencode "order[name]=$1" "http://$(address web)/orders"
}
has_event() { [[ " $(page_line web events) " == *" $1 "* ]]; }
status_of() { on web curl -s -o /dev/null -w '%{http_code}' "$@"; }
builds() { on web sh -c 'cat /var/log/trueup/releases/shop/*.log' | grep -c '^== build '; }
# shellcheck disable=SC2016  # for a shell on the host
last_log() { on web sh -c 'cat "$(ls -t /var/log/trueup/releases/shop/*.log | head -n 1)"'; }
serves_sha() { # which release the processes run from, not what they say
  on web readlink "/proc/$(shown web puma-shop MainPID)/cwd" "/proc/$(page_line web pid)/cwd" \
    "/proc/$(shown web app-shop:sidekiq.1 MainPID)/cwd" | sed 's/.*-//' | uniq
}
current() { on web cat "/srv/www/shop/current/$1"; }
worker() { shown web app-shop:sidekiq.1 InvocationID; }
# deploy "words": a pass that succeeds, and how long it takes
deploy() {
  local begun=$EPOCHREALTIME
  check "$1" on web trueup converge
  awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN {printf "          it took %.1f s\n", b - a}'
}

check "v1 is published" publish "${sha[v1]}" --create
deploy "the host converges to its first release"
page_has web "version v1" || fail "a visitor gets v1 through nginx" "$(page web)"
same "puma and sidekiq run from that release" "${sha[v1]:0:7}" "$(serves_sha)"
has "the install step ran" "dependencies are satisfied" "$(last_log)"
has "there are no assets to compile" "no task assets:precompile: nothing to compile" "$(last_log)"

# The health check passed although Rails demands host and scheme of /up as well.
same "Rails refuses /up under the name of the address" 403 "$(status_of -H 'X-Forwarded-Proto: https' http://127.0.0.1:3000/up)"
same "and redirects it without https" 301 "$(status_of -H 'Host: shop.example' http://127.0.0.1:3000/up)"
same "nginx passes on both" 200 "$(status_of -H 'Host: shop.example' -H 'X-Forwarded-Proto: https' http://127.0.0.1/up)"
same "a visitor without https is redirected" 301 "$(status_of -H 'Host: shop.example' http://127.0.0.1/)"
same "one who asks for another host is refused" 403 \
  "$(status_of -H 'Host: other.example' -H 'X-Forwarded-Proto: https' http://127.0.0.1/)"

open_form
has "Rails tells the browser to stay with https" "strict-transport-security: max-age=" "${answer,,}"
has "and its cookie is for https alone" "; secure" "$answer"
same "a visitor's order is accepted" "302 https://shop.example/" "$(send_form tea)"
wait_for 10 "sidekiq packs it" has_event tea-packed-by-v1
timer=app-shop:cron:close.timer
same "the timer of the cron job waits" "enabled waiting" "$(shown web $timer UnitFileState) $(shown web $timer SubState)"
check "the cron job runs by hand" on web systemctl start app-shop:cron:close
check "and wrote its row" has_event closed-by-v1
check "the list of processes shows that it ran" on web sh -c 'trueup ps shop | grep close && ! trueup ps shop | grep "not run yet"'
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"

under_load web
worker=$(worker)
same "an order that takes long is accepted" "302 https://shop.example/" "$(send_form piano)"
check "v2 is published, with a migration and another page" publish "${sha[v2]}"
code "the plan" 2 on web trueup plan
has "skips the install step: the Gemfile is the same" "install: skipped, inputs equal to ${sha[v1]:0:7}" "$output"
deploy "the host converges to it"
page_has web "version v2" || fail "a visitor gets it at once" "$(page web)"
same "with the new column" "0 0" "$(page_line web prices)"
same "puma and sidekiq run from that release" "${sha[v2]:0:7}" "$(serves_sha)"
differs "sidekiq was restarted" "$worker" "$(worker)"
started() { shown web "$1" ExecMainStartTimestampMonotonic; }
check "after puma" [ "$(started puma-shop)" -lt "$(started app-shop:sidekiq.1)" ]
same "an order from a page of v1 is accepted" "302 https://shop.example/" "$(send_form coffee)"
wait_for 10 "the new sidekiq packs it" has_event coffee-packed-by-v2
check "the old one ended the job that it had" has_event piano-packed-by-v1
check "the cron job runs by hand" on web systemctl start app-shop:cron:close
check "from that release" has_event closed-by-v2

worker=$(worker)
for bad in broken sick; do
  bad_version_is_refused web "$bad" v2 "$preflight"
done
same "sidekiq was not restarted for them" "$worker" "$(worker)"
same "an operator runs code in the app" 3 "$(on web trueup exec shop -- bin/rails runner 'puts Order.count' | tail -n 1)"
has "and restarts it" "shop serves release" "$(on web trueup restart shop 2>&1)"

built=$(builds)
check "v1 is published again" publish "${sha[v1]}"
deploy "the host returns to it"
page_has web "version v1" || fail "a visitor gets it at once" "$(page web)"
same "nothing was built for that" "$built" "$(builds)"
same "puma and sidekiq run from that release" "${sha[v1]:0:7}" "$(serves_sha)"

#### Builds that fail, and the description changes

# does_not_build VERSION WORDS: this step fails; the release in which it does is $unfinished
releases_of() { on web sh -c "cd /srv/www/shop/releases && ls -d *-${sha[$1]:0:7}"; }
does_not_build() {
  describe
  check "$1 is published, $2" publish "${sha[$1]}"
  code "it is not built" 1 on web trueup converge
  has "because of that" "catalog" "$output"
  unfinished=$(releases_of "$1")
}
is_built() { # VERSION WORDS
  describe
  deploy "the next pass goes on: $2"
  page_has web "version $1" || fail "a visitor gets $1" "$(page web)"
  same "puma and sidekiq run from that release" "${sha[$1]:0:7}" "$(serves_sha)"
  release=$(releases_of "$1")
}
starts_over() { differs "it is a new release, and the one that was begun is gone" "$unfinished" "$release"; }
goes_on() { same "it is the release that was begun" "$unfinished" "$release"; }

steps='      - {name: catalog, run: "touch public/uploads/catalog"}'
does_not_build v3 "with a step that needs a folder"
dirs=', public/uploads'
is_built v3 "the folder is a linked one now"
starts_over
same "the folder is shared" /srv/www/shop/shared/public/uploads "$(on web readlink -f /srv/www/shop/current/public/uploads)"
check "with what the step made in it" on web test -f /srv/www/shop/shared/public/uploads/catalog

# 34-django has a step, a file and assets that are described anew, too.
if [ -n "${LONG:-}" ]; then
  steps='      - {name: catalog, run: "bin/catalog"}'
  does_not_build v4 "with a step that does not exist"
  steps='      - {name: catalog, run: "cp VERSION public/catalog"}'
  is_built v4 "the step is another one now"
  starts_over
  same "the step ran" v4 "$(current public/catalog)"

  steps='      - {name: catalog, run: "cp config/catalog.yml public/catalog"}'
  does_not_build v5 "with a step that needs a configuration file"
fi
files='      config/catalog.yml: {content: "price: 3"}'
if [ -n "${LONG:-}" ]; then
  is_built v5 "the file is described now"
  starts_over
  same "the step had it" "price: 3" "$(current public/catalog)"
fi

steps='      - {name: once, run: "echo once >>public/once"}
      - {name: catalog, run: "test -e log/catalog"}'
does_not_build v6 "with a step that waits for the operator"
on web touch /srv/www/shop/shared/log/catalog
steps+='
      - {name: later, run: "echo later >public/later"}'
threads=' -c 2'
started=$(starts web app-shop:sidekiq.1)
is_built v6 "another step was added, and sidekiq gets another command"
goes_on
same "the first step ran once" once "$(current public/once)"
same "and the new one" later "$(current public/later)"
same "sidekiq was restarted once" $((started + 1)) "$(starts web app-shop:sidekiq.1)"
has "with the new command" "of 2 busy" "$(on web trueup ps shop)"

# shellcheck disable=SC2016  # for a shell on the host
steps='      - {name: once, run: "echo once >>public/once"}
      - {name: catalog, run: "[ \"$CATALOG_KEY\" = walnut ] || { echo no key for the catalog; exit 1; }"}'
does_not_build v7 "with a step that needs a secret"
secrets=', CATALOG_KEY: walnut'
is_built v7 "the secret is there now"
goes_on
same "the first step ran once" once "$(current public/once)"

steps=''
if [ -n "${LONG:-}" ]; then
  more='    assets: {run: bin/catalog}'
  does_not_build v8 "with assets that do not compile"
  more='    assets: {run: "mkdir -p public/assets; echo v8 >public/assets/catalog-1.txt"}'
  is_built v8 "the assets have another command now"
  starts_over
  same "a visitor gets them" v8 "$(shop /assets/catalog-1.txt)"
fi

more+='
    hooks: {before_migrate: [{name: catalog, run: "grep 4 config/catalog.yml"}]}'
does_not_build v9 "with a hook that demands another configuration, before it is migrated"
files='      config/catalog.yml: {content: "price: 4"}'
is_built v9 "the file is as it wants"
goes_on
same "with the new file" "price: 4" "$(current config/catalog.yml)"
end_load
same "no stop of puma or sidekiq took too long" "" \
  "$(on web journalctl -q -o cat -u puma-shop -u app-shop:sidekiq.1 --grep 'timed out. Killing')"

same "every order was packed once" "coffee-packed-by-v2 piano-packed-by-v1 tea-packed-by-v1" \
  "$(page_line web events | tr ' ' '\n' | grep -- -packed- | sort | xargs)"
code "a last pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
