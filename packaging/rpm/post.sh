! command -v systemd-tmpfiles >/dev/null || systemd-tmpfiles --create trueup.conf || :
configured() {
    grep -qsE '^[^#[:space:]]' /etc/trueup/node.yml /etc/trueup/node.d/*.yml
}
arm=$(cat /run/trueup/arm 2>/dev/null || :)
rm -f /run/trueup/arm
if [ "$arm" = enable ] && configured && command -v systemctl >/dev/null; then
    systemctl --quiet enable trueup.timer || :
    arm=start
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    [ "$arm" != start ] || systemctl start trueup.timer || :
fi
if [ "$1" -gt 1 ] && configured; then
    output=$(timeout 60 trueup validate 2>&1 </dev/null) || {
        echo "trueup: WARNING: passes of this version will fail until these problems are fixed:"
        printf '%s\n' "$output" | sed 's/^/    /'
    }
fi
configured || echo 'trueup does nothing yet: `sudo trueup init` sets this host up (see `trueup init -h`).'
