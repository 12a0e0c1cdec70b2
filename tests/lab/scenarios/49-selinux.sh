#!/bin/bash
# 49-selinux: a replaced file keeps its SELinux label, and new ones get theirs from restorecon, run by who owns the folder
# timeout: 60
# packages: attr
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# This kernel has no SELinux: a label is an attribute like any other, and restorecon one of ours, which writes down what it
# is to label and as whom. What the policy says to that is not shown here.
host web
give_trueup web
write web:/usr/local/sbin/restorecon 755 <<'RESTORECON'
#!/bin/sh
[ "$1" = -- ] && shift
for path; do echo "$(id -un) $path" >>/run/labelled; done
RESTORECON
on web sh -c 'mkdir -p /srv/store /etc/trueup/roles; : >/run/labelled; chmod 666 /run/labelled; echo old >/etc/old.conf
  setfattr -n security.selinux -v system_u:object_r:httpd_config_t:s0 /etc/old.conf'
write web:/srv/store/sha_number.yml <<<'production: {}'
write web:/etc/trueup/node.yml <<<$'environment: production\nroles: [files]\nstore: {url: "dir:/srv/store"}'
write web:/etc/trueup/roles/files.yml <<'ROLE'
description: Files.
resources:
  - user: {name: ana, home: /home/ana, shell: /bin/sh}
  - directory: {path: /home/ana, owner: ana}
  - directory: {path: /srv/www/shop, parents: true}
  - file: {path: /etc/old.conf, content: "new\n"}
  - file: {path: /etc/new.conf, content: "new\n"}
  - symlink: {path: /etc/link.conf, to: new.conf}
  - authorized_keys: {user: ana, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ana@desk"]}
ROLE
# With the folder that tells programs that SELinux is on.
converge() {
  on web unshare --mount sh -c 'mount -t tmpfs tmpfs /sys/fs; mkdir /sys/fs/selinux; echo 0 >/sys/fs/selinux/enforce; exec trueup converge'
}
check "a pass converges the host" converge
same "the replaced file has its new content" new "$(on web cat /etc/old.conf)"
same "and its label" system_u:object_r:httpd_config_t:s0 "$(on web getfattr --absolute-names --only-values -n security.selinux /etc/old.conf)"
same "what is new was labelled, outer folders first, and in the home of a user by that user" \
  "root /home/ana root /srv/www root /srv/www/shop root /etc/new.conf root /etc/link.conf ana /home/ana/.ssh ana /home/ana/.ssh/authorized_keys" \
  "$(on web cat /run/labelled | xargs)"
on web sh -c ': >/run/labelled'
check "a second pass succeeds" converge
same "and labels nothing" "" "$(on web cat /run/labelled)"
on web rm /usr/local/sbin/restorecon /etc/new.conf
check "without restorecon a pass succeeds, too" converge
on web rm /etc/new.conf
check "and without SELinux" on web trueup converge
