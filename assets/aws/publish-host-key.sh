#!/bin/bash
# Publishes this bastion's host key, which laptops pin: at the first boot (user-data.sh says `first`) and after every start of the
# daemon, since one whose state was lost has a new key. Another bastion's key stays: it serves on until an upgrade says otherwise.
set -euo pipefail
export AWS_REGION='@REGION@' AWS_DEFAULT_REGION='@REGION@' HOME=/root
readonly HOST_KEY='@PARAMETERS@/host-key' KEPT=/etc/ephemwork/host_key.pub
former=$(cat "$KEPT" 2>/dev/null || true)
[ -n "$former" ] || [ "${1-}" = first ] || exit 0
key=$(cut -d ' ' -f 1,2 /var/lib/ephemwork/host_key.pub)
# The daemon wrote it, or put a link to another file there, and this runs as root: nothing of it is shown.
[[ $key =~ ^ssh-ed25519\ [A-Za-z0-9+/=]+$ ]] || { echo "there is no host key in /var/lib/ephemwork/host_key.pub" >&2; exit 1; }
[ "$key" != "$former" ] || exit 0

put() { timeout 30 aws ssm put-parameter --name "$1" --type String --value "$2" "${@:3}" 2>&1 >/dev/null; }
show() { timeout 30 aws ssm get-parameter --name "$1" --query Parameter.Value --output text; }

said=$(put "$HOST_KEY" "$key") || {
  [[ $said == *ParameterAlreadyExists* ]] || { echo "$said" >&2; exit 1; }
  if [ -n "$former" ] && [ "$(show "$HOST_KEY")" = "$former" ]; then
    put "$HOST_KEY" "$key" --overwrite >&2
  fi
}
if [ -n "$former" ]; then
  boot="@PARAMETERS@/boot/$(cat /etc/ephemwork/instance)"
  report=$(show "$boot")
  put "$boot" "${report//"$former"/"$key"}" --overwrite >&2
fi
echo "$key" >"$KEPT"
