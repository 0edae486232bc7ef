package kv

import "math"

// expf returns eˣ to 2⁻²⁰ of it, 0 far below and a large number far above what float32 holds. It is fast, for ranks and
// estimates alone; a bound uses math.Exp.
func expf(x float32) float32 {
	if !(x > -87) {
		return 0
	}
	x = min(x, 87)
	t := x * math.Log2E
	i := int32(t)
	if t < 0 {
		i--
	}
	r := (t - float32(i)) * math.Ln2 // [0, ln 2]
	p := 1 + r*(1+r*(0.5+r*(1.0/6+r*(1.0/24+r*(1.0/120+r*(1.0/720))))))
	return p * math.Float32frombits(uint32(127+i)<<23)
}

func logf(x float32) float32 { return float32(math.Log(float64(x))) }

// logs holds ln n.
var logs = func() (t [1024]float32) {
	for n := range t {
		t[n] = logf(float32(n))
	}
	return t
}()

// logInt returns ln n.
func logInt(n int) float32 {
	if n < len(logs) {
		return logs[n]
	}
	return logf(float32(n))
}
