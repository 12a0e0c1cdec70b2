#!/bin/bash
# 48-dnf: packages on rpm and dnf: installed, pinned, removed, and after a kill, a broken source or a lock what can be done
# timeout: 240
# packages: dnf rpm createrepo-c attr
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# A Debian with Debian's dnf and rpm, which calls itself Amazon Linux; rpm's database has only what the test installs.
#   make_rpm NAME VERSION [LINE...]   more lines for the spec, such as a scriptlet
make_rpm() {
  local name=$1 version=$2; shift 2
  printf '%s\n' "Name: $name" "Version: $version" "Release: 1" "Summary: made by a test" "License: MIT" "BuildArch: noarch" \
    ${provides:+"Provides: $provides"} \
    "%description" x "%install" "mkdir -p %{buildroot}/usr/share/$name" "echo $version >%{buildroot}/usr/share/$name/version" \
    "%files" "/usr/share/$name" "$@" >"$SCRATCH/$name.spec"
  rpmbuild -bb --quiet --define "_topdir $SCRATCH/rpmbuild" --define "_rpmdir $SCRATCH/rpms" "$SCRATCH/$name.spec" >"$SCRATCH/rpmbuild.log" 2>&1 ||
    fail "$name $version is built" "$(cat "$SCRATCH/rpmbuild.log")"
}
for version in 1.0 1.1 2.0; do make_rpm hello $version; done
make_rpm other 1.0
provides=/bin/sh make_rpm shell 1.0                       # scriptlets need it
make_rpm slow 1.0
make_rpm slow 2.0 "%post" "touch /run/in-scriptlet" "while [ -e /run/hold-scriptlets ]; do sleep .1; done"
createrepo_c --quiet "$SCRATCH/rpms"

host web
give_trueup web
lab cp "$SCRATCH/rpms" web:/srv/rpms
on web sh -c 'rm /etc/os-release; mkdir -p /etc/yum.repos.d /srv/store /etc/trueup/roles'
write web:/etc/os-release <<<$'ID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\nPRETTY_NAME="Amazon Linux 2023 (not really)"'
write web:/etc/rpm/macros <<<'%_dbpath /var/lib/rpm'
write web:/etc/yum.repos.d/local.repo <<<$'[local]\nname=local\nbaseurl=file:///srv/rpms\ngpgcheck=0'
write web:/srv/store/sha_number.yml <<<'production: {}'
write web:/etc/trueup/roles/tools.yml <<'ROLE'
description: Packages.
parameters: {install: [], pin: null, pinned: hello, removed: [], held: null}
resources:
  - package: {id: install, when: install | length > 0, names: "{{ install }}"}
  - package: {id: pin, when: pin, names: ["{{ pinned }}"], version: "{{ pin }}"}
  - package: {id: removed, when: removed | length > 0, names: "{{ removed }}", state: absent}
  - package: {id: held, when: held, names: [hello], held: true}
ROLE
# settings ATTRIBUTE...     the attributes of the role
settings() {
  { printf 'environment: production\nroles: [tools]\nstore: {url: "dir:/srv/store"}\nattributes:\n'; printf '  %s\n' "$@"; } | write web:/etc/trueup/node.yml
}
version() { on web cat "/usr/share/$1/version" 2>&1; }
# Counts the runs of rpm and dnf.
for program in rpm dnf; do
  write web:/usr/local/bin/$program 755 <<<$'#!/bin/sh\n'"echo $program \"\$@\" >>/run/runs; exec /usr/bin/$program \"\$@\""
done
runs() { on web sh -c "grep -c ^$1 /run/runs || :" 2>/dev/null; }
none_run() { on web sh -c ': >/run/runs'; }

