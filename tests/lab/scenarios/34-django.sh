#!/bin/bash
# 34-django: a Django app with workers and a cron job: deploys, bad versions, other descriptions of what failed; no request fails
# timeout: 420
# long timeout: 1500
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/django.sh
. "$(dirname "$0")/../django.sh"

give_git_server
give_s3
make_django_app
for version in v1 v2 four five six seven eight; do commit "$version" good; done
commit v3 column
commit nine requirement
commit broken crash
commit sick error
commit no-worker worker
# shellcheck disable=SC2034  # commit_many takes them
bad=(dependency worker settings migration hang)
[ -z "${LONG:-}" ] || commit_many 50
give_versions
jobs=('processes: {worker: {command: .venv/bin/python manage.py worker, count: 2}}'
  'cron: {report: {schedule: "*-*-* *:*:0/5", run: .venv/bin/python manage.py report}}')
give_django_server web "$dirs" "$assets" "$migrate" "${jobs[@]}"

# order N: so many jobs; done_once: all that were ordered were done, and none twice
order() { local n; for ((n = 0; n < $1; n++)); do page web /order >/dev/null; done; }
done_once() { [ "$(page_line web waiting)" = 0 ] && [ "$(page_line web runs)" = "$(page_line web orders)" ]; }
reported() { on web grep -q "^report $1 " /srv/www/shop/shared/log/reports; }
deploy() {                                               # deploy VERSION
  check "$1 is published" publish "${sha[$1]}"
  check "the host converges" on web trueup converge
  page_has web "version $1" || fail "visitors get $1" "$(page web)"
}
environments() { on web sh -c 'ls /srv/www/shop/outputs/install | wc -l'; }

check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
has "nginx serves the compiled assets" navy "$(page web /static/jobs/app.css)"
order 5
wait_for 10 "the workers do what visitors ordered" done_once
wait_for 10 "a cron job runs in the release" reported v1
on web touch /run/before
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"

under_load web
order 200
check "v2 is published, while jobs wait" publish "${sha[v2]}"
check "the host converges" on web trueup converge
page_has web "version v2" || fail "visitors get v2" "$(page web)"
wait_for 30 "every job was done once" done_once
same "each worker was started once for each version" "1 v1 1 v2 2 v1 2 v2 " \
  "$(on web sed -n 's/^start //p' /srv/www/shop/shared/log/workers | sort | tr '\n' ' ')"
wait_for 10 "the next run of the cron job is one of the new release" reported v2
same "with the virtual environment of v1" "skipped inputs equal to ${sha[v1]:0:7}" \
  "$(releases web | awk -v sha="${sha[v2]}" -F'\t' '$1 == sha {print $4, $5}')"
releases web | awk -v a="${sha[v1]}" -F'\t' '
  {printf "  %s took %.1f s from its first stage to its gate\n", $1 == a ? "v1, with pip," : "v2, without, ", $3 - $2}'
deploy v3
code "back to v2, which does not know the new column" 0 publish "${sha[v2]}"
code "the plan builds nothing" 2 on web trueup plan
has "v2 is an existing release" "${sha[v2]:0:7})" "$output"
check "the host converges" on web trueup converge
page_has web "version v2" || fail "visitors get v2" "$(page web)"
order 5
wait_for 10 "its workers do what visitors ordered" done_once
end_load

bad_versions_are_refused web v2 "$preflight"
under_load web
check "a version whose workers do not boot is published" publish "${sha[no-worker]}"
code "it is taken back" 4 on web trueup converge
has "because of that" "${words[worker]}" "$output"
page_has web "version v1" || fail "visitors get v1" "$(page web)"
order 5
wait_for 10 "the workers of v1 do what visitors ordered" done_once

# described_wrongly VERSION CODE WORDS LINE…: a version fails because of how the app is described; visitors get the one before
described_wrongly() {
  local before
  before=$(page_line web version)
  check "$1 is published" publish "${sha[$1]}"
  describe_django web "${@:4}" "${jobs[@]}"
  code "it fails" "$2" on web trueup converge
  has "with the reason" "$3" "$output"
  page_has web "version $before" || fail "visitors get $before" "$(page web)"
}
described_well() {                                       # described_well VERSION LINE…
  describe_django web "${@:2}" "${jobs[@]}"
  check "with another description the next pass deploys $1" on web trueup converge
  page_has web "version $1" || fail "visitors get $1" "$(page web)"
}
needs_media=$(sed 's/run: "/&test -L media \&\& /' <<<"$assets")
described_wrongly four 1 "step \`assets\`" "$dirs" "$needs_media" "$migrate"
described_well four 'linked_dirs: [log, data, media]' "$needs_media" "$migrate"
same "a shared folder is added" /srv/www/shop/shared/media "$(on web readlink -f /srv/www/shop/current/media)"
dirs='linked_dirs: [log, data, media]'
described_wrongly five 1 "step \`assets\`" "$dirs" 'assets: {run: exit 3, path: public/static}' "$migrate"
described_well five "$dirs" "$assets" "$migrate"
has "a step is redefined" navy "$(page web /static/jobs/app.css)"
described_wrongly six 1 "step \`assets\`" "$dirs" "$assets" "$migrate" "files: {options.json: {content: '{\"currency\": '}}"
described_well six "$dirs" "$assets" "$migrate" "files: {options.json: {content: '{\"currency\": \"EUR\"}'}}"
same "a rendered file is corrected" EUR "$(page_line web currency)"
described_wrongly seven 1 "step \`migrate\`" "$dirs" "$assets" 'migrate: {run: exit 4, once: host}'
release() { on web sh -c "cd /srv/www/shop/releases && ls -d *-${sha[$1]:0:7}"; }
before=$(release seven)
described_well seven "$dirs" "$assets" "$migrate"
same "a migration is redefined, and the built release goes on" "$before" "$(release seven)"
described_wrongly eight 4 "$preflight" "$dirs" "$assets" "$migrate" 'server_args: --no-such-option'
code "the sha is quarantined" 4 on web trueup converge
describe_django web "$dirs" "$assets" "$migrate" "${jobs[@]}"
check "an operator corrects the arguments and lifts the quarantine" on web trueup converge --lift-quarantine "wrong arguments"
page_has web "version eight" || fail "visitors get eight" "$(page web)"
same "so far pip ran once" 1 "$(environments)"
write web:/etc/trueup/node.d/wheels.yml <<<'attributes: {python_apps: {shop: {env: {PIP_FIND_LINKS: /srv/nowhere}}}}'
described_wrongly nine 1 "step \`install\`" "$dirs" "$assets" "$migrate"
on web rm /etc/trueup/node.d/wheels.yml
described_well nine "$dirs" "$assets" "$migrate"
same "new requirements have a virtual environment of their own" 2 "$(environments)"
end_load
wait_for 10 "every job was done once" done_once

[ -n "${LONG:-}" ] || exit 0
deploy_many 50
order 5
wait_for 30 "every job was done once" done_once
