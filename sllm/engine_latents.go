package sllm

import (
	"container/list"
	"unsafe"

	"svae/kernels"
	"svae/kernels/op"
)

// latentCache remembers what sentences were encoded to, by their tokens: a prompt that comes again, a further turn or
// another request's same sentence need no encoder. It forgets what was least recently used.
type latentCache struct {
	be     kernels.Backend
	most   int64 // bytes
	bytes  int64
	byText map[string]*list.Element
	recent *list.List // of *latentEntry, the most recent first
}

// latentEntry is the rows (K, D) of one sentence, as the base takes them in.
type latentEntry struct {
	text string
	rows op.Mat
}

const mostLatents = 64 << 20 // bytes of a latentCache

func newLatentCache(be kernels.Backend) *latentCache {
	return &latentCache{be: be, most: mostLatents, byText: map[string]*list.Element{}, recent: list.New()}
}

// get returns the rows of a sentence; the zero Mat if they are not known.
func (c *latentCache) get(ids []int32) op.Mat {
	e := c.byText[bytesOf(ids)]
	if e == nil {
		return op.Mat{}
	}
	c.recent.MoveToFront(e)
	return e.Value.(*latentEntry).rows
}

// put remembers a copy of the rows of a sentence.
func (c *latentCache) put(ids []int32, rows op.Mat) {
	if c.byText[bytesOf(ids)] != nil || rows.R == 0 {
		return
	}
	x := &latentEntry{text: string([]byte(bytesOf(ids))), rows: op.Mat{Buf: c.be.Alloc(rows.Len()), R: rows.R, C: rows.C}}
	c.be.Copy(x.rows.Buf, rows.Buf)
	c.byText[x.text] = c.recent.PushFront(x)
	for c.bytes += x.size(); c.bytes > c.most; {
		last := c.recent.Back()
		x := c.recent.Remove(last).(*latentEntry)
		delete(c.byText, x.text)
		c.bytes -= x.size()
	}
}

// size returns the memory of an entry, with about what the map and the list take.
func (x *latentEntry) size() int64 {
	return int64(len(x.text)) + int64(x.rows.Len()*x.rows.DType().Size()) + 256
}

// bytesOf returns the memory of ids as a string, valid while they are.
func bytesOf(ids []int32) string {
	return unsafe.String((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 4*len(ids))
}
