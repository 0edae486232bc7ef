package kerneltest

import (
	"svae/kernels"
)

// panics reports a function that does not panic with a given value.
func (s *suite) panics(label string, want any, f func()) {
	s.Helper()
	defer func() {
		s.Helper()
		if got := recover(); got != want {
			s.fail("%s: panic %v, want %q", label, got, want)
		}
	}()
	f()
}

// testShortOperands makes each operand of each operation one element too short in turn.
func testShortOperands(s *suite) {
	for _, c := range s.calls(false) {
		whole := s.run(s.b, c.name, 0, c.run)
		for k, o := range whole.operands {
			if o.before == nil {
				continue
			}
			if o.n == 0 {
				s.fail("%s: %s is empty and cannot be shorter", c.name, o.name)
				continue
			}
			e := newEnv(s.b, c.name, 0)
			e.short = k + 1
			s.panics(c.name+" with "+o.name+" too short", kernels.ShortBuf, func() { c.run(e) })
		}
	}
	s.panics("Upload", kernels.ShortBuf, func() { s.b.Upload(s.b.Alloc(2), make([]float32, 3)) })
	s.panics("Download", kernels.ShortBuf, func() { s.b.Download(make([]float32, 3), s.b.Alloc(2)) })
	s.panics("Copy", kernels.ShortBuf, func() { s.b.Copy(s.b.Alloc(2), s.b.Alloc(3)) })
}

