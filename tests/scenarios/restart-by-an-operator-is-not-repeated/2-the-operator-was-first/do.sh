# Writes what the next pass would write, and restarts the service, as its supervisor would.
pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$ROOT/var/lib/trueup/process/app.json")
echo two >"$ROOT/srv/app.conf"
/bin/kill -KILL -- "-$pid"
while grep -qs "^State:.[RSD]" "/proc/$pid/status"; do sleep 0.02; done
sleep 0.05
TRUEUP_SERVICE="$ROOT|app" setsid sh -c 'TRUEUP_MAIN_PID=$$ exec "$@"' sh \
  "$ROOT/opt/worker" "$ROOT/srv/app.conf" "$ROOT/srv/app.log" >/dev/null 2>&1 </dev/null &
until grep -q "start two" "$ROOT/srv/app.log"; do sleep 0.02; done
