# curl with HTTP/1.1 and HTTP/2: arguments are the URLs of the listeners without and with TLS.
set -eu
web=$1 secure=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
head -c 20000000 /dev/urandom > "$place/body"
digest="$(sha256sum < "$place/body" | cut -d' ' -f1) 20000000"

fail() { echo "curl: $1" >&2; exit 1; }

check() {
    base=$1; shift
    [ "$(curl -sS "$@" "$base/")" = hello ] || fail "$base: $*"
    # One connection for all. (curl 7 fails at its second such request with prior knowledge, of any server.)
    made=$(curl -sS "$@" -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects}\n' "$base/" "$base/" "$base/" 2> /dev/null | paste -sd' ')
    [ "$made" = "1 0 0" ] || fail "connections made: $made"
    [ "$(curl -sS "$@" --data-binary "@$place/body" "$base/digest")" = "$digest" ] || fail "an upload, $*"
    # curl asks for 100-continue by itself here, and gets no second to wait.
    [ "$(curl -sS "$@" --expect100-timeout 30 -H 'Expect: 100-continue' --data-binary "@$place/body" "$base/digest")" = "$digest" ] || fail "100-continue, $*"
    [ "$(curl -sS "$@" -T - "$base/digest" < "$place/body")" = "$digest" ] || fail "an upload of unknown length, $*"
    for path in bytes chunks; do
        [ "$(curl -sS "$@" "$base/$path/20000000" | wc -c)" = 20000000 ] || fail "$path, $*"
    done
    [ "$(curl -sS "$@" -o /dev/null -w '%{http_code}' --data-binary "@$place/body" "$base/early")" = 413 ] || fail "an early answer, $*"
    gone=$(curl -sS "$@" "$base/gone")
    curl -sS "$@" --max-time 0.5 -o /dev/null "$base/endless" 2> /dev/null && fail "endless has an end"
    for _ in $(seq 100); do
        [ "$(curl -sS "$@" "$base/gone")" != "$gone" ] && return
        sleep 0.1
    done
    fail "the instance did not hear that the request was broken off, $*"
}

check "$web" --http1.1
check "$web" --http2-prior-knowledge
check "$secure" --cacert "$CA" --http1.1
check "$secure" --cacert "$CA" --http2
