package cpu

import (
	"sync"
	"unsafe"

	"svae/kernels"
)

// gemm is one product C = A·B (or C += A·B), cut into tiles of tm rows by tn columns that any worker may take. How it
// is cut changes no bit: every element is the sum, in ascending order, of chains of blockK terms.
type gemm struct {
	m, n, k int

	a      []float32 // A[i,k] = a[i*rs+k*cs]
	rs, cs int
	b      []float32 // panels, if packed; else B[k,j] = b[k*ldb+j], or b[j*ldb+k] if bT
	h      []uint16  // in place of b, B in bf16 and bT: panels of pairs, if packed
	ldb    int
	bT     bool
	packed bool
	packA  bool // lay A out too
	add    bool
	result

	tm, tn, across int // across: tiles side by side
}

// result is where a product goes and what is done with it.
type result struct {
	c         []float32 // C[i,j] = c[i*ldc+j]
	ldc       int
	bias, pre []float32 // of the columns; where to keep C before act
	act       kernels.Act
}

var gemms = sync.Pool{New: func() any { return new(gemm) }}

// Sizes of tiles and blocks, in elements. A block of A of blockRows·blockK and its part of C live in the second-level
// cache, a panel of B of 16·blockK in the first.
const (
	blockRows = 120
	stripCols = 96
	wideRows  = 480 // of a tile whose A is packed too
	wideCols  = 768
	largeA    = 1 << 17
	inlineOps = 1 << 15      // multiply-adds below which a product stays on the caller's goroutine
	fewRows   = 2 * tileRows // read packed panels from end to end up to here
	fewCols   = 2 * rowCols
)

// multiply runs g, whose operands are set, on the pool, and forgets it.
func (p *pool) multiply(g *gemm) {
	if g.m > 0 && g.n > 0 {
		g.cut(p.workers)
		tiles := g.tiles()
		if g.m*g.n*g.k <= inlineOps {
			for t := range tiles {
				g.run(t)
			}
		} else {
			p.do(tiles, g)
		}
	}
	*g = gemm{}
	gemms.Put(g)
}

// cut chooses the tiles: whole strips of columns if A is read where it lies, so that B is packed once; squarer ones if
// A is packed too, because its columns are dense or because it is larger than the second-level cache; smaller ones
// while there are too few for the workers.
func (g *gemm) cut(workers int) {
	g.tm, g.tn = g.m, stripCols
	g.packA = g.cs != 1 || g.m*g.k > largeA && g.m >= 2*blockRows && g.n >= wideCols/3
	switch {
	case g.packA:
		g.tm, g.tn = wideRows, wideCols
	case g.m <= fewRows:
		g.tn = fewCols
	}
	g.tm, g.tn = min(g.tm, roundUp(g.m, tileRows)), min(g.tn, roundUp(g.n, tileCols))
	for workers > 1 && g.tiles() < 3*workers {
		switch {
		case g.tm > 2*blockRows && (g.tm > 4*g.tn || g.packed):
			g.tm = roundUp((g.tm+1)/2, tileRows)
		case g.tn > 2*tileCols:
			g.tn = roundUp((g.tn+1)/2, tileCols)
		case g.tm > 4*tileRows:
			g.tm = roundUp((g.tm+1)/2, tileRows)
		default:
			workers = 1
		}
	}
	g.across = (g.n + g.tn - 1) / g.tn
}

func (g *gemm) tiles() int { return ((g.m + g.tm - 1) / g.tm) * ((g.n + g.tn - 1) / g.tn) }

// run computes tile t.
func (g *gemm) run(t int) {
	i0, j0 := t/g.across*g.tm, t%g.across*g.tn
	i1, j1 := min(i0+g.tm, g.m), min(j0+g.tn, g.n)
	switch {
	case g.k == 0:
		for i := i0; i < i1 && !g.add; i++ {
			clear(g.c[i*g.ldc+j0 : i*g.ldc+j1])
		}
		g.finish(i0, i1, j0, j1)
	case g.packed && g.cs == 1 && i1-i0 <= fewRows:
		g.runFew(i0, i1, j0, j1)
	case g.h != nil && !g.packed && g.cs == 1 && i1-i0 <= fewRows:
		g.runFewRows(i0, i1, j0, j1)
	default:
		g.runTile(i0, i1, j0, j1)
	}
}

