package kv

import (
	"math"
	"unsafe"

	"svae/kernels/cpu"
)

// index is what a step reads to rank segments: for each paragraph the mean of its segments' mean keys (center, K floats)
// and, in a byte an element, how each of them differs from it (q), times a scale for each segment. Keys have channels far
// from zero which vary little nearby; the center takes them out. One segment costs K + 4 + K/4 bytes.
type index struct {
	q      table // (pairs, 16, 2) bytes, as cpu.ScoreSegments wants them
	scale  table // (16)
	center table // (K)
}

func newIndex(K int) index {
	return index{table{width: paragraph / 4 * 2 * pairs(K)}, table{width: paragraph}, table{width: K}}
}

func pairs(K int) int { return (K + 1) / 2 }

func (x *index) fork() index { return index{x.q.fork(), x.scale.fork(), x.center.fork()} }

func (x *index) truncate(n int) {
	for _, t := range [...]*table{&x.q, &x.scale, &x.center} {
		t.truncate(n)
	}
}

func (x *index) bytes() int64 { return 4 * int64(len(x.q.f)+len(x.scale.f)+len(x.center.f)) }

// panels returns the bytes of q.
func (x *index) panels() []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(x.q.f))), 4*len(x.q.f))
}

// set describes the segments of paragraph p.
//
//	mean (16, K)
func (x *index) set(p int, mean []float32, K int) {
	scale, center, words := x.scale.set(p), x.center.set(p), x.q.set(p)
	clear(words)
	q := unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(words))), 4*len(words))
	meanRows(center, mean, paragraph, K)
	for j := range paragraph {
		row := mean[j*K : (j+1)*K]
		var most float32
		for c, v := range row {
			most = max(most, float32(math.Abs(float64(v-center[c]))))
		}
		scale[j] = most / 127
		if most == 0 || math.IsInf(float64(127/most), 0) { // what is left rounds to nothing
			scale[j] = 0
			continue
		}
		inv := 127 / most
		for c, v := range row {
			q[c/2*2*paragraph+2*j+c%2] = int8(math.RoundToEven(float64((v - center[c]) * inv)))
		}
	}
}

// wholeRows rounds the rows of x (G, K) to whole numbers, as cpu.ScoreSegments wants them, four rows after four: a row is
// about q·factor. The rows that fill up the last four are 0.
//
//	q (⌈G/4⌉, pairs, 4, 2)    factor (⌈G/4⌉, 4)
func wholeRows(q []int16, factor, x []float32, G, K int) {
	clear(q)
	clear(factor)
	P := pairs(K)
	limit := float32(min(math.MaxInt16, math.MaxInt32/(2*128*P)))
	for g := range G {
		row := x[g*K : (g+1)*K]
		var most float32
		for _, v := range row {
			most = max(most, float32(math.Abs(float64(v))))
		}
		inv := limit / most
		if most == 0 || math.IsInf(float64(inv), 0) {
			continue
		}
		factor[g] = most / limit
		to := q[g/cpu.SegmentQueries*8*P+g%cpu.SegmentQueries*2:]
		for c, v := range row {
			to[c/2*8+c%2] = int16(math.RoundToEven(float64(v * inv)))
		}
	}
}
