#!/bin/bash
# 62-publish-to-last: with the shipped timer, a publish reaches the last of three hosts without pip and a failed request; how fast
# timeout: 300
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/django.sh
. "$(dirname "$0")/../django.sh"

# The seconds in the tables are for people: they depend on the machine, so nothing checks them.
give_git_server
give_s3
make_django_app
versions=(v1 v2 v3 v4)
for version in "${versions[@]}"; do commit "$version" good; done
give_versions
hosts=(app1 app2 app3)
give_timer() {
  local unit
  for unit in trueup.service trueup.timer; do lab cp "$tests/../packaging/systemd/$unit" "$1:/etc/systemd/system/$unit"; done
  on "$1" systemctl daemon-reload
  on "$1" systemctl -q enable --now trueup.timer
}
for each in "${hosts[@]}"; do
  give_django_server "$each" "$dirs" "$assets" "$migrate"
  on "$each" systemctl -q mask --now haproxy
  write "$each:/etc/trueup/node.d/tags.yml" <<<'tags: {tier: front}'
done
give_balancer lb
check "v1 is published" publish "${sha[v1]}" --create
for each in "${hosts[@]}" lb; do give_timer "$each"; done

# gate_of HOST SHA: when it passed its gate there
gate_of() { releases "$1" | awk -v sha="$2" -F'\t' '$1 == sha && $3 {print $3}'; }
passed_everywhere() {
  local each
  for each in "${hosts[@]}"; do [ -n "$(gate_of "$each" "$1" 2>/dev/null)" ] || return 1; done
}
wait_for 200 "the timers bring v1 to three hosts" passed_everywhere "${sha[v1]}"
lists_all() { [ "$(on lb grep -c '^ *server app' /etc/haproxy/haproxy.cfg)" = 3 ]; }
wait_for 60 "the balancer's timer lists them" lists_all
serves() { [[ $(curl -sS --fail --max-time 5 "http://$(address lb)/") == "version v1"* ]]; }
wait_for 10 "and it serves" serves

minus() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.1f", a - b}'; }
# watch HOST VERSION: the time at which its page is first of this version, in a file
watch() {
  until page_has "$1" "version $2"; do sleep .2; done 2>/dev/null
  date +%s.%N >"$SCRATCH/page.$1.$2"
}
table="seconds from the end of the publish
version  host  begins  passed its gate  page"
largest=0
for version in "${versions[@]:1}"; do
  sleep $((RANDOM % 20)).$((RANDOM % 10))
  under_load lb
  check "$version is published" publish "${sha[$version]}"
  published=$(date +%s.%N) watchers=()
  for each in "${hosts[@]}"; do watch "$each" "$version" & watchers+=($!); done
  wait_for 120 "the timers bring it to three hosts" passed_everywhere "${sha[$version]}"
  wait "${watchers[@]}"
  sleep 1
  end_load
  for each in "${hosts[@]}"; do
    IFS=$'\t' read -r _ began passed install why < <(releases "$each" | grep "^${sha[$version]}")
    same "$each ran no pip for it" "skipped inputs equal to ${sha[v1]:0:7}" "$install $why"
    passed=$(minus "$passed" "$published")
    table+=$'\n'$(printf '%-8s %-5s %6s  %15s  %4s' "$version" "$each" "$(minus "$began" "$published")" "$passed" \
      "$(minus "$(cat "$SCRATCH/page.$each.$version")" "$published")")
    largest=$(awk -v a="$largest" -v b="$passed" 'BEGIN {print (a > b) ? a : b}')
  done
done
for each in "${hosts[@]}"; do
  same "$each has one virtual environment" 1 "$(on "$each" sh -c 'ls /srv/www/shop/outputs/install | wc -l')"
  code "and its status is that of a converged host" 0 on "$each" trueup status
done
table+=$'\nthe slowest: '$largest$'\n\nseconds of a deployment, from its first stage to its gate\nhost  v1, with pip  v2, without'
for each in "${hosts[@]}"; do
  table+=$'\n'$(releases "$each" | awk -v host="$each" -v first="${sha[v1]}" -v second="${sha[v2]}" -F'\t' '
    $1 == first {a = $3 - $2} $1 == second {b = $3 - $2} END {printf "%-5s %12.1f  %11.1f", host, a, b}')
done
printf '%s\n' "$table" | sed 's/^/  /'
