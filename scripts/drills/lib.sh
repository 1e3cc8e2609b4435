# shellcheck shell=bash
# What the drills share. A drill is a bash script that sources this file. It works in a
# directory of its own that goes with it, with a real daemon (data in it), a real
# receiver, and where it wants one a real NATS server, all on loopback.
#
# Two ledgers decide: "appended" has the ids of the events that a publisher was told are
# stored, "received" what the receiver has verified and accepted. A drill passes when each
# appended event was received, none that nobody appended, and fsck proves the books.
#
# What a drill prints is made to be read, and is in docs/drills.md. When it fails it says
# why on standard error, and ends with another status than 0; with 77 when this machine
# cannot run it.
set -euo pipefail

for variable in $(compgen -e GRAPNEL_); do
	[[ $variable == GRAPNEL_DRILL_* ]] || unset "$variable"
done
for tool in grapnel jq curl; do
	command -v "$tool" >/dev/null || { echo "$0: $tool is not in PATH (scripts/drills/run builds what is ours)" >&2; exit 77; }
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/drill.XXXXXX")
export GRAPNEL_DATA=$dir/data
daemon='' receiver='' broker='' others=''
trap cleanup EXIT
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
cd "$dir"

cleanup() {
	local status=$?
	trap - EXIT ERR
	for pid in $daemon $receiver $broker $others; do
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	cd /
	umount "$dir/data" 2>/dev/null || true # of a drill that has a disk of its own
	if [[ $status == 0 || $status == 77 ]]; then
		rm -rf "$dir"
	else
		echo "kept: $dir" >&2
	fi
	exit "$status"
}

fail() {
	echo "FAILED: $*" >&2
	if [[ -s daemon.log ]]; then
		echo 'the last lines of the daemon:' >&2
		tail -n 15 daemon.log >&2
	fi
	exit 1
}

# say prints a sentence to the reader.
say() { printf '\n# %s\n' "$*"; }

# show prints a command as it would be typed, and what comes of it, without ending the
# drill when it fails: its status is shown.
show() {
	local status=0
	printf '$ %s\n' "$*"
	eval "$*" 2>&1 || status=$?
	[[ $status == 0 ]] || printf 'exit status %d\n' "$status"
}

# refused STATUS COMMAND: like show, of a command that has to end with that status.
refused() {
	local status=0
	printf '$ %s\n' "$2"
	eval "timeout 20 $2" 2>&1 || status=$?
	printf 'exit status %d\n' "$status"
	[[ $status == "$1" ]] || fail "want exit status $1"
}

# await WHAT COMMAND...: until it succeeds, at most 30 s.
await() {
	local what=$1 end=$((SECONDS + 30))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "waited 30 s for $what"
		sleep 0.05
	done
}

# free_port prints one that nobody listens on, below those that outgoing connections get.
free_port() {
	local port
	while :; do
		port=$((18000 + RANDOM % 14000))
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
}

api=127.0.0.1:$(free_port) hook=127.0.0.1:$(free_port) nats=127.0.0.1:$(free_port)
daemon_flags=(--nats-listen off)

# The daemon.

start_daemon() {
	launch_daemon "$@"
	await 'the daemon to be ready' curl -sf "http://$api/readyz"
}

launch_daemon() {
	grapnel serve --listen "$api" --allow-http --allow-network 127.0.0.0/8 "${daemon_flags[@]}" "$@" 2>>daemon.log &
	daemon=$!
	await 'the daemon to answer' answers
}

answers() { curl -sf "http://$api/healthz" || ! kill -0 "$daemon"; }

stop_daemon() {
	kill -TERM "$daemon"
	wait "$daemon" || fail "the daemon ended with status $?"
	daemon=''
}

kill_daemon() {
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null || true
	daemon=''
}

not_ready() { [[ $(curl -s "http://$api/readyz" | jq -r .status) != ok ]]; }

