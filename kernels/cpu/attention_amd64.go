//go:build amd64 && !noasm

package cpu

// lanes12AVX computes scores of 12 keys of n elements, a multiple of 16, with eight queries, each as one chain of fused
// multiply-adds, and asks for 3n/4 lines of memory ahead bytes on from k; the others are for 8, 4 and 1 keys:
//
//	for r := range 12 { for g := range 8 {
//		for c := range n { out[8*r+g] += q[8*c+g]*k[r*ld+c] }    // from 0
//		most[g] = max(most[g], out[8*r+g])
//	} }
//
//go:noescape
func lanes12AVX(q, k *float32, ld, n int, out, most *float32, ahead int)

//go:noescape
func lanes8AVX(q, k *float32, ld, n int, out, most *float32, ahead int)

//go:noescape
func lanes4AVX(q, k *float32, ld, n int, out, most *float32, ahead int)

//go:noescape
func lanes1AVX(q, k *float32, ld, n int, out, most *float32, ahead int)

// expLanesAVX computes expSumGo for eight columns of x (n, 8), n a multiple of 8, each with its own shift and sum.
//
//go:noescape
func expLanesAVX(x *float32, scale float32, shift, sum *float32, n int)

// values7AVX adds 16 columns of n weighed values to 7 rows of out, each element as one chain, and asks for n lines of
// memory ahead bytes on from v; the others are for 3 to 6 rows:
//
//	for r := range n { for g := range 7 { for c := range 16 { out[g*ldo+c] += p[8*r+g]*v[r*ld+c] } } }
//
//go:noescape
func values7AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)

//go:noescape
func values6AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)

//go:noescape
func values5AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)

//go:noescape
func values4AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)

//go:noescape
func values3AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)

// haveLanes says that laneScores, laneShares and laneValues exist.
func haveLanes() bool { return haveAVX2 }

// laneScores overwrites out (n, 8) with the scores of n keys of K elements, that lie ld elements apart, and raises most to
// the largest of each lane. Memory ahead bytes on from the first key is asked for.
func laneScores(q, k []float32, ld, n, K int, out []float32, most *[lanes]float32, ahead int) {
	if n == 0 {
		return
	}
	_, _, _ = q[lanes*K-1], k[(n-1)*ld+K-1], out[lanes*n-1]
	for r := 0; r < n; {
		switch left := n - r; {
		case left >= 12:
			lanes12AVX(&q[0], &k[r*ld], ld, K, &out[r*lanes], &most[0], ahead)
			r += 12
		case left >= 8:
			lanes8AVX(&q[0], &k[r*ld], ld, K, &out[r*lanes], &most[0], ahead)
			r += 8
		case left >= 4:
			lanes4AVX(&q[0], &k[r*ld], ld, K, &out[r*lanes], &most[0], ahead)
			r += 4
		default:
			lanes1AVX(&q[0], &k[r*ld], ld, K, &out[r*lanes], &most[0], ahead)
			r++
		}
	}
}

// laneShares overwrites x (n, 8), n > 0 a multiple of 8, with exp(scale·x - shift), and sum with the sums of its columns.
func laneShares(x []float32, scale float32, shift, sum *[lanes]float32) {
	expLanesAVX(&x[0], scale, &shift[0], &sum[0], len(x)/lanes)
}

// laneValues adds n values of K elements, that lie ld elements apart and are weighed by p (n, 8), to out (group, K).
// Memory ahead bytes on from the first value is asked for, as much as the values are.
func laneValues(p, v []float32, ld, n, K int, out []float32, group, ahead int) {
	if n == 0 {
		return
	}
	_, _, _ = p[lanes*n-1], v[(n-1)*ld+K-1], out[group*K-1]
	rows := group
	if rows == lanes {
		rows = lanes / 2
	}
	for g := 0; g < group; g += rows {
		for c := 0; c < K; c += tileCols {
			p, v, out, ahead := &p[g], &v[c], &out[g*K+c], ahead+4*c*(n-1)
			switch rows {
			case 7:
				values7AVX(p, v, ld, n, out, K, ahead)
			case 6:
				values6AVX(p, v, ld, n, out, K, ahead)
			case 5:
				values5AVX(p, v, ld, n, out, K, ahead)
			case 4:
				values4AVX(p, v, ld, n, out, K, ahead)
			case 3:
				values3AVX(p, v, ld, n, out, K, ahead)
			}
		}
	}
}
