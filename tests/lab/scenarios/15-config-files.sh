#!/bin/bash
# 15-config-files: configuration files of an app belong to its releases, commits cannot divert them, and assets are compiled only where the task exists
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
clone=$SCRATCH/clone
in_clone() { git -C "$clone" -c user.name=Ana -c user.email=ana@shop.invalid "$@"; }
# push SUBJECT: what is in the clone, as one more commit; its sha is $pushed.
push() {
  in_clone add -A
  in_clone commit -qm "$1"
  pushed=$(in_clone rev-parse HEAD)
  in_clone push -qf origin HEAD:main
  on git rm -rf /srv/git/shop.git
  lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
  on git chown -R git: /srv/git/shop.git
}
attributes() { # KEY: as an operator writes them
  cat <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: "bundle check && cut -d' ' -f1,2 config/database.yml >seen"}]     # the gems are Debian's
    health: {url: "http://127.0.0.1:3000/health"}
    secrets: {DATABASE_PASSWORD: $CANARY}
    files:
      config/database.yml: {source: database.yml, secret: true}
      config/master.key: {content: "$1", secret: true, mode: "0600"}
      .env: {content: "LOCALE=de"}
END
}
set_key() { { sed '/^  packages:/,$d' "$SCRATCH/node.yml"; attributes "$1" | sed 's/^/  /'; } | write web:/etc/trueup/node.yml; }
attributes key-1 | give_server web app
# shellcheck disable=SC2016
template() { on web install -d /etc/trueup/templates; write web:/etc/trueup/templates/database.yml <<<"$1 {{ app.name }} {{ app.secrets.DATABASE_PASSWORD }}"; }
current() { on web cat "/srv/www/shop/current/$1"; }
last_log() { on web sh -c 'cat "$(ls -t /var/log/trueup/releases/shop/*.log | head -n 1)"'; }

template one
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
same "the template was rendered with the app and its secret" "one shop $CANARY" "$(current config/database.yml)"
same "before the first step" "one shop" "$(current seen)"
same "the mode and the owner of a file" "600 deploy" "$(on web stat -c '%a %U' /srv/www/shop/current/config/master.key)"
same "of one without mode" "640 deploy" "$(on web stat -c '%a %U' /srv/www/shop/current/.env)"
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"

puma=$(shown web puma-shop InvocationID)
template two
code "the plan shows that a changed template restarts what uses it" 2 on web trueup plan
has "with the cause" "restart service:puma-shop (because of shop/code)" "$output"
check "the host converges" on web trueup converge
same "the active release has the new file" "two shop $CANARY" "$(current config/database.yml)"
differs "puma was restarted" "$puma" "$(shown web puma-shop InvocationID)"
same "once" 2 "$(starts web puma-shop)"

#### Assets of an app with Rails' files
install -d "$clone/bin"
printf '#!/bin/sh\n' >"$clone/bin/rails"; chmod +x "$clone/bin/rails"
echo 'gem "rake"' >>"$clone/Gemfile"
echo 'task(:routes) {}' >"$clone/Rakefile"
push "Add Rails without assets"
check "an app without the task is published" publish "$pushed"
template three
set_key key-2
check "the host converges" on web trueup converge
has "nothing was compiled" "no task assets:precompile: nothing to compile" "$(last_log)"
same "the files are as described now" "three shop $CANARY key-2" "$(current config/database.yml) $(current config/master.key)"

check "an operator rolls back" on web trueup rollback shop --reason test
same "the files of that release are back with its code" "two shop $CANARY key-1" \
  "$(current config/database.yml) $(current config/master.key)"
check "and ends the rollback" on web trueup rollback shop --unpin
same "which brings the new ones" "three shop $CANARY key-2" "$(current config/database.yml) $(current config/master.key)"

cat >"$clone/Rakefile" <<'END'
require "fileutils"
task("assets:precompile") { FileUtils.mkdir_p("public/assets"); File.write("public/assets/app-1.css", "a {}") }
END
push "Add the task"
check "an app with the task is published" publish "$pushed"
check "the host converges" on web trueup converge
same "its assets are compiled and shared" "a {}" "$(on web cat /srv/www/shop/shared/assets/app-1.css)"
good=$(on web readlink /srv/www/shop/current)
echo 'task("assets:precompile") { abort "the compiler is broken" }' >"$clone/Rakefile"
push "Break the task"
check "an app whose task fails is published" publish "$pushed"
code "the deployment fails" 1 on web trueup converge
has "with what the task said" "the compiler is broken" "$output"
same "and nothing else is active" "$good" "$(on web readlink /srv/www/shop/current)"

#### Commits that divert the files
in_clone rm -q --cached Rakefile; rm "$clone/Rakefile"
ln -s /etc "$clone/config"
push "Divert the folder"
check "a commit with a link for the folder is published" publish "$pushed"
code "the deployment is refused" 1 on web trueup converge
has "with the reason" "config is a symbolic link in the release" "$output"
code "nothing was written to its target" 1 on web test -e /etc/database.yml
attacked "a commit" "a link in place of the folder of a secret file" "refused; nothing written"
rm "$clone/config"; mkdir "$clone/config"
ln -s /etc/motd "$clone/config/database.yml"
on web sh -c 'echo kept >/etc/motd'
push "Divert the file"
check "a commit with a link for the file is published" publish "$pushed"
check "the host converges" on web trueup converge
same "the link is replaced" "three shop $CANARY" "$(current config/database.yml)"
same "and its target as it was" kept "$(on web cat /etc/motd)"
attacked "a commit" "a link in place of a secret file" "replaced; target unchanged"
