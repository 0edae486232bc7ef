package kv

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Errors that callers act on.
var (
	ErrFormat = errors.New("kv: not a cache file")
	ErrModel  = errors.New("kv: cache of another model")
	ErrClosed = errors.New("kv: closed")
)

// Type is the element type that full blocks are kept in.
type Type uint8

// The types. BF16 rounds to nearest even. I8 keeps keys with one scale a channel within a block of 64 rows (keys have
// channels of outliers) and values with one scale a row; a scale is the largest magnitude over 127. Rows after the last
// full block are float32 in every type, rounded to bfloat16 for BF16.
const (
	F32 Type = iota
	BF16
	I8
)

var typeNames = [...]string{"f32", "bf16", "int8"}

// String returns "f32", "bf16" or "int8".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// ParseType returns the type of that name.
func ParseType(name string) (Type, error) {
	for i, s := range typeNames {
		if s == name {
			return Type(i), nil
		}
	}
	return 0, fmt.Errorf("kv: unknown type %q (want f32, bf16 or int8)", name)
}

// Config describes the rows of a store.
type Config struct {
	Layers, Heads, KVHeads, HeadDim int

	Type  Type
	Scale float64 // multiplies q·k; 0 means 1/√HeadDim

	MaxSegment  int    // rows at which a segment is split; 0 means 64
	MinSegment  int    // a shorter segment is merged with the next; 0 means 16
	Fingerprint string // names the weights and the rotary settings; Load refuses rows of another
}

// blockRows is the number of rows of a block: the unit of sharing, of tiers and of the scales of int8 keys.
const blockRows = 64

// paragraph is the number of segments under one node of the second level.
const paragraph = 16

const maxSize = 1 << 20 // of any dimension: far above every model, so that products of a few do not overflow

func (c *Config) fill() error {
	if c.Scale == 0 && c.HeadDim > 0 {
		c.Scale = 1 / math.Sqrt(float64(c.HeadDim))
	}
	if c.MaxSegment == 0 {
		c.MaxSegment = 64
	}
	if c.MinSegment == 0 {
		c.MinSegment = min(16, c.MaxSegment)
	}
	switch {
	case c.Layers <= 0 || c.HeadDim <= 0 || c.KVHeads <= 0 || c.Heads <= 0:
		return fmt.Errorf("kv: %d layers, %d heads, %d key heads of %d elements (want positive sizes)", c.Layers, c.Heads, c.KVHeads,
			c.HeadDim)
	case c.Layers > maxSize || c.HeadDim > maxSize || c.Heads > maxSize:
		return fmt.Errorf("kv: %d layers of %d heads of %d elements are too many", c.Layers, c.Heads, c.HeadDim)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("kv: %d heads are not a multiple of %d key heads", c.Heads, c.KVHeads)
	case c.Type > I8:
		return fmt.Errorf("kv: unknown element type %d", c.Type)
	case c.MinSegment < 1 || c.MaxSegment < c.MinSegment:
		return fmt.Errorf("kv: segments of %d to %d rows (want 1 <= min <= max)", c.MinSegment, c.MaxSegment)
	case !(c.Scale > 0) || math.IsInf(c.Scale, 0):
		return fmt.Errorf("kv: scale %v (want a positive number)", c.Scale)
	}
	return nil
}

// Ends returns where the segments of rows end whose sentences end before the rows of boundaries, in ascending order: the
// ends that Seal, called with each of them, gives a store.
func (c Config) Ends(boundaries []int) ([]int, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	var ends []int
	start := 0
	for _, n := range boundaries {
		for ; n-start >= c.MaxSegment; ends = append(ends, start) {
			start += c.MaxSegment
		}
		if n-start >= c.MinSegment {
			start = n
			ends = append(ends, n)
		}
	}
	return ends, nil
}

// Budget says how much of the past a step may read. It counts rows for each key head, first and latest rows included.
type Budget struct {
	Rows    int     // if positive
	Percent float64 // of the rows there are, if Rows is 0
	Eps     float64 // with Bounded: how much softmax mass may be missing, certified; Rows or Percent is where it starts
	Bounded bool
	Exact   bool // every row
}

// ParseBudget reads "N" rows, "P%", "bounded:EPS" or "exact". A bounded budget starts from 10 %.
func ParseBudget(s string) (Budget, error) {
	if s == "exact" {
		return Budget{Exact: true}, nil
	}
	if eps, ok := strings.CutPrefix(s, "bounded:"); ok {
		if e, err := strconv.ParseFloat(eps, 64); err == nil && e >= 0 && e < 1 {
			return Budget{Bounded: true, Eps: e, Percent: 10}, nil
		}
	} else if p, ok := strings.CutSuffix(s, "%"); ok {
		if v, err := strconv.ParseFloat(p, 64); err == nil && v > 0 && v <= 100 {
			return Budget{Percent: v}, nil
		}
	} else if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return Budget{Rows: n}, nil
	}
	return Budget{}, fmt.Errorf("kv: budget %q (want rows, a percentage such as 10%%, bounded:EPS with 0 <= EPS < 1, or exact)", s)
}

// String returns what ParseBudget reads, except for the start of a bounded budget.
func (b Budget) String() string {
	switch {
	case b.Exact:
		return "exact"
	case b.Bounded:
		return "bounded:" + strconv.FormatFloat(b.Eps, 'g', -1, 64)
	case b.Rows > 0:
		return strconv.Itoa(b.Rows)
	}
	return strconv.FormatFloat(b.Percent, 'g', -1, 64) + "%"
}

// Of returns how many of n rows the budget allows a key head: at least one, at most n.
func (b Budget) Of(n int) int {
	switch {
	case b.Exact || b.Bounded && b.Eps == 0:
		return n
	case b.Rows > 0:
		return min(b.Rows, n)
	}
	return min(max(int(math.Ceil(float64(n)*b.Percent/100)), 1), n)
}

// Range is the rows from Lo to Hi-1.
type Range struct{ Lo, Hi int }

// Len returns the number of rows.
func (r Range) Len() int { return r.Hi - r.Lo }

// rowsOf counts the rows of ascending, disjoint ranges.
func rowsOf(rs []Range) int {
	n := 0
	for _, r := range rs {
		n += r.Hi - r.Lo
	}
	return n
}

// extend appends [lo, hi), joining it to the last range if that ends there. Nothing is appended if it is empty.
func extend(rs []Range, lo, hi int) []Range {
	if lo >= hi {
		return rs
	}
	if n := len(rs); n > 0 && rs[n-1].Hi == lo {
		rs[n-1].Hi = hi
		return rs
	}
	return append(rs, Range{lo, hi})
}
