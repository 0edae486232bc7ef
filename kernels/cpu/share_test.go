package cpu

import "testing"

// TestShare checks that the parts of a share are all of it, in order, in the steps it asks for, and that two workers of the
// same speed end at about the same time.
func TestShare(t *testing.T) {
	var s share
	for _, workers := range []int{1, 2, 3, 16, 64} {
		for _, n := range []int{1, 15, 16, 64, 192, 576, 768, 1000, 3072, 50272} {
			for _, least := range []int{1, 16, 40} {
				s.cut(n, 64, 16, least, workers)
				at := 0
				load := make([]int, workers)
				for i := range s.ends {
					lo, hi := s.part(i)
					if lo != at || hi <= lo || hi != n && ((hi-lo)%16 != 0 || hi-lo < least) {
						t.Fatalf("%d of %d workers: part %d is %d to %d behind %d", n, workers, i, lo, hi, at)
					}
					at = hi
					first := 0
					for w := range load { // the worker that is free first takes it
						if load[w] < load[first] {
							first = w
						}
					}
					load[first] += hi - lo
				}
				if at != n {
					t.Fatalf("%d of %d", at, n)
				}
				most := 0
				for _, l := range load {
					most = max(most, l)
				}
				if slack := most - n/workers; slack > max(64, least+24) {
					t.Errorf("%d for %d workers: the last has %d more than its share", n, workers, slack)
				}
			}
		}
	}
}
