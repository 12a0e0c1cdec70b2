#!/bin/bash
# 75-attack-store: a user with write access to the store: manifest bombs, the last generation, a flood of records, metadata addresses
# timeout: 400
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
declare -A sha
while read -r name value; do sha[$name]=$value; done < <("$tests/fixtures/make-repo" "$SCRATCH/shop.git" node-app)
who="store writer"

# put KEY FILE: an upload by any S3 client            put_all FOLDER PREFIX: many at a time
put() {
  curl -sS --fail-with-body --max-time 20 --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$2" "$endpoint/$bucket/$1"
}
get() { curl -sS --fail --max-time 20 --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$endpoint/$bucket/$1"; }
put_all() {
  "${TRUEUP_TEST_TOOLS:-$tests/../target/test-tools}/ministack/bin/python" - "$endpoint" "$bucket" "$AWS_REGION" "$1" "$2" "$3" <<'END'
import sys
from concurrent.futures import ThreadPoolExecutor
import botocore.session
endpoint, bucket, region, kind, first, count = sys.argv[1:]
s3 = botocore.session.get_session().create_client("s3", region_name=region, endpoint_url=endpoint)
def one(n):
    body = b"x" * 16384 if kind == "evil" else (kind % {"n": n, "a": n // 250, "b": n % 250 + 1}).encode()
    name = "evil" if kind == "evil" else "peer"
    s3.put_object(Bucket=bucket, Key=f"nodes/production/{name}{n}.json", Body=body)
with ThreadPoolExecutor(16) as pool:
    list(pool.map(one, range(int(first), int(first) + int(count))))
END
}
settings() {                                             # settings ROLE [LINES…] <attributes
  echo "environment: production"
  echo "roles: [$1]"
  echo "store: {url: \"s3://$bucket\", region: $AWS_REGION, endpoint: \"$endpoint\", path_style: true}"
  printf '%s\n' "${@:2}" "attributes:"; cat
}
give() {                                                 # give HOST ROLE [LINES…] <attributes
  local attributes name=$1; attributes=$(cat); shift
  host "$name"
  on "$name" systemctl -q mask --now "$([ "$1" = haproxy ] && echo nginx || echo haproxy)"
  give_keys "$name"
  lab cp "$SCRATCH/shop.git" "$name:/srv/shop.git"
  give_trueup "$name"
  settings "$@" <<<"$attributes" | write "$name:/etc/trueup/node.yml"
}
lists() { on lb sed -n 's/^ *server \([a-z0-9]*\) .*/\1/p' /etc/haproxy/haproxy.cfg | xargs; }
# peak HOST CODE: a pass ends with CODE; $peak is its peak memory in MiB, and $output its output
peak() {
  # What the kernel counted for the pass alone.
  output=$(on "$1" sh -c 'python3 - <<"END"
import resource, subprocess
ran = subprocess.run(["trueup", "converge"], capture_output=True, text=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, ran.returncode)
print(ran.stdout + ran.stderr)
END')
  read -r peak ended <<<"$output"
  [ "$ended" = "$2" ] || fail "a pass ends with $2" "$output"
}
within() { [ "$peak" -lt "$2" ] || fail "$1" "$peak MiB"; _passed "$1 ($peak MiB)"; }

give app1 web "tags: {tier: front}" "fleet: {heartbeat: 2s, gone_after: 1h}" <<'END' &
  packages: []
  web_apps:
    shop:
      repo: /srv/shop.git
      command: node server.js $fd
      port: 4000
      socket: true
      health: {url: "http://127.0.0.1:4000/health", times: 1}
      gate_timeout: 20s
END
give lb haproxy "fleet: {heartbeat: 2s, gone_after: 1h}" <<'END' &
  packages: []
  backends:
    shop:
      hosts: [shop.example.com, _]
      tag: tier=front
      check: {path: /health}
      check_every: 500ms
END
wait
settings web <<<'  {}' >"$SCRATCH/node.yml"
check "v1 is published" publish "${sha[v1]}" --create
check "the app host converges" on app1 trueup converge
check "the balancer converges" on lb trueup converge
same "it lists the app host" app1 "$(lists)"
wait_for 10 "visitors get v1" page_has lb "version v1"
get sha_number.yml >"$SCRATCH/good.yml"

#### Manifests that cost more than a pass may
good=$(sed -n '/^production/,$p' "$SCRATCH/good.yml")
bomb() { { echo "generation: 2"; echo "$good"; cat; } >"$SCRATCH/bomb.yml"; put sha_number.yml "$SCRATCH/bomb.yml"; }
python3 -c 'print("x:", "".join(f"&a{n} [" for n in range(50)) + "x," * 190000 + "]" * 50)' | bomb
peak app1 78
within "anchors inside of anchors cost a pass little" 200
has "the pass names what it refuses" "its anchors name more than" "$output"
page_has lb "version v1" || fail "visitors still get v1"
attacked "$who" "400 KB of anchors inside of anchors as the manifest" "refused with 78 at $peak MiB; the last good one stays"

python3 -c 'print("x: &a", "x" * 1000000); print("y: [" + "*a," * 3000 + "]")' | bomb
peak app1 78
within "a long text with three thousand aliases costs little" 200
has "the pass names what it refuses" "expand to more than" "$output"
attacked "$who" "1 MB of text behind 3,000 aliases" "refused with 78 at $peak MiB"

python3 -c "print('other:'); print('\n'.join(f'  app{n}: ${sha[v1]}' for n in range(60000)))" | bomb
peak app1 0
within "sixty thousand apps of another environment cost a pass little" 200
attacked "$who" "60,000 apps of another environment" "taken at $peak MiB, each pass ends at once"

#### The last generation there is
sed 's/^    generation: .*/    generation: 18446744073709551615/' "$SCRATCH/good.yml" >"$SCRATCH/last.yml"
put sha_number.yml "$SCRATCH/last.yml"
for each in app1 lb; do
  code "$each refuses the last generation" 78 on "$each" trueup converge
  has "$each shows the remedy" "--above-fleet" "$output"
done
code "publish refuses it as well" 78 publish "${sha[v2]}"
has "the remedy is shown" "--above-fleet" "$output"
check "publish --above-fleet sets it past what the hosts have acted on" publish "${sha[v2]}" --above-fleet
has "and takes no leap" "generation: 2" "$(get sha_number.yml)"
check "the app host follows" on app1 trueup converge
check "and the balancer" on lb trueup converge
wait_for 10 "visitors get v2" page_has lb "version v2"
attacked "$who" "generation 2^64-1" "refused with 78; publish --above-fleet heals all hosts from outside"

#### Records that draw visitors to a place that is none
template='{"version": 1, "node": "evil1", "environment": "production", "tags": {"tier": "front"}, "addresses": ["ADDRESS"], "ports": {"http": 80},
  "apps": {"shop": {"wanted": null, "actual": null, "state": "serving"}}, "last_pass": {"at": "2026-11-21T03:00:00Z", "outcome": "converged"}}'
for each in fd00:ec2::254 100.100.100.200 169.254.169.254 64:ff9b::169.254.169.254 2002:7f00:1:: 240.0.0.1 ::ffff:127.0.0.1; do
  echo "${template/ADDRESS/$each}" >"$SCRATCH/evil.json"
  put nodes/production/evil1.json "$SCRATCH/evil.json"
  output=$(on lb trueup converge 2>&1 ||:)
  has "a record with $each is reported" "is not a valid host address" "$output"
  same "and not listed" app1 "$(lists)"
done
attacked "$who" "a record with the address of a metadata service, loopback, or nobody" "refused and reported; the list stays"

#### Records without end
template=${template/evil1/peer%(n)d} template=${template/ADDRESS/10.200.%(a)d.%(b)d}
put_all "${template/\"tier\": \"front\"/}" 0 500
peak lb 0
within "five hundred hosts of another kind cost the balancer little" 150
same "and it lists the app host" app1 "$(lists)"
# As many as make 64 MiB: thirty thousand small ones take the test server longer to list than a pass waits.
put_all evil 0 4200
peak lb 5
within "the largest records there may be, too many of them, cost it less" 100
has "they are refused" "holds more than 64 MiB of records" "$output"
same "and the last good list stays" app1 "$(lists)"
page_has lb "version v2" || fail "visitors still get v2"
attacked "$who" "4,200 node records of 16 KiB" "refused unread at $peak MiB, the last good list stays, stale (5)"
