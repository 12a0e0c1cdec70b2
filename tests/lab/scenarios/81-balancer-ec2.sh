#!/bin/bash
# 81-balancer-ec2: an elastic IP follows the address of a pair through drains, crashes, cuts and a bad API; app hosts found by EC2 tags
# timeout: 240
# packages: haproxy keepalived
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
vip=$LAB_NET.200
host app1 & host app2 & host app3 & host lb1 & host lb2 & wait

# EC2, with an instance at the address of each host, behind a proxy with faults; and in each balancer the metadata service.
all=(app1 app2 app3 lb1 lb2)
addresses=$(for each in "${all[@]}"; do address "$each"; done | xargs)
TRUEUP_TEST_EC2_BIND=$outer TRUEUP_TEST_EC2_ADDRESSES=$addresses "$tests/ec2-server" start "$SCRATCH/ec2" >"$SCRATCH/ec2.log" 2>&1 ||
  fail "an EC2 server starts" "$(cat "$SCRATCH/ec2.log")"
# shellcheck source=/dev/null
. "$SCRATCH/ec2/env"
eip=$TRUEUP_TEST_EC2_ALLOCATIONS behind=$TRUEUP_TEST_EC2_ENDPOINT
declare -A instances interfaces
n=0
for each in "${all[@]}"; do
  n=$((n + 1))
  instances[$each]=$(cut -d, -f$n <<<"$TRUEUP_TEST_EC2_INSTANCES") interfaces[$each]=$(cut -d, -f$n <<<"$TRUEUP_TEST_EC2_INTERFACES")
done
mkdir "$SCRATCH/api"; : >"$SCRATCH/api/requests"
"$tests/lab/s3-trouble" "$outer" 0 "$behind" "$SCRATCH/api" >"$SCRATCH/api/log" 2>&1 & proxy=$!
trap 'kill $proxy 2>/dev/null ||:; "$tests/ec2-server" stop "$SCRATCH/ec2" ||:' EXIT
wait_for 10 "EC2 listens behind a proxy" test -s "$SCRATCH/api/port"
api=http://$outer:$(cat "$SCRATCH/api/port")
# ec2_fault [WORDS]: what the proxy does from now on; none: it hands on. calls ACTION: how often that was asked since new_calls
ec2_fault() { if [ $# = 0 ]; then rm -f "$SCRATCH/api/trouble"; else echo "$*" >"$SCRATCH/api/new"; mv "$SCRATCH/api/new" "$SCRATCH/api/trouble"; fi; }
new_calls() { : >"$SCRATCH/api/requests"; }
calls() { grep -c "^POST /$1 " "$SCRATCH/api/requests" ||:; }
ec2() { curl -sS --fail-with-body --max-time 20 --aws-sigv4 "aws:amz:$AWS_REGION:ec2" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -d "Action=$1&Version=2016-11-15&$2" "$behind/"; }
has_eip() { [[ "$(ec2 DescribeAddresses "AllocationId.1=$eip")" == *"<networkInterfaceId>${interfaces[$1]}</networkInterfaceId>"* ]]; }
for each in app1 app2 app3; do
  check "$each is an instance with a tag" ec2 CreateTags "ResourceId.1=${instances[$each]}&Tag.1.Key=role&Tag.1.Value=app"
done
cat >"$SCRATCH/metadata.py" <<'END'
import http.server, sys
instance, interface = sys.argv[1:]
mac = "0e:49:61:0f:c3:11"
values = {"instance-id": instance, "placement/region": "eu-west-1", "mac": mac, f"network/interfaces/macs/{mac}/interface-id": interface}
class Metadata(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text):
        self.send_response(status); self.send_header("Content-Length", str(len(text))); self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "600"); self.end_headers()
        self.wfile.write(text.encode())
    def do_PUT(self): self.answer(200, "token")
    def do_GET(self):
        path = self.path.removeprefix("/latest/meta-data/")
        if self.headers.get("x-aws-ec2-metadata-token") != "token": return self.answer(401, "")
        self.answer(200, values[path]) if path in values else self.answer(404, "")
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("169.254.169.254", 80), Metadata).serve_forever()
END
# Not on the host itself, where haproxy has port 80 of all addresses.
give_metadata() {
  on "$1" sh -ec 'ip netns add metadata; ip link add metadata type veth peer name eth0 netns metadata
    ip address add 169.254.169.253/30 dev metadata; ip link set metadata up
    ip -n metadata address add 169.254.169.254/30 dev eth0; ip -n metadata link set eth0 up'
  lab cp "$SCRATCH/metadata.py" "$1:/root/metadata.py"
  on "$1" systemd-run -q --unit metadata ip netns exec metadata python3 /root/metadata.py "${instances[$1]}" "${interfaces[$1]}"
}

# Three app hosts without an agent.
cat >"$SCRATCH/serve.py" <<'END'
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "10"); self.end_headers(); self.wfile.write(b"version 1\n")
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("", 8001), Page).serve_forever()
END
for each in app1 app2 app3; do
  on "$each" systemctl -q mask --now nginx haproxy keepalived
  lab cp "$SCRATCH/serve.py" "$each:/root/serve.py"
  on "$each" systemd-run -q --unit serve python3 /root/serve.py
done
balancer() {
  on "$1" systemctl -q mask --now nginx
  give_keys "$1"
  give_trueup "$1"
  give_metadata "$1"
  write "$1:/etc/trueup/node.yml" 600 <<END
environment: production
roles: [haproxy, keepalived]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
ec2: {endpoint: "$api"}
fleet:
  ec2: {region: eu-west-1, filters: {"tag:role": app}, as: {apps: [shop], ports: {http: 8001}}}
attributes:
  packages: []
  backends:
    shop: {hosts: [_], check: {path: /health}, check_every: 500ms}
  keepalived: {addresses: [$vip/24], elastic_ip: $eip}
END
}
balancer lb1 & first=$!; balancer lb2 & wait $first $!

holders() { for each in lb1 lb2; do [[ "$(on "$each" ip -o address 2>/dev/null)" != *" $vip/"* ]] || echo "$each"; done | xargs; }
held_by() { [ "$(holders)" = "$1" ]; }
state_is() { on "$1" grep -q "\"state\":\"$2\"" /run/trueup/balancer/web.json; }
servers() { on "$1" sed -n 's/^ *server \(i-[0-9a-f]*\) .*/\1/p' /etc/haproxy/haproxy.cfg | sort | xargs; }
said() { on "$1" journalctl -q -o cat SYSLOG_IDENTIFIER=trueup; }
moves=()
begin_move() { rm -f "$SCRATCH/stop"; nice -n 19 "$tests/lab/load" "http://$vip/" 2 "$SCRATCH/stop" >"$SCRATCH/load" & load=$!; sleep 1; moved=$(date +%s.%N); }
# follows HOST SECONDS "cause": the elastic IP is at that host within that time
follows() {
  local took asked failed
  wait_for "$2" "$3: the elastic IP follows" has_eip "$1"
  took=$(python3 -c "print(f'{$(date +%s.%N) - $moved:.1f}')")
  touch "$SCRATCH/stop"; wait "$load"
  read -r _ asked _ failed _ <"$SCRATCH/load"
  moves+=("$(printf '%-44s %7s s %6s of %s' "$3" "$took" "$failed" "$asked")")
}

cat >"$SCRATCH/node.yml" <<END
environment: production
roles: [haproxy]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
fleet:
  ec2: {region: eu-west-1, endpoint: "$api", filters: {"tag:role": app}, as: {apps: [shop], ports: {http: 8001}}}
END
check "a manifest is published" publish "$(printf '%040d' 1)" --create
for each in lb1 lb2 lb1 lb2; do code "$each converges" 0 on "$each" trueup converge; done
same "haproxy has the instances with the tag" "$(printf '%s\n' "${instances[app1]}" "${instances[app2]}" "${instances[app3]}" | sort | xargs)" "$(servers lb1)"
wait_for 10 "the first has the address" held_by lb1
wait_for 10 "and the elastic IP" has_eip lb1
code "the status" 0 on lb1 trueup eip status
printf '%s\n' "$output" | sed 's/^/          /'
has "says so" "this instance has it" "$output"
code "the other sees it, too" 0 on lb2 trueup eip status "$eip"
has "with whose it is" "${interfaces[lb1]}" "$output"
new_calls
code "a claim of what is here changes nothing" 0 on lb1 trueup eip claim "$eip"
same "nothing was sent" 0 "$(calls AssociateAddress)"
code "trueup fleet shows the instances" 0 "$TRUEUP" --config "$SCRATCH/node.yml" fleet
has "as hosts without an agent" "no agent" "$output"

# Moves.
begin_move
code "the balancer is drained" 0 on lb1 trueup balancer drain --reason upgrade
follows lb2 10 "drained"
same "no request failed" 0 "$(awk '{print $4}' <"$SCRATCH/load" | head -n 1)"
code "the drain ends" 0 on lb1 trueup balancer undrain
begin_move
lab kill lb2
follows lb1 15 "host killed"
host lb2; give_metadata lb2
wait_for 15 "it is back as a backup" state_is lb2 backup
check "the elastic IP stays" has_eip lb1

# Both believe to be the master, and both reach EC2.
begin_move; new_calls
adverts() { for each in lb1 lb2; do on "$each" ip xfrm policy "$@"; done; }
adverts add dir in src 0.0.0.0/0 dst 0.0.0.0/0 proto 112 action block
wait_for 10 "adverts are lost: both have the address" held_by "lb1 lb2"
follows lb2 15 "adverts cut"
sleep 5
same "nobody fights for it" 1 "$(calls AssociateAddress)"
begin_move
adverts del dir in src 0.0.0.0/0 dst 0.0.0.0/0 proto 112
one() { [ "$(holders | wc -w)" = 1 ]; }
wait_for 10 "healed, exactly one has the address" one
master=$(holders) other=lb2
[ "$master" = lb1 ] || other=lb1
code "a pass of the master" 0 on "$master" trueup converge
follows "$master" 5 "healed, and a pass"
code "and one of the other" 0 on "$other" trueup converge
check "the elastic IP stays" has_eip "$master"

