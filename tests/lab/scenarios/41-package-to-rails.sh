#!/bin/bash
# 41-package-to-rails: apt install, trueup init, and the timer's next tick serves a Rails app behind nginx
# timeout: 240
# packages: ruby-rails ruby-sass-rails ruby-sqlite3 ruby-byebug ruby-web-console
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

make_package
give_git_server
on git rm -rf /srv/git/shop.git
lab cp "$tests/fixtures/make-rails-repo" git:/root/make-rails-repo
check "a developer makes the app with Debian's rails" on git sh -c '/root/make-rails-repo /srv/git/shop.git >/root/shas'
while read -r name value; do sha[$name]=$value; done < <(on git cat /root/shas)
on git chown -R git: /srv/git/shop.git
give_s3
check "CI publishes v1" "$TRUEUP" publish production "shop=${sha[v1]}" --create --store "s3://$bucket" \
  --region "$AWS_REGION" --endpoint "$endpoint" --path-style

# The host, and what its operator brings along: the package, the deploy key, the app's secret.
host web
give_apt_repo web
lab cp "$package" "web:/root/${package##*/}"
on git cat /root/deploy_key | write web:/root/deploy_key 600
head -c 64 /dev/urandom | od -An -tx1 | tr -d ' \n' | write web:/root/secret_key_base 600
known="$git_address $(on git cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
init() {
  on web env AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="${secret:-$AWS_SECRET_ACCESS_KEY}" \
    AWS_REGION="$AWS_REGION" trueup init --env production --role app --store "s3://$bucket" --endpoint "$endpoint" --path-style \
    --save-credentials --app "shop=git@$git_address:shop.git" --set apps.shop.port=3000 \
    --set apps.shop.secrets.SECRET_KEY_BASE=@/root/secret_key_base --set 'apps.shop.health={url: "http://127.0.0.1:3000/up"}' \
    --set 'packages=[nginx-light, ruby, bundler]' --set 'apps.shop.steps=[{name: install, run: bundle check}]' "$@"
}   # the last line only here: hosts of the lab reach no gems but Debian's

check "apt install ./trueup_*.deb" on web sh -c 'cd /root && DEBIAN_FRONTEND=noninteractive apt-get -qq install ./trueup_*.deb'

# Mistakes are reported before any change.
code "init without the host key of the git server refuses" 1 init --deploy-key /root/deploy_key
has "and shows the option with the one to compare" "--known-host '$known'" "$output"
code "init without the deploy key fails" 1 init --known-host "$known"
has "init names the reason" "permission denied" "$output"
secret=wrong code "init with wrong keys for the store fails" 1 init --known-host "$known" --deploy-key /root/deploy_key
has "init names the reason" "bad store s3://$bucket: " "$output"
code "init with keys of this shell alone fails" 1 on web env AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" \
  AWS_SECRET_ACCESS_KEY="$AWS_SECRET_ACCESS_KEY" trueup init --env production --role base --store "s3://$bucket" \
  --region "$AWS_REGION" --endpoint "$endpoint" --path-style
has "init names the reason" "bad credentials: the keys for the store are only in the environment of this shell" "$output"
same "failed inits leave no file" "node.yml" "$(on web sh -c 'cd /etc/trueup; echo *; ls -d /root/.aws 2>/dev/null' || :)"

code "trueup init" 0 init --known-host "$known" --deploy-key /root/deploy_key
started=$SECONDS
has "the store is checked" "good store s3://$bucket" "$output"
has "init shows the wanted sha" "good manifest: shop is wanted at ${sha[v1]:0:7}" "$output"
has "the git server is checked" "good git shop: git@$git_address:shop.git grants access to this host" "$output"
has "the timer runs" "the timer is active" "$output"
has "the region of this shell is written down for it" "  region: $AWS_REGION" "$(on web cat /etc/trueup/node.yml)"
wait_for 90 "and a visitor gets the Rails app through nginx" page_has web "version v1"
echo "  $((SECONDS - started)) s after trueup init"
pass_ended() { [ "$(shown web trueup ActiveState) $(shown web trueup Result)" = "inactive success" ]; }
wait_for 20 "the pass ends well" pass_ended
same "from processes of that sha" "${sha[v1]:0:7}" "$(on web readlink "/proc/$(shown web puma-shop MainPID)/cwd" | sed 's/.*-//')"
same "with a migrated database" "id name created_at updated_at" "$(page_line web columns)"
same "the timer is there after a reboot" enabled "$(on web systemctl is-enabled trueup.timer)"
same "secrets are root's" "600 600 600" "$(on web stat -c %a /etc/trueup/node.yml /etc/trueup/deploy_key /root/.aws/credentials | xargs)"
code "init does not touch a host that is set up" 64 init --known-host "$known"
has "init mentions --force" "--force" "$output"

lab kill web
host web
check "CI publishes v2" "$TRUEUP" publish production "shop=${sha[v2]}" --store "s3://$bucket" \
  --region "$AWS_REGION" --endpoint "$endpoint" --path-style
wait_for 90 "after a power cut the timer continues, and a visitor gets v2" page_has web "version v2"
