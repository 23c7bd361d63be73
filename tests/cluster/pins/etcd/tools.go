//go:build tools

// Package pins names the command that the launcher builds, so that `go mod tidy` keeps its module.
package pins

import _ "go.etcd.io/etcd/server/v3"
