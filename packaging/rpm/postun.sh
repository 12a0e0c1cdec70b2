# Apps stay, with their releases, units and sites. rpm knows no purge: /etc/trueup and /var/lib/trueup stay as well.
if [ "$1" = 0 ]; then
    rm -rf /run/trueup /run/motd.d/trueup
    # rpm knows our files, not the folders that it made for them.
    find /usr/share/trueup /usr/share/doc/trueup /usr/share/licenses/trueup /etc/trueup -depth -type d -empty -delete 2>/dev/null || :
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :
