#!/bin/bash
# 37-haproxy-runtime: hosts join and leave a running haproxy without a reload; drains, sockets, kills, a crash and a reboot
# timeout: 300
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
host app & host app2 & give_balancer lb & wait

# Hosts of the app: ports of two machines. Each answers with its name, also on WebSockets.
cat >"$SCRATCH/serve.py" <<'END'
import base64, hashlib, http.server, struct, threading
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        name = f"web{self.server.server_address[1] - 8000}"
        if self.headers.get("Upgrade"):
            return self.echo(name)
        body = f"version {name}\n".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def echo(self, name):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()); self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8: return
            mask = self.rfile.read(4)
            text = bytes(b ^ mask[n % 4] for n, b in enumerate(self.rfile.read(head[1] & 127)))
            answer = name.encode() + b" " + text
            self.wfile.write(struct.pack("BB", 0x81, len(answer)) + answer)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.daemon_threads = True
for port in range(8001, 8010):
    threading.Thread(target=http.server.ThreadingHTTPServer(("", port), Page).serve_forever).start()
END
cat >"$SCRATCH/admin.py" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect("/run/haproxy/admin.sock"); s.sendall(" ".join(sys.argv[1:]).encode() + b"\n")
while data := s.recv(65536): sys.stdout.write(data.decode())
END
for each in app app2; do
  on "$each" systemctl -q mask --now nginx haproxy
  lab cp "$SCRATCH/serve.py" "$each:/root/serve.py"
  on "$each" systemd-run -q --unit serve python3 /root/serve.py
done
lab cp "$SCRATCH/admin.py" lb:/root/admin.py
admin() { on lb python3 /root/admin.py "$@"; }           # what an operator says over the socket

s3() {
  curl -sS --fail-with-body --max-time 10 -X "$1" --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$3" "$endpoint/$bucket/$2"
}
# record NUMBER [ADDRESS [PORT [TIER [APP]]]]: the record of a host
record() {
  cat >"$SCRATCH/record" <<END
{"version": 1, "node": "web$1", "environment": "production", "machine_id": "$(printf '%032x' "$1")", "agent": "0.1.0", "roles": ["web"],
 "tags": {"tier": "${4:-front}"}, "addresses": ["${2:-$(address app)}"], "ports": {"http": ${3:-800$1}},
 "apps": {"${5:-shop}": {"wanted": "$(printf '%040d' 1)", "actual": "$(printf '%040d' 1)", "state": "serving"}},
 "last_pass": {"at": "2026-11-21T03:00:00Z", "outcome": "converged"}}
END
  s3 PUT "nodes/production/web$1.json" "$SCRATCH/record"
}
leave() { record "$1" "$app" "800$1" out; }
servers() { admin show servers state | awk 'NR > 2 && NF {printf "%s/%s %s:%s%s\n", $2, $4, $5, $19, $7 == 0 ? "" : " admin " $7}' | sort; }
# shellcheck disable=SC2016  # awk's
in_file() { on lb awk '$1 == "backend" {b = $2} $1 == "server" {print b "/" $2, $3}' /etc/haproxy/haproxy.cfg | sort; }
equal() { same "haproxy has the servers of its file" "$(in_file)" "$(servers)"; check "haproxy accepts its file" on lb haproxy -c -q -f /etc/haproxy/haproxy.cfg; }
worker() { admin show info | sed -n 's/^Pid: //p'; }
reloads() { on lb journalctl -q -o cat -u haproxy | grep -c '^Reloading' ||:; }
served_by() { curl -sS --max-time 5 "http://$(address lb)/?[1-12]" | sed -n 's/^version //p' | sort -u | tr '\n' ' '; }
all_serve() { [ "$(served_by)" = "$1" ]; }
converged() { code "$1" 0 on lb trueup converge; }        # converged "words": a pass, with its output
at_runtime() { has "without a reload" "updated service:haproxy at runtime: $1 (because of shop/config)" "$output"; }
unchanged() { same "the same process serves" "$pid" "$(worker)"; same "nothing was reloaded" "$before" "$(reloads)"; }
remember() { pid=$(worker) before=$(reloads); }
open_sockets() {                                         # open_sockets NUMBER
  rm -f "$SCRATCH/close" "$SCRATCH/met"
  "$tests/lab/sockets" "http://$(address lb)/socket" "$1" "$SCRATCH/close" "$SCRATCH/met" >"$SCRATCH/sockets" & clients=$!
}
end_sockets() {                                          # end_sockets OPENED
  touch "$SCRATCH/close"; wait "$clients"
  output=$(cat "$SCRATCH/sockets")
  echo "  $output"
  has "sockets were opened $1 times, and none was cut off" "opened $1 " "$output"
  has "so says the client" " closed 0 failed 0" "$output"
}
met() { [ "$(cut -d' ' -f2 "$SCRATCH/met" 2>/dev/null | sort -u | tr '\n' ' ')" = "$1" ]; }

