# $1: how many of this package there will be; 0 is a removal. A pass that is running is waited for, not killed.
[ "$1" = 0 ] || exit 0
if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now trueup.timer || :
    if ! grep -qs /trueup.service /proc/self/cgroup && [ -e /run/trueup/private/lock ] && command -v flock >/dev/null; then
        flock --timeout 900 /run/trueup/private/lock true || :
        # One that has only just begun does not have the lock yet.
        for _ in $(seq 900); do
            [ "$(systemctl is-active trueup.service)" = activating ] || break
            sleep 1
        done
    fi
elif command -v systemctl >/dev/null; then
    systemctl --quiet disable trueup.timer || :
fi
# What monitoring would go on reading, where the settings say that it is; rpm puts them aside after this.
sed -n 's/^[^#]*textfile:[[:space:]]*["'\'']\{0,1\}\(\/[^"'\'' ,}#]*\).*/\1/p' /etc/trueup/node.yml /etc/trueup/node.d/*.yml 2>/dev/null |
    while read -r folder; do rm -f "$folder/trueup.prom"; done
