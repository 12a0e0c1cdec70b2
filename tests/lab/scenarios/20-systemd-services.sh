#!/bin/bash
# 20-systemd-services: the conformance suite of service backends, against a real systemd
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# The newest build of the library's own tests: they need nothing but themselves.
suite=$(cd "$tests/.." && cargo test --lib --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$suite" ] || fail "the tests of the library are built" "no executable found"

host web
lab cp "$suite" web:/root/suite
code "every test of the suite passes" 0 on web env TRUEUP_TEST_SYSTEMD=1 /root/suite --test-threads=2 --skip fuzz_ ports::services::
has "and they were not skipped" "test result: ok" "$output"
[[ $output != *SKIPPED* ]] || fail "nothing was skipped" "$output"
has "against systemd" "systemd::" "$output"