app=$(address app) app2=$(address app2)
cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [haproxy]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
END
check "a manifest is published" publish "$(printf '%040d' 1)" --create
write lb:/etc/trueup/node.d/fleet.yml <<<'fleet: {max_shrink: 100}'
record 1; record 2
check "the balancer converges" on lb trueup converge
wait_for 10 "visitors are served by both hosts" all_serve "web1 web2 "
equal
same "its state file is root's alone" "root 600" "$(on lb stat -c '%U %a' /etc/haproxy/servers.state)"

remember
open_sockets 2
wait_for 10 "a WebSocket through each" met "web1 web2 "
record 3
code "a plan shows the host that comes" 2 on lb trueup plan
has "by name and address" "+    server web3 $app:8003" "$output"
converged "the host joins"
at_runtime "+shop/web3"
has "the summary counts it" "1 change, 1 updated at runtime," "$output"
equal; unchanged
wait_for 10 "visitors are served by it too" all_serve "web1 web2 web3 "
check "it is checked" on lb sh -c "python3 /root/admin.py show servers state | awk '\$4 == \"web3\" {exit \$14 != 6}'"
on lb touch /run/before
converged "a second pass changes nothing"
has "it says so" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written lb /run/before)"

leave 3
converged "the host leaves"
at_runtime "-shop/web3"
gone() { on lb trueup converge >/dev/null 2>&1 && [ "$(servers)" = "$(in_file)" ]; }
wait_for 20 "once it has no connections, haproxy does not have it any more" gone
equal; unchanged
record 2 "$app2"
converged "a host has another address"
at_runtime "shop/web2 at $app2:8002"
equal; unchanged

# A host with open WebSockets leaves, comes back, and leaves again.
leave 2
converged "a host with an open WebSocket leaves"
at_runtime "-shop/web2"
same "it stays, in maintenance" "shop/web1 $app:8001
shop/web2 $app2:8002 admin 1" "$(servers)"
wait_for 5 "visitors are served by the other" all_serve "web1 "
converged "a pass leaves it alone"
has "it changes nothing" "0 changes" "$output"
record 2 "$app"
converged "it comes back at another address before its sockets are closed"
at_runtime "shop/web2 at $app:8002, +shop/web2"
equal; unchanged
wait_for 10 "visitors are served by it again" all_serve "web1 web2 "
leave 2
converged "it leaves again"
record 4
converged "another host joins meanwhile"
at_runtime "+shop/web4"
same "the one that left is still there" "shop/web2 $app:8002 admin 1" "$(servers | grep web2)"
end_sockets 2
wait_for 20 "once its sockets are closed, a pass deletes it" gone
equal; unchanged