# state STATE: acme's cursor is in it.
state() { [[ $(grapnel cursor list --json | jq -r '.data[] | select(.org == "acme") | .state') == "$1" ]]; }

# The broker, a NATS server that is not the daemon's.

external_broker() {
	command -v nats-server >/dev/null || { echo "$0: nats-server is not in PATH (scripts/drills/run builds it)" >&2; exit 77; }
	cat >nats.conf <<-END
		listen: "$nats"
		jetstream { store_dir: "$dir/nats", sync_interval: always }
	END
	daemon_flags=(--nats-url "nats://$nats")
	start_broker
}

start_broker() {
	nats-server -c nats.conf 2>>nats.log &
	broker=$!
	await 'the broker' bash -c ": </dev/tcp/${nats/://}"
}

kill_broker() {
	kill -KILL "$broker"
	wait "$broker" 2>/dev/null || true
	broker=''
}

# ask_broker SUBJECT [REQUEST]: prints the reply, as the nats command's "request" does.
ask_broker() {
	local line size request=${2-}
	exec 3<>"/dev/tcp/${nats/://}"
	printf 'CONNECT {"verbose":false}\r\nSUB reply 1\r\nPUB %s reply %d\r\n%s\r\n' "$1" "${#request}" "$request" >&3
	while read -r -t 10 line <&3; do
		if [[ $line == MSG* ]]; then
			size=${line##* }
			head -c "${size%$'\r'}" <&3
			break
		fi
	done
	exec 3>&-
}

# The receiver, and its organization acme.

start_receiver() {
	local secret=$1
	grapnel listen --addr "$hook" --json --secret "$secret" >>received.json 2>>receiver.log &
	receiver=$!
	await 'the receiver' bash -c ": </dev/tcp/${hook/://}"
}

subscribe() {
	grapnel org add acme >/dev/null
	grapnel endpoint add acme "http://$hook/" --json >endpoint.json
	start_receiver "$(jq -r .secret endpoint.json)"
}

# append N: appends so many events, each until it is acknowledged, as a publisher must.
append() {
	local n key id
	for ((n = 0; n < $1; n++)); do
		key=in_$SRANDOM$SRANDOM
		until id=$(grapnel event append acme invoice.paid "{\"invoice\":\"$key\"}" --key "$key" --json 2>>append.log | jq -er .id); do
			sleep 0.1
		done
		echo "$id" >>appended
	done
}

received() { jq -r 'select(.verified and .status < 300) | .headers["webhook-id"]' received.json; }

# nothing_sent_since N: the receiver has still N requests. Call it after something else
# that would have gone out at the same time has had its time.
nothing_sent_since() { [[ $(received | wc -l) == "$1" ]] || fail 'something was sent that should have waited'; }

# everything_received holds when no appended event is missing at the receiver.
everything_received() { [[ -z $(comm -23 <(sort -u appended) <(received | sort -u)) ]]; }

await_received() { await 'every event to be received' everything_received; }

# prove ends a drill: it compares the ledgers and asks fsck.
prove() {
	await_received
	await 'the last outcomes' nothing_pending
	say "Everything was received, and the books are proven."
	show grapnel fsck
	local lost alien repeated
	lost=$(comm -23 <(sort -u appended) <(received | sort -u) | wc -l)
	alien=$(comm -13 <(sort -u appended) <(received | sort -u) | wc -l)
	repeated=$(($(received | wc -l) - $(received | sort -u | wc -l)))
	echo "appended $(sort -u appended | wc -l), received $(received | sort -u | wc -l), lost $lost, repeated $repeated"
	[[ $lost == 0 && $alien == 0 ]] || fail "$lost events were lost, $alien came from nowhere"
	grapnel fsck >/dev/null || fail 'fsck found something missing'
	((repeated <= ${1-0})) || fail "$repeated requests were repeated, at most ${1-0} may be"
}

nothing_pending() { [[ $(grapnel cursor list --json | jq '[.data[].pending] | add') == 0 ]]; }
