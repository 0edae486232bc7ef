package kernels

import (
	"fmt"
	"sync"
)

var devices struct {
	sync.Mutex
	open map[string]func() (Backend, error)
}

// Register makes a device available to Open. A backend's package calls it from init.
func Register(device string, open func() (Backend, error)) {
	devices.Lock()
	defer devices.Unlock()
	if devices.open == nil {
		devices.open = map[string]func() (Backend, error){}
	}
	devices.open[device] = open
}

// Open returns the backend of a device: "cpu", or "cuda" in a binary built with cgo and -tags gpu. The error wraps ErrNotBuilt
// when this binary does not hold it.
func Open(device string) (Backend, error) {
	devices.Lock()
	open := devices.open[device]
	devices.Unlock()
	switch {
	case open != nil:
		return open()
	case device == "cuda":
		return nil, fmt.Errorf("device %q: %w (rebuild with CGO_ENABLED=1 and -tags gpu, or use --device cpu)", device, ErrNotBuilt)
	}
	return nil, fmt.Errorf("device %q is not known (use cpu or cuda)", device)
}
