#!/bin/bash
# 50-quiet: on a converged host an hour of ticks writes and restarts nothing, a tick is one request, 1,000 leave nothing behind
# timeout: 360
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_s3_trouble                                          # it counts the requests
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"
# A tick as the timer makes it: systemd starts the unit, and waits for its end.
shipped=$tests/../packaging/systemd/trueup.service
if [ -e "$shipped" ]; then lab cp "$shipped" web:/etc/systemd/system/trueup.service; else
  write web:/etc/systemd/system/trueup.service <<'END'
[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=/usr/bin/trueup converge
END
fi
# The timer would not make this many in so short a time.
write web:/etc/systemd/system/trueup.service.d/often.conf <<'END'
[Unit]
StartLimitIntervalSec=0
END
on web systemctl daemon-reload                           # which makes systemd forget that nginx was reloaded
check "whatever it prepares for the next release is done" on web trueup converge
ticks() { on web sh -c "for n in \$(seq $1); do systemctl start trueup || exit 1; done"; }

# Resources that could leak: files that pid 1, the bus and the journal keep open, units, processes, files in memory and on disk.
left() {
  on web sh -ec 'for name in systemd dbus-daemon systemd-journal; do
      pid=$(pgrep -o -x $name); echo "files that $name has open: $(ls /proc/$pid/fd | wc -l)"; done
    echo "units: $(systemctl list-units --all --no-legend | wc -l)"
    echo "names on the bus: $(busctl list --no-legend | grep -vc busctl)"
    set -- /proc/[0-9]*; echo "processes: $#"
    echo "files: $(find /run /tmp /dev/shm /var/tmp /var/lib/trueup /var/log /srv /etc -not -path "/run/systemd/*" | wc -l)"'
}
resident() { on web awk '/^VmRSS/ {print $2}' /proc/1/status; }
journal() { on web journalctl -q -o cat -u trueup | wc -c; }
left=$(left) pid1=$(resident) journal_before=$(journal)

#### Writes and restarts
# The host's disk is a folder of this machine. Whatever is written, made, renamed or removed on it, even for an instant,
# changes the ctime of a file or folder there, which nobody can set back. /run and /dev are memory.
touched() { find "$(disk web)" -cnewer "$SCRATCH/before" -printf '/%P\n' | grep -v '^/var/log/journal\(/\|$\)' ||:; }
units() {
  on web systemctl show '*' --type=service,socket --property=Id,InvocationID,NRestarts,ActiveEnterTimestampMonotonic |
    awk -v RS= '!/Id=trueup/'
}
touch "$SCRATCH/before"; sleep .1
on web touch /etc/motd
has "the check detects a write on the host" /etc/motd "$(touched)"
on web sh -c 'sed -i "s/x/x/" /etc/passwd; touch /srv/gone; rm /srv/gone'
has "and what is gone again, too" /srv "$(touched)"
sleep .1; touch "$SCRATCH/before"; sleep .1
before=$(units | grep -c InvocationID=.) units=$(units) workers=$(on web pgrep -d, nginx)
differs "there are units to be watched" 0 "$before"
check "an hour's worth of ticks converge" ticks 120
same "they wrote nothing" "" "$(touched)"
same "they started, restarted and reloaded nothing" "$units $workers" "$(units) $(on web pgrep -d, nginx)"

#### What a tick costs
# perl is on every Debian host; getrusage(RUSAGE_CHILDREN) has the largest resident memory of any tick, in KiB.
largest() {
  on web perl -e 'use POSIX; my $n = shift; my $nr = (POSIX::uname())[4] eq "aarch64" ? 165 : 98;
    for (1..$n) { system("/usr/bin/trueup converge >/dev/null") and exit 1 }
    my $usage = "\0" x 144; syscall($nr, -1, $usage); my ($us, $uu, $ss, $su, $kib) = unpack("q5", $usage);
    printf("%d %.1f\n", $kib, ($us + $ss) * 1e3 / $n + ($uu + $su) / 1e3 / $n)' "$1"
}
requests >/dev/null
read -r kib ms < <(largest 100)
asked=$(requests)
echo "  a tick: $ms ms of CPU, $kib KiB at most (of a debug build, if that is what this is)"
same "100 ticks ask S3 100 times for the manifest if it has changed" "100 GET /$bucket/sha_number.yml changed-only 304" \
  "$(grep sha_number <<<"$asked" | sort | uniq -c | sed 's/^ *//')"
few=$(grep -vc sha_number <<<"$asked" ||:)
[ "$few" -le 2 ] || fail "and next to nothing else" "$(grep -v sha_number <<<"$asked" | sort | uniq -c)"
same "nothing of trueup is left running" "" "$(on web pgrep -l trueup ||:)"

#### All that a thousand leave behind
check "780 more converge" ticks 780
same "after 1,000 ticks no resource count has grown" "" "$(paste -d: <(echo "$left") <(left) | awk -F: '$4 > $2')"
echo "  pid 1: $pid1 KiB before, $(resident) KiB after; journal: $((($(journal) - journal_before) / 900)) bytes a tick"
[ "$(resident)" -lt $((pid1 + 4096)) ] || fail "pid 1 did not grow" "$pid1 KiB, then $(resident) KiB"
read -r later ms < <(largest 20)
[ "$later" -lt $((kib + kib / 10)) ] || fail "nor did a tick's memory" "$kib KiB, then $later KiB"
same "and still nothing was written, started or restarted" "|$units $workers" "$(touched)|$(units) $(on web pgrep -d, nginx)"
