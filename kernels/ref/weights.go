package ref

import "svae/kernels"

// row returns a function that gives row o of weights of R rows of D elements, of any type, widened. What it returns is
// valid until the next call. It panics unless w holds as many.
func row[T kernels.Float](w kernels.Buf, R, D int) func(o int) []T {
	kernels.CheckLen(w, R*D)
	switch w.DType() {
	case kernels.BF16:
		all, wide := w.BF16(), make([]T, D)
		return func(o int) []T {
			kernels.WidenBF16(wide, all[o*D:(o+1)*D])
			return wide
		}
	case kernels.I8:
		q, scales := w.Int8(D)
		wide := make([]T, D)
		return func(o int) []T {
			for i, v := range q[o*D : (o+1)*D] {
				wide[i] = T(scales[o] * float32(v))
			}
			return wide
		}
	}
	all := host[T](w)
	return func(o int) []T { return all[o*D : (o+1)*D] }
}

// GatherWeights is Gather from weights of any type, whose rows it widens.
func GatherWeights[T kernels.Float](out []T, src kernels.Buf, idx []int32, lo, N, R, D int) {
	check(N*D, out)
	checkIndex(len(idx), N)
	from := row[T](src, R, D)
	for i := range N {
		if r := int(idx[i]) - lo; 0 <= r && r < R {
			copy(out[i*D:(i+1)*D], from(r))
		}
	}
}

// LinearWeights is Linear over bf16 or int8 weights, as kernels/weights.go defines it.
func LinearWeights[T kernels.Float](out, pre, x []T, w kernels.Buf, b []T, act kernels.Act, N, I, O int) {
	check(N*O, out)
	check(N*I, x)
	kernels.CheckLen(w, O*I)
	if b != nil {
		check(O, b)
	}
	keep := pre != nil && act.KeepsInput()
	if keep {
		check(N*O, pre)
	}
	product := bf16Product[T](w, O, I)
	if w.DType() == kernels.I8 {
		product = int8Product[T](w, I)
	}
	for n := range N {
		row := product(x[n*I : (n+1)*I])
		for o := range O {
			s := row(o)
			if b != nil {
				s += b[o]
			}
			if keep {
				pre[n*O+o] = s
			}
			out[n*O+o] = activate(s, act)
		}
	}
}

// bf16Product returns the function that takes a row of x and returns the one that multiplies it with row o of w.
func bf16Product[T kernels.Float](w kernels.Buf, O, I int) func(x []T) func(o int) T {
	rows := row[T](w, O, I)
	return func(x []T) func(o int) T { return func(o int) T { return dot(x, rows(o)) } }
}

// int8Product is bf16Product for int8 weights: x is rounded in blocks, and products of a block are summed as integers.
func int8Product[T kernels.Float](w kernels.Buf, I int) func(x []T) func(o int) T {
	const B = kernels.I8Block
	q, scales := w.Int8(I)
	blocks := (I + B - 1) / B
	narrow, xq, xs := make([]float32, I), make([]int16, blocks*B), make([]float32, blocks)
	return func(x []T) func(o int) T {
		for i, v := range x {
			narrow[i] = float32(v)
		}
		kernels.QuantizeBlocks(xq, xs, narrow)
		return func(o int) T {
			if I == 0 {
				return 0
			}
			var sum T
			for b := range blocks {
				var part int32
				for i := b * B; i < min((b+1)*B, I); i++ {
					part += int32(q[o*I+i]) * int32(xq[i])
				}
				sum += T(part) * T(xs[b])
			}
			return sum * T(scales[o])
		}
	}
}
