#!/bin/bash
# 33-own-versions: the Ruby that .ruby-version asks for is built, used and taken back with a release; Node.js by its number
# timeout: 240
# packages: rbenv ruby-build
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# To compile a Ruby takes minutes. What is built here is called one, and is built by the real ruby-build from an archive
# in its cache; it runs the host's Ruby and leaves its name in the environment of what it runs.
make_ruby() { # VERSION
  local name=ours-$1 file
  mkdir -p "$SCRATCH/$name/bin" "$SCRATCH/cache" "$SCRATCH/definitions"
  for file in ruby bundle gem; do
    printf '#!/bin/sh\nexport RUN_BY_RUBY=%s; exec /usr/bin/%s "$@"\n' "$1" $file >"$SCRATCH/$name/bin/$file"
    chmod 755 "$SCRATCH/$name/bin/$file"
  done
  tar -C "$SCRATCH" -czf "$SCRATCH/cache/$name.tar.gz" "$name"
  echo "install_package $name https://rubies.invalid/$name.tar.gz#$(sha256sum "$SCRATCH/cache/$name.tar.gz" | cut -d' ' -f1) copy" \
    >"$SCRATCH/definitions/$1"
}
make_ruby 9.1.0
make_ruby 9.2.0
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
asks_for() { # VERSION: a commit on the branch main whose .ruby-version is that; its sha
  on git sh -ec "rm -rf /tmp/work; git clone -q /srv/git/shop.git /tmp/work; cd /tmp/work; echo $1 >.ruby-version; echo with $1 >VERSION
    git add -A; git -c user.name=Ana -c user.email=ana@shop.invalid commit -qm 'Ask for Ruby $1'; git push -q origin HEAD:main; git rev-parse HEAD"
}
on git git config --global --add safe.directory '*'
first=$(asks_for 9.1.0) second=$(asks_for 9.2.0)
nobody_has=$(asks_for 9.9.9)
settings() { # NODE
  cat <<END
packages: [nginx-light, ruby, bundler]
ruby_build: true
ruby_build_packages: [rbenv, ruby-build]
ruby_build_definitions: [/srv/definitions]
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
lab cp "$SCRATCH/mirror" web:/srv/mirror
write web:/srv/idle.js <<<"setInterval(String, 1000)"
runs_by() { on web sh -c "tr '\\0' '\\n' </proc/$(shown web "$1" MainPID)/environ" | sed -n "s/^RUN_BY_$2=//p"; }

check "a commit that asks for a Ruby is published" publish "$first" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets it" page_says web "version with 9.1.0"
same "served by the Ruby that it asks for" 9.1.0 "$(runs_by puma-shop RUBY)"
same "which is the deploy user's" deploy "$(on web stat -c %U /home/deploy/.rbenv/versions/9.1.0)"
same "the other app runs on the Node.js of the settings" 30.1.0 "$(runs_by app-page NODE)"
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$said"

check "one that asks for another is published" publish "$second"
check "the host converges" on web trueup converge
same "served by that one" 9.2.0 "$(runs_by puma-shop RUBY)"
check "the way back is taken" on web trueup rollback shop
same "and takes the Ruby back too" 9.1.0 "$(runs_by puma-shop RUBY)"
check "the pin is lifted" on web trueup rollback shop --unpin
check "one that nobody has is published" publish "$nobody_has"
code "it is not deployed" 1 on web trueup converge
has "and the log says why" "9.9.9" "$said"
has "a visitor still gets the last good one" "version with 9." "$(page web)"
check "a good one is published again" publish "$second"
check "the host converges" on web trueup converge

unit=$(shown web puma-shop InvocationID)
sed -i "s/nodejs_version: .*/nodejs_version: 30.2.0/; s/nodejs_sha256: .*/nodejs_sha256: $(printf '%064d' 1)/" "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
code "an archive with another sum is refused" 1 on web trueup converge
has "in words" "checksum did NOT match" "$said"
same "and the app runs on" 30.1.0 "$(runs_by app-page NODE)"
sed -i "s/nodejs_sha256: .*/nodejs_sha256: $(node_sum 30.2.0)/" "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
check "with the right one the host converges" on web trueup converge
same "the app was restarted on it" 30.2.0 "$(runs_by app-page NODE)"
same "and nothing else was" "$unit" "$(shown web puma-shop InvocationID)"
