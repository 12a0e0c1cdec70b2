#!/bin/bash
# 32-python-systemd: an ASGI app under uvicorn and systemd: no request fails over a deploy
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server flask-app
give_s3
give_server web python <<END
packages: [nginx-light, python3, python3-venv]
python_apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 8000
    app_module: "asgi:app"
    server: uvicorn
    manager: systemd
    workers: 2
    env: {PIP_NO_INDEX: "1", PIP_FIND_LINKS: /srv/wheels}
END
give_wheels web flask==3.1.3 gunicorn==27.0.1 uvicorn==0.54.0

check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1 through nginx" page_has web "version v1"
on web touch /run/before
unit=$(shown web app-shop InvocationID)
code "a second pass converges" 0 on web trueup converge
has "and reports no change" "0 changes" "$output"
same "it wrote nothing outside its own records" "" "$(written web /run/before)"
same "uvicorn was not restarted" "$unit" "$(shown web app-shop InvocationID)"

under_load web
check "v2 is published" publish "${sha[v2]}"
check "the host converges" on web trueup converge
has "a visitor gets v2" "version v2" "$(page web)"
end_load
same "uvicorn was started twice in all" 2 "$(starts web app-shop)"
same "and not by systemd after a crash" 0 "$(shown web app-shop NRestarts)"
same "every process of it is in the new release" 1 "$(on web sh -c 'for pid in $(cat /sys/fs/cgroup/system.slice/app-shop.service/cgroup.procs)
  do readlink /proc/$pid/cwd; done | sort -u | wc -l')"