# An operator's drain.
admin set server shop/web4 state drain >/dev/null
record 2
open_sockets 1
wait_for 10 "a WebSocket is open" test -s "$SCRATCH/met"
remember
converged "a host joins while an operator has drained another"
at_runtime "+shop/web2"
drained() { same "$1" "shop/web4 $app:8004 admin 8" "$(servers | grep web4)"; }
drained "it stays drained"
unchanged
write lb:/etc/trueup/node.d/timeouts.yml <<<'attributes: {client_timeout: 50s}'
converged "another change"
has "is a reload" "reloaded service:haproxy (because of shop/config)" "$output"
differs "another process serves" "$pid" "$(worker)"
drained "after the reload it is drained"
on lb systemctl reload haproxy
drained "after an operator's reload it is drained"
on lb systemctl restart haproxy
drained "after a restart it is drained"
on lb systemctl kill --kill-whom main --signal KILL haproxy
listens() { worker >/dev/null; }
wait_for 20 "haproxy has crashed and is there again" listens
drained "after a crash it is drained"
record 4 "$app" 8005
converged "it has another address after the crash"
at_runtime "shop/web4 at $app:8005"
same "the address of the file wins over that of the state file" "shop/web4 $app:8005 admin 8" "$(servers | grep web4)"
on lb systemctl reload haproxy
same "after a reload as well" "shop/web4 $app:8005 admin 8" "$(servers | grep web4)"
admin set server shop/web4 state ready >/dev/null
converged "the operator has made it ready"
on lb systemctl reload haproxy
same "it is ready after a reload" "shop/web4 $app:8005" "$(servers | grep web4)"
touch "$SCRATCH/close"; wait "$clients" ||:

# What only a reload can do.
write lb:/etc/trueup/node.d/docs.yml <<<'attributes: {backends: {docs: {hosts: [docs.example.com], balance: source, check: null}}}'
record 6 "$app" 8006 front docs
converged "a backend with a static balance"
remember
record 7 "$app" 8007 front docs
converged "a host joins it"
has "with a reload" "reloaded service:haproxy (because of shop/config)" "$output"
same "exactly one" $((before + 1)) "$(reloads)"
equal
admin "add server shop/hand $app:8009" >/dev/null
remember
record 3
converged "a host joins although somebody has added a server by hand"
has "with a reload" "reloaded service:haproxy (because of shop/config)" "$output"
same "exactly one" $((before + 1)) "$(reloads)"
equal
write lb:/etc/trueup/node.d/options.yml <<<'attributes: {backends: {shop: {server_options: "weight 5"}}}'
remember
converged "other options of servers"
has "are a reload" "reloaded service:haproxy (because of shop/config)" "$output"
record 5
remember
converged "the next host joins without one"
at_runtime "+shop/web5"
has "with the options of the backend" " 5 5 " "$(admin show servers state | grep ' web5 ')"
equal; unchanged

# 100 joins and leaves.
open_sockets 4
wait_for 10 "WebSockets are open" test -s "$SCRATCH/met"
remember
under_load lb
began=$SECONDS
for n in {1..100}; do
  record 9
  output=$(on lb trueup converge 2>&1) || fail "join $n" "$output"
  [[ $output == *"at runtime: +shop/web9"* ]] || fail "join $n is at runtime" "$output"
  leave 9
  output=$(on lb trueup converge 2>&1) || fail "leave $n" "$output"
  [[ $output == *"at runtime: -shop/web9"* ]] || fail "leave $n is at runtime" "$output"
done
echo "          100 joins and leaves: $((SECONDS - began)) s"
unchanged
end_load
end_sockets 4
wait_for 20 "no server is left of them" gone
equal

# trueup is killed after each of its commands. Between it and haproxy is a program that counts them, as root.
cat >"$SCRATCH/kill.py" <<'END'
import os, signal, socket, struct, sys
path, inner, left = "/run/haproxy/admin.sock", "/run/haproxy/inner.sock", int(sys.argv[1])
os.rename(path, inner)
server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen(16)
open("/root/kill.ready", "w")
while True:
    client, _ = server.accept()
    pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    command = client.makefile("rb").readline()
    haproxy = socket.socket(socket.AF_UNIX); haproxy.connect(inner); haproxy.sendall(command)
    answer = b"".join(iter(lambda: haproxy.recv(65536), b""))
    left -= 1
    if left == 0:
        os.kill(pid, signal.SIGKILL)
        open("/root/kill.after", "wb").write(command)
        os.rename(inner, path)
        break
    client.sendall(answer)
    client.close()
