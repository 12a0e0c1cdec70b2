# shellcheck shell=bash disable=SC2034,SC2154
# A Django app with workers and a cron job, made by django-admin from its wheels: source this after versions.sh, whose `commit`
# and give_versions it serves. Needs give_s3 before.
#
#   make_django_app                  its work tree, for versions
#   give_django_server HOST LINE…    a host for it; the lines are settings of the app, such as $dirs, $assets and $migrate
#   describe_django HOST LINE…       the same settings again, with other lines

mapfile -t django_wheels <"$tests/fixtures/django-app/requirements.txt"
clone=$SCRATCH/clone

# In the folder of the app: what startproject and makemigrations write is in no repository of ours.
django() {
  (cd "$clone" && SECRET_KEY=none PYTHONPATH=$SCRATCH/django PYTHONDONTWRITEBYTECODE=1 "$@") >"$SCRATCH/django.log" 2>&1 ||
    fail "$*" "$(cat "$SCRATCH/django.log")"
}
manage() { DJANGO_SETTINGS_MODULE=shop.production django python3 manage.py "$@"; }
make_django_app() {
  local wheel
  fetch_wheels "${django_wheels[@]}"
  for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$SCRATCH/django"; done
  mkdir "$clone"
  django python3 -m django startproject shop .
  cp -R "$tests/fixtures/django-app/." "$clone"
  manage makemigrations jobs
  git -C "$clone" -c init.defaultBranch=main init -q
  git -C "$clone" config user.name Ana
  git -C "$clone" config user.email ana@shop.invalid
  git -C "$clone" add -A
  git -C "$clone" commit -qm "Open the shop"
}


# The settings of the app, with more lines.
django_attributes() {
  cat <<END
packages: [nginx-light, python3, python3-venv]
python_apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 8000
    app_module: shop.wsgi
    workers: 2
    env: {DJANGO_SETTINGS_MODULE: shop.production, PIP_NO_INDEX: "1", PIP_FIND_LINKS: /srv/wheels}
    secrets: {SECRET_KEY: $CANARY}
    health: {url: "http://127.0.0.1:8000/health", body: ok, times: 1, timeout: 3s}
    gate_timeout: 20s
    preflight: {timeout: 10s}
END
  printf '    %s\n' "$@"
}
give_django_server() {
  give_server "$1" python < <(django_attributes "${@:2}")
  give_wheels "$1" "${django_wheels[@]}"
}
describe_django() {
  { sed '/^  packages:/,$d' "$SCRATCH/node.yml"; django_attributes "${@:2}" | sed 's/^/  /'; } | write "$1:/etc/trueup/node.yml"
}
dirs='linked_dirs: [log, data]'
assets='assets: {run: ".venv/bin/python manage.py collectstatic --noinput", path: public/static}'
# Each host has a database of its own.
migrate='migrate: {run: ".venv/bin/python manage.py migrate --noinput", once: host}'

# What is bad in a Django app, over the kinds of versions.sh.
at_boot() { sed -i "/^import os/a $1" shop/wsgi.py; }
health() { sed -i "s|return text(\"ok\")|$1|" jobs/views.py; }
pass_code() { case $1 in dependency|settings|urls|migration) echo 1;; *) echo 4;; esac; }
make_crash() { at_boot 'raise RuntimeError("this version does not boot")'; }
words[crash]="this version does not boot"
make_late() { at_boot 'import time; time.sleep(2); os._exit(3)'; }
words[late]="before it answered"
make_error() { health 'return text("sick", 500)'; }
words[error]="answered 500 instead of 200"
make_hang() { health 'import time; time.sleep(60)'; }
words[hang]="not healthy within 10 s"
make_dependency() { echo 'no-such-package==1' >>requirements.txt; }
words[dependency]="step \`install\`"
make_settings() { echo 'raise RuntimeError("these settings are wrong")' >>shop/production.py; }
words[settings]="step \`assets\`"
make_urls() { echo 'import no_such_module' >>jobs/views.py; }
words[urls]="step \`migrate\`"
make_migration() { printf 'raise RuntimeError("this migration is wrong")\n' >jobs/migrations/0002_wrong.py; }
words[migration]="step \`migrate\`"
make_worker() {
  sed -i 's/self.note("start")/raise RuntimeError("this worker does not boot")/' jobs/management/commands/worker.py
}
words[worker]="this worker does not boot"
# Good, with another column or another requirement.
make_column() { sed -i 's/^    runs = .*/&\n    note = models.TextField(null=True)/' jobs/models.py; manage makemigrations jobs; }
make_requirement() { echo 'sqlparse' >>requirements.txt; }

# releases HOST: a line for each release in the host's record: its version, when its first stage began and its gate ended, in
# seconds since 1970, and how its step `install` ended
releases() {
  on "$1" python3 -c '
import datetime, json
def seconds(stage):
    return datetime.datetime.fromisoformat(stage["began"][:26].rstrip("Z") + "+00:00").timestamp()
for release in json.load(open("/var/lib/trueup/releases/shop.json"))["releases"]:
    stages = {stage.get("step") or stage["stage"]: stage for stage in release["stages"]}
    gate, install = stages.get("gate"), stages.get("install", {})
    ended = seconds(gate) + gate["took_ms"] / 1000 if gate else 0
    print(release["sha"], seconds(release["stages"][0]), ended, install.get("ended"), install.get("why", ""), sep="\t")'
}
