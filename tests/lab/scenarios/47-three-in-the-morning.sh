#!/bin/bash
# 47-three-in-the-morning: faults of all kinds: one command on the host, the journal and, from elsewhere, the fleet name the cause
# timeout: 420
# long timeout: 1500
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

# Each fault is made, met by a pass and mended again. The table of them is docs/three-in-the-morning.md; UPDATE_DOCS=1
# writes it. The seconds there are those of the long form, in which the shipped timer starts the passes: here the unit is
# started at once, and only the lines are compared.
give_git_server
give_s3
straight=$endpoint                                        # how operators elsewhere reach the store
give_s3_trouble
clone_versions
make_gems() { echo 'echo "Resolving dependencies..."; echo "Could not find gem '\''pay (~> 9.1)'\'' in locally installed gems." >&2; exit 7' >bin/install; }
make_install() { echo 'bundle check' >bin/install; }
make_page() {
  sed -i "s|when \"/health\" then .*|when \"/health\" then [500, { \"content-type\" => \"text/html\" }, [\"<!DOCTYPE html><html><head><title>x</title><style>b{}</style></head><body><h1>We are sorry, but the database is not there.</h1></body></html>\"]]|" config.ru
}
make_next() { :; }
make_greedy() { echo "ruby -e 'sleep 2; x = \"x\" * (1 << 30)' needs-a-gigabyte" >bin/build; }
cd "$SCRATCH/clone"; make_install; git add -A; git commit -qm "Install with a script"; cd - >/dev/null
for kind in good crash gems migration page greedy; do
  commit "$kind" "$kind"
done
give_versions
give_versioned_server web 'processes: {worker: "while sleep 1; do :; done"}'
sed -i 's/run: bundle check/run: sh bin\/install/' "$SCRATCH/node.yml"
write web:/etc/trueup/node.yml <"$SCRATCH/node.yml"
write web:/etc/trueup/node.d/tags.yml <<<'tags: {tier: front}'
on web systemctl -q mask --now haproxy
sed -i "s|endpoint: \"[^\"]*\"|endpoint: \"$straight\"|" "$SCRATCH/node.yml"
proxied=$endpoint; endpoint=$straight give_balancer lb; endpoint=$proxied
on lb systemctl -q unmask nginx
give_timer() {
  local unit
  for unit in trueup.service trueup.timer; do lab cp "$tests/../packaging/systemd/$unit" "$1:/etc/systemd/system/$unit"; done
  on "$1" systemctl daemon-reload
}
for each in web lb; do give_timer "$each"; done
on web sh -c 'mkdir -p /srv/www; mount -t tmpfs -o size=64m,mode=755 apps /srv/www'
check "a good version is published" publish "${sha[good]}" --create
# Without the limit on starts, which the timer does not reach.
pass() { on "$1" sh -c 'systemctl reset-failed trueup.service; systemctl start trueup.service' >/dev/null 2>&1 ||:; }
pass web
wait_for 20 "a visitor gets it" page_has web "version good"
pass lb
code "status is that of a converged host" 0 on web trueup status
# Not from the sender's control group: the journal may read a message after its sender has ended.
unit=$(on web journalctl -q -o json -n 1 _COMM=trueup | sed -n 's/.*"OBJECT_SYSTEMD_UNIT":"\([^"]*\)".*/\1/p')
same "each message names the unit that it is about" trueup.service "$unit"
if [ -n "${LONG:-}" ]; then
  pass() { :; }
  for each in web lb; do on "$each" systemctl -q enable --now trueup.timer; done
fi

table=
# fault NAME HOST COMMAND WORDS [FLEET-WORDS [JOURNAL-WORDS]]: after a function `break_it`; `mend_it` ends it. WORDS have to be in what
# COMMAND prints, in the line that is shown; FLEET-WORDS `-`: the host cannot tell the store.
fault() {
  local name=$1 host=$2 command=$3 words=$4 fleet=${5:-$4} journal=${6:-$4} started line began
  echo "#### $name"
  began=$(date +%s)
  started=$(now)
  break_it >/dev/null 2>&1
  for ((tries = 0; tries < 60; tries++)); do
    pass "$host"
    # The command's own exit code is not that of success.
    line=$(on "$host" sh -c "$command 2>&1" | grep -F -m 1 -- "$words") ||:
    [ -z "$line" ] || break
    sleep 1
  done
  [ -n "$line" ] || fail "$name: \`$command\` names the cause" "expected: $words" "in: $(on "$host" sh -c "$command 2>&1")"
  printf '  ok      %s s: %s\n' "$(since "$started")" "$line"
  [ -z "${LIVE:-}" ] || on "$host" sh -c "$command 2>&1" | sed 's/^/          /' ||:
  seconds=$(since "$started")
  in_journal() { on "$host" journalctl -q -o cat -u trueup _UID=0 --since "@$began" | grep -F -- "$journal" >/dev/null; }
  wait_for 30 "$name: the journal has the cause" in_journal
  if [ "$fleet" != - ]; then
    in_fleet() { { "$TRUEUP" --config "$SCRATCH/node.yml" fleet 2>&1 ||:; } | tee "$SCRATCH/fleet" | grep -F -- "$fleet" >/dev/null; }
    in_fleet || sleep 2
    in_fleet || fail "$name: the fleet shows it elsewhere" "$(cat "$SCRATCH/fleet")"
    printf '  ok      the fleet shows it elsewhere\n'
  fi
  mend_it >/dev/null 2>&1
  is_well() { pass "$host"; on "$host" trueup status; }
  is_well >/dev/null 2>&1 || wait_for 90 "$name: mended" is_well
  # The address of a host of this test says nothing to others.
  line=$(sed 's/^ *//; s/|/\\|/g; s/ (end.*//; s/10\.[0-9.]*/git.example.com/g' <<<"$line" | cut -c 1-300)
  table+="| $name | \`$command\` | $seconds | $line |"$'\n'
}
# fresh NAME: a commit that the host has not fetched, published
fresh() {
  commit "$1" next
  rm -rf "$SCRATCH/bare.git"
  give_versions
  publish "${sha[$1]}"
}
again() { publish "${sha[good]}"; }
bad() { # bad VERSION: how it is published, and left again
  eval "break_it() { publish ${sha[$1]}; }"
  mend_it() { again; }
}

#### What a deploy may bring
bad crash
fault "A version that does not boot" web "trueup status" "this version does not boot (RuntimeError)"
bad gems
fault "A build step that fails" web "trueup status" "Could not find gem 'pay (~> 9.1)' in locally installed gems."
bad migration
fault "A migration that fails" web "trueup status" "step \`migrate\`"
bad page
fault "A version whose health check answers with an error page" web "trueup status" "We are sorry, but the database is not there."
# The hosts have no memory controller of their own, so this machine limits the one process.
memory=$(awk '$3 == "cgroup" && $4 ~ /memory/ {print $2; exit}' /proc/self/mounts)
limit=$memory/trueup-lab-$BASHPID
limit_build() {
  local pid
  mkdir "$limit"
  echo 200M >"$limit/memory.limit_in_bytes"
  until pid=$(pgrep -f -o "^ruby .*needs-a-gigabyte"); do sleep .1; done
  echo "$pid" >"$limit/cgroup.procs"
}
break_it() { limit_build & publish "${sha[greedy]}"; }
mend_it() { rmdir "$limit"; again; }
fault "A build that needs more memory than there is" web "trueup status" "was killed: out of memory"

#### What a pass relies on
break_it() { on git mv /srv/git/.ssh/authorized_keys /root/; fresh revoked; }
mend_it() { on git mv /root/authorized_keys /srv/git/.ssh/; }
fault "The deploy key was revoked" web "trueup status" "denied access"
mend_it() { on web mv /root/deploy_key /etc/trueup/; again; }
break_it() { on web mv /etc/trueup/deploy_key /root/; fresh missing; }
fault "The deploy key is missing" web "trueup status" "/etc/trueup/deploy_key"
break_it() { trouble skewed; }
mend_it() { trouble; }
fault "The host's clock is an hour off" web "trueup status" "clock" -
break_it() { trouble denied; }
mend_it() { trouble; }
fault "The key of the store was removed" web "trueup status" "InvalidAccessKeyId" -
break_it() { trouble refuse; }
mend_it() { trouble; }
fault "The store does not answer" web "trueup status" "Connection refused" -
break_it() { on web sh -c 'head -c 100m /dev/zero >/srv/www/filler ||:'; fresh full; }
mend_it() { on web rm /srv/www/filler; again; }
fault "A disk is full" web "trueup status" "not enough space in /srv/www/shop/releases"

#### What people do
# The journal has it, too, if a pass that an operator started found it first.
break_it() { on web sh -c 'echo "server { lisen 80; }" >/etc/nginx/conf.d/hand.conf; trueup converge ||:'; }
mend_it() { on web rm /etc/nginx/conf.d/hand.conf; }
fault "A file that nobody manages breaks nginx's configuration" web "trueup status" 'unknown directive "lisen" in /etc/nginx/conf.d/hand.conf:1'
break_it() { on web systemctl mask --now puma-shop; }
mend_it() { on web systemctl unmask puma-shop; }
fault "An operator masked the app" web "trueup status" "an operator masked it"
break_it() { write web:/etc/trueup/node.d/typo.yml <<<'attribute: {apps: {}}'; }
mend_it() { on web rm /etc/trueup/node.d/typo.yml; }
fault "A mistake in the settings" web "trueup status" "/etc/trueup/node.d/typo.yml:1" -
put_manifest() {
  echo "$1" >"$SCRATCH/manifest"
  curl -sS --fail-with-body --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$SCRATCH/manifest" "$straight/$bucket/sha_number.yml"
}
kept=$(curl -sS --fail --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$straight/$bucket/sha_number.yml")
break_it() { put_manifest "apps: [unfinished"; }
mend_it() { put_manifest "$kept"; }
fault "A broken manifest in the store" web "trueup status" "sha_number.yml:"

#### What runs
break_it() { on lb sh -c 'systemctl stop haproxy; rm -f /etc/nginx/sites-enabled/default; echo "server { listen 80; }" >/etc/nginx/conf.d/own.conf; systemctl start nginx'; }
mend_it() { on lb systemctl disable --now nginx; on lb systemctl restart haproxy; }
fault "Another program has the balancer's port" lb "trueup status" "cannot bind socket (Address already in use) for [0.0.0.0:80]"

heading='# Three in the morning

Faults, the one command that names the cause, and what it prints. The journal (`journalctl -u trueup _UID=0`) has the same cause, and
`trueup fleet` shows it elsewhere, unless the host cannot reach the store. Seconds: from the fault until the command shows it,
with the shipped timer, which starts a pass every 15 to 18 s. `LONG=1 UPDATE_DOCS=1 tests/run lab 47-three` makes this table on real
hosts.

| fault | command | seconds | line |
| --- | --- | --- | --- |
'
echo "$table"
masked() { sed -E 's/\| [0-9.]+ \|/| N |/; s/[0-9a-f]{7,}/X/g; s/[0-9]+/N/g'; }
document=$tests/../docs/three-in-the-morning.md
if [ -n "${UPDATE_DOCS:-}" ]; then
  printf '%s%s' "$heading" "$table" >"$document"
else
  same "docs/three-in-the-morning.md has these faults and lines" "$(masked <"$document" | grep '^| [A-Z]')" "$(masked <<<"$table" | grep '^| [A-Z]')"
fi
