#!/bin/bash
# 33-own-versions: the Ruby of .ruby-version is built, used and rolled back with its release; Node.js by version number
# timeout: 240
# packages: rbenv ruby-build
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# To compile a Ruby takes minutes. What is built here is called one, and is built by the real ruby-build from an archive
# in its cache or on a mirror; it runs the host's Ruby and leaves its name in the environment of what it runs.
make_ruby() { # VERSION cache|rubies
  local name=ours-$1 file archive
  mkdir -p "$SCRATCH/$name/bin" "$SCRATCH/cache" "$SCRATCH/rubies" "$SCRATCH/definitions"
  for file in ruby bundle gem; do
    printf '#!/bin/sh\nexport RUN_BY_RUBY=%s; exec /usr/bin/%s "$@"\n' "$1" $file >"$SCRATCH/$name/bin/$file"
    chmod 755 "$SCRATCH/$name/bin/$file"
  done
  archive=$SCRATCH/$2/$name.tar.gz
  tar -C "$SCRATCH" -czf "$archive" "$name"
  sum=$(sha256sum "$archive" | cut -d' ' -f1)
  [ "$2" = cache ] || mv "$archive" "$SCRATCH/$2/$sum"
  echo "install_package $name https://rubies.invalid/$name.tar.gz#$sum copy" >"$SCRATCH/definitions/$1"
}
make_ruby 9.1.0 cache
make_ruby 9.2.0 rubies
make_ruby 9.3.0 cache
# What a build that is killed leaves: half of it.
# shellcheck disable=SC2016
sed -i '1i mkdir -p "$PREFIX_PATH/bin"; while [ -e /srv/hold-ruby ]; do sleep .1; done' "$SCRATCH/definitions/9.3.0"
node=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
make_node() { # VERSION
  local name=node-v$1-linux-$node
  mkdir -p "$SCRATCH/$name/bin" "$SCRATCH/mirror/v$1"
  printf '#!/bin/sh\nexport RUN_BY_NODE=%s; exec /usr/bin/node "$@"\n' "$1" >"$SCRATCH/$name/bin/node"
  touch "$SCRATCH/$name/bin/npm" "$SCRATCH/$name/bin/npx"
  chmod 755 "$SCRATCH/$name/bin/"*
  tar -C "$SCRATCH" -czf "$SCRATCH/mirror/v$1/$name.tar.gz" "$name"
}
make_node 30.1.0
make_node 30.2.0
node_sum() { sha256sum "$SCRATCH/mirror/v$1/node-v$1-linux-$node.tar.gz" | cut -d' ' -f1; }

give_git_server
give_s3
commit_ruby_version() { # VERSION: a commit on the branch main whose .ruby-version is that; its sha
  on git sh -ec "rm -rf /tmp/work; git clone -q /srv/git/shop.git /tmp/work; cd /tmp/work; echo $1 >.ruby-version; echo with $1 >VERSION
    git add -A; git -c user.name=Ana -c user.email=ana@shop.invalid commit -qm 'Ask for Ruby $1'; git push -q origin HEAD:main; git rev-parse HEAD"
}
on git git config --global --add safe.directory '*'
first=$(commit_ruby_version ruby-9.1.0) second=$(commit_ruby_version 9.2.0) third=$(commit_ruby_version 9.3.0)
fourth=$(commit_ruby_version 9.2.0)
nobody_has=$(commit_ruby_version 9.9.9)
settings() { # NODE
  cat <<END
packages: [nginx-light, ruby, bundler]
ruby_build: true
ruby_build_packages: [rbenv, ruby-build]
ruby_build_definitions: [/srv/definitions]
ruby_build_mirror: file:///srv/rubies
nodejs_version: $1
nodejs_sha256: $(node_sum "$1")
nodejs_mirror: file:///srv/mirror
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]
    assets: {run: bin/build}
    env: {PORT: "3000"}
web_apps:
  page:
    sha: ${sha[v1]}
    repo: "git@$git_address:shop.git"
    command: node /srv/idle.js
    port: 4000
    server_names: [page.invalid]