# The API is slow, throttles, and refuses.
ec2_fault slow 2
begin_move
code "drained while the API is slow" 0 on "$master" trueup balancer drain
follows "$other" 20 "slow API"
code "the drain ends" 0 on "$master" trueup balancer undrain
ec2_fault ec2 503 RequestLimitExceeded
begin_move
code "drained while the API throttles" 0 on "$other" trueup balancer drain
sleep 6
check "the elastic IP is where it was" has_eip "$other"
ec2_fault
follows "$master" 30 "throttled for 6 s"
code "the drain ends" 0 on "$other" trueup balancer undrain
ec2_fault ec2 403 UnauthorizedOperation AssociateAddress
begin_move
code "drained while the API refuses" 0 on "$master" trueup balancer drain
refused() { [[ "$(said "$other")" == *UnauthorizedOperation* ]]; }
wait_for 15 "the journal says so" refused
has "with the permission that is missing" "ec2:AssociateAddress" "$(said "$other" | grep -a -A2 UnauthorizedOperation)"
code "a pass says so, too" 1 on "$other" trueup converge
printf '%s\n' "$output" | sed 's/^/          /'
ec2_fault
code "and the next one claims it" 0 on "$other" trueup converge
follows "$other" 5 "refused, then allowed"
code "the drain ends" 0 on "$master" trueup balancer undrain
ec2_fault ec2 400 ExpiredToken
code "an expired token is an error" 1 on "$other" trueup eip claim "$eip"
has "in words" "expired" "$output"
ec2_fault
code "the next pass finds all well" 0 on "$other" trueup converge
write "$other:/etc/trueup/node.d/region.yml" <<<"ec2: {region: us-west-2}"
code "the wrong region is an error" 1 on "$other" trueup eip claim "$eip"
printf '%s\n' "$output" | sed 's/^/          /'
has "which names the setting" "check ec2.region" "${output//\`}"
on "$other" rm /etc/trueup/node.d/region.yml

# Instances come and go; EC2 is asked again after a minute, or when the cache is gone, as after a reboot.
fresh() { on "$1" rm -f /run/trueup/ec2.json; }
pass() { fresh "$1"; on "$1" trueup converge; }
before=$(servers lb1)
ec2_fault ec2 503 RequestLimitExceeded
code "a pass without EC2 keeps what it has" 0 on lb1 trueup converge
ec2_fault
check "an instance is terminated" ec2 TerminateInstances "InstanceId.1=${instances[app2]}"
code "the next answer" 0 pass lb1
same "lacks it" "$(printf '%s\n' "${instances[app1]}" "${instances[app3]}" | sort | xargs)" "$(servers lb1)"
has "without a reload" "at runtime" "$output"
differs "as before" "$before" "$(servers lb1)"

# A changed keepalived.conf reaches both at once, and one reloads after the other.
for each in lb1 lb2; do write "$each:/etc/trueup/node.d/change.yml" <<<'attributes: {keepalived: {global_lines: [vrrp_garp_master_repeat 2]}}'; done
both=()
for each in lb1 lb2; do
  (for _ in {1..20}; do ! on "$each" env TRIGGER_UNIT=trueup.timer trueup converge >>"$SCRATCH/$each.passes" 2>&1 || exit 0; sleep .2; done; exit 1) & both+=($!)
done
{ wait "${both[0]}" && wait "${both[1]}"; } || fail "both converge" "$(cat "$SCRATCH"/lb?.passes)"
reloads() { on "$1" journalctl -q -u keepalived -o short-unix | sed -n 's/^\([0-9.]*\) .* \(Reloading\|Reloaded\) keepalived.service.*/\1 \2/p' | tail -n 2 | xargs; }
read -r from1 _ to1 _ <<<"$(reloads lb1)"; read -r from2 _ to2 _ <<<"$(reloads lb2)"
check "one after the other: $from1 to $to1, $from2 to $to2" python3 -c "exit(not ($to1 < $from2 or $to2 < $from1))"

# A thousand instances.
check "there are 1,000 more instances" ec2 RunInstances "ImageId=$TRUEUP_TEST_EC2_IMAGE&MinCount=1000&MaxCount=1000&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=role&TagSpecification.1.Tag.1.Value=app" -o /dev/null
new_calls
started=$(date +%s.%N)
code "a pass finds them" 0 pass lb1
echo "  $(wc -w <<<"$(servers lb1)") servers, $(calls DescribeInstances) requests, $(python3 -c "print(f'{$(date +%s.%N) - $started:.1f}')") s for the pass"
same "all are servers of haproxy" 1002 "$(servers lb1 | wc -w)"
new_calls
code "the next pass" 0 on lb1 env TRIGGER_UNIT=trueup.timer trueup converge
same "asks nothing" 0 "$(calls DescribeInstances)"

echo "  moves                                     to follow    failed"
printf '    %s\n' "${moves[@]}"
