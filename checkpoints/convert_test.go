package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestDecodeRuns: converting many at a time gives what converting one gives, wherever the odd ones stand among the four that
// are taken together.
func TestDecodeRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	halves := make([]uint16, 0, 5*65536)
	for h := range 65536 {
		halves = append(halves, uint16(h))
	}
	for range 4 * 65536 { // mixed: often normal, sometimes not
		h := uint16(rng.Uint32())
		if rng.IntN(4) == 0 {
			h &^= []uint16{0x7c00, 0x7fff}[rng.IntN(2)]
		}
		if rng.IntN(8) == 0 {
			h |= 0x7c00
		}
		halves = append(halves, h)
	}
	src := make([]byte, 2*len(halves))
	for i, h := range halves {
		binary.LittleEndian.PutUint16(src[2*i:], h)
	}
	for cut := range 5 {
		n := len(halves) - cut
		v := make([]float32, n)
		decode(v, src[2*cut:], F16)
		for i, x := range v {
			if want := F16ToF32(halves[i+cut]); math.Float32bits(x) != math.Float32bits(want) {
				t.Fatalf("float16 %04x: %x, want %x", halves[i+cut], math.Float32bits(x), math.Float32bits(want))
			}
		}
		decode(v, src[2*cut:], BF16)
		for i, x := range v {
			if want := BF16ToF32(halves[i+cut]); math.Float32bits(x) != math.Float32bits(want) {
				t.Fatalf("bfloat16 %04x: %x, want %x", halves[i+cut], math.Float32bits(x), math.Float32bits(want))
			}
		}
	}
	v := make([]float32, 1<<18+3)
	for i := range v {
		v[i] = math.Float32frombits(rng.Uint32())
		if i%2 == 0 {
			v[i] = float32(rng.NormFloat64()) * float32(math.Exp2(float64(rng.IntN(40)-28)))
		}
	}
	out := make([]byte, 2*len(v))
	encode(out, v, F16)
	for i, x := range v {
		if got, want := binary.LittleEndian.Uint16(out[2*i:]), F32ToF16(x); got != want {
			t.Fatalf("%x to float16: %04x, want %04x", math.Float32bits(x), got, want)
		}
	}
	encode(out, v, BF16)
	for i, x := range v {
		if got, want := binary.LittleEndian.Uint16(out[2*i:]), F32ToBF16(x); got != want {
			t.Fatalf("%x to bfloat16: %04x, want %04x", math.Float32bits(x), got, want)
		}
	}
}

// benchValues are like the weights of a model.
func benchValues() []float32 {
	v := make([]float32, 1<<14)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = float32(rng.NormFloat64()) * 0.02
	}
	return v
}

// BenchmarkDecode gives the speed in bytes of float32.
func BenchmarkDecode(b *testing.B) {
	for d := F32; d.Numeric(); d++ {
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			v := benchValues()
			elements, size := d.Block()
			src := make([]byte, len(v)/elements*size)
			rng := rand.New(rand.NewPCG(3, 4))
			for i := range src {
				src[i] = byte(rng.Uint32())
			}
			if d <= BF16 {
				encode(src, v, d)
			}
			b.SetBytes(int64(4 * len(v)))
			for b.Loop() {
				decode(v, src, d)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, d := range []DType{F32, F16, BF16, Q8_0} {
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			v := benchValues()
			out := make([]byte, 4*len(v))
			b.SetBytes(int64(4 * len(v)))
			for b.Loop() {
				if d == Q8_0 {
					encodeQ8_0(out, v)
				} else {
					encode(out, v, d)
				}
			}
		})
	}
}
