#!/usr/bin/env bash
# Cancels tasks with curl and jq: cancel.sh OPEN COMPLETE. Prints each status, and what the body states.
set -euo pipefail

# Sets body, status, version and retry_after.
send() {
  local method=$1 path=$2 format='\n%{http_code} %{http_version} %header{retry-after}\n'
  shift 2
  { read -r body && read -r status version retry_after; } < <(
    curl --silent --show-error --http2 --max-time 20 ${GATEWAY_CA:+--cacert "$GATEWAY_CA"} --request "$method" \
      --header "X-API-Key: $GATEWAY_API_KEY" --write-out "$format" "$@" "$GATEWAY_URL$path"
  )
}

cancel() {
  send DELETE "/tasks/$1"
  echo "$status $(jq --raw-output '.code // .cancelStatus' <<<"$body") $retry_after"
}

cancel "$1"
id=$(jq --raw-output .cancellationId <<<"$body")
until
  send GET "/cancellations/$id" --header 'Prefer: wait=10'
  [ "$(jq .isFinal <<<"$body")" = true ]
do :; done
echo "$status $(jq --raw-output .outcome <<<"$body")"
cancel absent
cancel "$2"
cancel "$1"
echo "HTTP/$version"
