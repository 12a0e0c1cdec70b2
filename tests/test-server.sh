# What the servers for the tests share; sourced by tests/s3-server and tests/ec2-server.
#
# Environment: TRUEUP_TEST_TOOLS     where to install them (default target/test-tools)
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${TRUEUP_TEST_TOOLS:-$here/target/test-tools}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 64
}

# install_server NAME VERSION PACKAGE...   into its own virtual environment, from PyPI
# One installation at a time; the version is written last, so that half of one is never taken.
install_server() {
    local venv=$tools/$1 version=$2
    mkdir -p "$tools"
    exec 9>"$tools/$1.lock"
    flock 9
    if [ "$(cat "$venv/version" 2>/dev/null)" != "$version" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "${@:3}"
        echo "$version" >"$venv/version"
    fi
    exec 9>&-
}

# free_port ADDRESS
free_port() {
    python3 - "$1" <<'PY'
import socket, sys
s = socket.socket()
s.bind((sys.argv[1], 0))
print(s.getsockname()[1])
PY
}

# stop_server DIR PROGRAM   end exactly the process that start left in DIR/pid
stop_server() {
    local dir=$1 pid
    [ -f "$dir/pid" ] || return 0
    pid=$(cat "$dir/pid")
    # The number may have gone to another process since: only ever end our own.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$2"; then
        kill "$pid"
        for _ in $(seq 50); do
            [ -e "/proc/$pid" ] || break
            sleep 0.1
        done
        [ ! -e "/proc/$pid" ] || kill -9 "$pid"
    fi
    rm -f "$dir/pid" "$dir/env"
}

# main ACTION DIR   start or stop, as the script's first comment says
main() {
    [ $# -eq 2 ] || usage
    case $1 in
    start)
        mkdir -p "$2"
        if [ -f "$2/pid" ]; then
            echo "$2/pid exists: stop that server first" >&2
            exit 1
        fi
        start "$(cd "$2" && pwd)"
        ;;
    stop) stop "$2" ;;
    *) usage ;;
    esac
}