// runFew computes a tile of few rows from packed panels, each of which it reads once, from end to end.
func (g *gemm) runFew(i0, i1, j0, j1 int) {
	for j := j0; j < j1; j += tileCols {
		if i1-i0 == 1 && j+rowCols <= j1 {
			a, c := g.a[i0*g.rs:], g.c[i0*g.ldc+j:]
			for pc := 0; pc < g.k; pc += blockK {
				if kc, at := min(blockK, g.k-pc), j*g.k+pc*tileCols; g.h != nil {
					kernelRowBF16(kc, a[pc:], g.h[at:], tileCols*g.k, c, g.mode(pc))
				} else {
					kernelRow(kc, a[pc:], g.b[at:], tileCols*g.k, tileCols, c, g.mode(pc))
				}
			}
			j += rowCols - tileCols
			continue
		}
		for pc := 0; pc < g.k; pc += blockK {
			kc := min(blockK, g.k-pc)
			for i := i0; i < i1; i += tileRows {
				g.kernel(min(tileRows, i1-i), kc, g.a[i*g.rs+pc:], g.rs, 1, g.panel(j*g.k+pc*tileCols), i, j, g.mode(pc))
			}
		}
	}
	g.finish(i0, i1, j0, j1)
}

// runFewRows computes a tile of few rows from bf16 weights where they lie, 16 of their rows at a time, turned block by
// block into a panel that stays in the first-level cache.
func (g *gemm) runFewRows(i0, i1, j0, j1 int) {
	s := getScratch(tileCols * blockK / 2)
	defer s.put()
	p := panel{h: halves(s.f)}
	for j := j0; j < j1; j += tileCols {
		for pc := 0; pc < g.k; pc += blockK {
			kc := min(blockK, g.k-pc)
			next := 2 * (tileCols*g.ldb + (tileCols-1)*pc) // as far into the next 16 rows as this block into these
			packTBF16(p.h, g.h[j*g.ldb+pc:], g.ldb, min(tileCols, j1-j), kc, next)
			for i := i0; i < i1; i += tileRows {
				g.kernel(min(tileRows, i1-i), kc, g.a[i*g.rs+pc:], g.rs, 1, p, i, j, g.mode(pc))
			}
		}
	}
	g.finish(i0, i1, j0, j1)
}

// panel is one of float32, or one of bf16 pairs.
type panel struct {
	f []float32
	h []uint16
}

// panel returns what lies in packed B from an element on.
func (g *gemm) panel(at int) panel {
	if g.h != nil {
		return panel{h: g.h[at:]}
	}
	return panel{f: g.b[at:]}
}

// from returns what lies in p from an element on.
func (p panel) from(at int) panel {
	if p.h != nil {
		return panel{h: p.h[at:]}
	}
	return panel{f: p.f[at:]}
}

// halves returns the memory of f as twice as many elements of half the size.
func halves(f []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(f))), 2*len(f))
}

// runTile computes a tile block by block, packing what is not packed.
func (g *gemm) runTile(i0, i1, j0, j1 int) {
	var bs, as *scratch
	if !g.packed {
		bs = getScratch(roundUp(j1-j0, tileCols) * blockK)
		defer bs.put()
	}
	if g.packA {
		as = getScratch(roundUp(min(i1-i0, blockRows), tileRows)*blockK + packRSlack)
		defer as.put()
	}
	for pc := 0; pc < g.k; pc += blockK {
		kc := min(blockK, g.k-pc)
		var b panel
		ps := tileCols * g.k
		if g.packed {
			b = g.panel(j0*g.k + pc*tileCols)
		} else {
			ps = tileCols * kc
			b = g.packB(bs.f, pc, kc, j0, j1)
		}
		for ic := i0; ic < i1; ic += blockRows {
			ie := min(ic+blockRows, i1)
			a, rs, cs := g.a[ic*g.rs+pc*g.cs:], g.rs, g.cs
			group := tileRows * rs
			if as != nil {
				a, rs, cs, group = as.f, 1, tileRows, tileRows*kc
				g.layA(a, ic, ie, pc, kc)
			}
			for j := j0; j < j1; j += tileCols {
				p := b.from((j - j0) / tileCols * ps)
				for i := ic; i < ie; i += tileRows {
					g.kernel(min(tileRows, ie-i), kc, a[(i-ic)/tileRows*group:], rs, cs, p, i, j, g.mode(pc))
				}
			}
			if pc+kc == g.k {
				g.finish(ic, ie, j0, j1)
			}
		}
	}
}

