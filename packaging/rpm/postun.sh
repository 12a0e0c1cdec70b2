# The apps stay, with their releases, units and sites. rpm has no purge: /etc/trueup and /var/lib/trueup stay as well.
if [ "$1" = 0 ]; then
    rm -rf /run/trueup /run/motd.d/trueup
    # rpm removes the files of the package, but not the folders that it created for them.
    find /usr/share/trueup /usr/share/doc/trueup /usr/share/licenses/trueup /etc/trueup -depth -type d -empty -delete 2>/dev/null || :
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :
