# shellcheck shell=bash
# Functions for scenarios: source this first. The scenario runner gives each scenario its own network and an empty
# folder $SCRATCH, and clears both away afterwards; TRUEUP is the binary under test.
#
# A check that fails ends the scenario there: what follows would only fail for the same reason.
set -euo pipefail
umask 022
tests=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/..")
: "${SCRATCH:?run scenarios through tests/lab/scenario or tests/run}" "${CANARY:?}"
TRUEUP=${TRUEUP:-$tests/../target/debug/trueup}
PATH=$tests/lab:$PATH
outer=$(lab net)          # this machine, as the hosts see it

fail() { echo "  FAILED  $1"; shift; printf '%s\n' "$@" | sed 's/^/          /'; exit 1; }
skip() { echo "  skipped: $*"; exit 77; }
_passed() { echo "  ok      $1"; }

# check "words" COMMAND...        it succeeds
check() {
  local words=$1 output code=0; shift
  output=$("$@" 2>&1) || code=$?
  [ $code = 0 ] || fail "$words" "\$ $*" "$output" "(exit code $code)"
  _passed "$words"
}

# code "words" N COMMAND...       it ends with exit code N; its output stays in $output
code() {
  local words=$1 want=$2 code=0; shift 2
  output=$("$@" 2>&1) || code=$?
  [ $code = "$want" ] || fail "$words" "\$ $*" "$output" "(exit code $code, expected $want)"
  _passed "$words"
}

# same "words" EXPECTED ACTUAL    differs "words" OTHER ACTUAL    has "words" PART WHOLE
same() { [ "$2" = "$3" ] || fail "$1" "expected: $2" "actual:   $3"; _passed "$1"; }
differs() { [ "$2" != "$3" ] || fail "$1" "still: $3"; _passed "$1"; }
has() { [[ $3 == *"$2"* ]] || fail "$1" "expected to find: $2" "in: $3"; _passed "$1"; }

# attacked WHO "what he tried" "how it ended"   a row of the table of attacks that tests/run prints; say it after its checks
attacked() { printf '  attack\t%s\t%s\t%s\n' "$1" "$2" "$3"; }

# wait_for SECONDS "words" COMMAND...   it succeeds within that time
wait_for() {
  local end=$((SECONDS + $1)) words=$2 output; shift 2
  until output=$("$@" 2>&1); do
    [ $SECONDS -lt "$end" ] || fail "$words" "\$ $*" "$output" "(gave up waiting)"
    sleep .1
  done
  _passed "$words"
}

host() { lab up "$@" >/dev/null; }                     # host NAME [ADDRESS]
on() { lab exec "$@"; }                                # on NAME COMMAND...
disk() { echo "$LAB/hosts/$LAB_NET/$1/upper"; }         # disk HOST: all that was ever written on its disk, on this machine
address() { lab list | awk -v name="$1" '$1 == name {print $2}'; }
# write HOST:PATH [MODE] <text; several may be under way at a time
write() { local text=$SCRATCH/write.$BASHPID; cat >"$text"; lab cp "$text" "$1"; on "${1%%:*}" chmod "${2:-644}" "${1#*:}"; }

# The apt repository with hello-trueup; the only one that the host knows.
give_apt_repo() {
  [ -d "$SCRATCH/apt" ] || apt-repo "$SCRATCH/apt"
  lab cp "$SCRATCH/apt" "$1:/srv/apt"
  write "$1:/etc/apt/sources.list" <<<'deb [trusted=yes] file:/srv/apt ./'
}

# An S3 server that hosts and this machine reach at $endpoint, with an empty bucket, $bucket; this machine has its AWS_*
# keys in the environment, and give_keys puts them into a host.
give_s3() {
  TRUEUP_TEST_S3_BIND=$outer "$tests/s3-server" start "$SCRATCH/s3" >"$SCRATCH/s3.log" 2>&1 ||
    fail "an S3 server starts" "$(cat "$SCRATCH/s3.log")"
  # shellcheck source=/dev/null
  . "$SCRATCH/s3/env"
  # shellcheck disable=SC2034  # for scenarios
  endpoint=$TRUEUP_TEST_S3_ENDPOINT bucket=$TRUEUP_TEST_S3_BUCKET
  has "the S3 server is on the hosts' network" "//$outer:" "$endpoint"
}

# The same behind a proxy with faults (tests/lab/s3-trouble), at $endpoint. To be called after give_s3.
#   trouble [WORDS]     the faults from now on; none: forward everything; refuse: close the port
#   requests            what came since this was last called: METHOD PATH CONDITION STATUS, a line each
give_s3_trouble() {
  mkdir "$SCRATCH/trouble"
  : >"$SCRATCH/trouble/requests"
  s3_behind=$endpoint s3_port=0 troublemaker=
  trap 'kill $troublemaker 2>/dev/null ||:' EXIT
  trouble
  s3_port=$(cat "$SCRATCH/trouble/port")
  # shellcheck disable=SC2034  # for scenarios
  endpoint=http://$outer:$s3_port
}
# shellcheck disable=SC2120  # for scenarios
trouble() {
  rm -f "$SCRATCH/trouble/trouble"
  if [ "$*" = refuse ]; then
    kill "$troublemaker"; wait "$troublemaker" ||:; troublemaker=
    return
  fi
  [ $# = 0 ] || { echo "$*" >"$SCRATCH/trouble/new"; mv "$SCRATCH/trouble/new" "$SCRATCH/trouble/trouble"; }
  [ -z "$troublemaker" ] || return 0
  rm -f "$SCRATCH/trouble/port"
  "$tests/lab/s3-trouble" "$outer" "$s3_port" "$s3_behind" "$SCRATCH/trouble" >"$SCRATCH/trouble/log" 2>&1 & troublemaker=$!
  wait_for 10 "an S3 server with faults listens" test -s "$SCRATCH/trouble/port"
}
requests() { cat "$SCRATCH/trouble/requests"; : >"$SCRATCH/trouble/requests"; }

give_keys() {
  write "$1:/root/.aws/credentials" 600 <<END
[default]
aws_access_key_id = $AWS_ACCESS_KEY_ID
aws_secret_access_key = $AWS_SECRET_ACCESS_KEY
END
}

# give_git_server [APP]: a host `git` with the repository of rack-app, or of another app in tests/fixtures, read over ssh
# with a deploy key or over the git protocol:
#   git@$git_address:shop.git     git://$git_address/shop.git     and the shas in ${sha[v1]} and so on
give_git_server() {
  # shellcheck disable=SC2034  # for scenarios
  declare -gA sha
  local name value
  # shellcheck disable=SC2034
  while read -r name value; do sha[$name]=$value; done < <("$tests/fixtures/make-repo" "$SCRATCH/shop.git" "${1:-rack-app}")
  host git
  git_address=$(address git)
  # shellcheck disable=SC2016
  on git sh -ec 'useradd --create-home --home-dir /srv/git --shell /usr/bin/git-shell git
    usermod --password "*" git; install -d -o git -m 700 /srv/git/.ssh
    ssh-keygen -q -t ed25519 -N "" -C deploy@shop -f /root/deploy_key
    { printf "restrict "; cat /root/deploy_key.pub; } >/srv/git/.ssh/authorized_keys'
  lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
  on git chown -R git: /srv/git
  on git systemd-run -q --unit git-daemon --uid git git daemon --reuseaddr --export-all --base-path=/srv/git /srv/git
}

# What an operator puts on an app server for a private repository: the key.
give_deploy_key() {
  on "$1" install -d -m 700 /etc/trueup
  on git cat /root/deploy_key | write "$1:/etc/trueup/deploy_key" 600
}

# The binary under test, and the roles and templates that its package would bring.
give_trueup() {
  [ -x "$TRUEUP" ] || fail "there is a trueup binary at $TRUEUP"
  lab cp "$TRUEUP" "$1:/usr/bin/trueup"
  local folder
  for folder in roles templates; do
    [ ! -d "$tests/../$folder" ] || lab cp "$tests/../$folder" "$1:/usr/share/trueup/$folder"
  done
}

# make_package [VERSION]: the .deb with the binary under test, as $package. Versions come out of one binary: what an
# upgrade does is the package's work.
make_package() {
  package=$("$tests/../packaging/build" deb --binary "$TRUEUP" --fast ${1:+--version "$1"} 2>"$SCRATCH/package.log") ||
    fail "a package is built" "$(cat "$SCRATCH/package.log")"
  mv "$package" "$SCRATCH/"
  package=$SCRATCH/${package##*/}
}

# give_server HOST ROLE <attributes: a fresh host with settings for this role, everything but its first pass. The settings
# are in $SCRATCH/node.yml too, for commands from outside. Needs give_git_server and give_s3 before.
give_server() {
  local attributes
  attributes=$(sed 's/^/  /')                            # before anything else reads our input
  host "$1"
  give_apt_repo "$1"
  give_deploy_key "$1"
  give_keys "$1"
  cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [$2]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
attributes:
  deploy_key: /etc/trueup/deploy_key
  known_hosts: ["$git_address $(on git cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"]
$attributes
END
  write "$1:/etc/trueup/node.yml" <"$SCRATCH/node.yml"
  give_trueup "$1"
}

# give_app_server HOST REPOSITORY: such a host for the Ruby app `shop`.
give_app_server() {
  give_server "$1" app <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "$2"
    port: 3000
    secrets: {SECRET_KEY_BASE: $CANARY}             # searched for afterwards: tests/lab/scenario
    steps: [{name: install, run: bundle check}]     # the gems are Debian's; hosts reach no others
    assets: {run: bin/build}
END
}

# fetch_wheels PACKAGE...: Python packages with all that they need, from PyPI, in the folder $wheels of this machine.
# give_balancer HOST: a haproxy host for the app `shop` on the hosts with the tag tier=front. Needs give_s3 before.
give_balancer() {
  host "$1"
  give_keys "$1"
  give_trueup "$1"
  write "$1":/etc/trueup/node.yml <<END
environment: production
roles: [haproxy]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
attributes:
  packages: []
  backends:
    shop:
      hosts: [shop.example.com, _]
      tag: tier=front
      check: {path: /health}
      check_every: 500ms
END
  on "$1" systemctl -q mask --now nginx
}

# give_wheels HOST PACKAGE...: the same in /srv/wheels of a host.
# Both need give_s3 before, for its pip. What was fetched once is kept.
fetch_wheels() {
  local tools=${TRUEUP_TEST_TOOLS:-$tests/../target/test-tools}
  wheels=$tools/wheels-$(printf '%s\n' "$@" | sha256sum | cut -c1-12)
  [ ! -d "$wheels" ] || return 0
  "$tools/ministack/bin/python" -m pip --quiet --disable-pip-version-check download --dest "$wheels.$BASHPID" "$@"
  mv -T "$wheels.$BASHPID" "$wheels" 2>/dev/null || rm -rf "$wheels.$BASHPID"
}
give_wheels() {
  fetch_wheels "${@:2}"
  lab cp "$wheels" "$1:/srv/wheels"
}

# publish SHA [OPTION...]: as CI does, from outside
publish() { "$TRUEUP" --config "$SCRATCH/node.yml" publish production "shop=$1" "${@:2}"; }

# page HOST [PATH]: what a visitor gets, through nginx          page_has HOST TEXT
visitor_headers=()        # what they send besides, "NAME: VALUE" each
page() { curl -sS --fail --max-time 5 "${visitor_headers[@]/#/-H}" "http://$(address "$1")${2:-/}"; }
page_has() { [[ "$(page "$1")" == *"$2"* ]]; }
page_line() { page "$1" | sed -n "s/^$2 //p"; }         # page_line HOST version|pid|asset

# under_load HOST...: visitors request their pages (tests/lab/load) until end_load, which checks that no request failed. What
# those of the first one met is in $SCRATCH/load.
under_load() {
  local each
  rm -f "$SCRATCH/stop"
  visitors=() loads=()
  for each in "$@"; do
    loads+=("$SCRATCH/load${loads:+-$each}")
    nice -n 19 "$tests/lab/load" "http://$(address "$each")/" 2 "$SCRATCH/stop" "${visitor_headers[@]}" >"${loads[-1]}" &
    visitors+=($!)
  done
}
end_load() {
  local each
  touch "$SCRATCH/stop"; wait "${visitors[@]}"
  for each in "${loads[@]}"; do
    output=$(cat "$each")
    echo "  $output"
    has "no request failed" " failed 0 " "$output"
  done
}

# bad_version_is_refused HOST BAD VERSION WORDS: the version BAD, once published, is refused with these words, visitors get
# VERSION, and BAD stays quarantined
bad_version_is_refused() {
  check "a version that is $2 is published" publish "${sha[$2]}"
  code "the version is refused" 4 on "$1" trueup converge
  has "with the reason" "$4" "$output"
  has "a visitor gets $3" "version $3" "$(page "$1")"
  code "the version stays quarantined" 4 on "$1" trueup converge
  has "with the reason" "quarantined" "$output"
}
preflight="was not activated, because it failed its preflight"
gate="rolls back to"

# bad_versions_are_refused HOST VERSION WORDS: likewise `broken` and `sick`, and no request fails; then v1 is published again.
bad_versions_are_refused() {
  local bad
  under_load "$1"
  for bad in broken sick; do
    bad_version_is_refused "$1" "$bad" "$2" "$3"
  done
  check "v1 is published again" publish "${sha[v1]}"
  code "the plan for v1 builds nothing" 2 on "$1" trueup plan
  has "v1 is an existing release" "${sha[v1]:0:7})" "$output"
  check "the host returns to v1" on "$1" trueup converge
  has "a visitor gets v1" "version v1" "$(page "$1")"
  end_load
}

# shown HOST UNIT PROPERTY, as systemd has it                   starts HOST UNIT: how often it was started, by the journal
shown() { on "$1" systemctl show "$2" --property="$3" --value; }
starts() { on "$1" journalctl -q -o cat -u "$2" MESSAGE_ID=39f53479d3a045ac8e11786248231fbf | wc -l; }

# written HOST FILE: what was written since FILE was, other than logs (an app ends the line of a request after its answer)
# and trueup's own records
written() {
  on "$1" find / -xdev -newer "$2" -type f -not -path '/proc/*' -not -path '/var/lib/trueup/*' -not -path '/var/log/*' \
    -not -path '/srv/www/*/shared/log/*'
}