// mode returns what the chain that begins at term pc does with C.
func (g *gemm) mode(pc int) int {
	if pc > 0 || g.add {
		return modeAdd
	}
	return modeSet
}

// kernel computes rows i to i+rows-1 of the panel of columns that begins at j. The last panel may be narrower than the
// kernel, which then writes beside C.
func (g *gemm) kernel(rows, kc int, a []float32, rs, cs int, b panel, i, j, mode int) {
	c := g.c[i*g.ldc+j:]
	switch {
	case j+tileCols > g.n && b.h != nil:
		narrowBF16(rows, kc, a, rs, cs, b.h, c, g.ldc, g.n-j, mode)
	case j+tileCols > g.n:
		narrow(rows, kc, a, rs, cs, b.f, tileCols, c, g.ldc, g.n-j, mode)
	case b.h != nil:
		kernelBF16(rows, kc, a, rs, cs, b.h, c, g.ldc, mode)
	default:
		kernel(rows, kc, a, rs, cs, b.f, tileCols, c, g.ldc, mode)
	}
}

// narrow is kernel for fewer than 16 columns of C.
func narrow(rows, kc int, a []float32, rs, cs int, b []float32, bs int, c []float32, ldc, cols, mode int) {
	var t [tileRows * tileCols]float32
	if mode != modeSet {
		for r := range rows {
			copy(t[r*tileCols:], c[r*ldc:][:cols])
		}
	}
	kernel(rows, kc, a, rs, cs, b, bs, t[:], tileCols, mode)
	for r := range rows {
		copy(c[r*ldc:][:cols], t[r*tileCols:])
	}
}

// narrowBF16 is narrow over a panel of bf16 pairs.
func narrowBF16(rows, kc int, a []float32, rs, cs int, b []uint16, c []float32, ldc, cols, mode int) {
	var t [tileRows * tileCols]float32
	if mode != modeSet {
		for r := range rows {
			copy(t[r*tileCols:], c[r*ldc:][:cols])
		}
	}
	kernelBF16(rows, kc, a, rs, cs, b, t[:], tileCols, mode)
	for r := range rows {
		copy(c[r*ldc:][:cols], t[r*tileCols:])
	}
}

// layA lays rows ic to ie-1 and columns pc to pc+kc-1 of A out in groups of six rows.
func (g *gemm) layA(dst []float32, ic, ie, pc, kc int) {
	src := g.a[ic*g.rs+pc*g.cs:]
	if g.cs == 1 {
		packR(dst, src, g.rs, ie-ic, kc)
	} else {
		packA(dst, src, g.cs, ie-ic, kc)
	}
}

// packB lays rows pc to pc+kc-1 and columns j0 to j1-1 of B out in panels, for which dst has room.
func (g *gemm) packB(dst []float32, pc, kc, j0, j1 int) panel {
	switch {
	case g.h != nil:
		h := halves(dst)
		for j := j0; j < j1; j += tileCols {
			packTBF16(h[(j-j0)*kc:], g.h[j*g.ldb+pc:], g.ldb, min(tileCols, j1-j), kc, 0)
		}
		return panel{h: h}
	case !g.bT:
		packN(dst, g.b[pc*g.ldb+j0:], g.ldb, j1-j0, kc)
	default:
		for j := j0; j < j1; j += tileCols {
			packT(dst[(j-j0)*kc:], g.b[j*g.ldb+pc:], g.ldb, min(tileCols, j1-j), kc)
		}
	}
	return panel{f: dst}
}

// finish adds the bias to finished elements of C and applies the activation.
func (g *result) finish(i0, i1, j0, j1 int) {
	if g.bias == nil && g.act == kernels.None {
		return
	}
	for i := i0; i < i1; i++ {
		row := g.c[i*g.ldc+j0 : i*g.ldc+j1]
		if g.bias != nil {
			add(row, row, g.bias[j0:j1])
		}
		if g.pre != nil {
			copy(g.pre[i*g.ldc+j0:], row)
		}
		switch g.act {
		case kernels.ReLU:
			relu(row, row)
		case kernels.GELU:
			gelu(row, row)
		case kernels.GELUTanh:
			geluTanh(row, row)
		}
	}
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
