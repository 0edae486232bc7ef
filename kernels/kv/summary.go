package kv

import "math"

// summaries describe nodes (segments, or paragraphs of 16 segments) of one head, entry by entry. They are functions of
// the rows as they are read, after rounding, so that bounds hold in every type.
//
//	mean (K)    mean key µ                 vari (K)   variance of each channel around µ
//	box  (2K)   largest, smallest element  val  (K)   mean value
//	info (6)    see below
type summaries struct{ mean, vari, box, val, info table }

// Columns of info.
const (
	infoCount  = iota // rows
	infoRadius        // at least max ‖k-µ‖
	infoNorm          // at least the norm of a corner of the box, so of every key
	infoValue         // at least max ‖v‖
	infoSpread        // of a paragraph: at least max ‖µ of a segment - µ‖
	infoMost          // rows of the largest segment
	infoWidth
)

func newSummaries(K int) summaries {
	return summaries{mean: table{width: K}, vari: table{width: K}, box: table{width: 2 * K}, val: table{width: K},
		info: table{width: infoWidth}}
}

func (s *summaries) len() int { return s.info.rows() }

func (s *summaries) each(f func(*table)) {
	for _, t := range [...]*table{&s.mean, &s.vari, &s.box, &s.val, &s.info} {
		f(t)
	}
}

func (s *summaries) truncate(n int) { s.each(func(t *table) { t.truncate(n) }) }

func (s *summaries) fork() summaries {
	return summaries{s.mean.fork(), s.vari.fork(), s.box.fork(), s.val.fork(), s.info.fork()}
}

func (s *summaries) bytes() (n int64) {
	s.each(func(t *table) { n += 4 * int64(len(t.f)) })
	return n
}

// up returns a float32 that is at least x, rounding of the sum behind x included.
func up(x float64) float32 { return math.Nextafter32(float32(x*(1+1e-6)), math.MaxFloat32) }

// summarise computes the summary of segment i of a head.
func (s *Store) summarise(l *layer, h, i int) error {
	K, r := s.cfg.HeadDim, s.Segment(i)
	n := r.Len()
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	k, v := sc.floats(n*K), sc.floats(n*K)
	hd := &l.heads[h]
	if err := s.read(k, v, hd, r.Lo, r.Hi); err != nil {
		return err
	}
	sum := &hd.seg
	mean, vari, box, val, info := sum.mean.set(i), sum.vari.set(i), sum.box.set(i), sum.val.set(i), sum.info.set(i)
	meanRows(mean, k, n, K)
	meanRows(val, v, n, K)
	most, least := box[:K], box[K:]
	copy(most, k[:K])
	copy(least, k[:K])
	clear(vari)
	var radius float64
	for j := range n {
		var dist float32
		for c, x := range k[j*K : (j+1)*K] {
			d := x - mean[c]
			vari[c] += d * d
			dist += d * d
			most[c], least[c] = max(most[c], x), min(least[c], x)
		}
		radius = max(radius, float64(dist))
	}
	for c := range vari {
		vari[c] /= float32(n)
	}
	var value float64
	for j := range n {
		value = max(value, norm2(v[j*K:(j+1)*K]))
	}
	// The squares above are summed in float32: K roundings, of a relative error below K·2⁻²⁴ in all.
	slack := 1 + float64(K)*0x1p-23
	info[infoCount], info[infoRadius], info[infoNorm] = float32(n), up(math.Sqrt(radius)*slack), corner(most, least)
	info[infoValue], info[infoSpread], info[infoMost] = up(math.Sqrt(value)), 0, float32(n)
	return nil
}

// meanRows overwrites dst (K) with the mean of n rows.
func meanRows(dst, x []float32, n, K int) {
	clear(dst)
	for j := range n {
		for c, y := range x[j*K : (j+1)*K] {
			dst[c] += y
		}
	}
	for c := range dst {
		dst[c] /= float32(n)
	}
}

// norm2 returns Σ x².
func norm2(x []float32) (s float64) {
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s
}

// corner returns at least the largest norm of a point of a box.
func corner(most, least []float32) float32 {
	var s float64
	for c := range most {
		x := max(math.Abs(float64(most[c])), math.Abs(float64(least[c])))
		s += x * x
	}
	return up(math.Sqrt(s))
}

// paragraphOf computes the summary of paragraph p from those of its segments, and what bounds their scores: the box
// around their means (rank, 2K) and the largest variance of each channel (wide, K).
func (h *head) paragraphOf(p int) {
	first, K := p*paragraph, h.seg.mean.width
	mean, vari, box, val, info := h.par.mean.set(p), h.par.vari.set(p), h.par.box.set(p), h.par.val.set(p), h.par.info.set(p)
	rank, wide := h.rank.set(p), h.wide.set(p)
	most, least := box[:K], box[K:]
	high, low := rank[:K], rank[K:]
	copy(box, h.seg.box.row(first))
	copy(high, h.seg.mean.row(first))
	copy(low, high)
	copy(wide, h.seg.vari.row(first))
	clear(mean)
	clear(val)
	clear(vari)
	clear(info)
	var count float32
	for i := first; i < first+paragraph; i++ {
		n := h.seg.info.row(i)[infoCount]
		count += n
		info[infoMost] = max(info[infoMost], n)
		m, v, w, b := h.seg.mean.row(i), h.seg.vari.row(i), h.seg.val.row(i), h.seg.box.row(i)
		for c := range K {
			mean[c] += n * m[c]
			val[c] += n * w[c]
			most[c], least[c] = max(most[c], b[c]), min(least[c], b[K+c])
			high[c], low[c], wide[c] = max(high[c], m[c]), min(low[c], m[c]), max(wide[c], v[c])
		}
	}
	for c := range K {
		mean[c] /= count
		val[c] /= count
	}
	var radius, spread float64
	for i := first; i < first+paragraph; i++ {
		in, m, v := h.seg.info.row(i), h.seg.mean.row(i), h.seg.vari.row(i)
		var dist float64
		for c := range K {
			d := m[c] - mean[c]
			vari[c] += in[infoCount] * (v[c] + d*d)
			dist += (float64(m[c]) - float64(mean[c])) * (float64(m[c]) - float64(mean[c]))
		}
		dist = math.Sqrt(dist)
		spread = max(spread, dist)
		radius = max(radius, dist+float64(in[infoRadius]))
		info[infoValue] = max(info[infoValue], in[infoValue])
	}
	for c := range K {
		vari[c] /= count
	}
	info[infoCount], info[infoRadius], info[infoNorm], info[infoSpread] = count, up(radius), corner(most, least), up(spread)
	h.index.set(p, h.seg.mean.f[first*K:(first+paragraph)*K], K)
}