#### Install, pin, remove
settings 'install: [hello, other]' 'pin: 1.0*'
code "the plan wants both packages" 2 on web trueup plan
has "by name" "hello other" "$output"
check "a pass installs them" on web trueup converge
same "rpm knows both" "hello-1.0-1 other-1.0-1" "$(on web sh -c 'rpm -qa --qf "%{NAME}-%{VERSION}-%{RELEASE}\n" | sort | xargs')"
same "hello is at its version, although there are newer ones" 1.0 "$(version hello)"
none_run
code "a second pass changes nothing" 0 on web trueup converge
same "and runs rpm once, for all packages" "1 0" "$(runs rpm) $(runs dnf)"
settings 'pin: 1.1-1'
check "a newer pin is an upgrade" on web trueup converge
same "to that version" 1.1 "$(version hello)"
settings 'pin: "1.0"'
check "an older pin is a downgrade" on web trueup converge
same "to that version" 1.0 "$(version hello)"
settings 'removed: [other]'
check "a package is removed" on web trueup converge
code "its files are gone" 1 on web test -e /usr/share/other
settings 'install: []'
none_run
code "a pass without packages succeeds" 0 on web trueup converge
same "and runs neither" "0 0" "$(runs rpm) $(runs dnf)"
same "dpkg's packages are untouched" "ii " "$(on web dpkg-query -Wf '${db:Status-Abbrev}' dnf)"

#### What cannot be done is said
settings 'install: [nosuch]'
code "an unknown package fails the pass" 1 on web trueup converge
has "with dnf's own words" "Unable to find a match: nosuch" "$output"
has "and what to do" "dnf list --showduplicates" "$output"
settings 'held: true'
code "a hold is refused" 1 on web trueup plan
has "with what to do instead" "dnf versionlock" "$output"
write web:/etc/yum.repos.d/broken.repo <<<$'[broken]\nname=broken\nbaseurl=http://192.0.2.1/none\ngpgcheck=0'
settings 'install: [other]'
check "a source that is out of reach keeps no other from giving its packages" on web trueup converge
same "it is installed" 1.0 "$(version other)"
on web mv /etc/yum.repos.d/local.repo /root/
settings 'removed: [other]'
check "a removal needs no source" on web trueup converge
settings 'install: [other]'
code "a package that only a source out of reach has fails" 1 on web trueup converge
has "with the name of the source" "repo 'broken'" "$output"
on web rm /etc/yum.repos.d/broken.repo
code "without any source it fails" 1 on web trueup converge
has "with what to do" "/etc/yum.repos.d" "$output"
on web mv /root/local.repo /etc/yum.repos.d/

#### Another dnf has the lock
settings 'install: [other]'
on web systemd-run -q --unit other-dnf sh -c 'echo $$$$ >/var/cache/dnf/metadata_lock.pid; exec sleep 5'
wait_for 5 "another dnf holds the lock" on web test -s /var/cache/dnf/metadata_lock.pid
check "a pass waits for it" on web trueup converge
same "and installs the package" 1.0 "$(version other)"

#### dnf is killed in the middle
# killed_pass: a pass in which dnf is killed while the scriptlet of slow 2.0 runs
killed_pass() {
  on web touch /run/hold-scriptlets
  on web rm -f /run/in-scriptlet
  on web systemd-run -q --unit "$1" trueup converge
  wait_for 30 "dnf is in the middle of an $1" on web test -e /run/in-scriptlet
  on web pkill -KILL -f /usr/bin/dnf
  wait_for 30 "the pass ends" on web sh -c '! systemctl is-active "$0"' "$1"
  same "as failed" exit-code "$(shown web "$1" Result)"
  has "with how dnf ended" "was killed by SIGKILL" "$(on web journalctl -u "$1" -o cat)"
  on web rm /run/hold-scriptlets
}
settings 'install: [slow]'
killed_pass installation
check "the next pass succeeds" on web trueup converge
same "with the package" 2.0 "$(version slow)"
code "and then nothing is left to do" 0 on web trueup plan
same "once in the database" 1 "$(on web rpm -q slow | wc -l)"
settings 'pinned: slow' 'pin: "1.0"'
check "the older version is installed" on web trueup converge
settings 'pinned: slow' 'pin: "2.0"'
killed_pass upgrade
same "it left two versions" 2 "$(on web rpm -q slow | wc -l)"
check "the next pass mends it" on web trueup converge
same "with one in the database" slow-2.0-1.noarch "$(on web rpm -q slow)"
code "and then nothing is left to do" 0 on web trueup plan
