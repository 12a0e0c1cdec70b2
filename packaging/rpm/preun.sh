# $1: the number of installed versions afterwards; 0 is a removal, which waits for a running pass instead of killing it.
[ "$1" = 0 ] || exit 0
if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now trueup.timer || :
    if ! grep -qs /trueup.service /proc/self/cgroup && [ -e /run/trueup/private/lock ] && command -v flock >/dev/null; then
        flock --timeout 900 /run/trueup/private/lock true || :
        # A pass that has just started does not hold the lock yet.
        for _ in $(seq 900); do
            [ "$(systemctl is-active trueup.service)" = activating ] || break
            sleep 1
        done
    fi
elif command -v systemctl >/dev/null; then
    systemctl --quiet disable trueup.timer || :
fi
# Monitoring would continue to read these metrics. Here and not in postun, because rpm renames changed settings before that.
sed -n 's/^[^#]*textfile:[[:space:]]*["'\'']\{0,1\}\(\/[^"'\'' ,}#]*\).*/\1/p' /etc/trueup/node.yml /etc/trueup/node.d/*.yml 2>/dev/null |
    while read -r folder; do rm -f "$folder/trueup.prom"; done
