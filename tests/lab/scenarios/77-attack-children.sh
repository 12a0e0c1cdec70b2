#!/bin/bash
# 77-attack-children: the deploy user stops and traces children of trueup: passes end, the lock is free, and other apps are deployed
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler]
keep_releases: 2
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps:
      - {name: first, run: "sh /home/deploy/first", timeout: 20s}
      - {name: second, run: "sh /home/deploy/second", timeout: 6s}
    assets: {run: bin/build, timeout: 6s}
  other:
    repo: "git@$git_address:shop.git"
    port: 3001
    steps: [{name: install, run: bundle check, timeout: 20s}]
    assets: {run: bin/build, timeout: 20s}
END
on web useradd --create-home --shell /bin/bash deploy
step() { write "web:/home/deploy/$1"; }
step first <<<"bundle check"
step second <<<"true"
version() { on web cat "/srv/www/$1/current/VERSION"; }
check "v1 is published" publish "${sha[v1]}" "other=${sha[v1]}" --create
check "the host converges" on web trueup converge

# Stops whoever is new and becomes the deploy user's to signal, while that is still a copy of trueup: after setuid(2), and
# before execve(2).
write web:/home/deploy/stopper <<'END'
open my $load, "<", "/proc/loadavg" or die;
sub newest { sysseek $load, 0, 0; sysread $load, my $text, 128; ($text =~ /(\d+)\s*$/)[0] }
sub name { open my $file, "<", "/proc/$_[0]/comm" or return ""; my $name = <$file> // ""; chomp $name; $name }
my ($first, $end, %seen) = (newest(), time + 60);
open my $looks, ">", "/home/deploy/looks";
while (time < $end) {
    my $newest = newest();
    for (1 .. 50) {
        for my $pid ($newest .. $newest + 2) {
            next if $pid <= $first or $seen{$pid} or !kill STOP => $pid;
            select undef, undef, undef, .003;
            if (name($pid) eq "trueup") { open my $got, ">", "/home/deploy/got"; print $got $pid; close $got; exit }
            $seen{$pid} = 1;
            kill CONT => $pid;
        }
    }
}
END
attack() {
  step first <<'END'
bundle check
rm -f /home/deploy/got /home/deploy/looks
setsid perl /home/deploy/stopper >/dev/null 2>&1 </dev/null &
while ! [ -e /home/deploy/looks ]; do sleep .1; done
END
  on web chown -R deploy: /home/deploy
}
leave_off() { step first <<<"bundle check"; on web sh -c 'pkill -KILL -u deploy -f stopper; rm -f /home/deploy/got' ||:; }
# next VERSION: it is published, and has to be built
next() {
  wanted=$1
  on web sh -c 'for app in shop other; do cd /srv/www/$app/releases; for release in *; do [ "releases/$release" = "$(readlink ../current)" ] || rm -rf "$release"; done; done'
  check "$wanted is published" publish "${sha[$wanted]}" "other=${sha[$wanted]}"
}
got() { on web test -s /home/deploy/got; }

attack
for try in {1..10}; do                                   # he is not always quick enough
  next v$((try % 2 + 2))
  on web timeout 120 trueup converge >"$SCRATCH/output" 2>&1 && ended=0 || ended=$?
  [ "$ended" != 124 ] || fail "a pass ends" "$(cat "$SCRATCH/output")"
  ! { got && [ "$(version other)" = "$wanted" ]; } || break
done
check "a child was stopped before it began" got
same "the pass failed" 1 "$ended"
has "the report names the reason" " s and was killed: another process of deploy stopped it" "$(cat "$SCRATCH/output")"
has "the remedy is shown" "ps -fu deploy" "$(cat "$SCRATCH/output")"
same "the other app is deployed" "$wanted" "$(version other)"
check "the child is gone" on web sh -c '! kill -0 "$(cat /home/deploy/got)" 2>/dev/null'
attacked deploy "SIGSTOP to a step's process between setuid and execve, so that the pass waits for ever" "it is killed at the step's timeout; other apps are deployed"

# What has not failed, and is not in service.
refused=$wanted
untried() { printf '%s\n' v1 v2 v3 | grep -v -e "$refused" -e "$(version shop)" | head -1; }
for _ in {1..10}; do
  leave_off
  attack
  next "$(untried)"
  on web sh -c 'trueup converge >/run/output 2>&1 & echo $!' >"$SCRATCH/pid"
  over() { got || ! on web kill -0 "$(cat "$SCRATCH/pid")" 2>/dev/null; }
  wait_for 120 "it is stopped, or the pass is over" over
  ! got || break
done
check "a child was stopped before it began" got
child=$(on web cat /home/deploy/got)
open=$(on web ls -l "/proc/$child/fd" | grep -e '->')
same "it has its three streams and the pipe for exec errors" 4 "$(wc -l <<<"$open")"
check "and nothing of trueup's" [ "${open/trueup/}" = "$open" ]
check "trueup is killed" on web kill -KILL "$(cat "$SCRATCH/pid")"
leave_off
check "the next pass has the lock" on web timeout 120 trueup converge
same "and deploys" "$wanted" "$(version shop)"
on web kill -KILL "$child" 2>/dev/null ||:
attacked deploy "the same, and then trueup is killed: the stopped child had its lock" "the child has nothing of trueup's; the next pass begins at once"

step second <<'END'
setsid python3 -c 'import ctypes, sys, time; [ctypes.CDLL(None).ptrace(0x4206, int(pid), None, None) for pid in sys.argv[1:]]; time.sleep(200)' $$ $PPID >/dev/null 2>&1 </dev/null &
sleep 100
END
next "$(untried)"
code "a pass ends" 1 on web timeout 90 trueup converge
has "the report names what timed out" "not finished within its timeout of 6 s" "$output"
has "and what is still there" "another process traces it" "$output"
same "the other app is deployed" "$wanted" "$(version other)"
attacked deploy "a step that he traces, so that not even SIGKILL lets it be reaped" "ten seconds after SIGKILL the pass stops waiting for it"
