#!/bin/bash
# 47-addresses: the address that a host tells its peers is its own on the interface of the default route, in real networks
# timeout: 60
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
give_trueup web
on web sh -c 'mkdir -p /srv/store; echo "production: {}" >/srv/store/sha_number.yml; mkdir -p /etc/trueup'
write web:/etc/trueup/node.yml <<<$'environment: production\nroles: [base]\nstore: {url: "dir:/srv/store"}'
# network COMMANDS   in a network of its own, with eth0 and eth1 and the addresses that the commands of ip give them:
#                    its best address, and those for peers
network() {
  on web unshare --net --mount sh -ec 'mount -t sysfs sysfs /sys
    sysctl -qw net.ipv6.conf.default.accept_dad=0
    ip link set lo up
    for n in 0 1; do ip link add eth$n type veth peer name peer$n; ip link set eth$n up; ip link set peer$n up; done
    printf "%s\n" "$0" | ip -batch -
    trueup facts --json' "$(tr ';' '\n' <<<"$1" | sed 's/^ *//')" |
    python3 -c 'import json, sys; found = json.load(sys.stdin)["facts"]["network"]; print(found["address"], "of", *found["addresses"])'
}

same "without addresses there is none" " of" "$(network 'link set lo up')"
same "the interface of the default route comes first" "10.2.0.7 of 10.2.0.7 10.1.0.7" "$(network '
  address add 10.1.0.7/24 dev eth0; address add 10.2.0.7/24 dev eth1; route add default via 10.2.0.1')"
same "of two default routes, that with the better metric" "10.2.0.7 of 10.2.0.7 10.1.0.7" "$(network '
  address add 10.1.0.7/24 dev eth0; address add 10.2.0.7/24 dev eth1
  route add default via 10.1.0.1 metric 200; route add default via 10.2.0.1 metric 100')"
same "without a route, the kernel's order counts and not the number" "10.1.0.7 of 10.1.0.7 10.0.0.7" "$(network '
  address add 10.1.0.7/24 dev eth0; address add 10.0.0.7/24 dev eth1')"
same "a secondary address comes after the first" "10.1.0.7 of 10.1.0.7 10.1.0.1" "$(network '
  address add 10.1.0.7/24 dev eth0; address add 10.1.0.1/24 dev eth0 label eth0:vip; route add default via 10.1.0.2')"
same "a virtual address (/32), too, even if it was there before" "10.1.0.7 of 10.1.0.7 10.1.0.1" "$(network '
  address add 10.1.0.1/32 dev eth0; address add 10.1.0.7/24 dev eth0; route add default via 10.1.0.2')"
same "but not if it is the only one" "10.1.0.7 of 10.1.0.7" "$(network '
  address add 10.1.0.7/32 dev eth0; route add default dev eth0')"
same "containers have addresses for this host alone" "10.1.0.7 of 10.1.0.7" "$(network '
  link add docker0 type bridge; address add 172.17.0.1/16 dev docker0; link set docker0 up; address add 10.1.0.7/24 dev eth0')"
same "before which IPv6 comes" "2001:db8::7 of 2001:db8::7" "$(network '
  link add docker0 type bridge; address add 172.17.0.1/16 dev docker0; link set docker0 up; address add 2001:db8::7/64 dev eth0')"
same "a bridge with the default route is the host's own" "10.3.0.7 of 10.3.0.7 10.1.0.7" "$(network '
  address add 10.1.0.7/24 dev eth0; link add br0 type bridge; link set eth1 master br0; link set br0 up
  address add 10.3.0.7/24 dev br0; route add default via 10.3.0.1')"
same "IPv4 comes before IPv6, and no link-local address counts" "10.1.0.7 of 10.1.0.7 2001:db8::7" "$(network '
  address add 2001:db8::7/64 dev eth0; address add 169.254.0.7/16 dev eth0; address add 10.1.0.7/24 dev eth1')"
same "a deprecated address is none for peers" "2001:db8::7 of 2001:db8::7" "$(network '
  address add 2001:db8::7/64 dev eth0; address add 2001:db8::1/128 dev eth0 preferred_lft 0; route add ::/0 via fe80::1 dev eth0')"

# In its record it is the same.
check "a pass publishes the record" on web trueup converge
has "with the host's address first" "\"addresses\":[\"$(address web)\"" "$(on web sh -c 'cat /srv/store/nodes/production/*.json' | tr -d ' \n')"
