pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$ROOT/var/lib/trueup/process/app.json")
/bin/kill -KILL -- "-$pid"
while grep -qs "^State:.[RSD]" "/proc/$pid/status"; do sleep 0.02; done
