#!/bin/bash
# 13-rails: a Rails app is deployed, migrated, kept from bad versions and rolled back by an operator, and no data is lost
# timeout: 300
# packages: ruby-rails ruby-sass-rails ruby-sqlite3 ruby-byebug ruby-web-console
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
on git rm -rf /srv/git/shop.git
lab cp "$tests/fixtures/make-rails-repo" git:/root/make-rails-repo
check "a developer makes the app with Debian's rails" on git sh -c '/root/make-rails-repo /srv/git/shop.git >/root/shas'
while read -r name value; do sha[$name]=$value; done < <(on git cat /root/shas)
on git chown -R git: /srv/git/shop.git
give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]     # the gems are Debian's; hosts reach no others
    secrets: {SECRET_KEY_BASE: $(head -c 64 /dev/urandom | od -An -tx1 | tr -d ' \n')}
    health: {url: "http://127.0.0.1:3000/up", times: 2}
    gate_timeout: 20s
END

# A visitor's form, sent with the cookie and the token of the page that had it.
shop() { curl -sS --fail --max-time 5 --cookie "$SCRATCH/cookies" --cookie-jar "$SCRATCH/cookies" "http://$(address web)$1" "${@:2}"; }
open_form() { token=$(shop /items/new | sed -n 's/.*name="authenticity_token" value="\([^"]*\)".*/\1/p'); }
send_form() { shop /items --data-urlencode "authenticity_token=$token" --data-urlencode "item[name]=$1" "${@:2}"; }
builds() { on web sh -c 'cat /var/log/trueup/releases/shop/*.log' | grep -c '^== build '; }
serves_sha() { # which release the processes run from, not what they say
  on web readlink "/proc/$(shown web puma-shop MainPID)/cwd" "/proc/$(page_line web pid)/cwd" | sed 's/.*-//' | uniq
}

check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
page_has web "version v1" || fail "a visitor gets v1 through nginx" "$(page web)"
same "from processes of that release" "${sha[v1]:0:7}" "$(serves_sha)"
same "with a migrated database" "id name created_at updated_at" "$(page_line web columns)"
same "which is not in the release" "/srv/www/shop/shared/storage/production.sqlite3" \
  "$(on web readlink -f /srv/www/shop/current/storage/production.sqlite3)"
old=$(page_line web asset)
has "its compiled stylesheet is served" "margin:11px" "$(page web "$old")"
open_form
check "a visitor adds an item" send_form tea
same "and it is listed" tea "$(page_line web items)"

# As it comes from a balancer that ends https: Rails compares where a form comes from with where it believes to be.
send_form_over_https() {
  send_form "$1" -H "Origin: https://$(address web)" -H 'X-Forwarded-Proto: https'
}
check "a visitor adds one over https, which ends before this host" send_form_over_https rice

on web touch /run/before
puma=$(shown web puma-shop InvocationID)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"

under_load web
check "v2 is published, with a migration and another stylesheet" publish "${sha[v2]}"
check "the host converges to it" on web trueup converge
page_has web "version v2" || fail "a visitor gets it at once" "$(page web)"
same "the database was migrated" "id name created_at updated_at price" "$(page_line web columns)"
same "the migration ran once" 1 "$(on web sh -c 'cat /var/log/trueup/releases/shop/*.log' | grep -c 'AddPriceToItems: migrated')"
has "the new stylesheet is served" "margin:22px" "$(page web "$(page_line web asset)")"
differs "under a new name" "$old" "$(page_line web asset)"
has "and the old one still is" "margin:11px" "$(page web "$old")"
check "a form that was opened before the deploy can be sent after it" send_form coffee

for bad in broken sick; do
  bad_version_is_refused web "$bad" v2 "$preflight"
done
check "a visitor adds an item in between" send_form bread

check "v3 is published" publish "${sha[v3]}"
check "the host converges to it" on web trueup converge
page_has web "version v3" || fail "a visitor gets it at once" "$(page web)"
same "from processes of that release" "${sha[v3]:0:7}" "$(serves_sha)"
check "a visitor adds an item to v3" send_form milk

built=$(builds)
for back in v2 v1; do
  check "an operator publishes $back again" publish "${sha[$back]}"
  check "the host converges to it" on web trueup converge
  page_has web "version $back" || fail "a visitor gets it at once" "$(page web)"
  same "from processes of that release" "${sha[$back]:0:7}" "$(serves_sha)"
done
same "nothing was built for that" "$built" "$(builds)"
same "nor migrated down" "id name created_at updated_at price" "$(page_line web columns)"
check "a visitor adds an item to v1 again" send_form salt
same "and all that was ever added is there" "tea rice coffee bread milk salt" "$(page_line web items)"
end_load
