#!/bin/bash
# 39-haproxy-turns: two balancers reload haproxy one after the other; a reload that fails on one keeps the other from it
# timeout: 150
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
host app & give_balancer lb1 & give_balancer lb2 & wait
cat >"$SCRATCH/serve.py" <<'END'
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "10"); self.end_headers(); self.wfile.write(b"version 1\n")
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8001), Page).serve_forever()
END
on app systemctl -q mask --now nginx haproxy
lab cp "$SCRATCH/serve.py" app:/root/serve.py
on app systemd-run -q --unit serve python3 /root/serve.py

s3() {
  curl -sS --fail-with-body --max-time 10 -X "$1" --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$3" "$endpoint/$bucket/$2"
}
cat >"$SCRATCH/record" <<END
{"version": 1, "node": "app", "environment": "production", "machine_id": "$(printf '%032x' 7)", "agent": "0.1.0", "roles": ["web"],
 "tags": {"tier": "front"}, "addresses": ["$(address app)"], "ports": {"http": 8001},
 "apps": {"shop": {"wanted": "$(printf '%040d' 1)", "actual": "$(printf '%040d' 1)", "state": "serving"}},
 "last_pass": {"at": "2026-11-21T03:00:00Z", "outcome": "converged"}}
END
s3 PUT nodes/production/app.json "$SCRATCH/record"
echo 'production: {}' >"$SCRATCH/manifest"
s3 PUT sha_number.yml "$SCRATCH/manifest"

setting() { local each; for each in lb1 lb2; do write "$each:/etc/trueup/node.d/change.yml" <<<"attributes: {$1}"; done; }
pass() { on "$1" env TRIGGER_UNIT=trueup.timer trueup converge; }
both() {                                                 # passes of both at once, again and again, until both are right
  local each passes=()
  for each in lb1 lb2; do
    (for _ in {1..20}; do ! pass "$each" >>"$SCRATCH/$each.passes" 2>&1 || exit 0; sleep .2; done; exit 1) & passes+=($!)
  done
  wait "${passes[0]}" && wait "${passes[1]}"
}
# The times of a host's reloads in microseconds, from beginning to end.
reloads() { on "$1" journalctl -q -u haproxy -o json --output-fields MESSAGE | python3 -c '
import json, sys
begun = None
for line in sys.stdin:
    entry = json.loads(line)
    message, at = entry["MESSAGE"], entry["__REALTIME_TIMESTAMP"]
    if message.startswith("Reloading "): begun = at
    if message.startswith("Reloaded ") and begun: print(begun, at); begun = None'; }
on lb1 cat /etc/trueup/node.yml >"$SCRATCH/node.yml"
rollout() { "$TRUEUP" --config "$SCRATCH/node.yml" rollout "$1" production _haproxy "${@:2}"; }
serves() { has "$1 serves" "version 1" "$(curl -sS --max-time 5 "http://$(address "$1")/")"; }

for each in lb1 lb2; do check "$each converges" on "$each" trueup converge; done
serves lb1; serves lb2
under_load lb1 lb2

both_reloads() { { reloads lb1; reloads lb2; } | sort -n; }
before=$(both_reloads | wc -l)
for seconds in 51 52 53 54; do
  setting "client_timeout: ${seconds}s"
  check "a change reaches both at once" both
done
both_reloads | tail -n "+$((before + 1))" >"$SCRATCH/reloads"
same "each reloaded four times" 8 "$(wc -l <"$SCRATCH/reloads")"
same "no two reloads at a time" "" "$(awk '$1 < last {print "at " $1 ", before " last} {last = $2}' "$SCRATCH/reloads")"
code "nobody has the slot" 0 rollout status
has "and the status says so" "no host restarts or reloads haproxy" "$output"

# haproxy -c accepts this, and the new process ends at once for want of file descriptors.
setting "max_connections: 2000000000"
code "the reload fails on the first" 1 pass lb1
has "with what haproxy says, not with its requests" "global maxconn" "$output"
code "the other one waits" 2 pass lb2
has "for the first" "waits for a slot: lb1 has slot 0 of _haproxy" "$output"
code "which the status shows" 2 rollout status
has "with its name" "lb1 restarts or reloads haproxy" "$output"
serves lb1; serves lb2
code "breaking the slot of a host that lives is refused" 64 rollout break-slot 0 --reason "it hangs"
setting "client_timeout: 55s"
check "the mended change reaches both" both
code "and nobody has the slot" 0 rollout status

end_load

# A balancer that dies in its turn.
setting "max_connections: 2000000000"
code "the reload fails on the first" 1 pass lb1
lab kill lb1
write lb2:/etc/trueup/node.d/change.yml <<<"attributes: {client_timeout: 56s}"
code "the other one waits" 2 pass lb2
check "an operator breaks the slot" rollout break-slot 0 --reason "its disk died" --yes
check "the other one goes" pass lb2
code "the status has the act" 0 rollout status
has "with the reason" "its disk died" "$output"
serves lb2
