#!/bin/bash
# 63-name-services: accounts of a name service are left alone and may own files, and one that hangs costs seconds and no account
# timeout: 90
# packages: libnss-extrausers
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
give_trueup web
on web sh -c 'mkdir -p /srv/store /etc/trueup/roles /var/lib/extrausers
  sed -i "s/^\(passwd\|group\):.*/\1: files extrausers/" /etc/nsswitch.conf
  echo "ana:x:7001:7001:Ana of the directory:/home/ana:/bin/bash" >/var/lib/extrausers/passwd
  printf "%s\n" staff-eu:x:7001: editors:x:7005:ana >/var/lib/extrausers/group
  echo "ana:*:20000::::::" >/var/lib/extrausers/shadow'
write web:/srv/store/sha_number.yml <<<'production: {}'
# settings MANAGE
settings() { printf 'environment: production\nroles: [people]\nstore: {url: "dir:/srv/store"}\nattributes: {manage: %s}\n' "$1" | write web:/etc/trueup/node.yml; }
write web:/etc/trueup/roles/people.yml <<'ROLE'
description: People.
parameters: {manage: null}
resources:
  - group: {name: staff-eu, manage: "{{ manage }}"}
  - user: {name: ana, group: staff-eu, home: /srv/ana, shell: /bin/sh, manage: "{{ manage }}"}
  - user: {name: bob, home: /home/bob, shell: /bin/sh}
  - command: {user: ana, run: "id -G >/tmp/groups-of-ana", creates: /tmp/groups-of-ana, cwd: /tmp}
  - file: {path: /srv/of-ana, content: "hers\n", owner: ana, group: staff-eu}
ROLE
settings null
# Counts the questions.
write web:/usr/local/bin/getent 755 <<<$'#!/bin/sh\necho "$@" >>/run/asked; [ ! -e /run/hang ] || sleep 300; exec /usr/bin/getent "$@"'
same "the name service knows her" "ana:x:7001:7001:Ana of the directory:/home/ana:/bin/bash" "$(on web getent passwd ana)"

on web cp /etc/passwd /root/before
code "a pass converges the host" 0 on web trueup converge
has "and says that it leaves her account alone" "user:ana: \`ana\` is in no file of this host" "$output"
has "and the group" "group:staff-eu: \`staff-eu\` is in no file" "$output"
same "only bob is new" bob "$(on web sh -c 'diff /root/before /etc/passwd | sed -n "s/^> //p" | cut -d: -f1')"
same "her file is hers" "7001 7001" "$(on web stat -c '%u %g' /srv/of-ana)"
same "a command as her has her groups" "7001 7005" "$(on web cat /tmp/groups-of-ana)"
on web rm /run/asked
code "a second pass changes nothing" 0 on web trueup converge
same "and asks once for each name that the host itself does not have" "group staff-eu passwd ana" "$(on web sh -c 'sort /run/asked | xargs')"

#### The name service hangs
on web touch /run/hang
SECONDS=0
code "a pass ends as failed while it hangs" 1 on web trueup converge
has "with the reason" "do not answer" "$output"
[ $SECONDS -lt 60 ] || fail "it ends soon" "$SECONDS s"
code "she has no account here" 1 on web grep -q ^ana: /etc/passwd
on web rm /run/hang
check "the next pass succeeds" on web trueup converge

#### The host's own account
settings local
check "manage: local gives the host accounts of its own" on web trueup converge
has "as the role describes them" ":/srv/ana:/bin/sh" "$(on web grep ^ana: /etc/passwd)"
check "with the group" on web grep -q ^staff-eu: /etc/group
code "and then nothing is left to do" 0 on web trueup plan