// testPanics checks the other wrong arguments.
func testPanics(s *suite) {
	b := s.b
	x := func(n int) kernels.Buf { return b.Alloc(n) }
	i := func(v ...int32) []int32 { return v }
	s.panics("Gather", kernels.ShortIndex, func() { b.Gather(x(6), x(6), i(0, 1), 0, 3, 3, 2) })
	s.panics("ScatterAdd", kernels.ShortIndex, func() { b.ScatterAdd(x(6), x(6), i(0, 1), 0, 3, 3, 2) })
	s.panics("Rotary, pos", kernels.ShortIndex, func() { b.Rotary(x(8), x(8), i(0), []float64{1, 1}, false, 2, 1, 4) })
	s.panics("Rotary, freqs", kernels.ShortIndex, func() { b.Rotary(x(8), x(8), i(0, 1), []float64{1}, false, 2, 1, 4) })
	s.panics("Rotary, odd", kernels.BadHeadSize, func() { b.Rotary(x(6), x(6), i(0, 1), []float64{1}, false, 2, 1, 3) })
	s.panics("SegmentSum, at", kernels.ShortIndex, func() { b.SegmentSum(x(4), x(8), i(0, 2), 2, 2) })
	s.panics("SegmentSum, order", kernels.BadIndex, func() { b.SegmentSum(x(4), x(8), i(0, 3, 2), 2, 2) })
	s.panics("SegmentSum, negative", kernels.BadIndex, func() { b.SegmentSum(x(4), x(8), i(-1, 3, 4), 2, 2) })
	s.panics("SegmentAdd, at", kernels.ShortIndex, func() { b.SegmentAdd(x(8), x(8), x(4), i(0, 2), 2, 2) })
	s.panics("SegmentAdd, first", kernels.BadIndex, func() { b.SegmentAdd(x(8), x(8), x(4), i(1, 2, 4), 2, 2) })
	s.panics("SegmentAdd, order", kernels.BadIndex, func() { b.SegmentAdd(x(8), x(8), x(4), i(0, 4, 3), 2, 2) })

	ce := func(targets, top []int32) func() {
		return func() {
			b.Xent(&kernels.Xent{Nats: x(2), X: x(4), W: x(6), Targets: targets, Top: top, N: 2, D: 2, V: 3})
		}
	}
	s.panics("Xent, targets", kernels.ShortIndex, ce(i(1), nil))
	s.panics("Xent, top", kernels.ShortIndex, ce(i(1, 2), i(0)))
	s.panics("Xent, target above", kernels.BadTarget, ce(i(1, 3), nil))
	s.panics("Xent, target far above", kernels.BadTarget, ce(i(1<<30, -1), nil))

	top := func(f func(t *kernels.Top)) func() {
		return func() {
			t := &kernels.Top{IDs: i(0), X: x(2), W: x(6), Q: kernels.Int8Of(make([]int8, 6), make([]float32, 3), 2), Bounds: x(6),
				N: 1, D: 2, V: 3}
			f(t)
			b.Top(t)
		}
	}
	s.panics("Top, ids", kernels.ShortIndex, top(func(t *kernels.Top) { t.IDs = nil }))
	s.panics("Top, no vocabulary", kernels.BadTarget, top(func(t *kernels.Top) { t.V = 0 }))
	s.panics("Top, int8 behind int8", kernels.NarrowWeights, top(func(t *kernels.Top) { t.W = t.Q }))

	att := func(H, KV int, sp *kernels.Spans) *kernels.Attention {
		return &kernels.Attention{
			Out: x(24), Lse: x(12), Q: x(24), K: x(24), V: x(24), DQ: x(24), DK: x(24), DV: x(24), DOut: x(24),
			Spans: sp, N: 3, M: 4, H: H, KV: KV, HeadDim: 2, Scale: 1,
		}
	}
	good := kernels.Spans{Q: i(0, 1, 3), KLo: i(0, 1), KHi: i(1, 4)}
	for name, sp := range map[string]kernels.Spans{
		"short Q":         {Q: i(0, 3), KLo: good.KLo, KHi: good.KHi},
		"short KHi":       {Q: good.Q, KLo: good.KLo, KHi: i(1)},
		"late first":      {Q: i(1, 1, 3), KLo: good.KLo, KHi: good.KHi},
		"early last":      {Q: i(0, 1, 2), KLo: good.KLo, KHi: good.KHi},
		"queries back":    {Q: i(0, 4, 3), KLo: good.KLo, KHi: good.KHi},
		"keys back":       {Q: good.Q, KLo: i(0, 3), KHi: i(1, 2)},
		"keys below":      {Q: good.Q, KLo: i(-1, 1), KHi: good.KHi},
		"keys above":      {Q: good.Q, KLo: good.KLo, KHi: i(1, 5)},
		"more queries":    {Q: good.Q, KLo: good.KLo, KHi: i(1, 2), Causal: true},
		"queries no keys": {Q: good.Q, KLo: i(0, 0), KHi: i(0, 4), Causal: true},
	} {
		s.panics("Attention, "+name, kernels.BadSpans, func() { b.Attention(att(2, 2, &sp)) })
		s.panics("AttentionBackward, "+name, kernels.BadSpans, func() { b.AttentionBackward(att(2, 2, &sp)) })
	}
	s.panics("Attention, heads", kernels.BadHeads, func() { b.Attention(att(3, 2, &good)) })
	s.panics("AttentionBackward, heads", kernels.BadHeads, func() { b.AttentionBackward(att(3, 2, &good)) })
	s.panics("Attention, no key heads", kernels.BadHeads, func() { b.Attention(att(2, 0, &good)) })

	ranges := func(f func(a *kernels.Ranges)) func() {
		return func() {
			a := &kernels.Ranges{Out: x(4), Q: x(4), K: x(12), V: x(12), At: i(0, 1, 2), Lo: i(0, 1), Hi: i(3, 2),
				N: 1, M: 3, H: 2, KV: 2, HeadDim: 2, Scale: 1}
			f(a)
			b.AttentionRanges(a)
		}
	}
	s.panics("AttentionRanges, sound", nil, ranges(func(*kernels.Ranges) {}))
	for name, f := range map[string]func(a *kernels.Ranges){
		"lists back":  func(a *kernels.Ranges) { a.At = i(0, 2, 1) },
		"negative":    func(a *kernels.Ranges) { a.At = i(-1, 1, 2) },
		"below":       func(a *kernels.Ranges) { a.Lo = i(-1, 1) },
		"above":       func(a *kernels.Ranges) { a.Hi = i(4, 2) },
		"ranges back": func(a *kernels.Ranges) { a.Hi = i(3, 0) },
	} {
		s.panics("AttentionRanges, "+name, kernels.BadSpans, ranges(f))
	}
	s.panics("AttentionRanges, heads", kernels.BadHeads, ranges(func(a *kernels.Ranges) { a.KV = 3 }))
	s.panics("AttentionRanges, at", kernels.ShortIndex, ranges(func(a *kernels.Ranges) { a.At = i(0, 1) }))
	s.panics("AttentionRanges, hi", kernels.ShortIndex, ranges(func(a *kernels.Ranges) { a.Hi = i(3) }))
}
