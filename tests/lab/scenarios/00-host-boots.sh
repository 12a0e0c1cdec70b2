#!/bin/bash
# 00-host-boots: the lab itself: a host boots, serves, installs a package and comes back after a power cut
# timeout: 60
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
same "systemd is running, with no failed unit" running "$(on web systemctl is-system-running)"
has "nginx serves its page to this machine" "Welcome to nginx" "$(curl -sS --max-time 5 "http://$(address web)/")"

give_apt_repo web
check "apt-get update finds only the local repository" on web apt-get -q update
check "apt-get installs the older hello-trueup" on web apt-get -qy install hello-trueup=1.0
same "and it runs" "hello 1.0" "$(on web hello-trueup)"
check "apt-get upgrades it, as a dependency" on web apt-get -qy install hello-trueup-conf
same "and the newer one runs" "hello 2.0" "$(on web hello-trueup)"

boot=$(on web cat /proc/sys/kernel/random/boot_id)
lab kill web
host web
differs "a power cut makes a new boot" "$boot" "$(on web cat /proc/sys/kernel/random/boot_id)"
same "and keeps the disk" "hello 2.0" "$(on web hello-trueup)"

host web2
check "hosts reach each other" on web2 ping -c 1 -W 2 "$(address web)"
lab cut web silent
code "a silent cut loses their frames" 1 on web2 ping -c 1 -W 1 "$(address web)"
lab heal web
wait_for 5 "and a healed cable carries them again" on web2 ping -c 1 -W 1 "$(address web)"
code "they reach nothing else" 2 on web2 ping -c 1 -W 1 192.0.2.1
