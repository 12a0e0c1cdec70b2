# shellcheck shell=bash
# A webhook for notifications: source this after lib.sh.
#
#   give_webhook          an HTTP server on the hosts' network at $hook_url; what it gets is in $SCRATCH/hook/requests. While
#                         $SCRATCH/hook/hangs exists it answers nothing for 30 s, and notes in $SCRATCH/hook/hung when it did
#   messages TRANSITION   how many messages of a transition it got
give_webhook() {
  mkdir "$SCRATCH/hook"
  : >"$SCRATCH/hook/requests"
  # shellcheck disable=SC2154  # lib.sh sets it
  python3 - "$outer" "$SCRATCH/hook" <<'END' &
import http.server, os, sys, time
folder = sys.argv[2]
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        hangs = os.path.exists(f"{folder}/hangs")
        open(f"{folder}/requests", "ab").write(body + b"\n")
        if hangs:
            open(f"{folder}/hung", "a").write(f"{time.time()}\n")
            time.sleep(30)
            return
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Hook)
open(f"{folder}/port", "w").write(str(server.server_port))
server.serve_forever()
END
  hook=$!
  trap 'kill $hook 2>/dev/null ||:' EXIT
  wait_for 10 "the webhook listens" test -s "$SCRATCH/hook/port"
  # shellcheck disable=SC2034  # for scenarios
  hook_url="http://$outer:$(cat "$SCRATCH/hook/port")/hook"
}
messages() { grep -c "\"transition\":\"$1\"" "$SCRATCH/hook/requests" ||:; }
