package serve

import (
	"net"
	"net/http"
	"sync"
)

// conns bounds the connections. One too many closes the one that has sent no whole request for longest, so that idle
// connections cannot keep others out.
type conns struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]uint64 // when it became idle, by a count; 0: it is being answered
	tick uint64
}

// changed is an http.Server's ConnState.
func (c *conns) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[net.Conn]uint64{}
	}
	c.tick++
	switch state {
	case http.StateNew:
		c.open[conn] = c.tick
		if len(c.open) > c.most {
			c.evict()
		}
	case http.StateIdle:
		c.open[conn] = c.tick
	case http.StateActive:
		c.open[conn] = 0
	default:
		delete(c.open, conn)
	}
}

// evict closes the connection that is idle for longest; there is one, as the newest is idle.
func (c *conns) evict() {
	var oldest net.Conn
	for conn, since := range c.open {
		if since > 0 && (oldest == nil || since < c.open[oldest]) {
			oldest = conn
		}
	}
	if oldest != nil {
		delete(c.open, oldest)
		oldest.Close()
	}
}
