#!/bin/bash
# 80-balancer-pair: an address moves between balancers: a crash, a drain, a power cut, a silent cut, a third balancer, several addresses
# timeout: 240
# packages: haproxy keepalived
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
vip=$LAB_NET.200 password=pa55-vip

balancer() {                                             # balancer HOST: one of the pair, before its first pass
  host "$1"
  on "$1" systemctl -q mask --now nginx
  give_keys "$1"
  give_trueup "$1"
  write "$1:/etc/trueup/node.yml" 600 <<END
environment: production
roles: [haproxy, keepalived]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
attributes:
  packages: []
  backends:
    shop: {hosts: [_], tag: tier=front, check: {path: /health}, check_every: 500ms}
  keepalived: {addresses: [$vip/24], password: $password}
END
}
host app & balancer lb1 & balancer lb2 & wait
all=(lb1 lb2)

# The app: two ports of one machine.
cat >"$SCRATCH/serve.py" <<'END'
import http.server, threading
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"version 1\n"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer.request_queue_size = 128
for port in 8001, 8002:
    threading.Thread(target=http.server.ThreadingHTTPServer(("", port), Page).serve_forever).start()
END
on app systemctl -q mask --now nginx haproxy keepalived
lab cp "$SCRATCH/serve.py" app:/root/serve.py
on app systemd-run -q --unit serve python3 /root/serve.py

s3() {
  curl -sS --fail-with-body --max-time 10 -X "$1" --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$3" "$endpoint/$bucket/$2"
}
record() {                                               # record NUMBER: of a host of the app
  cat >"$SCRATCH/record" <<END
{"version": 1, "node": "web$1", "environment": "production", "machine_id": "$(printf '%032x' "$1")", "agent": "0.1.0", "roles": ["web"],
 "tags": {"tier": "front"}, "addresses": ["$(address app)"], "ports": {"http": 800$1},
 "apps": {"shop": {"wanted": "$(printf '%040d' 1)", "actual": "$(printf '%040d' 1)", "state": "serving"}},
 "last_pass": {"at": "2026-11-21T03:00:00Z", "outcome": "converged"}}
END
  s3 PUT "nodes/production/web$1.json" "$SCRATCH/record"
}

