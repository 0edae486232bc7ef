// Package kerneltest tests any kernels.Backend against the contract of package kernels, with package ref in float64 as
// the measure of what is right.
//
// A backend's own test is one line:
//
//	func TestSuite(t *testing.T) { kerneltest.Suite(t, func() kernels.Backend { return New() }) }
package kerneltest

import (
	"testing"

	"svae/kernels"
	"svae/kernels/ref"
)

// Suite runs every test of the contract, one subtest per promise, on backends that open returns: values and gradients
// against ref over odd shapes, guard words around every operand, rows that depend on nothing but themselves, the same
// bits twice and at any number of threads, allowed overlaps, NaN that stays NaN, and panics on wrong sizes.
//
// It changes GOMAXPROCS for a while, so no other test may run beside it. With -short it takes every third shape.
func Suite(t *testing.T, open func() kernels.Backend) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(newSuite(t, open)) })
	}
}

type testCase struct {
	name string
	run  func(*suite)
}

// tests are the subtests of Suite.
var tests = []testCase{
	{"Memory", testMemory},
	{"Gather", testGather},
	{"ScatterAdd", testScatterAdd},
	{"Linear", testLinear},
	{"LinearBackward", testLinearBackward},
	{"Pack", testPack},
	{"Weights", testWeights},
	{"Narrow", testNarrow},
	{"ActBackward", testActBackward},
	{"Gated", testGated},
	{"LayerNorm", testLayerNorm},
	{"RMSNorm", testRMSNorm},
	{"Rotary", testRotary},
	{"Attention", testAttention},
	{"AttentionLeak", testAttentionLeak},
	{"AttentionRows", testAttentionRows},
	{"AttentionRanges", testAttentionRanges},
	{"Segments", testSegments},
	{"Elementwise", testElementwise},
	{"Dropout", testDropout},
	{"Noise", testNoise},
	{"Xent", testXent},
	{"XentTop", testXentTop},
	{"Top", testTop},
	{"AdamW", testAdamW},
	{"SumSquares", testSumSquares},
	{"Rows", testRows},
	{"Overlap", testOverlap},
	{"Extremes", testExtremes},
	{"NaN", testNaN},
	{"Threads", testThreads},
	{"Concurrent", testConcurrent},
	{"ShortOperands", testShortOperands},
	{"Panics", testPanics},
}

// suite is one subtest: the backend under test and the measure.
type suite struct {
	reporter
	open   func() kernels.Backend
	b, ref kernels.Backend
	shapes int // shapes seen by thin
	failed int
}

// reporter is the part of testing.T that a subtest uses.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func newSuite(t reporter, open func() kernels.Backend) *suite {
	return &suite{reporter: t, open: open, b: open(), ref: ref.New(kernels.F64)}
}

// fail reports a failure, and gives up on the subtest when the first ten have told enough.
func (s *suite) fail(format string, args ...any) {
	s.Helper()
	s.Errorf(format, args...)
	if s.failed++; s.failed == 10 {
		s.Fatal("stopped after ten failures")
	}
}

// thin says whether -short leaves this shape out. It keeps every third.
func (s *suite) thin() bool {
	s.shapes++
	return testing.Short() && s.shapes%3 != 0
}

// The shapes: around the row counts of microkernels and the vector widths, and none at all.
var (
	rowCounts = []int{0, 1, 2, 5, 6, 7, 8, 9, 13, 33, 70}
	widths    = []int{1, 2, 3, 8, 15, 16, 17, 31, 64, 100}
	vocabs    = []int{1, 2, 33, 1000}
)
