#!/bin/bash
# First boot of the ephemwork bastion @PROJECT@ in @REGION@. Everything that is asked for is in this file; cloud-init runs it once,
# and running it again does no harm. What goes wrong stands on the console and in the SSM parameter @PARAMETERS@/boot/INSTANCE.
set -Eeuo pipefail
umask 022
export AWS_REGION='@REGION@' AWS_DEFAULT_REGION='@REGION@' HOME="${HOME:-/root}"

readonly BINARY='@BINARY@'
readonly SHA256='@SHA256@'
readonly PARAMETERS='@PARAMETERS@'
readonly PUBLISH=/usr/local/bin/ephemwork-publish-host-key
readonly UNIT=/etc/systemd/system/ephemwork-bastiond.service
readonly FETCHES=20 # attempts, 6 s apart: a new subnet's route or a new role may take a minute
readonly LOOKS=60   # seconds until the daemon must answer

step='begin'
instance='unknown'

say() {
  echo "ephemwork: $*"
  # Without a console the log of cloud-init has it.
  { echo "ephemwork: $*" >/dev/console; } 2>/dev/null || true
}

# JSON text: what could end a string or a line is left out.
plain() { tr -d '"\\' | tr -c '[:print:]' ' ' | cut -c 1-600; }

report() {
  aws ssm put-parameter --name "$PARAMETERS/boot/$instance" --type String --overwrite --value "$1" >/dev/null
}

failed() {
  local code=$1 why
  trap - ERR
  why="$step: exit code $code"
  [ ! -s "$work/said" ] || why="$step: $(tail -n 3 "$work/said" | plain)"
  say "BOOT FAILED: $why"
  report "{\"state\":\"failed\",\"why\":\"$why\"}" 2>/dev/null || say "the failure could not be written to $PARAMETERS/boot/$instance"
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'failed $?' ERR

step='ask the instance metadata service who this is'
token=$(curl -fsS -m 5 --retry 5 --retry-connrefused -X PUT http://169.254.169.254/latest/api/token \
  -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' 2>"$work/said")
instance=$(curl -fsS -m 5 --retry 5 -H "X-aws-ec2-metadata-token: $token" \
  http://169.254.169.254/latest/meta-data/instance-id 2>"$work/said")
say "instance $instance"

step="mask the system's sshd"
systemctl disable --now sshd.service sshd.socket >"$work/said" 2>&1 || true
systemctl mask sshd.service sshd.socket >"$work/said" 2>&1

step="fetch $BINARY"
for ((attempt = 1; ; attempt++)); do
  if aws s3 cp "$BINARY" "$work/ephemwork" --no-progress >"$work/said" 2>&1; then break; fi
  say "attempt $attempt of $FETCHES: $(plain <"$work/said")"
  [ "$attempt" -lt "$FETCHES" ] || failed 1
  sleep 6
done

step="check the sha256 of $BINARY"
echo "$SHA256  $work/ephemwork" | sha256sum --check >"$work/said" 2>&1 || {
  found=$(sha256sum "$work/ephemwork" | cut -d ' ' -f 1)
  echo "expected $SHA256, found $found" >"$work/said"
  failed 1
}

step='install the program'
install -m 0755 "$work/ephemwork" /usr/local/bin/ephemwork.next
mv -f /usr/local/bin/ephemwork.next /usr/local/bin/ephemwork
ln -sfn ephemwork /usr/local/bin/ephemwork-bastiond
version=$(/usr/local/bin/ephemwork-bastiond --version 2>"$work/said")

step='write what publishes the host key'
mkdir -p /etc/ephemwork
echo "$instance" >/etc/ephemwork/instance
cat >"$PUBLISH" <<'PUBLISH'
@PUBLISH@
PUBLISH
chmod 0755 "$PUBLISH"

step='start the daemon'
cat >"$UNIT" <<'UNIT'
@UNIT@
UNIT
systemctl daemon-reload >"$work/said" 2>&1
systemctl enable ephemwork-bastiond.service >"$work/said" 2>&1
systemctl restart ephemwork-bastiond.service >"$work/said" 2>&1

step='wait until the daemon answers'
for ((look = 1; ; look++)); do
  if curl -fsS -m 2 http://127.0.0.1:80/ephemwork-health >"$work/said" 2>&1; then break; fi
  if [ "$look" -ge "$LOOKS" ]; then
    journalctl -u ephemwork-bastiond.service -n 3 -o cat --no-pager >"$work/said" 2>&1 || true
    failed 1
  fi
  sleep 1
done

step='publish the host key'
"$PUBLISH" first >"$work/said" 2>&1
key=$(cat /etc/ephemwork/host_key.pub 2>"$work/said")

step='report'
report "{\"state\":\"ready\",\"version\":\"$(echo "$version" | plain)\",\"host_key\":\"$key\"}" 2>"$work/said"
say "ready: $version"
