#!/bin/bash
# 22-reload-proven: a reload counts once the program uses its new configuration; a broken file is found before one is due
# timeout: 240
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_s3
host web
give_keys web
give_trueup web
on web systemctl -q disable --now nginx haproxy
settings() { # settings ROLE ATTRIBUTES
  write web:/etc/trueup/node.yml <<END
environment: production
roles: [$1]
store: {url: "s3://$bucket", region: $AWS_REGION, endpoint: "$endpoint", path_style: true}
attributes: $2
END
}
on web mkdir -p /etc/trueup/roles
write web:/etc/trueup/roles/site.yml <<'END'
parameters: {port: 8001}
schema: {port: {type: port}}
checks: {nginx: [nginx, -t]}
resources:
  - file: {id: site, path: /etc/nginx/sites-enabled/site, content: "server { listen {{ port }}; return 200 v{{ port }}; }\n", check: nginx}
  - service: {name: nginx, running: true, reload_on: [site]}
END
answers() { on web curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/" ||:; }
balancer() { settings haproxy "{packages: [], http_port: $1, backends: {shop: {}}}"; }
holder() { # holder PORT: another program listens there
  on web systemd-run -q --unit "holder-$1" python3 -m http.server --bind 0.0.0.0 "$1"
  wait_for 10 "another program listens on port $1" on web curl -sS -o /dev/null "http://127.0.0.1:$1/"
}
free() { on web systemctl stop "holder-$1"; }
reloads() { on web journalctl -q -o cat -u "$1" | grep -c '^Reloading' ||:; }

on web rm -f /etc/nginx/sites-enabled/default
settings site '{}'
check "a manifest is published" on web trueup publish production "shop=$(printf '%040d' 1)" --create
settings site '{port: 8001}'
check "nginx serves its site" on web trueup converge
same "on port 8001" 200 "$(answers 8001)"
holder 8002
settings site '{port: 8002}'
code "a reload that nginx cannot do fails" 1 on web trueup converge
has "named as such" "reload of nginx failed: it started no new worker process" "$output"
has "with nginx's own words" "bind() to 0.0.0.0:8002 failed" "$output"
same "nginx goes on with its old configuration" 200 "$(answers 8001)"
code "the next pass knows that the reload is owed" 1 on web trueup converge
has "and tries it again" "reload of nginx failed" "$output"
code "status says so within one command" 1 on web trueup status
has "with the cause" "bind() to 0.0.0.0:8002 failed" "$output"
echo "$output" | sed 's/^/          /'
free 8002
check "once the port is free, the next pass reloads it" on web trueup converge
same "and nginx serves on the new port" 200 "$(answers 8002)"
code "then nothing is owed" 0 on web trueup converge
has "the pass is quiet" "0 changes" "$output"

holder 8004
settings site '{port: 8004}'
on web systemd-run -q --unit killed trueup converge
wait_for 10 "a pass waits for new workers" on web sh -c 'grep -q "bind() to 0.0.0.0:8004 failed" /var/log/nginx/error.log'
on web systemctl kill --signal KILL killed
free 8004
settings site '{port: 8004}'
check "the pass after one that was killed in a reload" on web trueup converge
same "reloads again" 200 "$(answers 8004)"

on web sed -i 's/running: true, reload_on/running: true, proves: {listens: [8999]}, reload_on/' /etc/trueup/roles/site.yml
settings site '{port: 8005}'
before=$(reloads nginx)
code "a service that does not listen where it should fails after its reload" 1 on web trueup converge
has "with the port" "nginx does not listen on port 8999" "$output"
same "it was reloaded" $((before + 1)) "$(reloads nginx)"
for again in one two; do code "pass $again after that fails as well" 1 on web trueup converge; done
same "and reloads nothing" $((before + 1)) "$(reloads nginx)"
on web sed -i 's/ proves: {listens: .8999.},//' /etc/trueup/roles/site.yml
settings site '{port: 8004}'
check "without the wrong port all is well" on web trueup converge

check_runs() { on web sh -c 'cat /root/checks 2>/dev/null | wc -l'; }
on web sh -c 'printf "%s\n" "#!/bin/sh" "echo run >>/root/checks" "exec nginx -t" >/usr/local/sbin/count-nginx-t; chmod 755 /usr/local/sbin/count-nginx-t'
on web sed -i 's/checks: .*/checks: {nginx: {run: [count-nginx-t], covers: [\/etc\/nginx\/conf.d]}}/' /etc/trueup/roles/site.yml
check "a check of all that nginx reads runs once" on web trueup converge
check "not in a pass after which nothing changed" on web trueup converge
same "there was one run" 1 "$(check_runs)"
on web sh -c 'echo "server { lisen 8009; }" >/etc/nginx/conf.d/hand.conf'
code "a file that nobody manages breaks nginx's next reload: the pass says so" 1 on web trueup converge
has "with the file and line" 'unknown directive "lisen" in /etc/nginx/conf.d/hand.conf:1' "$output"
code "status says so" 1 on web trueup status
has "in its first lines" 'why: service:nginx: the check `nginx` fails: ' "$(head -n 2 <<<"$output")"
has "with the file and line" 'unknown directive "lisen" in /etc/nginx/conf.d/hand.conf:1' "$(head -n 2 <<<"$output")"
code "so does a plan" 1 on web trueup plan
has "with the file" '/etc/nginx/conf.d/hand.conf:1' "$output"
same "nginx serves as before" 200 "$(answers 8004)"
on web rm /etc/nginx/conf.d/hand.conf
check "without the file all is well again" on web trueup converge
ran=$(check_runs)
check "and quiet" on web trueup converge
same "without another run" "$ran" "$(check_runs)"

on web systemctl stop nginx
balancer 8011
check "haproxy serves" on web trueup converge
same "on port 8011, where no backend is ready" 503 "$(answers 8011)"
code "a user who may not see who listens gets no failure from it" 0 on web setpriv --reuid 65534 --regid 65534 --clear-groups trueup status
holder 8012
balancer 8012
code "a reload that haproxy cannot do fails" 1 on web trueup converge
has "named as such" "reload of haproxy failed: it started no new worker process" "$output"
has "with haproxy's own words" "cannot bind socket (Address already in use) for [0.0.0.0:8012]" "$output"
echo "$output" | sed 's/^/          /'
same "haproxy goes on with its old configuration" 503 "$(answers 8011)"
code "the next pass fails too" 1 on web trueup converge
code "doctor does not call it converged" 1 on web trueup doctor
has "it names what is owed" "still owed: reload of service:haproxy" "$output"
has "and the cause" "cannot bind socket (Address already in use)" "$output"
free 8012
check "once the port is free, the next pass reloads it" on web trueup converge
same "and haproxy serves there" 503 "$(answers 8012)"

before=$(reloads haproxy)
on web sh -c 'sed s/:8012/:8013/ /etc/haproxy/haproxy.cfg >/root/other.cfg; echo CONFIG=/root/other.cfg >>/etc/default/haproxy'
on web systemctl restart haproxy
code "a service that does not listen where it should is no converged one" 1 on web trueup converge
has "whoever started it" "haproxy does not listen on port 8012" "$output"
same "trueup reloaded nothing" "$before" "$(reloads haproxy)"
on web sed -i '/^CONFIG=/d' /etc/default/haproxy
on web systemctl restart haproxy
check "an operator's restart mends it" on web trueup converge