END
}
settings 30.1.0 | give_server web "app, web"
lab cp "$SCRATCH/cache" web:/var/cache/ruby-build
lab cp "$SCRATCH/definitions" web:/srv/definitions
lab cp "$SCRATCH/rubies" web:/srv/rubies
lab cp "$SCRATCH/mirror" web:/srv/mirror
write web:/srv/idle.js <<<"setInterval(String, 1000)"
runtime_of() { on web sh -c "tr '\\0' '\\n' </proc/$(shown web "$1" MainPID)/environ" | sed -n "s/^RUN_BY_$2=//p"; }

check "a commit with a .ruby-version is published" publish "$first" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets it" page_has web "version with ruby-9.1.0"
same "the app runs on the Ruby of its .ruby-version" 9.1.0 "$(runtime_of puma-shop RUBY)"
same "which is the deploy user's" deploy "$(on web stat -c %U /home/deploy/.rbenv/versions/9.1.0)"
same "the other app runs on the Node.js of the settings" 30.1.0 "$(runtime_of app-page NODE)"
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"

check "a commit with another .ruby-version is published" publish "$second"
check "the host converges" on web trueup converge
same "served by that one" 9.2.0 "$(runtime_of puma-shop RUBY)"
same "which was on the mirror and is in the cache now" "ours-9.2.0.tar.gz deploy" "$(on web sh -c 'cd /var/cache/ruby-build; stat -c "%n %U" ours-9.2.0*')"
check "the release is rolled back" on web trueup rollback shop
same "and takes the Ruby back too" 9.1.0 "$(runtime_of puma-shop RUBY)"
check "the pin is lifted" on web trueup rollback shop --unpin
check "a Ruby version that no archive has is published" publish "$nobody_has"
code "it is not deployed" 1 on web trueup converge
has "the log names the missing version" "9.9.9" "$output"
has "a visitor still gets the last good one" "version with 9." "$(page web)"

#### What is installed by half
on web touch /srv/hold-ruby
check "one is published whose Ruby takes long to build" publish "$third"
on web systemd-run --quiet --unit pass --setenv=HOME=/root -p KillMode=mixed trueup converge
wait_for 30 "it is built, by half" on web test -d /home/deploy/.rbenv/versions/9.3.0/bin
check "the pass is stopped" on web timeout 10 systemctl stop pass
code "and ends the build, as it ends a step" 1 on web pgrep -f bin/ruby-build
check "of which half is left" on web test -d /home/deploy/.rbenv/versions/9.3.0/bin
on web rm /srv/hold-ruby
check "the next pass converges" on web trueup converge
same "the app runs on that Ruby, which was rebuilt" 9.3.0 "$(runtime_of puma-shop RUBY)"
same "of both builds nothing else is left" "" "$(on web sh -c 'cd /home/deploy/.rbenv; ls -d build building-9.3.0 2>/dev/null' || :)"
check "files of an installed Ruby are removed" on web sh -c 'rm -r /home/deploy/.rbenv/versions/9.2.0/bin/gem /home/deploy/.rbenv/shims/gem'
check "a release that wants it is published" publish "$fourth"
check "the host converges" on web trueup converge
same "served by that one" 9.2.0 "$(runtime_of puma-shop RUBY)"
check "the Ruby is complete again" on web runuser -u deploy -- sh -c 'cd /srv/www/shop/current && /home/deploy/.rbenv/shims/gem --version'

unit=$(shown web puma-shop InvocationID)
sed -i "s/nodejs_version: .*/nodejs_version: 30.2.0/; s/nodejs_sha256: .*/nodejs_sha256: $(printf '%064d' 1)/" "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
code "an archive with another sum is refused" 1 on web trueup converge
has "in words" "checksum did NOT match" "$output"
same "and the app runs on" 30.1.0 "$(runtime_of app-page NODE)"
sed -i "s/nodejs_sha256: .*/nodejs_sha256: $(node_sum 30.2.0)/" "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
check "with the right one the host converges" on web trueup converge
same "the app was restarted on it" 30.2.0 "$(runtime_of app-page NODE)"
same "and nothing else was" "$unit" "$(shown web puma-shop InvocationID)"
