//go:build !amd64 || noasm

package cpu

func haveLanes() bool { return false }

func laneScores(q, k []float32, ld, n, K int, out []float32, most *[lanes]float32, ahead int) {
	laneScoresGo(q, k, ld, n, K, out, most)
}

func laneShares(x []float32, scale float32, shift, sum *[lanes]float32) {
	laneSharesGo(x, scale, shift, sum)
}

func laneValues(p, v []float32, ld, n, K int, out []float32, group, ahead int) {
	laneValuesGo(p, v, ld, n, K, out, group)
}