END
lab cp "$SCRATCH/kill.py" lb:/root/kill.py
ready() { on lb test -e /root/kill.ready; }
record 7; record 8
converged "two hosts join"
open_sockets 4
wait_for 10 "WebSockets are open" test -s "$SCRATCH/met"
remember
for n in {1..40}; do
  on lb rm -f /root/kill.ready /root/kill.after
  on lb systemd-run -q --unit "kill-$n" python3 /root/kill.py "$n"
  until ready; do sleep .05; done
  case $((n % 2)) in
    0) record 9; leave 7; record 8;;
    1) leave 9; record 7; record 8 "$app2";;
  esac
  code=0; output=$(on lb trueup converge 2>&1) || code=$?
  [ $code != 0 ] || break
  after=$(on lb cat /root/kill.after)
  echo "          killed after $n: $after"
  if [ $((n % 4)) = 3 ]; then                            # an operator does not wait for the next pass
    on lb systemctl reload haproxy
    [ "$(servers)" = "$(in_file)" ] || fail "a reload after kill $n leads to the servers of the file" "$(in_file)" "$(servers)"
    before=$((before + 1))
    output=$(on lb trueup converge 2>&1) || fail "the pass after a reload after kill $n" "$output"
    [[ $output != *reloaded* ]] || before=$((before + 1))
  else
    output=$(on lb trueup converge 2>&1) || fail "the pass after kill $n" "$output"
  fi
  gone || gone || { sleep 2; gone; } || { sleep 5; gone; } || fail "after kill $n haproxy has the servers of its file" "$(in_file)" "$(servers)"
done
on lb systemctl stop "kill-$n" 2>/dev/null ||:
on lb sh -c 'mv /run/haproxy/inner.sock /run/haproxy/admin.sock'
[ "$n" -gt 8 ] || fail "it was killed after each command" "$n: $output"
same "trueup itself reloaded nothing after $((n - 1)) kills" "$before" "$(reloads)"
end_sockets 4
wait_for 20 "all is as in the file" gone
equal

# Another user puts a socket of his own there.
on lb sh -c 'mv /run/haproxy/admin.sock /run/haproxy/inner.sock
  printf "%s\n" "import socket" "s = socket.socket(socket.AF_UNIX); s.bind(\"/run/haproxy/admin.sock\"); s.listen()" \
    "c, _ = s.accept(); open(\"/run/haproxy/got\", \"wb\").write(b\"connected \" + c.recv(99))" "while True: s.accept()[0].close()" >/root/fake.py
  chmod 644 /root/fake.py; chmod 711 /root
  systemd-run -q --unit fake --uid haproxy --gid haproxy python3 /root/fake.py'
fake() { on lb test -S /run/haproxy/admin.sock; }
wait_for 5 "somebody who is not root listens on the socket" fake
leave 8
before=$(reloads)
converged "a host leaves meanwhile"
has "with a reload" "reloaded service:haproxy (because of shop/config)" "$output"
has "and the reason" "expected root" "$output"
same "exactly one" $((before + 1)) "$(reloads)"
same "he was told nothing" "connected " "$(on lb cat /run/haproxy/got)"
on lb systemctl stop fake
attacked "user haproxy" "listens on haproxy's admin socket" "he is told nothing, and haproxy is reloaded"
on lb systemctl restart haproxy
equal

admin set server shop/web1 state maint >/dev/null
converged "an operator takes a host out"
lab kill lb; host lb
wait_for 20 "the balancer has rebooted" listens
same "it has the servers of its file, and that host is out" "$(in_file | sed '/web1 /s/$/ admin 1/')" "$(servers)"
converged "and it is converged"
has "without a change" "0 changes" "$output"
record 9
remember
converged "after a reboot a host joins"
at_runtime "+shop/web9"
same "the host that is out stays out" "$(in_file | sed '/web1 /s/$/ admin 1/')" "$(servers)"
unchanged
