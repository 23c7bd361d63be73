//go:build tools

// Package pins names the commands that the launcher builds, so that `go mod tidy` keeps their modules.
package pins

import (
	_ "github.com/kyverno/kyverno/cmd/kyverno"
)
