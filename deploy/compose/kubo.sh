#!/bin/sh
# Runs in the Kubo container before the daemon: what `pinfold doctor` asks of a node that keeps an archive.
# Kubo's own defaults sync no block of a pinned import, serve a rotten block as it is, and tell the world what they have.
set -eu

ipfs config --json Datastore.HashOnRead true
ipfs config --json Datastore.Spec.mounts "$(ipfs config Datastore.Spec.mounts | sed 's/"sync": false/"sync": true/')"
ipfs config Routing.Type none
ipfs config --json AutoConf.Enabled false
ipfs bootstrap rm --all
ipfs config --json Addresses.Swarm '[]'
ipfs config --json Gateway.NoFetch true
ipfs config --json Plugins.Plugins.telemetry.Disabled true
ipfs config Addresses.API /ip4/0.0.0.0/tcp/5001
password=$(cat /run/secrets/kubo_password)
ipfs config --json API.Authorizations \
    "{\"pinfold\":{\"AuthSecret\":\"basic:pinfold:$password\",\"AllowedPaths\":[\"/api/v0\"]}}"
