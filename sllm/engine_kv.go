package sllm

import (
	"sync"

	"svae/kernels"
	"svae/vae"
)

// Keeper makes the KV of each request. An engine makes one call at a time; engines may share a Keeper that allows it.
type Keeper interface {
	// Open returns the KV for a request with these prompt tokens, of which the first kv.Len() rows are already kept (a
	// prefix seen before, always shorter than ids); ends are the rows after which its sentences end.
	Open(ids []int32, ends []int) (vae.KV, error)
	// Close takes the KV back when the request is over; ids are all tokens whose rows it keeps, or nil if a pass failed,
	// so that some layers may have rows that others lack.
	Close(kv vae.KV, ids []int32)
}

// Sealer is a KV that wants to know where the sentences end that are written: Seal(n) says that one ends with row n-1. It is
// called before that row comes; Open has told the ends in the prompt.
type Sealer interface{ Seal(n int) error }

// Reporter is a KV that counts what it did.
type Reporter interface{ Stats() KVStats }

// KVStats is what a KV did for one request.
type KVStats struct {
	Rows      int   `json:"rows"`                // kept
	Sentences int   `json:"sentences,omitempty"` // kept
	Bytes     int64 `json:"bytes"`               // of the rows kept, in every tier
	Reused    int   `json:"reused,omitempty"`    // rows of the prompt that were kept from an earlier request
	Steps     int   `json:"steps,omitempty"`     // tokens written, each in a step of its own

	// Summed over the steps and layers: rows attended to and sentences they belong to, for each key head, and bytes of
	// keys, values and summaries read.
	Selected  int64 `json:"selected_rows,omitempty"`
	Chosen    int64 `json:"selected_sentences,omitempty"`
	Scanned   int64 `json:"scanned_bytes,omitempty"`
	Hits      int64 `json:"hits,omitempty"`   // blocks of rows found in RAM
	Misses    int64 `json:"misses,omitempty"` // blocks read from a file
	FileBytes int64 `json:"file_bytes,omitempty"`
	StallNs   int64 `json:"stall_ns,omitempty"` // waited for the file
}

// caches is the Keeper that keeps every row in memory, and nothing behind the end of a request but the memory.
type caches struct {
	be   kernels.Backend
	mu   sync.Mutex
	free []*vae.Cache
}

// mostFree is how many caches of ended requests wait for the next.
const mostFree = 16

func (c *caches) Open([]int32, []int) (vae.KV, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free) - 1; n >= 0 {
		kv := c.free[n]
		c.free = c.free[:n]
		return kv, nil
	}
	return vae.NewCache(c.be), nil
}

func (c *caches) Close(kv vae.KV, _ []int32) {
	k := kv.(*vae.Cache)
	k.Truncate(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) < mostFree {
		c.free = append(c.free, k)
	}
}