# Who has the address now, and who is what for keepalived.
holders() { for each in "${all[@]}"; do [[ "$(on "$each" ip -o address 2>/dev/null)" != *" $vip/"* ]] || echo "$each"; done | xargs; }
held_by() { [ "$(holders)" = "$1" ]; }
state_is() { on "$1" grep -q "\"state\":\"$2\"" /run/trueup/balancer/web.json; }
peers() { on "$1" sed -n '/unicast_peer/,/}/s/^ *\([0-9.]*\)$/\1/p' /etc/keepalived/keepalived.conf | xargs; }
# masters HOST…: how often these became the master
masters() { for each in "$@"; do on "$each" journalctl -q -o cat -u keepalived; done | grep -c 'Entering MASTER' ||:; }
answers() { [[ "$(curl -sS --max-time 2 "http://$vip/")" == *version* ]]; }

# Visitors ask the address. Beside them, a probe measures how long nobody answers.
cat >"$SCRATCH/probe.py" <<'END'
import os, socket, sys, time
address, stop = sys.argv[1], sys.argv[2]
last, gap = time.monotonic(), 0.0
while os.path.isdir(os.path.dirname(stop)) and not os.path.exists(stop):
    try:
        with socket.create_connection((address, 80), timeout=.2) as s:
            s.settimeout(.3)
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if not s.recv(100).startswith(b"HTTP/1"): raise OSError("no answer")
        now = time.monotonic()
        last, gap = now, max(gap, now - last)
    except OSError: pass
    time.sleep(.02)
print(f"{max(gap, time.monotonic() - last):.1f}")
END
moves=()
begin_move() {
  rm -f "$SCRATCH/stop"
  nice -n 19 "$tests/lab/load" "http://$vip/" 2 "$SCRATCH/stop" >"$SCRATCH/load" & load=$!
  python3 "$SCRATCH/probe.py" "$vip" "$SCRATCH/stop" >"$SCRATCH/gap" & probe=$!
  sleep 1
}
# end_move "cause" SECONDS [none]: nobody answers for at most so long; none: and no request fails
end_move() {
  local asked failed gap
  sleep 1
  touch "$SCRATCH/stop"; wait "$load" "$probe"
  gap=$(cat "$SCRATCH/gap"); read -r _ asked _ failed _ <"$SCRATCH/load"
  moves+=("$(printf '%-44s %7s s %6s of %s' "$1" "$gap" "$failed" "$asked")")
  output=$(cat "$SCRATCH/load")
  [ "${3:-}" != none ] || [ "$failed" = 0 ] || fail "$1: no request fails" "$output"
  python3 -c "exit(not $gap <= $2)" || fail "$1: nobody answers for at most $2 s" "$gap s" "$output"
  check "$1: $gap s without an answer, $failed of $asked requests failed" true
}

cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [haproxy]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
END
check "a manifest is published" publish "$(printf '%040d' 1)" --create
record 1; record 2
code "the first balancer converges" 0 on lb1 trueup converge
same "nobody has the address before the others can know of it" "" "$(holders)"
code "it waits" 0 on lb1 trueup balancer status
has "and says so" "fault" "$output"
for each in lb2 lb1 lb2; do code "$each converges" 0 on "$each" trueup converge; done
wait_for 10 "one has the address: the first by name" held_by lb1
on lb1 touch /run/before
code "a pass changes nothing" 0 on lb1 trueup converge
has "it says so" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written lb1 /run/before)"
wait_for 10 "it answers" answers
wait_for 5 "one is the master" state_is lb1 master
wait_for 5 "one is the backup" state_is lb2 backup
code "the status" 0 on lb1 trueup balancer status
printf '%s\n' "$output" | sed 's/^/          /'
has "shows who has the address" "master" "$output"
code "as JSON" 0 on lb2 trueup balancer status --output json
has "the other has not" '"here": false' "$output"
same "adverts go to the other alone" "$(address lb2)" "$(peers lb1)"

# Other users of the host.
on lb1 useradd mallory
as() { local user=$1 group=$2; shift 2; on lb1 setpriv --reuid "$user" --regid "$group" --clear-groups "$@"; }
denied() { ! as mallory mallory "$@" 2>/dev/null; }
connect() { echo "import socket; socket.socket(socket.AF_UNIX).connect('/run/haproxy/$1.sock')"; }
same "the password is root's alone" "root 600" "$(on lb1 stat -c '%U %a' /etc/keepalived/keepalived.conf)"
check "a user cannot read it" denied cat /etc/keepalived/keepalived.conf
same "no output, log or record shows it" "" "$(on lb1 sh -c 'trueup plan; trueup status; trueup history; journalctl -q; grep -rh . /var/lib/trueup /run/trueup' 2>/dev/null | grep -aF "$password" ||:)"
code "he cannot record a state" 64 as mallory mallory trueup balancer state web master
check "nor write it" denied sh -c 'echo >/run/trueup/balancer/web.json'
check "nor remove it" denied rm -f /run/trueup/balancer/web.json
code "nor drain the balancer" 64 as mallory mallory trueup balancer drain
check "nor write its record" denied sh -c 'mkdir -p /var/lib/trueup/balancer && echo >/var/lib/trueup/balancer/drain.json'
check "nor reach the admin socket" denied python3 -c "$(connect admin)"
check "nor that of the check" denied python3 -c "$(connect check)"
checker=(as keepalived_script haproxy_check)
check "the user of the check may ask" "${checker[@]}" trueup balancer check
code "and does not reach the admin socket" 1 "${checker[@]}" python3 -c "$(connect admin)"
output=$("${checker[@]}" python3 -c "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/check.sock')
s.sendall(b'disable frontend web\n'); print(s.recv(999).decode())")
has "and changes nothing" "Permission denied" "$output"
attacked "a local user" "reads the password, records a state, drains the balancer, gives haproxy orders" "all of it is refused"

# haproxy dies for good.
begin_move
on lb1 systemctl -q mask --runtime haproxy
on lb1 systemctl kill --kill-whom all --signal KILL haproxy
wait_for 5 "haproxy is dead: the other has the address" held_by lb2
end_move "haproxy killed for good" 3
code "the status says why" 1 on lb1 trueup balancer status
printf '%s\n' "$output" | sed 's/^/          /'
has "in words" "haproxy does not answer on its socket" "$output"
code "a drain of the only one that works is refused" 1 on lb2 trueup balancer drain
printf '%s\n' "$output" | sed 's/^/          /'
has "with the reason" "no other balancer would take $vip" "$output"
same "nothing was drained" "lb2" "$(holders)"
count=$(masters lb1 lb2)
begin_move
on lb1 systemctl -q unmask --runtime haproxy
on lb1 systemctl start haproxy
wait_for 10 "it is back as a backup" state_is lb1 backup
sleep 4
end_move "haproxy is back" 0.6 none
same "the address stays where it is" "lb2 $count" "$(holders) $(masters lb1 lb2)"

# An operator's drain.
begin_move
code "the balancer is drained" 0 on lb2 trueup balancer drain --reason "a new haproxy"
printf '%s\n' "$output" | sed 's/^/          /'
same "the other has the address" "lb1" "$(holders)"
on lb2 systemctl stop haproxy
sleep 1
on lb2 systemctl start haproxy
end_move "drained, haproxy stopped and started" 1 none
code "drained again, it stays so" 0 on lb2 trueup balancer drain
has "for the first reason" "a new haproxy" "$output"
code "the status shows it" 3 on lb2 trueup balancer status
has "with who and why" "drained by" "$output"
lab kill lb2; host lb2
wait_for 10 "it is drained after a reboot" state_is lb2 fault
code "the drain ends" 0 on lb2 trueup balancer undrain
printf '%s\n' "$output" | sed 's/^/          /'
same "the address stays where it is" "lb1" "$(holders)"
code "a second undrain is no error" 0 on lb2 trueup balancer undrain

# Both at once: nobody would have the address.
code "the backup is drained" 0 on lb2 trueup balancer drain
code "a drain of the other is undone, because nobody takes the address" 124 on lb1 trueup balancer drain --timeout 4s
printf '%s\n' "$output" | sed 's/^/          /'
wait_for 10 "it has the address again" held_by lb1
code "the backup is no longer drained" 0 on lb2 trueup balancer undrain

# The power plug.
begin_move
lab kill lb1
wait_for 6 "the host is dead: the other has the address" held_by lb2
end_move "host killed" 4
count=$(masters lb2)
begin_move
host lb1
wait_for 15 "it is back as a backup" state_is lb1 backup
sleep 4
end_move "the host is back" 0.6 none
same "the address stays where it is" "lb2 $count" "$(holders) $(masters lb2)"

# A cut that nobody notices.
begin_move
lab cut lb2 silent
wait_for 8 "a silent cut: both have the address" held_by "lb1 lb2"
end_move "network of the master silently cut" 4.5
begin_move
lab heal lb2
one() { [ "$(holders | wc -w)" = 1 ]; }
wait_for 8 "healed, exactly one has it" one
sleep 3
check "and keeps it" one
end_move "network healed" 1.5

# A third balancer.
begin_move
before=$(holders)
balancer lb3
all=(lb1 lb2 lb3)
code "a third balancer converges" 0 on lb3 trueup converge
for each in lb1 lb2 lb3; do code "$each converges" 0 on "$each" trueup converge; done
sleep 5
end_move "a third balancer joins" 0.6 none
same "the address stays where it is" "$before" "$(holders)"
wait_for 5 "the third is a backup" state_is lb3 backup
same "the others speak to it" "$(address lb2) $(address lb3)" "$(peers lb1)"

# Several addresses: each of IPv4 begins at another balancer, and one is of IPv6.
second=$LAB_NET.201 six=fd77::c8
for n in 1 2 3; do
  on "lb$n" ip address add "fd77::$n/64" dev eth0 nodad
  on "lb$n" sed -i "s|^  keepalived: .*|  ipv6: true\n  keepalived: {password: $password, nonlocal_bind: true, instances: {a: {addresses: [$vip/24]}, b: {addresses: [$second/24]}, six: {addresses: [\"$six/64\"]}}}|" /etc/trueup/node.yml
done
for _ in 1 2; do for each in "${all[@]}"; do code "$each converges" 0 on "$each" trueup converge; done; done
has_address() { [[ "$(on "$1" ip -o address)" == *" $2/"* ]]; }
wait_for 10 "the first has the first address" has_address lb1 "$vip"
wait_for 10 "the second has the second" has_address lb2 "$second"
wait_for 10 "the first has that of IPv6" has_address lb1 "$six"
for each in ipv4 ipv6; do
  same "the kernel allows $each addresses of others" 1 "$(on lb3 cat "/proc/sys/net/$each/ip_nonlocal_bind")"
  has "after a reboot, too" "net.$each.ip_nonlocal_bind = 1" "$(on lb3 cat "/etc/sysctl.d/99-trueup-net.$each.ip_nonlocal_bind.conf")"
done
code "another pass changes nothing" 0 on lb3 trueup converge
has "it says so" "0 changes" "$output"
check "which answers" on lb3 curl -sS --fail --max-time 2 -o /dev/null "http://[$six]/"
code "the status" 0 on lb1 trueup balancer status
printf '%s\n' "$output" | sed 's/^/          /'

# A file that keepalived refuses.
write lb1:/etc/trueup/node.d/bad.yml <<<'attributes: {keepalived: {lines: ["virtual_router_id 999"]}}'
before=$(on lb1 md5sum /etc/keepalived/keepalived.conf)
code "keepalived refuses a file" 1 on lb1 trueup converge
printf '%s\n' "$output" | sed 's/^/          /'
same "it does not replace the one before" "$before" "$(on lb1 md5sum /etc/keepalived/keepalived.conf)"
[[ $output != *"$password"* ]] || fail "the password was shown" "$output"
on lb1 rm /etc/trueup/node.d/bad.yml
code "the next pass is as before" 0 on lb1 trueup converge

echo "  moves                                       no answer    failed"
printf '    %s\n' "${moves[@]}"
