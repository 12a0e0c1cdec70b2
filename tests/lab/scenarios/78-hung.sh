#!/bin/bash
# 78-hung: a pass that hangs in a system call and cannot hear SIGTERM ends itself, says at what, and the timer goes on
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
give_trueup web
for unit in trueup.service trueup.timer; do lab cp "$tests/../packaging/systemd/$unit" "web:/etc/systemd/system/$unit"; done
on web mkdir -p /srv/store
write web:/etc/trueup/node.yml <<'END'
environment: production
roles: [tool]
store: {url: "dir:/srv/store"}
END
write web:/etc/trueup/roles/tool.yml <<'END'
description: A program of somebody else's.
resources:
  - command: {id: tool, run: [/srv/tool], creates: /srv/done, timeout: 1s}
END
write web:/srv/tool 755 <<'END'
#!/bin/sh
touch /srv/done
END
# Holds up whoever opens the program, for as long as this runs, as a filesystem does that does not answer: the child hangs
# before it has become the program, and trueup waits for that in a system call.
write web:/srv/hold.py <<'END'
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
content, add, open_perm, here = 0x4, 0x1, 0x10000, -100
listener = libc.fanotify_init(content, os.O_RDONLY)
marked = libc.fanotify_mark(listener, add, ctypes.c_uint64(open_perm), here, b"/srv/tool")
assert listener >= 0 and marked == 0, os.strerror(ctypes.get_errno())
open("/run/held", "w").close()
signal.pause()
END
on web systemd-run -q --unit hold python3 /srv/hold.py
wait_for 20 "the program is held up" on web test -e /run/held

check "a manifest is published" on web trueup publish production "other=$(printf "%040d" 1)" --ref main --create
on web systemctl daemon-reload
check "the timer is started" on web systemctl start trueup.timer
pass() { on web systemctl show trueup.service --property=MainPID --value; }
begun() { [ "$(pass)" != 0 ] && on web pgrep -P "$(pass)"; }
wait_for 60 "a pass has begun, and is at the program" begun
pid=$(pass)
on web kill -TERM "$pid"
sleep 5
check "SIGTERM does not end it" on web kill -0 "$pid"
ended() { ! on web kill -0 "$pid" 2>/dev/null; }
wait_for 150 "it ends itself" ended
has "as a failure" "status=1/FAILURE" "$(on web journalctl -u trueup --no-pager)"
has "the journal says at what" 'it hung at command:/srv/tool: `/srv/tool`, 60 s past the deadline of 1 s' "$(on web journalctl -u trueup -o cat)"
code "so does status" 1 on web trueup status
has "in the same words" "hung at command:/srv/tool" "$said"
attacked "a filesystem that does not answer" "hangs a pass in a system call, deaf to SIGTERM" "it ends itself a minute past the deadline, and says so"

on web systemctl stop hold
wait_for 90 "the timer goes on by itself, and the next pass does it" on web test -e /srv/done
check "nobody has the lock" on web trueup converge --no-wait
